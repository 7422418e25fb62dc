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

}  // namespace redoubt::grammar
