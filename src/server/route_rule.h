// What a route asks of its caller, as data. A route without a rule can't be registered (HttpServer::listen refuses it),
// so a side route that somebody forgot to lock does not exist.
//
// The gate reads the rule before a byte of the body is read. Where the rule acts on a Model, the request's body says
// which one: the gate then lets a caller on who is known, whose key has the scope and whom no policy forbids the route,
// and the handler asks Permit::check for the model. What leaves such a route without that check is refused by the
// connection (HttpExchange), so a handler that forgets to ask answers nobody.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/result.h"

namespace redoubt {

struct Route;

// The sockets a route is reached through: the one clients use, the one for administration, or both.
enum class RouteListener : uint8_t { client, admin, both };

// How a call counts against a caller's limits (docs/limits.md). Counted by count_requests (server/routes.h) and by the
// request's limits.
enum class RateClass : uint8_t {
  none,      // not at all: status, lists, administration
  request,   // as one of requests_per_minute: work without an answer
  generate,  // as a request, and its tokens are reserved before and settled after
};

struct RouteRule {
  bool strangers = false;  // answers without a key: liveness, readiness, health, and nothing else
  std::string action;      // what the caller does, as policies name it: "generate"
  std::string resource;    // kind of what it is done to: "Model" (named by the body) or "Route" (the route itself)
  std::string scope;       // a key that is narrowed to scopes must have this one
  std::optional<RateClass> rate;
  RouteListener listener = RouteListener::client;

  bool on(RouteListener socket) const { return listener == socket || listener == RouteListener::both; }
};

// The rules in use, each named once. Admin routes: admin_rule("manage_keys").
RouteRule status_rule();                   // /livez, /readyz, /health
RouteRule generate_rule();                 // answers of a model
RouteRule tokenize_rule();                 // prompts and tokens of a model, nothing computed
RouteRule read_models_rule();              // models by name, each by its own permit: lists hold those permitted
RouteRule describe_model_rule();           // what a model is: it is loaded for that, so it counts
RouteRule read_server_rule();              // the server's version and its routes
RouteRule read_metrics_rule();             // counters
RouteRule admin_rule(std::string action);  // on the admin listener, scope "admin"

// Every route has a rule that says everything, what counts as a request is counted, only status routes answer
// strangers, no two routes have one method and path. Errors: invalid_argument, names the route.
Status check_rules(const std::vector<Route>& routes);

}  // namespace redoubt
