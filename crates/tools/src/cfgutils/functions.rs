//! Script functions.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use switchroom_kernel::Kernel;
use switchroom_kernel::context::{Call, FALSE, Flow, TRUE, wait};
use switchroom_script::Value;
use switchroom_script::vm::{Index, VarAccess};

use super::CfgUtils;
use crate::random;
use crate::time_rec::TimeRec;
use crate::variables::{all, put};

/// Longest wait of a script.
const MAX_SLEEP: Duration = Duration::from_secs(24 * 3600);
/// Values of a variable that are looked at.
const MAX_VALUES: usize = 10_000;

fn kernel(c: &Call<'_>) -> Arc<Kernel> {
    c.ctx.shard.kernel.clone()
}

fn flow(done: bool) -> Flow {
    if done { TRUE } else { FALSE }
}

/// `rand_set_prob(percentage)`
pub(super) fn set_probability(c: &mut Call<'_>) -> Flow {
    let Some(percentage) = c.int(0).filter(|p| (0..=100).contains(p)) else {
        tracing::error!("rand_set_prob(): a percentage is from 0 to 100");
        return FALSE;
    };
    kernel(c).state::<CfgUtils>().probability.store(percentage, Relaxed);
    TRUE
}

/// `rand_reset_prob()`
pub(super) fn reset_probability(c: &mut Call<'_>) -> Flow {
    let kernel = kernel(c);
    let state = kernel.state::<CfgUtils>();
    state.probability.store(state.initial_probability, Relaxed);
    TRUE
}

/// `rand_get_prob()`
pub(super) fn get_probability(c: &mut Call<'_>) -> Flow {
    Flow::Value(kernel(c).state::<CfgUtils>().probability.load(Relaxed))
}

/// `rand_event([percentage])`
pub(super) fn rand_event(c: &mut Call<'_>) -> Flow {
    let set = kernel(c).state::<CfgUtils>().probability.load(Relaxed);
    let percentage = c.int(0).unwrap_or(set);
    flow((random::below(100) as i64) < percentage)
}

/// `sleep(seconds)`
pub(super) fn sleep(c: &mut Call<'_>) -> Flow {
    pause(c, Duration::from_secs(u64::try_from(c.int(0).unwrap_or(0)).unwrap_or(0)))
}

/// `usleep(microseconds)`
pub(super) fn usleep(c: &mut Call<'_>) -> Flow {
    pause(c, Duration::from_micros(u64::try_from(c.int(0).unwrap_or(0)).unwrap_or(0)))
}

fn pause(c: &mut Call<'_>, time: Duration) -> Flow {
    if time.is_zero() {
        return TRUE;
    }
    wait(c.ctx.shard.kernel.drivers.clock.sleep(time.min(MAX_SLEEP)), |_, ()| TRUE)
}

/// `abort()`
pub(super) fn abort(_: &mut Call<'_>) -> Flow {
    tracing::error!("the script called abort()");
    std::process::abort()
}

/// `pkg_status()`, `shm_status()`: this process has one memory, which the operating system counts.
pub(super) fn memory_status(_: &mut Call<'_>) -> Flow {
    match std::fs::read_to_string("/proc/self/statm") {
        Ok(pages) => {
            tracing::info!("memory in pages (total resident shared text lib data): {}", pages.trim())
        }
        Err(e) => tracing::warn!("memory: {e}"),
    }
    TRUE
}

/// `set_count(variable, out)`
pub(super) fn set_count(c: &mut Call<'_>) -> Flow {
    let (Some(var), Some(out)) = (c.var(0), c.var(1)) else { return FALSE };
    let count = all(c.ctx, &var, MAX_VALUES).len();
    flow(put(c.ctx, "set_count", &out, Value::Int(count as i64)))
}

/// `set_select_weight(variable)`: the values are weights; one is chosen by chance, the likelier the heavier. Its place among
/// them, counted from 1 since a result of 0 would end the script.
pub(super) fn select_weight(c: &mut Call<'_>) -> Flow {
    let Some(var) = c.var(0) else { return FALSE };
    let values = all(c.ctx, &var, MAX_VALUES);
    let weight = |v: &Value| v.to_int().map_or(0, |w| w.clamp(0, i64::from(u32::MAX)) as u64);
    let total: u64 = values.iter().map(weight).sum();
    if total == 0 {
        tracing::error!("set_select_weight(): the variable has no value above 0");
        return FALSE;
    }
    let mut ball = random::below(total);
    let place = values.iter().position(|v| match ball.checked_sub(weight(v)) {
        Some(left) => {
            ball = left;
            false
        }
        None => true,
    });
    place.map_or(FALSE, |at| Flow::Value(at as i64 + 1))
}

