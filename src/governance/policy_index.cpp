#include "governance/policy_index.h"

#include <algorithm>

namespace redoubt {
namespace {

using cedar::Kind;
using cedar::Node;
using cedar::Op;
using cedar::Program;
using cedar::Scope;
using cedar::Value;

constexpr uint64_t kAny = 0;

uint64_t type_key(std::string_view type) { return cedar::hash_bytes(type, 2); }

// Under which a head is filed; none where it can fit nothing (`action in []`).
std::vector<uint64_t> keys_of(const Scope& scope) {
  switch (scope.test) {
    case Scope::Test::any:
      return {kAny};
    case Scope::Test::is:
      return {type_key(scope.type)};
    default:
      break;
  }
  std::vector<uint64_t> keys;
  for (const cedar::EntityName* name : scope.names) keys.push_back(name->hash);
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  return keys;
}

uint64_t together(uint64_t a, uint64_t b, uint64_t c) {
  constexpr uint64_t kOdd = 0x9E3779B97F4A7C15u;
  uint64_t key = (a ^ 0x5851F42D4C957F2Du) * kOdd;
  key = (key ^ key >> 32 ^ b) * kOdd;
  key = (key ^ key >> 32 ^ c) * kOdd;
  return key ^ key >> 32;
}

// Empty for sets, records and addresses, which are not looked up.
std::optional<uint64_t> value_key(const Value& value) {
  const auto kind = static_cast<uint64_t>(value.kind);
  switch (value.kind) {
    case Kind::boolean:
      return together(kind, value.boolean, 0);
    case Kind::string:
      return together(kind, cedar::hash_bytes(value.string()), 0);
    case Kind::entity:
      return together(kind, value.entity->hash, 0);
    case Kind::integer:
    case Kind::decimal:
    case Kind::datetime:
    case Kind::duration:
      return together(kind, static_cast<uint64_t>(value.integer), 0);
    default:
      return std::nullopt;
  }
}

// The keys of one entity of a request that some policy uses.
template <class Keys>
void keys_in_use(const cedar::EntityName& name, const cedar::Entity* entity, const Keys& used,
                 std::vector<uint64_t>& out) {
  const auto offer = [&](uint64_t key) {
    if (used.contains(key)) out.push_back(key);
  };
  offer(kAny);
  offer(type_key(name.type));
  offer(name.hash);
  if (entity == nullptr) return;
  for (const cedar::EntityName* ancestor : entity->ancestors) offer(ancestor->hash);
}

const Node& child_of(const Program& program, const Node& node, uint32_t i) {
  return program.nodes[program.children[node.first + i]];
}

// `variable == entity` or `variable in entity` as the first condition: what a head could have said as well.
std::optional<uint64_t> named_by(const Program& program, const std::vector<uint32_t>& conjuncts, Op variable) {
  if (conjuncts.empty()) return std::nullopt;
  const Node& node = program.nodes[conjuncts[0]];
  if (node.op != Op::equal && node.op != Op::in) return std::nullopt;
  const Node& right = child_of(program, node, 1);
  if (child_of(program, node, 0).op != variable || right.op != Op::constant || right.value.kind != Kind::entity) {
    return std::nullopt;
  }
  return right.value.entity->hash;
}

}  // namespace

std::vector<uint32_t> conjuncts_of(const Program& program, const cedar::Policy& policy) {
  std::vector<uint32_t> out, open;
  for (const uint32_t condition : policy.conditions) {
    open.push_back(condition);
    while (!open.empty()) {
      const uint32_t at = open.back();
      open.pop_back();
      const Node& node = program.nodes[at];
      if (node.op != Op::logical_and) {
        out.push_back(at);
        continue;
      }
      for (uint32_t i = node.count; i-- > 0;) open.push_back(program.children[node.first + i]);
    }
  }
  return out;
}

std::optional<PolicyIndex::Path> PolicyIndex::path_of(const Program& program, uint32_t node) {
  Path path;
  const Node* at = &program.nodes[node];
  while (at->op == Op::attribute) {
    path.keys.insert(path.keys.begin(), at->value.string());
    at = &child_of(program, *at, 0);
  }
  if (at->op != Op::principal && at->op != Op::resource && at->op != Op::context) return std::nullopt;
  path.root = at->op;
  return path;
}

// The first condition that compares an attribute with a constant, with nothing before it but `has` along its path.
std::optional<PolicyIndex::Comparison> PolicyIndex::first_comparison(const Program& program,
                                                                     const std::vector<uint32_t>& conjuncts) {
  std::vector<Path> asked;  // by `has`, each as the path with the key it asks for
  for (const uint32_t conjunct : conjuncts) {
    const Node& node = program.nodes[conjunct];
    if (node.op == Op::has || node.op == Op::has_path) {
      auto path = path_of(program, program.children[node.first]);
      if (!path) return std::nullopt;
      for (std::string_view rest = node.value.string(); !rest.empty();) {
        const std::string_view key = rest.substr(0, node.op == Op::has_path ? rest.find('.') : rest.size());
        rest.remove_prefix(std::min(rest.size(), key.size() + 1));
        path->keys.push_back(key);
        asked.push_back(*path);
      }
      continue;
    }
    if (node.op != Op::equal) return std::nullopt;
    const bool constant_first = child_of(program, node, 0).op == Op::constant;
    const Node& constant = child_of(program, node, constant_first ? 0 : 1);
    auto path = path_of(program, program.children[node.first + (constant_first ? 1 : 0)]);
    if (constant.op != Op::constant || !path || path->keys.empty()) return std::nullopt;
    const auto value = value_key(constant.value);
    if (!value) return std::nullopt;
    // Each step asked for, in order, and nothing else.
    Path step{.root = path->root};
    for (size_t i = 0; i < asked.size(); ++i) {
      if (i == path->keys.size()) return std::nullopt;
      step.keys.push_back(path->keys[i]);
      if (asked[i] != step) return std::nullopt;
    }
    if (!asked.empty() && asked.size() != path->keys.size()) return std::nullopt;
    path->guarded = !asked.empty();
    return Comparison{std::move(*path), *value};
  }
  return std::nullopt;
}

void PolicyIndex::add(uint32_t policy, const Program& program) {
  const cedar::Policy& what = program.policies[policy];
  const std::vector<uint32_t> conjuncts = conjuncts_of(program, what);
  std::vector<uint64_t> principals = keys_of(what.principal), resources = keys_of(what.resource);
  const auto refine = [&](const Scope& scope, Op variable, std::vector<uint64_t>& keys) {
    if (scope.test != Scope::Test::any) return;
    if (const auto named = named_by(program, conjuncts, variable)) keys = {*named};
  };
  refine(what.principal, Op::principal, principals);
  refine(what.resource, Op::resource, resources);
  const auto comparison = first_comparison(program, conjuncts);
  for (const uint64_t principal : principals) {
    for (const uint64_t action : keys_of(what.action)) {
      for (const uint64_t resource : resources) {
        Drawer& drawer = filed_[together(principal, action, resource)];
        principals_.insert(principal);
        actions_.insert(action);
        resources_.insert(resource);
        if (!comparison) {
          drawer.plain.push_back(policy);
          continue;
        }
        auto told = std::find_if(drawer.told.begin(), drawer.told.end(),
                                 [&](const Told& other) { return other.path == comparison->path; });
        if (told == drawer.told.end()) told = drawer.told.insert(told, {.path = comparison->path});
        told->by_value[comparison->value].push_back(policy);
        told->all.push_back(policy);
      }
    }
  }
}

void PolicyIndex::look_into(const Told& told, const ResolvedRequest& request, std::vector<uint32_t>& out) {
  const auto add = [&](const std::vector<uint32_t>& policies) {
    out.insert(out.end(), policies.begin(), policies.end());
  };
  static constexpr cedar::RecordValue kEmpty{};
  const cedar::RecordValue* context = request.request.context;
  Value value = told.path.root == Op::principal  ? Value::of(&request.request.principal)
                : told.path.root == Op::resource ? Value::of(&request.request.resource)
                                                 : Value::of(context != nullptr ? context : &kEmpty);
  for (const std::string_view key : told.path.keys) {
    const cedar::RecordValue* record = nullptr;
    if (value.kind == Kind::record) {
      record = value.record;
    } else if (value.kind == Kind::entity) {
      const cedar::Entity* entity = request.request.find(*value.entity);
      record = entity != nullptr ? entity->attributes : nullptr;
    } else {
      return add(told.all);  // each of them fails to be evaluated, and must say so
    }
    const Value* found = record != nullptr ? record->find(key) : nullptr;
    if (found == nullptr) {
      if (!told.path.guarded) add(told.all);  // as above; with a guard they are just not satisfied
      return;
    }
    value = *found;
  }
  const auto key = value_key(value);
  if (!key) return;  // equal to no constant that is filed here
  if (const auto at = told.by_value.find(*key); at != told.by_value.end()) add(at->second);
}

void PolicyIndex::find(const ResolvedRequest& request, std::vector<uint32_t>& out) const {
  std::vector<uint64_t> principals, actions, resources;
  keys_in_use(request.request.principal, request.principal, principals_, principals);
  keys_in_use(request.request.action, request.action, actions_, actions);
  keys_in_use(request.request.resource, request.resource, resources_, resources);
  out.clear();
  for (const uint64_t principal : principals) {
    for (const uint64_t action : actions) {
      for (const uint64_t resource : resources) {
        const auto at = filed_.find(together(principal, action, resource));
        if (at == filed_.end()) continue;
        out.insert(out.end(), at->second.plain.begin(), at->second.plain.end());
        for (const Told& told : at->second.told) look_into(told, request, out);
      }
    }
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
}

}  // namespace redoubt
