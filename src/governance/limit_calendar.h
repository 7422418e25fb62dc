// Days and months of a time zone: where a budget ends is where the tenant's calendar says, also when clocks are put
// forward or back. The zones are those of the system (/usr/share/zoneinfo, package tzdata), which its updates keep
// true.
//
// A day begins at the first instant of its date, which is not midnight where clocks jump over that, and ends where the
// next begins; so days and months leave no gap and do not overlap. Where clocks go back over midnight, the minutes
// that are repeated belong to the new day. Thread safety: any. Cost: some 0.1 ms and a file the first time that a zone
// is met, then under a microsecond.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace redoubt {

struct CalendarPeriod {
  int64_t id = 0;  // 20261125 for a day, 202611 for a month: of the tenant's own calendar
  int64_t begin_ms = 0, end_ms = 0;
  bool contains(int64_t ms) const { return begin_ms <= ms && ms < end_ms; }
};
struct CalendarPeriods {
  CalendarPeriod day, month;
};

// An IANA name, also an old one, that the system knows now: "Asia/Kolkata", "Asia/Calcutta", "UTC".
bool is_time_zone(const std::string& name);
// Of a zone that is_time_zone(); any other counts as UTC.
CalendarPeriods periods_at(const std::string& time_zone, int64_t now_ms);

// Of an old name what it is called now, by the links ("L NEW OLD") of a tzdata.zi; empty: the text has none of it.
// Debian 13 and Ubuntu 24.04 keep the files of old names in a package of their own, and the links in tzdata.
std::string_view name_linked_to(std::string_view tzdata_zi, std::string_view old_name);

}  // namespace redoubt
