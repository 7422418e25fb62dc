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

// Of the first `prefix` bits of an address.
uint64_t range_key(const cedar::IpRange& ip, uint8_t prefix) {
  uint64_t halves[2] = {};
  for (size_t i = 0; i < ip.bytes.size(); ++i) halves[i / 8] = halves[i / 8] << 8 | ip.bytes[i];
  const auto kept = [](uint64_t bits, int count) { return count >= 64 ? bits : count <= 0 ? 0 : bits >> (64 - count); };
  return together(static_cast<uint64_t>(prefix) << 1 | (ip.is_v6 ? 1 : 0), kept(halves[0], prefix),
                  kept(halves[1], prefix - 64));
}

// Three numbers, each below 2^21: 16 MiB of text name fewer entities.
uint64_t drawer_key(uint32_t principal, uint32_t action, uint32_t resource) {
  return static_cast<uint64_t>(principal) << 42 | static_cast<uint64_t>(action) << 21 | resource;
}

const Node& child_of(const Program& program, const Node& node, uint32_t i) {
  return program.nodes[program.children[node.first + i]];
}

// `variable == entity` or `variable in entity` as the first condition: what a head could have said as well.
std::optional<Scope> named_by(const Program& program, const std::vector<uint32_t>& conjuncts, Op variable) {
  if (conjuncts.empty()) return std::nullopt;
  const Node& node = program.nodes[conjuncts[0]];
  if (node.op != Op::equal && node.op != Op::in) return std::nullopt;
  const Node& right = child_of(program, node, 1);
  if (child_of(program, node, 0).op != variable || right.op != Op::constant || right.value.kind != Kind::entity) {
    return std::nullopt;
  }
  return Scope{.test = node.op == Op::equal ? Scope::Test::equal : Scope::Test::in, .names = {right.value.entity}};
}

}  // namespace

// Under which a head is filed; none where it can fit nothing (`action in []`).
std::vector<uint32_t> PolicyIndex::Names::of(const Scope& scope) {
  switch (scope.test) {
    case Scope::Test::any:
      return {0};
    case Scope::Test::is:
      return {number(types, scope.type)};
    case Scope::Test::equal:
      return {number(exact, *scope.names[0])};
    default:
      break;
  }
  std::vector<uint32_t> numbers;
  for (const cedar::EntityName* name : scope.names) numbers.push_back(number(groups, *name));
  std::sort(numbers.begin(), numbers.end());
  numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
  return numbers;
}

void PolicyIndex::Names::find(const cedar::EntityName& name, const cedar::Entity* entity,
                              std::vector<uint32_t>& out) const {
  const auto offer = [&](const auto& map, const auto& key) {
    if (const auto at = map.find(key); at != map.end()) out.push_back(at->second);
  };
  out.push_back(0);
  offer(types, name.type);
  offer(exact, name);
  offer(groups, name);
  if (entity == nullptr || groups.empty()) return;
  for (const cedar::EntityName* ancestor : entity->ancestors) {
    if (*ancestor != name) offer(groups, *ancestor);
  }
}

bool PolicyIndex::needs_head(const cedar::Policy& policy) {
  return policy.principal.test == Scope::Test::is_in || policy.resource.test == Scope::Test::is_in;
}

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

// The first condition that compares an attribute with a constant, or asks whether it lies in a constant range, with
// nothing before it but `has` along its path.
std::optional<PolicyIndex::Comparison> PolicyIndex::first_comparison(const Program& program,
                                                                     const std::vector<uint32_t>& conjuncts) {
  std::vector<Path> asked;  // by `has`, each as the path with the key it asks for
  for (const uint32_t conjunct : conjuncts) {
    const Node& node = program.nodes[conjunct];
    if (node.op == Op::has || node.op == Op::has_path) {
      auto path = path_of(program, program.children[node.first]);
      if (!path) return std::nullopt;
      for (std::string_view rest = node.value.string(); !rest.empty();) {
        path->keys.push_back(take_key(rest, node.op));
        asked.push_back(*path);
      }
      continue;
    }
    if (node.op != Op::equal && node.op != Op::is_in_range) return std::nullopt;
    const bool in_range = node.op == Op::is_in_range;
    const bool constant_first = !in_range && child_of(program, node, 0).op == Op::constant;
    const Node& constant = child_of(program, node, constant_first ? 0 : 1);
    auto path = path_of(program, program.children[node.first + (constant_first ? 1 : 0)]);
    if (constant.op != Op::constant || !path || path->keys.empty()) return std::nullopt;
    const bool is_ip = constant.value.kind == Kind::ip;
    if (in_range && !is_ip) return std::nullopt;
    const RangeLength length = is_ip ? RangeLength{constant.value.ip->prefix, constant.value.ip->is_v6} : RangeLength{};
    const auto value = in_range ? range_key(*constant.value.ip, length.prefix) : value_key(constant.value);
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
    path->in_range = in_range;
    return Comparison{std::move(*path), *value, length};
  }
  return std::nullopt;
}

