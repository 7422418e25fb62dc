#include "governance/limit_calendar.h"

#include <gtest/gtest.h>

#include <chrono>
#include <fstream>

namespace redoubt {
namespace {

constexpr int64_t kMinuteMs = 60'000, kHourMs = 60 * kMinuteMs, kDayMs = 24 * kHourMs;

int64_t utc_ms(int year, unsigned month, unsigned day, int64_t hour = 0, int64_t minute = 0) {
  using namespace std::chrono;
  const sys_days date = std::chrono::year(year) / std::chrono::month(month) / std::chrono::day(day);
  return date.time_since_epoch().count() * kDayMs + hour * kHourMs + minute * kMinuteMs;
}

// "2025b" of this machine's zones; empty: it does not say.
std::string zones_version() {
  std::ifstream file("/usr/share/zoneinfo/tzdata.zi");
  std::string line;
  std::getline(file, line);
  const std::string_view begin = "# version ";
  return line.starts_with(begin) ? line.substr(begin.size()) : "";
}

TEST(LimitCalendar, DaysAndMonthsFollowTheZone) {
  const int64_t noon_utc = utc_ms(2026, 10, 25, 12);  // the day Berlin's clocks go back
  const CalendarPeriods berlin = periods_at("Europe/Berlin", noon_utc);
  EXPECT_EQ(berlin.day.id, 20261025);
  EXPECT_EQ(berlin.day.end_ms - berlin.day.begin_ms, 25 * kHourMs);
  EXPECT_EQ(berlin.month.id, 202610);
  EXPECT_EQ(berlin.month.end_ms - berlin.month.begin_ms, (31 * 24 + 1) * kHourMs);
  const CalendarPeriods shanghai = periods_at("Asia/Shanghai", noon_utc + 5 * kHourMs);  // 01:00 there
  EXPECT_EQ(shanghai.day.id, 20261026);
  EXPECT_TRUE(shanghai.day.contains(noon_utc + 5 * kHourMs));
  EXPECT_EQ(shanghai.day.begin_ms, noon_utc + 4 * kHourMs);
}

TEST(LimitCalendar, NamesAreThoseOfIanaAndNothingElse) {
  for (const char* name : {"UTC", "Etc/UTC", "America/New_York", "Asia/Calcutta", "US/Eastern",
                           "America/Argentina/Buenos_Aires", "Etc/GMT+5", "GB-Eire"})
    EXPECT_TRUE(is_time_zone(name)) << name;
  for (const char* name : {"Mars/Olympus", "", "Europe/M\xc3\xbcnchen", "posixrules", "localtime", "tzdata.zi",
                           "posix/Asia/Tokyo", "right/Asia/Tokyo", "Asia", "Fixed/UTC+05:00:00",
                           "/usr/share/zoneinfo/UTC", "../zoneinfo/UTC", "Asia/../UTC", "file:UTC", "asia/tokyo"})
    EXPECT_FALSE(is_time_zone(name)) << name;
  EXPECT_FALSE(is_time_zone(std::string("UTC\0", 4)));
  EXPECT_FALSE(is_time_zone(std::string(65, 'A')));
  EXPECT_EQ(periods_at("Asia/Calcutta", utc_ms(2024, 6, 1)).day.begin_ms,
            periods_at("Asia/Kolkata", utc_ms(2024, 6, 1)).day.begin_ms);
}

TEST(LimitCalendar, AnOldNameIsFoundByItsLinkWhereItHasNoFile) {
  constexpr std::string_view links =
      "# version 2026f\nR A 2000 o - L Asia/Calcutta\nL Asia/Kolkata Asia/Calcutta\n"
      "L America/New_York US/Eastern\nL broken\nL X Y";
  EXPECT_EQ(name_linked_to(links, "Asia/Calcutta"), "Asia/Kolkata");
  EXPECT_EQ(name_linked_to(links, "US/Eastern"), "America/New_York");
  EXPECT_EQ(name_linked_to(links, "Y"), "X");
  for (const char* none : {"Asia/Kolkata", "Calcutta", "", "broken", "Mars/Olympus"})
    EXPECT_EQ(name_linked_to(links, none), "") << none;
}

TEST(LimitCalendar, AnUnknownZoneCountsAsUtc) {
  const CalendarPeriods periods = periods_at("Mars/Olympus", utc_ms(2024, 2, 29, 23, 59));
  EXPECT_EQ(periods.day.id, 20240229);
  EXPECT_EQ(periods.day.begin_ms, utc_ms(2024, 2, 29));
  EXPECT_EQ(periods.day.end_ms, utc_ms(2024, 3, 1));
  EXPECT_EQ(periods.month.id, 202402);
  EXPECT_EQ(periods.month.end_ms, utc_ms(2024, 3, 1));
  EXPECT_EQ(periods_at("UTC", -1).day.begin_ms, -kDayMs);
}

// What governments changed of late: a database that a library brings with it is behind.
TEST(LimitCalendar, ZonesAreTheSystemsWhichItsUpdatesKeepTrue) {
  if (zones_version() < "2024a")
    GTEST_SKIP() << "this machine's zones are older than these changes: " << zones_version();
  const auto midnight = [](const char* zone, unsigned month, unsigned day) {
    return periods_at(zone, utc_ms(2024, month, day, 12)).day.begin_ms - utc_ms(2024, month, day);
  };
  EXPECT_EQ(midnight("Asia/Almaty", 2, 28), -6 * kHourMs);
  EXPECT_EQ(midnight("Asia/Almaty", 3, 2), -5 * kHourMs) << "one zone for Kazakhstan since 2024-03-01";
  EXPECT_EQ(midnight("America/Mexico_City", 7, 1), 6 * kHourMs) << "no summer time since 2022";
  EXPECT_EQ(midnight("Africa/Cairo", 7, 1), -3 * kHourMs) << "summer time again since 2023";
}

TEST(LimitCalendar, ADayBeginsAtItsFirstInstantWhereClocksJumpAtMidnight) {
  if (zones_version() < "2024a") GTEST_SKIP() << "this machine's zones are too old: " << zones_version();
  // 2024-04-26 00:00 becomes 01:00 in Cairo: the date begins at 22:00 UTC, which is 01:00 there.
  const CalendarPeriod cairo = periods_at("Africa/Cairo", utc_ms(2024, 4, 26, 9)).day;
  EXPECT_EQ(cairo.id, 20240426);
  EXPECT_EQ(cairo.begin_ms, utc_ms(2024, 4, 25, 22));
  EXPECT_EQ(cairo.end_ms, utc_ms(2024, 4, 26, 21));
  // In Beirut the last hour of 2024-10-26 comes twice; in Havana the first of 2024-11-03.
  EXPECT_EQ(periods_at("Asia/Beirut", utc_ms(2024, 10, 26, 21, 30)).day.end_ms, utc_ms(2024, 10, 26, 22));
  const CalendarPeriod havana = periods_at("America/Havana", utc_ms(2024, 11, 3, 4, 30)).day;
  EXPECT_EQ(havana.begin_ms, utc_ms(2024, 11, 3, 4));
  EXPECT_EQ(havana.end_ms, utc_ms(2024, 11, 4, 5));
  // Samoa had no 2011-12-30.
  const CalendarPeriod apia = periods_at("Pacific/Apia", utc_ms(2011, 12, 29, 20)).day;
  EXPECT_EQ(apia.id, 20111229);
  EXPECT_EQ(periods_at("Pacific/Apia", apia.end_ms).day.id, 20111231);
  // At 00:01 of 2010-11-07 St. John's went back to 23:01: what comes twice is of the new day.
  const CalendarPeriod again = periods_at("America/St_Johns", utc_ms(2010, 11, 7, 2, 45)).day;
  EXPECT_EQ(again.id, 20101107);
  EXPECT_EQ(again.begin_ms, utc_ms(2010, 11, 7, 2, 30));
}

TEST(LimitCalendar, DaysAndMonthsTileTheTimeLine) {
  for (const char* name :
       {"Africa/Cairo", "America/Santiago", "Asia/Beirut", "America/Havana", "America/Asuncion", "Asia/Amman",
        "America/Sao_Paulo", "Asia/Tehran", "Pacific/Apia", "America/St_Johns", "Europe/Berlin", "Asia/Gaza",
        "Australia/Lord_Howe", "Africa/Casablanca", "UTC", "Asia/Kolkata"}) {
    CalendarPeriods last = periods_at(name, utc_ms(2005, 1, 2));
    int64_t days = 0, until = utc_ms(2045, 1, 1);
    for (; last.day.end_ms < until; ++days) {
      const CalendarPeriods next = periods_at(name, last.day.end_ms);
      ASSERT_EQ(next.day.begin_ms, last.day.end_ms) << name << " " << next.day.id;
      ASSERT_GT(next.day.id, last.day.id) << name;
      ASSERT_GE(next.day.end_ms - next.day.begin_ms, 22 * kHourMs) << name << " " << next.day.id;
      ASSERT_LE(next.day.end_ms - next.day.begin_ms, 26 * kHourMs) << name << " " << next.day.id;
      ASSERT_EQ(next.month.id, next.day.id / 100) << name;
      if (next.month.id == last.month.id) {
        ASSERT_EQ(next.month.begin_ms, last.month.begin_ms) << name << " " << next.day.id;
        ASSERT_EQ(next.month.end_ms, last.month.end_ms) << name << " " << next.day.id;
      } else {
        ASSERT_EQ(next.month.begin_ms, last.month.end_ms) << name << " " << next.day.id;
        ASSERT_EQ(next.month.begin_ms, next.day.begin_ms) << name << " " << next.day.id;
      }
      // Every instant of a day is in that day, and in no other.
      for (int64_t at = next.day.begin_ms; at < next.day.end_ms; at += 59 * kMinuteMs) {
        ASSERT_EQ(periods_at(name, at).day.id, next.day.id) << name << " " << at;
      }
      ASSERT_EQ(periods_at(name, next.day.end_ms - 1).day.id, next.day.id) << name;
      last = next;
    }
    EXPECT_GT(days, 39 * 365) << name;
  }
}

}  // namespace
}  // namespace redoubt
