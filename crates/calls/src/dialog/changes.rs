//! Management commands that change dialogs: profiles, values, requests of ours, the database.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use serde_json::{Value as Json, json};
use switchroom_kernel::module::{CommandCall, CommandError, CommandResult};
use switchroom_kernel::{Kernel, Shard, oneshot};
use switchroom_script::Value;

use super::commands::{declared, terminate};
use super::functions::{lines, put};
use super::sequential::{self, CALLEE, CALLER};
use super::state::{DialogModule, Dialogs, State, join, leave, parse_did};
use super::store;
use crate::tm::api::OnFinal;

/// Do something with the dialog of a name (a dialog's own, or a Call-ID) on the worker that has it.
pub(super) async fn at<T: Send + 'static>(
    kernel: &Kernel,
    name: &str,
    work: impl FnOnce(&Rc<Shard>, u64) -> T + Send + Clone + 'static,
) -> Result<T, CommandError> {
    let workers: Vec<usize> = match parse_did(name) {
        Some((worker, _)) if worker < kernel.workers => vec![worker],
        _ => (0..kernel.workers).collect(),
    };
    for worker in workers {
        let (answer, wait) = oneshot::channel::<Option<T>>();
        let (name, work) = (name.to_owned(), work.clone());
        let posted = kernel.on_worker(worker, move |shard| {
            let part = shard.part::<Dialogs>();
            let live = |id: u64| part.with(id, |d| d.state < State::Deleted) == Some(true);
            let id = match parse_did(&name) {
                Some((_, id)) => Some(id).filter(|id| live(*id)),
                None => part.of_call(name.as_bytes()).into_iter().find(|id| live(*id)),
            };
            answer.send(id.map(|id| work(shard, id)));
        });
        if !posted {
            return Err(CommandError::new(503, "the worker is busy"));
        }
        if let Some(done) = wait.await.flatten() {
            return Ok(done);
        }
    }
    Err(CommandError::new(404, "Dialog not found"))
}

/// Do something on every worker; the sum of what it gives.
async fn everywhere(
    kernel: &Kernel,
    work: impl FnOnce(&Rc<Shard>) -> u64 + Send + Clone + 'static,
) -> Result<u64, CommandError> {
    let mut sum = 0;
    for worker in 0..kernel.workers {
        let (answer, wait) = oneshot::channel::<u64>();
        let work = work.clone();
        if !kernel.on_worker(worker, move |shard| answer.send(work(shard))) {
            return Err(CommandError::new(503, "the worker is busy"));
        }
        sum += wait.await.unwrap_or(0);
    }
    Ok(sum)
}

pub(super) async fn end_profile(call: CommandCall) -> CommandResult {
    let name = declared(&call)?;
    let value = call.text("value");
    let ended = everywhere(&call.kernel, move |shard| {
        let part = shard.part::<Dialogs>();
        let inside = |id: &u64| {
            let fits = |(p, v): &(String, String)| *p == name && value.as_ref().is_none_or(|w| w == v);
            part.with(*id, |d| d.state < State::Deleted && d.profiles.iter().any(fits)) == Some(true)
        };
        let mut ended = 0;
        for id in part.ids().into_iter().filter(inside) {
            ended += u64::from(terminate(shard, id, &[]));
        }
        ended
    });
    Ok(json!({"ended": ended.await?}))
}

pub(super) async fn set_profile(call: CommandCall) -> CommandResult {
    let profile = declared(&call)?;
    let value = call.text("value").unwrap_or_default();
    let clear = call.int("clear_values")?.unwrap_or(0) != 0;
    let module = call.kernel.state::<DialogModule>();
    let with_value = module.profiles.iter().any(|(p, v)| *p == profile && *v);
    if with_value && value.is_empty() {
        return Err(CommandError::args(format!("profile `{profile}` needs a value")));
    }
    let value = if with_value { value } else { String::new() };
    let name = call.text("dlg_id").unwrap_or_default();
    let done = at(&call.kernel, &name, move |shard, id| {
        let part = shard.part::<Dialogs>();
        if clear {
            leave(&shard.kernel, part, id, &profile, None);
        }
        join(&shard.kernel, part, id, &profile, &value);
        store::note(shard, id);
    });
    done.await?;
    Ok(json!("OK"))
}

pub(super) async fn unset_profile(call: CommandCall) -> CommandResult {
    let profile = declared(&call)?;
    let (value, name) = (call.text("value"), call.text("dlg_id").unwrap_or_default());
    let done = at(&call.kernel, &name, move |shard, id| {
        let gone = leave(&shard.kernel, shard.part::<Dialogs>(), id, &profile, value.as_deref());
        store::note(shard, id);
        gone
    });
    match done.await? {
        true => Ok(json!("OK")),
        false => Err(CommandError::new(404, "The dialog is not in that profile")),
    }
}

/// `DID` is one name or an array of them.
pub(super) async fn push_var(call: CommandCall) -> CommandResult {
    let text = call.text("dlg_val_name").unwrap_or_default();
    let key = call.kernel.registry.names.intern(&text);
    let key = key.map_err(|_| CommandError::new(500, "too many names"))?;
    let value = Bytes::from(call.text("dlg_val_value").unwrap_or_default());
    let names: Vec<String> = match call.args.get("DID") {
        Some(Json::Array(all)) => all.iter().filter_map(|n| n.as_str().map(str::to_owned)).collect(),
        _ => call.text("DID").into_iter().collect(),
    };
    for name in names {
        let value = value.clone();
        let done = at(&call.kernel, &name, move |shard, id| {
            shard.part::<Dialogs>().with(id, |d| put(d, key, Value::Str(value)));
            store::note(shard, id);
        });
        done.await?;
    }
    Ok(json!("OK"))
}

