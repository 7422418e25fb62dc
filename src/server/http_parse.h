// What we judge ourselves in a request, before a handler sees it: the target, the query, names in headers, keys and
// origins. Pure functions over untrusted bytes, fuzzed by fuzz/http_fuzz.cpp; the grammar of the message is the
// library's.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"

namespace redoubt {

// Stands for a slash that was escaped and so separates nothing: a character that no path holds.
constexpr char kEscapedSlash = '\x1f';

struct RequestTarget {
  std::string path;                                        // decoded, begins with '/', UTF-8, no control character
  std::vector<std::pair<std::string, std::string>> query;  // decoded, in order
  std::string routed;     // the path with kEscapedSlash for each %2F: what routes are found by
  std::string authority;  // of the absolute form; it takes the place of Host
};

// Origin form ("/path?query") or absolute form ("http://host/path?query", RFC 9112, 3.2.2). Errors: invalid_argument
// for another form, a fragment, an escape that is not two hex digits, bytes that are not UTF-8 once decoded, a control
// character, a host that is empty or has a user.
Result<RequestTarget> parse_request_target(std::string_view target);

enum class PlusSign { literal, space };
Result<std::string> percent_decode(std::string_view text, PlusSign plus);

// An id that may be sent back: 1 to 128 of A-Z a-z 0-9 . _ : - /
bool is_sane_request_id(std::string_view id);
// The trace of a W3C `traceparent` ("00-<trace>-<parent>-<flags>"), 32 hex digits; "" where it is malformed.
std::string trace_id_of(std::string_view traceparent);
std::string make_request_id();  // "req_" and 96 random bits

using HeaderList = std::vector<std::pair<std::string, std::string>>;  // names in lower case

// What makes two readers of one message disagree: more than one Host, Content-Length or Transfer-Encoding, both of the
// latter, credentials shown twice, a coding that is not exactly "chunked", a length that is not digits, a missing Host
// (HTTP/1.1), control characters in a value.
Status check_headers(const HeaderList& headers, bool http_1_0);

// What "Authorization: Bearer …" shows; empty if it is not there, or of another scheme.
std::string_view bearer_of(const HeaderList& headers);

// The key of "Authorization: Bearer KEY", else of X-Api-Key; empty if neither.
std::string_view presented_key(const HeaderList& headers);

// Compares with every key in a time that depends on the lengths alone.
bool key_matches(std::string_view presented, const std::vector<std::string>& keys);

// "*" in the list allows every origin.
bool origin_allowed(std::string_view origin, const std::vector<std::string>& allowed);

// Of the names a browser asks for in Access-Control-Request-Headers, those clients of our APIs send.
std::string allowed_cors_headers(std::string_view requested);

}  // namespace redoubt
