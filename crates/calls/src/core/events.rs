//! `raise_event()`, `event_route` and the commands of the event interface.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value as Json, json};
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, Received, TRUE};
use switchroom_kernel::events::{Event, Subscriber};
use switchroom_kernel::module::{Command, CommandCall, CommandError, Prepared};
use switchroom_kernel::ports::net::SocketId;
use switchroom_kernel::run::run_frame;
use switchroom_kernel::{Kernel, Shard};
use switchroom_script::Value;
use switchroom_script::names::{RouteType, StaticArg};
use switchroom_script::vm::VarAccess;
use switchroom_script::vm::{Frame, Index};
use switchroom_wire::sip::Message;

/// A static event name is published when the script is loaded; the run-time finds it by name.
pub fn prepare_event(args: &[StaticArg]) -> Result<Option<Prepared>, String> {
    match super::functions::static_str(args.first()) {
        Some("") => Err("the event has no name".into()),
        _ => Ok(None),
    }
}

/// `raise_event(name[, $avp(names)][, $avp(values)])`
pub fn raise_event(c: &mut Call<'_>) -> Flow {
    let name = c.text(0);
    let (names, values) = match (c.var(1), c.var(2)) {
        (Some(n), Some(v)) => (stack(c.ctx, &n), stack(c.ctx, &v)),
        (None, Some(v)) => (Vec::new(), stack(c.ctx, &v)),
        (Some(n), None) => (Vec::new(), stack(c.ctx, &n)),
        (None, None) => (Vec::new(), Vec::new()),
    };
    let shard = c.ctx.shard.clone();
    let events = &shard.kernel.events;
    // A name that is known by now (an event_route, a module) or a new one of this script's.
    let id = events.publish(&name, &[]);
    let mut attrs = Vec::with_capacity(values.len());
    for (i, value) in values.into_iter().enumerate() {
        let name: Arc<str> = match names.get(i) {
            Some(Value::Str(n)) => Arc::from(String::from_utf8_lossy(n).as_ref()),
            Some(Value::Int(n)) => Arc::from(n.to_string().as_str()),
            _ => Arc::from(""),
        };
        attrs.push((name, value));
    }
    events.raise_named(id, attrs, Some(shard.worker));
    TRUE
}

/// `subscribe_event(event, socket[, seconds])`
pub fn subscribe_event(c: &mut Call<'_>) -> Flow {
    let (name, socket) = (c.text(0), c.text(1));
    let kernel = &c.ctx.shard.kernel;
    // To name an event in the script publishes it.
    kernel.events.publish(&name, &[]);
    match subscribe(kernel, &name, &socket, c.int(2).unwrap_or(0)) {
        Ok(()) => TRUE,
        Err(e) => {
            tracing::error!("subscribe_event(): {e}");
            FALSE
        }
    }
}

fn subscribe(kernel: &Kernel, name: &str, socket: &str, seconds: i64) -> Result<(), String> {
    let id = kernel.events.find(name).ok_or_else(|| format!("no event `{name}` is published"))?;
    let expires = (seconds > 0).then(|| kernel.unix() + seconds as u64);
    kernel.events.subscribe_address(id, socket, expires)
}

/// A part of the house says whether it is ready: above 0 it is.
pub fn set_status(kernel: &Kernel, group: &str, name: &str, status: i64, details: &str) {
    match kernel.status.set(group, name, status, details) {
        Ok(Some(before)) => {
            kernel.status.report(group, name, kernel.unix(), details);
            if let Some(event) = kernel.events.find("E_CORE_SR_STATUS_CHANGED") {
                let text = |t: &str| Value::Str(t.to_owned().into());
                let values =
                    vec![text(group), text(name), Value::Int(status), text(details), Value::Int(before)];
                kernel.events.raise(event, values, None);
            }
        }
        Ok(None) => {}
        Err(e) => tracing::warn!("{e}"),
    }
}

fn stack(ctx: &mut Ctx, var: &VarAccess) -> Vec<Value> {
    let mut all = Vec::new();
    for i in 0..1024 {
        match ctx.get_var(&VarAccess { index: Index::At(i), ..var.clone() }) {
            Value::Null => break,
            value => all.push(value),
        }
    }
    // The stack's top was written last.
    all.reverse();
    all
}

