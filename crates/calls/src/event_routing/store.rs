//! All subscriptions of the house, and the events that reach them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use switchroom_kernel::Kernel;
use switchroom_kernel::context::TxHandle;
use switchroom_kernel::events::{Event, EventId, Subscriber};
use switchroom_kernel::oneshot::Sender;
use switchroom_kernel::stats::StatId;
use switchroom_script::{Program, RouteId};

use super::functions::deliver;
use super::index::{Filter, Index};

/// Statistics.
#[derive(Clone, Copy)]
pub(super) struct Counters {
    pub notified: StatId,
    pub resumed: StatId,
    pub expired: StatId,
    pub refused: StatId,
    pub looked_at: StatId,
}

/// What happens with an event.
pub(super) enum Action {
    /// Run a route on the subscriber's worker, each time.
    Notify { worker: usize, program: Arc<Program>, route: RouteId, tx: Option<TxHandle> },
    /// Wake a waiting script, once.
    Wake(Sender<Arc<Event>>),
}

struct Subscription {
    event: EventId,
    name: String,
    filters: Vec<Filter>,
    /// The filter by which it is found.
    kept_under: Option<usize>,
    expires: Instant,
    action: Action,
    /// Of the request that subscribed; empty unless calls are traced.
    call_id: Box<[u8]>,
}

#[derive(Default)]
struct Inner {
    all: HashMap<u64, Subscription>,
    by_event: HashMap<EventId, Index>,
    by_time: BTreeSet<(Instant, u64)>,
    /// Events that this store hears.
    heard: HashSet<EventId>,
}

/// All subscriptions.
pub(super) struct Subscriptions {
    inner: Mutex<Inner>,
    serial: AtomicU64,
    /// So many may be open at a time.
    most: usize,
    counters: Counters,
}

impl Subscriptions {
    pub fn new(most: usize, counters: Counters) -> Subscriptions {
        Subscriptions { inner: Mutex::default(), serial: AtomicU64::new(1), most, counters }
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.inner.lock().all.len()
    }

    /// Open one; its number, or `None` when there are too many.
    pub fn add(
        self: &Arc<Self>,
        kernel: &Arc<Kernel>,
        event: EventId,
        name: &str,
        filters: Vec<Filter>,
        expires: Instant,
        action: Action,
        call_id: Box<[u8]>,
    ) -> Option<u64> {
        let id = self.serial.fetch_add(1, Ordering::Relaxed);
        let mut inner = self.inner.lock();
        if inner.all.len() >= self.most {
            kernel.stats.add_outside(self.counters.refused, 1);
            return None;
        }
        if inner.heard.insert(event) {
            let ear = Ear { kernel: Arc::downgrade(kernel), store: self.clone() };
            kernel.events.subscribe(event, Arc::new(ear));
        }
        let kept_under = inner.by_event.entry(event).or_default().add(id, &filters);
        inner.by_time.insert((expires, id));
        let name = name.to_owned();
        inner.all.insert(id, Subscription { event, name, filters, kept_under, expires, action, call_id });
        Some(id)
    }

    /// Close one; nothing when it is closed already.
    pub fn remove(&self, id: u64) {
        let removed = self.inner.lock().take(id);
        drop(removed);
    }

    /// Close those whose time is over.
    pub fn expire(&self, kernel: &Kernel, now: Instant) {
        let mut gone = Vec::new();
        {
            let mut inner = self.inner.lock();
            while let Some((at, id)) = inner.by_time.first().copied().filter(|(at, _)| *at <= now) {
                inner.by_time.remove(&(at, id));
                gone.extend(inner.take(id));
            }
        }
        kernel.stats.add_outside(self.counters.expired, gone.len() as i64);
        for s in &gone {
            kernel.note_call(None, &s.call_id, "expired", || format!("the wait for {}", s.name));
        }
    }

    /// For the command.
    pub fn list(&self, event: Option<&str>, now: Instant) -> Vec<Json> {
        let inner = self.inner.lock();
        let rows = inner.all.iter().filter(|(_, s)| event.is_none_or(|e| e.eq_ignore_ascii_case(&s.name)));
        rows.take(1000)
            .map(|(id, s)| {
                let filters: Vec<String> =
                    s.filters.iter().map(|f| format!("{}={}", f.key, f.pattern)).collect();
                let left = s.expires.saturating_duration_since(now).as_millis() as u64;
                let kind = match s.action {
                    Action::Notify { .. } => "notify",
                    Action::Wake(_) => "wait",
                };
                json!({"id": id, "event": s.name, "filters": filters, "kind": kind, "ms_left": left})
            })
            .collect()
    }

    fn event(&self, kernel: &Arc<Kernel>, event: &Arc<Event>) {
        let now = kernel.drivers.clock.now();
        let mut wake = Vec::new();
        let mut notify = Vec::new();
        {
            let mut inner = self.inner.lock();
            let Some(index) = inner.by_event.get(&event.id) else { return };
            let candidates = index.candidates(event);
            kernel.stats.add_outside(self.counters.looked_at, candidates.len() as i64);
            for id in candidates {
                let Some(s) = inner.all.get(&id) else { continue };
                // One whose time is over hears nothing more, whether it was swept away already or not.
                if s.expires <= now || !s.filters.iter().all(|f| f.passes(event)) {
                    continue;
                }
                kernel.note_call(None, &s.call_id, "event", || describe(event));
                match &s.action {
                    Action::Notify { worker, program, route, tx } => {
                        notify.push((*worker, program.clone(), *route, *tx));
                    }
                    Action::Wake(_) => wake.push(id),
                }
            }
            let woken: Vec<_> = wake.into_iter().filter_map(|id| inner.take(id)).collect();
            drop(inner);
            for s in woken {
                if let Action::Wake(sender) = s.action {
                    kernel.stats.add_outside(self.counters.resumed, 1);
                    sender.send(event.clone());
                }
            }
        }
        for (worker, program, route, tx) in notify {
            kernel.stats.add_outside(self.counters.notified, 1);
            deliver(kernel, worker, program, route, tx, event.clone());
        }
    }
}

/// `E_UL_CONTACT_INSERT aor=bob uri=sip:...`
fn describe(event: &Event) -> String {
    let mut text = event.name.to_string();
    for (name, value) in &event.attrs {
        let value = value.to_bytes().unwrap_or_default();
        if !value.is_empty() {
            text.push_str(&format!(" {name}={}", String::from_utf8_lossy(&value)));
        }
    }
    text
}

impl Inner {
    fn take(&mut self, id: u64) -> Option<Subscription> {
        let s = self.all.remove(&id)?;
        self.by_time.remove(&(s.expires, id));
        if let Some(index) = self.by_event.get_mut(&s.event) {
            index.remove(id, &s.filters, s.kept_under);
            if index.is_empty() {
                self.by_event.remove(&s.event);
            }
        }
        Some(s)
    }
}

/// Hears one event for all subscriptions of it.
struct Ear {
    kernel: std::sync::Weak<Kernel>,
    store: Arc<Subscriptions>,
}

impl Subscriber for Ear {
    fn event(&self, event: &Arc<Event>, _: Option<usize>) {
        if let Some(kernel) = self.kernel.upgrade() {
            self.store.event(&kernel, event);
        }
    }
    fn describe(&self) -> String {
        "routing:".into()
    }
}
