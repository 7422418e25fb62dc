#include "text/token_trie.h"

#include <algorithm>

namespace redoubt::grammar {

TokenTrie TokenTrie::build(std::vector<Entry> entries) {
  std::sort(entries.begin(), entries.end());
  entries.erase(std::unique(entries.begin(), entries.end()), entries.end());
  TokenTrie trie;
  std::vector<uint32_t> path;  // the nodes of the text before
  std::string_view before;
  for (const auto& [text, id] : entries) {
    size_t shared = 0;
    while (shared < before.size() && shared < text.size() && before[shared] == text[shared]) ++shared;
    while (path.size() > shared) {
      trie.nodes[path.back()].end = static_cast<uint32_t>(trie.nodes.size());
      path.pop_back();
    }
    for (size_t i = shared; i < text.size(); ++i) {
      path.push_back(static_cast<uint32_t>(trie.nodes.size()));
      trie.nodes.push_back(
          {0, static_cast<uint32_t>(trie.tokens.size()), static_cast<uint16_t>(i + 1), static_cast<uint8_t>(text[i])});
    }
    trie.tokens.push_back(id);
    before = text;
  }
  for (const uint32_t node : path) trie.nodes[node].end = static_cast<uint32_t>(trie.nodes.size());
  trie.nodes.push_back({0, static_cast<uint32_t>(trie.tokens.size()), 0, 0});
  return trie;
}

// Both are in the order of a walk, so one pass over each is enough.
void TokenTrie::find_origins(const TokenTrie& whole) {
  origin.clear();
  std::vector<uint32_t> path;  // of the whole's nodes, down to the node before
  for (uint32_t i = 0; i < size(); ++i) {
    path.resize(nodes[i].depth - 1u);
    uint32_t at = path.empty() ? 0 : path.back() + 1;
    if (!origin.empty() && nodes[i - 1].depth >= nodes[i].depth) {
      // A later sibling of a node that was passed: go on behind that one.
      uint32_t sibling = i - 1;
      while (nodes[sibling].depth > nodes[i].depth) --sibling;
      at = whole.nodes[origin[sibling]].end;
    }
    while (whole.nodes[at].byte != nodes[i].byte) at = whole.nodes[at].end;
    origin.push_back(at);
    path.push_back(at);
  }
}

}  // namespace redoubt::grammar
