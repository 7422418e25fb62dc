// How a name read from an untrusted file is shown in an error: quoted, at most 120 bytes, no control characters.
#pragma once

#include <string>
#include <string_view>

#include "core/utf8.h"

namespace redoubt {

inline std::string shown(std::string_view name) {
  std::string text = "'";
  for (const char c : repair_utf8(name.substr(0, 120))) text += static_cast<unsigned char>(c) < 0x20 ? '?' : c;
  text += name.size() > 120 ? "...'" : "'";
  return text;
}

}  // namespace redoubt
