#include "server/gate.h"

#include "server/access_question.h"
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
  if (const Status purpose = check_purpose(head); !purpose) return api_error(purpose.error());
  if (const Status scoped = permit->need_scope(rule.scope, rule.action); !scoped)
    return refusal(403, scoped.error().message, "missing_scope");
  AccessQuestion question = route_question(head, rule, route_id(*route));
  const Status allowed =
      rule.resource == "Model" ? permit->check_not_forbidden(std::move(question)) : permit->check(std::move(question));
  if (!allowed && allowed.error().code == ErrorCode::unavailable) return api_error(allowed.error());
  if (!allowed) return refusal(403, allowed.error().message, "not_permitted");
  return permit;
}

}  // namespace redoubt
