// Which policies of a text change nothing, because the guards (default_policies.h) decide all that they speak of.
//
// Told from heads alone, for every kind of principal and every set of the roles that guards name: what is said here is
// certain, whatever conditions and the directory say.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "governance/policy_set.h"
#include "governance/principal.h"

namespace redoubt {

class GuardedActions {
 public:
  // `entities`: the actions with their groups among them.
  GuardedActions(const PolicySet& guards, const cedar::Entities& entities);
  // A sentence; empty: the policy may change something, or it cannot be told.
  std::string why_idle(const cedar::Policy& policy) const;

 private:
  struct Case {  // somebody does something
    std::string action, group;
    PrincipalKind kind;
    std::vector<std::string> roles;
    bool decided = false, allowed = false;  // by guards
  };
  std::vector<std::string> roles_;  // that guards name
  std::vector<Case> cases_;         // none: guards read more than who somebody is and what they do
};

}  // namespace redoubt