/// Tells a script's `event_route` of an event, on a worker, after its current work.
struct RouteSubscriber {
    kernel: std::sync::Weak<Kernel>,
    name: String,
}

impl Subscriber for RouteSubscriber {
    fn event(&self, event: &Arc<Event>, worker: Option<usize>) {
        let Some(kernel) = self.kernel.upgrade() else { return };
        let (event, name) = (event.clone(), self.name.clone());
        let sent = kernel.on_worker(worker.unwrap_or(0), move |shard| run_event_route(shard, &name, &event));
        if !sent {
            tracing::warn!("event {}: the worker's mailbox is full, its route does not run", self.name);
        }
    }
    fn describe(&self) -> String {
        format!("route:{}", self.name)
    }
}

fn run_event_route(shard: &Rc<Shard>, name: &str, event: &Event) {
    let program = shard.kernel.program.load_full();
    let Some(route) = program.find(RouteType::Event, Some(name)) else { return };
    let params = event.attrs.iter().map(|(n, v)| (Bytes::copy_from_slice(n.as_bytes()), v.clone()));
    let frame = Frame::new(&program, route).with_named_params(params);
    run_frame(dummy(shard, RouteType::Event), frame, |_, _| {});
}

/// A request that nobody sent, where one is needed and there is none.
pub fn stand_in() -> Message {
    const TEXT: &[u8] = b"OPTIONS sip:nobody@localhost.invalid SIP/2.0\r\n\
        Via: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKdummy\r\n\
        From: <sip:nobody@localhost.invalid>;tag=dummy\r\n\
        To: <sip:nobody@localhost.invalid>\r\n\
        Call-ID: dummy@localhost.invalid\r\n\
        CSeq: 1 OPTIONS\r\n\
        Content-Length: 0\r\n\r\n";
    // The text above is a message.
    Message::parse(Bytes::from_static(TEXT)).expect("the dummy request is well-formed")
}

/// A context without a received message, for routes that run on their own (event, timer, startup).
pub fn dummy(shard: &Rc<Shard>, route: RouteType) -> Box<Ctx> {
    let msg = stand_in();
    let received = Received {
        socket: SocketId(0),
        peer: std::net::SocketAddr::from(([127, 0, 0, 1], 5060)),
        conn: None,
    };
    let mut ctx = Ctx::new(shard.clone(), Rc::new(msg), received, route);
    ctx.dummy = true;
    ctx
}

/// The script in force changed or starts: its event routes hear their events.
pub fn subscribe_routes(kernel: &Arc<Kernel>) {
    let program = kernel.program.load();
    for route in program.routes().filter(|r| r.kind == RouteType::Event) {
        let Some(name) = route.name.as_deref() else { continue };
        let id = kernel.events.publish(name, &[]);
        let text = format!("route:{name}");
        let known = kernel.events.list().into_iter().find(|(e, ..)| *e == id);
        if known.is_some_and(|(.., subs)| subs.contains(&text)) {
            continue;
        }
        let name = name.to_owned();
        kernel.events.subscribe(id, Arc::new(RouteSubscriber { kernel: Arc::downgrade(kernel), name }));
    }
}

/// Commands of the event interface.
pub static EVI_LIST: Command = Command {
    name: "evi:list",
    old_names: &["events_list"],
    args: "",
    help: "All published events",
    run: |call| {
        Box::pin(async move {
            let rows = call.kernel.events.list().into_iter();
            let rows = rows.map(|(id, name, attrs, _)| {
                let attrs: Vec<&str> = attrs.iter().map(|a| &**a).collect();
                json!({"name": &*name, "id": id.0, "attributes": attrs})
            });
            Ok(json!({"Events": rows.collect::<Vec<_>>()}))
        })
    },
};

