// GET /v1/models, GET /v1/models/{id}; and what is refused because the loaded models generate, not embed.
#include "server/router.h"
#include "server/routes.h"
#include "server/routes_schemas.h"

namespace redoubt {
namespace {

// Before it is loaded, max_model_len is what its files say; loaded, the cache may have room for less.
Json model_object(ModelHost& host, const ModelEntry& entry, int64_t started) {
  Json object = {{"id", entry.name},   {"object", "model"}, {"created", started},       {"owned_by", "redoubt"},
                 {"root", entry.name}, {"parent", nullptr}, {"max_model_len", nullptr}, {"permission", Json::array()}};
  for (const auto& model : host.loaded()) {
    if (model->name != entry.name) continue;
    object["created"] = model->created_unix;
    object["max_model_len"] = model->engine->max_context();
    return object;
  }
  if (const auto facts = host.facts(entry.name)) object["max_model_len"] = facts->context_tokens;
  return object;
}

void refuse_embeddings(ResponseWriter& writer, ErrorStyle style) {
  send_styled_error(writer,
                    ApiError{501,
                             "embeddings: the loaded models generate text and are no encoders",
                             "not_supported_error",
                             "",
                             "not_supported",
                             {{"x-should-retry", "false"}}},
                    style);
}

}  // namespace

void add_models_routes(ServerContext& context, std::vector<Route>& routes) {
  const int64_t started = unix_seconds();
  routes.push_back({.method = "GET",
                    .path = "/v1/models",
                    .rule = read_models_rule(),
                    .summary = "The models that the caller may name",
                    .response_schema = object_schema({"object", "data"}),
                    .handler = [&context, started](auto request, auto writer) {
                      const auto models = permitted_models(context, *request);
                      if (!models) return send_error(*writer, request_error(models.error()));
                      Json data = Json::array();
                      for (const ModelEntry* entry : *models)
                        data.push_back(model_object(context.models, *entry, started));
                      send_json(*writer, {{"object", "list"}, {"data", std::move(data)}});
                    }});
  routes.push_back({.method = "GET",
                    .path = "/v1/models/{id}",
                    .rule = read_models_rule(),
                    .summary = "One model",
                    .response_schema = object_schema({"id", "object", "created", "owned_by"}),
                    .parameters = {path_parameter("id")},
                    .handler = [&context, started](auto request, auto writer) {
                      const std::string name = path_param(request->path_params, "id");
                      if (const Status may = permit_model(context, *request, name); !may)
                        return send_error(*writer, request_error(may.error()));
                      const ModelEntry* entry = find_entry(context, name);
                      if (entry == nullptr) return send_error(*writer, model_not_found(name));
                      send_json(*writer, model_object(context.models, *entry, started));
                    }});
  routes.push_back({.method = "POST",
                    .path = "/v1/embeddings",
                    .rule = read_server_rule(),
                    .summary = "Not supported: the loaded models are no encoders",
                    .request_schema = embeddings_request_schema(),
                    .handler = [](auto, auto writer) { refuse_embeddings(*writer, ErrorStyle::openai); }});
  for (const char* path : {"/api/embed", "/api/embeddings"}) {
    routes.push_back({.method = "POST",
                      .path = path,
                      .rule = read_server_rule(),
                      .summary = "Not supported: the loaded models are no encoders",
                      .request_schema = embeddings_request_schema(),
                      .handler = [](auto, auto writer) { refuse_embeddings(*writer, ErrorStyle::ollama); }});
  }
}

}  // namespace redoubt
