//! Recurring times in the notation of the routing language:
//! `[tz|]dtstart|dtend|duration|freq|until|interval|byday|bymday|byyday|byweekno|bymonth`, each field as in RFC 2445.
//!
//! A moment fits when it lies in `[start, start + duration)` of one recurrence; the `by...` lists are asked of the day on
//! which that recurrence starts, so a night shift that begins on Friday still fits on Saturday at one o'clock. Left out:
//! expressions that join several recurrences.

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

/// A recurring time.
#[derive(Debug)]
pub struct TimeRec {
    zone: TimeZone,
    start: Option<DateTime>,
    length: Option<SignedDuration>,
    freq: Freq,
    until: Option<DateTime>,
    interval: i64,
    by_day: Vec<(i64, Weekday)>,
    by_month_day: Vec<i64>,
    by_year_day: Vec<i64>,
    by_week: Vec<i64>,
    by_month: Vec<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Freq {
    Once,
    Daily,
    Weekly,
    Monthly,
    Yearly,
}

impl TimeRec {
    /// Read the notation. An empty text fits always.
    pub fn parse(text: &str) -> Result<TimeRec, String> {
        let mut fields: Vec<&str> = text.split('|').map(str::trim).collect();
        let mut zone = TimeZone::system();
        if fields[0].starts_with(|c: char| c.is_ascii_alphabetic()) {
            let name = fields.remove(0);
            zone = TimeZone::get(name).map_err(|e| format!("\"{name}\": {e}"))?;
        }
        if fields.len() > 11 {
            return Err(format!("\"{text}\" has more than 11 fields"));
        }
        let field = |i: usize| fields.get(i).copied().unwrap_or_default();
        let start = moment(field(0), &zone)?;
        let end = moment(field(1), &zone)?;
        let length = match (duration(field(2))?, start, end) {
            (Some(length), ..) => Some(length),
            (None, Some(start), Some(end)) => Some(end.duration_since(start)),
            _ => None,
        };
        let freq = match field(3).to_ascii_lowercase().as_str() {
            "" => Freq::Once,
            "daily" => Freq::Daily,
            "weekly" => Freq::Weekly,
            "monthly" => Freq::Monthly,
            "yearly" => Freq::Yearly,
            other => return Err(format!("\"{other}\" is no frequency (daily, weekly, monthly, yearly)")),
        };
        let interval = match field(5) {
            "" => 1,
            n => n.parse().ok().filter(|n| *n > 0).ok_or_else(|| format!("\"{n}\" is no interval"))?,
        };
        Ok(TimeRec {
            until: moment(field(4), &zone)?,
            by_day: days(field(6))?,
            by_month_day: numbers(field(7))?,
            by_year_day: numbers(field(8))?,
            by_week: numbers(field(9))?,
            by_month: numbers(field(10))?,
            zone,
            start,
            length,
            freq,
            interval,
        })
    }

    /// Whether a moment (seconds since the epoch) fits.
    pub fn fits(&self, unix: i64) -> bool {
        let Ok(at) = Timestamp::from_second(unix) else { return false };
        self.fits_local(self.zone.to_datetime(at))
    }

    fn fits_local(&self, at: DateTime) -> bool {
        let Some(start) = self.start else { return self.freq == Freq::Once || self.fits_day(at.date()) };
        if at < start {
            return false;
        }
        if self.freq == Freq::Once {
            return self.length.is_none_or(|length| at.duration_since(start) < length);
        }
        if self.until.is_some_and(|until| at > until) {
            return false;
        }
        let Some(began) = self.began(start, at) else { return false };
        let lasts = self.length.is_none_or(|length| at.duration_since(began) < length);
        lasts && self.on_interval(start.date(), began.date()) && self.fits_day(began.date())
    }

