// Why a request is allowed or denied: every policy whose head fits it, and what became of each.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "governance/policy.h"

namespace redoubt {

struct Explanation {
  struct Line {
    std::string policy;   // its id
    std::string effect;   // permit, forbid
    std::string outcome;  // satisfied, not_satisfied, failed
    std::string detail;   // which condition is false, or what could not be evaluated, with line and column
    int line = 0;         // of the policy in its text
    bool guard = false;
    bool decides = false;
  };
  bool allowed = false;
  std::string why;                     // one sentence
  std::vector<Line> lines;             // what decides first, then the rest by place
  std::vector<std::string> not_known;  // in the context: absent here, and read by a policy that might turn the decision
  uint64_t version = 0;
};

// As a server decides it (decide_as_served), of a model at the stage that the snapshot gives it.
Explanation explain(const std::shared_ptr<const PolicySnapshot>& by, const cedar::Request& request);
Json to_json(const Explanation& explanation);

// A request as people write it: {"principal": {"id": "alice", "tenant": "acme", "teams": [], "roles": ["user"],
// "kind": "user", "labels": {}, "tenant_labels": {}, "team_labels": {}}, "action": "generate", "resource":
// "Redoubt::Model::\"r1\"", "context": {...}}. The principal may also be an entity, "Redoubt::User::\"alice\"", of
// which only the described entities are known. In the context `now` may be a date and `source_ip` an address, as plain
// strings. Errors: invalid_argument.
Result<AuthorizationRequest> request_from_json(const Json& json);

}  // namespace redoubt
