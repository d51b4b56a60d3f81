//! Script functions that look at other dialogs than the one in hand, on whichever worker they are. They wait for the answers
//! of the workers.

use std::rc::Rc;

use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE, wait};
use switchroom_kernel::module::Function;
use switchroom_kernel::{Kernel, Shard, oneshot};
use switchroom_script::Value;
use switchroom_script::vm::VarAccess;

use super::commands::as_json;
use super::state::{Dialog, Dialogs, State};

/// One of the functions of the module's table.
pub(super) const GET_DIALOG_INFO: Function = Function::new(
    "get_dialog_info",
    &["str,var,str,var,var"],
    "*",
    get_dialog_info,
    "A value of the dialog that another value names",
);
/// See [`GET_DIALOG_INFO`].
pub(super) const GET_DIALOG_VALS: Function = Function::new(
    "get_dialog_vals",
    &["var,var,str"],
    "*",
    get_dialog_vals,
    "All values of the dialog of a Call-ID",
);
/// See [`GET_DIALOG_INFO`].
pub(super) const GET_DIALOGS_BY_VAL: Function = Function::new(
    "get_dialogs_by_val",
    &["str,var,var,var"],
    "*",
    get_dialogs_by_val,
    "Dialogs that have a value, as JSON",
);
/// See [`GET_DIALOG_INFO`].
pub(super) const GET_DIALOGS_BY_PROFILE: Function = Function::new(
    "get_dialogs_by_profile",
    &["str,[str],var,var"],
    "*",
    get_dialogs_by_profile,
    "Dialogs in a profile, as JSON",
);

/// So many dialogs are handed to a script at most.
const MAX_FOUND: usize = 1000;

/// Ask every worker for what `pick` gives of its dialogs; at most [`MAX_FOUND`].
fn ask<T: Send + 'static>(
    ctx: &Ctx,
    pick: impl Fn(&Kernel, &Dialog) -> Option<T> + Send + Clone + 'static,
) -> impl Future<Output = Vec<T>> + 'static {
    let kernel = ctx.shard.kernel.clone();
    let mut waits = Vec::new();
    for worker in 0..kernel.workers {
        let (answer, wait) = oneshot::channel::<Vec<T>>();
        let pick = pick.clone();
        let posted = kernel.on_worker(worker, move |shard: &Rc<Shard>| {
            let part = shard.part::<Dialogs>();
            let one = |id| {
                let live =
                    |d: &mut Dialog| (d.state < State::Deleted).then(|| pick(&shard.kernel, d)).flatten();
                part.with(id, live).flatten()
            };
            answer.send(part.ids().into_iter().filter_map(one).take(MAX_FOUND).collect());
        });
        if posted {
            waits.push(wait);
        }
    }
    async move {
        let mut all = Vec::new();
        for w in waits {
            all.extend(w.await.unwrap_or_default());
        }
        all.truncate(MAX_FOUND);
        all
    }
}

fn value_of(d: &Dialog, key: u32) -> Option<&Value> {
    d.values.iter().find(|(k, _)| *k == key).map(|(_, v)| v)
}

fn set(ctx: &mut Ctx, var: &VarAccess, value: Value) -> bool {
    ctx.set_var(var, value).inspect_err(|e| tracing::error!("a result cannot be stored: {e}")).is_ok()
}

fn has_value(key: u32, wanted: Value) -> impl Fn(&Dialog) -> bool + Send + Clone + 'static {
    let wanted = wanted.to_bytes().map(|b| b.to_vec());
    move |d| value_of(d, key).and_then(|v| v.to_bytes()).map(|b| b.to_vec()) == wanted
}

/// `get_dialog_info(attr, $result, key, $value, $count)`: the value `attr` of a dialog whose value `key` is `$value`.
fn get_dialog_info(c: &mut Call<'_>) -> Flow {
    let names = c.ctx.shard.kernel.registry.names.clone();
    let (Some(result), Some(given), Some(count)) = (c.var(1), c.var(3), c.var(4)) else { return FALSE };
    let (Some(attr), Some(key)) = (names.find(&c.text(0)), names.find(&c.text(2))) else { return FALSE };
    let wanted = c.ctx.get_var(&given);
    if matches!(wanted, Value::Null) {
        return FALSE;
    }
    let fits = has_value(key, wanted);
    let found = ask(c.ctx, move |_, d| fits(d).then(|| value_of(d, attr).cloned().unwrap_or_default()));
    wait(found, move |ctx, found| {
        let number = found.len() as i64;
        let first = found.into_iter().next();
        let stored = set(ctx, &count, Value::Int(number));
        let Some(value) = first.filter(|_| stored) else { return FALSE };
        if set(ctx, &result, value) { TRUE } else { FALSE }
    })
}

/// `get_dialog_vals($avp(names), $avp(values), callid)`
fn get_dialog_vals(c: &mut Call<'_>) -> Flow {
    let (Some(names), Some(values)) = (c.var(0), c.var(1)) else { return FALSE };
    let call_id = c.str(2).cloned().unwrap_or_default().to_vec();
    let found = ask(c.ctx, move |kernel, d| {
        let named = |(k, v): &(u32, Value)| (kernel.registry.names.text(*k).to_string(), v.clone());
        (d.call_id == call_id[..]).then(|| d.values.iter().map(named).collect::<Vec<_>>())
    });
    wait(found, move |ctx, found| {
        let Some(pairs) = found.into_iter().next() else { return FALSE };
        for (name, value) in pairs.into_iter().rev() {
            let name = Value::Str(name.into());
            if ctx.push_var(&names, name).and_then(|()| ctx.push_var(&values, value)).is_err() {
                return FALSE;
            }
        }
        TRUE
    })
}

/// Each dialog as JSON into the stack `into`, and how many there are into `count`.
fn hand_over(
    c: &mut Call<'_>,
    into: VarAccess,
    count: VarAccess,
    fits: impl Fn(&Dialog) -> bool + Send + Clone + 'static,
) -> Flow {
    let found = ask(c.ctx, move |kernel, d| fits(d).then(|| as_json(kernel, d, true).to_string()));
    wait(found, move |ctx, found| {
        let number = found.len();
        for text in found.into_iter().rev() {
            if ctx.push_var(&into, Value::Str(text.into())).is_err() {
                return FALSE;
            }
        }
        match set(ctx, &count, Value::Int(number as i64)) && number > 0 {
            true => TRUE,
            false => FALSE,
        }
    })
}

/// `get_dialogs_by_val(name, $value, $avp(dialogs), $count)`
fn get_dialogs_by_val(c: &mut Call<'_>) -> Flow {
    let (Some(given), Some(into), Some(count)) = (c.var(1), c.var(2), c.var(3)) else { return FALSE };
    let Some(key) = c.ctx.shard.kernel.registry.names.find(&c.text(0)) else { return FALSE };
    let wanted = c.ctx.get_var(&given);
    hand_over(c, into, count, has_value(key, wanted))
}

/// `get_dialogs_by_profile(profile[, value], $avp(dialogs), $count)`
fn get_dialogs_by_profile(c: &mut Call<'_>) -> Flow {
    let (Some(into), Some(count)) = (c.var(2), c.var(3)) else { return FALSE };
    let name = c.text(0);
    let value = c.has(1).then(|| c.text(1)).filter(|v| !v.is_empty());
    hand_over(c, into, count, move |d| {
        d.profiles.iter().any(|(p, v)| *p == name && value.as_ref().is_none_or(|w| w == v))
    })
}
