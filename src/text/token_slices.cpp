#include "text/token_slices.h"

#include <algorithm>
#include <optional>

#include "core/utf8.h"

namespace redoubt::grammar {
namespace {

constexpr uint32_t kMaxLength = 32;  // characters of a slice's tokens; longer ones (rows of dashes) are few

constexpr Utf8Step kLower[] = {{'a', 'z', 0}};
constexpr Utf8Step kLetters[] = {{'A', 'Z', 0}, {'a', 'z', 0}};
constexpr Utf8Step kNames[] = {{'-', '-', 0}, {'0', '9', 0}, {'A', 'Z', 0}, {'_', '_', 0}, {'a', 'z', 0}};
constexpr Utf8Step kWords[] = {{' ', ' ', 0}, {'A', 'Z', 0}, {'a', 'z', 0}};
constexpr Utf8Step kText[] = {{' ', '!', 0},   {'#', '[', 0},   {']', '~', 0},   {0xc2, 0xdf, 1},
                              {0xe0, 0xe0, 4}, {0xe1, 0xec, 2}, {0xed, 0xed, 5}, {0xee, 0xef, 2},
                              {0xf0, 0xf0, 6}, {0xf1, 0xf3, 3}, {0xf4, 0xf4, 7}};
constexpr size_t kAsciiSteps = 3;  // of kText
constexpr Utf8Step kWithin[kUtf8States] = {{0, 0, 0},       {0x80, 0xbf, 0}, {0x80, 0xbf, 1}, {0x80, 0xbf, 2},
                                           {0xa0, 0xbf, 1}, {0x80, 0x9f, 1}, {0x90, 0xbf, 2}, {0x80, 0x8f, 2}};

// The characters of a text if it is one over the set.
std::optional<uint32_t> length_over(SliceSet set, std::string_view text) {
  uint8_t state = 0;
  uint32_t length = 0;
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    const auto steps = utf8_steps(set, state);
    const auto step =
        std::find_if(steps.begin(), steps.end(), [&](const Utf8Step& s) { return s.first <= byte && byte <= s.last; });
    if (step == steps.end()) return std::nullopt;
    state = step->target;
    length += state == 0 ? 1 : 0;
  }
  if (state != 0) return std::nullopt;
  return length;
}

}  // namespace

std::span<const Utf8Step> utf8_steps(SliceSet set, uint8_t state) {
  if (state != 0) return std::span(kWithin).subspan(state, 1);
  switch (set) {
    case SliceSet::lower:
      return kLower;
    case SliceSet::letters:
      return kLetters;
    case SliceSet::names:
      return kNames;
    case SliceSet::words:
      return kWords;
    case SliceSet::ascii:
      return std::span(kText).first(kAsciiSteps);
    case SliceSet::text:
      return kText;
  }
  return {};
}

TokensByLength::TokensByLength(std::vector<std::pair<uint32_t, int32_t>> tokens, size_t mask_words)
    : size_(tokens.size()) {
  std::sort(tokens.begin(), tokens.end());
  longest_ = tokens.empty() ? 0 : tokens.back().first;
  auto next = tokens.begin();
  for (uint32_t length = 1; length <= std::min(longest_, kMasks); ++length) {
    up_to_.push_back(up_to_.empty() ? std::vector<uint32_t>(mask_words, 0) : up_to_.back());
    for (; next != tokens.end() && next->first <= length; ++next)
      up_to_.back()[static_cast<size_t>(next->second) / 32] |= 1u << (next->second % 32);
  }
  longer_.assign(next, tokens.end());
}

void TokensByLength::add_up_to(uint32_t length, std::span<uint32_t> mask) const {
  if (length == 0 || up_to_.empty()) return;
  const std::vector<uint32_t>& words = up_to_[std::min<size_t>(length, up_to_.size()) - 1];
  for (size_t i = 0; i < words.size(); ++i) mask[i] |= words[i];
  for (const auto& [characters, id] : longer_) {
    if (characters > length) break;
    mask[static_cast<size_t>(id) / 32] |= 1u << (id % 32);
  }
}

TokenSlices::TokenSlices(const std::vector<TokenTrie::Entry>& entries, const TokenTrie& whole, size_t vocab_size) {
  const size_t words = (vocab_size + 31) / 32;
  std::array<std::vector<TokenTrie::Entry>, kSlices + 1> parts;  // the last: of no slice
  std::array<std::vector<std::pair<uint32_t, int32_t>>, kSlices> lengths;
  std::vector<std::pair<uint32_t, int32_t>> all;
  for (const TokenTrie::Entry& entry : entries) {
    size_t slice = 0;
    std::optional<uint32_t> length;
    while (slice < kSlices && !(length = length_over(static_cast<SliceSet>(slice), entry.first))) ++slice;
    if (length && *length > kMaxLength) {
      slice = kSlices;
      length.reset();
    }
    parts[slice].push_back(entry);
    if (!length) continue;
    lengths[slice].emplace_back(*length, entry.second);
    for (const char c : entry.first) {
      if (static_cast<uint8_t>(c) >= 128) continue;
      std::vector<uint32_t>& with = with_[static_cast<uint8_t>(c)];
      with.resize(words);
      with[static_cast<size_t>(entry.second) / 32] |= 1u << (entry.second % 32);
    }
    all.emplace_back(*length, entry.second);
  }
  for (size_t i = 0; i < kSlices; ++i) {
    slices_[i].trie = TokenTrie::build(std::move(parts[i]));
    slices_[i].trie.find_origins(whole);
    slices_[i].tokens = TokensByLength(std::move(lengths[i]), words);
  }
  all_text_ = TokensByLength(std::move(all), words);
  rest_ = TokenTrie::build(std::move(parts[kSlices]));
  rest_.find_origins(whole);
}

void TokenSlices::add_text(uint32_t length, const std::bitset<128>& without, std::span<uint32_t> mask) const {
  if (without.none()) return all_text_.add_up_to(length, mask);
  std::vector<uint32_t> text(mask.size(), 0);
  all_text_.add_up_to(length, text);
  for (size_t byte = 0; byte < without.size(); ++byte) {
    if (!without.test(byte)) continue;
    for (size_t i = 0; i < with_[byte].size(); ++i) text[i] &= ~with_[byte][i];
  }
  for (size_t i = 0; i < text.size(); ++i) mask[i] |= text[i];
}

}  // namespace redoubt::grammar
