#include "apps/token_list.h"

#include <fmt/ranges.h>

#include <charconv>

namespace redoubt {

Result<std::vector<int32_t>> parse_token_list(std::string_view text, int64_t vocab_size, std::string_view option) {
  std::vector<int32_t> ids;
  constexpr std::string_view kSeparators = " ,\t\n\r[]";
  while (true) {
    const size_t begin = text.find_first_not_of(kSeparators);
    if (begin == std::string_view::npos) return ids;
    text.remove_prefix(begin);
    const std::string_view word = text.substr(0, text.find_first_of(kSeparators));
    text.remove_prefix(word.size());
    int32_t id = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc() || end != word.data() + word.size() || id < 0 || id >= vocab_size) {
      return invalid(
          fmt::format("{}: expected token ids from 0 to {}, found {}", option, vocab_size - 1, word.substr(0, 40)),
          std::string(option));
    }
    ids.push_back(id);
  }
}

std::string format_token_list(std::span<const int32_t> ids) { return fmt::format("{}", fmt::join(ids, " ")); }

}  // namespace redoubt
