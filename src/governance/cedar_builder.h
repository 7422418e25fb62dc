// Puts nodes into a Program: children before parents, constants folded, depth bounded.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "governance/cedar_program.h"

namespace redoubt::cedar {

class Builder {
 public:
  Builder(std::string_view text, int max_depth, Arena& arena) : text_(text), max_depth_(max_depth), arena_(arena) {}

  Program program;
  Arena& arena() { return arena_; }

  uint32_t constant(Value value, size_t position);
  // Errors: the expression is nested deeper than the limit.
  Result<uint32_t> node(Op op, std::span<const uint32_t> children, size_t position, Value value = {});
  Result<uint32_t> record(std::span<const uint32_t> children, std::span<const std::string_view> keys, size_t position);

 private:
  bool all_constant(std::span<const uint32_t> children) const;
  uint32_t add(Node node, int depth);

  std::string_view text_;
  int max_depth_;
  Arena& arena_;
  std::vector<uint16_t> depths_;  // of each node
};

}  // namespace redoubt::cedar
