// The extension types of the policy language: texts of addresses, decimals, times and durations, and what is asked of
// them. Each parser takes exactly what the language takes; nothing is guessed or trimmed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "governance/cedar_value.h"

namespace redoubt::cedar {

std::optional<IpRange> parse_ip(std::string_view text);       // "10.1.2.3", "10.0.0.0/8", "fe80::1", "fd00::/8"
std::optional<int64_t> parse_decimal(std::string_view text);  // "-12.3456" in ten-thousandths
std::optional<int64_t> parse_datetime(
    std::string_view text);  // "2026-11-25", "2026-11-25T08:00:00.000+0100": ms since 1970
std::optional<int64_t> parse_duration(std::string_view text);  // "-1d2h3m4s5ms": ms

// The kind that ip(), decimal(), datetime() and duration() make; empty of other names.
std::optional<Kind> extension_kind(std::string_view function);
// The value of that kind which the text writes, if it writes one.
std::optional<Value> parse_extension(Kind kind, std::string_view text, Arena& arena);

bool is_loopback(const IpRange& range);
bool is_multicast(const IpRange& range);
bool is_in_range(const IpRange& inner, const IpRange& outer);

std::optional<int64_t> date_of(int64_t datetime_ms);  // midnight before, UTC; empty if that cannot be said
int64_t time_of(int64_t datetime_ms);                 // since that midnight, 0 to 86,399,999

std::string ip_text(const IpRange& range);
std::string decimal_text(int64_t ten_thousandths);
std::string datetime_text(int64_t ms);
std::string duration_text(int64_t ms);

}  // namespace redoubt::cedar
