#include "governance/policy_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "governance/policy_actions.h"

namespace redoubt {
namespace {

std::optional<std::string> type_warning(std::string_view type) {
  const auto known = entity_types();
  if (std::find(known.begin(), known.end(), type) != known.end()) return std::nullopt;
  if (!entity_type(type).empty()) return fmt::format("{} is no type here; {} is", type, entity_type(type));
  return fmt::format("{} is no type here", type);
}

std::optional<std::string> name_warning(const cedar::EntityName& name) {
  if (auto warning = type_warning(name.type)) return warning;
  if (name.type == "Redoubt::Action" && find_action(name.id) == nullptr) {
    return fmt::format("there is no action {}", cedar::in_quotes(name.id));
  }
  if (name.type == "Redoubt::Team" && name.id.find('/') == std::string_view::npos) {
    return fmt::format("a team is named with its tenant, \"default/{}\"", name.id);
  }
  return std::nullopt;
}

}  // namespace

std::vector<std::string> policy_warnings(const PolicySet& set) {
  struct Found {
    cedar::Place place;
    std::string what;
  };
  std::vector<Found> found;
  const auto add = [&](cedar::Place place, std::optional<std::string> what) {
    if (what) found.push_back({place, *std::move(what)});
  };
  for (uint32_t i = 0; i < set.policies().size(); ++i) {
    const cedar::Policy& policy = set.policies()[i];
    for (const cedar::Scope* scope : {&policy.principal, &policy.action, &policy.resource}) {
      for (const cedar::EntityName* name : scope->names) add(set.place_of_policy(i), name_warning(*name));
      if (!scope->type.empty()) add(set.place_of_policy(i), type_warning(scope->type));
    }
    if (policy.action.test == cedar::Scope::Test::in && policy.action.names.empty()) {
      add(set.place_of_policy(i), "an empty list of actions: the policy never applies");
    }
  }
  for (uint32_t i = 0; i < set.program().nodes.size(); ++i) {
    const cedar::Node& node = set.program().nodes[i];
    if (node.op == cedar::Op::constant && node.value.kind == cedar::Kind::entity) {
      add(set.place_of_node(i), name_warning(*node.value.entity));
    }
    if (node.op == cedar::Op::is) add(set.place_of_node(i), type_warning(node.value.string()));
    const bool from_text = node.op == cedar::Op::make_ip || node.op == cedar::Op::make_decimal ||
                           node.op == cedar::Op::make_datetime || node.op == cedar::Op::make_duration;
    // What could be read from a constant was folded away.
    if (from_text && set.program().nodes[set.program().children[node.first]].op == cedar::Op::constant) {
      add(set.place_of_node(i), "the text is not one of this type: the policy fails wherever this is evaluated");
    }
  }
  std::stable_sort(found.begin(), found.end(), [](const Found& a, const Found& b) {
    return a.place.line != b.place.line ? a.place.line < b.place.line : a.place.column < b.place.column;
  });
  std::vector<std::string> sentences;
  for (const Found& one : found) {
    sentences.push_back(fmt::format("line {}, column {}: {}", one.place.line, one.place.column, one.what));
  }
  return sentences;
}

}  // namespace redoubt
