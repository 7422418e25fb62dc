#include "server/openapi.h"

#include <algorithm>
#include <cctype>
#include <iterator>
#include <set>

#include "core/lower_case.h"
#include "server/routes_errors.h"

namespace redoubt {
namespace {

// "getV1ModelsId" of GET /v1/models/{id}: unique, because method and path are.
std::string operation_id(const Route& route) {
  std::string result = lower_case(route.method);
  bool upper = true;
  for (const char c : route.path) {
    const bool letter = std::isalnum(static_cast<unsigned char>(c)) != 0;
    if (letter) result += upper ? static_cast<char>(std::toupper(static_cast<unsigned char>(c))) : c;
    upper = !letter;
  }
  return result;
}

Json json_content(Json schema) {
  if (schema.is_null()) schema = Json::object();
  return Json{{"application/json", {{"schema", std::move(schema)}}}};
}

Json error_response(const char* description, const char* schema) {
  return Json{{"description", description},
              {"content", json_content(Json{{"$ref", std::string("#/components/schemas/") + schema}})}};
}

std::vector<std::string> path_parameters(const std::string& path) {
  std::vector<std::string> names;
  for (size_t open = path.find('{'); open != std::string::npos; open = path.find('{', open + 1)) {
    names.push_back(path.substr(open + 1, path.find('}', open) - open - 1));
  }
  return names;
}

Json parameters_of(const Route& route) {
  Json parameters = Json::array();
  std::set<std::string> given;
  for (const Json& parameter : route.parameters) {
    if (parameter.value("in", "") == "path") given.insert(parameter.value("name", ""));
    parameters.push_back(parameter);
  }
  for (const std::string& name : path_parameters(route.path)) {
    if (given.contains(name)) continue;
    parameters.push_back(
        Json{{"name", name}, {"in", "path"}, {"required", true}, {"schema", {{"type", "string"}, {"minLength", 1}}}});
  }
  return parameters;
}

const char* error_schema(const std::string& path) {
  constexpr const char* kSchemas[] = {"Error", "AnthropicError", "OllamaError"};
  return kSchemas[static_cast<int>(error_style(path))];
}

Json operation(const Route& route) {
  Json result;
  result["operationId"] = operation_id(route);
  if (!route.summary.empty()) result["summary"] = route.summary;
  if (Json parameters = parameters_of(route); !parameters.empty()) result["parameters"] = std::move(parameters);
  if (!route.request_schema.is_null()) {
    result["requestBody"] = Json{{"required", true}, {"content", json_content(route.request_schema)}};
  }

  Json content = route.path == "/metrics" ? Json{{"text/plain", {{"schema", {{"type", "string"}}}}}}
                                          : json_content(route.response_schema);
  if (route.streams) {
    const char* type = route.path.starts_with("/api/") ? "application/x-ndjson" : "text/event-stream";
    content[type] = Json{{"schema", {{"type", "string"}}}};
  }
  Json responses;
  responses["200"] = Json{{"description", "The answer"}, {"content", std::move(content)}};
  const char* schema = error_schema(route.path);
  responses["400"] = error_response("The request is wrong; the message says where", schema);
  const bool strangers = route.rule && route.rule->strangers;
  if (!strangers) {
    responses["401"] = error_response("No API key, or none this server knows", schema);
    responses["403"] = error_response("The key lacks the scope, or a policy does not permit it", schema);
  }
  if (!route.request_schema.is_null() || !path_parameters(route.path).empty()) {
    responses["404"] = error_response("The model, or what the path names, does not exist", schema);
  }
  responses["408"] = error_response("The request took too long to arrive", schema);
  responses["413"] = error_response("The body is too large", schema);
  if (!route.request_schema.is_null()) {
    responses["429"] = error_response("A limit is reached; Retry-After says when to come back", schema);
  }
  responses["431"] = error_response("The header is too large", schema);
  responses["501"] = error_response("Understood, and not served here", schema);
  responses["503"] =
      strangers ? Json{{"description", "Not so, and no more is told"}, {"content", json_content(route.response_schema)}}
                : error_response("Overloaded, loading or draining; Retry-After says when to come back", "AnyError");
  responses["default"] = error_response("Any other error", "AnyError");
  result["responses"] = std::move(responses);
  if (strangers) {
    result["security"] = Json::array();
  } else {
    // The empty one: a server on loopback without keys asks for none.
    result["security"] =
        Json::array({Json{{"bearer", Json::array()}}, Json{{"apiKey", Json::array()}}, Json::object()});
  }
  return result;
}

Json error_schemas() {
  const Json text = {{"type", "string"}};
  const Json text_or_null = {{"type", Json::array({"string", "null"})}};
  Json schemas;
  schemas["Error"] = Json{{"type", "object"},
                          {"required", Json::array({"error"})},
                          {"properties",
                           {{"error",
                             {{"type", "object"},
                              {"required", Json::array({"message", "type"})},
                              {"properties",
                               {{"message", text},
                                {"type", text},
                                {"param", text_or_null},
                                {"code", {{"type", Json::array({"string", "integer", "null"})}}}}}}}}}};
  schemas["AnthropicError"] = Json{{"type", "object"},
                                   {"required", Json::array({"type", "error"})},
                                   {"properties",
                                    {{"type", {{"const", "error"}}},
                                     {"error",
                                      {{"type", "object"},
                                       {"required", Json::array({"type", "message"})},
                                       {"properties", {{"type", text}, {"message", text}}}}}}}};
  schemas["OllamaError"] =
      Json{{"type", "object"}, {"required", Json::array({"error"})}, {"properties", {{"error", text}}}};
  schemas["AnyError"] =
      Json{{"type", "object"}, {"required", Json::array({"error"})}, {"properties", {{"error", Json::object()}}}};
  return schemas;
}

}  // namespace

Json openapi_document(const std::vector<Route>& routes, const std::string& version) {
  Json document;
  document["openapi"] = "3.1.0";
  document["info"] = Json{{"title", "Redoubt"},
                          {"version", version},
                          {"description", "DeepSeek-R1 and its distills, for OpenAI, Anthropic and Ollama clients."},
                          {"license", {{"name", "Apache-2.0"}, {"identifier", "Apache-2.0"}}}};
  Json paths = Json::object();
  for (const Route& route : routes) {
    paths[route.path][lower_case(route.method)] = operation(route);
  }
  document["paths"] = std::move(paths);
  document["components"] = Json{{"schemas", error_schemas()},
                                {"securitySchemes",
                                 {{"bearer", {{"type", "http"}, {"scheme", "bearer"}}},
                                  {"apiKey", {{"type", "apiKey"}, {"in", "header"}, {"name", "X-Api-Key"}}}}}};
  return document;
}

std::vector<Route> openapi_routes(const std::vector<Route>& routes, const std::string& version) {
  const auto described = [](std::string path, RouteRule rule, std::string summary) {
    return Route{.method = "GET",
                 .path = std::move(path),
                 .rule = std::move(rule),
                 .max_body_bytes = 0,
                 .summary = std::move(summary),
                 .response_schema = Json{{"type", "object"}},
                 .quick = true};
  };
  std::vector<Route> documents{
      described("/openapi.json", read_server_rule(), "This document"),
      described("/admin/v1/openapi.json", admin_rule("read_system"), "This document, of administration")};
  std::vector<Route> all = routes;
  all.insert(all.end(), documents.begin(), documents.end());
  for (Route& document : documents) {
    // Of the other listener's routes it tells nothing.
    std::vector<Route> here;
    std::ranges::copy_if(all, std::back_inserter(here),
                         [&](const Route& route) { return !route.rule || route.rule->on(document.rule->listener); });
    document.handler = [text = std::make_shared<const std::string>(dump_json(openapi_document(here, version)))](
                           auto, auto writer) { writer->send(200, "application/json", *text); };
  }
  return documents;
}

}  // namespace redoubt
