//! `notify_on_event()` and `wait_for_event()`.

use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE, TxHandle, wait};
use switchroom_kernel::events::{Event, EventId};
use switchroom_kernel::module::Prepared;
use switchroom_kernel::oneshot;
use switchroom_kernel::registry::Registry;
use switchroom_kernel::run::{print_format, run_frame};
use switchroom_kernel::{Kernel, Shard};
use switchroom_script::names::{RouteType, StaticArg};
use switchroom_script::vm::{Frame, Index, VarAccess};
use switchroom_script::{Program, RouteId, Template, Value, Variable};

use super::index::Filter;
use super::store::{Action, Subscriptions};
use crate::core::events::dummy;
use crate::tm;

/// A wait that lasts longer than a day is a mistake.
const MAX_SECONDS: i64 = 86_400;

/// Filters written as text at the call, in place of a variable.
enum Written {
    /// `"aor=bob"`
    Fixed(Filter),
    /// `"aor=$rU"` or `"$avp(filter)"`; compiled when it is first used.
    Open { text: bytes::Bytes, compiled: OnceLock<Option<Compiled>> },
}

enum Compiled {
    Variable(VarAccess),
    Template(Template),
}

/// A filter given as text must have the form of one.
pub(super) fn prepare(args: &[StaticArg]) -> Result<Option<Prepared>, String> {
    let Some(StaticArg::Str(text)) = args.get(1) else { return Ok(None) };
    if text.contains(&b'$') {
        let written = Written::Open { text: text.clone(), compiled: OnceLock::new() };
        return Ok(Some(Arc::new(written)));
    }
    let text = String::from_utf8_lossy(text);
    match Filter::parse(&text) {
        Some(filter) => Ok(Some(Arc::new(Written::Fixed(filter)))),
        None => Err(format!("the filter \"{text}\" is not of the form key=pattern, such as \"aor=bob\"")),
    }
}

/// A fixed filter on a known event must name one of its attributes.
pub(super) fn check(registry: &Registry, args: &[StaticArg]) -> Result<(), String> {
    let (Some(StaticArg::Str(event)), Some(StaticArg::Str(text))) = (args.first(), args.get(1)) else {
        return Ok(());
    };
    let Some(event) = registry.event(&String::from_utf8_lossy(event)) else { return Ok(()) };
    let text = String::from_utf8_lossy(text);
    // The name of the attribute is known even where the pattern is not.
    let Some((key, _)) = text.split_once('=').filter(|(key, _)| !key.contains('$')) else { return Ok(()) };
    unknown_key(event.name, event.attrs, key.trim()).map_or(Ok(()), Err)
}

fn unknown_key<T: AsRef<str>>(event: &str, known: &[T], key: &str) -> Option<String> {
    if known.is_empty() || known.iter().any(|k| k.as_ref().eq_ignore_ascii_case(key)) {
        return None;
    }
    let known: Vec<&str> = known.iter().map(AsRef::as_ref).collect();
    Some(format!("event {event} has no attribute `{key}`; it has: {}", known.join(", ")))
}

/// The texts of the filters.
fn texts(c: &mut Call<'_>) -> Vec<String> {
    if let Some(var) = c.var(1) {
        return values(c.ctx, &var);
    }
    let kernel = c.ctx.shard.kernel.clone();
    let compiled = match c.prepared.and_then(|p| p.downcast_ref::<Written>()) {
        Some(Written::Fixed(f)) => return vec![format!("{}={}", f.key, f.pattern)],
        Some(Written::Open { text, compiled }) => compiled.get_or_init(|| compile(&kernel, text)),
        None => return Vec::new(),
    };
    match compiled {
        Some(Compiled::Variable(var)) => {
            let var = var.clone();
            values(c.ctx, &var)
        }
        Some(Compiled::Template(template)) => {
            vec![String::from_utf8_lossy(&print_format(c.ctx, template)).into_owned()]
        }
        None => Vec::new(),
    }
}

fn compile(kernel: &Kernel, text: &[u8]) -> Option<Compiled> {
    let shown = String::from_utf8_lossy(text);
    if let Ok(variable) = Variable::compile(&shown, &kernel.registry)
        && let Some(access) = variable.access()
    {
        return Some(Compiled::Variable(access.clone()));
    }
    match Template::compile(text, &kernel.registry) {
        Ok(template) => Some(Compiled::Template(template)),
        Err(e) => {
            tracing::error!("the filter \"{shown}\" cannot be read: {e}");
            None
        }
    }
}

/// Event, filters and end of a subscription from the arguments; logged and `None` when they make no sense.
fn asked(c: &mut Call<'_>, seconds: Option<i64>) -> Option<(EventId, String, Vec<Filter>, Instant)> {
    let name = c.text(0);
    let kernel = c.ctx.shard.kernel.clone();
    if name.is_empty() {
        tracing::error!("the event has no name");
        return None;
    }
    let event = kernel.events.publish(&name, &[]);
    let known = kernel.events.attributes(event);
    let mut filters = Vec::new();
    for text in texts(c) {
        let Some(filter) = Filter::parse(&text) else {
            tracing::error!("event {name}: the filter \"{text}\" is not of the form key=pattern");
            continue;
        };
        if let Some(error) = unknown_key(&name, &known, &filter.key) {
            tracing::error!("{error}");
            return None;
        }
        filters.push(filter);
    }
    let seconds = seconds.unwrap_or(0);
    if !(1..=MAX_SECONDS).contains(&seconds) {
        tracing::error!("event {name}: {seconds} is no time to wait, in seconds");
        return None;
    }
    let until = c.ctx.shard.now() + Duration::from_secs(seconds as u64);
    Some((event, name, filters, until))
}

