//! Times of SMPP (5.0 §4.7.23): absolute `YYMMDDhhmmsstnnp` and relative `YYMMDDhhmmss000R`, and the `YYMMDDhhmm` of receipts.
//!
//! Here they are only read and written; what "now" is comes from outside. Unix times are seconds, UTC.

/// A time as it stands in a PDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// A moment, in unix seconds.
    At(i64),
    /// So many seconds from now. A year counts 365 days and a month 30.
    After(i64),
}

impl Time {
    /// Reads the 16 characters; `None` when they are anything else.
    #[must_use]
    pub fn read(text: &[u8]) -> Option<Time> {
        let text: &[u8; 16] = text.try_into().ok()?;
        let n = |at: usize| two(text, at);
        let (year, month, day) = (n(0)?, n(2)?, n(4)?);
        let (hour, minute, second) = (n(6)?, n(8)?, n(10)?);
        if hour > 23 || minute > 59 || second > 59 || !text[12].is_ascii_digit() {
            return None;
        }
        let offset = n(13)?;
        let clock = hour * 3600 + minute * 60 + second;
        match text[15] {
            b'R' => Some(Time::After((year * 365 + month * 30 + day) * 86_400 + clock)),
            sign @ (b'+' | b'-') => {
                if !(1..=12).contains(&month) || day < 1 || day > days_in(2000 + year, month) || offset > 48 {
                    return None;
                }
                let local = days(2000 + year, month, day) * 86_400 + clock;
                let offset = offset * 900;
                Some(Time::At(if sign == b'+' { local - offset } else { local + offset }))
            }
            _ => None,
        }
    }

    /// The moment it means at `now`.
    #[must_use]
    pub fn at(self, now: i64) -> i64 {
        match self {
            Time::At(moment) => moment,
            Time::After(seconds) => now.saturating_add(seconds),
        }
    }

    /// The 16 characters; a moment is written in UTC.
    #[must_use]
    pub fn write(self) -> [u8; 16] {
        match self {
            Time::At(moment) => {
                let c = civil(moment);
                digits([c.year % 100, c.month, c.day, c.hour, c.minute, c.second], *b"000+")
            }
            Time::After(seconds) => {
                let seconds = seconds.clamp(0, 99 * 365 * 86_400);
                let (all_days, clock) = (seconds / 86_400, seconds % 86_400);
                let (year, rest) = (all_days / 365, all_days % 365);
                digits([year, rest / 30, rest % 30, clock / 3600, clock / 60 % 60, clock % 60], *b"000R")
            }
        }
    }
}

/// `YYMMDDhhmm`, as in the text of a receipt; `offset` seconds are added to UTC.
#[must_use]
pub fn short(moment: i64, offset: i64) -> [u8; 10] {
    let c = civil(moment.saturating_add(offset));
    let long = digits([c.year % 100, c.month, c.day, c.hour, c.minute, 0], [0; 4]);
    let mut out = [0; 10];
    out.copy_from_slice(&long[..10]);
    out
}

/// The time of a receipt's text: `YYMMDDhhmm`, with seconds, or with a year of four digits. The zone is not known, so it is read
/// as UTC.
#[must_use]
pub fn read_short(text: &[u8]) -> Option<i64> {
    let (year, rest) = match text.len() {
        10 | 12 => (2000 + two(text, 0)?, &text[2..]),
        14 => (two(text, 0)? * 100 + two(text, 2)?, &text[4..]),
        _ => return None,
    };
    let (month, day, hour, minute) = (two(rest, 0)?, two(rest, 2)?, two(rest, 4)?, two(rest, 6)?);
    let second = if rest.len() == 10 { two(rest, 8)? } else { 0 };
    let sound =
        (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day) && hour < 24 && minute < 60;
    (sound && second < 60).then(|| days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

fn two(text: &[u8], at: usize) -> Option<i64> {
    match text.get(at..at + 2)? {
        [a @ b'0'..=b'9', b @ b'0'..=b'9'] => Some(i64::from(a - b'0') * 10 + i64::from(b - b'0')),
        _ => None,
    }
}

fn digits(parts: [i64; 6], tail: [u8; 4]) -> [u8; 16] {
    let mut out = [b'0'; 16];
    for (i, n) in parts.into_iter().enumerate() {
        out[i * 2] = b'0' + (n / 10 % 10) as u8;
        out[i * 2 + 1] = b'0' + (n % 10) as u8;
    }
    out[12..].copy_from_slice(&tail);
    out
}

struct Civil {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the Gregorian calendar. Years begin in March here, so that the leap day is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let of_year = (153 * month_from_march + 2) / 5 + day - 1;
    y * 365 + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + of_year - 719_468
}

fn civil(moment: i64) -> Civil {
    let (mut left, clock) = (moment.div_euclid(86_400), moment.rem_euclid(86_400));
    let mut year = 1970 + left / 366;
    left -= days(year, 1, 1);
    loop {
        let length = 337 + days_in(year, 2);
        if left < length {
            break;
        }
        left -= length;
        year += 1;
    }
    let mut month = 1;
    while left >= days_in(year, month) {
        left -= days_in(year, month);
        month += 1;
    }
    Civil { year, month, day: left + 1, hour: clock / 3600, minute: clock / 60 % 60, second: clock % 60 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_times_carry_their_zone() {
        // 2026-11-21 16:12:22 UTC.
        let at = 1_795_277_542;
        assert_eq!(Time::read(b"261121161222000+"), Some(Time::At(at)));
        assert_eq!(Time::read(b"261121171222004+"), Some(Time::At(at)));
        assert_eq!(Time::read(b"261121111222020-"), Some(Time::At(at)));
        assert_eq!(&Time::At(at).write(), b"261121161222000+");
        assert_eq!(&short(at, 3600), b"2611211712");
        assert_eq!(read_short(b"2611211612"), Some(at - 22));
        assert_eq!(read_short(b"261121161222"), Some(at));
        assert_eq!(read_short(b"20261121161222"), Some(at));
    }

    #[test]
    fn relative_times_count_from_now() {
        assert_eq!(Time::read(b"000002000000000R"), Some(Time::After(172_800)));
        assert_eq!(Time::read(b"000002000000000R").unwrap().at(1000), 173_800);
        assert_eq!(&Time::After(172_800 + 3_723).write(), b"000002010203000R");
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in [
            &b""[..],
            b"2611211612",
            b"261321161222000+",
            b"260230161222000+",
            b"261121251222000+",
            b"261121161222049+",
            b"261121161222000X",
            b"26112116122200A+",
        ] {
            assert_eq!(Time::read(bad), None, "{}", String::from_utf8_lossy(bad));
        }
        assert_eq!(read_short(b"2613211612"), None);
    }

    #[test]
    fn every_day_of_some_centuries_comes_back() {
        for day in -30_000..60_000i64 {
            let c = civil(day * 86_400 + 5);
            assert_eq!(days(c.year, c.month, c.day), day);
        }
    }
}
