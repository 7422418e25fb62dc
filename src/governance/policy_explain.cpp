#include "governance/policy_explain.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "governance/policy_actions.h"
#include "governance/policy_head.h"

namespace redoubt {
namespace {

using Outcome = PolicyTrace::Outcome;

std::string_view outcome_name(Outcome outcome) {
  switch (outcome) {
    case Outcome::satisfied:
      return "satisfied";
    case Outcome::not_satisfied:
      return "not_satisfied";
    case Outcome::failed:
      return "failed";
    case Outcome::open:
      return "open";
  }
  return "";
}

void add_lines(const PolicySet& set, bool guards, const cedar::Request& request, const Decision& decision,
               std::vector<Explanation::Line>& out) {
  for (const PolicyTrace& trace : set.trace(request)) {
    if (decision.at_route && set.waits_for_model(trace.policy)) continue;
    const cedar::Policy& policy = set.policies()[trace.policy];
    Explanation::Line line{.policy = std::string(policy.id),
                           .effect = std::string(cedar::effect_name(policy.effect)),
                           .outcome = std::string(outcome_name(trace.outcome)),
                           .line = set.place_of_policy(trace.policy).line,
                           .guard = guards};
    if (trace.outcome == Outcome::failed) line.detail = set.describe({trace.policy, trace.error});
    if (trace.outcome == Outcome::not_satisfied) {
      const cedar::Place place = set.place_of_node(trace.node);
      line.detail = fmt::format("the condition at line {}, column {} does not hold", place.line, place.column);
    }
    line.decides = guards == decision.guarded &&
                   std::find(decision.reasons.begin(), decision.reasons.end(), trace.policy) != decision.reasons.end();
    out.push_back(std::move(line));
  }
}

// Of what is absent in the context: what the policies that fit read of it and that might turn the decision. A forbid
// that holds nothing can turn; forbids might turn what is allowed, permits what nothing permits.
std::vector<std::string> unknown_context(const PolicySnapshot& by, const cedar::Request& request,
                                         const Decision& decision) {
  if (decision.forbidden() || decision.guarded) return {};
  const cedar::Effect turning = decision.allowed ? cedar::Effect::forbid : cedar::Effect::permit;
  const PolicySet& set = *by.policies;
  std::set<std::string> unknown;
  const ResolvedRequest resolved(request);
  for (const cedar::Policy& policy : set.policies()) {  // each: the index leaves out what this context does not meet
    if (policy.effect != turning || !head_fits(policy, resolved)) continue;
    set.for_each_node(policy, [&](uint32_t at) {
      const cedar::Node& node = set.program().nodes[at];
      if (node.op != cedar::Op::attribute && node.op != cedar::Op::has && node.op != cedar::Op::has_path) return;
      if (set.program().nodes[set.program().children[node.first]].op != cedar::Op::context) return;
      std::string_view rest = node.value.string();
      unknown.emplace(cedar::take_key(rest, node.op));
    });
  }
  if (request.context != nullptr)
    for (const cedar::Field& field : request.context->fields) unknown.erase(std::string(field.key));
  // A model that the configuration names without a stage has none.
  if (request.resource.type != "Redoubt::Model" || by.stages.contains(std::string(request.resource.id)))
    unknown.erase("stage");
  return {unknown.begin(), unknown.end()};
}

std::string sentence(const Decision& decision) {
  std::string ids;
  for (const std::string& id : decision.reason_ids()) ids += (ids.empty() ? "" : ", ") + cedar::in_quotes(id);
  if (decision.allowed) return fmt::format("allowed by {}", ids);
  if (decision.forbidden()) return fmt::format("denied: forbidden by {}", ids);
  return "denied: no policy permits it";
}

Result<std::vector<std::string>> strings_of(const Json& json, const char* key) {
  std::vector<std::string> out;
  if (!json.contains(key)) return out;
  if (!json[key].is_array()) return invalid(fmt::format("principal.{}: expected a list of strings", key));
  for (const Json& item : json[key]) {
    if (!item.is_string()) return invalid(fmt::format("principal.{}: expected a list of strings", key));
    out.push_back(item.get<std::string>());
  }
  return out;
}

Result<std::map<std::string, std::string>> labels_of(const Json& json, const std::string& key) {
  std::map<std::string, std::string> labels;
  if (!json.is_object()) return invalid(fmt::format("principal.{}: expected an object of strings", key));
  for (const auto& [name, label] : json.items()) {
    if (!label.is_string()) return invalid(fmt::format("principal.{}: expected an object of strings", key));
    labels[name] = label.get<std::string>();
  }
  return labels;
}

Result<Principal> principal_from_json(const Json& json) {
  Principal principal;
  principal.tenant = "default";
  for (const auto& [key, value] : json.items()) {
    if (key == "teams" || key == "roles") continue;
    if (key == "labels") {
      REDOUBT_TRY(principal.labels, labels_of(value, key));
      continue;
    }
    if (key == "tenant_labels") {
      REDOUBT_TRY(principal.tenant_labels, labels_of(value, key));
      continue;
    }
    if (key == "team_labels") {
      if (!value.is_object()) return invalid("principal.team_labels: expected an object of labels");
      for (const auto& [team, labels] : value.items()) {
        REDOUBT_TRY(principal.team_labels[team], labels_of(labels, key));
      }
      continue;
    }
    if (!value.is_string()) return invalid(fmt::format("principal.{}: expected a string", key));
    const std::string text = value.get<std::string>();
    if (key == "id") {
      principal.id = text;
    } else if (key == "tenant") {
      principal.tenant = text;
    } else if (key == "auth_method") {
      principal.auth_method = text;
    } else if (key == "kind") {
      const auto kinds = {PrincipalKind::user, PrincipalKind::service, PrincipalKind::appointer, PrincipalKind::open};
      const auto at =
          std::find_if(kinds.begin(), kinds.end(), [&](PrincipalKind kind) { return kind_name(kind) == text; });
      if (at == kinds.end()) return invalid("principal.kind: expected user, service, appointer or open");
      principal.kind = *at;
    } else {
      return invalid(
          fmt::format("principal: expected id, tenant, teams, roles, kind, labels, tenant_labels, team_labels, "
                      "auth_method, found {}",
                      cedar::in_quotes(key)));
    }
  }
  REDOUBT_TRY(principal.teams, strings_of(json, "teams"));
  REDOUBT_TRY(principal.roles, strings_of(json, "roles"));
  return principal;
}

// Plain strings where a date or an address is meant.
void complete_context(Json& context) {
  for (const auto& [key, function] : {std::pair{"now", "datetime"}, std::pair{"source_ip", "ip"}}) {
    if (context.contains(key) && context[key].is_string()) {
      Json extension = {{"fn", function}, {"arg", context[key]}};
      context[key] = Json{{"__extn", std::move(extension)}};
    }
  }
}

}  // namespace

Explanation explain(const std::shared_ptr<const PolicySnapshot>& by, const cedar::Request& asked) {
  cedar::Arena arena;
  cedar::Request request = with_stage(*by, asked, arena);
  request.far = by->entities.get();
  const Decision decision = decide_as_served(by, request);
  if (decision.at_route) request = *route_request(request, arena);
  Explanation explanation{.allowed = decision.allowed, .why = sentence(decision), .version = by->version};
  if (decision.at_route) explanation.why += ", on every route";
  if (request.action.type == "Redoubt::Action" && find_action(request.action.id) == nullptr)
    explanation.why += fmt::format("; there is no action {}", cedar::in_quotes(request.action.id));
  explanation.not_known = unknown_context(*by, request, decision);
  add_lines(*by->guards, true, request, decision, explanation.lines);
  // A guard that is not broken is of no interest.
  std::erase_if(explanation.lines,
                [](const Explanation::Line& line) { return !line.decides && line.outcome == "not_satisfied"; });
  add_lines(*by->policies, false, request, decision, explanation.lines);
  std::stable_partition(explanation.lines.begin(), explanation.lines.end(),
                        [](const Explanation::Line& line) { return line.decides; });
  return explanation;
}

Json to_json(const Explanation& explanation) {
  Json lines = Json::array();
  for (const Explanation::Line& line : explanation.lines) {
    Json json = {{"policy", line.policy}, {"effect", line.effect},   {"outcome", line.outcome},
                 {"line", line.line},     {"decides", line.decides}, {"guard", line.guard}};
    if (!line.detail.empty()) json["detail"] = line.detail;
    lines.push_back(std::move(json));
  }
  return {{"decision", explanation.allowed ? "allow" : "deny"},
          {"why", explanation.why},
          {"not_known", explanation.not_known},
          {"policy_version", explanation.version},
          {"policies", std::move(lines)}};
}

Result<AuthorizationRequest> request_from_json(const Json& json) {
  if (!json.is_object()) return invalid("request: expected an object with principal, action, resource");
  Json whole = json;
  if (whole.contains("action") && whole["action"].is_string() &&
      whole["action"].get_ref<const std::string&>().find("::") == std::string::npos) {
    whole["action"] = {{"type", "Redoubt::Action"}, {"id", whole["action"]}};
  }
  if (whole.contains("context") && whole["context"].is_object()) complete_context(whole["context"]);
  const bool described = whole.contains("principal") && whole["principal"].is_object() &&
                         whole["principal"].contains("id") && !whole["principal"].contains("type");
  if (!described) return AuthorizationRequest::from_json(whole, nullptr);
  REDOUBT_TRY(const Principal principal, principal_from_json(whole["principal"]));
  return AuthorizationRequest::from_json(principal, whole);
}

}  // namespace redoubt
