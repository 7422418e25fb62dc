#include "server/admin_call.h"

#include <fmt/format.h>

#include <algorithm>

#include "governance/permit.h"
#include "server/admin_answer.h"
#include "server/json_fields.h"
#include "server/router.h"
#include "server/routes_errors.h"
#include "server/routes_schemas.h"

namespace redoubt {
namespace {

Result<Json> run(const AdminEntry& entry, AdminCall call, const std::string& body) {
  if (!body.empty()) {
    REDOUBT_TRY(call.body, parse_json_body(body));
  }
  REDOUBT_CHECK(check_fields(call.body, entry.fields));
  return entry.run(call);
}

Json request_schema(const AdminEntry& entry) {
  if (entry.fields.empty()) return nullptr;
  Json properties = Json::object();
  for (const std::string& field : entry.fields) properties[field] = Json::object();
  return {{"type", "object"}, {"properties", std::move(properties)}, {"additionalProperties", false}};
}

std::vector<Json> parameters_of(const std::string& path) {
  std::vector<Json> parameters;
  for (size_t open = path.find('{'); open != std::string::npos; open = path.find('{', open + 1))
    parameters.push_back(path_parameter(path.substr(open + 1, path.find('}', open) - open - 1)));
  return parameters;
}

}  // namespace

std::string AdminCall::param(std::string_view name) const { return path_param(params, std::string(name)); }

std::string AdminCall::query_value(std::string_view name) const {
  for (const auto& [key, value] : query) {
    if (key == name) return value;
  }
  return {};
}

void add_admin_identity_routes(Directory& directory, const WallClock& wall, std::vector<Route>& routes) {
  for (AdminEntry& entry : admin_identity_table()) {
    Route route{.method = entry.method,
                .path = entry.path,
                .rule = admin_rule(entry.action),
                .max_body_bytes = size_t{1} << 20,
                .summary = entry.summary,
                .request_schema = request_schema(entry),
                .response_schema = object_schema({}),
                .parameters = parameters_of(entry.path)};
    route.handler = [&directory, &wall, entry](auto request, auto writer) {
      // Without a permit there is nobody; and a null actor would be the owner of the data folder.
      if (request->permit == nullptr)
        return send_error(*writer, api_error({ErrorCode::unauthenticated, "an API key is needed", {}}));
      auto answer = run(entry,
                        {.directory = directory,
                         .wall = wall,
                         .actor = std::make_shared<const Principal>(request->permit->principal()),
                         .params = request->path_params,
                         .query = request->query},
                        request->body);
      if (!answer) return send_error(*writer, api_error(answer.error()));
      send_json(*writer, *answer);
    };
    routes.push_back(std::move(route));
  }
}

Result<Json> run_admin_call(const std::vector<AdminEntry>& table, std::string_view method, std::string_view path,
                            AdminCall call) {
  for (const AdminEntry& entry : table) {
    std::map<std::string, std::string> params;
    if (entry.method != method || !match_path(entry.path, path, params)) continue;
    // The last parameter of a path takes all that is left; no id has a slash, so that was another entry's path.
    if (std::ranges::any_of(params, [](const auto& param) { return param.second.find('/') != std::string::npos; }))
      continue;
    call.params = std::move(params);
    const std::string body = call.body.empty() ? std::string() : dump_json(call.body);
    call.body = Json::object();
    return run(entry, std::move(call), body);
  }
  return not_found(fmt::format("{} {}: there is no such call", method, path));
}

}  // namespace redoubt
