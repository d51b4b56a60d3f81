//! Programs from the script, run by the shell on threads of their own. The script waits for their output without holding
//! up other calls.
//!
//! Bounded: programs at a time, bytes of output that are kept, and (`time_to_kill`) time.

mod older;
mod program;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use bytes::Bytes;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE, wait};
use switchroom_kernel::module::{Function, Module, Param};
use switchroom_kernel::oneshot;
use switchroom_script::Value;
use switchroom_script::vm::VarAccess;

use crate::variables::all;
use program::Program;

/// The module.
pub static MODULE: Module = Module {
    name: "exec",
    summary: "Programs from the script",
    params: &[
        Param::int("time_to_kill", "0", "Seconds a program may run; 0 is for ever"),
        Param::int("setvars", "0", "1: programs see the message in SIP_... variables of their environment"),
    ],
    functions: &[
        Function::new("exec", &["str,[str],[var],[var],[var]"], "RFOLSTV", exec, "Run a program")
            .asynchronous(),
        Function::new("exec_msg", &["str"], "RFOLTV", older::message, "Older scripts: exec(command, $mb)"),
        Function::new(
            "exec_dset",
            &["str"],
            "RF",
            older::destinations,
            "Older scripts: a program gives the destinations",
        ),
        Function::new(
            "exec_avp",
            &["str,[str~]"],
            "RFOLSTV",
            older::avps,
            "Older scripts: exec(command, , $avp(x))",
        ),
        Function::new(
            "exec_getenv",
            &["str,[var]"],
            "RFOLSTV",
            older::environment,
            "Older scripts: $env(name)",
        ),
    ],
    open: |o| {
        let seconds =
            u64::try_from(o.int("time_to_kill")).map_err(|_| "time_to_kill must not be negative")?;
        let limit = (seconds > 0).then(|| Duration::from_secs(seconds));
        o.provide(Exec { limit, set_variables: o.on("setvars"), running: Arc::default() });
        Ok(())
    },
    ..Module::EMPTY
};

struct Exec {
    limit: Option<Duration>,
    set_variables: bool,
    running: Arc<AtomicUsize>,
}

/// Values of an AVP that become variables of the environment.
const MAX_ENVIRONMENT: usize = 100;

/// `exec(command[, input][, output][, errors][, environment])`
fn exec(c: &mut Call<'_>) -> Flow {
    let shard = c.ctx.shard.clone();
    let state = shard.kernel.state::<Exec>();
    let (out, err) = (c.var(2), c.var(3));
    let mut environment = Vec::new();
    if let Some(var) = c.var(4) {
        let values = all(c.ctx, &var, MAX_ENVIRONMENT);
        let text =
            values.iter().enumerate().filter_map(|(i, v)| Some((format!("OSIPS_EXEC_{i}"), v.to_bytes()?)));
        environment.extend(text);
    }
    if state.set_variables {
        environment.extend(message_variables(c.ctx));
    }
    let program = Program {
        command: c.str(0).cloned().unwrap_or_default(),
        input: c.str(1).cloned(),
        environment,
        output: out.is_some(),
        errors: err.is_some(),
        limit: state.limit,
    };
    let wanted = out.is_some() || err.is_some();
    let (done, answer) = oneshot::channel();
    let report = move |finished| done.send(finished);
    if let Err(e) = program::start(program, state.running.clone(), report) {
        tracing::error!("exec(): {e}");
        return FALSE;
    }
    if !wanted {
        // Nobody reads what it says, so nobody waits.
        return TRUE;
    }
    wait(answer, move |ctx, finished| match finished {
        Some(Ok(finished)) => {
            let written =
                lines(ctx, out.as_ref(), &finished.output) && lines(ctx, err.as_ref(), &finished.errors);
            if written { TRUE } else { FALSE }
        }
        Some(Err(e)) => {
            tracing::error!("exec(): {e}");
            FALSE
        }
        None => FALSE,
    })
}

/// Each line is written; an AVP gets them all, another variable keeps the last one.
fn lines(ctx: &mut Ctx, var: Option<&VarAccess>, text: &Bytes) -> bool {
    let Some(var) = var else { return true };
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.split(|b| *b == b'\n').filter(|l| !l.is_empty()).all(|line| {
        let written = ctx.push_var(var, Value::Str(Bytes::copy_from_slice(line)));
        written.map_err(|e| tracing::error!("exec(): {e}")).is_ok()
    })
}

/// What `setvars` shows of the message: every header, URIs, sender.
fn message_variables(ctx: &Ctx) -> Vec<(String, Bytes)> {
    let mut list: Vec<(String, Bytes)> = Vec::new();
    for header in ctx.msg.headers() {
        let name = canonical(&header).to_ascii_uppercase();
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let name = format!("SIP_HF_{name}");
        match list.iter_mut().find(|(n, _)| *n == name) {
            Some((_, value)) => *value = [&value[..], b", ", header.value].concat().into(),
            None => list.push((name, Bytes::copy_from_slice(header.value))),
        }
    }
    let user = |uri: &[u8]| {
        let uri = switchroom_wire::sip::Uri::parse(uri).ok();
        Bytes::copy_from_slice(uri.and_then(|u| u.user).unwrap_or_default())
    };
    let original = ctx.request().map(|m| Bytes::copy_from_slice(m.ruri_bytes())).unwrap_or_default();
    let current = ctx.ruri();
    list.push(("SIP_SRCIP".into(), ctx.received.peer.ip().to_string().into()));
    list.push(("SIP_USER".into(), user(&current)));
    list.push(("SIP_OUSER".into(), user(&original)));
    list.push(("SIP_RURI".into(), current));
    list.push(("SIP_ORURI".into(), original));
    list
}

/// A header's full name, also where it was written in its compact form.
fn canonical(header: &switchroom_wire::sip::Header<'_>) -> String {
    match header.id {
        switchroom_wire::sip::HeaderId::Other => String::from_utf8_lossy(header.name).into_owned(),
        id => id.name().to_owned(),
    }
}
