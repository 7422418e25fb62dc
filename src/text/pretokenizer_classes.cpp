#include "text/pretokenizer_classes.h"

#include <unicode/uchar.h>

#include <algorithm>
#include <vector>

namespace redoubt {
namespace {

uint8_t flags_of(int category) {
  const uint32_t mask = U_MASK(category);
  if (mask & U_GC_L_MASK) return kLetter;
  if (mask & U_GC_M_MASK) return kMark;
  if (mask & U_GC_N_MASK) return kNumber;
  if (mask & U_GC_P_MASK) return kPunctuation;
  if (mask & U_GC_S_MASK) return kSymbol;
  return 0;
}

std::vector<uint8_t> make_classes() {
  std::vector<uint8_t> classes(kCodePoints);
  u_enumCharTypes(
      [](const void* context, UChar32 begin, UChar32 end, UCharCategory category) -> UBool {
        auto* table = static_cast<uint8_t*>(const_cast<void*>(context));
        std::fill(table + begin, table + end, flags_of(category));
        return true;
      },
      classes.data());
  for (const auto& [first, last] : {std::pair{0x09, 0x0d},
                                    {0x20, 0x20},
                                    {0x85, 0x85},
                                    {0xa0, 0xa0},
                                    {0x1680, 0x1680},
                                    {0x2000, 0x200a},
                                    {0x2028, 0x2029},
                                    {0x202f, 0x202f},
                                    {0x205f, 0x205f},
                                    {0x3000, 0x3000}}) {
    for (int c = first; c <= last; ++c) classes[static_cast<size_t>(c)] |= kWhiteSpace;
  }
  classes['\r'] |= kNewline;
  classes['\n'] |= kNewline;
  for (const auto& [first, last] : {std::pair{0x4e00, 0x9fa5}, {0x3040, 0x30ff}}) {
    for (int c = first; c <= last; ++c) classes[static_cast<size_t>(c)] |= kDeepSeekCjk;
  }
  return classes;
}

}  // namespace

const uint8_t* character_classes() {
  static const std::vector<uint8_t> classes = make_classes();  // a constant that is cheaper to compute than to store
  return classes.data();
}

bool is_white_space(char32_t c) { return c < kCodePoints && (character_classes()[c] & kWhiteSpace) != 0; }

bool is_word_character(char32_t c) {
  if (c >= kCodePoints) return false;
  const uint32_t mask = U_MASK(u_charType(static_cast<UChar32>(c)));
  return (mask & (U_GC_L_MASK | U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) != 0;
}

}  // namespace redoubt
