#include "server/gate.h"

#include "server/api_error.h"

namespace redoubt {
namespace {

ApiError refusal(int status, std::string message, std::string code) {
  ApiError error = status_error(status, std::move(message));
  if (status == 403) error.type = "permission_error";
  error.code = std::move(code);
  return error;
}

}  // namespace

std::string route_id(const Route& route) { return route.method + " " + route.path; }

std::variant<std::shared_ptr<Permit>, ApiError> enter_route(std::shared_ptr<Permit> permit, const HttpRequest& head,
                                                            const Route* route) {
  if (route == nullptr) return permit;
  const RouteRule& rule = *route->rule;
  if (const Status scoped = permit->need_scope(rule.scope, rule.action); !scoped)
    return refusal(403, scoped.error().message, "missing_scope");
  AccessQuestion question{.action = rule.action,
                          .resource_kind = "Route",
                          .resource_id = route_id(*route),
                          .context = {{"scope", rule.scope}, {"source_ip", head.remote_address}}};
  const Status allowed =
      rule.resource == "Model" ? permit->check_not_forbidden(std::move(question)) : permit->check(std::move(question));
  if (!allowed) return refusal(403, allowed.error().message, "not_permitted");
  return permit;
}

}  // namespace redoubt