/// `evi:raise event [params]`: parameters by position (array) or by name (object).
pub static EVI_RAISE: Command = Command {
    name: "evi:raise",
    old_names: &["raise_event"],
    args: "event,[params]",
    help: "Raise an event",
    run: |call| {
        Box::pin(async move {
            let name = call.text("event").unwrap_or_default();
            let id = call
                .kernel
                .events
                .find(&name)
                .ok_or_else(|| CommandError::new(404, format!("no event `{name}` is published")))?;
            let value = |j: &Json| match j {
                Json::Number(n) if n.is_i64() => Value::Int(n.as_i64().unwrap_or(0)),
                Json::String(s) => Value::Str(s.clone().into()),
                Json::Null => Value::Null,
                other => Value::Str(other.to_string().into()),
            };
            let attrs = match call.args.get("params") {
                Some(Json::Object(map)) => {
                    map.iter().map(|(k, v)| (Arc::from(k.as_str()), value(v))).collect()
                }
                Some(Json::Array(list)) => list.iter().map(|v| (Arc::from(""), value(v))).collect(),
                Some(Json::Null) | None => Vec::new(),
                Some(one) => vec![(Arc::from(""), value(one))],
            };
            call.kernel.events.raise_named(id, attrs, None);
            Ok(Json::String("OK".into()))
        })
    },
};

/// `evi:subscribe event socket [expire]`
pub static EVI_SUBSCRIBE: Command = Command {
    name: "evi:subscribe",
    old_names: &["event_subscribe"],
    args: "event,socket,[expire]",
    help: "Send an event to an address",
    run: |call| {
        Box::pin(async move {
            let (name, socket) =
                (call.text("event").unwrap_or_default(), call.text("socket").unwrap_or_default());
            let seconds = call.int("expire")?.unwrap_or(0);
            subscribe(&call.kernel, &name, &socket, seconds).map_err(|e| CommandError::new(400, e))?;
            Ok(Json::String("OK".into()))
        })
    },
};

fn reports(call: &CommandCall) -> Vec<(String, String, switchroom_kernel::status::Report)> {
    let (group, name) = (call.text("group"), call.text("identifier"));
    call.kernel.status.list(group.as_deref(), name.as_deref())
}

/// `status_report:get|status`
pub fn status_get(call: &CommandCall) -> Json {
    let rows = reports(call).into_iter().map(|(group, name, r)| {
        json!({"Group": group, "Identifier": name, "Readiness": r.status > 0, "Status": r.status, "Details": r.details})
    });
    Json::Array(rows.collect())
}

/// `status_report:reports`
pub fn status_reports(call: &CommandCall) -> Json {
    let rows = reports(call).into_iter().map(|(group, name, r)| {
        let log = r.log.iter().map(|(at, text)| json!({"Timestamp": at, "Log": text}));
        json!({"Group": group, "Identifier": name, "Reports": log.collect::<Vec<_>>()})
    });
    Json::Array(rows.collect())
}

/// `status_report:identifiers`
pub fn status_identifiers(call: &CommandCall) -> Json {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for (group, name, _) in reports(call) {
        match groups.last_mut().filter(|(g, _)| *g == group) {
            Some((_, names)) => names.push(name),
            None => groups.push((group, vec![name])),
        }
    }
    Json::Array(groups.into_iter().map(|(g, n)| json!({"Group": g, "Identifiers": n})).collect())
}

/// `evi:subscribers [event[, socket]]`
pub static EVI_SUBSCRIBERS: Command = Command {
    name: "evi:subscribers",
    old_names: &["subscribers_list"],
    args: "[event],[socket]",
    help: "Who is told of events",
    run: |call| {
        Box::pin(async move {
            let wanted = call.text("event");
            let socket = call.text("socket");
            let rows = call.kernel.events.list().into_iter().filter_map(|(id, name, _, subs)| {
                let named = wanted.as_deref().is_none_or(|w| w.eq_ignore_ascii_case(&name));
                let subs: Vec<String> =
                    subs.into_iter().filter(|s| socket.as_deref().is_none_or(|w| w == s)).collect();
                (named && !subs.is_empty()).then(|| json!({"name": &*name, "id": id.0, "Subscribers": subs}))
            });
            Ok(json!({"Events": rows.collect::<Vec<_>>()}))
        })
    },
};
