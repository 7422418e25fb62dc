#include "apps/key_sequences.h"

#include <cstdlib>

namespace redoubt {
namespace {

constexpr char kEscape = '\033';
constexpr size_t kMaxLength = 64;  // of a sequence that is no key's
constexpr int kAlt = 2, kCtrl = 4;

// "1;5" of "[1;5D": the last number.
int last_parameter(std::string_view parameters) {
  const size_t at = parameters.rfind(';');
  const std::string text(at == std::string_view::npos ? parameters : parameters.substr(at + 1));
  return std::atoi(text.c_str());
}

std::string_view meaning(std::string_view parameters, char final) {
  for (const char c : parameters) {
    if (c < '0' || c > ';') return {};  // what a terminal answers or tells, and no key
  }
  const int last = last_parameter(parameters);
  const int modifiers = last > 0 ? last - 1 : 0;
  const bool by_words = (modifiers & (kAlt | kCtrl)) != 0;
  switch (final) {
    case 'A':
      return keys::kUp;
    case 'B':
      return keys::kDown;
    case 'C':
      return by_words ? keys::kWordRight : keys::kRight;
    case 'D':
      return by_words ? keys::kWordLeft : keys::kLeft;
    case 'c':  // rxvt, with Ctrl
      return parameters.empty() ? keys::kWordRight : "";
    case 'd':
      return parameters.empty() ? keys::kWordLeft : "";
    case 'H':
      return keys::kHome;
    case 'F':
      return keys::kEnd;
    case '~':
      break;
    default:
      return {};
  }
  const bool has_modifiers = parameters.find(';') != std::string_view::npos;
  switch (std::atoi(std::string(parameters).c_str())) {
    case 1:
    case 7:
      return keys::kHome;
    case 4:
    case 8:
      return keys::kEnd;
    case 3:
      return has_modifiers && by_words ? keys::kDeleteWord : keys::kDelete;
    case 200:
      return keys::kPasteBegin;
    case 201:
      return keys::kPasteEnd;
    default:
      return {};
  }
}

}  // namespace

std::string KeySequences::end_of(std::string_view sequence) const {
  return std::string(meaning(sequence.substr(1, sequence.size() - 2), sequence.back()));
}

std::string KeySequences::feed(char byte) {
  const auto code = static_cast<unsigned char>(byte);
  if (at_ != At::text && (byte == kEscape || held_.size() >= kMaxLength)) {
    at_ = At::text;  // a sequence that was broken off
    held_.clear();
  }
  switch (at_) {
    case At::text:
      if (byte != kEscape) return {byte};
      at_ = At::escape;
      return {};
    case At::escape:
      held_ = byte;
      at_ = byte == '[' ? At::csi : byte == 'O' ? At::ss3 : At::text;
      return at_ == At::text ? std::string{kEscape, byte} : std::string();
    case At::csi:
      held_ += byte;
      if (byte == '[' && held_.size() == 2) {  // a function key of Linux's console: one more byte
        at_ = At::console;
        return {};
      }
      if (code >= 0x20 && code < 0x40) return {};
      break;
    case At::ss3:
      held_ += byte;
      if (code >= '0' && code <= '9') return {};
      break;
    case At::console:
      at_ = At::text;
      return {};
  }
  at_ = At::text;
  if (code < 0x40 || code > 0x7e) return {byte};  // no sequence's: Ctrl-C, or a letter of another script
  return end_of(held_);
}

}  // namespace redoubt
