//! Requests that wait for a phone woken by push, and how its REGISTER lets it join them (RFC 8599 §5.3, §6).
//!
//! Those who wait are found by the parameters that name the device, so a registration looks at nobody else's. Left out:
//! sending the push; that hears `E_UL_CONTACT_REFRESH`, and `E_PN_OVER` when it was in vain.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use smallvec::SmallVec;
use switchroom_calls::tm::api as tm;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TxHandle, wait};
use switchroom_kernel::events::{Event, EventId, Subscriber};
use switchroom_kernel::oneshot::{self, Sender};
use switchroom_kernel::stats::StatId;
use switchroom_kernel::{Kernel, Shard};
use switchroom_script::Value;
use switchroom_wire::sip::{HeaderId, NameAddr, Uri, scan};

use super::pn::{Push, parse_purr};
use super::{Registrar, lookup};
use crate::usrloc::contact::{Contact, PUSH};
use crate::usrloc::table::Table;
use crate::usrloc::{Location, api, events, shared};

/// So many requests may wait for phones at a time.
const MAX_WAITING: usize = 200_000;

/// The wait for a device is over, or nothing was found to wait for.
const GO_ON: Flow = Flow::Value(2);

/// Statistics.
#[derive(Clone, Copy)]
pub(super) struct Counters {
    /// Phones that requests waited for.
    pub asked: StatId,
    /// Phones that registered in time.
    pub woken: StatId,
    /// Phones that did not.
    pub asleep: StatId,
    /// Waits refused because there were too many.
    pub refused: StatId,
}

/// What happens when the phone has registered.
enum Then {
    /// It joins a transaction. `holds`: the transaction was opened for this and ends its waiting with it.
    Join { tx: TxHandle, holds: bool },
    /// A script goes on.
    Resume(Sender<()>),
}

struct Waiter {
    key: Vec<u8>,
    until: Instant,
    worker: usize,
    then: Then,
    /// Table, address of record, Contact URI and Call-ID of the request.
    told: [Bytes; 4],
}

#[derive(Default)]
struct Inner {
    all: HashMap<u64, Waiter>,
    by_key: HashMap<Vec<u8>, SmallVec<[u64; 1]>>,
    by_time: BTreeSet<(Instant, u64)>,
    serial: u64,
}

/// All requests that wait for phones.
pub(super) struct Waiting {
    inner: Mutex<Inner>,
    over: EventId,
    counters: Counters,
}

impl Waiting {
    /// Nobody waits.
    pub fn new(over: EventId, counters: Counters) -> Waiting {
        Waiting { inner: Mutex::default(), over, counters }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.inner.lock().all.len()
    }

    fn add(&self, waiter: Waiter) -> Option<u64> {
        let mut inner = self.inner.lock();
        if inner.all.len() >= MAX_WAITING {
            return None;
        }
        inner.serial += 1;
        let id = inner.serial;
        inner.by_key.entry(waiter.key.clone()).or_default().push(id);
        inner.by_time.insert((waiter.until, id));
        inner.all.insert(id, waiter);
        Some(id)
    }

    /// It is of no use any more. `reason` tells those who pushed.
    fn end(&self, kernel: &Kernel, worker: Option<usize>, id: u64, reason: &'static str) {
        let gone = self.inner.lock().take(id);
        if let Some(w) = gone {
            self.tell(kernel, worker, w, reason);
        }
    }

    fn tell(&self, kernel: &Kernel, worker: Option<usize>, w: Waiter, reason: &'static str) {
        if kernel.events.heard(self.over) {
            let mut values: Vec<Value> = w.told.into_iter().map(Value::Str).collect();
            values.push(Value::from(reason));
            kernel.events.raise(self.over, values, worker);
        }
    }

    /// Those whose time is over.
    pub fn expire(&self, kernel: &Kernel, now: Instant) {
        let mut gone = Vec::new();
        {
            let mut inner = self.inner.lock();
            while let Some((at, id)) = inner.by_time.first().copied().filter(|(at, _)| *at <= now) {
                inner.by_time.remove(&(at, id));
                gone.extend(inner.take(id));
            }
        }
        kernel.stats.add_outside(self.counters.asleep, gone.len() as i64);
        for w in gone {
            note(kernel, None, &w.told[3], "asleep", &w.told[2]);
            if let Then::Join { tx, holds: true } = w.then {
                kernel.on_worker(w.worker, move |shard| tm::await_no_more(shard, tx));
            }
            self.tell(kernel, None, w, "timeout");
        }
    }

