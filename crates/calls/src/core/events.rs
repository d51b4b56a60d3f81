//! `raise_event()`, `event_route` and the commands of the event interface.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value as Json, json};
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, Received, TRUE};
use switchroom_kernel::events::{Event, EventId, Expires, Subscriber, Subscription};
use switchroom_kernel::module::{Command, CommandCall, CommandError, CommandResult, Prepared};
use switchroom_kernel::ports::net::SocketId;
use switchroom_kernel::run::run_frame;
use switchroom_kernel::status::{self, Report};
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
    let after = seconds as u64;
    let expires = (seconds > 0).then(|| Expires { at: kernel.unix() + after, after });
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
        if known.is_some_and(|(.., subs)| subs.iter().any(|s| s.socket == text)) {
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
            // Unlike in a script, who names no time has an hour.
            let seconds = call.int("expire")?.unwrap_or(3600);
            subscribe(&call.kernel, &name, &socket, seconds).map_err(|e| CommandError::new(400, e))?;
            Ok(Json::String("OK".into()))
        })
    },
};

fn reports(call: &CommandCall) -> Vec<(String, String, Report)> {
    let (group, name) = (call.text("group"), call.text("identifier"));
    call.kernel.status.list(group.as_deref(), name.as_deref())
}

/// The identifiers of each group, the groups in order.
fn by_group(call: &CommandCall) -> BTreeMap<String, Vec<(String, Report)>> {
    let mut groups = BTreeMap::<String, Vec<_>>::new();
    for (group, name, report) in reports(call) {
        groups.entry(group).or_default().push((name, report));
    }
    groups
}

fn status_of(report: &Report) -> serde_json::Map<String, Json> {
    let mut out = serde_json::Map::new();
    out.insert("Readiness".into(), json!(report.status > 0));
    out.insert("Status".into(), json!(report.status));
    if !report.details.is_empty() {
        out.insert("Details".into(), json!(report.details));
    }
    out
}

/// `status_report:get group [identifier]`: one identifier, `main` when none is named; `all` is ready when every one is.
pub fn status_get(call: &CommandCall) -> CommandResult {
    let group = call.text("group").unwrap_or_default();
    let name = call.text("identifier").unwrap_or_else(|| status::MAIN.to_owned());
    let all = call.kernel.status.list(Some(&group), Some(name.as_str()).filter(|n| *n != "all"));
    match (all.as_slice(), name.as_str()) {
        ([], _) => Err(CommandError::new(404, format!("there is no `{name}` in the group `{group}`"))),
        ([(_, _, one)], n) if n != "all" => Ok(Json::Object(status_of(one))),
        (all, _) => {
            let ready = all.iter().all(|(_, _, r)| r.status > 0);
            let status = if ready { 1 } else { -1 };
            Ok(json!({"Readiness": ready, "Status": status, "Details": "aggregated"}))
        }
    }
}

/// `status_report:status [group]`
pub fn status_list(call: &CommandCall) -> Json {
    grouped(call, |name, report| {
        let mut one = serde_json::Map::new();
        one.insert("Name".into(), json!(name));
        one.append(&mut status_of(report));
        Json::Object(one)
    })
}

/// `status_report:reports [group[, identifier]]`
pub fn status_reports(call: &CommandCall) -> Json {
    grouped(call, |name, report| {
        let log = report
            .log
            .iter()
            .map(|(at, text)| json!({"Timestamp": at, "Date": super::commands::date(*at), "Log": text}));
        json!({"Name": name, "Reports": log.collect::<Vec<_>>()})
    })
}

fn grouped(call: &CommandCall, show: impl Fn(&str, &Report) -> Json) -> Json {
    let groups = by_group(call).into_iter().map(|(group, list)| {
        let list: Vec<Json> = list.iter().map(|(name, report)| show(name, report)).collect();
        json!({"Name": group, "Identifiers": list})
    });
    one_or_all(call, groups.collect())
}

/// `status_report:identifiers [group]`
pub fn status_identifiers(call: &CommandCall) -> Json {
    let groups = by_group(call).into_iter().map(|(group, list)| {
        let names: Vec<String> = list.into_iter().map(|(name, _)| name).collect();
        json!({"Group": group, "Identifiers": names})
    });
    one_or_all(call, groups.collect())
}

/// A group that was asked for stands alone.
fn one_or_all(call: &CommandCall, mut groups: Vec<Json>) -> Json {
    match call.text("group") {
        Some(_) if groups.len() == 1 => groups.remove(0),
        _ => Json::Array(groups),
    }
}

/// `evi:subscribers [event[, socket]]`
pub static EVI_SUBSCRIBERS: Command = Command {
    name: "evi:subscribers",
    old_names: &["subscribers_list"],
    args: "[event],[socket]",
    help: "Who is told of events",
    run: |call| {
        Box::pin(async move {
            let socket = call.text("socket");
            let row = |name: &str, id: EventId, subs: &[Subscription]| {
                let now = call.kernel.unix();
                let told: Vec<Json> = subs.iter().map(|s| shown(s, now)).collect();
                json!({"name": name, "id": id.0, "subscribers": told})
            };
            let Some(wanted) = call.text("event") else {
                let rows = call.kernel.events.list().into_iter().filter(|(.., subs)| !subs.is_empty());
                let rows = rows.map(|(id, name, _, subs)| row(&name, id, &subs));
                return Ok(json!({"Events": rows.collect::<Vec<_>>()}));
            };
            let found =
                call.kernel.events.list().into_iter().find(|(_, n, ..)| n.eq_ignore_ascii_case(&wanted));
            let Some((id, name, _, subs)) = found else {
                return Err(CommandError::new(404, format!("no event `{wanted}` is published")));
            };
            let Some(socket) = socket else { return Ok(json!({"Event": row(&name, id, &subs)})) };
            match subs.iter().find(|s| s.socket == socket) {
                Some(one) => {
                    let one = shown(one, call.kernel.unix());
                    Ok(json!({"Event": {"name": &*name, "id": id.0, "Subscriber": one}}))
                }
                None => Err(CommandError::new(404, format!("`{socket}` is not told of `{name}`"))),
            }
        })
    },
};

fn shown(s: &Subscription, now: u64) -> Json {
    match s.expires {
        None => json!({"socket": s.socket, "expire": "never"}),
        Some(e) => json!({"socket": s.socket, "expire": e.after, "ttl": e.at.saturating_sub(now)}),
    }
}
