//! Script functions of statistics.

use bytes::Bytes;
use switchroom_kernel::context::{Call, FALSE, Flow, TRUE};
use switchroom_script::Value;

use super::{PerShard, Statistics, counter, reset};

/// Iterators that a worker may have at a time.
const MAX_ITERATORS: usize = 256;

/// How far a script has gone through a group.
pub(super) struct Iter {
    group: String,
    /// Names still to come, the next one last.
    names: Vec<String>,
}

pub(super) fn update_stat(c: &mut Call<'_>) -> Flow {
    let name = c.str(0).cloned().unwrap_or_default();
    let n = c.int(1).unwrap_or(0);
    match counter(c.ctx, &name) {
        Ok(id) => {
            c.ctx.shard.count(id, n);
            TRUE
        }
        Err(e) => failed("update_stat", &e),
    }
}

pub(super) fn reset_stat(c: &mut Call<'_>) -> Flow {
    match reset(c.ctx, c.str(0).map_or(&[], |n| n)) {
        Ok(()) => TRUE,
        Err(e) => failed("reset_stat", &e),
    }
}

pub(super) fn iter_init(c: &mut Call<'_>) -> Flow {
    let group = c.text(0);
    let iterator: Bytes = c.str(1).cloned().unwrap_or_default();
    let shard = c.ctx.shard.clone();
    let mut names: Vec<String> =
        shard.kernel.stats.list(|g, _| g == group).into_iter().map(|(_, name, _, _)| name).collect();
    names.reverse();
    let iterators = &mut *shard.part::<PerShard>().iterators.borrow_mut();
    if iterators.len() >= MAX_ITERATORS && !iterators.contains_key(&iterator) {
        return failed("stat_iter_init", "there are too many iterators");
    }
    iterators.insert(iterator, Iter { group, names });
    TRUE
}

pub(super) fn iter_next(c: &mut Call<'_>) -> Flow {
    let (Some(name_var), Some(value_var)) = (c.var(0), c.var(1)) else { return FALSE };
    let shard = c.ctx.shard.clone();
    let found = {
        let iterators = &mut *shard.part::<PerShard>().iterators.borrow_mut();
        let Some(iter) = iterators.get_mut(c.str(2).map_or(&[][..], |n| n)) else {
            return failed("stat_iter_next", "there is no such iterator; stat_iter_init() makes it");
        };
        let group = &iter.group;
        iter.names.pop().map(|name| {
            let value = shard.kernel.stats.get(&format!("{group}:{name}"));
            (name, value)
        })
    };
    let Some((name, value)) = found else { return FALSE };
    let written = c
        .ctx
        .set_var(&name_var, Value::Str(name.into()))
        .and_then(|()| c.ctx.set_var(&value_var, value.map_or(Value::Null, Value::Int)));
    match written {
        Ok(()) => TRUE,
        Err(e) => failed("stat_iter_next", &e),
    }
}

pub(super) fn update_series(c: &mut Call<'_>) -> Flow {
    let profile = c.text(0);
    let name = c.text(1);
    let value = c.int(2).unwrap_or(0);
    let kernel = c.ctx.shard.kernel.clone();
    let Some(profile) = kernel.state::<Statistics>().profiles.get(&profile) else {
        return failed("update_stat_series", &format!("there is no stat_series_profile \"{profile}\""));
    };
    match profile.feed(&kernel, &name, value) {
        Ok(()) => TRUE,
        Err(e) => failed("update_stat_series", &e),
    }
}

fn failed(function: &str, why: &str) -> Flow {
    tracing::error!("{function}(): {why}");
    FALSE
}
