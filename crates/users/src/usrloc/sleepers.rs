//! Contacts that are woken by push (RFC 8599): found by their number, and woken in time before they expire.
//!
//! Left out: what a push is and who sends it; that hears `E_UL_CONTACT_REFRESH`.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use switchroom_kernel::Kernel;

use super::contact::{Contact, PUSH};
use super::table::Table;
use super::{Location, api, shared};

struct Sleeper {
    table: Arc<Table>,
    aor: Box<[u8]>,
    /// When to look again, seconds since the epoch.
    at: u64,
    /// Expiry for which a wake-up was asked for already.
    asked: u64,
}

#[derive(Default)]
struct Inner {
    all: HashMap<u64, Sleeper>,
    by_time: BTreeSet<(u64, u64)>,
}

/// Contacts that are woken by push. There are never more of them than contacts.
#[derive(Default)]
pub struct Sleepers {
    inner: Mutex<Inner>,
    /// So many seconds before its end a binding is refreshed by push; 0 for never.
    lead: AtomicU64,
}

impl Sleepers {
    /// Refresh bindings by push so many seconds before they end.
    pub fn set_lead(&self, seconds: u64) {
        self.lead.store(seconds, Ordering::Relaxed);
    }

    /// A push contact was saved.
    pub fn note(&self, id: u64, table: &Arc<Table>, aor: &[u8], expires: u64) {
        let at = self.next_look(expires);
        let mut inner = self.inner.lock();
        let new = Sleeper { table: table.clone(), aor: aor.into(), at, asked: 0 };
        if let Some(old) = inner.all.insert(id, new) {
            inner.by_time.remove(&(old.at, id));
        }
        inner.by_time.insert((at, id));
    }

    /// Table and address of record of a push contact, by its number.
    pub fn find(&self, id: u64) -> Option<(Arc<Table>, Box<[u8]>)> {
        self.inner.lock().all.get(&id).map(|s| (s.table.clone(), s.aor.clone()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.inner.lock().all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn next_look(&self, expires: u64) -> u64 {
        match (expires, self.lead.load(Ordering::Relaxed)) {
            (0, _) => u64::MAX,
            (e, 0) => e,
            (e, lead) => e.saturating_sub(lead),
        }
    }

    /// Ask for the refresh of those whose time has come, and forget those that are gone.
    pub(super) async fn tick(&self, kernel: &Arc<Kernel>, now: u64) {
        let due: Vec<(u64, Arc<Table>, Box<[u8]>, u64)> = {
            let inner = self.inner.lock();
            let due = inner.by_time.iter().take_while(|(at, _)| *at <= now);
            due.filter_map(|(_, id)| {
                inner.all.get(id).map(|s| (*id, s.table.clone(), s.aor.clone(), s.asked))
            })
            .collect()
        };
        for (id, table, aor, asked) in due {
            // A database that does not answer now is asked again in a second.
            let Ok(list) = shared::contacts(kernel, &table, &aor).await else { return };
            let contact = list.into_iter().find(|c| c.id == id && c.flags & PUSH != 0);
            let next = contact.as_ref().and_then(|c| self.look(kernel, &table, &aor, c, asked, now));
            let mut inner = self.inner.lock();
            let Some(mut s) = inner.all.remove(&id) else { continue };
            inner.by_time.remove(&(s.at, id));
            if let (Some(at), Some(c)) = (next, &contact) {
                (s.at, s.asked) = (at, c.expires);
                inner.by_time.insert((at, id));
                inner.all.insert(id, s);
            }
        }
    }

    /// Wake one if it is time; when to look again, or `None` when its binding is over.
    fn look(
        &self,
        kernel: &Kernel,
        table: &Table,
        aor: &[u8],
        c: &Contact,
        asked: u64,
        now: u64,
    ) -> Option<u64> {
        if !c.is_live(now) {
            return None;
        }
        let at = self.next_look(c.expires);
        if at > now {
            return Some(at);
        }
        if asked != c.expires && self.lead.load(Ordering::Relaxed) > 0 {
            api::ask_refresh(kernel, None, table, aor, c, "reg-refresh", b"");
        }
        Some(c.expires)
    }
}

/// Fill from a table that was loaded.
pub(super) fn index(location: &Location, table: &Arc<Table>) {
    let mut found: Vec<(u64, Box<[u8]>, u64)> = Vec::new();
    table.retain(|aor, record| {
        let push = record.contacts.iter().filter(|c| c.flags & PUSH != 0);
        found.extend(push.map(|c| (c.id, aor.into(), c.expires)));
        true
    });
    for (id, aor, expires) in found {
        location.sleepers.note(id, table, &aor, expires);
    }
}
