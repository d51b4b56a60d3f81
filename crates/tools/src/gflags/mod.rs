//! One word of flags for the whole server, set and tested by scripts and by management commands.

use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

use serde_json::{Value as Json, json};
use switchroom_kernel::context::{Call, FALSE, Flow, TRUE};
use switchroom_kernel::module::{Command, CommandCall, CommandError, Function, Module, Param};

/// The module.
pub static MODULE: Module = Module {
    name: "gflags",
    summary: "Flags of the whole server",
    params: &[Param::int("initial", "0", "Flags that are set at start, as a bitmask")],
    functions: &[
        Function::new("set_gflag", &["int"], "*", |c| set(c, true), "Set a flag by its number, 0 to 31"),
        Function::new("reset_gflag", &["int"], "*", |c| set(c, false), "Clear a flag"),
        Function::new("is_gflag", &["int"], "*", test, "Test a flag"),
    ],
    commands: &[
        Command {
            name: "gflags:set",
            old_names: &["set_gflag", "gflags:set_gflag"],
            args: "bitmask",
            help: "Set the flags of a bitmask",
            run: |call| Box::pin(async move { change(&call, |all, mask| all | mask) }),
        },
        Command {
            name: "gflags:reset",
            old_names: &["reset_gflag", "gflags:reset_gflag"],
            args: "bitmask",
            help: "Clear the flags of a bitmask",
            run: |call| Box::pin(async move { change(&call, |all, mask| all & !mask) }),
        },
        Command {
            name: "gflags:check",
            old_names: &["is_gflag", "gflags:is_gflag"],
            args: "bitmask",
            help: "Whether all flags of a bitmask are set",
            run: |call| {
                Box::pin(async move {
                    let mask = mask(&call)?;
                    let all = call.kernel.state::<Flags>().0.load(SeqCst);
                    Ok(json!(if all & mask == mask { "TRUE" } else { "FALSE" }))
                })
            },
        },
        Command {
            name: "gflags:get",
            old_names: &["get_gflags", "gflags:get_gflags"],
            args: "",
            help: "All flags",
            run: |call| {
                Box::pin(async move {
                    let all = call.kernel.state::<Flags>().0.load(SeqCst);
                    Ok(json!({"hex": format!("0x{all:X}"), "dec": all}))
                })
            },
        },
    ],
    open: |o| {
        let flags = Flags(AtomicI64::new(o.int("initial")));
        o.provide(flags);
        Ok(())
    },
    ..Module::EMPTY
};

struct Flags(AtomicI64);

fn bit(c: &Call<'_>) -> Option<i64> {
    let n = c.int(0)?;
    if !(0..32).contains(&n) {
        tracing::error!("there is no flag {n}; there are 0 to 31");
        return None;
    }
    Some(1 << n)
}

fn set(c: &mut Call<'_>, on: bool) -> Flow {
    let Some(bit) = bit(c) else { return FALSE };
    let flags = &c.ctx.shard.kernel.state::<Flags>().0;
    if on {
        flags.fetch_or(bit, SeqCst)
    } else {
        flags.fetch_and(!bit, SeqCst)
    };
    TRUE
}

fn test(c: &mut Call<'_>) -> Flow {
    let Some(bit) = bit(c) else { return FALSE };
    if c.ctx.shard.kernel.state::<Flags>().0.load(SeqCst) & bit != 0 { TRUE } else { FALSE }
}

fn mask(call: &CommandCall) -> Result<i64, CommandError> {
    let text = call.text("bitmask").unwrap_or_default();
    let read = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => i64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    read.filter(|m| *m > 0).ok_or_else(|| CommandError::args("`bitmask` must be a number above 0"))
}

fn change(call: &CommandCall, with: fn(i64, i64) -> i64) -> Result<Json, CommandError> {
    let mask = mask(call)?;
    // The closure always gives a value, so the update cannot fail.
    let _ = call.kernel.state::<Flags>().0.fetch_update(SeqCst, SeqCst, |all| Some(with(all, mask)));
    Ok(json!("OK"))
}
