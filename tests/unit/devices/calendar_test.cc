#include "runtime/devices/calendar.h"

#include <gtest/gtest.h>

namespace trapline {
namespace {

TEST(Calendar, KnowsSomeDates) {
  EXPECT_EQ(seconds_of({}), 0);
  EXPECT_EQ(seconds_of({2000, 3, 1, 0, 0, 0}), 951'868'800);
  EXPECT_EQ(seconds_of({2001, 11, 14, 10, 20, 30}), 1'005'733'230);
  EXPECT_EQ(seconds_of({1969, 12, 31, 23, 59, 59}), -1);
  EXPECT_EQ(weekday_of(0), 4u);
  EXPECT_EQ(weekday_of(-1), 3u);
  EXPECT_EQ(weekday_of(1'005'733'230), 3u);
}

TEST(Calendar, CarriesWhatIsTooLarge) {
  EXPECT_EQ(seconds_of({2001, 14, 30, 25, 61, 61}), seconds_of({2002, 3, 3, 2, 2, 1}));
  EXPECT_EQ(seconds_of({2001, 0, 0, 0, 0, 0}), seconds_of({2000, 11, 30, 0, 0, 0}));
}

TEST(Calendar, GoesBothWays) {
  int64_t days = 0;
  constexpr int month_days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  for (int64_t year = 1970; year < 2410; ++year) {
    const bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    for (int64_t month = 1; month <= 12; ++month) {
      const int last = month_days[month - 1] + (leap && month == 2);
      for (int64_t day = 1; day <= last; ++day, ++days) {
        ASSERT_EQ(seconds_of({year, month, day, 1, 2, 3}), days * 86400 + 3723);
        const CalendarTime time = calendar_of(days * 86400 + 3723);
        ASSERT_EQ(time.year, year);
        ASSERT_EQ(time.month, month);
        ASSERT_EQ(time.day, day);
        ASSERT_EQ(time.hour * 3600 + time.minute * 60 + time.second, 3723);
      }
    }
  }
  for (int64_t seconds = -100'000'000'000; seconds < 800'000'000'000; seconds += 987'654'321)
    ASSERT_EQ(seconds_of(calendar_of(seconds)), seconds);
}

}  // namespace
}  // namespace trapline
