#include "server/http_parse.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>
#include <span>

#include "core/lower_case.h"
#include "core/utf8.h"
#include "crypto/keyed_hash.h"

namespace redoubt {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::string_view value_of(const HeaderList& headers, std::string_view name) {
  for (const auto& [key, value] : headers) {
    if (key == name) return value;
  }
  return {};
}

}  // namespace

Result<std::string> percent_decode(std::string_view text, PlusSign plus) {
  std::string result;
  result.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+' && plus == PlusSign::space) {
      result += ' ';
    } else if (text[i] != '%') {
      result += text[i];
    } else {
      const int high = i + 1 < text.size() ? hex_digit(text[i + 1]) : -1;
      const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
      if (high < 0 || low < 0) return invalid("request target: expected two hex digits after '%'");
      result += static_cast<char>(high * 16 + low);
      i += 2;
    }
  }
  return result;
}

namespace {

// "http://host:port" off the front of a target in absolute form; "" of any other. Errors: no host, or a user in it.
Result<std::string> take_authority(std::string_view& target) {
  const size_t scheme_end = target.find("://");
  if (scheme_end == std::string_view::npos) return std::string();
  const std::string scheme = lower_case(target.substr(0, scheme_end));
  if (scheme != "http" && scheme != "https") return std::string();
  const std::string_view rest = target.substr(scheme_end + 3);
  const size_t end = std::min(rest.find_first_of("/?"), rest.size());
  const std::string_view authority = rest.substr(0, end);
  if (authority.empty() || authority.front() == ':') return invalid("request target: expected a host, found none");
  if (authority.find('@') != std::string_view::npos)
    return invalid("request target: expected a host, found one with a user");
  target = rest.substr(end);
  return std::string(authority);
}

}  // namespace

Result<RequestTarget> parse_request_target(std::string_view target) {
  REDOUBT_TRY(std::string authority, take_authority(target));
  const std::string rooted = authority.empty() || target.starts_with('/') ? std::string() : "/" + std::string(target);
  if (!rooted.empty()) target = rooted;
  if (target.empty() || target.front() != '/') return invalid("request target: expected a path that begins with '/'");
  for (const char c : target) {
    if (is_control(c) || c == ' ' || c == '#') return invalid("request target: found a character that must be escaped");
  }
  const size_t question = target.find('?');
  RequestTarget result;
  result.authority = std::move(authority);
  REDOUBT_TRY(result.path, percent_decode(target.substr(0, question), PlusSign::literal));
  if (!is_valid_utf8(result.path)) return invalid("request path: expected UTF-8");
  if (std::any_of(result.path.begin(), result.path.end(), is_control)) {
    return invalid("request path: found a control character");
  }
  std::string marked(target.substr(0, question));
  for (size_t at = 0; (at = marked.find('%', at)) != std::string::npos; ++at) {
    if (marked.compare(at, 3, "%2F") == 0 || marked.compare(at, 3, "%2f") == 0) marked.replace(at, 3, 1, kEscapedSlash);
  }
  REDOUBT_TRY(result.routed, percent_decode(marked, PlusSign::literal));
  if (question == std::string_view::npos) return result;
  std::string_view rest = target.substr(question + 1);
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('&'), rest.size());
    const std::string_view pair = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (pair.empty()) continue;
    const size_t equals = std::min(pair.find('='), pair.size());
    REDOUBT_TRY(std::string name, percent_decode(pair.substr(0, equals), PlusSign::space));
    REDOUBT_TRY(std::string value, percent_decode(pair.substr(std::min(equals + 1, pair.size())), PlusSign::space));
    if (!is_valid_utf8(name) || !is_valid_utf8(value)) return invalid("request query: expected UTF-8");
    result.query.emplace_back(std::move(name), std::move(value));
  }
  return result;
}

bool is_sane_request_id(std::string_view id) {
  if (id.empty() || id.size() > 128) return false;
  return std::all_of(id.begin(), id.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("._:-/").find(c) != std::string_view::npos;
  });
}

