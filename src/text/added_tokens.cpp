#include "text/added_tokens.h"

#include <algorithm>

#include "core/utf8.h"
#include "text/pretokenizer_classes.h"

namespace redoubt {
namespace {

// The character that ends before `position`; `position` > 0.
size_t previous_character(std::string_view text, size_t position) {
  size_t begin = position - 1;
  while (begin > 0 && position - begin < 4 && (static_cast<uint8_t>(text[begin]) & 0xc0) == 0x80) --begin;
  return begin;
}

bool stands_alone(std::string_view text, size_t begin, size_t end) {
  const auto is_word = [&](size_t at) { return is_word_character(decode_utf8(text, at).value); };
  if (begin > 0 && is_word(previous_character(text, begin))) return false;
  return end == text.size() || !is_word(end);
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::erase_if(tokens_, [](const AddedToken& token) { return token.content.empty(); });
  std::stable_sort(tokens_.begin(), tokens_.end(),
                   [](const AddedToken& a, const AddedToken& b) { return a.content < b.content; });
  for (const AddedToken& token : tokens_) may_begin_[static_cast<uint8_t>(token.content.front())] = true;
}

const AddedToken* AddedTokenFinder::longest_at(std::string_view rest) const {
  // Narrows the sorted contents to those that agree with `rest` in one byte more, until none is left. Within such a
  // block, the one that has no further byte sorts first.
  const AddedToken* found = nullptr;
  size_t low = 0, high = tokens_.size();
  for (size_t depth = 0; low < high; ++depth) {
    if (tokens_[low].content.size() == depth) {
      found = &tokens_[low];
      while (low < high && tokens_[low].content.size() == depth) ++low;  // the same content twice: the first counts
      if (low == high) break;
    }
    if (depth == rest.size()) break;
    const auto byte = static_cast<uint8_t>(rest[depth]);
    const auto begin = tokens_.begin() + static_cast<ptrdiff_t>(low),
               end = tokens_.begin() + static_cast<ptrdiff_t>(high);
    const auto at = [depth](const AddedToken& token) { return static_cast<uint8_t>(token.content[depth]); };
    const auto first = std::partition_point(begin, end, [&](const AddedToken& t) { return at(t) < byte; });
    const auto last = std::partition_point(first, end, [&](const AddedToken& t) { return at(t) == byte; });
    low = static_cast<size_t>(first - tokens_.begin());
    high = static_cast<size_t>(last - tokens_.begin());
  }
  return found;
}

std::vector<AddedMatch> AddedTokenFinder::find(std::string_view text, size_t begin, size_t end,
                                               std::span<const MarkedText::Range> markup) const {
  std::vector<AddedMatch> matches;
  if (tokens_.empty()) return matches;
  const std::string_view visible = text.substr(begin, end - begin);
  size_t taken = begin;  // no match may begin before this
  for (const MarkedText::Range& range : markup) {
    const size_t from = std::max(range.begin, begin), to = std::min(range.end, end);
    for (size_t i = std::max(from, taken); i < to;) {
      const AddedToken* token =
          may_begin_[static_cast<uint8_t>(text[i])] ? longest_at(text.substr(i, to - i)) : nullptr;
      if (token == nullptr) {
        ++i;
        continue;
      }
      AddedMatch match{i, i + token->content.size(), token->id};
      i = match.end;
      if (token->single_word && !stands_alone(visible, match.begin - begin, match.end - begin)) continue;
      while (token->lstrip && match.begin > std::max(from, taken)) {
        const size_t before = previous_character(text, match.begin);
        if (before < std::max(from, taken) || !is_white_space(decode_utf8(text, before).value)) break;
        match.begin = before;
      }
      while (token->rstrip && match.end < to) {
        const CodePoint next = decode_utf8(text, match.end);
        if (!is_white_space(next.value) || match.end + static_cast<size_t>(next.bytes) > to) break;
        match.end += static_cast<size_t>(next.bytes);
      }
      taken = i = match.end;
      matches.push_back(match);
    }
  }
  return matches;
}

}  // namespace redoubt
