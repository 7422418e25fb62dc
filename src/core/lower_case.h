// A to Z as a to z, other bytes as they are, whatever the locale.
#pragma once

#include <string>
#include <string_view>

namespace redoubt {

inline std::string lower_case(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

}  // namespace redoubt
