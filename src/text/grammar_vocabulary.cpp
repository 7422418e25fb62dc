#include "text/grammar_vocabulary.h"

#include "text/grammar_mask_cache.h"

namespace redoubt::grammar {
namespace {

constexpr size_t kMaxTokenBytes = 4096;                // longer tokens are never allowed; none are published
constexpr size_t kMaxSharedBytes = size_t{128} << 20;  // then all are dropped, and made again as they are asked for

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
  trie_ = std::make_shared<const TokenTrie>(TokenTrie::build(std::move(entries)));
}

std::shared_ptr<const MaskEntry> Vocabulary::find_shared(const std::string& rule_text, uint32_t state) const {
  const std::lock_guard lock(mutex_);
  const auto rule = shared_.find(rule_text);
  if (rule == shared_.end()) return nullptr;
  const auto entry = rule->second.find(state);
  return entry == rule->second.end() ? nullptr : entry->second;
}

void Vocabulary::keep_shared(const std::string& rule_text, uint32_t state,
                             std::shared_ptr<const MaskEntry> entry) const {
  const std::lock_guard lock(mutex_);
  shared_bytes_ += entry->size_bytes();
  if (shared_bytes_ > kMaxSharedBytes) {
    shared_.clear();
    shared_bytes_ = entry->size_bytes();
  }
  if (!shared_.contains(rule_text)) shared_bytes_ += rule_text.size();
  shared_[rule_text][state] = std::move(entry);
}

}  // namespace redoubt::grammar
