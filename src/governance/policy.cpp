#include "governance/policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <utility>

#include "governance/cedar_extensions.h"
#include "governance/default_policies.h"
#include "governance/policy_actions.h"

namespace redoubt {
namespace {

using cedar::EntityName;
using cedar::Field;
using cedar::Value;

const std::map<std::string, std::string> kNoLabels;

Value labels_of(const std::map<std::string, std::string>& labels, cedar::Arena& arena) {
  std::vector<Field> fields;
  for (const auto& [key, value] : labels) fields.push_back({arena.copy(key), arena.string(value)});
  return arena.record(fields);
}

Value principal_attributes(const Principal& principal, const EntityName* tenant, cedar::Arena& arena) {
  std::vector<Field> fields{{"id", arena.string(principal.id)},
                            {"kind", Value::of(kind_name(principal.kind))},
                            {"labels", labels_of(principal.labels, arena)},
                            {"tenant", Value::of(tenant)}};
  return arena.record(fields);
}

// The principal with all that it belongs to.
EntityName add_principal(const Principal& principal, cedar::Entities& entities) {
  cedar::Arena& arena = entities.arena();
  const auto name = [&](std::string_view type, std::string_view id) {
    return cedar::entity_name(type, arena.copy(id));
  };
  const EntityName own = name(principal_type(principal.kind), principal.id);
  const EntityName tenant = name("Redoubt::Tenant", principal.tenant);
  const auto labelled = [&](const std::map<std::string, std::string>& labels) {
    return arena.record(std::array{Field{"labels", labels_of(labels, arena)}}).record;
  };
  entities.add(tenant, labelled(principal.tenant_labels), nullptr, {});
  std::vector<EntityName> parents{tenant};
  for (const std::string& team : std::set<std::string>(principal.teams.begin(), principal.teams.end())) {
    parents.push_back(name("Redoubt::Team", principal.tenant + "/" + team));
    const auto labels = principal.team_labels.find(team);
    entities.add(parents.back(), labelled(labels == principal.team_labels.end() ? kNoLabels : labels->second), nullptr,
                 std::array{tenant});
  }
  for (const std::string& role : principal.roles) parents.push_back(name("Redoubt::Role", role));
  entities.add(own, principal_attributes(principal, arena.put(tenant), arena).record, nullptr, parents);
  return own;
}

const cedar::RecordValue* context_record(const Principal& principal, const PolicyContext& context,
                                         cedar::Arena& arena) {
  std::vector<Field> fields{{"now", Value::number(cedar::Kind::datetime, context.now_ms)}};
  const auto text = [&](std::string_view key, const std::string& value) {
    if (!value.empty()) fields.push_back({key, arena.string(value)});
  };
  text("auth_method", context.auth_method.empty() ? principal.auth_method : context.auth_method);
  text("purpose", context.purpose);
  text("stage", context.stage);
  if (context.budget_left) fields.push_back({"budget_left", Value::of(*context.budget_left)});
  if (const auto ip = cedar::parse_ip(context.source_ip)) fields.push_back({"source_ip", Value::of(arena.put(*ip))});
  const auto taken = [&](std::string_view key) {
    return std::any_of(fields.begin(), fields.end(), [&](const Field& field) { return field.key == key; });
  };
  for (const auto& [key, value] : context.numbers) {
    if (!taken(key)) fields.push_back({arena.copy(key), Value::of(value)});
  }
  for (const auto& [key, value] : context.strings) {
    if (!taken(key)) fields.push_back({arena.copy(key), arena.string(value)});
  }
  return arena.record(fields).record;
}

}  // namespace

std::string_view principal_type(PrincipalKind kind) {
  switch (kind) {
    case PrincipalKind::user:
      return "Redoubt::User";
    case PrincipalKind::service:
      return "Redoubt::Service";
    case PrincipalKind::appointer:
      return "Redoubt::Appointer";
    case PrincipalKind::open:
      return "Redoubt::Open";
  }
  return "Redoubt::User";
}

AuthorizationRequest::AuthorizationRequest(const Principal& principal, std::string_view action,
                                           std::string_view resource_kind, std::string_view resource_id,
                                           const PolicyContext& context) {
  auto entities = std::make_shared<cedar::Entities>();
  cedar::Arena& arena = entities->arena();
  request_.principal = add_principal(principal, *entities);
  request_.action = cedar::entity_name("Redoubt::Action", arena.copy(action));
  const std::string_view type = entity_type(resource_kind);
  request_.resource = cedar::entity_name(type.empty() ? arena.copy(resource_kind) : type, arena.copy(resource_id));
  request_.context = context_record(principal, context, arena);
  REDOUBT_ASSERT(entities->close());  // each team is there once, and belongs to the tenant alone
  request_.near = entities.get();
  near_ = std::move(entities);
}

Result<AuthorizationRequest> AuthorizationRequest::from_json(const Json& json,
                                                             std::shared_ptr<const cedar::Entities> entities) {
  if (!json.is_object()) return invalid("request: expected an object");
  AuthorizationRequest made;
  made.arena_ = std::make_shared<cedar::Arena>();
  cedar::Request& request = made.request_;
  const std::pair<const char*, EntityName*> parts[] = {
      {"principal", &request.principal}, {"action", &request.action}, {"resource", &request.resource}};
  for (const auto& [key, name] : parts) {
    if (!json.contains(key)) return invalid(fmt::format("request: {} is missing", key), key);
    auto parsed = cedar::entity_from_json(json[key], *made.arena_);
    if (!parsed) return std::move(parsed).error().within(key);
    *name = *parsed;
  }
  if (json.contains("context")) {
    if (!json["context"].is_object()) return invalid("context: expected an object", "context");
    auto context = cedar::value_from_json(json["context"], *made.arena_);
    if (!context) return std::move(context).error().within("context");
    if (context->kind != cedar::Kind::record) return invalid("context: expected an object", "context");
    request.context = context->record;
  }
  request.near = entities.get();
  made.near_ = std::move(entities);
  return made;
}

Result<AuthorizationRequest> AuthorizationRequest::from_json(const Principal& principal, const Json& json) {
  auto entities = std::make_shared<cedar::Entities>();
  const EntityName name = add_principal(principal, *entities);
  REDOUBT_CHECK(entities->close());
  Json whole = json;
  whole["principal"] = cedar::to_json(name);
  return from_json(whole, std::move(entities));
}

std::vector<std::string> Decision::reason_ids() const {
  const PolicySet& set = guarded ? *by->guards : *by->policies;
  std::vector<std::string> ids;
  for (const uint32_t policy : reasons) ids.emplace_back(set.policies()[policy].id);
  return ids;
}

std::vector<std::string> Decision::error_texts() const {
  std::vector<std::string> texts;
  for (const PolicyError& error : errors) texts.push_back(by->policies->describe(error));
  return texts;
}

Decision decide(std::shared_ptr<const PolicySnapshot> by, const cedar::Request& asked, bool model_follows) {
  cedar::Request request = asked;
  request.far = by->entities.get();
  Decision decision;
  PolicyVerdict guard = by->guards->decide(request);
  PolicyVerdict verdict = by->policies->decide(request, model_follows);
  decision.errors = std::move(verdict.errors);
  if (!guard.determining.empty() || !guard.errors.empty()) {
    decision.guarded = true;
    decision.allowed = guard.allowed && guard.errors.empty();
    decision.reasons = std::move(guard.determining);
    for (const PolicyError& error : guard.errors) decision.reasons.push_back(error.policy);
  } else {
    decision.allowed = verdict.allowed;
    decision.reasons = std::move(verdict.determining);
  }
  decision.by = std::move(by);
  return decision;
}

std::optional<cedar::Request> route_request(const cedar::Request& request, cedar::Arena& arena) {
  if (request.resource.type != "Redoubt::Model" || !is_asked_of_route(request.action.id)) return std::nullopt;
  cedar::Request route = request;
  route.resource = cedar::entity_name("Redoubt::Route", "");
  if (request.context == nullptr) return route;
  std::vector<Field> fields(request.context->fields.begin(), request.context->fields.end());
  std::erase_if(fields, [](const Field& field) { return is_said_of_model(field.key); });
  route.context = arena.record(fields).record;
  return route;
}

cedar::Request with_stage(const PolicySnapshot& by, const cedar::Request& request, cedar::Arena& arena) {
  if (request.resource.type != "Redoubt::Model") return request;
  const auto stage = by.stages.find(std::string(request.resource.id));
  if (stage == by.stages.end() || stage->second.empty()) return request;
  std::vector<Field> fields;
  if (request.context != nullptr) fields.assign(request.context->fields.begin(), request.context->fields.end());
  if (std::ranges::any_of(fields, [](const Field& field) { return field.key == "stage"; })) return request;
  fields.push_back({"stage", arena.string(stage->second)});
  cedar::Request whole = request;
  whole.context = arena.record(fields).record;
  return whole;
}

Decision decide_as_served(const std::shared_ptr<const PolicySnapshot>& by, const cedar::Request& request) {
  cedar::Arena arena;
  if (const auto route = route_request(request, arena)) {
    Decision first = decide(by, *route, true);
    first.at_route = first.forbidden();
    if (first.at_route) return first;
  }
  return decide(by, request);
}

Result<std::shared_ptr<const PolicySnapshot>> make_policy_snapshot(std::string policies, const Json& entities,
                                                                   uint64_t version, ModelStages stages) {
  auto snapshot = std::make_shared<PolicySnapshot>();
  REDOUBT_TRY(snapshot->policies, PolicySet::parse(std::move(policies)));
  REDOUBT_TRY(snapshot->guards, PolicySet::parse(std::string(guard_policy_text())));
  REDOUBT_TRY(snapshot->entities, shared_entities(entities));
  snapshot->stages = std::move(stages);
  snapshot->version = version;
  return std::shared_ptr<const PolicySnapshot>(std::move(snapshot));
}

Result<std::unique_ptr<PolicyEngine>> PolicyEngine::with_text(std::string policies, const Json& entities) {
  REDOUBT_TRY(auto first, make_policy_snapshot(std::move(policies), entities, 1));
  return std::unique_ptr<PolicyEngine>(new PolicyEngine(std::move(first)));
}

Decision PolicyEngine::decide(const AuthorizationRequest& request, bool model_follows) const {
  return redoubt::decide(snapshot_.load(), request.request(), model_follows);
}

Status PolicyEngine::replace(std::string policies, uint64_t version) {
  auto next = std::make_shared<PolicySnapshot>(*snapshot_.load());
  REDOUBT_TRY(next->policies, PolicySet::parse(std::move(policies)));
  next->version = version;
  snapshot_.store(std::move(next));
  return ok();
}

Status PolicyEngine::replace(std::string policies, const Json& entities, uint64_t version, ModelStages stages) {
  REDOUBT_TRY(auto next, make_policy_snapshot(std::move(policies), entities, version, std::move(stages)));
  snapshot_.store(std::move(next));
  return ok();
}

}  // namespace redoubt
