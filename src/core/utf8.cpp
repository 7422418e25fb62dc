#include "core/utf8.h"

namespace redoubt {
namespace {

struct Lead {
  int length;    // of the whole character, 0 if this byte cannot begin one
  uint8_t low;   // least second byte
  uint8_t high;  // greatest second byte
};

// The table of well-formed byte sequences, Unicode standard, table 3-7.
Lead lead_of(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xc2) return {0, 0, 0};
  if (byte < 0xe0) return {2, 0x80, 0xbf};
  if (byte == 0xe0) return {3, 0xa0, 0xbf};
  if (byte == 0xed) return {3, 0x80, 0x9f};
  if (byte < 0xf0) return {3, 0x80, 0xbf};
  if (byte == 0xf0) return {4, 0x90, 0xbf};
  if (byte < 0xf4) return {4, 0x80, 0xbf};
  if (byte == 0xf4) return {4, 0x80, 0x8f};
  return {0, 0, 0};
}

// Bytes of `text` from `position` that agree with one well-formed character, at most its length.
int agreeing_bytes(std::string_view text, size_t position, const Lead& lead) {
  int count = 1;
  while (count < lead.length && position + static_cast<size_t>(count) < text.size()) {
    const auto byte = static_cast<uint8_t>(text[position + static_cast<size_t>(count)]);
    const uint8_t low = count == 1 ? lead.low : 0x80, high = count == 1 ? lead.high : 0xbf;
    if (byte < low || byte > high) break;
    ++count;
  }
  return count;
}

}  // namespace

CodePoint decode_utf8(std::string_view text, size_t position) {
  const auto first = static_cast<uint8_t>(text[position]);
  const Lead lead = lead_of(first);
  if (lead.length == 1) return {first, 1, true};
  if (lead.length == 0) return {};
  const int count = agreeing_bytes(text, position, lead);
  if (count < lead.length) return {0xfffd, count, false};
  char32_t value = first & (0xffu >> (lead.length + 1));
  for (int i = 1; i < lead.length; ++i) {
    value = (value << 6) | (static_cast<uint8_t>(text[position + static_cast<size_t>(i)]) & 0x3fu);
  }
  return {value, lead.length, true};
}

void append_utf8(std::string& out, char32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xc0 | (c >> 6));
    out += static_cast<char>(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xe0 | (c >> 12));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3f));
    out += static_cast<char>(0x80 | (c & 0x3f));
  } else {
    out += static_cast<char>(0xf0 | (c >> 18));
    out += static_cast<char>(0x80 | ((c >> 12) & 0x3f));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3f));
    out += static_cast<char>(0x80 | (c & 0x3f));
  }
}

bool is_valid_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = decode_utf8(text, i);
    if (!c.valid) return false;
    i += static_cast<size_t>(c.bytes);
  }
  return true;
}

size_t complete_utf8_prefix(std::string_view text) {
  const size_t from = text.size() > 3 ? text.size() - 3 : 0;
  for (size_t i = text.size(); i-- > from;) {
    const auto byte = static_cast<uint8_t>(text[i]);
    if ((byte & 0xc0u) == 0x80u) continue;  // a continuation: its lead is further left
    const Lead lead = lead_of(byte);
    const auto present = static_cast<int>(text.size() - i);
    const bool could_grow = present < lead.length && agreeing_bytes(text, i, lead) == present;
    return could_grow ? i : text.size();
  }
  return text.size();
}

std::string_view utf8_head(std::string_view text, size_t max_bytes) {
  const std::string_view head = text.substr(0, max_bytes);
  return head.substr(0, complete_utf8_prefix(head));
}

std::string repair_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = decode_utf8(text, i);
    if (c.valid) {
      out.append(text.substr(i, static_cast<size_t>(c.bytes)));
    } else {
      append_utf8(out, 0xfffd);
    }
    i += static_cast<size_t>(c.bytes);
  }
  return out;
}

}  // namespace redoubt
