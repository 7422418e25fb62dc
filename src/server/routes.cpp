#include "server/routes.h"

#include <algorithm>
#include <chrono>
#include <string_view>
#include <utility>

#include "core/log.h"
#include "governance/limits.h"
#include "governance/permit.h"
#include "server/access_question.h"
#include "server/api_error.h"
#include "server/body_room.h"
#include "server/json_fields.h"
#include "server/request_limits.h"
#include "server/routes_schemas.h"

namespace redoubt {
namespace {

// As /api/show reads it.
const ModelEntry* ollama_entry_in_body(const ServerContext& context, const std::string& body) {
  const auto model = find_string_in_body(body, "model");
  return find_ollama_entry(context, model ? *model : string_in_body(body, "name"));
}

// The model that work on the body will ask for, in the route's protocol; "" if there is no such model, so that nobody
// makes up names to count by. Where there is but one, the body is not read.
std::string model_in_body(const ServerContext& context, ErrorStyle style, const std::string& body) {
  const bool is_one = context.models.entries().size() == 1;
  const ModelEntry* entry = is_one                        ? find_entry(context, "")
                            : style == ErrorStyle::ollama ? ollama_entry_in_body(context, body)
                                                          : find_entry(context, string_in_body(body, "model"));
  return entry == nullptr ? std::string() : entry->name;
}

// Why the caller's limits admit no such request; otherwise it is taken from them. One for an answer is foreseen to have
// the least of tokens, and stays reserved (HttpRequest::taken): as long as it is worked on nobody else has it.
std::optional<LimitRefusal> take_request(const ServerContext& context, const HttpRequest& request, RateClass rate,
                                         const std::string& model) {
  Limits& limits = *context.limits;
  const Principal* caller = &request.permit->principal();
  const bool is_answered = rate == RateClass::generate;
  if (is_answered) {
    const LimitRequest least{
        .principal = caller, .model = model, .prompt_tokens = 1, .max_tokens = 1, .may_think = false};
    if (auto refusal = limits.foresee(least)) return refusal;
  }
  auto taken = limits.reserve({.principal = caller, .model = model, .is_request_alone = true});
  if (auto* refusal = std::get_if<LimitRefusal>(&taken)) return std::move(*refusal);
  request.taken = std::make_shared<Reservation>(std::get<Reservation>(std::move(taken)));
  if (!is_answered) std::exchange(request.taken, nullptr)->settle({});
  return std::nullopt;
}

// A handler that is called once the caller's limits gave the request (count_requests).
Handler counted(ServerContext& context, ErrorStyle style, RateClass rate, Handler handler) {
  return [&context, style, rate, handler = std::move(handler)](std::shared_ptr<const HttpRequest> request,
                                                               std::shared_ptr<ResponseWriter> writer) {
    if (context.limits != nullptr && request->permit != nullptr) {
      const std::string model = model_in_body(context, style, request->body);
      if (const auto refusal = take_request(context, *request, rate, model))
        return send_styled_error(*writer, limit_error(*refusal), style);
    }
    handler(std::move(request), std::move(writer));
  };
}

// Of a model that is configured and cannot be loaded: the server's fault, whatever its files are at fault for. The log
// has the whole of it; strangers do not learn where the files lie.
Error load_error(const ModelEntry& entry, Error error) {
  if (error.code == ErrorCode::overloaded || error.code == ErrorCode::unavailable) return error;
  log::error("{}", error.message);
  const std::string folder = entry.path.has_parent_path() ? entry.path.parent_path().string() + "/" : std::string();
  for (size_t at = 0; !folder.empty() && (at = error.message.find(folder, at)) != std::string::npos;) {
    error.message.erase(at, folder.size());
  }
  return {ErrorCode::io, std::move(error.message), "model"};
}

constexpr std::chrono::seconds kPatience{30};
constexpr std::chrono::milliseconds kTryAgain{20};  // works take longer

// One request of json_handler.
class JsonCall : public std::enable_shared_from_this<JsonCall> {
 public:
  JsonCall(ServerContext& context, ErrorStyle style, Body handle, std::shared_ptr<const HttpRequest> request,
           std::shared_ptr<ResponseWriter> writer)
      : context_(context),
        style_(style),
        handle_(std::move(handle)),
        request_(std::move(request)),
        writer_(std::move(writer)) {}
  // Its client left while it waited, and its body had been worked on.
  ~JsonCall() {
    if (has_waited_) settle();
  }
  JsonCall(const JsonCall&) = delete;
  JsonCall& operator=(const JsonCall&) = delete;

  void run() {
    auto work = room_to_work();  // outlives the body
    if (!work && std::chrono::steady_clock::now() < patient_until_) return try_again();
    if (!work)
      return fail({ErrorCode::overloaded,
                   "request body: the server has no room to work on a large one (max_bodies_bytes); try again later",
                   {}});
    has_waited_ = false;
    Error error;
    {
      const auto body = parse_json_body(request_->body);
      if (!body) return refuse(body.error());
      const Status status = handle_(*request_, *body, writer_);
      if (status) return settle();
      error = status.error();
    }
    if (error.code != kHasToWait) return refuse(error);
    work.reset();  // whoever waits is not worked on
    wait_for_model(error.param);
  }