    /// The last possible beginning at or before `at`.
    fn began(&self, start: DateTime, at: DateTime) -> Option<DateTime> {
        let by_days =
            !(self.by_day.is_empty() && self.by_month_day.is_empty() && self.by_year_day.is_empty());
        let mut day = at.date();
        if at.time() < start.time() {
            day = day.yesterday().ok()?;
        }
        let fits = |day: Date| match self.freq {
            _ if by_days => true,
            Freq::Once | Freq::Daily => true,
            Freq::Weekly => day.weekday() == start.weekday(),
            Freq::Monthly => day.day() == start.day(),
            // A list of months or weeks repeats the day of the month or week in each of them.
            Freq::Yearly if !self.by_month.is_empty() => day.day() == start.day(),
            Freq::Yearly if !self.by_week.is_empty() => day.weekday() == start.weekday(),
            Freq::Yearly => (day.month(), day.day()) == (start.month(), start.day()),
        };
        // Four years hold every day of a calendar.
        for _ in 0..=4 * 366 {
            if day < start.date() {
                return None;
            }
            if fits(day) {
                return Some(day.to_datetime(start.time()));
            }
            day = day.yesterday().ok()?;
        }
        None
    }

    fn on_interval(&self, start: Date, day: Date) -> bool {
        let days = |a: Date, b: Date| i64::from(a.until(b).map_or(0, |s| s.get_days()));
        let monday = |d: Date| d - i64::from(d.weekday().to_monday_zero_offset()).days();
        let months = |d: Date| i64::from(d.year()) * 12 + i64::from(d.month());
        let passed = match self.freq {
            Freq::Once => 0,
            Freq::Daily => days(start, day),
            Freq::Weekly => days(monday(start), monday(day)) / 7,
            Freq::Monthly => months(day) - months(start),
            Freq::Yearly => i64::from(day.year()) - i64::from(start.year()),
        };
        passed % self.interval == 0
    }

    fn fits_day(&self, day: Date) -> bool {
        // Negative numbers count from the end.
        let in_list = |list: &[i64], from_start: i64, size: i64| {
            list.is_empty() || list.contains(&from_start) || list.contains(&(from_start - size - 1))
        };
        let in_month = i64::from(day.day());
        let month_size = i64::from(day.days_in_month());
        let by_day = self.by_day.is_empty()
            || self.by_day.iter().any(|(nth, weekday)| {
                *weekday == day.weekday()
                    && (*nth == 0
                        || *nth == (in_month - 1) / 7 + 1
                        || *nth == -((month_size - in_month) / 7 + 1))
            });
        by_day
            && in_list(&self.by_month_day, in_month, month_size)
            && in_list(&self.by_year_day, i64::from(day.day_of_year()), i64::from(day.days_in_year()))
            && in_list(&self.by_week, i64::from(day.iso_week_date().week()), 53)
            && in_list(&self.by_month, i64::from(day.month()), 12)
    }
}

/// `YYYYMMDD[THHMMSS[Z]]` as local time of the zone.
fn moment(text: &str, zone: &TimeZone) -> Result<Option<DateTime>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let read = || {
        let (day, time) = text.split_once(['T', 't']).unwrap_or((text, ""));
        let utc = time.ends_with(['Z', 'z']);
        let time = time.trim_end_matches(['Z', 'z']);
        let number = |s: &str, from: usize, to: usize| s.get(from..to)?.parse::<i16>().ok();
        let part = |s: &str, from: usize, to: usize| i8::try_from(number(s, from, to)?).ok();
        if day.len() != 8 || !matches!(time.len(), 0 | 6) {
            return None;
        }
        let date = Date::new(number(day, 0, 4)?, part(day, 4, 6)?, part(day, 6, 8)?).ok()?;
        let time = match time {
            "" => Time::midnight(),
            t => Time::new(part(t, 0, 2)?, part(t, 2, 4)?, part(t, 4, 6)?, 0).ok()?,
        };
        let at = date.to_datetime(time);
        if utc {
            return Some(zone.to_datetime(TimeZone::UTC.to_timestamp(at).ok()?));
        }
        Some(at)
    };
    read().map(Some).ok_or_else(|| format!("\"{text}\" is no time like 20260101T080000"))
}

