// What the routes of administration have in common.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/result.h"
#include "server/http.h"

namespace redoubt {

// A misspelt limit, role or option must not be a missing one. Errors: invalid_argument, names the field.
Status check_fields(const Json& body, const std::vector<std::string>& names);

using AdminAnswer = std::function<Result<Json>(const HttpRequest&)>;
Handler answering(AdminAnswer answer);
// One that takes a JSON object. Errors also: invalid_argument, if the body is none.
AdminAnswer with_body(std::function<Result<Json>(const HttpRequest&, const Json& body)> answer);

}  // namespace redoubt