 private:
  std::optional<BodyRoom::Work> room_to_work() {
    if (request_->body_room == nullptr) return BodyRoom::Work();
    if (!work_bytes_) work_bytes_ = work_bytes(request_->body);
    return request_->body_room->begin_work(*work_bytes_);
  }
  void try_again() {
    writer_->resume([self = shared_from_this()] { self->run(); }, kTryAgain);
  }
  void wait_for_model(const std::string& name) {
    has_waited_ = true;
    const auto wait =
        std::make_shared<ModelWait>([self = shared_from_this(), entry = find_entry(context_, name)](auto loaded) {
          if (!loaded) return self->fail(load_error(*entry, loaded.error()));
          // It found room once and gave it back, so as not to keep it from others while nothing was worked on. All who
          // waited come at the same time now, and are not refused for that.
          self->patient_until_ = std::chrono::steady_clock::now() + kPatience;
          self->loaded_ = *loaded;
          self->writer_->resume([self] { self->run(); });
        });
    writer_->on_close([wait](bool) { wait->leave(); });  // before it can be told: what runs then sets its own
    context_.models.when_loaded(name, wait);
  }
  // It was worked on all the same: a schema is compiled, and a prompt rendered, before its fault is found.
  void refuse(const Error& error) {
    if (is_clients_fault(error.code)) settle();
    fail(error);
  }
  void fail(const Error& error) {
    request_->taken = nullptr;  // given back, if it is still there
    send_styled_error(*writer_, error, style_);
  }
  // The request counts, if no answer took it over.
  void settle() {
    if (const auto taken = std::exchange(request_->taken, nullptr)) taken->settle({});
  }

  ServerContext& context_;
  const ErrorStyle style_;
  const Body handle_;
  const std::shared_ptr<const HttpRequest> request_;
  const std::shared_ptr<ResponseWriter> writer_;
  std::optional<int64_t> work_bytes_;                    // found once: the body is gone through for it
  bool has_waited_ = false;                              // for a model, and was not worked on again since
  std::shared_ptr<LoadedModel> loaded_;                  // what was waited for stays until it is used
  std::chrono::steady_clock::time_point patient_until_;  // until then it asks for room again
};

void send_version(const ServerContext& context, ResponseWriter& writer) {
  send_json(writer, {{"version", context.options.version}});
}

}  // namespace

const ModelEntry* find_entry(const ServerContext& context, const std::string& name) {
  const auto& entries = context.models.entries();
  const auto at = name.empty() ? entries.begin() : std::ranges::find(entries, name, &ModelEntry::name);
  return at == entries.end() ? nullptr : &*at;
}

const ModelEntry* find_ollama_entry(const ServerContext& context, const std::string& name) {
  constexpr std::string_view kLatest = ":latest";
  if (name.size() > kLatest.size() && name.ends_with(kLatest)) {
    const ModelEntry* bare = find_entry(context, name.substr(0, name.size() - kLatest.size()));
    if (bare != nullptr) return bare;
  }
  return find_entry(context, name);
}

Status permit_model(const ServerContext& context, const HttpRequest& http, const std::string& name,
                    const std::string& action) {
  if (http.permit == nullptr) return Error{ErrorCode::denied, "the request has no permit", {}};
  const ModelEntry* entry = find_entry(context, name);
  return http.permit->check(model_question(
      http, action,
      {.name = name, .stage = entry == nullptr ? std::string() : entry->stage, .limits = context.limits}));
}

Result<std::vector<const ModelEntry*>> permitted_models(const ServerContext& context, const HttpRequest& http) {
  std::vector<const ModelEntry*> permitted;
  for (const ModelEntry& entry : context.models.entries()) {
    const Status may = permit_model(context, http, entry.name);
    if (may) permitted.push_back(&entry);
    // An outage is no empty list, nor a short one.
    if (!may && may.error().code == ErrorCode::unavailable) return may.error();
  }
  // Names none: who may not see them is not told which there are.
  if (permitted.empty()) return Error{ErrorCode::denied, http.action + ": no model is permitted", {}};
  return permitted;
}

Result<std::shared_ptr<LoadedModel>> acquire_model(ServerContext& context, const HttpRequest& http,
                                                   const std::string& name) {
  const ModelEntry* entry = find_entry(context, name);
  REDOUBT_CHECK(permit_model(context, http, entry == nullptr ? name : entry->name));
  if (entry == nullptr) return Error{ErrorCode::not_found, model_not_found(name).message, "model"};
  auto model = context.models.find_loaded(entry->name);
  if (!model) return load_error(*entry, std::move(model).error());
  if (*model == nullptr) return Error{kHasToWait, "the model has to be loaded first", entry->name};
  return model;
}

Handler json_handler(ServerContext& context, ErrorStyle style, Body handle) {
  return [&context, style, handle = std::move(handle)](auto request, auto writer) {
    std::make_shared<JsonCall>(context, style, handle, std::move(request), std::move(writer))->run();
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
                    .rule = read_server_rule(),
                    .summary = "The server's version",
                    .response_schema = object_schema({"version"}),
                    .handler = [&context](auto, auto writer) { send_version(context, *writer); }});
  return routes;
}

void count_requests(ServerContext& context, std::vector<Route>& routes) {
  for (Route& route : routes) {
    if (!route.rule || route.counted) continue;
    const RateClass rate = route.rule->rate.value_or(RateClass::none);
    if (rate == RateClass::none) continue;
    route.handler = counted(context, error_style(route.path), rate, std::move(route.handler));
    route.counted = true;
  }
}

}  // namespace redoubt