/// `P1DT8H`, `PT30M`, `P2W`.
fn duration(text: &str) -> Result<Option<SignedDuration>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let read = || {
        let mut seconds = 0i64;
        let mut number = String::new();
        let body = text.trim_start_matches('+').to_ascii_uppercase();
        for c in body.strip_prefix('P')?.chars() {
            let unit = match c {
                'T' => continue,
                '0'..='9' => {
                    number.push(c);
                    continue;
                }
                'W' => 7 * 86_400,
                'D' => 86_400,
                'H' => 3_600,
                'M' => 60,
                'S' => 1,
                _ => return None,
            };
            seconds = seconds.checked_add(number.parse::<i64>().ok()?.checked_mul(unit)?)?;
            number.clear();
        }
        number.is_empty().then_some(SignedDuration::from_secs(seconds))
    };
    read().map(Some).ok_or_else(|| format!("\"{text}\" is no duration like PT8H"))
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|i| !i.is_empty())
}

fn numbers(text: &str) -> Result<Vec<i64>, String> {
    items(text).map(|n| n.parse().map_err(|_| format!("\"{n}\" is no number"))).collect()
}

/// `MO,TU`, `1SU`, `-1FR`.
fn days(text: &str) -> Result<Vec<(i64, Weekday)>, String> {
    let one = |item: &str| {
        let (nth, name) = item.split_at_checked(item.len().checked_sub(2)?)?;
        let day = match name.to_ascii_uppercase().as_str() {
            "MO" => Weekday::Monday,
            "TU" => Weekday::Tuesday,
            "WE" => Weekday::Wednesday,
            "TH" => Weekday::Thursday,
            "FR" => Weekday::Friday,
            "SA" => Weekday::Saturday,
            "SU" => Weekday::Sunday,
            _ => return None,
        };
        Some((if nth.is_empty() { 0 } else { nth.parse().ok()? }, day))
    };
    items(text).map(|i| one(i).ok_or_else(|| format!("\"{i}\" is no day like MO or -1FR"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(rec: &str, at: &str) -> bool {
        let rec = TimeRec::parse(&format!("UTC|{rec}")).unwrap();
        rec.fits_local(at.parse().unwrap())
    }

    #[test]
    fn one_span_of_time_fits_from_its_start_to_its_end() {
        let year = "20120101T000000|20121231T235959";
        assert!(fits(year, "2012-06-01T12:00:00"));
        assert!(!fits(year, "2013-01-01T00:00:00"));
        assert!(!fits(year, "2011-12-31T23:59:59"));
        assert!(fits("20121101T000000||p30d", "2012-11-30T23:00:00"));
        assert!(!fits("20121101T000000||p30d", "2012-12-01T00:00:00"));
    }

    #[test]
    fn office_hours_repeat_on_working_days() {
        let office = "20260105T080000|20260105T170000||weekly|||MO,TU,WE,TH,FR";
        assert!(fits(office, "2026-03-04T08:00:00"));
        assert!(!fits(office, "2026-03-04T17:00:00"));
        assert!(!fits(office, "2026-03-07T12:00:00"));
    }

    #[test]
    fn a_night_shift_ends_on_the_next_morning() {
        let night = "20260102T220000||PT8H|weekly|||FR";
        assert!(fits(night, "2026-01-10T05:59:59"));
        assert!(!fits(night, "2026-01-10T06:00:00"));
        assert!(!fits(night, "2026-01-11T01:00:00"));
    }

    #[test]
    fn intervals_until_and_positions_are_kept() {
        assert!(!fits("20260101T000000||P1D|daily||2", "2026-01-02T10:00:00"));
        assert!(fits("20260101T000000||P1D|daily||2", "2026-01-03T10:00:00"));
        assert!(!fits("20260101T000000||P1D|daily|20260110T000000", "2026-01-11T10:00:00"));
        assert!(fits("20260101T000000||P1D|monthly|||-1FR", "2026-01-30T10:00:00"));
        assert!(!fits("20260101T000000||P1D|monthly|||-1FR", "2026-01-23T10:00:00"));
        assert!(fits("20261225T000000||P1D|yearly", "2027-12-25T10:00:00"));
        assert!(!fits("20261225T000000||P1D|yearly", "2027-12-26T10:00:00"));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in
            ["2012", "20120101T0800", "||8h", "|||hourly", "|||daily|||XX", "|||daily||0", "Mars/Base|"]
        {
            assert!(TimeRec::parse(bad).is_err(), "{bad}");
        }
    }
}