/// All string values of a stack.
fn values(ctx: &mut Ctx, var: &VarAccess) -> Vec<String> {
    let mut all = Vec::new();
    for i in 0..64 {
        let at = if i == 0 { var.clone() } else { VarAccess { index: Index::At(i), ..var.clone() } };
        match ctx.get_var(&at) {
            Value::Null => break,
            Value::Str(s) => {
                let text = String::from_utf8_lossy(&s).into_owned();
                // A variable that is no stack gives the same value for each index.
                if i > 0 && all.first() == Some(&text) && all.len() == 1 {
                    break;
                }
                all.push(text);
            }
            Value::Int(_) => {}
        }
    }
    all
}

/// Closes a subscription when its transaction ends.
struct EndsWith {
    store: Arc<Subscriptions>,
    id: u64,
}

impl tm::api::Watch for EndsWith {
    fn event(&self, _: &mut Ctx, event: &tm::api::TxEvent<'_>) {
        let ended = match event {
            tm::api::TxEvent::Sending { code, .. } => *code >= 200,
            tm::api::TxEvent::Over => true,
            _ => false,
        };
        if ended {
            self.store.remove(self.id);
        }
    }
}

/// `notify_on_event(event, $avp(filters), route, seconds)`
pub(super) fn notify_on_event(c: &mut Call<'_>) -> Flow {
    let seconds = c.int(3);
    let route_name = c.text(2);
    let Some((event, name, filters, until)) = asked(c, seconds) else { return FALSE };
    let shard = c.ctx.shard.clone();
    let program = shard.kernel.program.load_full();
    let Some(route) = program.find(RouteType::Request, Some(&route_name)) else {
        tracing::error!("notify_on_event(): there is no route[{route_name}]");
        return FALSE;
    };
    let store = shard.kernel.state::<Arc<Subscriptions>>().clone();
    let tx = c.ctx.tx;
    let action = Action::Notify { worker: shard.worker, program, route, tx };
    let call_id = traced_call(c.ctx);
    note_wait(&shard, &call_id, &name, &filters, seconds, Some(&route_name));
    match store.add(&shard.kernel, event, &name, filters, until, action, call_id) {
        Some(id) => {
            if tx.is_some() {
                tm::api::watch(c.ctx, Rc::new(EndsWith { store, id }));
            }
            TRUE
        }
        None => {
            tracing::error!("notify_on_event(): too many subscriptions");
            FALSE
        }
    }
}

/// `wait_for_event(event, $avp(filters), seconds)`: 1 and the attributes as AVPs, or -2 when the time is over.
pub(super) fn wait_for_event(c: &mut Call<'_>) -> Flow {
    let seconds = c.int(2);
    let Some((event, name, filters, until)) = asked(c, seconds) else { return FALSE };
    let shard = c.ctx.shard.clone();
    let store = shard.kernel.state::<Arc<Subscriptions>>().clone();
    let (sender, receiver) = oneshot::channel();
    let call_id = traced_call(c.ctx);
    note_wait(&shard, &call_id, &name, &filters, seconds, None);
    if store.add(&shard.kernel, event, &name, filters, until, Action::Wake(sender), call_id).is_none() {
        tracing::error!("wait_for_event(): too many subscriptions");
        return FALSE;
    }
    // The sender goes when the subscription expires, which ends the wait without an event.
    wait(receiver, |ctx, event: Option<Arc<Event>>| match event {
        Some(event) => {
            put_avps(ctx, &event);
            TRUE
        }
        None => Flow::Value(-2),
    })
}

/// Call-ID of the request that subscribes, when calls are traced.
fn traced_call(ctx: &Ctx) -> Box<[u8]> {
    let traced = ctx.shard.kernel.trace.on() && !ctx.dummy;
    ctx.request().filter(|_| traced).map(|r| r.call_id().into()).unwrap_or_default()
}

fn note_wait(
    shard: &Shard,
    call_id: &[u8],
    event: &str,
    filters: &[Filter],
    seconds: Option<i64>,
    route: Option<&str>,
) {
    shard.kernel.note_call(Some(shard.worker), call_id, "waits", || {
        let mut text = format!("for {event}");
        for f in filters {
            text.push_str(&format!(" {}={}", f.key, f.pattern));
        }
        text.push_str(&format!(", {} s", seconds.unwrap_or(0)));
        if let Some(route) = route {
            text.push_str(&format!(", then route[{route}]"));
        }
        text
    });
}

fn put_avps(ctx: &mut Ctx, event: &Event) {
    let names = ctx.shard.kernel.registry.names.clone();
    for (name, value) in &event.attrs {
        if let Ok(key) = names.intern(name) {
            ctx.avps.push(key, value.clone());
        }
    }
}

/// Run a subscriber's route on its worker, with the event's attributes as AVPs.
pub(super) fn deliver(
    kernel: &Arc<Kernel>,
    worker: usize,
    program: Arc<Program>,
    route: RouteId,
    tx: Option<TxHandle>,
    event: Arc<Event>,
) {
    let name = event.name.clone();
    let posted = kernel.on_worker(worker, move |shard| {
        let mut ctx = dummy(shard, RouteType::Request);
        ctx.tx = tx;
        put_avps(&mut ctx, &event);
        run_frame(ctx, Frame::new(&program, route), |_, _| {});
    });
    if !posted {
        tracing::warn!("event {name}: the worker's mailbox is full, a route does not run");
    }
}
