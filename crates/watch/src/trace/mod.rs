//! The time line of a call: every message, event, subscription, push and branch, in order and with milliseconds.
//!
//! The notes lie in the kernel's ring; this module turns it on and shows it. `switchroom trace CALL-ID` prints it.

use serde_json::{Value as Json, json};
use switchroom_kernel::Kernel;
use switchroom_kernel::module::{Command, CommandCall, CommandError, CommandResult, Module, Param};
use switchroom_kernel::open::Opening;
use switchroom_kernel::trace::Note;

/// The module.
pub static MODULE: Module = Module {
    name: "trace",
    summary: "The time line of a call",
    params: &[
        Param::int("trace_on", "1", "Note what happens to calls from the start"),
        Param::int("notes", "100000", "Notes kept, of all calls together"),
    ],
    commands: &[
        Command {
            name: "trace:call",
            old_names: &[],
            args: "callid",
            help: "What happened to a call",
            run: |call| Box::pin(show(call)),
        },
        Command {
            name: "trace:set",
            old_names: &[],
            args: "[notes]",
            help: "Keep so many notes from now on; 0 for none",
            run: |call| Box::pin(set(call)),
        },
    ],
    open,
    live: Some(live),
    ..Module::EMPTY
};

/// The most notes that can be asked for.
const MAX_NOTES: i64 = 10_000_000;

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let notes = o.int("notes");
    if !(1..=MAX_NOTES).contains(&notes) {
        return Err(format!("notes is {notes}; it must be between 1 and {MAX_NOTES}"));
    }
    if o.on("trace_on") {
        o.kernel.trace.keep(notes as usize);
    }
    Ok(())
}

fn live(kernel: &std::sync::Arc<Kernel>) {
    type Read = fn(&Kernel) -> i64;
    let all: [(&str, &'static str, Read); 2] = [
        ("notes", "Notes of calls that are kept", |k| k.trace.len() as i64),
        ("dropped", "Notes that went because newer ones came", |k| k.trace.dropped() as i64),
    ];
    for (name, help, read) in all {
        let weak = std::sync::Arc::downgrade(kernel);
        kernel.stats.computed("trace", name, help, move || weak.upgrade().map_or(0, |k| read(&k)));
    }
}

async fn set(call: CommandCall) -> CommandResult {
    let notes = call.int("notes")?.unwrap_or(100_000);
    if !(0..=MAX_NOTES).contains(&notes) {
        return Err(CommandError::args(format!("`notes` must be between 0 and {MAX_NOTES}")));
    }
    call.kernel.trace.keep(notes as usize);
    Ok(json!("OK"))
}

async fn show(call: CommandCall) -> CommandResult {
    if !call.kernel.trace.on() {
        return Err(CommandError::new(409, "calls are not traced; turn it on with trace:set"));
    }
    let id = call.text("callid").unwrap_or_default();
    let notes = call.kernel.trace.of(id.as_bytes());
    let Some(start) = notes.first().map(|n| n.at) else {
        return Err(CommandError::new(404, format!("nothing is known of the call {id}")));
    };
    let row = |n: &Note| -> Json {
        let ms = n.at.saturating_sub(start).as_micros() as f64 / 1000.0;
        json!({"ms": ms, "kind": n.kind, "text": n.text})
    };
    let started = start.as_millis() as u64;
    Ok(json!({"callid": id, "started_unix_ms": started, "notes": notes.iter().map(row).collect::<Vec<_>>()}))
}