/// What is sent to whom.
#[derive(Clone)]
enum Mode {
    To(Vec<usize>),
    /// INVITE without a body to this side first.
    Challenge(usize),
}

pub(super) async fn send_sequential(call: CommandCall) -> CommandResult {
    let mode = match call.text("mode").as_deref() {
        Some("caller") => Mode::To(vec![CALLER]),
        Some("callee") => Mode::To(vec![CALLEE]),
        Some("both") => Mode::To(vec![CALLER, CALLEE]),
        None | Some("" | "challenge" | "challenge-caller") => Mode::Challenge(CALLER),
        Some("challenge-callee") => Mode::Challenge(CALLEE),
        Some(other) => {
            return Err(CommandError::args(format!(
                "`mode` is \"{other}\"; there are challenge, challenge-caller, challenge-callee, caller, callee, both"
            )));
        }
    };
    let method = call.text("method").filter(|m| !m.is_empty()).unwrap_or_else(|| "INVITE".into());
    if !method.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(CommandError::args("`method` must be a word such as INFO"));
    }
    if matches!(mode, Mode::Challenge(_)) && method != "INVITE" {
        return Err(CommandError::args("to challenge is for INVITE; `mode` must be caller, callee or both"));
    }
    let body = match call.text("body").as_deref() {
        None | Some("" | "none") => Body::None,
        // What one side said last is what the other one gets.
        Some("inbound" | "outbound") => Body::Kept,
        Some(custom) => match custom.strip_prefix("custom:").and_then(|c| c.split_once(':')) {
            Some((kind, text)) => Body::Given(Bytes::from(kind.to_owned()), Bytes::from(text.to_owned())),
            None => {
                return Err(CommandError::args("`body` must be none, inbound, outbound or custom:TYPE:BODY"));
            }
        },
    };
    let headers = lines(call.text("headers").unwrap_or_default().into());
    let name = call.text("callid").unwrap_or_default();
    let (answer, wait) = oneshot::channel::<Result<(u16, String), &'static str>>();
    // Only one worker has it, but each is asked with a copy.
    let answer = std::sync::Arc::new(parking_lot::Mutex::new(Some(answer)));
    at(&call.kernel, &name, move |shard, id| {
        let answer = Rc::new(RefCell::new(answer.lock().take()));
        let told = answer.clone();
        let done: OnFinal = Rc::new(move |_, code, reply| {
            let reason = reply.map(|r| String::from_utf8_lossy(r.reason()).into_owned()).unwrap_or_default();
            if let Some(answer) = told.borrow_mut().take() {
                answer.send(Ok((code, reason)));
            }
        });
        let sent = match mode {
            Mode::Challenge(first) => sequential::challenge(shard, id, first, &headers, done),
            Mode::To(sides) => sides.into_iter().all(|to| {
                let kept = || shard.part::<Dialogs>().with(id, |d| d.legs[1 - to].body.clone()).flatten();
                let body = match &body {
                    Body::None => Ok(None),
                    Body::Kept => kept().map(Some).ok_or(()),
                    Body::Given(kind, text) => Ok(Some((kind.clone(), text.clone()))),
                };
                let Ok(body) = body else {
                    if let Some(answer) = answer.borrow_mut().take() {
                        answer.send(Err("bodies are kept only for dialogs with re-INVITE pings"));
                    }
                    return false;
                };
                sequential::send(shard, id, to, method.as_bytes(), body, &headers, done.clone())
            }),
        };
        if !sent && let Some(answer) = answer.borrow_mut().take() {
            answer.send(Err("The dialog is not answered"));
        }
    })
    .await?;
    match wait.await {
        Some(Ok((code, reason))) => Ok(json!({"Code": code, "Reason": reason})),
        Some(Err(why)) => Err(CommandError::new(403, why)),
        None => Err(CommandError::new(500, "the request was not sent")),
    }
}

#[derive(Clone)]
enum Body {
    None,
    Kept,
    Given(Bytes, Bytes),
}

pub(super) async fn db_sync(call: CommandCall) -> CommandResult {
    let Some(keeper) = &call.kernel.state::<DialogModule>().keeper else {
        return Err(CommandError::new(400, "dialogs are not kept in a database (db_mode)"));
    };
    keeper.flush().await;
    let read = keeper.fetch(&call.kernel).await.map_err(|e| CommandError::new(500, e))?;
    let read = std::sync::Arc::new(parking_lot::Mutex::new(read));
    let added = everywhere(&call.kernel, move |shard| {
        let mine = read.lock().remove(&shard.worker).unwrap_or_default();
        store::add(shard, mine)
    });
    Ok(json!({"added": added.await?}))
}

pub(super) async fn restore_db(call: CommandCall) -> CommandResult {
    let Some(keeper) = &call.kernel.state::<DialogModule>().keeper else {
        return Err(CommandError::new(400, "dialogs are not kept in a database (db_mode)"));
    };
    keeper.clear().await.map_err(|e| CommandError::new(500, e))?;
    let noted = everywhere(&call.kernel, |shard| {
        let ids = shard.part::<Dialogs>().ids();
        ids.iter().for_each(|id| store::note(shard, *id));
        ids.len() as u64
    });
    noted.await?;
    keeper.flush().await;
    Ok(json!("OK"))
}
