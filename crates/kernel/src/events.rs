//! The event bus: named events with named attributes, published by modules, scripts and management commands, told to
//! whoever subscribed (semantics: event interface).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::RwLock;
use switchroom_script::Value;

/// Index of a published event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventId(pub u32);

/// One occurrence of an event, as subscribers see it.
#[derive(Clone, Debug)]
pub struct Event {
    /// Which.
    pub id: EventId,
    /// Its name.
    pub name: Arc<str>,
    /// Attributes in the order of the declaration; a name is empty when only a position was given.
    pub attrs: Vec<(Arc<str>, Value)>,
}

/// Who is told. Runs on the raising thread, so it must only queue.
pub trait Subscriber: Send + Sync {
    /// An event happened. `worker` is the raising worker, if the thread is one.
    fn event(&self, event: &Arc<Event>, worker: Option<usize>);
    /// For `evi:subscribers`: `transport:address`.
    fn describe(&self) -> String;
}

struct Published {
    name: Arc<str>,
    attrs: Vec<Arc<str>>,
    subscribers: Vec<(u64, Arc<dyn Subscriber>)>,
    live: Arc<AtomicUsize>,
}

/// All events of the process.
#[derive(Default)]
pub struct Events {
    inner: RwLock<Inner>,
    serial: AtomicU64,
}

#[derive(Default)]
struct Inner {
    list: Vec<Published>,
    by_name: HashMap<String, EventId>,
}

impl Events {
    /// Publish an event, or find it when it was published before (attributes of the first declaration stay).
    pub fn publish(&self, name: &str, attrs: &[&str]) -> EventId {
        let mut inner = self.inner.write();
        let key = name.to_ascii_uppercase();
        if let Some(id) = inner.by_name.get(&key).copied() {
            if let Some(p) = inner.list.get_mut(id.0 as usize)
                && p.attrs.is_empty()
            {
                p.attrs = attrs.iter().map(|a| Arc::from(*a)).collect();
            }
            return id;
        }
        let id = EventId(inner.list.len() as u32);
        inner.by_name.insert(key, id);
        let attrs = attrs.iter().map(|a| Arc::from(*a)).collect();
        inner.list.push(Published {
            name: name.into(),
            attrs,
            subscribers: Vec::new(),
            live: Arc::default(),
        });
        id
    }

    /// Find a published event; names ignore case.
    pub fn find(&self, name: &str) -> Option<EventId> {
        self.inner.read().by_name.get(&name.to_ascii_uppercase()).copied()
    }

    /// Whether anybody listens: ask before collecting attributes.
    pub fn heard(&self, id: EventId) -> bool {
        self.inner.read().list.get(id.0 as usize).is_some_and(|p| p.live.load(Ordering::Relaxed) > 0)
    }

    /// Declared attribute names.
    pub fn attributes(&self, id: EventId) -> Vec<Arc<str>> {
        self.inner.read().list.get(id.0 as usize).map(|p| p.attrs.clone()).unwrap_or_default()
    }

    /// Raise with values in the declared order.
    pub fn raise(&self, id: EventId, values: Vec<Value>, worker: Option<usize>) {
        let names = self.attributes(id);
        let empty: Arc<str> = Arc::from("");
        let named = values.into_iter().enumerate();
        let attrs = named.map(|(i, v)| (names.get(i).unwrap_or(&empty).clone(), v)).collect();
        self.raise_named(id, attrs, worker);
    }

    /// Raise with names given by the caller (`raise_event` of a script).
    pub fn raise_named(&self, id: EventId, attrs: Vec<(Arc<str>, Value)>, worker: Option<usize>) {
        let (name, subscribers) = {
            let inner = self.inner.read();
            let Some(p) = inner.list.get(id.0 as usize) else { return };
            if p.subscribers.is_empty() {
                return;
            }
            (p.name.clone(), p.subscribers.iter().map(|(_, s)| s.clone()).collect::<Vec<_>>())
        };
        let event = Arc::new(Event { id, name, attrs });
        for s in subscribers {
            s.event(&event, worker);
        }
    }

    /// Add a subscriber; gives the number to unsubscribe with.
    pub fn subscribe(&self, id: EventId, who: Arc<dyn Subscriber>) -> u64 {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        if let Some(p) = self.inner.write().list.get_mut(id.0 as usize) {
            p.subscribers.push((serial, who));
            p.live.store(p.subscribers.len(), Ordering::Relaxed);
        }
        serial
    }

    /// Remove a subscriber.
    pub fn unsubscribe(&self, id: EventId, serial: u64) {
        if let Some(p) = self.inner.write().list.get_mut(id.0 as usize) {
            p.subscribers.retain(|(s, _)| *s != serial);
            p.live.store(p.subscribers.len(), Ordering::Relaxed);
        }
    }

    /// All published events: id, name, attribute names, subscribers' descriptions.
    pub fn list(&self) -> Vec<(EventId, Arc<str>, Vec<Arc<str>>, Vec<String>)> {
        let inner = self.inner.read();
        let rows = inner.list.iter().enumerate();
        rows.map(|(i, p)| {
            let subs = p.subscribers.iter().map(|(_, s)| s.describe()).collect();
            (EventId(i as u32), p.name.clone(), p.attrs.clone(), subs)
        })
        .collect()
    }
}
