//! What waits, in memory: a line for each destination, in order of priority, and clocks for schedule and expiry.
//!
//! No clock, no database: times come in as unix seconds. Every step costs the same whether ten messages wait or a million:
//! lines are double-ended queues, clocks have one bucket for each second, and a message that has left is skipped where its
//! number still stands.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use switchroom_wire::smpp::MessageState;

use super::message::{Addr, Message};
use super::parts::{Added, Parts};

/// Levels of `priority_flag`.
const LEVELS: usize = 4;

/// Everything that waits or is under way.
#[derive(Default)]
pub struct Queue {
    messages: HashMap<u64, Slot, foldhash::fast::RandomState>,
    lines: HashMap<Arc<str>, Line, foldhash::fast::RandomState>,
    /// Those of SIP users, of whom there may be many, and those of all others.
    users: BTreeSet<Arc<str>>,
    few: BTreeSet<Arc<str>>,
    /// Where the round among the users has got to, when there is one.
    round: Option<Arc<str>>,
    /// When lines open again.
    closed: BTreeSet<(i64, Arc<str>)>,
    /// Second, and who is to be tried then.
    due: BTreeMap<i64, Vec<u64>>,
    expiries: BTreeMap<i64, Vec<u64>>,
    /// Who may be replaced or cancelled without knowing the number.
    likes: BTreeSet<(u64, u64)>,
    hasher: foldhash::fast::RandomState,
    /// Who waits for a receipt of another SMS centre: target and that centre's id.
    remote: HashMap<(Arc<str>, Box<str>), u64, foldhash::fast::RandomState>,
    parts: Parts,
}

struct Slot {
    message: Message,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In its line.
    Line,
    /// Until its time comes.
    Clock,
    /// Given to its destination.
    UnderWay,
    /// The next SMS centre has it.
    Away,
    /// A part that waits for others, or is carried by the first.
    Held,
}

#[derive(Default)]
struct Line {
    levels: [VecDeque<u64>; LEVELS],
    /// How many of the numbers are really waiting.
    waiting: usize,
    under_way: usize,
    /// Nothing is given out before, unix seconds.
    closed_until: i64,
    /// Of a SIP user: those that were tried and are on the clock; they go at once when he is there again.
    later: BTreeSet<u64>,
}

impl Line {
    fn is_idle(&self) -> bool {
        self.waiting == 0 && self.under_way == 0 && self.closed_until == 0 && self.later.is_empty()
    }
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// In line.
    pub waiting: usize,
    /// Given out without an answer so far.
    pub under_way: usize,
}

impl Queue {
    /// How many messages are kept.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// A message comes, from its sender or from the table.
    pub fn insert(&mut self, message: Message, now: i64) {
        let id = message.id;
        self.expiries.entry(message.expires).or_default().push(id);
        self.likes.insert((self.likeness(&message), id));
        if let Some(remote) = &message.remote_id {
            self.remote.insert((message.target.clone(), remote.clone()), id);
            self.messages.insert(id, Slot { message, place: Place::Away });
            return;
        }
        self.messages.insert(id, Slot { message, place: Place::Held });
        self.settle(id, now);
    }

    /// To its place, or to the other parts of its text.
    fn settle(&mut self, id: u64, now: i64) {
        let Some(slot) = self.messages.get_mut(&id) else { return };
        slot.place = Place::Held;
        match self.parts.add(&slot.message, now) {
            Added::Alone => self.place(id, now),
            Added::Held => {}
            Added::Whole(first) => self.place(first, now),
        }
    }

    /// What stayed in parts since `before` goes as it is: gives the destinations that have something new to take.
    pub fn release(&mut self, before: i64, now: i64) -> Vec<Arc<str>> {
        let ids = self.parts.overdue(before);
        ids.iter().for_each(|id| self.place(*id, now));
        ids.iter().filter_map(|id| Some(self.get(*id)?.target.clone())).collect()
    }

    /// The parts that go as one message with this one, in order, itself first; empty when it goes by itself.
    pub fn carried(&self, id: u64) -> Vec<&Message> {
        self.parts.carried(id).iter().filter_map(|id| self.get(*id)).collect()
    }

    /// The numbers of the same.
    pub fn carried_ids(&self, id: u64) -> Vec<u64> {
        self.parts.carried(id).to_vec()
    }

