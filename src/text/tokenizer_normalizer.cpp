#include "text/tokenizer_normalizer.h"

#include <unicode/bytestream.h>
#include <unicode/edits.h>
#include <unicode/normalizer2.h>
#include <unicode/stringpiece.h>

#include <algorithm>

#include "core/utf8.h"

namespace redoubt {
namespace {

constexpr size_t kMaxIcuBytes = size_t{1} << 30;  // ICU counts in int32_t

// How stretches of the old text became stretches of the new one, in order, covering both.
struct Stretch {
  size_t old_begin, old_end, new_begin, new_end;
  bool changed;
};

std::vector<MarkedText::Range> moved(const std::vector<MarkedText::Range>& ranges,
                                     const std::vector<Stretch>& stretches) {
  std::vector<MarkedText::Range> result;
  for (const MarkedText::Range& range : ranges) {
    MarkedText::Range out{SIZE_MAX, 0};
    auto it = std::partition_point(stretches.begin(), stretches.end(),
                                   [&](const Stretch& stretch) { return stretch.old_end <= range.begin; });
    for (; it != stretches.end() && it->old_begin < range.end; ++it) {
      const bool whole = it->old_begin >= range.begin && it->old_end <= range.end;
      if (it->changed && !whole) continue;  // only ever the first or the last stretch of the range
      const size_t begin = std::max(range.begin, it->old_begin), end = std::min(range.end, it->old_end);
      out.begin = std::min(out.begin, it->changed ? it->new_begin : it->new_begin + (begin - it->old_begin));
      out.end = std::max(out.end, it->changed ? it->new_end : it->new_begin + (end - it->old_begin));
    }
    if (out.begin < out.end) result.push_back(out);
  }
  return result;
}

}  // namespace

std::vector<MarkedText::Range> ordered_ranges(std::vector<MarkedText::Range> ranges, size_t size) {
  std::sort(ranges.begin(), ranges.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
  size_t taken = 0;
  for (MarkedText::Range& range : ranges) {
    range.end = std::min(range.end, size);
    range.begin = std::max(range.begin, taken);
    taken = std::max(taken, range.end);
  }
  std::erase_if(ranges, [](const MarkedText::Range& range) { return range.begin >= range.end; });
  return ranges;
}

MarkedText repair_text(std::string_view text, const std::vector<MarkedText::Range>& ranges) {
  MarkedText repaired;
  std::vector<Stretch> stretches;
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = decode_utf8(text, i);
    const size_t next = i + static_cast<size_t>(c.bytes), begin = repaired.text.size();
    append_utf8(repaired.text, c.value);
    if (c.valid && !stretches.empty() && !stretches.back().changed) {
      stretches.back().old_end = next;
      stretches.back().new_end = repaired.text.size();
    } else {
      stretches.push_back({i, next, begin, repaired.text.size(), !c.valid});
    }
    i = next;
  }
  repaired.markup = moved(ranges, stretches);
  return repaired;
}

bool is_nfc(std::string_view text) {
  if (std::all_of(text.begin(), text.end(), [](char c) { return static_cast<uint8_t>(c) < 0x80; })) return true;
  if (text.size() > kMaxIcuBytes) return true;
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* nfc = icu::Normalizer2::getNFCInstance(status);
  if (U_FAILURE(status)) return true;
  return nfc->isNormalizedUTF8(icu::StringPiece(text.data(), static_cast<int32_t>(text.size())), status) ||
         U_FAILURE(status);
}

MarkedText compose_nfc(std::string_view text, const std::vector<MarkedText::Range>& ranges) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* nfc = icu::Normalizer2::getNFCInstance(status);
  MarkedText composed;
  icu::Edits edits;
  if (U_SUCCESS(status)) {
    icu::StringByteSink<std::string> sink(&composed.text);
    nfc->normalizeUTF8(0, icu::StringPiece(text.data(), static_cast<int32_t>(text.size())), sink, &edits, status);
  }
  if (U_FAILURE(status)) return {std::string(text), ranges};  // out of memory, in practice: the text as it is
  std::vector<Stretch> stretches;
  auto it = edits.getFineIterator();
  while (it.next(status)) {
    const auto old_begin = static_cast<size_t>(it.sourceIndex()),
               new_begin = static_cast<size_t>(it.destinationIndex());
    stretches.push_back({old_begin, old_begin + static_cast<size_t>(it.oldLength()), new_begin,
                         new_begin + static_cast<size_t>(it.newLength()), it.hasChange() != 0});
  }
  composed.markup = moved(ranges, stretches);
  return composed;
}

std::string compose_nfc(std::string_view text) { return compose_nfc(text, {}).text; }

}  // namespace redoubt
