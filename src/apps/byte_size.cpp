#include "apps/byte_size.h"

#include <fmt/format.h>

#include <cctype>
#include <charconv>
#include <cmath>

namespace redoubt {

Result<int64_t> parse_bytes(std::string_view text, std::string_view option) {
  const Error wrong =
      invalid(fmt::format("{}: expected a size such as 512M or 8G, found {}", option, text), std::string(option));
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || !(value >= 0) || !std::isfinite(value)) return wrong;
  std::string unit(end, text.data() + text.size());
  for (char& c : unit) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  double factor = 1;
  if (!unit.empty() && unit != "B") {
    const size_t power = std::string_view("KMGT").find(unit[0]);
    const std::string rest = unit.substr(1);
    if (power == std::string_view::npos || (rest != "" && rest != "B" && rest != "IB")) return wrong;
    factor = std::pow(rest == "B" ? 1000.0 : 1024.0, static_cast<double>(power + 1));
  }
  if (value * factor > 9e18) return wrong;
  return static_cast<int64_t>(value * factor);
}

}  // namespace redoubt