    /// Parts that went with this message to where it is, when that was before the process started: they stand under its
    /// remote id and their place in the text.
    pub fn parts_of_remote(&self, id: u64) -> Vec<u64> {
        let Some((m, remote)) = self.get(id).and_then(|m| Some((m, m.remote_id.clone()?))) else {
            return Vec::new();
        };
        (1..=255).map_while(|n| self.by_remote(&m.target, &format!("{remote}#{n}"))).collect()
    }

    /// Messages of which parts are missing.
    pub fn incomplete(&self) -> usize {
        self.parts.incomplete()
    }

    /// Into its line, or on the clock.
    fn place(&mut self, id: u64, now: i64) {
        let Some(slot) = self.messages.get_mut(&id) else { return };
        if slot.message.due > now {
            slot.place = Place::Clock;
            self.due.entry(slot.message.due).or_default().push(id);
            let m = &slot.message;
            if m.target.starts_with("sip:") && m.state != MessageState::Scheduled {
                let target = m.target.clone();
                self.line(&target).later.insert(id);
            }
            return;
        }
        slot.place = Place::Line;
        if slot.message.state == MessageState::Scheduled {
            slot.message.state = MessageState::Enroute;
        }
        let level = usize::from(slot.message.content.priority).min(LEVELS - 1);
        let target = slot.message.target.clone();
        let line = self.line(&target);
        line.later.remove(&id);
        line.levels[level].push_back(id);
        line.waiting += 1;
    }

    /// The line of a destination, which is made when there is none.
    fn line(&mut self, target: &Arc<str>) -> &mut Line {
        if !self.lines.contains_key(target) {
            let names = if target.starts_with("sip:") { &mut self.users } else { &mut self.few };
            names.insert(target.clone());
        }
        self.lines.entry(target.clone()).or_default()
    }

    /// The lines of a SIP user: of `user@domain` one, of a user of any domain at most `most`.
    pub fn lines_of(&self, aor: &str, most: usize) -> Vec<Arc<str>> {
        if aor.contains('@') {
            return self
                .lines
                .get_key_value(&*format!("sip:{aor}"))
                .map(|(t, _)| t.clone())
                .into_iter()
                .collect();
        }
        let start: Arc<str> = format!("sip:{aor}@").into();
        let from_there = self.users.range::<Arc<str>, _>(&start..);
        from_there.take_while(|t| t.starts_with(&*start)).take(most).cloned().collect()
    }

    /// The destination is there again: what was tried before does not wait for its time any more.
    pub fn bring_forward(&mut self, target: &str, now: i64) {
        let Some(line) = self.lines.get_mut(target) else { return };
        for id in std::mem::take(&mut line.later) {
            if let Some(slot) = self.messages.get_mut(&id).filter(|s| s.place == Place::Clock) {
                slot.message.due = now;
                self.place(id, now);
            }
        }
    }

    /// The next messages for a destination, at most `most`; they are under way now. Gives their numbers and whether each was
    /// marked as such before.
    pub fn take(&mut self, target: &str, most: usize, now: i64) -> Vec<(u64, bool)> {
        let mut taken = Vec::new();
        let Some(line) = self.lines.get_mut(target) else { return taken };
        if line.closed_until > now {
            return taken;
        }
        for level in line.levels.iter_mut().rev() {
            while taken.len() < most {
                let Some(id) = level.pop_front() else { break };
                let Some(slot) = self.messages.get_mut(&id).filter(|s| s.place == Place::Line) else {
                    continue;
                };
                slot.place = Place::UnderWay;
                taken.push((id, slot.message.under_way));
                slot.message.under_way = true;
            }
        }
        line.waiting = line.waiting.saturating_sub(taken.len());
        line.under_way += taken.len();
        taken
    }

    /// A message by its number.
    pub fn get(&self, id: u64) -> Option<&Message> {
        self.messages.get(&id).map(|s| &s.message)
    }

    /// A message that was taken but not given out goes back to the front of its line.
    pub fn put_back(&mut self, id: u64) {
        let Some(slot) = self.messages.get_mut(&id).filter(|s| s.place == Place::UnderWay) else { return };
        slot.place = Place::Line;
        let level = usize::from(slot.message.content.priority).min(LEVELS - 1);
        if let Some(line) = self.lines.get_mut(&slot.message.target) {
            line.levels[level].push_front(id);
            line.waiting += 1;
            line.under_way = line.under_way.saturating_sub(1);
        }
    }

