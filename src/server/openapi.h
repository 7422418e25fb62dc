// The OpenAPI 3.1 document of a route table.
#pragma once

#include <string>
#include <vector>

#include "core/json.h"
#include "server/http.h"

namespace redoubt {

Json openapi_document(const std::vector<Route>& routes, const std::string& version);

// GET /openapi.json and /admin/v1/openapi.json, each of its own listener's routes, itself included: call with the whole
// table and append the result.
std::vector<Route> openapi_routes(const std::vector<Route>& routes, const std::string& version);

}  // namespace redoubt
