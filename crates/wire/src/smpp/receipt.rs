//! The text of a delivery receipt (SMPP 3.4 appendix B): written to the letter, read as the field writes it.

use super::pdu::MessageState;
use super::time;

/// A receipt to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt<'a> {
    /// Name of the message.
    pub id: &'a [u8],
    /// Messages submitted.
    pub submitted: u16,
    /// Messages delivered.
    pub delivered: u16,
    /// When it was submitted, unix seconds.
    pub submit: i64,
    /// When it became what it is, unix seconds.
    pub done: i64,
    /// State.
    pub state: MessageState,
    /// Error of the network, up to three characters.
    pub error: &'a [u8],
    /// Beginning of the text; the first 20 octets are shown.
    pub text: &'a [u8],
}

impl Receipt<'_> {
    /// `id:... sub:001 dlvrd:001 submit date:YYMMDDhhmm done date:YYMMDDhhmm stat:DELIVRD err:000 Text:...`; dates are UTC plus
    /// `offset` seconds.
    #[must_use]
    pub fn write(&self, offset: i64) -> Vec<u8> {
        let mut out = Vec::with_capacity(120);
        out.extend_from_slice(b"id:");
        out.extend_from_slice(self.id);
        for (name, n) in [(&b" sub:"[..], self.submitted), (b" dlvrd:", self.delivered)] {
            out.extend_from_slice(name);
            let n = n.min(999);
            out.extend_from_slice(&[
                b'0' + (n / 100) as u8,
                b'0' + (n / 10 % 10) as u8,
                b'0' + (n % 10) as u8,
            ]);
        }
        out.extend_from_slice(b" submit date:");
        out.extend_from_slice(&time::short(self.submit, offset));
        out.extend_from_slice(b" done date:");
        out.extend_from_slice(&time::short(self.done, offset));
        out.extend_from_slice(b" stat:");
        out.extend_from_slice(word(self.state).as_bytes());
        out.extend_from_slice(b" err:");
        out.resize(out.len() + 3usize.saturating_sub(self.error.len()), b'0');
        out.extend_from_slice(self.error);
        out.extend_from_slice(b" Text:");
        out.extend_from_slice(&self.text[..self.text.len().min(20)]);
        out
    }
}

/// The word for a state.
#[must_use]
pub fn word(state: MessageState) -> &'static str {
    match state {
        MessageState::Scheduled => "SCHEDLD",
        MessageState::Enroute => "ENROUTE",
        MessageState::Delivered => "DELIVRD",
        MessageState::Expired => "EXPIRED",
        MessageState::Deleted => "DELETED",
        MessageState::Undeliverable => "UNDELIV",
        MessageState::Accepted => "ACCEPTD",
        MessageState::Unknown => "UNKNOWN",
        MessageState::Rejected => "REJECTD",
        MessageState::Skipped => "SKIPPED",
    }
}

/// The state of a word, in any case; words nobody defined are unknown.
#[must_use]
pub fn state(word: &[u8]) -> MessageState {
    let is = |known: &str| word.eq_ignore_ascii_case(known.as_bytes());
    const WORDS: [(&str, MessageState); 17] = [
        ("SCHEDLD", MessageState::Scheduled),
        ("SCHEDULED", MessageState::Scheduled),
        ("ENROUTE", MessageState::Enroute),
        ("BUFFERED", MessageState::Enroute),
        ("SUBMITD", MessageState::Enroute),
        ("DELIVRD", MessageState::Delivered),
        ("DELIVERED", MessageState::Delivered),
        ("EXPIRED", MessageState::Expired),
        ("DELETED", MessageState::Deleted),
        ("UNDELIV", MessageState::Undeliverable),
        ("UNDELIVERABLE", MessageState::Undeliverable),
        ("FAILED", MessageState::Undeliverable),
        ("ACCEPTD", MessageState::Accepted),
        ("ACKED", MessageState::Accepted),
        ("REJECTD", MessageState::Rejected),
        ("REJECTED", MessageState::Rejected),
        ("SKIPPED", MessageState::Skipped),
    ];
    WORDS.iter().find(|(known, _)| is(known)).map_or(MessageState::Unknown, |(_, state)| *state)
}

