// Days and months of a time zone, by ICU: where a budget ends is where the tenant's calendar says, also when clocks are
// put forward or back.
#pragma once

#include <cstdint>
#include <string>

namespace redoubt {

struct CalendarPeriod {
  int64_t id = 0;  // 20261125 for a day, 202611 for a month: of the tenant's own calendar
  int64_t begin_ms = 0, end_ms = 0;
  bool contains(int64_t ms) const { return begin_ms <= ms && ms < end_ms; }
};
struct CalendarPeriods {
  CalendarPeriod day, month;
};

bool is_time_zone(const std::string& name);
// Of a zone that is_time_zone(); an unknown one counts as UTC.
CalendarPeriods periods_at(const std::string& time_zone, int64_t now_ms);

}  // namespace redoubt
