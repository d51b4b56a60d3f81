//! How long pieces of a script take: timers by name, logged every so many times or read by command.
//!
//! A timer belongs to one message: what starts in one message and ends in another is not measured.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Instant;

use parking_lot::{Mutex, RwLock};
use serde_json::{Map, Value as Json, json};
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE};
use switchroom_kernel::module::{
    Command, CommandCall, CommandError, CommandResult, Function, Module, Param, Variable,
};
use switchroom_kernel::open::Opening;
use switchroom_script::Value;
use switchroom_script::vm::VarAccess;

/// The module.
pub static MODULE: Module = Module {
    name: "benchmark",
    summary: "How long pieces of a script take",
    params: &[
        Param::int("enable", "0", "1: all timers; 0: those turned on by command; -1: none"),
        Param::int("granularity", "100", "Log a timer every so many times; 0: never, only by command"),
        Param::int("loglevel", "3", "Level of these log lines"),
    ],
    functions: &[
        Function::new("bm_start_timer", &["str"], ROUTES, start_timer, "Start a timer"),
        Function::new("bm_log_timer", &["str"], ROUTES, log_timer, "Stop a timer and count its time"),
    ],
    variables: &[Variable::ro(
        "BM_time_diff",
        time_diff,
        "Microseconds that the last bm_log_timer() of this message measured",
    )],
    commands: &[
        Command {
            name: "benchmark:enable_global",
            old_names: &["bm_enable_global"],
            args: "enable",
            help: "All timers (1), those turned on (0), or none (-1)",
            run: |call| Box::pin(async move { set(&call, "enable", -1..=1, |b| &b.enable) }),
        },
        Command {
            name: "benchmark:enable_timer",
            old_names: &["bm_enable_timer"],
            args: "timer,enable",
            help: "Turn one timer on (1) or off (0)",
            run: |call| Box::pin(async move { enable_timer(&call) }),
        },
        Command {
            name: "benchmark:granularity",
            old_names: &["bm_granularity"],
            args: "granularity",
            help: "Log a timer every so many times; 0: never",
            run: |call| Box::pin(async move { set(&call, "granularity", 0..=i64::MAX, |b| &b.granularity) }),
        },
        Command {
            name: "benchmark:loglevel",
            old_names: &["bm_loglevel"],
            args: "log_level",
            help: "Level of the log lines",
            run: |call| Box::pin(async move { set(&call, "log_level", -3..=4, |b| &b.level) }),
        },
        Command {
            name: "benchmark:poll_results",
            old_names: &["bm_poll_results"],
            args: "",
            help: "What was measured since the last time and in all, in microseconds",
            run: |call| Box::pin(async move { Ok(poll(call.kernel.state::<Benchmark>())) }),
        },
    ],
    open,
    ..Module::EMPTY
};

const ROUTES: &str = "RFOBLSTV";
/// Timers at most; names may come from messages.
const MAX_TIMERS: usize = 1000;
/// Timers that run at a time in one message.
const MAX_RUNNING: usize = 32;

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let (enable, granularity) = (o.int("enable"), o.int("granularity"));
    if !(-1..=1).contains(&enable) {
        return Err(format!("enable is {enable}; it must be -1, 0 or 1"));
    }
    if granularity < 0 {
        return Err(format!("granularity is {granularity}; it must not be negative"));
    }
    let level = o.int("loglevel");
    o.provide(Benchmark {
        enable: enable.into(),
        granularity: granularity.into(),
        level: level.into(),
        timers: RwLock::default(),
    });
    Ok(())
}

struct Benchmark {
    enable: AtomicI64,
    granularity: AtomicI64,
    level: AtomicI64,
    timers: RwLock<HashMap<String, Arc<Timer>>>,
}

#[derive(Default)]
struct Timer {
    on: AtomicBool,
    /// Since the last log line or poll, and in all.
    counts: Mutex<(Counts, Counts)>,
}

/// Microseconds.
#[derive(Clone, Copy, Default)]
struct Counts {
    calls: u64,
    sum: u64,
    min: u64,
    max: u64,
}

impl Counts {
    fn add(&mut self, us: u64) {
        self.min = if self.calls == 0 { us } else { self.min.min(us) };
        self.max = self.max.max(us);
        self.calls += 1;
        self.sum = self.sum.saturating_add(us);
    }

    /// `calls/sum/min/max/average`
    fn text(&self) -> String {
        let average = if self.calls == 0 { 0.0 } else { self.sum as f64 / self.calls as f64 };
        format!("{}/{}/{}/{}/{average:.6}", self.calls, self.sum, self.min, self.max)
    }
}

impl Benchmark {
    /// A timer by name, if it is to be measured now.
    fn timer(&self, name: &str) -> Option<Arc<Timer>> {
        let known = self.timers.read().get(name).cloned();
        let timer = match known {
            Some(timer) => timer,
            None => self.make(name)?,
        };
        match self.enable.load(Ordering::Relaxed) {
            1 => Some(timer),
            0 => timer.on.load(Ordering::Relaxed).then_some(timer),
            _ => None,
        }
    }

