#include <string>

#include "text/jinja_runtime.h"

namespace tessera::jinja {

namespace {

constexpr std::string_view kDays[] = {"Monday", "Tuesday",  "Wednesday", "Thursday",
                                      "Friday", "Saturday", "Sunday"};
constexpr std::string_view kMonths[] = {"January",   "February", "March",    "April",
                                        "May",       "June",     "July",     "August",
                                        "September", "October",  "November", "December"};

struct IsoWeek {
  int year, week;
};

// ISO 8601: a week belongs to the year of its Thursday.
IsoWeek IsoWeekOf(const CalendarTime& t) {
  auto weeks_of = [](int year) {
    auto last_weekday = [](int y) { return (y + y / 4 - y / 100 + y / 400) % 7; };
    return last_weekday(year) == 4 || last_weekday(year - 1) == 3 ? 53 : 52;
  };
  const int week = (t.year_day - t.weekday + 9) / 7;
  if (week < 1) return {t.year - 1, weeks_of(t.year - 1)};
  if (week > weeks_of(t.year)) return {t.year + 1, 1};
  return {t.year, week};
}

class Directives {
 public:
  Directives(const CalendarTime& time, bool padded) : t(time), padded_(padded) {}

  std::optional<std::string> Expand(char directive) const {
    const int hour12 = t.hour % 12 == 0 ? 12 : t.hour % 12;
    const int sunday = (t.weekday + 1) % 7;
    switch (directive) {
      case 'a': return std::string(Day().substr(0, 3));
      case 'A': return std::string(Day());
      case 'b':
      case 'h': return std::string(Month().substr(0, 3));
      case 'B': return std::string(Month());
      case 'c':
        return fmt::format("{} {} {:2d} {:02d}:{:02d}:{:02d} {}", Day().substr(0, 3),
                           Month().substr(0, 3), t.day, t.hour, t.minute, t.second, t.year);
      case 'C': return Number(t.year / 100, 2);
      case 'd': return Number(t.day, 2);
      case 'D':
      case 'x': return fmt::format("{:02d}/{:02d}/{:02d}", t.month, t.day, t.year % 100);
      case 'e': return Spaced(t.day);
      case 'F': return fmt::format("{}-{:02d}-{:02d}", t.year, t.month, t.day);
      case 'f': return fmt::format("{:06d}", 0);
      case 'G': return Number(IsoWeekOf(t).year, 1);
      case 'g': return Number(IsoWeekOf(t).year % 100, 2);
      case 'H': return Number(t.hour, 2);
      case 'I': return Number(hour12, 2);
      case 'j': return Number(t.year_day, 3);
      case 'k': return Spaced(t.hour);
      case 'l': return Spaced(hour12);
      case 'm': return Number(t.month, 2);
      case 'M': return Number(t.minute, 2);
      case 'n': return fmt::format("\n");
      case 'p': return std::string(t.hour < 12 ? "AM" : "PM");
      case 'P': return std::string(t.hour < 12 ? "am" : "pm");
      case 'r':
        return fmt::format("{:02d}:{:02d}:{:02d} {}", hour12, t.minute, t.second,
                           t.hour < 12 ? "AM" : "PM");
      case 'R': return fmt::format("{:02d}:{:02d}", t.hour, t.minute);
      case 'S': return Number(t.second, 2);
      case 't': return fmt::format("\t");
      case 'T':
      case 'X': return fmt::format("{:02d}:{:02d}:{:02d}", t.hour, t.minute, t.second);
      case 'u': return Number(t.weekday + 1, 1);
      case 'U': return Number((t.year_day + 6 - sunday) / 7, 2);
      case 'V': return Number(IsoWeekOf(t).week, 2);
      case 'w': return Number(sunday, 1);
      case 'W': return Number((t.year_day + 6 - t.weekday) / 7, 2);
      case 'y': return Number(t.year % 100, 2);
      case 'Y': return Number(t.year, 1);
      case 'z':
      case 'Z': return std::string();  // a naive datetime has no zone
      case '%': return fmt::format("%");
      default: return std::nullopt;
    }
  }

 private:
  std::string_view Day() const { return kDays[t.weekday]; }
  std::string_view Month() const { return kMonths[t.month - 1]; }
  std::string Number(int value, int width) const {
    return fmt::format("{:0{}d}", value, padded_ ? width : 1);
  }
  std::string Spaced(int value) const { return fmt::format("{:{}d}", value, padded_ ? 2 : 1); }

  const CalendarTime& t;
  bool padded_;
};

}  // namespace

Str FormatTime(Runtime& rt, const Str& format, const CalendarTime& time) {
  StrBuilder out(rt.budget());
  const std::string_view text = format.view();
  for (size_t i = 0; i < text.size(); ++i) {
    const size_t begin = i;
    if (text[i] == '%' && i + 1 < text.size()) {
      const bool padded = text[i + 1] != '-' || i + 2 >= text.size();
      i += padded ? 1 : 2;
      if (const auto piece = Directives(time, padded).Expand(text[i])) {
        out.Append(*piece, format.OriginAt(begin));
        continue;
      }
    }
    out.Append(format, begin, i + 1);
  }
  return out.Finish();
}

}  // namespace tessera::jinja