std::string trace_id_of(std::string_view traceparent) {
  constexpr std::string_view kShape = "xx-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx-xx";
  if (traceparent.size() < kShape.size()) return {};
  for (size_t i = 0; i < kShape.size(); ++i) {
    const char c = traceparent[i];
    const bool is_hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
    if (kShape[i] == 'x' ? !is_hex : c != '-') return {};
  }
  // Version 00 ends here; a later one may go on, after another dash. Version ff and an id of zeros are none.
  const bool is_longer = traceparent.size() > kShape.size();
  if (is_longer && (traceparent.starts_with("00") || traceparent[kShape.size()] != '-')) return {};
  const std::string_view trace = traceparent.substr(3, 32), parent = traceparent.substr(36, 16);
  if (traceparent.starts_with("ff") || trace.find_first_not_of('0') == std::string_view::npos ||
      parent.find_first_not_of('0') == std::string_view::npos)
    return {};
  return std::string(trace);
}

std::string make_request_id() {
  std::random_device random;  // getrandom or rdrand: safe from any thread
  return fmt::format("req_{:08x}{:08x}{:08x}", random(), random(), random());
}

Status check_headers(const HeaderList& headers, bool http_1_0) {
  int hosts = 0, lengths = 0, codings = 0, authorizations = 0, keys = 0;
  for (const auto& [name, value] : headers) {
    if (std::any_of(value.begin(), value.end(), [](char c) { return is_control(c) && c != '\t'; })) {
      return invalid("header value: found a control character");
    }
    if (name == "host") ++hosts;
    if (name == "authorization") ++authorizations;
    if (name == "x-api-key") ++keys;
    if (name == "content-length") {
      ++lengths;
      const bool digits = !value.empty() && value.size() <= 18 &&
                          std::all_of(value.begin(), value.end(), [](char c) { return c >= '0' && c <= '9'; });
      if (!digits) return invalid("content-length: expected digits");
    }
    if (name == "transfer-encoding") {
      ++codings;
      if (lower_case(value) != "chunked") return invalid("transfer-encoding: expected \"chunked\"");
    }
  }
  if (hosts > 1 || (hosts == 0 && !http_1_0))
    return invalid("host: expected one header, found " + std::to_string(hosts));
  if (lengths > 1 || codings > 1 || lengths + codings > 1) {
    return invalid("body length: expected one of content-length and transfer-encoding, once");
  }
  if (authorizations > 1 || keys > 1) return invalid("credentials: expected each header that shows them once");
  if (codings > 0 && http_1_0) return invalid("transfer-encoding: HTTP/1.0 has none");
  return ok();
}

std::string_view bearer_of(const HeaderList& headers) {
  const std::string_view authorization = value_of(headers, "authorization");
  constexpr std::string_view kBearer = "bearer ";
  if (authorization.size() <= kBearer.size() || lower_case(authorization.substr(0, kBearer.size())) != kBearer)
    return {};
  return trimmed(authorization.substr(kBearer.size()));
}

std::string_view presented_key(const HeaderList& headers) {
  const std::string_view bearer = bearer_of(headers);
  return bearer.empty() ? trimmed(value_of(headers, "x-api-key")) : bearer;
}

namespace {

std::span<const uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

}  // namespace

bool key_matches(std::string_view presented, const std::vector<std::string>& keys) {
  bool found = false;
  for (const std::string& key : keys) {
    if (key.empty()) continue;
    found |= equal_in_constant_time(bytes_of(presented), bytes_of(key));
  }
  return found;
}

bool origin_allowed(std::string_view origin, const std::vector<std::string>& allowed) {
  if (origin.empty()) return false;
  return std::any_of(allowed.begin(), allowed.end(),
                     [&](const std::string& entry) { return entry == "*" || entry == origin; });
}

std::string allowed_cors_headers(std::string_view requested) {
  std::string result;
  while (!requested.empty()) {
    const size_t end = std::min(requested.find(','), requested.size());
    const std::string name = lower_case(trimmed(requested.substr(0, end)));
    requested.remove_prefix(std::min(end + 1, requested.size()));
    const bool known = name == "authorization" || name == "content-type" || name == "x-api-key" || name == "accept" ||
                       name == "x-request-id" || name == "x-redoubt-purpose" || name == "traceparent" ||
                       name == "tracestate" || name == "user-agent" || name.starts_with("anthropic-") ||
                       name.starts_with("openai-") || name.starts_with("x-stainless-");
    const bool token = std::all_of(name.begin(), name.end(),
                                   [](char c) { return c == '-' || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); });
    if (known && token) result += (result.empty() ? "" : ", ") + name;
  }
  return result;
}

}  // namespace redoubt