    /// A device has registered.
    fn registered(&self, kernel: &Arc<Kernel>, key: &[u8], contact: &Contact) {
        let now = kernel.drivers.clock.now();
        let found: Vec<Waiter> = {
            let mut inner = self.inner.lock();
            let Some(ids) = inner.by_key.get(key).cloned() else { return };
            let in_time = |inner: &Inner, id: &u64| inner.all.get(id).is_some_and(|w| w.until > now);
            let ids: SmallVec<[u64; 1]> = ids.into_iter().filter(|id| in_time(&inner, id)).collect();
            ids.into_iter().filter_map(|id| inner.take(id)).collect()
        };
        if found.is_empty() {
            return;
        }
        kernel.stats.add_outside(self.counters.woken, found.len() as i64);
        for w in found {
            note(kernel, None, &w.told[3], "registered", contact.uri());
            match w.then {
                Then::Resume(sender) => sender.send(()),
                Then::Join { tx, .. } => {
                    let contact = contact.clone();
                    let posted = kernel.on_worker(w.worker, move |shard| join(shard, tx, &contact));
                    if !posted {
                        tracing::warn!("a phone cannot join its call: the worker's mailbox is full");
                    }
                }
            }
        }
    }
}

impl Inner {
    fn take(&mut self, id: u64) -> Option<Waiter> {
        let w = self.all.remove(&id)?;
        self.by_time.remove(&(w.until, id));
        if let Some(list) = self.by_key.get_mut(&w.key) {
            list.retain(|x| *x != id);
            if list.is_empty() {
                self.by_key.remove(&w.key);
            }
        }
        Some(w)
    }
}

fn join(shard: &Rc<Shard>, tx: TxHandle, contact: &Contact) {
    let Some(push) = &shard.kernel.state::<Registrar>().push else { return };
    let mut target = lookup::target(contact);
    target.uri = Some(push.strip(contact.uri()).into());
    tm::inject(shard, tx, SmallVec::from_iter([target]));
}

/// Hears of registrations.
pub(super) struct Ear(pub std::sync::Weak<Kernel>);

impl Subscriber for Ear {
    fn event(&self, event: &Arc<Event>, _: Option<usize>) {
        let Some(kernel) = self.0.upgrade() else { return };
        let Some(push) = &kernel.state::<Registrar>().push else { return };
        let contact = events::told_contact(&kernel, event);
        let key = Uri::parse(contact.uri()).ok().and_then(|u| push.key(&u));
        if let Some(key) = key {
            kernel.state::<Waiting>().registered(&kernel, &key, &contact);
        }
    }
    fn describe(&self) -> String {
        "registrar:push".into()
    }
}

/// Ends a wait with its transaction.
struct EndsWith {
    id: u64,
}

impl tm::Watch for EndsWith {
    fn event(&self, ctx: &mut Ctx, event: &tm::TxEvent<'_>) {
        let reason = match event {
            tm::TxEvent::Sending { code: 200..=299, .. } => "answered",
            tm::TxEvent::Sending { code, .. } if *code >= 300 => "failed",
            tm::TxEvent::Cancelled => "cancelled",
            tm::TxEvent::Over => "over",
            _ => return,
        };
        let shard = ctx.shard.clone();
        shard.kernel.state::<Waiting>().end(&shard.kernel, Some(shard.worker), self.id, reason);
    }
}

/// The request in `ctx` waits for these sleeping contacts of `aor`, besides `ready` ones that it goes to at once. 0 when it
/// was a retransmission, negative on errors.
pub(super) fn wake(
    ctx: &mut Ctx,
    push: &Push,
    table: &str,
    aor: &[u8],
    asleep: &[Contact],
    ready: usize,
) -> i64 {
    let shard = ctx.shard.clone();
    if ctx.tx.is_none() && !tm::ensure(ctx) {
        return 0;
    }
    let Some(tx) = ctx.tx else { return -3 };
    let holds = tm::await_branches(ctx, Some(ready + asleep.len()));
    let waiting = shard.kernel.state::<Waiting>();
    let (method, call_id) = match ctx.request() {
        Some(r) => (r.method_name().to_vec(), r.slice(r.call_id())),
        None => return -3,
    };
    let reason = reason("ini-", &method);
    let Some(place) = api::find(shard.kernel.state::<Location>(), table) else { return -3 };
    for contact in asleep {
        let Some(key) = Uri::parse(contact.uri()).ok().and_then(|u| push.key(&u)) else { continue };
        let waiter = Waiter {
            key,
            until: shard.now() + push.refresh_timeout,
            worker: shard.worker,
            then: Then::Join { tx, holds },
            told: told(table, aor, contact, &call_id),
        };
        let Some(id) = waiting.add(waiter) else {
            shard.count(waiting.counters.refused, 1);
            tracing::error!("too many requests wait for phones");
            return -3;
        };
        shard.count(waiting.counters.asked, 1);
        note(&shard.kernel, Some(shard.worker), &call_id, "waits", contact.uri());
        tm::watch(ctx, Rc::new(EndsWith { id }));
        api::ask_refresh(&shard.kernel, Some(shard.worker), &place, aor, contact, &reason, &call_id);
    }
    1
}

