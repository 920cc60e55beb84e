#include "runtime/devices/calendar.h"

namespace trapline {
namespace {

constexpr int64_t kDay = 86400;
/// The calendar repeats every 400 years.
constexpr int64_t kEraYears = 400, kEraDays = 146097;
/// Days from 1 March 0000 to 1 January 1970.
constexpr int64_t kDaysToEpoch = 719468;

constexpr int64_t floor_div(int64_t value, int64_t by) {
  return value / by - (value % by < 0 ? 1 : 0);
}

/// Days before the given month of a year that begins with March (0 is March).
constexpr int64_t days_before_month(int64_t month) {
  return (153 * month + 2) / 5;
}

}  // namespace

// Years begin with March here, so that the leap day comes last.
int64_t seconds_of(const CalendarTime& time) {
  const int64_t months = time.year * 12 + time.month - 3;
  const int64_t year = floor_div(months, 12);
  const int64_t era = floor_div(year, kEraYears);
  const int64_t in_era = year - era * kEraYears;
  const int64_t days = era * kEraDays + in_era * 365 + in_era / 4 - in_era / 100 +
                       days_before_month(months - year * 12) + time.day - 1 - kDaysToEpoch;
  return days * kDay + time.hour * 3600 + time.minute * 60 + time.second;
}

CalendarTime calendar_of(int64_t seconds) {
  const int64_t since_epoch = floor_div(seconds, kDay);
  const int64_t second = seconds - since_epoch * kDay;
  const int64_t days = since_epoch + kDaysToEpoch;
  const int64_t era = floor_div(days, kEraDays);
  const int64_t day_of_era = days - era * kEraDays;
  const int64_t year_of_era =
      (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  const int64_t day_of_year =
      day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const int64_t month = (5 * day_of_year + 2) / 153;
  return {.year = era * kEraYears + year_of_era + (month >= 10 ? 1 : 0),
          .month = month < 10 ? month + 3 : month - 9,
          .day = day_of_year - days_before_month(month) + 1,
          .hour = second / 3600,
          .minute = second / 60 % 60,
          .second = second % 60};
}

unsigned weekday_of(int64_t seconds) {
  const int64_t day = floor_div(seconds, kDay) + 4;  // 1 January 1970 was a Thursday.
  return static_cast<unsigned>(day - floor_div(day, 7) * 7);
}

}  // namespace trapline