/// A receipt's text as it was received; what is missing is empty or `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received<'a> {
    /// Name of the message.
    pub id: &'a [u8],
    /// `sub`
    pub submitted: Option<u32>,
    /// `dlvrd`
    pub delivered: Option<u32>,
    /// `submit date`, unix seconds if the sender's zone is UTC.
    pub submit: Option<i64>,
    /// `done date`
    pub done: Option<i64>,
    /// `stat`, as written.
    pub stat: &'a [u8],
    /// `err`
    pub error: &'a [u8],
    /// `text`
    pub text: &'a [u8],
}

impl Received<'_> {
    /// The state that `stat` means.
    #[must_use]
    pub fn state(&self) -> MessageState {
        state(self.stat)
    }
}

/// Keys in the order they are tried; the two dates come before what else begins like them.
const KEYS: [&[u8]; 8] =
    [b"submit date:", b"done date:", b"sub:", b"dlvrd:", b"stat:", b"err:", b"id:", b"text:"];

/// Reads a receipt's text. Keys may come in any order and case; `text` is the last and may hold anything. `None` when there is
/// neither an id nor a state.
#[must_use]
pub fn read(text: &[u8]) -> Option<Received<'_>> {
    let mut r = Received::default();
    let mut at = 0;
    while at < text.len() {
        let Some((key, behind)) = key_at(text, at) else {
            at += 1;
            continue;
        };
        if key == b"text:" {
            r.text = &text[behind..];
            break;
        }
        let end = (behind..text.len()).find(|i| text[*i] == b' ' || text[*i] == 0).unwrap_or(text.len());
        let value = &text[behind..end];
        let number = || std::str::from_utf8(value).ok()?.parse().ok();
        match key {
            b"id:" => r.id = value,
            b"sub:" => r.submitted = number(),
            b"dlvrd:" => r.delivered = number(),
            b"submit date:" => r.submit = time::read_short(value),
            b"done date:" => r.done = time::read_short(value),
            b"stat:" => r.stat = value,
            _ => r.error = value,
        }
        at = end;
    }
    (!r.id.is_empty() || !r.stat.is_empty()).then_some(r)
}

/// The key that begins at `at`, which is the start of a word, and where its value begins.
fn key_at(text: &[u8], at: usize) -> Option<(&'static [u8], usize)> {
    if at > 0 && text[at - 1] != b' ' {
        return None;
    }
    KEYS.iter().find_map(|key| {
        let here = text.get(at..at + key.len())?;
        here.eq_ignore_ascii_case(key).then_some((*key, at + key.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_to_the_letter_and_reads_back() {
        let receipt = Receipt {
            id: b"0a1b2c3d4e",
            submitted: 1,
            delivered: 1,
            submit: 1_795_277_520,
            done: 1_795_277_580,
            state: MessageState::Delivered,
            error: b"",
            text: b"Hello, this is a long text",
        };
        let text = receipt.write(0);
        assert_eq!(
            String::from_utf8_lossy(&text),
            "id:0a1b2c3d4e sub:001 dlvrd:001 submit date:2611211612 done date:2611211613 stat:DELIVRD err:000 \
             Text:Hello, this is a lon"
        );
        let read = read(&text).unwrap();
        assert_eq!((read.id, read.state()), (&b"0a1b2c3d4e"[..], MessageState::Delivered));
        assert_eq!((read.submit, read.done), (Some(1_795_277_520), Some(1_795_277_580)));
        assert_eq!((read.error, read.text), (&b"000"[..], &b"Hello, this is a lon"[..]));
    }

    #[test]
    fn receipts_of_the_field_are_understood() {
        for (text, id, state, error) in [
            ("id:123 stat:UNDELIV err:EC_1", "123", MessageState::Undeliverable, "EC_1"),
            ("ID:9f STAT:delivrd ERR:0", "9f", MessageState::Delivered, "0"),
            (
                "stat:REJECTD id:a-b-c done date:260101000000 sub:001 text:id:no stat:no",
                "a-b-c",
                MessageState::Rejected,
                "",
            ),
            (
                "id:7 sub:001 dlvrd:000 submit date:2601010101 done date:2601010102 stat:BUFFERED err: Text:",
                "7",
                MessageState::Enroute,
                "",
            ),
            ("id:8 stat:WHATEVER", "8", MessageState::Unknown, ""),
        ] {
            let r = read(text.as_bytes()).unwrap();
            assert_eq!((r.id, r.state(), r.error), (id.as_bytes(), state, error.as_bytes()), "{text}");
        }
        assert_eq!(read(b"Hello, no receipt: at all"), None);
    }
}
