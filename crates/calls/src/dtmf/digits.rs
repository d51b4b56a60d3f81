//! Keys in the bodies of INFO, and the digits that a caller dialled so far.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use switchroom_wire::sip::scan;

/// A key that was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// `0`–`9`, `*`, `#`, `A`–`D`, `!` for a hook flash.
    pub name: char,
    /// How long, in milliseconds; 0 when it was not said.
    pub ms: u32,
}

/// The longest row of digits that is remembered.
const MAX_DIGITS: usize = 64;

/// Whether a Content-Type is that of keys.
pub fn is_dtmf(kind: &[u8]) -> bool {
    let kind = scan::trim(kind.split(|b| *b == b';').next().unwrap_or_default());
    kind.eq_ignore_ascii_case(b"application/dtmf-relay") || kind.eq_ignore_ascii_case(b"application/dtmf")
}

/// Read a body: `Signal=5` and `Duration=160` in lines (`application/dtmf-relay`), or the key alone (`application/dtmf`).
pub fn read(kind: &[u8], body: &[u8]) -> Option<Key> {
    if !is_dtmf(kind) || body.len() > 256 {
        return None;
    }
    let text = std::str::from_utf8(body).ok()?;
    let (mut key, mut ms) = (None, 0);
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
        match line.split_once(['=', ':']) {
            Some((name, value)) if name.trim().eq_ignore_ascii_case("signal") => key = name_of(value.trim()),
            Some((name, value)) if name.trim().eq_ignore_ascii_case("duration") => {
                ms = value.trim().parse().unwrap_or(0);
            }
            Some(_) => {}
            None if key.is_none() => key = name_of(line),
            None => {}
        }
    }
    key.map(|name| Key { name, ms })
}

/// A key by its sign, or by its number as an event (RFC 4733 §3.2).
fn name_of(text: &str) -> Option<char> {
    let mut chars = text.chars();
    match (chars.next()?, chars.next()) {
        (c @ ('0'..='9' | '*' | '#' | '!'), None) => Some(c),
        (c @ ('a'..='d' | 'A'..='D'), None) => Some(c.to_ascii_uppercase()),
        _ if text.eq_ignore_ascii_case("hf") || text.eq_ignore_ascii_case("flash") => Some('!'),
        _ => match text.parse::<u8>().ok()? {
            10 => Some('*'),
            11 => Some('#'),
            n @ 12..=15 => Some(char::from(b'A' + n - 12)),
            16 => Some('!'),
            _ => None,
        },
    }
}

type Side = (Box<[u8]>, Box<[u8]>);

/// What the callers of a worker dialled, by Call-ID and tag.
pub struct Dialled {
    rows: HashMap<Side, (String, Instant)>,
    /// In the order in which they came, so that the oldest can go.
    order: VecDeque<Side>,
    most: usize,
}

impl Dialled {
    /// For so many at a time.
    pub fn new(most: usize) -> Dialled {
        Dialled { rows: HashMap::new(), order: VecDeque::new(), most }
    }

    /// A key was pressed: all digits of its row, and whether the oldest row was forgotten for it. A row ends with a pause.
    pub fn press(
        &mut self,
        call: &[u8],
        tag: &[u8],
        key: char,
        now: Instant,
        pause: Duration,
    ) -> (String, bool) {
        while let Some(oldest) = self.order.front() {
            let is_old = self.rows.get(oldest).is_none_or(|(_, at)| now >= *at + pause);
            if !is_old {
                break;
            }
            if let Some(oldest) = self.order.pop_front() {
                self.rows.remove(&oldest);
            }
        }
        let side: Side = (call.into(), tag.into());
        let mut forgot = false;
        if !self.rows.contains_key(&side) {
            if self.rows.len() >= self.most
                && let Some(oldest) = self.order.pop_front()
            {
                self.rows.remove(&oldest);
                forgot = true;
            }
            self.order.push_back(side.clone());
        }
        let (digits, at) = self.rows.entry(side).or_insert_with(|| (String::new(), now));
        if now >= *at + pause || digits.len() >= MAX_DIGITS {
            digits.clear();
        }
        digits.push(key);
        *at = now;
        (digits.clone(), forgot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bodies_and_both_ways_to_name_a_key_are_read() {
        let relay = |body: &str| read(b"application/dtmf-relay", body.as_bytes());
        assert_eq!(relay("Signal=5\r\nDuration=160\r\n"), Some(Key { name: '5', ms: 160 }));
        assert_eq!(relay("Signal= 11\nDuration= 250"), Some(Key { name: '#', ms: 250 }));
        assert_eq!(relay("signal: d"), Some(Key { name: 'D', ms: 0 }));
        assert_eq!(relay("Signal=99"), None);
        assert_eq!(relay(""), None);
        assert_eq!(read(b"Application/DTMF; x=y", b"*\r\n"), Some(Key { name: '*', ms: 0 }));
        assert_eq!(read(b"application/dtmf", b"10"), Some(Key { name: '*', ms: 0 }));
        assert_eq!(read(b"text/plain", b"5"), None);
    }

    #[test]
    fn a_row_of_digits_ends_with_a_pause_and_their_number_is_bounded() {
        let mut d = Dialled::new(2);
        let (start, pause) = (Instant::now(), Duration::from_secs(5));
        let mut press =
            |call: &str, key, s| d.press(call.as_bytes(), b"t", key, start + Duration::from_secs(s), pause);
        assert_eq!(press("a", '1', 0), ("1".into(), false));
        assert_eq!(press("a", '2', 4), ("12".into(), false));
        assert_eq!(press("a", '3', 9), ("3".into(), false));
        assert_eq!(press("b", '1', 9), ("1".into(), false));
        assert_eq!(press("c", '1', 9), ("1".into(), true));
        assert_eq!(press("a", '4', 10), ("4".into(), true));
    }
}
