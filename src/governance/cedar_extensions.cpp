#include "governance/cedar_extensions.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <limits>

namespace redoubt::cedar {
namespace {

constexpr int64_t kDayMs = 86'400'000;
constexpr size_t kMaxIpText = 43;  // eight groups of four, and "/128"

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// A text that is read from its front.
struct Cursor {
  std::string_view rest;

  bool take(char wanted) {
    if (rest.empty() || rest.front() != wanted) return false;
    rest.remove_prefix(1);
    return true;
  }
  // Exactly `count` digits.
  std::optional<int> digits(size_t count) {
    if (rest.size() < count) return std::nullopt;
    int value = 0;
    for (size_t i = 0; i < count; ++i) {
      if (!is_digit(rest[i])) return std::nullopt;
      value = value * 10 + (rest[i] - '0');
    }
    rest.remove_prefix(count);
    return value;
  }
  // One or more digits; saturates far above every limit that is checked later.
  std::optional<__int128> number() {
    constexpr __int128 kHuge = static_cast<__int128>(1) << 100;
    if (rest.empty() || !is_digit(rest.front())) return std::nullopt;
    __int128 value = 0;
    while (!rest.empty() && is_digit(rest.front())) {
      value = std::min(value * 10 + (rest.front() - '0'), kHuge);
      rest.remove_prefix(1);
    }
    return value;
  }
};

std::optional<int64_t> narrowed(__int128 value) {
  if (value > std::numeric_limits<int64_t>::max() || value < std::numeric_limits<int64_t>::min()) return std::nullopt;
  return static_cast<int64_t>(value);
}

// Up to `max_digits` digits without a needless zero in front.
std::optional<int> plain_number(std::string_view text, size_t max_digits, int max) {
  if (text.empty() || text.size() > max_digits || (text.size() > 1 && text.front() == '0')) return std::nullopt;
  Cursor cursor{text};
  const auto value = cursor.digits(text.size());
  if (!value || *value > max) return std::nullopt;
  return value;
}

bool parse_v4(std::string_view text, IpRange& out) {
  for (int i = 0; i < 4; ++i) {
    const size_t dot = i < 3 ? text.find('.') : text.size();
    if (dot == std::string_view::npos) return false;
    const auto byte = plain_number(text.substr(0, dot), 3, 255);
    if (!byte) return false;
    out.bytes[static_cast<size_t>(i)] = static_cast<uint8_t>(*byte);
    text.remove_prefix(std::min(text.size(), dot + 1));
  }
  return text.empty();
}

// Groups of one to four hex digits between colons; an empty text is no group. Errors: more than eight, or not hex.
bool parse_groups(std::string_view text, std::array<uint16_t, 8>& groups, size_t& count) {
  count = 0;
  while (!text.empty()) {
    const size_t colon = std::min(text.find(':'), text.size());
    if (colon == 0 || colon > 4 || count == 8) return false;
    unsigned value = 0;
    for (const char c : text.substr(0, colon)) {
      const char lower = static_cast<char>(c | 0x20);
      if (is_digit(c)) {
        value = value * 16 + static_cast<unsigned>(c - '0');
      } else if (lower >= 'a' && lower <= 'f') {
        value = value * 16 + static_cast<unsigned>(lower - 'a' + 10);
      } else {
        return false;
      }
    }
    groups[count++] = static_cast<uint16_t>(value);
    if (colon == text.size()) break;
    text.remove_prefix(colon + 1);
    if (text.empty()) return false;  // ends with a colon
  }
  return true;
}

bool parse_v6(std::string_view text, IpRange& out) {
  std::array<uint16_t, 8> front{}, back{};
  size_t front_count = 0, back_count = 0;
  const size_t gap = text.find("::");
  if (gap == std::string_view::npos) {
    if (!parse_groups(text, front, front_count) || front_count != 8) return false;
  } else {
    if (!parse_groups(text.substr(0, gap), front, front_count)) return false;
    if (!parse_groups(text.substr(gap + 2), back, back_count)) return false;
    if (front_count + back_count > 7) return false;
  }
  const auto put = [&](size_t at, uint16_t group) {
    out.bytes[2 * at] = static_cast<uint8_t>(group >> 8);
    out.bytes[2 * at + 1] = static_cast<uint8_t>(group & 0xFF);
  };
  for (size_t i = 0; i < front_count; ++i) put(i, front[i]);
  for (size_t i = 0; i < back_count; ++i) put(8 - back_count + i, back[i]);
  return true;
}

// Are the first `bits` bits of both equal?
bool same_prefix(const IpRange& a, const IpRange& b, int bits) {
  const size_t whole = static_cast<size_t>(bits) / 8;
  if (!std::equal(a.bytes.begin(), a.bytes.begin() + static_cast<std::ptrdiff_t>(whole), b.bytes.begin())) return false;
  const int rest = bits % 8;
  return rest == 0 || ((a.bytes[whole] ^ b.bytes[whole]) >> (8 - rest)) == 0;
}

}  // namespace

std::optional<IpRange> parse_ip(std::string_view text) {
  if (text.size() > kMaxIpText) return std::nullopt;
  const size_t slash = text.find('/');
  const std::string_view address = text.substr(0, slash);
  IpRange range;
  range.is_v6 = address.find(':') != std::string_view::npos;
  if (!(range.is_v6 ? parse_v6(address, range) : parse_v4(address, range))) return std::nullopt;
  const int bits = range.is_v6 ? 128 : 32;
  int prefix = bits;
  if (slash != std::string_view::npos) {
    const auto given = plain_number(text.substr(slash + 1), range.is_v6 ? 3 : 2, bits);
    if (!given) return std::nullopt;
    prefix = *given;
  }
  range.prefix = static_cast<uint8_t>(prefix);
  return range;
}

std::optional<int64_t> parse_decimal(std::string_view text) {
  Cursor cursor{text};
  const bool negative = cursor.take('-');
  const auto whole = cursor.number();
  if (!whole || !cursor.take('.')) return std::nullopt;
  const size_t places = cursor.rest.size();
  if (places < 1 || places > 4) return std::nullopt;
  auto fraction = cursor.digits(places);
  if (!fraction) return std::nullopt;
  for (size_t i = places; i < 4; ++i) *fraction *= 10;
  const __int128 value = *whole * 10'000 + *fraction;
  return narrowed(negative ? -value : value);
}

std::optional<int64_t> parse_datetime(std::string_view text) {
  Cursor cursor{text};
  const auto year = cursor.digits(4);
  if (!year || !cursor.take('-')) return std::nullopt;
  const auto month = cursor.digits(2);
  if (!month || !cursor.take('-')) return std::nullopt;
  const auto day = cursor.digits(2);
  if (!day) return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year(*year), std::chrono::month(static_cast<unsigned>(*month)),
                                         std::chrono::day(static_cast<unsigned>(*day))};
  if (!date.ok()) return std::nullopt;
  int64_t ms = std::chrono::sys_days(date).time_since_epoch().count() * kDayMs;
  if (cursor.rest.empty()) return ms;

