// The texts of a tokenizer's tokens, as masks need them.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/grammar.h"
#include "text/token_slices.h"
#include "text/token_trie.h"

namespace redoubt::grammar {

struct MaskEntry;
class Program;

// Masks of a rule without calls, by state, counted from the rule's first.
class RuleMasks {
 public:
  std::shared_ptr<const MaskEntry> find(uint32_t state) const;
  void keep(uint32_t state, std::shared_ptr<const MaskEntry> entry);

 private:
  mutable std::mutex mutex_;
  std::unordered_map<uint32_t, std::shared_ptr<const MaskEntry>> entries_;
};

class Vocabulary : public GrammarVocabulary {
 public:
  // texts[id] is the token's bytes, "" for a token that no grammar may produce.
  explicit Vocabulary(const std::vector<std::string>& texts);
  int32_t vocab_size() const override { return static_cast<int32_t>(begin_.size()) - 1; }
  std::string_view text(int32_t id) const {  // "" for an unknown id too
    if (id < 0 || id >= vocab_size()) return {};
    return std::string_view(bytes_).substr(begin_[id], begin_[id + 1] - begin_[id]);
  }
  const std::shared_ptr<const TokenTrie>& trie() const { return trie_; }
  const TokenSlices& slices() const { return *slices_; }

  // The masks that all grammars with this rule share; null: of this rule none are.
  std::shared_ptr<RuleMasks> shared_masks(const std::string& rule_text) const;
  // Finds the masks of the program's rules without calls, and shares them from now on. Before the vocabulary is used.
  // Only for rules that are ours: time would tell a tenant which rules of its own another has used.
  void share_rules_of(const Program& program);

 private:
  std::string bytes_;
  std::vector<uint32_t> begin_;
  std::shared_ptr<const TokenTrie> trie_;
  std::unique_ptr<const TokenSlices> slices_;
  std::unordered_map<std::string, std::shared_ptr<RuleMasks>> shared_;  // by the rule spelled out
};

}  // namespace redoubt::grammar
