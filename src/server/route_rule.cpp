#include "server/route_rule.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "server/http.h"

namespace redoubt {
namespace {

// The whole list: a status and nothing more.
constexpr std::string_view kOpenPaths[] = {"/livez", "/readyz", "/health"};

Status check_rule(const Route& route) {
  const auto wrong = [&](std::string_view what) {
    return invalid(fmt::format("route {} {}: {}", route.method, route.path, what));
  };
  if (!route.rule) return wrong("has no rule");
  const RouteRule& rule = *route.rule;
  if (!rule.rate) return wrong("its rule names no rate class");
  if (rule.rate == RateClass::request && !route.counted) return wrong("its requests are not counted");
  if (rule.strangers) {
    const bool status = std::find(std::begin(kOpenPaths), std::end(kOpenPaths), route.path) != std::end(kOpenPaths);
    if (!status || route.method != "GET") return wrong("may not answer strangers");
    return ok();
  }
  if (rule.action.empty()) return wrong("its rule names no action");
  if (rule.resource != "Model" && rule.resource != "Route") return wrong("its rule acts on neither Model nor Route");
  if (rule.scope.empty()) return wrong("its rule names no scope");
  if ((rule.scope == "admin") != (rule.listener == RouteListener::admin))
    return wrong("the scope admin belongs to the admin listener, and the other way round");
  return ok();
}

}  // namespace

RouteRule status_rule() { return {.strangers = true, .rate = RateClass::none, .listener = RouteListener::both}; }
RouteRule generate_rule() {
  return {.action = "generate", .resource = "Model", .scope = "generate", .rate = RateClass::generate};
}
RouteRule tokenize_rule() {
  return {.action = "tokenize", .resource = "Model", .scope = "generate", .rate = RateClass::request};
}
RouteRule read_models_rule() {
  return {.action = "read_models", .resource = "Model", .scope = "models", .rate = RateClass::none};
}
RouteRule describe_model_rule() {
  return {.action = "read_models", .resource = "Model", .scope = "models", .rate = RateClass::request};
}
RouteRule read_server_rule() {
  return {.action = "read_models", .resource = "Route", .scope = "models", .rate = RateClass::none};
}
RouteRule read_metrics_rule() {
  return {.action = "read_metrics",
          .resource = "Route",
          .scope = "metrics",
          .rate = RateClass::none,
          .listener = RouteListener::both};
}
RouteRule admin_rule(std::string action) {
  return {.action = std::move(action),
          .resource = "Route",
          .scope = "admin",
          .rate = RateClass::none,
          .listener = RouteListener::admin};
}

Status check_rules(const std::vector<Route>& routes) {
  std::set<std::pair<std::string, std::string>> seen;
  for (const Route& route : routes) {
    REDOUBT_CHECK(check_rule(route));
    if (!seen.emplace(route.method, route.path).second)
      return invalid(fmt::format("route {} {}: is in the table twice", route.method, route.path));
  }
  return ok();
}

}  // namespace redoubt