    fn make(&self, name: &str) -> Option<Arc<Timer>> {
        let mut timers = self.timers.write();
        if timers.len() >= MAX_TIMERS && !timers.contains_key(name) {
            tracing::error!("benchmark: there are {MAX_TIMERS} timers already, \"{name}\" is not measured");
            return None;
        }
        Some(timers.entry(name.to_owned()).or_default().clone())
    }
}

/// What runs in one message.
#[derive(Default)]
struct Running {
    timers: Vec<(String, Instant)>,
    last: u64,
}

fn start_timer(c: &mut Call<'_>) -> Flow {
    let (name, shard) = (c.text(0), c.ctx.shard.clone());
    if shard.kernel.state::<Benchmark>().timer(&name).is_none() {
        return TRUE;
    }
    let now = shard.kernel.drivers.clock.now();
    let running = c.ctx.note_mut::<Running>();
    let full = running.timers.len() >= MAX_RUNNING;
    match running.timers.iter_mut().find(|(n, _)| *n == name) {
        Some((_, started)) => *started = now,
        None if !full => running.timers.push((name, now)),
        None => {
            tracing::error!("benchmark: {MAX_RUNNING} timers run in this message already");
            return FALSE;
        }
    }
    TRUE
}

fn log_timer(c: &mut Call<'_>) -> Flow {
    let (name, shard) = (c.text(0), c.ctx.shard.clone());
    let benchmark = shard.kernel.state::<Benchmark>();
    let Some(timer) = benchmark.timer(&name) else { return TRUE };
    let now = shard.kernel.drivers.clock.now();
    let running = c.ctx.note_mut::<Running>();
    let Some(at) = running.timers.iter().position(|(n, _)| *n == name) else {
        tracing::error!("benchmark: timer \"{name}\" was not started in this message");
        return FALSE;
    };
    let (_, started) = running.timers.swap_remove(at);
    let us = now.saturating_duration_since(started).as_micros() as u64;
    running.last = us;
    let granularity = benchmark.granularity.load(Ordering::Relaxed);
    let full = {
        let mut counts = timer.counts.lock();
        counts.0.add(us);
        counts.1.add(us);
        let full = granularity > 0 && counts.0.calls >= granularity as u64;
        full.then(|| (std::mem::take(&mut counts.0), counts.1))
    };
    if let Some((last, all)) = full {
        let (last, all) = (last.text(), all.text());
        let line = "benchmark (timer, calls/sum/min/max/average in us)";
        match benchmark.level.load(Ordering::Relaxed) {
            i64::MIN..=-1 => tracing::error!("{line}: {name}: last {last}, all {all}"),
            0 | 1 => tracing::warn!("{line}: {name}: last {last}, all {all}"),
            2 | 3 => tracing::info!("{line}: {name}: last {last}, all {all}"),
            _ => tracing::debug!("{line}: {name}: last {last}, all {all}"),
        }
    }
    TRUE
}

fn time_diff(ctx: &mut Ctx, _: &VarAccess) -> Value {
    Value::Int(ctx.note::<Running>().map_or(0, |r| i64::try_from(r.last).unwrap_or(i64::MAX)))
}

fn set(
    call: &CommandCall,
    argument: &str,
    range: std::ops::RangeInclusive<i64>,
    which: fn(&Benchmark) -> &AtomicI64,
) -> CommandResult {
    let value = call.int(argument)?.filter(|v| range.contains(v));
    let value = value.ok_or_else(|| {
        let upper = if *range.end() == i64::MAX { String::new() } else { format!(" to {}", range.end()) };
        CommandError::args(format!("`{argument}` must be from {}{upper}", range.start()))
    })?;
    which(call.kernel.state::<Benchmark>()).store(value, Ordering::Relaxed);
    Ok(json!("OK"))
}

fn enable_timer(call: &CommandCall) -> CommandResult {
    let name = call.text("timer").unwrap_or_default();
    let on = match call.int("enable")? {
        Some(0) => false,
        Some(1) => true,
        _ => return Err(CommandError::args("`enable` must be 0 or 1")),
    };
    let timer = call.kernel.state::<Benchmark>().timers.read().get(&name).cloned();
    let timer = timer.ok_or_else(|| {
        CommandError::new(
            404,
            format!("no timer \"{name}\" was started yet; benchmark:poll_results lists them"),
        )
    })?;
    timer.on.store(on, Ordering::Relaxed);
    Ok(json!("OK"))
}

fn poll(benchmark: &Benchmark) -> Json {
    let timers = benchmark.timers.read();
    let mut names: Vec<_> = timers.iter().collect();
    names.sort_by_key(|(name, _)| *name);
    let mut all = Map::new();
    for (name, timer) in names {
        let mut counts = timer.counts.lock();
        let last = std::mem::take(&mut counts.0);
        all.insert(name.clone(), json!({"current": last.text(), "global": counts.1.text()}));
    }
    json!({ "Timers": all })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_keep_sum_extremes_and_average() {
        let mut c = Counts::default();
        assert_eq!(c.text(), "0/0/0/0/0.000000");
        [12, 14, 14].into_iter().for_each(|us| c.add(us));
        assert_eq!(c.text(), "3/40/12/14/13.333333");
    }
}
