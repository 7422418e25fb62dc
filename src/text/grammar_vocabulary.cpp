#include "text/grammar_vocabulary.h"

#include "text/grammar_mask_cache.h"

namespace redoubt::grammar {
namespace {

constexpr size_t kMaxTokenBytes = 4096;  // longer tokens are never allowed; none are published
// What is over these is dropped, and made again as it is asked for.
constexpr size_t kMaxRuleBytes = size_t{8} << 20;         // masks of one rule
constexpr size_t kMaxSharedTextBytes = size_t{16} << 20;  // rules, spelled out
constexpr size_t kMaxSharedRules = 16;                    // so 128 MiB in all

}  // namespace

Vocabulary::Vocabulary(const std::vector<std::string>& texts) {
  begin_.push_back(0);
  for (const std::string& text : texts) {
    if (text.size() <= kMaxTokenBytes) bytes_ += text;
    begin_.push_back(static_cast<uint32_t>(bytes_.size()));
  }
  std::vector<TokenTrie::Entry> entries;
  for (int32_t id = 0; id < vocab_size(); ++id)
    if (!text(id).empty()) entries.emplace_back(text(id), id);
  trie_ = std::make_shared<const TokenTrie>(TokenTrie::build(entries));
  slices_ = std::make_unique<const TokenSlices>(entries, *trie_, texts.size());
}

std::shared_ptr<const MaskEntry> Vocabulary::RuleMasks::find(uint32_t state) const {
  const std::lock_guard lock(mutex_);
  const auto entry = entries_.find(state);
  return entry == entries_.end() ? nullptr : entry->second;
}

void Vocabulary::RuleMasks::keep(uint32_t state, std::shared_ptr<const MaskEntry> entry) {
  const std::lock_guard lock(mutex_);
  bytes_ += entry->size_bytes();
  if (bytes_ > kMaxRuleBytes) {
    entries_.clear();
    bytes_ = entry->size_bytes();
  }
  entries_[state] = std::move(entry);
}

std::shared_ptr<Vocabulary::RuleMasks> Vocabulary::shared_masks(const std::string& rule_text) const {
  const std::lock_guard lock(mutex_);
  if (const auto it = shared_.find(rule_text); it != shared_.end()) return it->second;
  shared_bytes_ += rule_text.size();
  if (shared_bytes_ > kMaxSharedTextBytes || shared_.size() >= kMaxSharedRules) {
    shared_.clear();
    shared_bytes_ = rule_text.size();
  }
  return shared_[rule_text] = std::make_shared<RuleMasks>();
}

}  // namespace redoubt::grammar
