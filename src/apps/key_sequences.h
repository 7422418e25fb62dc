// From what a terminal sends for a key to one spelling of it, whatever terminal: arrows, Home, End, Delete, and arrows
// with Ctrl or Alt. Sequences of keys that mean nothing here are swallowed whole, so that none of them ends up as text.
//
// Source: ECMA-48 5.4 (control sequences: ESC [, parameter bytes 0x30-0x3F, intermediate bytes 0x20-0x2F, a final byte
// 0x40-0x7E); xterm's and rxvt's tables of keys, where the last parameter less one has Shift, Alt, Ctrl as bits 0 to 2.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace redoubt {

namespace keys {
inline constexpr std::string_view kUp = "\033[A", kDown = "\033[B", kRight = "\033[C", kLeft = "\033[D";
inline constexpr std::string_view kWordLeft = "\033[1;5D", kWordRight = "\033[1;5C";
inline constexpr std::string_view kHome = "\033[H", kEnd = "\033[F";
inline constexpr std::string_view kDelete = "\033[3~", kDeleteWord = "\033[3;5~";
inline constexpr std::string_view kPasteBegin = "\033[200~", kPasteEnd = "\033[201~";
}  // namespace keys

class KeySequences {
 public:
  // The bytes to hand on after this one: none in the middle of a sequence, or at the end of one that means nothing.
  std::string feed(char byte);

 private:
  enum class At : uint8_t { text, escape, csi, ss3, console };
  std::string end_of(std::string_view sequence) const;

  At at_ = At::text;
  std::string held_;  // of the sequence, after ESC
};

}  // namespace redoubt
