//! The event bus: named events with named attributes, published by modules, scripts and management commands, told to
//! whoever subscribed (semantics: event interface).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::RwLock;
use switchroom_script::Value;

use crate::ports::net::BoxFuture;

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
    /// Tell it now, and say whether that was successful: for those that choose between subscribers. Without knowledge
    /// of the way, to have queued it is success.
    fn deliver(self: Arc<Self>, event: &Arc<Event>) -> BoxFuture<Result<(), String>> {
        self.event(event, None);
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Makes subscribers of one kind of address: `udp:host:port`, `http:host/path`.
pub trait EventTransport: Send + Sync {
    /// A subscriber for what stands behind the first colon of `socket`.
    fn subscriber(&self, socket: &str) -> Result<Arc<dyn Subscriber>, String>;
}

/// How many may listen to one event.
const MAX_SUBSCRIBERS: usize = 10_000;

struct Published {
    name: Arc<str>,
    attrs: Vec<Arc<str>>,
    subscribers: Vec<Subscribed>,
    live: Arc<AtomicUsize>,
}

struct Subscribed {
    serial: u64,
    who: Arc<dyn Subscriber>,
    /// It came by its address, so that the same address again renews it.
    by_address: bool,
    expires: Option<Expires>,
}

/// When the subscription of an address ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expires {
    /// Seconds since the epoch.
    pub at: u64,
    /// Seconds that were asked for.
    pub after: u64,
}

/// Who is told of an event, for those who ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// `transport:address`.
    pub socket: String,
    /// `None`: never.
    pub expires: Option<Expires>,
}

/// All events of the process.
#[derive(Default)]
pub struct Events {
    transports: RwLock<HashMap<String, Arc<dyn EventTransport>>>,
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
            (p.name.clone(), p.subscribers.iter().map(|s| s.who.clone()).collect::<Vec<_>>())
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
            p.subscribers.push(Subscribed { serial, who, by_address: false, expires: None });
            p.live.store(p.subscribers.len(), Ordering::Relaxed);
        }
        serial
    }

    /// Offer a kind of address to subscribers: `udp`, `unix`, `http`.
    pub fn add_transport(&self, scheme: &str, transport: Arc<dyn EventTransport>) {
        self.transports.write().insert(scheme.to_owned(), transport);
    }

    /// A subscriber for an address (`scheme:rest`), which nobody tells of anything yet.
    pub fn subscriber(&self, socket: &str) -> Result<Arc<dyn Subscriber>, String> {
        let (scheme, rest) = socket
            .split_once(':')
            .ok_or_else(|| format!("\"{socket}\" is no address such as udp:host:port"))?;
        let transport = self.transports.read().get(scheme).cloned();
        let Some(transport) = transport else {
            let mut known: Vec<String> = self.transports.read().keys().cloned().collect();
            known.sort();
            let there = if known.is_empty() { "none at all".to_owned() } else { known.join(", ") };
            return Err(format!("no loaded module sends events to `{scheme}:`; there are: {there}"));
        };
        transport.subscriber(rest)
    }

    /// Subscribe an address (`scheme:rest`). The same address again is renewed.
    pub fn subscribe_address(
        &self,
        id: EventId,
        socket: &str,
        expires: Option<Expires>,
    ) -> Result<(), String> {
        let who = self.subscriber(socket)?;
        let name = who.describe();
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let mut inner = self.inner.write();
        let Some(p) = inner.list.get_mut(id.0 as usize) else { return Err("no such event".into()) };
        if let Some(known) = p.subscribers.iter_mut().find(|s| s.by_address && s.who.describe() == name) {
            known.expires = expires;
            return Ok(());
        }
        if p.subscribers.len() >= MAX_SUBSCRIBERS {
            return Err(format!("more than {MAX_SUBSCRIBERS} subscribers"));
        }
        p.subscribers.push(Subscribed { serial, who, by_address: true, expires });
        p.live.store(p.subscribers.len(), Ordering::Relaxed);
        Ok(())
    }

    /// Forget subscribers whose time is over.
    pub fn expire(&self, now: u64) {
        let due = |p: &Published| p.subscribers.iter().any(|s| s.expires.is_some_and(|e| e.at <= now));
        if !self.inner.read().list.iter().any(due) {
            return;
        }
        for p in &mut self.inner.write().list {
            p.subscribers.retain(|s| s.expires.is_none_or(|e| e.at > now));
            p.live.store(p.subscribers.len(), Ordering::Relaxed);
        }
    }

    /// Remove a subscriber.
    pub fn unsubscribe(&self, id: EventId, serial: u64) {
        if let Some(p) = self.inner.write().list.get_mut(id.0 as usize) {
            p.subscribers.retain(|s| s.serial != serial);
            p.live.store(p.subscribers.len(), Ordering::Relaxed);
        }
    }

    /// All published events: id, name, attribute names, who is told.
    pub fn list(&self) -> Vec<(EventId, Arc<str>, Vec<Arc<str>>, Vec<Subscription>)> {
        let inner = self.inner.read();
        let rows = inner.list.iter().enumerate();
        rows.map(|(i, p)| {
            let told = |s: &Subscribed| Subscription { socket: s.who.describe(), expires: s.expires };
            let subs = p.subscribers.iter().map(told).collect();
            (EventId(i as u32), p.name.clone(), p.attrs.clone(), subs)
        })
        .collect()
    }
}
