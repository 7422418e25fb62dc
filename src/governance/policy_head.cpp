#include "governance/policy_head.h"

namespace redoubt {
namespace {

using cedar::Scope;

bool fits(const Scope& scope, const cedar::EntityName& name, const cedar::Entity* entity) {
  const auto within = [&](const cedar::EntityName& outer) {
    return name == outer || (entity != nullptr && entity->is_within(outer));
  };
  switch (scope.test) {
    case Scope::Test::any:
      return true;
    case Scope::Test::is:
      return name.type == scope.type;
    case Scope::Test::is_in:
      return name.type == scope.type && within(*scope.names[0]);
    case Scope::Test::equal:
      return name == *scope.names[0];
    case Scope::Test::in:
      break;
  }
  for (const cedar::EntityName* outer : scope.names) {
    if (within(*outer)) return true;
  }
  return false;
}

}  // namespace

bool head_fits(const cedar::Policy& policy, const ResolvedRequest& request) {
  return fits(policy.principal, request.request.principal, request.principal) &&
         fits(policy.action, request.request.action, request.action) &&
         fits(policy.resource, request.request.resource, request.resource);
}

}  // namespace redoubt
