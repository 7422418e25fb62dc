#include "server/routes.h"

#include "governance/permit.h"
#include "server/json_fields.h"
#include "server/routes_schemas.h"

namespace redoubt {
namespace {

void send_version(const ServerContext& context, ResponseWriter& writer) {
  send_json(writer, {{"version", context.options.version}});
}

}  // namespace

Result<std::shared_ptr<LoadedModel>> acquire_model(ServerContext& context, const HttpRequest& http,
                                                   const std::string& name) {
  if (http.permit == nullptr) return Error{ErrorCode::denied, "the request has no permit", {}};
  const std::string resolved =
      name.empty() && !context.models.entries().empty() ? context.models.entries().front().name : name;
  REDOUBT_CHECK(http.permit->check({.action = http.action,
                                    .resource_kind = "Model",
                                    .resource_id = resolved,
                                    .context = {{"source_ip", http.remote_address}}}));
  auto model = context.models.acquire(name);
  if (!model && model.error().code == ErrorCode::not_found) {
    return Error{ErrorCode::not_found, model_not_found(name).message, "model"};
  }
  return model;
}

Handler json_handler(ErrorStyle style, Body handle) {
  return [style, handle = std::move(handle)](std::shared_ptr<const HttpRequest> request,
                                             std::shared_ptr<ResponseWriter> writer) {
    auto body = parse_json_body(request->body);
    if (!body) return send_styled_error(*writer, body.error(), style);
    if (const Status status = handle(*request, *body, writer); !status)
      send_styled_error(*writer, status.error(), style);
  };
}

std::vector<Route> make_routes(ServerContext& context) {
  std::vector<Route> routes;
  add_chat_routes(context, routes);
  add_completions_routes(context, routes);
  add_models_routes(context, routes);
  add_tokenize_routes(context, routes);
  add_anthropic_routes(context, routes);
  add_responses_routes(context, routes);
  add_ollama_routes(context, routes);
  routes.push_back({.method = "GET",
                    .path = "/version",
                    .rule = read_models_rule(),
                    .summary = "The server's version",
                    .response_schema = object_schema({"version"}),
                    .handler = [&context](auto, auto writer) { send_version(context, *writer); }});
  return routes;
}

}  // namespace redoubt
