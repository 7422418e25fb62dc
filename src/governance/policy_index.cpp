#include "governance/policy_index.h"

#include <algorithm>
#include <cstring>

#include "governance/cedar_lexer.h"

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

// A pattern is filed under so many of its bytes, without a star between them.
constexpr size_t kPieceLengths[] = {8, 4, 2, 1};
constexpr size_t kMaxPieces = 64;  // of a pattern and a length, among which one is chosen
constexpr size_t kPieceCounts = 1 << 16;
constexpr size_t kMaxSearchedBytes = 4096;  // of a value; all patterns are tried on a longer one

uint64_t piece_key(std::string_view piece) {
  uint64_t bytes = 0;
  std::memcpy(&bytes, piece.data(), piece.size());
  return together(piece.size(), bytes, 0);
}

// Three numbers, each below 2^21: 16 MiB of text name fewer entities.
uint64_t drawer_key(uint32_t principal, uint32_t action, uint32_t resource) {
  return static_cast<uint64_t>(principal) << 42 | static_cast<uint64_t>(action) << 21 | resource;
}

bool is_order(Op op) { return op == Op::less || op == Op::less_equal || op == Op::greater || op == Op::greater_equal; }

// 5 < x is x > 5.
Op seen_from_the_right(Op op) {
  switch (op) {
    case Op::less:
      return Op::greater;
    case Op::less_equal:
      return Op::greater_equal;
    case Op::greater:
      return Op::less;
    case Op::greater_equal:
      return Op::less_equal;
    default:
      return op;
  }
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

std::optional<PolicyIndex::Question> PolicyIndex::path_of(const Program& program, uint32_t node) {
  Question path;
  const Node* at = &program.nodes[node];
  while (at->op == Op::attribute) {
    path.keys.insert(path.keys.begin(), at->value.string());
    at = &child_of(program, *at, 0);
  }
  if (at->op != Op::principal && at->op != Op::resource && at->op != Op::context) return std::nullopt;
  path.root = at->op;
  return path;
}

// A condition that is a question about an attribute with a constant, which may stand on either side of a comparison.
std::optional<PolicyIndex::FirstQuestion> PolicyIndex::asked_by(const Program& program, const Node& node) {
  Op test = node.op;
  if (test != Op::equal && test != Op::is_in_range && test != Op::like && !is_order(test)) return std::nullopt;
  const bool swaps = (test == Op::equal || is_order(test)) && child_of(program, node, 0).op == Op::constant;
  auto question = path_of(program, program.children[node.first + (swaps ? 1 : 0)]);
  if (!question || question->keys.empty()) return std::nullopt;
  question->test = swaps ? seen_from_the_right(test) : test;
  if (test == Op::like) {
    const std::string_view pattern = node.value.string();
    if (pattern.find_first_not_of(cedar::kWildcard) == std::string_view::npos) return std::nullopt;
    return FirstQuestion{*std::move(question), node.value};
  }
  const Node& constant = child_of(program, node, swaps ? 0 : 1);
  if (constant.op != Op::constant) return std::nullopt;
  const Kind kind = constant.value.kind;
  if (test == Op::equal && !value_key(constant.value)) return std::nullopt;
  if (test == Op::is_in_range && kind != Kind::ip) return std::nullopt;
  if (is_order(test)) {
    if (kind != Kind::integer && kind != Kind::datetime && kind != Kind::duration) return std::nullopt;
    question->kind = kind;
  }
  return FirstQuestion{*std::move(question), constant.value};
}

// The first condition of that form, with nothing before it but `has` along its path.
std::optional<PolicyIndex::FirstQuestion> PolicyIndex::first_question(const Program& program,
                                                                      const std::vector<uint32_t>& conjuncts) {
  std::vector<Question> asked;  // by `has`, each as the path with the key it asks for
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
    auto first = asked_by(program, node);
    if (!first) return std::nullopt;
    Question& question = first->question;
    // Each step asked for, in order, and nothing else.
    Question step{.root = question.root};
    for (size_t i = 0; i < asked.size(); ++i) {
      if (i == question.keys.size()) return std::nullopt;
      step.keys.push_back(question.keys[i]);
      if (asked[i] != step) return std::nullopt;
    }
    if (!asked.empty() && asked.size() != question.keys.size()) return std::nullopt;
    question.guarded = !asked.empty();
    return first;
  }
  return std::nullopt;
}