    /// An attempt failed: again at `due`.
    pub fn postpone(&mut self, id: u64, due: i64, now: i64, error: u32) {
        let Some(slot) = self.messages.get_mut(&id).filter(|s| s.place == Place::UnderWay) else { return };
        slot.message.due = due;
        slot.message.attempts += 1;
        slot.message.under_way = false;
        slot.message.error = error;
        if let Some(line) = self.lines.get_mut(&slot.message.target) {
            line.under_way = line.under_way.saturating_sub(1);
        }
        self.place(id, now);
    }

    /// The next SMS centre took it and will say what becomes of it.
    pub fn away(&mut self, id: u64, remote_id: &str) {
        let fits = |s: &&mut Slot| matches!(s.place, Place::UnderWay | Place::Held);
        let Some(slot) = self.messages.get_mut(&id).filter(fits) else { return };
        let was_held = slot.place == Place::Held;
        slot.place = Place::Away;
        slot.message.remote_id = Some(remote_id.into());
        slot.message.under_way = false;
        if let Some(line) = self.lines.get_mut(&slot.message.target).filter(|_| !was_held) {
            line.under_way = line.under_way.saturating_sub(1);
        }
        self.remote.insert((slot.message.target.clone(), remote_id.into()), id);
    }

    /// Its destination failed: it goes to another one now, and the messages it carried with it. Gives all of them as they
    /// are then.
    pub fn redirect(
        &mut self,
        id: u64,
        target: &Arc<str>,
        further: &[Arc<str>],
        due: i64,
        now: i64,
        error: u32,
    ) -> Vec<Message> {
        let mut ids = vec![id];
        ids.extend(self.parts.remove(id));
        let mut moved = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(place) = self.messages.get(&id).map(|s| s.place) else { continue };
            self.leave(id, place);
            let Some(slot) = self.messages.get_mut(&id) else { continue };
            let m = &mut slot.message;
            m.target = target.clone();
            m.further = further.to_vec();
            (m.due, m.error, m.under_way, m.remote_id) = (due, error, false, None);
            m.attempts += 1;
            moved.push(m.clone());
            self.settle(id, now);
        }
        moved
    }

    /// Out of its line, whatever comes next.
    fn leave(&mut self, id: u64, place: Place) {
        let Some(slot) = self.messages.get(&id) else { return };
        let (target, remote) = (slot.message.target.clone(), slot.message.remote_id.clone());
        if let Some(line) = self.lines.get_mut(&target) {
            match place {
                Place::Line => line.waiting = line.waiting.saturating_sub(1),
                Place::UnderWay => line.under_way = line.under_way.saturating_sub(1),
                Place::Clock => drop(line.later.remove(&id)),
                Place::Away | Place::Held => {}
            }
            if line.is_idle() {
                self.forget_line(&target);
            }
        }
        if let Some(remote) = remote {
            self.remote.remove(&(target, remote));
        }
    }

    /// Who waits for the receipt with this id of this destination.
    pub fn by_remote(&self, target: &Arc<str>, remote_id: &str) -> Option<u64> {
        self.remote.get(&(target.clone(), remote_id.into())).copied()
    }

    /// Whether a destination has messages whose answer has not come.
    pub fn is_busy(&self, target: &str) -> bool {
        self.under_way(target) > 0
    }

    /// Whether messages are in line for a destination.
    pub fn waits(&self, target: &str) -> bool {
        self.lines.get(target).is_some_and(|l| l.waiting > 0)
    }

    /// How many were given out without an answer so far.
    pub fn under_way(&self, target: &str) -> usize {
        self.lines.get(target).map_or(0, |l| l.under_way)
    }

    fn forget_line(&mut self, target: &Arc<str>) {
        self.lines.remove(target);
        self.few.remove(target);
        self.users.remove(target);
    }

    /// Destinations for which messages wait, without SIP users.
    pub fn stuck(&self) -> Vec<Arc<str>> {
        self.few.iter().filter(|target| self.waits(target)).cloned().collect()
    }

    /// A round among all SIP users begins.
    pub fn begin_round(&mut self) {
        self.round.get_or_insert_with(|| "".into());
    }

    /// The next SIP users of the round, at most `most`, for whom messages wait.
    pub fn next_of_round(&mut self, most: usize) -> Vec<Arc<str>> {
        let Some(last) = self.round.take() else { return Vec::new() };
        let next = self.users.range::<Arc<str>, _>((Excluded(&last), Unbounded)).take(most);
        let next: Vec<Arc<str>> = next.cloned().collect();
        if next.len() == most {
            self.round = next.last().cloned();
        }
        next.into_iter().filter(|target| self.waits(target)).collect()
    }

    /// A message leaves, whatever its end. The others that it carried are named; they are still there.
    pub fn remove(&mut self, id: u64) -> Option<(Message, Vec<u64>)> {
        let place = self.messages.get(&id)?.place;
        self.leave(id, place);
        let message = self.messages.remove(&id)?.message;
        self.likes.remove(&(self.likeness(&message), id));
        Some((message, self.parts.remove(id)))
    }

    /// Whether it has not been given out, so that it can still be cancelled or replaced.
    pub fn is_waiting(&self, id: u64) -> bool {
        self.messages.get(&id).is_some_and(|s| matches!(s.place, Place::Line | Place::Clock | Place::Held))
    }

    /// Changes a message that waits. Its number stays.
    pub fn change(&mut self, id: u64, now: i64, change: impl FnOnce(&mut Message)) -> Option<Message> {
        let slot = self.messages.get_mut(&id)?;
        if !matches!(slot.place, Place::Line | Place::Clock | Place::Held) {
            return None;
        }
        let (due, expires) = (slot.message.due, slot.message.expires);
        change(&mut slot.message);
        let message = slot.message.clone();
        if message.expires != expires {
            self.expiries.entry(message.expires).or_default().push(id);
        }
        if message.due != due && slot.place != Place::Held {
            if let Some(line) = self.lines.get_mut(&message.target) {
                match slot.place {
                    Place::Line => line.waiting = line.waiting.saturating_sub(1),
                    _ => drop(line.later.remove(&id)),
                }
            }
            self.place(id, now);
        }
        Some(message)
    }

    /// Messages that wait from one account, between the same addresses, for the same service.
    pub fn alike(&self, account: &str, source: &Addr, destination: &Addr, service: &[u8]) -> Vec<u64> {
        let like = self.hash(account, source, destination, service);
        let ids = self.likes.range((like, 0)..=(like, u64::MAX)).map(|(_, id)| *id);
        let same = |id: &u64| {
            self.is_waiting(*id)
                && self.get(*id).is_some_and(|m| {
                    *m.account == *account
                        && m.source.addr == source.addr
                        && m.destination.addr == destination.addr
                        && *m.content.service_type == *service
                })
        };
        ids.filter(same).collect()
    }

    fn likeness(&self, m: &Message) -> u64 {
        self.hash(&m.account, &m.source, &m.destination, &m.content.service_type)
    }

    fn hash(&self, account: &str, source: &Addr, destination: &Addr, service: &[u8]) -> u64 {
        use std::hash::BuildHasher;
        self.hasher.hash_one((account, &source.addr, &destination.addr, service))
    }

    /// Nothing goes to a destination before `until`.
    pub fn close_line(&mut self, target: &str, until: i64) {
        if let Some((name, _)) = self.lines.get_key_value(target)
            && let name = name.clone()
            && let Some(line) = self.lines.get_mut(target)
            && line.closed_until < until
        {
            self.closed.remove(&(line.closed_until, name.clone()));
            line.closed_until = until;
            self.closed.insert((until, name));
        }
    }

    /// Time has come for some: gives the destinations that have something new to take.
    pub fn wake(&mut self, now: i64) -> Vec<Arc<str>> {
        let mut targets = Vec::new();
        while let Some(entry) = self.due.first_entry().filter(|e| *e.key() <= now) {
            let second = *entry.key();
            for id in entry.remove() {
                let Some(slot) = self.messages.get(&id) else { continue };
                if slot.place == Place::Clock && slot.message.due == second {
                    targets.push(slot.message.target.clone());
                    self.place(id, now);
                }
            }
        }
        while let Some((_, target)) = self.closed.first().filter(|(at, _)| *at <= now).cloned() {
            self.closed.pop_first();
            if let Some(line) = self.lines.get_mut(&target) {
                line.closed_until = 0;
                if line.is_idle() {
                    self.forget_line(&target);
                }
            }
            targets.push(target);
        }
        targets.sort();
        targets.dedup();
        targets
    }

    /// Whose time is over, at most `most`. They stay until they are removed.
    pub fn expired(&mut self, now: i64, most: usize) -> Vec<u64> {
        let mut over = Vec::new();
        while over.len() < most {
            let Some(mut entry) = self.expiries.first_entry().filter(|e| *e.key() <= now) else { break };
            let second = *entry.key();
            let ids = entry.get_mut();
            while let Some(id) = ids.pop() {
                // One under way still has its chance; its outcome decides.
                match self.messages.get(&id) {
                    Some(s) if s.message.expires == second && s.place != Place::UnderWay => over.push(id),
                    _ => {}
                }
                if over.len() >= most {
                    break;
                }
            }
            if self.expiries.first_entry().is_some_and(|e| e.get().is_empty()) {
                self.expiries.pop_first();
            }
        }
        over
    }

    /// Destinations with what waits for them.
    pub fn depths(&self) -> Vec<(Arc<str>, Depth)> {
        let mut all: Vec<_> = self
            .lines
            .iter()
            .map(|(t, l)| (t.clone(), Depth { waiting: l.waiting, under_way: l.under_way }))
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::sample;
    use super::*;

    fn ids(taken: Vec<(u64, bool)>) -> Vec<u64> {
        taken.into_iter().map(|(id, _)| id).collect()
    }

    #[test]
    fn urgent_messages_go_first_and_others_in_order() {
        let mut q = Queue::default();
        for (id, priority) in [(1, 0), (2, 0), (3, 3), (4, 1)] {
            let mut m = sample(id, "a");
            m.content.priority = priority;
            q.insert(m, 1000);
        }
        q.insert(sample(5, "b"), 1000);
        assert_eq!(ids(q.take("a", 3, 1000)), [3, 4, 1]);
        assert_eq!(ids(q.take("a", 3, 1000)), [2]);
        q.put_back(1);
        assert_eq!(ids(q.take("a", 3, 1000)), [1]);
        assert_eq!(ids(q.take("c", 3, 1000)), [0; 0]);
    }

    #[test]
    fn a_scheduled_message_waits_for_its_time() {
        let mut q = Queue::default();
        let mut m = sample(1, "a");
        m.due = 1500;
        m.state = MessageState::Scheduled;
        q.insert(m, 1000);
        assert!(q.take("a", 9, 1000).is_empty());
        assert!(q.wake(1499).is_empty());
        assert_eq!(q.wake(1500), ["a".into()]);
        assert_eq!(q.get(1).unwrap().state, MessageState::Enroute);
        assert_eq!(ids(q.take("a", 9, 1500)), [1]);
    }

    #[test]
    fn what_was_tried_goes_at_once_when_the_user_is_there_again() {
        let mut q = Queue::default();
        for (id, target) in [(1, "sip:bob@a"), (2, "sip:bob@b"), (3, "sip:bobby@a"), (4, "sip:bob@a")] {
            q.insert(sample(id, target), 1000);
        }
        let mut scheduled = sample(5, "sip:bob@a");
        (scheduled.due, scheduled.state) = (2000, MessageState::Scheduled);
        q.insert(scheduled, 1000);
        assert_eq!(q.lines_of("bob", 9), ["sip:bob@a".into(), "sip:bob@b".into()]);
        assert_eq!(q.lines_of("bob", 1).len(), 1);
        assert_eq!(q.lines_of("bob@b", 9), ["sip:bob@b".into()]);
        assert!(q.lines_of("eve", 9).is_empty() && q.lines_of("eve@a", 9).is_empty());
        assert_eq!(ids(q.take("sip:bob@a", 1, 1000)), [1]);
        q.postpone(1, 1600, 1000, 8);
        q.bring_forward("sip:bob@a", 1010);
        assert_eq!(ids(q.take("sip:bob@a", 9, 1010)), [4, 1], "not what is to leave later");
        assert!(q.wake(1600).is_empty());
        // A line that only has some who were tried stays, and goes with them.
        q.postpone(1, 1700, 1010, 8);
        q.remove(4);
        assert_eq!(q.lines_of("bob@a", 9).len(), 1);
        q.remove(1);
        assert!(q.lines_of("bob@a", 9).is_empty());
    }

    #[test]
    fn a_failed_attempt_is_repeated_later() {
        let mut q = Queue::default();
        q.insert(sample(1, "a"), 1000);
        q.take("a", 9, 1000);
        q.postpone(1, 1030, 1000, 8);
        assert!(q.take("a", 9, 1029).is_empty());
        assert_eq!(q.wake(1030).len(), 1);
        assert_eq!(q.take("a", 9, 1030), [(1, false)]);
        assert_eq!(q.get(1).unwrap().attempts, 1);
    }

    #[test]
    fn what_expires_is_found_once_and_not_while_under_way() {
        let mut q = Queue::default();
        q.insert(sample(1, "a"), 1000);
        q.insert(sample(2, "a"), 1000);
        assert_eq!(ids(q.take("a", 1, 1000)), [1]);
        assert!(q.expired(1999, 10).is_empty());
        assert_eq!(q.expired(2000, 10), [2]);
        q.remove(2);
        assert!(q.expired(2000, 10).is_empty());
        assert_eq!(q.depths(), [("a".into(), Depth { waiting: 0, under_way: 1 })]);
    }

    #[test]
    fn a_receipt_finds_its_message_by_the_other_centres_id() {
        let mut q = Queue::default();
        q.insert(sample(1, "smsc:up"), 1000);
        q.take("smsc:up", 1, 1000);
        q.away(1, "abc");
        assert_eq!(q.by_remote(&"smsc:up".into(), "abc"), Some(1));
        assert_eq!(q.by_remote(&"smsc:other".into(), "abc"), None);
        q.remove(1);
        assert_eq!(q.by_remote(&"smsc:up".into(), "abc"), None);
        assert_eq!(q.len(), 0);
    }

    #[test]
    fn a_waiting_message_can_be_found_and_changed() {
        let mut q = Queue::default();
        let m = sample(1, "a");
        let (source, destination) = (m.source.clone(), m.destination.clone());
        q.insert(m, 1000);
        assert_eq!(q.alike("shop", &source, &destination, b""), [1]);
        assert!(q.alike("other", &source, &destination, b"").is_empty());
        assert!(q.change(1, 1000, |m| m.due = 1100).is_some());
        assert!(q.take("a", 1, 1000).is_empty());
        q.wake(1100);
        q.take("a", 1, 1100);
        assert!(q.change(1, 1100, |m| m.due = 1200).is_none());
        assert!(q.alike("shop", &source, &destination, b"").is_empty());
    }

    #[test]
    fn a_line_that_is_closed_opens_in_time_and_leaves_nothing_behind() {
        let mut q = Queue::default();
        q.insert(sample(1, "a"), 1000);
        q.insert(sample(2, "sip:x@y"), 1000);
        assert_eq!(q.stuck(), ["a".into()]);
        assert!(q.next_of_round(1).is_empty());
        q.begin_round();
        assert_eq!(q.next_of_round(1), ["sip:x@y".into()]);
        assert!(q.next_of_round(1).is_empty() && q.next_of_round(1).is_empty());
        q.close_line("a", 1005);
        q.close_line("a", 1003);
        assert!(q.take("a", 9, 1004).is_empty() && q.wake(1004).is_empty());
        assert_eq!(q.wake(1005), ["a".into()]);
        assert_eq!(ids(q.take("a", 9, 1005)), [1]);
        q.close_line("a", 1010);
        q.remove(1);
        q.remove(2);
        q.wake(1010);
        assert_eq!((q.lines.len(), q.few.len(), q.users.len(), q.closed.len()), (0, 0, 0, 0));
    }

    /// Long lines cost no more: the time for the same work with 1,000 and with 100,000 waiting.
    #[test]
    fn work_does_not_grow_with_the_length_of_the_line() {
        let work = |waiting: u64| {
            let mut q = Queue::default();
            for id in 0..waiting {
                let mut m = sample(id, "slow");
                m.expires = 5000 + (id % 600) as i64;
                m.destination.addr = id.to_string().into_bytes().into();
                q.insert(m, 1000);
            }
            let begin = std::time::Instant::now();
            for id in waiting..waiting + 2000 {
                let mut m = sample(id, "fast");
                m.destination.addr = id.to_string().into_bytes().into();
                q.insert(m, 1000);
                let taken = q.take("fast", 1, 1000);
                assert_eq!(ids(taken), [id]);
                q.remove(id);
                q.wake(1000);
                q.expired(1000, 10);
            }
            begin.elapsed()
        };
        let (few, many) = (work(1000), work(100_000));
        assert!(many < few * 20, "1,000 waiting: {few:?}; 100,000 waiting: {many:?}");
    }
}
