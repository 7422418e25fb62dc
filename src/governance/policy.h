// May this principal do this action to this resource, here and now?
//
// The answer is computed from a text of policies (docs/policies.md), which may be replaced while the server runs.
// Deny by default; a forbid wins; whatever fails is a no. decide() neither locks nor waits and may be called from any
// thread: it reads one immutable snapshot. 10,000 policies cost a few microseconds (bench/policy_bench).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "core/result.h"
#include "core/snapshot.h"
#include "governance/cedar_entities.h"
#include "governance/policy_set.h"
#include "governance/principal.h"

namespace redoubt {

// What conditions read as `context`. Absent fields are absent there: `context has purpose` tells.
struct PolicyContext {
  int64_t now_ms = 0;                          // context.now, a datetime
  std::string source_ip;                       // context.source_ip, an ipaddr; left out if it is no address
  std::string purpose;                         // context.purpose
  std::string stage;                           // context.stage: of the model's release, "canary"
  std::string auth_method;                     // context.auth_method: "api_key"; the principal's if empty
  std::optional<int64_t> budget_left;          // context.budget_left: tokens of the narrowest budget
  std::map<std::string, std::string> strings;  // further ones, under their own names
  std::map<std::string, int64_t> numbers;      // context.priority and the like
};

std::string_view principal_type(PrincipalKind kind);  // "Redoubt::User" and the like

// One question, with the entities it speaks of: the principal within its teams, roles and tenant.
//   Redoubt::User::"alice" in Redoubt::Team::"acme/research", Redoubt::Role::"user", Redoubt::Tenant::"acme"
// with attributes id, tenant (an entity), kind, labels (a record of strings). A team belongs to its tenant.
class AuthorizationRequest {
 public:
  // action: "generate". Resource: kind "Model", id "r1". An unknown kind or an odd id is no error: nothing permits it.
  AuthorizationRequest(const Principal& principal, std::string_view action, std::string_view resource_kind,
                       std::string_view resource_id, const PolicyContext& context);
  // From JSON with the fields principal, action, resource, context, as Cedar's tools have them. Borrows `entities`,
  // which may be null. Errors: invalid_argument.
  static Result<AuthorizationRequest> from_json(const Json& request, std::shared_ptr<const cedar::Entities> entities);
  // The same with this principal, whatever the JSON says of one.
  static Result<AuthorizationRequest> from_json(const Principal& principal, const Json& request);

  const cedar::Request& request() const { return request_; }

 private:
  AuthorizationRequest() = default;
  std::shared_ptr<const cedar::Entities> near_;
  std::shared_ptr<cedar::Arena> arena_;
  cedar::Request request_;
};

// The stage of the release of each model that a server's configuration names; "" of one that has none there.
using ModelStages = std::map<std::string, std::string>;

// Everything a decision is computed from.
struct PolicySnapshot {
  std::shared_ptr<const PolicySet> policies;
  std::shared_ptr<const PolicySet> guards;          // what no text can lift (default_policies.h)
  std::shared_ptr<const cedar::Entities> entities;  // actions, and the models and datasets somebody described
  ModelStages stages;                               // for explanations: a server's own requests say it in their context
  uint64_t version = 0;
};

struct Decision {
  bool allowed = false;
  bool guarded = false;   // a guard decided it: `reasons` are guards
  bool at_route = false;  // decide_as_served: every route was forbidden, and the model is not asked about
  std::vector<uint32_t> reasons;
  std::vector<PolicyError> errors;  // of the policies, not of the guards
  std::shared_ptr<const PolicySnapshot> by;

  // Not allowed because something says so, rather than because nothing permits it.
  bool forbidden() const { return !allowed && !reasons.empty(); }
  std::vector<std::string> reason_ids() const;
  std::vector<std::string> error_texts() const;
};

// model_follows: PolicySet::waits_for_model.
Decision decide(std::shared_ptr<const PolicySnapshot> by, const cedar::Request& request, bool model_follows = false);

// As a server decides: of what is done to a model (policy_actions.h, is_asked_of_route), first about a route, of which
// only that it is one is known, then about the model.
Decision decide_as_served(const std::shared_ptr<const PolicySnapshot>& by, const cedar::Request& request);
// The question about the route that goes before, without what the context says of the model; it borrows from `request`
// and `arena`. nullopt: none does.
std::optional<cedar::Request> route_request(const cedar::Request& request, cedar::Arena& arena);
// The request with the stage that the configuration gives the model it asks about, where it says none itself.
cedar::Request with_stage(const PolicySnapshot& by, const cedar::Request& request, cedar::Arena& arena);

class PolicyEngine {
 public:
  // Starts at version 1.
  static Result<std::unique_ptr<PolicyEngine>> with_text(std::string policies, const Json& entities = Json::array());

  Decision decide(const AuthorizationRequest& request, bool model_follows = false) const;
  std::shared_ptr<const PolicySnapshot> snapshot() const { return snapshot_.load(); }
  uint64_t version() const { return snapshot_.load()->version; }

  // Decisions that begin after this returns are by the new policies. Errors leave the old ones in place.
  Status replace(std::string policies, uint64_t version);
  Status replace(std::string policies, const Json& entities, uint64_t version, ModelStages stages = {});

 private:
  explicit PolicyEngine(std::shared_ptr<const PolicySnapshot> first) : snapshot_(std::move(first)) {}
  Snapshot<PolicySnapshot> snapshot_;
};

// Policies, guards and entities made into a snapshot. Errors: invalid_argument with line and column.
Result<std::shared_ptr<const PolicySnapshot>> make_policy_snapshot(std::string policies, const Json& entities,
                                                                   uint64_t version, ModelStages stages = {});

}  // namespace redoubt