// Of the pieces of a pattern that have no star in them the one that the fewest patterns before it have, and the longest
// of those: what many begin with, "https://", tells none of them apart. How many have a piece is counted by its hash,
// and now and then too high: then a policy is looked at more often.
std::string_view PolicyIndex::rarest_piece(std::string_view pattern) {
  piece_counts_.resize(kPieceCounts);
  std::string_view rarest;
  uint32_t fewest = UINT32_MAX;
  for (const size_t length : kPieceLengths) {
    size_t pieces = 0;
    for (size_t at = 0; at + length <= pattern.size() && pieces < kMaxPieces; ++at) {
      const std::string_view piece = pattern.substr(at, length);
      if (const size_t star = piece.rfind(cedar::kWildcard); star != std::string_view::npos) {
        at += star;
        continue;
      }
      ++pieces;
      const uint32_t others = piece_counts_[piece_key(piece) % kPieceCounts]++;
      if (others < fewest) rarest = piece, fewest = others;
    }
  }
  return rarest;
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
  auto first = first_question(program, conjuncts);
  if (first && first->question.test == Op::like) first->constant = Value::of(rarest_piece(first->constant.string()));
  for (const uint32_t principal : principals) {
    for (const uint32_t action : actions) {
      for (const uint32_t resource : resources) {
        Drawer& drawer = filed_[drawer_key(principal, action, resource)];
        if (!first) {
          drawer.plain.push_back(policy);
          continue;
        }
        auto told = std::find_if(drawer.told.begin(), drawer.told.end(),
                                 [&](const Told& other) { return other.question == first->question; });
        if (told == drawer.told.end()) told = drawer.told.insert(told, {.question = first->question});
        told->file(policy, first->constant);
      }
    }
  }
}

void PolicyIndex::Told::file(uint32_t policy, const Value& constant) {
  all.push_back(policy);
  switch (question.test) {
    case Op::equal:
      by_value[*value_key(constant)].push_back(policy);
      return;
    case Op::is_in_range: {
      const RangeLength length{constant.ip->prefix, constant.ip->is_v6};
      by_value[range_key(*constant.ip, length.prefix)].push_back(policy);
      if (std::find(range_lengths.begin(), range_lengths.end(), length) == range_lengths.end())
        range_lengths.push_back(length);
      return;
    }
    case Op::like:
      by_value[piece_key(constant.string())].push_back(policy);
      piece_lengths |= constant.size;
      return;
    default:
      by_order[constant.integer].push_back(policy);
  }
}

void PolicyIndex::Told::look_up(const Value& value, std::vector<uint32_t>& out) const {
  const auto add = [&](const std::vector<uint32_t>& policies) {
    out.insert(out.end(), policies.begin(), policies.end());
  };
  const auto offer = [&](uint64_t key) {
    if (const auto at = by_value.find(key); at != by_value.end()) add(at->second);
  };
  switch (question.test) {
    case Op::equal:
      if (const auto key = value_key(value)) offer(*key);  // else equal to no constant that is filed here
      return;
    case Op::is_in_range:
      if (value.kind != Kind::ip) return add(all);  // each of them fails to be evaluated, and must say so
      for (const RangeLength& length : range_lengths) {
        if (length.is_v6 == value.ip->is_v6 && length.prefix <= value.ip->prefix)
          offer(range_key(*value.ip, length.prefix));
      }
      return;
    case Op::like: {
      if (value.kind != Kind::string || value.size > kMaxSearchedBytes) return add(all);
      std::vector<const std::vector<uint32_t>*> found;  // a piece may come many times
      for (const size_t length : kPieceLengths) {
        if ((piece_lengths & length) == 0) continue;
        for (size_t at = 0; at + length <= value.size; ++at) {
          const auto filed = by_value.find(piece_key(value.string().substr(at, length)));
          if (filed != by_value.end()) found.push_back(&filed->second);
        }
      }
      std::ranges::sort(found);
      found.erase(std::unique(found.begin(), found.end()), found.end());
      for (const std::vector<uint32_t>* policies : found) add(*policies);
      return;
    }
    default: {
      if (value.kind != question.kind) return add(all);
      const bool is_below = question.test == Op::less || question.test == Op::less_equal;  // the constant is above
      const bool skips_equal = question.test == Op::less || question.test == Op::greater_equal;
      const auto middle = skips_equal ? by_order.upper_bound(value.integer) : by_order.lower_bound(value.integer);
      const auto end = is_below ? by_order.end() : middle;
      for (auto at = is_below ? middle : by_order.begin(); at != end; ++at) add(at->second);
    }
  }
}

void PolicyIndex::Told::look_into(const ResolvedRequest& request, Unknown unknown, std::vector<uint32_t>& out) const {
  const auto add_all = [&] { out.insert(out.end(), all.begin(), all.end()); };
  if (question.root == Op::context ? unknown.context : question.root == Op::principal && unknown.principal)
    return add_all();
  static constexpr cedar::RecordValue kEmpty{};
  const cedar::RecordValue* context = request.request.context;
  Value value = question.root == Op::principal  ? Value::of(&request.request.principal)
                : question.root == Op::resource ? Value::of(&request.request.resource)
                                                : Value::of(context != nullptr ? context : &kEmpty);
  for (const std::string_view key : question.keys) {
    const cedar::Fields fields = request.request.fields_of(value);
    const Value* found = fields.none ? nullptr : fields.find(key);
    if (found == nullptr) {
      // They fail, and must say so; with a guard they are just not satisfied where there is no such attribute.
      if (fields.none || !question.guarded) add_all();
      return;
    }
    value = *found;
  }
  look_up(value, out);
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
        for (const Told& told : at->second.told) told.look_into(request, unknown, out);
      }
    }
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
}

}  // namespace redoubt