void PolicyIndex::add(uint32_t policy, const Program& program) {
  const cedar::Policy& what = program.policies[policy];
  const std::vector<uint32_t> conjuncts = conjuncts_of(program, what);
  // A head that says nothing may be filed by what its first condition says.
  const auto numbers = [&](Names& names, const Scope& scope, Op variable) {
    const auto named = scope.test == Scope::Test::any ? named_by(program, conjuncts, variable) : std::nullopt;
    return names.of(named ? *named : scope);
  };
  const std::vector<uint32_t> principals = numbers(principals_, what.principal, Op::principal);
  const std::vector<uint32_t> resources = numbers(resources_, what.resource, Op::resource);
  const std::vector<uint32_t> actions = actions_.of(what.action);
  const auto comparison = first_comparison(program, conjuncts);
  for (const uint32_t principal : principals) {
    for (const uint32_t action : actions) {
      for (const uint32_t resource : resources) {
        Drawer& drawer = filed_[drawer_key(principal, action, resource)];
        if (!comparison) {
          drawer.plain.push_back(policy);
          continue;
        }
        auto told = std::find_if(drawer.told.begin(), drawer.told.end(),
                                 [&](const Told& other) { return other.path == comparison->path; });
        if (told == drawer.told.end()) told = drawer.told.insert(told, {.path = comparison->path});
        told->by_value[comparison->value].push_back(policy);
        std::vector<RangeLength>& lengths = told->lengths;
        if (told->path.in_range && std::find(lengths.begin(), lengths.end(), comparison->length) == lengths.end()) {
          lengths.push_back(comparison->length);
        }
        told->all.push_back(policy);
      }
    }
  }
}

void PolicyIndex::look_into(const Told& told, const ResolvedRequest& request, Unknown unknown,
                            std::vector<uint32_t>& out) {
  const auto add = [&](const std::vector<uint32_t>& policies) {
    out.insert(out.end(), policies.begin(), policies.end());
  };
  if (told.path.root == Op::context ? unknown.context : told.path.root == Op::principal && unknown.principal)
    return add(told.all);
  static constexpr cedar::RecordValue kEmpty{};
  const cedar::RecordValue* context = request.request.context;
  Value value = told.path.root == Op::principal  ? Value::of(&request.request.principal)
                : told.path.root == Op::resource ? Value::of(&request.request.resource)
                                                 : Value::of(context != nullptr ? context : &kEmpty);
  for (const std::string_view key : told.path.keys) {
    const cedar::Fields fields = request.request.fields_of(value);
    if (fields.none) return add(told.all);  // each of them fails to be evaluated, and must say so
    const Value* found = fields.find(key);
    if (found == nullptr) {
      if (!told.path.guarded) add(told.all);  // as above; with a guard they are just not satisfied
      return;
    }
    value = *found;
  }
  const auto offer = [&](uint64_t key) {
    if (const auto at = told.by_value.find(key); at != told.by_value.end()) add(at->second);
  };
  if (told.path.in_range) {
    if (value.kind != Kind::ip) return add(told.all);  // as above
    for (const RangeLength& length : told.lengths) {
      if (length.is_v6 == value.ip->is_v6 && length.prefix <= value.ip->prefix)
        offer(range_key(*value.ip, length.prefix));
    }
    return;
  }
  if (const auto key = value_key(value)) offer(*key);  // else equal to no constant that is filed here
}

void PolicyIndex::find(const ResolvedRequest& request, Unknown unknown, std::vector<uint32_t>& out) const {
  std::vector<uint32_t> principals, actions, resources;
  principals_.find(request.request.principal, request.principal, principals);
  actions_.find(request.request.action, request.action, actions);
  resources_.find(request.request.resource, request.resource, resources);
  out.clear();
  for (const uint32_t principal : principals) {
    for (const uint32_t action : actions) {
      for (const uint32_t resource : resources) {
        const auto at = filed_.find(drawer_key(principal, action, resource));
        if (at == filed_.end()) continue;
        out.insert(out.end(), at->second.plain.begin(), at->second.plain.end());
        for (const Told& told : at->second.told) look_into(told, request, unknown, out);
      }
    }
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
}

}  // namespace redoubt
