// Dates of the Gregorian calendar and seconds since 1970, both without time zones.
#pragma once

#include <cstdint>

namespace trapline {

struct CalendarTime {
  int64_t year = 1970;
  int64_t month = 1;  ///< From 1.
  int64_t day = 1;
  int64_t hour = 0;
  int64_t minute = 0;
  int64_t second = 0;
};

/// Any values will do: what is too large is carried over (second 60 is the next minute's first, day
/// 0 the last of the month before).
int64_t seconds_of(const CalendarTime& time);
CalendarTime calendar_of(int64_t seconds);
/// 0 is Sunday.
unsigned weekday_of(int64_t seconds);

}  // namespace trapline
