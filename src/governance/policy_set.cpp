#include "governance/policy_set.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>

#include "governance/policy_head.h"

namespace redoubt {

using cedar::Effect;

namespace {

constexpr size_t kScratchBytes = 4096;  // of the stack, for what an evaluation makes

bool reads_attributes(cedar::Op op) {
  return op == cedar::Op::attribute || op == cedar::Op::has || op == cedar::Op::has_path || op == cedar::Op::get_tag ||
         op == cedar::Op::has_tag;
}

// For each node whether it, or one below it, is as `own` says. Children lie before their parents.
template <class Own>
std::vector<bool> marked(const cedar::Program& program, Own own) {
  std::vector<bool> marks(program.nodes.size());
  for (uint32_t i = 0; i < program.nodes.size(); ++i) {
    const cedar::Node& node = program.nodes[i];
    marks[i] = own(i);
    for (uint32_t c = 0; c < node.count; ++c) {
      marks[i] = marks[i] || marks[program.children[node.first + c] & ~cedar::kSubtract];
    }
  }
  return marks;
}

// Whether a condition asks for this key of anything, or takes the context as a whole.
bool reads_key_or_whole_context(const cedar::Program& program, std::string_view key) {
  size_t contexts = 0, attributes_of_it = 0;
  for (const cedar::Node& node : program.nodes) {
    contexts += node.op == cedar::Op::context ? 1 : 0;
    if (node.op != cedar::Op::attribute && node.op != cedar::Op::has && node.op != cedar::Op::has_path) continue;
    attributes_of_it += program.nodes[program.children[node.first]].op == cedar::Op::context ? 1 : 0;
    for (std::string_view rest = node.value.string(); !rest.empty();) {
      if (cedar::take_key(rest, node.op) == key) return true;
    }
  }
  return contexts != attributes_of_it;
}

}  // namespace

Result<std::shared_ptr<const PolicySet>> PolicySet::parse(std::string text, const cedar::ParseLimits& limits) {
  std::shared_ptr<PolicySet> set(new PolicySet(std::move(text)));
  REDOUBT_TRY(set->program_, cedar::parse_policies(set->text_, limits, set->arena_));
  for (uint32_t i = 0; i < set->program_.policies.size(); ++i) {
    const cedar::Policy& policy = set->program_.policies[i];
    set->briefs_.push_back({.first_condition = static_cast<uint32_t>(set->conditions_.size()),
                            .conditions = static_cast<uint16_t>(policy.conditions.size()),
                            .effect = policy.effect,
                            .needs_head = PolicyIndex::needs_head(policy)});
    set->conditions_.insert(set->conditions_.end(), policy.conditions.begin(), policy.conditions.end());
    set->index_.add(i, set->program_);
  }
  set->lines_.push_back(0);
  for (size_t i = 0; i < set->text_.size(); ++i) {
    if (set->text_[i] == '\n') set->lines_.push_back(static_cast<uint32_t>(i + 1));
  }
  const cedar::Program& program = set->program_;
  set->reads_context_ = marked(program, [&](uint32_t i) { return program.nodes[i].op == cedar::Op::context; });
  const auto names = marked(program, [&](uint32_t i) { return program.nodes[i].op == cedar::Op::principal; });
  set->reads_principal_ = marked(program, [&](uint32_t i) {
    return reads_attributes(program.nodes[i].op) && names[program.children[program.nodes[i].first]];
  });
  for (uint32_t i = 0; i < program.policies.size(); ++i) {
    const cedar::Policy& policy = program.policies[i];
    set->briefs_[i].waits_for_model = policy.effect == Effect::forbid && set->reads_model(policy);
  }
  set->reads_budget_ = reads_key_or_whole_context(program, "budget_left");
  return std::shared_ptr<const PolicySet>(std::move(set));
}

// Its conditions read the resource, or what the context says of a model; and neither head nor conditions name a route.
bool PolicySet::reads_model(const cedar::Policy& policy) const {
  constexpr std::string_view kRoute = "Redoubt::Route";
  const auto is_route = [&](const cedar::EntityName* name) { return name->type == kRoute; };
  if (policy.resource.type == kRoute || std::ranges::any_of(policy.resource.names, is_route)) return false;
  bool reads = false;
  std::vector<uint32_t> open(policy.conditions);
  while (!open.empty()) {
    const cedar::Node& node = program_.nodes[open.back()];
    open.pop_back();
    for (uint32_t c = 0; c < node.count; ++c) open.push_back(program_.children[node.first + c] & ~cedar::kSubtract);
    switch (node.op) {
      case cedar::Op::resource:
        reads = true;
        break;
      case cedar::Op::is:
      case cedar::Op::is_in:
        if (node.value.string() == kRoute) return false;
        break;
      case cedar::Op::constant:
        if (node.value.kind == cedar::Kind::entity && is_route(node.value.entity)) return false;
        if (node.value.kind == cedar::Kind::set &&
            std::ranges::any_of(node.value.set->items, [&](const cedar::Value& item) {
              return item.kind == cedar::Kind::entity && is_route(item.entity);
            }))
          return false;
        break;
      case cedar::Op::attribute:
      case cedar::Op::has:
      case cedar::Op::has_path: {
        std::string_view rest = node.value.string();
        const std::string_view key = cedar::take_key(rest, node.op);
        reads = reads || is_said_of_model(key);
        break;
      }
      default:
        break;
    }
  }
  return reads;
}

void PolicySet::judge(uint32_t policy, bool head_known, const ResolvedRequest& request, cedar::Evaluator& evaluator,
                      PolicyVerdict& permits, PolicyVerdict& forbids) const {
  const Brief& brief = briefs_[policy];
  if ((!head_known || brief.needs_head) && !head_fits(program_.policies[policy], request)) return;
  for (uint32_t i = 0; i < brief.conditions; ++i) {
    const uint32_t condition = conditions_[brief.first_condition + i];
    cedar::Value value;
    const bool evaluated = evaluator.evaluate(condition, value);
    if (!evaluated || value.kind != cedar::Kind::boolean) {
      permits.errors.push_back({policy, evaluated
                                            ? cedar::EvaluationError{cedar::Fault::wrong_kind, condition, value.kind}
                                            : evaluator.error()});
      return;
    }
    if (!value.boolean) return;
  }
  (brief.effect == Effect::permit ? permits : forbids).determining.push_back(policy);
}

PolicyVerdict PolicySet::settled(PolicyVerdict permits, PolicyVerdict forbids) {
  PolicyVerdict verdict;
  verdict.errors = std::move(permits.errors);
  verdict.allowed = forbids.determining.empty() && !permits.determining.empty();
  verdict.determining = std::move(forbids.determining.empty() ? permits.determining : forbids.determining);
  return verdict;
}

PolicyVerdict PolicySet::decide(const cedar::Request& request, bool model_follows) const {
  const ResolvedRequest resolved(request);
  std::vector<uint32_t> candidates;
  index_.find(resolved, {}, candidates);
  std::array<std::byte, kScratchBytes> scratch;
  cedar::Arena arena(scratch);
  cedar::Evaluator evaluator(program_, request, arena);
  PolicyVerdict permits, forbids;
  for (const uint32_t policy : candidates) {
    if (model_follows && waits_for_model(policy)) continue;
    judge(policy, true, resolved, evaluator, permits, forbids);
  }
  return settled(std::move(permits), std::move(forbids));
}

PolicyVerdict PolicySet::decide_one_by_one(const cedar::Request& request, bool model_follows) const {
  const ResolvedRequest resolved(request);
  cedar::Arena arena;
  cedar::Evaluator evaluator(program_, request, arena);
  PolicyVerdict permits, forbids;
  for (uint32_t policy = 0; policy < program_.policies.size(); ++policy) {
    if (model_follows && waits_for_model(policy)) continue;
    judge(policy, false, resolved, evaluator, permits, forbids);
  }
  return settled(std::move(permits), std::move(forbids));
}

PolicyTrace PolicySet::traced(uint32_t policy, cedar::Evaluator& evaluator, Unknown unknown) const {
  using Outcome = PolicyTrace::Outcome;
  PolicyTrace trace{.policy = policy};
  for (const uint32_t condition : conjuncts_of(program_, program_.policies[policy])) {
    if ((unknown.context && reads_context_[condition]) || (unknown.principal && reads_principal_[condition])) {
      trace.outcome = Outcome::open;  // and a later one that is false settles it: then it is false, or an error
      continue;
    }
    cedar::Value value;
    const bool evaluated = evaluator.evaluate(condition, value);
    if (!evaluated || value.kind != cedar::Kind::boolean) {
      const cedar::EvaluationError error =
          evaluated ? cedar::EvaluationError{cedar::Fault::wrong_kind, condition, value.kind} : evaluator.error();
      return {policy, Outcome::failed, condition, error};
    }
    if (!value.boolean) return {policy, Outcome::not_satisfied, condition, {}};
  }
  return trace;
}

std::vector<PolicyTrace> PolicySet::trace(const cedar::Request& request, Unknown unknown) const {
  const ResolvedRequest resolved(request);
  std::vector<uint32_t> candidates;
  index_.find(resolved, unknown, candidates);
  cedar::Arena arena;
  cedar::Evaluator evaluator(program_, request, arena);
  std::vector<PolicyTrace> traces;
  for (const uint32_t policy : candidates) {
    if (head_fits(program_.policies[policy], resolved)) traces.push_back(traced(policy, evaluator, unknown));
  }
  return traces;
}

std::vector<cedar::EntityName> PolicySet::constants() const {
  std::vector<cedar::EntityName> names;
  const auto note = [&](const cedar::Value& value) {
    if (value.kind == cedar::Kind::entity) names.push_back(*value.entity);
  };
  for (const cedar::Node& node : program_.nodes) {
    if (node.op != cedar::Op::constant) continue;
    note(node.value);
    if (node.value.kind == cedar::Kind::set)
      std::for_each(node.value.set->items.begin(), node.value.set->items.end(), note);
  }
  return names;
}

// As cedar::place_of, without reading the lines before.
cedar::Place PolicySet::place(uint32_t position) const {
  const auto line = std::upper_bound(lines_.begin(), lines_.end(), position) - 1;
  const int column = cedar::place_of(std::string_view(text_).substr(*line), position - *line).column;
  return {static_cast<int>(line - lines_.begin()) + 1, column};
}

cedar::Place PolicySet::place_of_node(uint32_t node) const { return place(program_.nodes[node].position); }

cedar::Place PolicySet::place_of_policy(uint32_t policy) const { return place(program_.policies[policy].begin); }

std::string_view PolicySet::policy_text(uint32_t policy) const {
  const cedar::Policy& what = program_.policies[policy];
  return std::string_view(text_).substr(what.begin, what.end - what.begin);
}

std::string PolicySet::describe(const PolicyError& error) const {
  return fmt::format("policy {}: {}", cedar::in_quotes(program_.policies[error.policy].id),
                     cedar::describe(error.error, program_, text_));
}

}  // namespace redoubt