/// `get_accurate_time(seconds, microseconds[, both])`
pub(super) fn accurate_time(c: &mut Call<'_>) -> Flow {
    let (Some(seconds), Some(micros)) = (c.var(0), c.var(1)) else { return FALSE };
    let now = c.ctx.shard.kernel.drivers.clock.unix();
    let mut done = put(c.ctx, "get_accurate_time", &seconds, Value::Int(now.as_secs() as i64));
    done &= put(c.ctx, "get_accurate_time", &micros, Value::Int(i64::from(now.subsec_micros())));
    if let Some(both) = c.var(2) {
        let text = format!("{}.{:06}", now.as_secs(), now.subsec_micros());
        done &= put(c.ctx, "get_accurate_time", &both, Value::str(text));
    }
    flow(done)
}

/// `ts_usec_delta(seconds, microseconds, seconds, microseconds[, text][, number])`
pub(super) fn delta(c: &mut Call<'_>) -> Flow {
    let at = |s: usize| c.int(s)?.checked_mul(1_000_000)?.checked_add(c.int(s + 1)?);
    let (Some(one), Some(two)) = (at(0), at(2)) else { return FALSE };
    let between = i64::try_from(one.abs_diff(two)).unwrap_or(i64::MAX);
    let mut done = true;
    if let Some(text) = c.var(4) {
        done &= put(c.ctx, "ts_usec_delta", &text, Value::str(between.to_string()));
    }
    if let Some(number) = c.var(5) {
        done &= put(c.ctx, "ts_usec_delta", &number, Value::Int(between));
    }
    flow(done)
}

/// `check_time_rec(recurrence[, seconds since the epoch])`
pub(super) fn check_time_rec(c: &mut Call<'_>) -> Flow {
    match TimeRec::parse(&c.text(0)) {
        Ok(rec) => {
            let now = c.ctx.shard.kernel.unix() as i64;
            flow(rec.fits(c.int(1).unwrap_or(now)))
        }
        Err(e) => {
            tracing::error!("check_time_rec(): {e}");
            FALSE
        }
    }
}

/// `shuffle_avps(variable)`
pub(super) fn shuffle(c: &mut Call<'_>) -> Flow {
    let Some(var) = c.var(0) else { return FALSE };
    let mut values = all(c.ctx, &var, MAX_VALUES);
    for i in (1..values.len()).rev() {
        values.swap(i, random::below(i as u64 + 1) as usize);
    }
    if !put(c.ctx, "shuffle_avps", &VarAccess { index: Index::All, ..var.clone() }, Value::Null) {
        return FALSE;
    }
    for value in values {
        if let Err(e) = c.ctx.push_var(&var, value) {
            tracing::error!("shuffle_avps(): {e}");
            return FALSE;
        }
    }
    TRUE
}

/// `get_static_lock(name)`
pub(super) fn get_static_lock(c: &mut Call<'_>) -> Flow {
    let Some(lock) = c.str(0).and_then(|n| kernel(c).state::<CfgUtils>().locks.named(n)) else {
        tracing::error!("get_static_lock(): too many locks");
        return FALSE;
    };
    wait(lock.take(), |_, ()| TRUE)
}

/// `release_static_lock(name)`
pub(super) fn release_static_lock(c: &mut Call<'_>) -> Flow {
    if let Some(lock) = c.str(0).and_then(|n| kernel(c).state::<CfgUtils>().locks.named(n)) {
        lock.give();
    }
    TRUE
}

/// `get_dynamic_lock(text)`
pub(super) fn get_dynamic_lock(c: &mut Call<'_>) -> Flow {
    let Some(text) = c.str(0) else { return FALSE };
    let lock = kernel(c).state::<CfgUtils>().locks.pooled(text).clone();
    wait(lock.take(), |_, ()| TRUE)
}

/// `release_dynamic_lock(text)`
pub(super) fn release_dynamic_lock(c: &mut Call<'_>) -> Flow {
    let Some(text) = c.str(0) else { return FALSE };
    kernel(c).state::<CfgUtils>().locks.pooled(text).give();
    TRUE
}

/// `strings_share_lock(text, text)`
pub(super) fn strings_share_lock(c: &mut Call<'_>) -> Flow {
    let (Some(one), Some(two)) = (c.str(0), c.str(1)) else { return FALSE };
    let kernel = kernel(c);
    let locks = &kernel.state::<CfgUtils>().locks;
    flow(locks.place(one) == locks.place(two))
}
