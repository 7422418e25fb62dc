#include "governance/policy_guarded.h"

#include <algorithm>
#include <array>

#include "governance/policy.h"
#include "governance/policy_actions.h"

namespace redoubt {
namespace {

using cedar::EntityName;
using cedar::Op;
using cedar::Scope;

constexpr std::array kKinds{PrincipalKind::user, PrincipalKind::service, PrincipalKind::appointer, PrincipalKind::open};
constexpr size_t kMostRoles = 6;  // all their sets are gone through

// Whether guards look at nothing but the principal's type, its roles, and the action.
bool is_about_roles_alone(const PolicySet& guards, std::vector<std::string>& roles) {
  const auto know = [&](const EntityName& name) {
    if (name.type == "Redoubt::Role" && !std::ranges::count(roles, name.id)) roles.emplace_back(name.id);
    return name.type == "Redoubt::Role" || name.type == "Redoubt::Action";
  };
  for (const cedar::Policy& policy : guards.policies()) {
    if (policy.resource.test != Scope::Test::any) return false;
    for (const Scope* scope : {&policy.principal, &policy.action}) {
      for (const EntityName* name : scope->names)
        if (!know(*name)) return false;
    }
  }
  return std::ranges::all_of(guards.program().nodes, [&](const cedar::Node& node) {
    switch (node.op) {
      case Op::constant:
        return node.value.kind == cedar::Kind::entity && know(*node.value.entity);
      case Op::principal:
      case Op::action:
      case Op::logical_and:
      case Op::logical_or:
      case Op::logical_not:
      case Op::equal:
      case Op::in:
      case Op::is:
        return true;
      default:
        return false;
    }
  });
}

}  // namespace

GuardedActions::GuardedActions(const PolicySet& guards, const cedar::Entities& entities) {
  if (!is_about_roles_alone(guards, roles_) || roles_.size() > kMostRoles) return;
  for (const ActionEntry& action : action_table()) {
    for (const PrincipalKind kind : kKinds) {
      for (size_t held = 0; held < size_t{1} << roles_.size(); ++held) {
        Principal who{.id = "somebody", .tenant = "default"};
        who.kind = kind;
        for (size_t i = 0; i < roles_.size(); ++i)
          if ((held >> i & 1) != 0) who.roles.push_back(roles_[i]);
        const AuthorizationRequest question(who, action.name, "Route", "", {});
        cedar::Request request = question.request();
        request.far = &entities;
        const PolicyVerdict verdict = guards.decide(request);
        cases_.push_back({.action = std::string(action.name),
                          .group = std::string(action.group),
                          .kind = kind,
                          .roles = std::move(who.roles),
                          .decided = !verdict.determining.empty() || !verdict.errors.empty(),
                          .allowed = verdict.allowed && verdict.errors.empty()});
      }
    }
  }
}

std::string GuardedActions::why_idle(const cedar::Policy& policy) const {
  const auto does = [&](const Case& one) {
    const auto is_named = [&](const EntityName* name) {
      return name->type == "Redoubt::Action" &&
             (name->id == one.action || (policy.action.test != Scope::Test::equal && name->id == one.group));
    };
    return policy.action.names.empty() ? policy.action.test == Scope::Test::any
                                       : std::ranges::any_of(policy.action.names, is_named);
  };
  // More than it may be true of: who is in a team is not told from its name.
  const auto may_be = [&](const Case& one) {
    const Scope& scope = policy.principal;
    if (!scope.type.empty() && scope.type != principal_type(one.kind)) return false;
    if (scope.test == Scope::Test::equal) return scope.names[0]->type == principal_type(one.kind);
    return std::ranges::all_of(scope.names, [&](const EntityName* name) {
      const bool is_guards = name->type == "Redoubt::Role" && std::ranges::count(roles_, name->id) > 0;
      return !is_guards || std::ranges::count(one.roles, name->id) > 0;
    });
  };
  bool any = false, allowed = false;
  for (const Case& one : cases_) {
    if (!does(one) || !may_be(one)) continue;
    if (!one.decided) return {};
    any = true;
    allowed = allowed || one.allowed;
  }
  if (!any) return {};  // of nobody or nothing: told elsewhere
  return policy.effect == cedar::Effect::permit && !allowed
             ? "it permits nothing: guards forbid all that it speaks of (redoubt policy show --guards)"
             : "it changes nothing: guards alone decide all that it speaks of (redoubt policy show --guards)";
}

}  // namespace redoubt
