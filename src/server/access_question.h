// What a permit is asked about a request: one place that says what policies read as `context` (docs/policies.md).
#pragma once

#include <string>

#include "core/result.h"
#include "governance/permit.h"
#include "server/http.h"

namespace redoubt {

class Limits;

// The header by which a client says what its request is for.
inline constexpr std::string_view kPurposeHeader = "x-redoubt-purpose";
// 1 to 64 characters of A-Z a-z 0-9 . _ -, given once. Errors: invalid_argument.
Status check_purpose(const HttpRequest& http);

// About the route, before the body is read: the model's stage and what is left of its budget are not known yet.
AccessQuestion route_question(const HttpRequest& http, const RouteRule& rule, std::string route_id);

struct AskedModel {
  std::string name, stage;
  Limits* limits = nullptr;  // whose limits of tokens are the budget; null: none. Outlives the request
};
AccessQuestion model_question(const HttpRequest& http, std::string action, const AskedModel& model);

}  // namespace redoubt
