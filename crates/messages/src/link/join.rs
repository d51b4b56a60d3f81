//! The parts of long messages put together: user data headers with 8- or 16-bit references, `sar_*` parameters,
//! `message_payload` (TS 23.040 §9.2.3.24, SMPP 5.0 §4.8.4).
//!
//! What waits is bounded in messages, octets and time. A part that comes twice replaces itself.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use switchroom_wire::gsm::{Alphabet, Coding, Concat, Shifts, Udh, decode, unpack};
use switchroom_wire::smpp::{ShortMessage, Tlvs, tag};

/// What a joiner may keep.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Messages of which parts are missing.
    pub messages: usize,
    /// Octets of their parts.
    pub octets: usize,
    /// How long missing parts are waited for.
    pub timeout: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { messages: 10_000, octets: 4 * 1024 * 1024, timeout: Duration::from_secs(24 * 3600) }
    }
}

/// What a message says, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The text; of binary messages each octet as a character.
    pub text: String,
    /// The octets without headers; of packed septets one in each octet.
    pub octets: Vec<u8>,
    /// Alphabet of the first part.
    pub alphabet: Alphabet,
    /// Class of the first part; 0 is flash.
    pub class: Option<u8>,
    /// In how many parts it came.
    pub parts: u8,
    /// Ports of the applications, destination and source.
    pub ports: Option<(u16, u16)>,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is whole.
    Whole(Joined),
    /// Parts are missing.
    Waiting,
    /// There is no room for more parts.
    Full,
}

/// The fields of a message that matter here; `submit_sm`, `deliver_sm` and `data_sm` have them.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// Sender.
    pub source: &'a [u8],
    /// Recipient.
    pub destination: &'a [u8],
    /// Whether the payload begins with a header.
    pub has_udh: bool,
    /// Alphabet.
    pub data_coding: u8,
    /// Header and text.
    pub payload: &'a [u8],
    /// Optional parameters.
    pub tlvs: Tlvs<'a>,
}

impl<'a> From<&ShortMessage<'a>> for Piece<'a> {
    fn from(m: &ShortMessage<'a>) -> Piece<'a> {
        Piece {
            source: m.source.addr,
            destination: m.destination.addr,
            has_udh: m.has_udh(),
            data_coding: m.data_coding,
            payload: m.payload(),
            tlvs: m.tlvs,
        }
    }
}

/// Which part of which message a piece is; `None` when it is whole by itself.
#[must_use]
pub fn concat_of(piece: &Piece<'_>) -> Option<Concat> {
    let of_header = || Udh::read(piece.payload).filter(|_| piece.has_udh)?.concat();
    let of_parameters = || {
        let number = |tag| piece.tlvs.number(tag);
        let concat = Concat {
            reference: number(tag::SAR_MSG_REF_NUM)? as u16,
            total: u8::try_from(number(tag::SAR_TOTAL_SEGMENTS)?).ok()?,
            part: u8::try_from(number(tag::SAR_SEGMENT_SEQNUM)?).ok()?,
            wide: true,
        };
        concat.is_real().then_some(concat)
    };
    of_header().or_else(of_parameters)
}

/// Joins the messages of one account.
#[derive(Debug, Default)]
pub struct Joiner {
    bounds: Bounds,
    /// Parts stay until somebody says that their message has arrived; see [`Joiner::keeping`].
    keeps: bool,
    held: HashMap<Key, Pending>,
    /// The alphabet behind `data_coding` 0.
    default: Option<Alphabet>,
    waiting: HashMap<Key, Pending>,
    /// Keys by age, with the number of the message that had it.
    ages: VecDeque<(Instant, Key, u64)>,
    octets: usize,
    serial: u64,
    expired: u64,
}

/// What the parts of one message have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Sender.
    pub source: Vec<u8>,
    /// Recipient.
    pub destination: Vec<u8>,
    /// Number of the message.
    pub reference: u16,
    /// Number of its parts.
    pub total: u8,
    /// Whether the reference has 16 bits.
    pub wide: bool,
}

impl Key {
    /// That of a piece, and which part it is; `None` when it is whole by itself.
    #[must_use]
    pub fn of(piece: &Piece<'_>) -> Option<(Key, u8)> {
        let Concat { reference, total, wide, part } = concat_of(piece)?;
        let (source, destination) = (piece.source.to_vec(), piece.destination.to_vec());
        Some((Key { source, destination, reference, total, wide }, part))
    }
}

