//! Keys pressed during a call as events, so that scripts wait for digits and route on them.
//!
//! They come from INFO (`application/dtmf-relay`, `application/dtmf`) and by KPML (RFC 4730); telephone-events in RTP (RFC 4733)
//! raise the same event, with `source` saying so.

mod digits;
mod kpml;

use std::cell::RefCell;
use std::time::Duration;

use switchroom_kernel::Shard;
use switchroom_kernel::context::Ctx;
use switchroom_kernel::events::EventId;
use switchroom_kernel::module::{EventDecl, Function, Hook, Hooked, Module, Param, Statistic, Variable};
use switchroom_kernel::open::Opening;
use switchroom_kernel::stats::StatId;
use switchroom_script::Value;
use switchroom_wire::sip::{HeaderId, Message, Method};

pub use digits::{Dialled, Key, read};

/// The module.
pub static MODULE: Module = Module {
    name: "dtmf",
    summary: "Keys pressed during a call as events",
    needs: &["tm"],
    params: &[
        Param::int(
            "interdigit_timeout",
            "5000",
            "Milliseconds after which the next key begins a new row of digits",
        ),
        Param::int("max_calls", "100000", "Calls on one worker whose digits are remembered"),
    ],
    functions: &[Function::new(
        "dtmf_subscribe",
        &["str"],
        "*",
        kpml::subscribe,
        "Ask a side of the dialog to tell of its keys by KPML",
    )
    .asynchronous()],
    variables: &[
        Variable::ro(
            "dtmf.key",
            |ctx, _| of(ctx).map_or(Value::Null, |k| text(k.name)),
            "Key that this INFO tells of",
        ),
        Variable::ro(
            "dtmf.duration",
            |ctx, _| of(ctx).map_or(Value::Null, |k| Value::Int(i64::from(k.ms))),
            "How long it was pressed, in milliseconds",
        ),
    ],
    events: &[EventDecl {
        name: "E_DTMF",
        attrs: &["callid", "from_tag", "to_tag", "key", "duration", "volume", "digits", "source"],
        help: "A key was pressed; digits are all of the same row, source is info, kpml or rtp",
    }],
    statistics: &[
        Statistic::counter("keys", "Keys pressed"),
        Statistic::counter("unknown", "INFOs whose key cannot be read"),
        Statistic::counter("forgotten", "Calls whose digits were forgotten because there are too many"),
        Statistic::counter("kpml_refused", "Phones that would not tell of their keys, or were not asked"),
    ],
    hooks: &[Hook::Request(heard)],
    open,
    ..Module::EMPTY
};

struct Dtmf {
    event: EventId,
    pause: Duration,
    keys: StatId,
    unknown: StatId,
    forgotten: StatId,
    refused: StatId,
}

/// The digits of a worker's calls.
struct Rows(RefCell<Dialled>);

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let pause = o.int("interdigit_timeout");
    let most = o.int("max_calls");
    if pause <= 0 || most <= 0 {
        return Err("interdigit_timeout and max_calls must be positive".into());
    }
    let dtmf = Dtmf {
        event: o.kernel.events.publish("E_DTMF", &[]),
        pause: Duration::from_millis(pause as u64),
        keys: o.stat("keys")?,
        unknown: o.stat("unknown")?,
        forgotten: o.stat("forgotten")?,
        refused: o.stat("kpml_refused")?,
    };
    if o.kernel.registry.is_called("dtmf_subscribe")
        && !o.kernel.registry.modules.iter().any(|m| m.name == "dialog")
    {
        return Err("dtmf_subscribe() asks inside a dialog, and the module dialog is not loaded".into());
    }
    o.per_shard(move |_| kpml::Asked::new(most as usize));
    o.provide(dtmf);
    o.per_shard(move |_| Rows(RefCell::new(Dialled::new(most as usize))));
    Ok(())
}

/// The key that the message in hand tells of.
fn of(ctx: &Ctx) -> Option<Key> {
    key_of(ctx.request()?)
}

fn key_of(msg: &Message) -> Option<Key> {
    if msg.method() != Method::Info {
        return None;
    }
    let kind = msg.header(HeaderId::ContentType)?.value;
    read(kind, msg.body())
}

fn text(name: char) -> Value {
    Value::Str(name.to_string().into())
}

/// A request came; retransmissions end before this.
fn heard(ctx: &mut Ctx) -> Hooked {
    match ctx.msg.method() {
        Method::Info => {}
        Method::Notify => return kpml::notified(ctx),
        _ => return Hooked::Continue,
    }
    let shard = ctx.shard.clone();
    let dtmf = shard.kernel.state::<Dtmf>();
    let msg = ctx.msg.clone();
    let Some(kind) = msg.header(HeaderId::ContentType).filter(|h| digits::is_dtmf(h.value)) else {
        return Hooked::Continue;
    };
    let Some(key) = read(kind.value, msg.body()) else {
        shard.count(dtmf.unknown, 1);
        return Hooked::Continue;
    };
    pressed(&shard, &msg, key, "info");
    Hooked::Continue
}

/// The sender of a message has pressed a key.
fn pressed(shard: &Shard, msg: &Message, key: Key, source: &'static str) {
    let dtmf = shard.kernel.state::<Dtmf>();
    shard.count(dtmf.keys, 1);
    let tag = |n: Option<&[u8]>| n.unwrap_or_default().to_vec();
    let from = tag(msg.from().ok().and_then(|f| f.tag()));
    let to = tag(msg.to().ok().and_then(|t| t.tag()));
    let rows = shard.part::<Rows>();
    let (digits, forgot) = rows.0.borrow_mut().press(msg.call_id(), &from, key.name, shard.now(), dtmf.pause);
    shard.count(dtmf.forgotten, i64::from(forgot));
    shard.kernel.note_call(Some(shard.worker), msg.call_id(), "key", || format!("{} ({digits})", key.name));
    if shard.kernel.events.heard(dtmf.event) {
        let values = vec![
            Value::Str(bytes::Bytes::copy_from_slice(msg.call_id())),
            Value::Str(from.into()),
            Value::Str(to.into()),
            text(key.name),
            Value::Int(i64::from(key.ms)),
            Value::Int(0),
            Value::Str(digits.into()),
            Value::from(source),
        ];
        shard.kernel.events.raise(dtmf.event, values, Some(shard.worker));
    }
}