  if (!cursor.take('T')) return std::nullopt;
  const auto hour = cursor.digits(2);
  if (!hour || !cursor.take(':')) return std::nullopt;
  const auto minute = cursor.digits(2);
  if (!minute || !cursor.take(':')) return std::nullopt;
  const auto second = cursor.digits(2);
  if (!second || *hour > 23 || *minute > 59 || *second > 59) return std::nullopt;
  ms += ((*hour * 60 + *minute) * 60 + *second) * int64_t{1000};
  if (cursor.take('.')) {
    const auto millis = cursor.digits(3);
    if (!millis) return std::nullopt;
    ms += *millis;
  }

  if (cursor.take('Z')) return cursor.rest.empty() ? std::optional(ms) : std::nullopt;
  const bool west = !cursor.rest.empty() && cursor.rest.front() == '-';
  if (!cursor.take('+') && !cursor.take('-')) return std::nullopt;
  const auto offset_hour = cursor.digits(2);
  if (!offset_hour) return std::nullopt;
  const auto offset_minute = cursor.digits(2);
  if (!offset_minute || !cursor.rest.empty() || *offset_hour > 23 || *offset_minute > 59) return std::nullopt;
  const int64_t offset_ms = (*offset_hour * 60 + *offset_minute) * int64_t{60'000};
  return west ? ms + offset_ms : ms - offset_ms;
}

std::optional<int64_t> parse_duration(std::string_view text) {
  struct Unit {
    std::string_view name;
    int64_t ms;
  };
  constexpr std::array<Unit, 5> kUnits{{{"d", kDayMs}, {"h", 3'600'000}, {"m", 60'000}, {"s", 1000}, {"ms", 1}}};
  Cursor cursor{text};
  const bool negative = cursor.take('-');
  __int128 total = 0;
  size_t next = 0;  // units come in this order, each at most once
  do {
    const auto count = cursor.number();
    if (!count) return std::nullopt;
    const size_t letters =
        std::min(cursor.rest.size(), std::min(cursor.rest.find_first_of("0123456789"), cursor.rest.size()));
    const std::string_view name = cursor.rest.substr(0, letters);
    while (next < kUnits.size() && kUnits[next].name != name) ++next;
    if (next == kUnits.size()) return std::nullopt;
    total += *count > std::numeric_limits<uint64_t>::max() ? static_cast<__int128>(1) << 100 : *count * kUnits[next].ms;
    cursor.rest.remove_prefix(letters);
    ++next;
  } while (!cursor.rest.empty());
  return narrowed(negative ? -total : total);
}

std::optional<Kind> extension_kind(std::string_view function) {
  if (function == "ip") return Kind::ip;
  if (function == "decimal") return Kind::decimal;
  if (function == "datetime") return Kind::datetime;
  if (function == "duration") return Kind::duration;
  return std::nullopt;
}

std::optional<Value> parse_extension(Kind kind, std::string_view text, Arena& arena) {
  if (kind == Kind::ip) {
    const auto ip = parse_ip(text);
    return ip ? std::optional(Value::of(arena.put(*ip))) : std::nullopt;
  }
  const auto number = kind == Kind::decimal    ? parse_decimal(text)
                      : kind == Kind::datetime ? parse_datetime(text)
                      : kind == Kind::duration ? parse_duration(text)
                                               : std::nullopt;
  return number ? std::optional(Value::number(kind, *number)) : std::nullopt;
}

bool is_loopback(const IpRange& range) {
  if (!range.is_v6) return range.bytes[0] == 127 && range.prefix >= 8;
  IpRange one{.is_v6 = true};
  one.bytes[15] = 1;
  return range.bytes == one.bytes && range.prefix == 128;
}

bool is_multicast(const IpRange& range) {
  return range.is_v6 ? range.bytes[0] == 0xFF && range.prefix >= 8 : range.bytes[0] >> 4 == 0xE && range.prefix >= 4;
}

bool is_in_range(const IpRange& inner, const IpRange& outer) {
  return inner.is_v6 == outer.is_v6 && inner.prefix >= outer.prefix && same_prefix(inner, outer, outer.prefix);
}

int64_t time_of(int64_t datetime_ms) { return ((datetime_ms % kDayMs) + kDayMs) % kDayMs; }

std::optional<int64_t> date_of(int64_t datetime_ms) {
  int64_t date;
  if (__builtin_sub_overflow(datetime_ms, time_of(datetime_ms), &date)) return std::nullopt;
  return date;
}

std::string ip_text(const IpRange& range) {
  std::string text;
  if (range.is_v6) {
    for (size_t i = 0; i < 16; i += 2)
      text += fmt::format("{}{:x}", i ? ":" : "", range.bytes[i] << 8 | range.bytes[i + 1]);
  } else {
    text = fmt::format("{}.{}.{}.{}", range.bytes[0], range.bytes[1], range.bytes[2], range.bytes[3]);
  }
  if (range.prefix != (range.is_v6 ? 128 : 32)) text += fmt::format("/{}", range.prefix);
  return text;
}

std::string decimal_text(int64_t ten_thousandths) {
  const bool negative = ten_thousandths < 0;
  const uint64_t size = negative ? 0 - static_cast<uint64_t>(ten_thousandths) : static_cast<uint64_t>(ten_thousandths);
  return fmt::format("{}{}.{:04}", negative ? "-" : "", size / 10'000, size % 10'000);
}

std::string datetime_text(int64_t ms) {
  const int64_t time = time_of(ms);
  const int64_t days = (ms - time) / kDayMs;               // floor, because time is never negative
  constexpr int64_t kFirst = -719'528, kLast = 2'932'896;  // of the years that can be written, 0000 to 9999
  if (ms < std::numeric_limits<int64_t>::min() + kDayMs || days < kFirst || days > kLast)
    return fmt::format("1970-01-01 + {} ms", ms);
  const std::chrono::year_month_day date{std::chrono::sys_days{std::chrono::days{days}}};
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()), time / 3'600'000,
                     time / 60'000 % 60, time / 1000 % 60, time % 1000);
}

std::string duration_text(int64_t ms) { return fmt::format("{}ms", ms); }

}  // namespace redoubt::cedar
