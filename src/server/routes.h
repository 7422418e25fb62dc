// The table of the protocol routes: OpenAI, Anthropic, Ollama, and what open servers added.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/model_host.h"
#include "server/generation_stream.h"
#include "server/http.h"

namespace redoubt {

class Limits;
class ServerMetrics;

// Which of the two names clients look for carries the thinking.
enum class ReasoningField : uint8_t { both, reasoning_content, reasoning };

struct ApiOptions {
  ReasoningField reasoning_field = ReasoningField::both;
  bool force_think = false;               // append "<think>\n" where a template does not
  std::optional<ToolSyntax> tool_syntax;  // overrides what the template shows
  std::string version = "0.1.0";
  std::string fingerprint = "redoubt-0.1.0";  // system_fingerprint: what else the bits depend on
};

// What the routes share; outlives the server.
struct ServerContext {
  ModelHost& models;
  ServerMetrics* metrics = nullptr;  // nothing is counted without
  ApiOptions options;
  Limits* limits = nullptr;  // of tenants, teams, users, keys, models; none without
};

std::vector<Route> make_routes(ServerContext& context);
// Last, over the whole table, wherever a route came from: before they do anything those of RateClass::request take one
// from the caller's limits, and so do those of RateClass::generate, of which the least of answers must not be refused
// either; theirs becomes a part of the answer's reservation. A server refuses a table in which one does not.
void count_requests(ServerContext& context, std::vector<Route>& routes);

// Each protocol's part of the table.
void add_chat_routes(ServerContext& context, std::vector<Route>& routes);
void add_completions_routes(ServerContext& context, std::vector<Route>& routes);
void add_models_routes(ServerContext& context, std::vector<Route>& routes);
void add_tokenize_routes(ServerContext& context, std::vector<Route>& routes);
void add_anthropic_routes(ServerContext& context, std::vector<Route>& routes);
void add_responses_routes(ServerContext& context, std::vector<Route>& routes);
void add_ollama_routes(ServerContext& context, std::vector<Route>& routes);

// The configured model of that name; "" is the first. nullptr: there is none.
const ModelEntry* find_entry(const ServerContext& context, const std::string& name);
// The same for Ollama's clients, who make "name:latest" of "name".
const ModelEntry* find_ollama_entry(const ServerContext& context, const std::string& name);
// May the caller do this to the model? Errors: denied.
Status permit_model(const ServerContext& context, const HttpRequest& http, const std::string& name,
                    const std::string& action);
// The route's action.
inline Status permit_model(const ServerContext& context, const HttpRequest& http, const std::string& name) {
  return permit_model(context, http, name, http.action);
}
// The configured models that it may be done to. Errors: denied, if to none.
Result<std::vector<const ModelEntry*>> permitted_models(const ServerContext& context, const HttpRequest& http);
// This turn of a handler is over: the model named by the error's param has to be loaded first (json_handler).
inline constexpr ErrorCode kHasToWait = ErrorCode::cancelled;
// The model of a request, permitted and loaded. Errors: denied; not_found with param "model"; kHasToWait; io with param
// "model" where it is configured and cannot be loaded; overloaded.
Result<std::shared_ptr<LoadedModel>> acquire_model(ServerContext& context, const HttpRequest& http,
                                                   const std::string& name);

using Body = std::function<Status(const HttpRequest&, const Json& body, const std::shared_ptr<ResponseWriter>&)>;
// A handler that parses the body as a JSON object, runs `handle`, and sends its error in the protocol's envelope. Where
// that is acquire_model's kHasToWait, before which `handle` does nothing but read, the request waits for the model and
// is handled again from its body; nothing was sent yet, so that a failed load is an error like any other. The request
// that was taken before (count_requests) counts, unless the server is at fault.
Handler json_handler(ServerContext& context, ErrorStyle style, Body handle);

}  // namespace redoubt
