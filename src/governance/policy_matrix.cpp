#include "governance/policy_matrix.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

#include "governance/policy_actions.h"

namespace redoubt {
namespace {

using Outcome = PolicyTrace::Outcome;

class AxisMaker {
 public:
  void name(const cedar::EntityName& name) {
    const std::string label = cedar::to_text(name), type(name.type), id(name.id);
    if (is_group_type(type)) {
      principals_.insert({.label = "in " + label, .type = "Redoubt::User", .id = "", .parents = {{type, id}}});
    } else if (is_principal_type(type)) {
      principals_.insert({.label = label, .type = type, .id = id});
    } else if (is_resource_type(type)) {
      resources_.insert({label, type, id});
    }
  }
  void program(const PolicySet& set) {
    for (const cedar::Policy& policy : set.policies()) {
      for (const cedar::Scope* scope : {&policy.principal, &policy.resource}) {
        for (const cedar::EntityName* named : scope->names) name(*named);
      }
      if (is_principal_type(policy.principal.type)) anybody(policy.principal.type);
    }
    for (const cedar::EntityName& named : set.constants()) name(named);
  }
  MatrixAxis made() {
    anybody("Redoubt::User");
    for (const std::string_view type : entity_types()) {
      if (is_resource_type(type)) resources_.insert({fmt::format("any other {}", type), std::string(type), ""});
    }
    MatrixAxis axis;
    axis.principals.assign(principals_.begin(), principals_.end());
    axis.resources.assign(resources_.begin(), resources_.end());
    for (const ActionEntry& action : action_table()) {
      const bool is_group = std::any_of(action_table().begin(), action_table().end(),
                                        [&](const ActionEntry& other) { return other.group == action.name; });
      if (!is_group) axis.actions.emplace_back(action.name);
    }
    return axis;
  }

