#include "governance/policy_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <optional>
#include <set>

#include "governance/policy_actions.h"
#include "governance/policy_guarded.h"
#include "governance/policy_matrix.h"
#include "governance/policy_types.h"

namespace redoubt {
namespace {

constexpr size_t kMaxWarnings = 1000;

std::optional<std::string> type_warning(std::string_view type) {
  const auto known = entity_types();
  if (std::find(known.begin(), known.end(), type) != known.end()) return std::nullopt;
  if (!entity_type(type).empty()) return fmt::format("{} is no type here; {} is", type, entity_type(type));
  return fmt::format("{} is no type here", type);
}

constexpr std::array kRoles{kSystemAdmin, kSecurityAdmin, kAuditAdmin, kUserRole};

bool is_route(std::string_view name) {
  constexpr std::array<std::string_view, 5> kMethods{"GET", "POST", "PUT", "PATCH", "DELETE"};
  const size_t space = name.find(' ');
  return space != std::string_view::npos && std::ranges::count(kMethods, name.substr(0, space)) > 0 &&
         name.substr(space + 1).starts_with('/') && name.find(' ', space + 1) == std::string_view::npos;
}

std::optional<std::string> name_warning(const cedar::EntityName& name, const KnownNames& known) {
  if (auto warning = type_warning(name.type)) return warning;
  if (name.type == "Redoubt::Action" && find_action(name.id) == nullptr) {
    return fmt::format("there is no action {}", cedar::in_quotes(name.id));
  }
  if (name.type == "Redoubt::Team" && name.id.find('/') == std::string_view::npos) {
    return fmt::format("a team is named with its tenant, \"default/{}\"", name.id);
  }
  const auto missing = [&](const std::set<std::string>& there) { return !there.contains(std::string(name.id)); };
  const auto none = [&](std::string_view what) {
    return fmt::format("there is no {} {}", what, cedar::in_quotes(name.id));
  };
  if (name.type == "Redoubt::Route" && !is_route(name.id))
    return fmt::format("there is no route {}: one is named \"GET /metrics\"", cedar::in_quotes(name.id));
  if (known.models && name.type == "Redoubt::Model" && missing(*known.models)) return none("model");
  if (!known.people) return std::nullopt;
  const bool of_provider = name.id.find(':') != std::string_view::npos;  // comes in without being in the directory
  if (name.type == "Redoubt::User" && !of_provider && missing(known.people->users)) return none("user");
  if (name.type == "Redoubt::Service" && missing(known.people->services)) return none("service");
  if (name.type == "Redoubt::Team" && missing(known.people->teams)) return none("team");
  if (name.type == "Redoubt::Role" && !std::ranges::count(kRoles, name.id) && missing(known.people->roles))
    return fmt::format("nobody in the directory has the role {}; only a provider's group could give it",
                       cedar::in_quotes(name.id));
  if (name.type == "Redoubt::Tenant" && missing(known.people->tenants)) return none("tenant");
  return std::nullopt;
}

// Of `context`, `principal` or `resource`; what resources may have only the described ones say.
std::optional<std::string> attribute_warning(cedar::Op of, std::string_view key, const KnownNames& known) {
  constexpr std::array<std::string_view, 8> kContext{"now",   "source_ip",   "auth_method", "purpose",
                                                     "stage", "budget_left", "priority",    "scope"};
  constexpr std::array<std::string_view, 4> kPrincipal{"id", "kind", "tenant", "labels"};
  const auto among = [&](const auto& names) { return std::ranges::find(names, key) != names.end(); };
  const auto none = [&](std::string_view what) { return fmt::format("nothing is called {}.{}", what, key); };
  if (of == cedar::Op::context && !among(kContext)) return none("context");
  if (of == cedar::Op::principal && !among(kPrincipal)) return none("principal");
  if (of != cedar::Op::resource || known.described == nullptr || key == "tenant") return std::nullopt;
  bool any = false;
  for (const cedar::Entity& entity : known.described->all()) {
    if (entity.attributes == nullptr || entity.name.type == "Redoubt::Action") continue;
    any = any || !entity.attributes->fields.empty();
    if (entity.attributes->find(key) != nullptr) return std::nullopt;
  }
  return any ? std::optional(none("resource")) : std::nullopt;
}

// "context.purpose" of an attribute that is read from a variable; empty for any other expression.
std::string path_text(const cedar::Program& program, uint32_t at) {
  const cedar::Node& node = program.nodes[at];
  switch (node.op) {
    case cedar::Op::principal:
      return "principal";
    case cedar::Op::resource:
      return "resource";
    case cedar::Op::context:
      return "context";
    case cedar::Op::attribute: {
      const std::string object = path_text(program, program.children[node.first]);
      return object.empty() ? "" : object + "." + std::string(node.value.string());
    }
    default:
      return "";
  }
}

// A forbid that fails to be evaluated forbids nothing: what it reads must be there, or be asked for.
void check_forbid(const PolicySet& set, const cedar::Policy& policy,
                  const std::function<void(cedar::Place, std::string)>& add) {
  const cedar::Program& program = set.program();
  std::set<std::string> sure{"context.now", "principal.id", "principal.kind", "principal.tenant", "principal.labels"};
  std::map<std::string, uint32_t> read;
  set.for_each_node(policy, [&](uint32_t i) {
    const cedar::Node& node = program.nodes[i];
    if (node.op == cedar::Op::attribute) read.emplace(path_text(program, i), i);
    if (node.op != cedar::Op::has && node.op != cedar::Op::has_path) return;
    std::string path = path_text(program, program.children[node.first]);
    for (std::string_view rest = node.value.string(); !rest.empty();) {
      path.append(".").append(cedar::take_key(rest, node.op));
      sure.insert(path);
    }
  });
  for (const auto& [path, node] : read) {
    if (path.empty() || sure.contains(path)) continue;
    const size_t dot = path.rfind('.');
    add(set.place_of_node(node),
        fmt::format("a forbid reads {} without asking `{} has {}` first; where that is absent it forbids nothing", path,
                    path.substr(0, dot), path.substr(dot + 1)));
  }
}

// What never fits, whatever the request.
void check_types(const PolicySet& set, const std::function<void(cedar::Place, std::string)>& add) {
  const PolicyTypes types = types_of(set.program(), Vocabulary::served);
  auto misfit = types.misfits.begin();  // in the order of nodes, as these are of policies
  for (const cedar::Policy& policy : set.policies()) {
    const bool never = types.never_applies(policy);
    set.for_each_node(policy, [&](uint32_t node) {
      for (; misfit != types.misfits.end() && misfit->node <= node; ++misfit) {
        const char* end = never           ? ": the policy never applies"
                          : misfit->fails ? ": the policy fails wherever this is evaluated"
                                          : "";
        add(set.place_of_node(misfit->node), misfit->what + end);
      }
    });
  }
}

MatrixAxis::Principal row_of(const Principal& who) {
  MatrixAxis::Principal row{.label = who.id,
                            .type = std::string(principal_type(who.kind)),
                            .id = who.id,
                            .parents = {{"Redoubt::Tenant", who.tenant}}};
  for (const std::string& team : who.teams) row.parents.emplace_back("Redoubt::Team", who.tenant + "/" + team);
  for (const std::string& role : who.roles) row.parents.emplace_back("Redoubt::Role", role);
  return row;
}

Changeable changeable_by(const std::shared_ptr<const PolicySnapshot>& by, const std::vector<Principal>& who) {
  MatrixAxis axis{.principals = {}, .actions = {kManagePolicies}, .resources = {}};
  axis.resources.push_back({"", "Redoubt::Route", kChangeRoute});
  for (const Principal& one : who) axis.principals.push_back(row_of(one));
  const auto matrix = compute_matrix(by, axis);
  if (!matrix) return Changeable::depends;  // more of them than are computed
  const auto any = [&](Access access) { return std::ranges::find(matrix->cells, access) != matrix->cells.end(); };
  return any(Access::allowed) ? Changeable::yes : any(Access::depends) ? Changeable::depends : Changeable::no;
}

struct NamedTimes {
  std::set<int64_t> dates, spans;
};

// Where a policy makes a number of a span, each number in it may be one of the same unit.
NamedTimes times_in(const PolicySet& set, const cedar::Policy& policy) {
  NamedTimes found;
  std::set<int64_t> numbers, units;
  const auto note = [&](const cedar::Value& value) {
    if (value.kind == cedar::Kind::datetime) found.dates.insert(value.integer);
    if (value.kind == cedar::Kind::duration) found.spans.insert(value.integer);
    if (value.kind == cedar::Kind::integer) numbers.insert(value.integer);
  };
  set.for_each_node(policy, [&](uint32_t i) {
    const cedar::Node& node = set.program().nodes[i];
    if (const int64_t unit = cedar::unit_ms(node.op); unit > 0) units.insert(unit);
    if (node.op != cedar::Op::constant) return;
    note(node.value);
    if (node.value.kind == cedar::Kind::set)
      std::for_each(node.value.set->items.begin(), node.value.set->items.end(), note);
  });
  for (const int64_t unit : units) {
    for (const int64_t number : numbers) {  // it stays the same until one more is full
      int64_t span = 0;
      if (!__builtin_mul_overflow(number, unit, &span)) found.spans.insert({span, span + unit});
    }
  }
  return found;
}

}  // namespace

bool opens_policies(std::span<const std::string> scopes) {
  return scopes.empty() || std::ranges::find(scopes, kManagePolicies) != scopes.end() ||
         std::ranges::find(scopes, "admin") != scopes.end();
}

Changeable policies_changeable(const std::shared_ptr<const PolicySnapshot>& by, const Administrators& administrators) {
  if (administrators.all.empty())
    return changeable_by(by, {{.id = "somebody", .tenant = "default", .roles = {std::string(kSecurityAdmin)}}});
  if (changeable_by(by, administrators.all) == Changeable::no) return Changeable::no;
  const bool surely = !administrators.able.empty() && changeable_by(by, administrators.able) == Changeable::yes;
  return surely ? Changeable::yes : Changeable::depends;
}

std::optional<std::vector<int64_t>> named_times_ms(const PolicySnapshot& by, const cedar::Request& asks, size_t most) {
  cedar::Request request = asks;
  request.far = by.entities.get();
  std::set<int64_t> times;
  for (const PolicyTrace& trace : by.policies->trace(request, {.context = true})) {
    if (trace.outcome != PolicyTrace::Outcome::open) continue;  // whenever it is, it says the same
    const NamedTimes named = times_in(*by.policies, by.policies->policies()[trace.policy]);
    times.insert(named.dates.begin(), named.dates.end());
    if (times.size() > most) return std::nullopt;
    for (const int64_t date : named.dates) {
      for (const int64_t span : named.spans) {
        int64_t later = 0, earlier = 0;
        if (!__builtin_add_overflow(date, span, &later)) times.insert(later);
        if (!__builtin_sub_overflow(date, span, &earlier)) times.insert(earlier);
        if (times.size() > most) return std::nullopt;
      }
    }
  }
  return std::vector<int64_t>(times.begin(), times.end());
}

std::vector<std::string> policy_warnings(const PolicySet& set, const KnownNames& known) {
  struct Found {
    cedar::Place place;
    std::string what;
  };
  std::vector<Found> found;
  const auto add = [&](cedar::Place place, std::optional<std::string> what) {
    if (what && found.size() < kMaxWarnings) found.push_back({place, *std::move(what)});
  };
  std::optional<GuardedActions> guarded;
  if (known.guards != nullptr && known.described != nullptr) guarded.emplace(*known.guards, *known.described);
  for (uint32_t i = 0; i < set.policies().size(); ++i) {
    const cedar::Policy& policy = set.policies()[i];
    if (guarded) {
      if (std::string idle = guarded->why_idle(policy); !idle.empty()) add(set.place_of_policy(i), std::move(idle));
    }
    const std::pair<std::string_view, const cedar::Scope&> scopes[] = {
        {"principal", policy.principal}, {"action", policy.action}, {"resource", policy.resource}};
    for (const auto& [variable, scope] : scopes) {
      for (const cedar::EntityName* name : scope.names) add(set.place_of_policy(i), name_warning(*name, known));
      if (!scope.type.empty()) add(set.place_of_policy(i), type_warning(scope.type));
      const std::string_view type = scope.test == cedar::Scope::Test::equal ? scope.names.front()->type : scope.type;
      if (!type.empty() && !may_be(variable, type))
        add(set.place_of_policy(i), fmt::format("no {} is a {}: the policy never applies", variable, type));
    }
    if (policy.effect == cedar::Effect::forbid) check_forbid(set, policy, add);
    if (policy.action.test == cedar::Scope::Test::in && policy.action.names.empty()) {
      add(set.place_of_policy(i), "an empty list of actions: the policy never applies");
    }
  }
  for (uint32_t i = 0; i < set.program().nodes.size(); ++i) {
    const cedar::Node& node = set.program().nodes[i];
    if (node.op == cedar::Op::constant && node.value.kind == cedar::Kind::entity) {
      add(set.place_of_node(i), name_warning(*node.value.entity, known));
    }
    if (node.op == cedar::Op::attribute || node.op == cedar::Op::has || node.op == cedar::Op::has_path) {
      std::string_view rest = node.value.string();
      const std::string_view key = cedar::take_key(rest, node.op);
      const cedar::Op of = set.program().nodes[set.program().children[node.first]].op;
      add(set.place_of_node(i), attribute_warning(of, key, known));
    }
    if (node.op == cedar::Op::is) add(set.place_of_node(i), type_warning(node.value.string()));
  }
  check_types(set, add);
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