#[derive(Debug)]
struct Pending {
    serial: u64,
    parts: Vec<Option<Text>>,
    missing: usize,
    octets: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Text {
    octets: Vec<u8>,
    coding: Coding,
    shifts: Shifts,
    ports: Option<(u16, u16)>,
}

impl Joiner {
    /// An empty one; `default` is the alphabet behind `data_coding` 0.
    #[must_use]
    pub fn new(bounds: Bounds, default: Alphabet) -> Joiner {
        Joiner { bounds, default: Some(default), ..Joiner::default() }
    }

    /// One that forgets nothing by itself: parts of a whole message stay until [`Joiner::settle`] or [`Joiner::reopen`], and
    /// those that wait for too long until [`Joiner::overdue`].
    #[must_use]
    pub fn keeping(bounds: Bounds, default: Alphabet) -> Joiner {
        Joiner { keeps: true, ..Joiner::new(bounds, default) }
    }

    /// The message has arrived, or never will: its parts are forgotten.
    pub fn settle(&mut self, key: &Key) {
        if let Some(gone) = self.held.remove(key) {
            self.octets -= gone.octets;
        }
    }

    /// The message did not arrive, and this part, which was not accepted, comes again: the others wait for it.
    pub fn reopen(&mut self, now: Instant, key: &Key, part: u8) {
        let Some(mut pending) = self.held.remove(key).filter(|_| !self.waiting.contains_key(key)) else {
            return;
        };
        if let Some(text) = pending.parts.get_mut(usize::from(part) - 1).and_then(Option::take) {
            pending.missing += 1;
            pending.octets -= text.octets.len();
            self.octets -= text.octets.len();
        }
        self.serial += 1;
        pending.serial = self.serial;
        self.ages.push_back((now, key.clone(), self.serial));
        self.waiting.insert(key.clone(), pending);
    }

    /// Messages whose other parts were waited for in vain: each part that is there, as a message of its own.
    pub fn overdue(&mut self, now: Instant) -> Vec<(Key, Vec<Joined>)> {
        self.take_old(now)
            .into_iter()
            .map(|(key, pending)| (key, pending.parts.into_iter().flatten().map(|t| whole(&[t])).collect()))
            .collect()
    }

    /// A message came.
    pub fn add(&mut self, now: Instant, piece: &Piece<'_>) -> Outcome {
        if !self.keeps {
            self.expire(now);
        }
        let text = Text::read(piece, self.default.unwrap_or(Alphabet::Gsm7));
        let Some((key, part)) = Key::of(piece) else { return Outcome::Whole(whole(&[text])) };
        let total = key.total;
        let more = text.octets.len();
        if !self.waiting.contains_key(&key) {
            if self.waiting.len() + self.held.len() >= self.bounds.messages
                || self.octets + more > self.bounds.octets
            {
                return Outcome::Full;
            }
            self.serial += 1;
            self.ages.push_back((now, key.clone(), self.serial));
            let parts = vec![None; usize::from(total)];
            let missing = parts.len();
            self.waiting.insert(key.clone(), Pending { serial: self.serial, parts, missing, octets: 0 });
        } else if self.octets + more > self.bounds.octets {
            return Outcome::Full;
        }
        let Some(pending) = self.waiting.get_mut(&key) else { return Outcome::Waiting };
        let slot = &mut pending.parts[usize::from(part) - 1];
        let before = slot.as_ref().map_or(0, |t| t.octets.len());
        if slot.is_none() {
            pending.missing -= 1;
        }
        *slot = Some(text);
        pending.octets = pending.octets + more - before;
        self.octets = self.octets + more - before;
        if pending.missing > 0 {
            return Outcome::Waiting;
        }
        let Some(pending) = self.waiting.remove(&key) else { return Outcome::Waiting };
        let texts: Vec<Text> = pending.parts.iter().flatten().cloned().collect();
        if self.keeps {
            // The same again while the first is under way: the newer counts.
            self.settle(&key);
            self.held.insert(key, pending);
        } else {
            self.octets -= pending.octets;
        }
        Outcome::Whole(whole(&texts))
    }

    /// Forgets what waits for too long. Gives how many messages that were.
    pub fn expire(&mut self, now: Instant) -> usize {
        self.take_old(now).len()
    }

