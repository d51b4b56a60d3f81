//! Destination sets in memory: what is in them, in which state, and which one a request gets.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

/// Whether a destination is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Used.
    Active = 0,
    /// Switched off.
    Inactive = 1,
    /// Not used until a probe is answered.
    Probing = 2,
}

impl State {
    /// From the `state` column.
    pub fn from_number(n: i64) -> State {
        match n {
            1 => State::Inactive,
            2 => State::Probing,
            _ => State::Active,
        }
    }

    /// From the letters and digits of scripts and commands: `a1`, `i0`, `p2`.
    pub fn from_letter(letter: char) -> Option<State> {
        match letter.to_ascii_lowercase() {
            'a' | '1' => Some(State::Active),
            'i' | '0' => Some(State::Inactive),
            'p' | '2' => Some(State::Probing),
            _ => None,
        }
    }

    /// As lists show it.
    pub fn name(self) -> &'static str {
        match self {
            State::Active => "Active",
            State::Inactive => "Inactive",
            State::Probing => "Probing",
        }
    }
}

/// One destination.
#[derive(Debug)]
pub struct Destination {
    /// URI.
    pub uri: Bytes,
    /// Its addresses, as they were when the table was read.
    pub ips: Vec<IpAddr>,
    /// Its port.
    pub port: u16,
    /// Socket to send from.
    pub socket: Option<String>,
    /// Share among the others.
    pub weight: u32,
    /// Higher comes first.
    pub priority: i64,
    /// Free text for the script.
    pub attrs: Option<Bytes>,
    /// Free text for people.
    pub description: String,
    /// Probed in every state.
    pub always_probed: bool,
    /// Text that scripts and commands gave it.
    pub script_attrs: Mutex<Option<Bytes>>,
    pub(super) state: AtomicU8,
    pub(super) failures: AtomicU32,
    /// The database does not know the state yet.
    pub unsaved: AtomicBool,
}

impl Destination {
    /// A destination with its URI and state, and everything else empty.
    pub fn new(uri: Bytes, state: State) -> Destination {
        Destination {
            uri,
            ips: Vec::new(),
            port: 5060,
            socket: None,
            weight: 1,
            priority: 0,
            attrs: None,
            description: String::new(),
            always_probed: false,
            script_attrs: Mutex::new(None),
            state: AtomicU8::new(state as u8),
            failures: AtomicU32::new(0),
            unsaved: AtomicBool::new(false),
        }
    }

    /// State now.
    pub fn state(&self) -> State {
        State::from_number(i64::from(self.state.load(Ordering::Relaxed)))
    }

    /// Put it into a state; whether it is used has changed or not.
    pub fn set(&self, state: State) -> bool {
        let old = State::from_number(i64::from(self.state.swap(state as u8, Ordering::Relaxed)));
        self.failures.store(0, Ordering::Relaxed);
        if old != state {
            self.unsaved.store(true, Ordering::Relaxed);
        }
        (old == State::Active) != (state == State::Active)
    }

    /// It failed once more; with the `threshold`th failure it is probed. Whether that is so now.
    pub fn failed(&self, threshold: u32) -> bool {
        if self.state() != State::Active {
            return false;
        }
        let count = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        count >= threshold && self.set(State::Probing)
    }

    /// Take over what was learned about the same destination before.
    pub fn inherit(&self, old: &Destination) {
        self.state.store(old.state() as u8, Ordering::Relaxed);
        self.failures.store(old.failures.load(Ordering::Relaxed), Ordering::Relaxed);
        self.unsaved.store(old.unsaved.load(Ordering::Relaxed), Ordering::Relaxed);
        *self.script_attrs.lock() = old.script_attrs.lock().clone();
    }

    /// Whether it has this address; port 0 stands for any.
    pub fn is_at(&self, ip: IpAddr, port: u16) -> bool {
        (port == 0 || port == self.port) && self.ips.iter().any(|own| own.to_canonical() == ip.to_canonical())
    }
}

/// One set, best priority first.
#[derive(Debug, Default)]
pub struct Set {
    /// Destinations.
    pub list: Vec<Arc<Destination>>,
    turn: AtomicUsize,
}

/// All sets by number.
pub type Sets = BTreeMap<i64, Set>;

/// How the first destination is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// By a hash, so that equal input leads to the same place.
    Hash(u64),
    /// In turn, each as often as its weight says.
    Turn,
    /// The first.
    First,
    /// This one, by its place in the set.
    At(usize),
}

impl Set {
    /// A set of destinations, which are put in order.
    pub fn new(mut list: Vec<Arc<Destination>>) -> Set {
        list.sort_by_key(|d| std::cmp::Reverse(d.priority));
        Set { list, turn: AtomicUsize::new(0) }
    }

