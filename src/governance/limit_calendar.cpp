#include "governance/limit_calendar.h"

#include <unicode/ucal.h>
#include <unicode/uenum.h>

#include <memory>

namespace redoubt {
namespace {

struct Closer {
  void operator()(UCalendar* calendar) const { ucal_close(calendar); }
};
using CalendarPtr = std::unique_ptr<UCalendar, Closer>;

std::u16string wide(const std::string& ascii) { return {ascii.begin(), ascii.end()}; }

CalendarPtr open(const std::string& zone) {
  UErrorCode status = U_ZERO_ERROR;
  const std::u16string id = wide(is_time_zone(zone) ? zone : "UTC");
  CalendarPtr calendar(ucal_open(id.c_str(), static_cast<int32_t>(id.size()), "en", UCAL_GREGORIAN, &status));
  return U_SUCCESS(status) ? std::move(calendar) : nullptr;
}

// The period that begins where the calendar stands and lasts one `field`.
CalendarPeriod from_here(UCalendar* calendar, UCalendarDateFields field, int64_t id) {
  UErrorCode status = U_ZERO_ERROR;
  CalendarPeriod period{.id = id};
  period.begin_ms = static_cast<int64_t>(ucal_getMillis(calendar, &status));
  ucal_add(calendar, field, 1, &status);
  period.end_ms = static_cast<int64_t>(ucal_getMillis(calendar, &status));
  ucal_add(calendar, field, -1, &status);
  return period;
}

}  // namespace

bool is_time_zone(const std::string& name) {
  if (name.empty() || name.size() > 64) return false;
  for (const char c : name)
    if (static_cast<unsigned char>(c) >= 0x80) return false;
  const std::u16string id = wide(name);
  char16_t canonical[128];
  UBool is_system = 0;
  UErrorCode status = U_ZERO_ERROR;
  ucal_getCanonicalTimeZoneID(id.c_str(), static_cast<int32_t>(id.size()), canonical, 128, &is_system, &status);
  return U_SUCCESS(status) && is_system != 0;
}

CalendarPeriods periods_at(const std::string& time_zone, int64_t now_ms) {
  UErrorCode status = U_ZERO_ERROR;
  const CalendarPtr calendar = open(time_zone);
  if (calendar == nullptr) {  // ICU without its data: UTC days, and months of thirty
    constexpr int64_t day = 86'400'000, month = 30 * day;
    const int64_t d = now_ms / day, m = now_ms / month;
    return {{d, d * day, (d + 1) * day}, {m, m * month, (m + 1) * month}};
  }
  UCalendar* at = calendar.get();
  ucal_setMillis(at, static_cast<double>(now_ms), &status);
  const int64_t year = ucal_get(at, UCAL_YEAR, &status), month = ucal_get(at, UCAL_MONTH, &status) + 1,
                day = ucal_get(at, UCAL_DAY_OF_MONTH, &status);
  for (const UCalendarDateFields field : {UCAL_HOUR_OF_DAY, UCAL_MINUTE, UCAL_SECOND, UCAL_MILLISECOND})
    ucal_set(at, field, 0);
  CalendarPeriods periods;
  periods.day = from_here(at, UCAL_DAY_OF_MONTH, (year * 100 + month) * 100 + day);
  ucal_set(at, UCAL_DAY_OF_MONTH, 1);
  periods.month = from_here(at, UCAL_MONTH, year * 100 + month);
  return periods;
}

}  // namespace redoubt
