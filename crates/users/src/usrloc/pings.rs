//! What the answers to pings, and silence, change in the location: how fast a contact is, and whether it is still there.
//!
//! Left out: sending pings, and which contacts get them.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use switchroom_kernel::Kernel;
use switchroom_kernel::ports::store::StoreError;

use super::contact::Contact;
use super::events::Change;
use super::table::Table;
use super::{Location, shared};

/// Which times are worth an event.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LatencyFilter {
    /// From so many microseconds on.
    pub from: u32,
    /// Changed by so many microseconds.
    pub change: u32,
}

impl LatencyFilter {
    fn passes(self, old: u32, new: u32) -> bool {
        match (self.from, self.change) {
            (0, 0) => true,
            (from, change) => (from > 0 && new >= from) || (change > 0 && new.abs_diff(old) >= change),
        }
    }
}

/// What is known by pings of contacts that are in a shared database only.
#[derive(Default)]
pub(super) struct Seen(Mutex<HashMap<u64, Known>>);

#[derive(Clone, Copy)]
struct Known {
    latency: u32,
    unanswered: u8,
    /// Last ping or answer, seconds since the epoch.
    at: u64,
}

/// So many contacts of a shared database are remembered; others are pinged, but not timed or removed.
const MAX_SEEN: usize = 2_000_000;
/// Contacts that were not pinged for so many seconds are forgotten.
const FORGET: u64 = 3600;

impl Seen {
    /// Put what is known into contacts that were read.
    pub fn fill<'a>(&self, contacts: impl Iterator<Item = &'a mut Contact>) {
        let known = self.0.lock();
        if known.is_empty() {
            return;
        }
        for c in contacts {
            if let Some(k) = known.get(&c.id) {
                (c.latency, c.unanswered) = (k.latency, k.unanswered);
            }
        }
    }

    /// Forget those that are pinged no more.
    pub fn forget(&self, now: u64) {
        self.0.lock().retain(|_, k| k.at + FORGET > now);
    }

    fn sent(&self, id: u64, now: u64) -> u8 {
        let mut known = self.0.lock();
        if known.len() >= MAX_SEEN && !known.contains_key(&id) {
            return 0;
        }
        let k = known.entry(id).or_insert(Known { latency: 0, unanswered: 0, at: now });
        (k.unanswered, k.at) = (k.unanswered.saturating_add(1), now);
        k.unanswered
    }

    /// The time before.
    fn answered(&self, id: u64, micros: u32, now: u64) -> u32 {
        let mut known = self.0.lock();
        if known.len() >= MAX_SEEN && !known.contains_key(&id) {
            return 0;
        }
        let k = known.entry(id).or_insert(Known { latency: 0, unanswered: 0, at: now });
        (k.unanswered, k.at) = (0, now);
        std::mem::replace(&mut k.latency, micros)
    }
}

/// A ping leaves to the contact with this key; how many are unanswered now, 0 when it is gone.
pub fn sent(kernel: &Kernel, table: &Table, aor: &[u8], id: u64) -> u8 {
    let location = kernel.state::<Location>();
    if location.is_shared() {
        return location.seen.sent(id, kernel.unix());
    }
    let count = table.mend(aor, |record| {
        let contact = record.contacts.iter_mut().find(|c| c.id == id)?;
        contact.unanswered = contact.unanswered.saturating_add(1);
        Some(contact.unanswered)
    });
    count.flatten().unwrap_or(0)
}

/// A ping was answered after `micros`. The time is kept when the contact has a flag of `timed`, and told to those who
/// want to know.
pub fn answered(
    kernel: &Arc<Kernel>,
    worker: Option<usize>,
    table: &Arc<Table>,
    aor: &[u8],
    id: u64,
    micros: u32,
    timed: u32,
) {
    let location = kernel.state::<Location>();
    let heard = location.events.latency_heard(kernel);
    let micros = micros.max(1);
    if location.is_shared() {
        let old = location.seen.answered(id, micros, kernel.unix());
        if heard && timed != 0 && location.latency_filter.passes(old, micros) {
            tell_later(kernel, table, aor, id, timed);
        }
        return;
    }
    let told = table.mend(aor, |record| {
        let contact = record.contacts.iter_mut().find(|c| c.id == id)?;
        contact.unanswered = 0;
        if contact.cflags & timed == 0 {
            return None;
        }
        let old = std::mem::replace(&mut contact.latency, micros);
        (heard && location.latency_filter.passes(old, micros)).then(|| contact.clone())
    });
    if let Some(contact) = told.flatten() {
        location.events.contact(kernel, worker, Change::Latency, &table.name, aor, &contact);
    }
}

/// The event of a contact that must be read first.
fn tell_later(kernel: &Arc<Kernel>, table: &Arc<Table>, aor: &[u8], id: u64, timed: u32) {
    let (table, aor): (Arc<Table>, Box<[u8]>) = (table.clone(), aor.into());
    let house = kernel.clone();
    kernel.drivers.spawn.spawn(Box::pin(async move {
        let Ok(found) = shared::contacts(&house, &table, &aor).await else { return };
        if let Some(c) = found.iter().find(|c| c.id == id && c.cflags & timed != 0) {
            let events = house.state::<Location>().events;
            events.contact(&house, None, Change::Latency, &table.name, &aor, c);
        }
    }));
}

/// Remove the contact with this key if at least `limit` pings in a row had no answer. Whether it went.
pub async fn give_up(
    kernel: &Arc<Kernel>,
    table: &Table,
    aor: &[u8],
    id: u64,
    limit: u8,
) -> Result<bool, StoreError> {
    let silent = |c: &Contact| c.id == id && c.unanswered >= limit;
    if !shared::contacts(kernel, table, aor).await?.iter().any(silent) {
        return Ok(false);
    }
    let change = shared::change_now(kernel, table, aor, |contacts| {
        let before = contacts.len();
        contacts.retain(|c| !silent(c));
        contacts.len() < before
    });
    change.await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_filter_lets_a_time_pass() {
        let filter = |from, change| LatencyFilter { from, change };
        assert!(filter(0, 0).passes(10, 10));
        assert!(filter(100, 0).passes(0, 100) && !filter(100, 0).passes(500, 99));
        assert!(filter(0, 50).passes(100, 50) && !filter(0, 50).passes(100, 51));
        assert!(filter(1000, 50).passes(100, 10) && !filter(1000, 50).passes(100, 90));
    }
}
