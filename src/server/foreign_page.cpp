#include "server/foreign_page.h"

#include <algorithm>
#include <cctype>
#include <string_view>

#include "server/api_error.h"
#include "server/client_address.h"

namespace redoubt {
namespace {

std::string lower_value(const HeaderList& headers, std::string_view name) {
  for (const auto& [key, value] : headers) {
    if (key != name) continue;
    std::string result = value;
    for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return result;
  }
  return {};
}

// "localhost:8000" -> "localhost", "[::1]:8000" -> "::1".
std::string_view name_of(std::string_view host) {
  if (host.starts_with('[')) {
    const size_t end = host.find(']');
    return end == std::string_view::npos ? std::string_view() : host.substr(1, end - 1);
  }
  host = host.substr(0, host.find(':'));
  if (host.ends_with('.')) host.remove_suffix(1);
  return host;
}

bool is_own_name(std::string_view name, const std::vector<std::string>& host_names) {
  if (name == "localhost" || name.ends_with(".localhost")) return true;
  const std::optional<IpAddress> address = IpAddress::parse(name);
  if (address && address->loopback()) return true;
  return std::find(host_names.begin(), host_names.end(), name) != host_names.end();
}

}  // namespace

std::optional<ApiError> refuse_foreign_page(const HeaderList& headers, const std::vector<std::string>& host_names,
                                            const std::vector<std::string>& cors_origins) {
  const std::string host = lower_value(headers, "host"), origin = lower_value(headers, "origin");
  if (!host.empty() && !is_own_name(name_of(host), host_names)) {
    return status_error(421, "host: without keys this server answers to loopback and to host_names alone");
  }
  if (origin.empty() || origin_allowed(origin, cors_origins)) return std::nullopt;
  const size_t scheme = origin.find("://");
  if (scheme != std::string::npos && origin.substr(scheme + 3) == host) return std::nullopt;
  ApiError error = status_error(403, "origin: without keys pages of other origins than cors_origins are refused");
  error.type = "permission_error";
  error.code = "foreign_origin";
  return error;
}

}  // namespace redoubt