    /// The destinations in use in the order in which they are to be tried. With `last_is_default` the last one of the set
    /// is only tried after all others.
    pub fn order(&self, choice: Choice, last_is_default: bool) -> Vec<Arc<Destination>> {
        let regular = if last_is_default { self.list.len().saturating_sub(1) } else { self.list.len() };
        let active: Vec<(usize, &Arc<Destination>)> =
            self.list[..regular].iter().enumerate().filter(|(_, d)| d.state() == State::Active).collect();
        let total: u64 = active.iter().map(|(_, d)| u64::from(d.weight)).sum();
        let weighted = |n: u64| match total {
            0 => (n % active.len() as u64) as usize,
            total => {
                let mut left = n % total;
                let found = active.iter().position(|(_, d)| {
                    let here = left < u64::from(d.weight);
                    left = left.saturating_sub(u64::from(d.weight));
                    here
                });
                found.unwrap_or(0)
            }
        };
        let first = match choice {
            _ if active.is_empty() => 0,
            Choice::Hash(hash) => weighted(hash),
            Choice::Turn => weighted(self.turn.fetch_add(1, Ordering::Relaxed) as u64),
            Choice::First => 0,
            Choice::At(place) => active.iter().position(|(i, _)| *i == place).unwrap_or(0),
        };
        let (before, after) = active.split_at(first);
        let mut order: Vec<_> = after.iter().chain(before).map(|(_, d)| Arc::clone(d)).collect();
        order.extend(self.list[regular..].iter().filter(|d| d.state() == State::Active).cloned());
        order
    }
}

/// What was learned about destinations goes over to the new table.
pub fn inherit(old: &Sets, new: &Sets) {
    for (id, set) in new {
        let Some(before) = old.get(id) else { continue };
        let known: HashMap<&Bytes, &Arc<Destination>> = before.list.iter().map(|d| (&d.uri, d)).collect();
        for d in &set.list {
            if let Some(old) = known.get(&d.uri) {
                d.inherit(old);
            }
        }
    }
}

/// A hash that is the same on every node and after every start (FNV-1a with a final mix).
pub fn hash(parts: &[&[u8]]) -> u64 {
    let mut h: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for b in *part {
            h = (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
        }
        h = (h ^ 0xff).wrapping_mul(0x0100_0000_01b3);
    }
    h ^= h >> 32;
    h = h.wrapping_mul(0xd6e8_feb8_6659_fd93);
    h ^ (h >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(weights: &[u32]) -> Set {
        let one = |(i, w): (usize, &u32)| {
            let uri = Bytes::from(format!("sip:{i}"));
            Arc::new(Destination { weight: *w, ..Destination::new(uri, State::Active) })
        };
        Set::new(weights.iter().enumerate().map(one).collect())
    }

    fn names(list: &[Arc<Destination>]) -> String {
        list.iter().map(|d| String::from_utf8_lossy(&d.uri[4..]).into_owned()).collect()
    }

    #[test]
    fn in_turn_each_is_taken_as_often_as_its_weight() {
        let set = set(&[2, 0, 1]);
        let firsts: String = (0..6).map(|_| names(&set.order(Choice::Turn, false)[..1])).collect();
        assert_eq!(firsts, "002002");
    }

    #[test]
    fn the_others_follow_in_a_circle_and_those_not_in_use_are_left_out() {
        let set = set(&[1, 1, 1, 1]);
        assert_eq!(names(&set.order(Choice::Hash(2), false)), "2301");
        set.list[3].set(State::Inactive);
        assert_eq!(names(&set.order(Choice::Hash(2), false)), "201");
        assert_eq!(names(&set.order(Choice::At(1), false)), "120");
        assert_eq!(names(&set.order(Choice::At(3), false)), "012");
    }

    #[test]
    fn the_default_is_tried_last_and_alone_when_all_others_are_out() {
        let set = set(&[1, 1, 9]);
        assert_eq!(names(&set.order(Choice::Hash(1), true)), "102");
        set.list[0].set(State::Inactive);
        set.list[1].set(State::Probing);
        assert_eq!(names(&set.order(Choice::Turn, true)), "2");
        set.list[2].set(State::Inactive);
        assert!(set.order(Choice::Turn, true).is_empty());
        assert!(Set::default().order(Choice::First, true).is_empty());
    }

    #[test]
    fn without_any_weight_all_have_the_same() {
        assert_eq!(names(&set(&[0, 0, 0]).order(Choice::Hash(4), false)), "120");
    }

    #[test]
    fn hashing_spreads_by_weight() {
        let set = set(&[1, 3]);
        let hits = (0..4000u32)
            .filter(|i| names(&set.order(Choice::Hash(hash(&[&i.to_be_bytes()])), false)[..1]) == "1");
        let hits = hits.count();
        assert!((2800..3200).contains(&hits), "{hits}");
    }

    #[test]
    fn only_the_threshold_th_failure_counts_and_success_forgets() {
        let d = Destination::new(Bytes::new(), State::Active);
        assert!(!d.failed(2));
        assert!(d.failed(2) && d.state() == State::Probing);
        assert!(!d.failed(2), "it is out already");
        assert!(d.set(State::Active));
        assert!(!d.failed(2));
        assert!(d.unsaved.load(Ordering::Relaxed));
    }

    #[test]
    fn states_go_over_to_the_new_table() {
        let old = Sets::from([(1, set(&[1, 1]))]);
        old[&1].list[1].set(State::Inactive);
        let new = Sets::from([(1, set(&[5, 5, 5])), (2, set(&[1]))]);
        inherit(&old, &new);
        let states: Vec<_> = new[&1].list.iter().map(|d| d.state()).collect();
        assert_eq!(states, [State::Active, State::Inactive, State::Active]);
    }
}
