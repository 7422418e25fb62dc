// Texts of tokens as a trie in one array, children after their parent, for walks that skip what cannot match.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace redoubt::grammar {

struct TokenTrie {
  struct Node {
    uint32_t end = 0;     // one past the last node below this one
    uint32_t tokens = 0;  // first of its tokens; they end where the next node's begin
    uint16_t depth = 0;   // bytes from the root, at least 1
    uint8_t byte = 0;
  };
  std::vector<Node> nodes;      // in the order of a walk, depth first; a sentinel after the last
  std::vector<int32_t> tokens;  // ids, in the order of their nodes

  std::vector<uint32_t> origin;  // of a part: each node's place in the whole trie; empty: this is the whole

  uint32_t size() const { return static_cast<uint32_t>(nodes.size() - 1); }

  using Entry = std::pair<std::string_view, int32_t>;  // text (not empty, at most 65,535 bytes) and id
  static TokenTrie build(std::vector<Entry> entries);
  void find_origins(const TokenTrie& whole);  // `whole` holds all texts of this one
};

}  // namespace redoubt::grammar
