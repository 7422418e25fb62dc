#include "text/grammar_vocabulary.h"

#include "text/grammar_mask_cache.h"
#include "text/grammar_program.h"

namespace redoubt::grammar {
namespace {

constexpr size_t kMaxTokenBytes = 4096;  // longer tokens are never allowed; none are published

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

std::shared_ptr<const MaskEntry> RuleMasks::find(uint32_t state) const {
  const std::lock_guard lock(mutex_);
  const auto entry = entries_.find(state);
  return entry == entries_.end() ? nullptr : entry->second;
}

void RuleMasks::keep(uint32_t state, std::shared_ptr<const MaskEntry> entry) {
  const std::lock_guard lock(mutex_);
  entries_[state] = std::move(entry);
}

std::shared_ptr<RuleMasks> Vocabulary::shared_masks(const std::string& rule_text) const {
  const auto it = shared_.find(rule_text);
  return it == shared_.end() ? nullptr : it->second;
}

void Vocabulary::share_rules_of(const Program& program) {
  for (const auto& text : program.rule_text)
    if (text != nullptr) shared_.try_emplace(*text, std::make_shared<RuleMasks>());
  for (uint32_t s = 0; s < program.states.size(); ++s) {
    const Program::State& state = program.states[s];
    if (program.rule_text[state.rule] != nullptr && state.bytes_begin != state.bytes_end)
      program.masks->find(program, *this, nullptr, s);
  }
}

}  // namespace redoubt::grammar