 private:
  void anybody(std::string_view type) {
    principals_.insert({.label = fmt::format("any {}", type), .type = std::string(type), .id = ""});
  }
  std::set<MatrixAxis::Principal> principals_;
  std::set<MatrixAxis::Resource> resources_;
};

// The principal of a row, with what it belongs to. One that is described has what the description says.
std::shared_ptr<const cedar::Entities> entities_of(const MatrixAxis::Principal& row) {
  auto entities = std::make_shared<cedar::Entities>();
  cedar::Arena& arena = entities->arena();
  std::vector<cedar::EntityName> parents;
  for (const auto& [type, id] : row.parents) parents.push_back(*arena.entity(type, id));
  entities->add(*arena.entity(row.type, row.id), nullptr, nullptr, parents);
  if (!entities->close()) return nullptr;
  return entities;
}

struct Weighed {
  bool surely = false, perhaps = false;
  void count(Outcome outcome) {
    surely = surely || outcome == Outcome::satisfied;
    perhaps = perhaps || outcome == Outcome::open;
  }
};

Access access_of(const PolicySnapshot& by, const cedar::Request& request, PolicySet::Unknown unknown) {
  Weighed permits, forbids, guaranteed;
  for (const PolicyTrace& trace : by.guards->trace(request, unknown)) {
    // A guard that fails denies.
    const bool is_permit = by.guards->policies()[trace.policy].effect == cedar::Effect::permit;
    const bool fails = trace.outcome == Outcome::failed;
    (is_permit && !fails ? guaranteed : forbids).count(fails ? Outcome::satisfied : trace.outcome);
  }
  if (!forbids.surely && guaranteed.surely) return forbids.perhaps ? Access::depends : Access::allowed;
  cedar::Arena arena;
  if (const auto route = route_request(request, arena)) {  // asked about before, as a server does
    for (const PolicyTrace& trace : by.policies->trace(*route, unknown)) {
      const bool is_forbid = by.policies->policies()[trace.policy].effect == cedar::Effect::forbid;
      if (is_forbid && !by.policies->waits_for_model(trace.policy)) forbids.count(trace.outcome);
    }
  }
  for (const PolicyTrace& trace : by.policies->trace(request, unknown)) {
    (by.policies->policies()[trace.policy].effect == cedar::Effect::permit ? permits : forbids).count(trace.outcome);
  }
  if (forbids.surely) return Access::forbidden;
  if (!permits.surely && !permits.perhaps) return Access::denied;
  return permits.surely && !forbids.perhaps ? Access::allowed : Access::depends;
}

template <class T>
std::vector<T> merged(const std::vector<T>& a, const std::vector<T>& b) {
  std::set<T> all(a.begin(), a.end());
  all.insert(b.begin(), b.end());
  return {all.begin(), all.end()};
}

}  // namespace

std::string_view access_name(Access access) {
  switch (access) {
    case Access::allowed:
      return "allowed";
    case Access::denied:
      return "denied";
    case Access::forbidden:
      return "forbidden";
    case Access::depends:
      return "depends";
  }
  return "";
}

MatrixAxis axis_of(const PolicySnapshot& snapshot) {
  AxisMaker maker;
  maker.program(*snapshot.policies);
  maker.program(*snapshot.guards);
  for (const cedar::Entity& entity : snapshot.entities->all()) maker.name(entity.name);
  return maker.made();
}

MatrixAxis joined(const MatrixAxis& a, const MatrixAxis& b) {
  return {merged(a.principals, b.principals), a.actions, merged(a.resources, b.resources)};
}

Result<Matrix> compute_matrix(const std::shared_ptr<const PolicySnapshot>& by, const MatrixAxis& axis,
                              const cedar::RecordValue* context) {
  if (axis.cells() > kMaxMatrixCells) {
    return invalid(fmt::format("matrix: {} cells, at most {}", axis.cells(), kMaxMatrixCells));
  }
  Matrix matrix{.axis = axis};
  matrix.cells.reserve(axis.cells());
  for (const MatrixAxis::Principal& row : axis.principals) {
    const auto own = entities_of(row);
    cedar::Request request{
        .principal = cedar::entity_name(row.type, row.id), .context = context, .far = by->entities.get()};
    const bool described = by->entities->find(request.principal) != nullptr;
    request.near = described ? nullptr : own.get();
    const bool general = context == nullptr;
    const PolicySet::Unknown unknown{.context = general, .principal = general && !described};
    for (const std::string& action : axis.actions) {
      request.action = cedar::entity_name("Redoubt::Action", action);
      for (const MatrixAxis::Resource& resource : axis.resources) {
        request.resource = cedar::entity_name(resource.type, resource.id);
        matrix.cells.push_back(access_of(*by, request, unknown));
      }
    }
  }
  return matrix;
}

Json to_json(const Matrix& matrix) {
  Json cells = Json::array();
  for (size_t p = 0; p < matrix.axis.principals.size(); ++p) {
    for (size_t a = 0; a < matrix.axis.actions.size(); ++a) {
      for (size_t r = 0; r < matrix.axis.resources.size(); ++r) {
        cells.push_back({{"principal", matrix.axis.principals[p].label},
                         {"action", matrix.axis.actions[a]},
                         {"resource", matrix.axis.resources[r].label},
                         {"access", access_name(matrix.at(p, a, r))}});
      }
    }
  }
  return {{"cells", std::move(cells)}};
}

Result<std::vector<MatrixChange>> changes(const std::shared_ptr<const PolicySnapshot>& before,
                                          const std::shared_ptr<const PolicySnapshot>& after) {
  const MatrixAxis axis = joined(axis_of(*before), axis_of(*after));
  REDOUBT_TRY(const Matrix old_one, compute_matrix(before, axis));
  REDOUBT_TRY(const Matrix new_one, compute_matrix(after, axis));
  std::vector<MatrixChange> out;
  for (size_t p = 0; p < axis.principals.size(); ++p) {
    for (size_t a = 0; a < axis.actions.size(); ++a) {
      for (size_t r = 0; r < axis.resources.size(); ++r) {
        const Access was = old_one.at(p, a, r), is = new_one.at(p, a, r);
        if (was != is) out.push_back({axis.principals[p].label, axis.actions[a], axis.resources[r].label, was, is});
      }
    }
  }
  return out;
}

Json to_json(const std::vector<MatrixChange>& changes) {
  Json list = Json::array();
  for (const MatrixChange& change : changes) {
    list.push_back({{"principal", change.principal},
                    {"action", change.action},
                    {"resource", change.resource},
                    {"before", access_name(change.before)},
                    {"after", access_name(change.after)}});
  }
  return list;
}

}  // namespace redoubt
