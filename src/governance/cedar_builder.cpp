#include "governance/cedar_builder.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "governance/cedar_extensions.h"
#include "governance/cedar_lexer.h"

namespace redoubt::cedar {
namespace {

// The value of ip("10.0.0.0/8") and the like. Empty where the text is none: that is an error when it is evaluated, not
// before, because a condition in front may keep it from being reached.
std::optional<Value> folded_extension(Op op, const Value& argument, Arena& arena) {
  const auto kind = kind_made_by(op);
  if (!kind || argument.kind != Kind::string) return std::nullopt;
  return parse_extension(*kind, argument.string(), arena);
}

}  // namespace

uint32_t Builder::add(Node node, int depth) {
  program.nodes.push_back(node);
  depths_.push_back(static_cast<uint16_t>(depth));
  return static_cast<uint32_t>(program.nodes.size() - 1);
}

uint32_t Builder::constant(Value value, size_t position) {
  return add({.op = Op::constant, .position = static_cast<uint32_t>(position), .value = value}, 1);
}

bool Builder::all_constant(std::span<const uint32_t> children) const {
  return std::all_of(children.begin(), children.end(),
                     [&](uint32_t child) { return program.nodes[child & ~kSubtract].op == Op::constant; });
}

Result<uint32_t> Builder::node(Op op, std::span<const uint32_t> children, size_t position, Value value) {
  if (op == Op::set && all_constant(children)) {
    std::vector<Value> items;
    for (const uint32_t child : children) items.push_back(program.nodes[child].value);
    return constant(arena_.set(items), position);
  }
  if (children.size() == 1 && all_constant(children)) {
    if (const auto folded = folded_extension(op, program.nodes[children[0]].value, arena_)) {
      return constant(*folded, position);
    }
  }
  int depth = 0;
  for (const uint32_t child : children) depth = std::max(depth, static_cast<int>(depths_[child & ~kSubtract]));
  if (depth + 1 > max_depth_) {
    return error_at(text_, position, fmt::format("expressions are nested deeper than {}", max_depth_));
  }
  const auto first = static_cast<uint32_t>(program.children.size());
  program.children.insert(program.children.end(), children.begin(), children.end());
  program.keys.resize(program.children.size());
  return add({op, first, static_cast<uint32_t>(children.size()), static_cast<uint32_t>(position), value}, depth + 1);
}

Result<uint32_t> Builder::record(std::span<const uint32_t> children, std::span<const std::string_view> keys,
                                 size_t position) {
  if (all_constant(children)) {
    std::vector<Field> fields;
    for (size_t i = 0; i < children.size(); ++i) fields.push_back({keys[i], program.nodes[children[i]].value});
    return constant(arena_.record(fields), position);
  }
  REDOUBT_TRY(const uint32_t made, node(Op::record, children, position));
  std::copy(keys.begin(), keys.end(), program.keys.begin() + program.nodes[made].first);
  return made;
}

}  // namespace redoubt::cedar
