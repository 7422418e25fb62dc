#include "governance/limit_calendar.h"

#include <cctz/civil_time.h>
#include <cctz/time_zone.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include "core/mapped_file.h"

namespace redoubt {
namespace {

using Instant = std::chrono::time_point<std::chrono::system_clock, std::chrono::seconds>;

constexpr const char* kLinksFile = "/usr/share/zoneinfo/tzdata.zi";
constexpr size_t kMaxLinksBytes = 1 << 20;  // some 110 KB

// What may be a name of IANA's: never a path that leaves the folder, a file beside the zones ("posixrules",
// "localtime", which differ from machine to machine), or one of the library's own names.
bool may_be_zone(const std::string& name) {
  if (name.empty() || name.size() > 64 || name.starts_with("Fixed/")) return false;
  const auto upper = [](char c) { return c >= 'A' && c <= 'Z'; };
  return upper(name.front()) && std::ranges::all_of(name, [&](char c) {
           return upper(c) || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '/' || c == '_' || c == '-' ||
                  c == '+';
         });
}

std::optional<cctz::time_zone> find_zone(const std::string& name) {
  cctz::time_zone zone;
  if (!may_be_zone(name)) return std::nullopt;
  if (cctz::load_time_zone(name, &zone)) return zone;
  const auto links = read_text_file(kLinksFile, kMaxLinksBytes);
  if (!links) return std::nullopt;
  const std::string newer(name_linked_to(*links, name));
  if (may_be_zone(newer) && cctz::load_time_zone(newer, &zone)) return zone;
  return std::nullopt;
}

// Midnight: the first of two, or, where clocks jump over it, the instant at which they do.
Instant begin_of(const cctz::civil_day& day, const cctz::time_zone& zone) {
  return cctz::convert(cctz::civil_second(day), zone);
}

CalendarPeriod between(int64_t id, Instant begin, Instant end) {
  return {id, begin.time_since_epoch().count() * 1000, end.time_since_epoch().count() * 1000};
}

}  // namespace

std::string_view name_linked_to(std::string_view tzdata_zi, std::string_view old_name) {
  while (!tzdata_zi.empty()) {
    const size_t end = std::min(tzdata_zi.find('\n'), tzdata_zi.size());
    const std::string_view line = tzdata_zi.substr(0, end);
    tzdata_zi.remove_prefix(std::min(end + 1, tzdata_zi.size()));
    if (!line.starts_with("L ")) continue;
    const size_t space = line.find(' ', 2);
    if (space != std::string_view::npos && line.substr(space + 1) == old_name) return line.substr(2, space - 2);
  }
  return {};
}

bool is_time_zone(const std::string& name) { return find_zone(name).has_value(); }

CalendarPeriods periods_at(const std::string& time_zone, int64_t now_ms) {
  const cctz::time_zone zone = find_zone(time_zone).value_or(cctz::utc_time_zone());
  const Instant now = std::chrono::floor<std::chrono::seconds>(
      std::chrono::time_point<std::chrono::system_clock, std::chrono::milliseconds>(std::chrono::milliseconds(now_ms)));
  cctz::civil_day day(cctz::convert(now, zone));
  // Clocks that went back over midnight show yesterday's date in a day that began.
  if (now >= begin_of(day + 1, zone)) ++day;
  const cctz::civil_month month(day);
  const int64_t month_id = month.year() * 100 + month.month();
  return {
      .day = between(month_id * 100 + day.day(), begin_of(day, zone), begin_of(day + 1, zone)),
      .month = between(month_id, begin_of(cctz::civil_day(month), zone), begin_of(cctz::civil_day(month + 1), zone))};
}

}  // namespace redoubt