    fn take_old(&mut self, now: Instant) -> Vec<(Key, Pending)> {
        let mut old = Vec::new();
        while let Some((since, key, serial)) = self.ages.front() {
            let current = self.waiting.get(key).is_some_and(|p| p.serial == *serial);
            if current && now < *since + self.bounds.timeout {
                break;
            }
            let Some((_, key, _)) = self.ages.pop_front() else { break };
            if current && let Some(gone) = self.waiting.remove(&key) {
                self.octets -= gone.octets;
                old.push((key, gone));
            }
        }
        // Messages that became whole leave their ages behind the oldest one that waits.
        if self.ages.len() > 2 * self.waiting.len() + 64 {
            let waiting = &self.waiting;
            self.ages.retain(|(_, key, serial)| waiting.get(key).is_some_and(|p| p.serial == *serial));
        }
        self.expired += old.len() as u64;
        old
    }

    /// Messages of which parts are missing.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Messages that were forgotten because parts did not come.
    #[must_use]
    pub fn expired(&self) -> u64 {
        self.expired
    }
}

/// What a single message says.
#[must_use]
pub fn read(piece: &Piece<'_>, default: Alphabet) -> Joined {
    whole(&[Text::read(piece, default)])
}

/// What the parts of one message say together, in this order.
#[must_use]
pub fn join_all(pieces: &[Piece<'_>], default: Alphabet) -> Joined {
    let texts: Vec<Text> = pieces.iter().map(|p| Text::read(p, default)).collect();
    whole(&texts)
}

impl Text {
    fn read(piece: &Piece<'_>, default: Alphabet) -> Text {
        let coding = Coding::read(piece.data_coding, default);
        let udh = Udh::read(piece.payload).filter(|_| piece.has_udh);
        let (header, shifts, text, ports) = match &udh {
            Some(udh) => (udh.len, udh.shifts(), udh.text, udh.ports()),
            None => (0, Shifts::default(), piece.payload, None),
        };
        let ports = ports.or_else(|| {
            let port = |tag| piece.tlvs.number(tag).and_then(|n| u16::try_from(n).ok());
            Some((port(tag::DESTINATION_PORT)?, port(tag::SOURCE_PORT).unwrap_or(0)))
        });
        let octets = match coding.alphabet {
            Alphabet::Gsm7Packed => unpack(text, header),
            _ => text.to_vec(),
        };
        Text { octets, coding, shifts, ports }
    }
}

fn whole(parts: &[Text]) -> Joined {
    let octets: Vec<u8> = parts.iter().flat_map(|p| p.octets.iter().copied()).collect();
    let Some(first) = parts.first() else {
        let (text, alphabet) = (String::new(), Alphabet::Gsm7);
        return Joined { text, octets, alphabet, class: None, parts: 0, ports: None };
    };
    let alike = parts.iter().all(|p| p.coding.alphabet == first.coding.alphabet && p.shifts == first.shifts);
    // Careless senders cut surrogate pairs and escapes: what is alike is joined before it is read.
    let text = match alike {
        true => decode(first.coding.alphabet, &octets, first.shifts),
        false => parts.iter().map(|p| decode(p.coding.alphabet, &p.octets, p.shifts)).collect(),
    };
    Joined {
        text,
        octets,
        alphabet: first.coding.alphabet,
        class: first.coding.class,
        parts: parts.len().min(255) as u8,
        ports: first.ports,
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "an Instant can only be had from the clock")]
mod tests {
    use super::super::compose::{Style, Ties, Wanted, compose};
    use super::*;

    fn pieces(text: &str, reference: u16, style: Style) -> Vec<(Vec<u8>, Vec<u8>, u8, bool)> {
        let c = compose(text, Wanted::Shortest, None, reference, style).unwrap();
        c.parts.into_iter().map(|p| (p.text, p.tlvs, c.data_coding, c.esm_class & 0x40 != 0)).collect()
    }

    fn add(joiner: &mut Joiner, now: Instant, p: &(Vec<u8>, Vec<u8>, u8, bool)) -> Outcome {
        let tlvs = Tlvs::read(&p.1, true).unwrap();
        let message = ShortMessage {
            esm_class: if p.3 { 0x40 } else { 0 },
            data_coding: p.2,
            text: &p.0,
            tlvs,
            ..ShortMessage::default()
        };
        joiner.add(now, &Piece::from(&message))
    }

    #[test]
    fn six_scripts_in_one_to_ten_parts_come_back_in_any_order() {
        let now = Instant::now();
        for word in ["Grüße ", "Привет ", "안녕하세요 ", "你好世界 ", "😀👍🏽 ", "مرحبا "]
        {
            for ties in [Ties::Udh8, Ties::Udh16, Ties::Sar, Ties::Payload] {
                for default in [Alphabet::Gsm7, Alphabet::Gsm7Packed, Alphabet::Latin1] {
                    for wanted in [1usize, 70, 140, 400, 660] {
                        let text: String = word.chars().cycle().take(wanted).collect();
                        let style = Style { default, ties, max_parts: 255 };
                        let mut parts = pieces(&text, 7, style);
                        let last = parts.remove(0);
                        let mut joiner = Joiner::new(Bounds::default(), default);
                        for p in parts.iter().rev() {
                            assert_eq!(add(&mut joiner, now, p), Outcome::Waiting);
                        }
                        let Outcome::Whole(joined) = add(&mut joiner, now, &last) else {
                            panic!("{text} {ties:?}")
                        };
                        assert_eq!(joined.text, text, "{ties:?} {default:?}");
                        assert_eq!((joiner.waiting(), joiner.octets), (0, 0));
                    }
                }
            }
        }
    }

    #[test]
    fn a_cut_surrogate_pair_is_healed() {
        let mut joiner = Joiner::new(Bounds::default(), Alphabet::Gsm7);
        let now = Instant::now();
        let part = |n: u8, half: [u8; 2]| (vec![5, 0, 3, 1, 2, n, half[0], half[1]], Vec::new(), 8u8, true);
        assert_eq!(add(&mut joiner, now, &part(1, [0xd8, 0x3d])), Outcome::Waiting);
        let Outcome::Whole(joined) = add(&mut joiner, now, &part(2, [0xde, 0x00])) else { panic!() };
        assert_eq!((joined.text.as_str(), joined.parts), ("😀", 2));
    }

    #[test]
    fn what_waits_is_bounded_in_number_size_and_time() {
        let now = Instant::now();
        let bounds = Bounds { messages: 2, octets: 500, timeout: Duration::from_secs(10) };
        let mut joiner = Joiner::new(bounds, Alphabet::Gsm7);
        let text = "a".repeat(320);
        let first = |reference| pieces(&text, reference, Style::default()).remove(0);
        assert_eq!(add(&mut joiner, now, &first(1)), Outcome::Waiting);
        assert_eq!(add(&mut joiner, now, &first(1)), Outcome::Waiting, "twice the same part");
        assert_eq!(joiner.octets, 153);
        assert_eq!(add(&mut joiner, now, &first(2)), Outcome::Waiting);
        assert_eq!(add(&mut joiner, now, &first(3)), Outcome::Full);
        let later = now + Duration::from_secs(10);
        assert_eq!(joiner.expire(later), 2);
        assert_eq!((joiner.waiting(), joiner.octets, joiner.expired()), (0, 0, 2));
        assert_eq!(add(&mut joiner, later, &first(3)), Outcome::Waiting);
    }

    #[test]
    fn parts_that_are_kept_wait_again_when_their_message_did_not_arrive() {
        let now = Instant::now();
        let bounds = Bounds { timeout: Duration::from_secs(10), ..Bounds::default() };
        let mut joiner = Joiner::keeping(bounds, Alphabet::Gsm7);
        let parts = pieces(&"a".repeat(320), 1, Style::default());
        let message = ShortMessage { esm_class: 0x40, text: &parts[2].0, ..ShortMessage::default() };
        let (key, part) = Key::of(&Piece::from(&message)).unwrap();
        add(&mut joiner, now, &parts[0]);
        add(&mut joiner, now, &parts[1]);
        assert!(matches!(add(&mut joiner, now, &parts[2]), Outcome::Whole(_)));
        joiner.reopen(now, &key, part);
        assert_eq!(joiner.waiting(), 1);
        assert!(matches!(add(&mut joiner, now, &parts[2]), Outcome::Whole(j) if j.parts == 3));
        joiner.settle(&key);
        assert_eq!((joiner.waiting(), joiner.octets), (0, 0));
        add(&mut joiner, now, &parts[0]);
        add(&mut joiner, now, &parts[1]);
        assert!(joiner.overdue(now).is_empty());
        let old = joiner.overdue(now + Duration::from_secs(10));
        assert_eq!((old.len(), old[0].1.len(), &old[0].0), (1, 2, &key));
        assert_eq!((joiner.waiting(), joiner.octets), (0, 0));
    }
}
