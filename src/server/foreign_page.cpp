#include "server/foreign_page.h"

#include <algorithm>
#include <string_view>

#include "core/lower_case.h"
#include "server/api_error.h"
#include "server/client_address.h"

namespace redoubt {
namespace {

std::vector<std::string> lower_values(const HeaderList& headers, std::string_view name) {
  std::vector<std::string> values;
  for (const auto& [key, value] : headers) {
    if (key == name) values.push_back(lower_case(value));
  }
  return values;
}

// "localhost:8000" -> "localhost", "[::1]:8000" -> "::1"; "" of what is no host and port.
std::string_view name_of(std::string_view host) {
  const bool bracketed = host.starts_with('[');
  const size_t end = bracketed ? host.find(']') : std::min(host.find(':'), host.size());
  if (end == std::string_view::npos) return {};
  std::string_view name = bracketed ? host.substr(1, end - 1) : host.substr(0, end);
  const std::string_view rest = host.substr(bracketed ? end + 1 : end);
  if (!rest.empty() && (rest[0] != ':' || rest.find_first_not_of("0123456789", 1) != std::string_view::npos)) return {};
  if (!bracketed && name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789.-_") != std::string_view::npos)
    return {};
  if (!bracketed && name.ends_with('.')) name.remove_suffix(1);
  return name;
}

bool is_own_name(std::string_view name, const std::vector<std::string>& host_names) {
  const Result<bool> loopback = is_loopback_host(std::string(name));
  constexpr std::string_view kBelow = ".localhost";
  return (loopback && *loopback) || (name.ends_with(kBelow) && name.size() > kBelow.size()) ||
         std::ranges::find(host_names, name) != host_names.end();
}

}  // namespace

std::optional<ApiError> refuse_foreign_page(const HeaderList& headers, const std::vector<std::string>& host_names,
                                            const std::vector<std::string>& cors_origins) {
  const std::vector<std::string> hosts = lower_values(headers, "host");
  const std::string host = hosts.empty() ? std::string() : hosts.front();
  if (!host.empty() && !is_own_name(name_of(host), host_names)) {
    return status_error(421, "host: without keys this server answers to loopback and to host_names alone");
  }
  const auto is_welcome = [&](const std::string& origin) {
    return origin_allowed(origin, cors_origins) ||
           (!host.empty() && (origin == "http://" + host || origin == "https://" + host));
  };
  const std::vector<std::string> origins = lower_values(headers, "origin");
  // A page's picture or script has no origin, but a browser says where it was asked for.
  const auto site = lower_values(headers, "sec-fetch-site"), mode = lower_values(headers, "sec-fetch-mode");
  const bool is_part_of_a_page =
      origins.empty() && std::ranges::find(mode, "navigate") == mode.end() &&
      std::ranges::any_of(site, [](const auto& s) { return s == "cross-site" || s == "same-site"; });
  if (!is_part_of_a_page && std::ranges::all_of(origins, is_welcome)) return std::nullopt;
  ApiError error = status_error(403, "origin: without keys pages of other origins than cors_origins are refused");
  error.type = "permission_error";
  error.code = "foreign_origin";
  return error;
}

}  // namespace redoubt