/// A line of the call's story.
fn note(kernel: &Kernel, worker: Option<usize>, call_id: &[u8], kind: &'static str, uri: &[u8]) {
    kernel.note_call(worker, call_id, kind, || format!("the phone {}", String::from_utf8_lossy(uri)));
}

fn told(table: &str, aor: &[u8], contact: &Contact, call_id: &[u8]) -> [Bytes; 4] {
    [table.as_bytes(), aor, contact.uri(), call_id].map(Bytes::copy_from_slice)
}

/// `ini-INVITE`, at most 32 bytes.
fn reason(what: &str, method: &[u8]) -> String {
    let mut text = format!("{what}{}", String::from_utf8_lossy(method));
    let mut end = text.len().min(32);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

/// `async(pn_process_purr("location"), route)`: a request inside a dialog waits for the phone that its `pn-purr` names. 1
/// when it has registered, 2 when there is nobody to wait for, -2 when it did not register in time, -1 for an error.
pub(super) fn process_purr(c: &mut Call<'_>) -> Flow {
    let table = c.text(0);
    let ctx = &mut *c.ctx;
    let shard = ctx.shard.clone();
    if shard.kernel.state::<Registrar>().push.is_none() {
        return FALSE;
    }
    let Some(id) = named_binding(ctx) else { return GO_ON };
    let location = shard.kernel.state::<Location>();
    let Some((place, aor)) = location.sleepers.find(id).filter(|(t, _)| t.name == table) else {
        return GO_ON;
    };
    let now = shard.kernel.unix();
    let select = move |list: &[Contact]| {
        list.iter().find(|c| c.id == id && c.flags & PUSH != 0 && c.is_live(now)).cloned()
    };
    shared::read(ctx, &place.clone(), &aor.clone(), select, move |ctx, found| match found {
        Ok(Some(contact)) => wait_for(ctx, &place, &aor, contact),
        Ok(None) => GO_ON,
        Err(e) => {
            tracing::error!("pn_process_purr(): {e}");
            FALSE
        }
    })
}

/// A request inside a dialog waits for this contact, unless it is awake.
fn wait_for(ctx: &mut Ctx, place: &Table, aor: &[u8], contact: Contact) -> Flow {
    let shard = ctx.shard.clone();
    let Some(push) = &shard.kernel.state::<Registrar>().push else { return FALSE };
    if is_awake(push, &contact, shard.kernel.unix()) {
        return GO_ON;
    }
    let Some(key) = Uri::parse(contact.uri()).ok().and_then(|u| push.key(&u)) else { return GO_ON };
    let Some(request) = ctx.request().cloned() else { return FALSE };
    let (sender, receiver) = oneshot::channel();
    let waiting = shard.kernel.state::<Waiting>();
    let waiter = Waiter {
        key,
        until: shard.now() + push.refresh_timeout,
        worker: shard.worker,
        then: Then::Resume(sender),
        told: told(&place.name, aor, &contact, request.call_id()),
    };
    if waiting.add(waiter).is_none() {
        shard.count(waiting.counters.refused, 1);
        tracing::error!("too many requests wait for phones");
        return FALSE;
    }
    shard.count(waiting.counters.asked, 1);
    let reason = reason("mid-", request.method_name());
    api::ask_refresh(&shard.kernel, Some(shard.worker), place, aor, &contact, &reason, request.call_id());
    wait(receiver, |_, came| Flow::Value(if came.is_some() { 1 } else { -2 }))
}

/// Whether a binding was refreshed so lately that its phone needs no push.
pub(super) fn is_awake(push: &Push, contact: &Contact, now: u64) -> bool {
    push.skip_interval > 0 && now < contact.modified + push.skip_interval
}

/// The binding that a request inside a dialog names: in its Request-URI, else in its topmost Route.
fn named_binding(ctx: &Ctx) -> Option<u64> {
    let purr = |uri: &[u8]| {
        Uri::parse(uri).ok()?.param("pn-purr").and_then(|v| parse_purr(&scan::percent_decode(v)))
    };
    let request = ctx.request()?;
    purr(&ctx.ruri()).or_else(|| purr(request.ruri_bytes())).or_else(|| {
        let route = request.header(HeaderId::Route)?;
        let first = scan::commas(route.value).next()?;
        purr(NameAddr::parse(first).ok()?.uri)
    })
}
