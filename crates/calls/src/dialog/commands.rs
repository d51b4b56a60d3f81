//! Management commands: list dialogs and end them.

use std::rc::Rc;

use serde_json::{Map, Value as Json, json};
use switchroom_kernel::module::{Command, CommandCall, CommandError, CommandResult};
use switchroom_kernel::names::FlagKind;
use switchroom_kernel::{Kernel, Shard, oneshot};

use super::follow::{end, hang_up};
use super::state::{Dialog, DialogModule, Dialogs, Leg, State, parse_did};

/// The table.
pub(super) static COMMANDS: &[Command] = &[
    Command {
        name: "dialog:list",
        old_names: &["dlg_list"],
        args: "[callid],[from_tag],[index],[counter]",
        help: "All dialogs, or those of a Call-ID",
        run: |call| Box::pin(list(call, false)),
    },
    Command {
        name: "dialog:list_ctx",
        old_names: &["dlg_list_ctx"],
        args: "[callid],[from_tag],[index],[counter]",
        help: "The same with values and profiles",
        run: |call| Box::pin(list(call, true)),
    },
    Command {
        name: "dialog:end_dlg",
        old_names: &["dlg_end_dlg"],
        args: "dialog_id,[extra_hdrs]",
        help: "End a dialog with BYE to both sides",
        run: |call| Box::pin(end_dialog(call)),
    },
    Command {
        name: "dialog:profile_get_size",
        old_names: &["profile_get_size"],
        args: "profile,[value]",
        help: "How many dialogs are in a profile",
        run: |call| {
            Box::pin(async move {
                let name = declared(&call)?;
                let value = call.text("value");
                let count = super::profile_size(&call.kernel, &name, value.as_deref());
                Ok(json!({"Profile": {"name": name, "value": value, "count": count, "shared": "no"}}))
            })
        },
    },
    Command {
        name: "dialog:profile_get_values",
        old_names: &["profile_get_values"],
        args: "profile",
        help: "Values of a profile and how many dialogs have each",
        run: |call| {
            Box::pin(async move {
                let name = declared(&call)?;
                let module = call.kernel.state::<DialogModule>();
                let members = module.members.lock();
                let rows = members.get(&name).into_iter().flatten();
                let rows: Vec<Json> = rows
                    .map(|(value, count)| json!({"value": value, "count": count, "shared": "no"}))
                    .collect();
                Ok(json!({"Profiles": rows}))
            })
        },
    },
    Command {
        name: "dialog:profile_list_dlgs",
        old_names: &["profile_list_dlgs"],
        args: "profile,[value]",
        help: "Dialogs in a profile",
        run: |call| {
            Box::pin(async move {
                let name = declared(&call)?;
                let value = call.text("value");
                let fits = move |d: &Dialog| {
                    d.profiles.iter().any(|(p, v)| *p == name && value.as_ref().is_none_or(|w| w == v))
                };
                Ok(json!({"Dialogs": collect(&call.kernel, true, fits).await}))
            })
        },
    },
    Command {
        name: "dialog:list_all_profiles",
        old_names: &["list_all_profiles"],
        args: "",
        help: "Declared profiles",
        run: |call| {
            Box::pin(async move {
                let module = call.kernel.state::<DialogModule>();
                let rows = module.profiles.iter();
                Ok(Json::Array(rows.map(|(n, v)| json!({"name": n, "has value": i32::from(*v)})).collect()))
            })
        },
    },
];

fn declared(call: &CommandCall) -> Result<String, CommandError> {
    let name = call.text("profile").unwrap_or_default();
    let module = call.kernel.state::<DialogModule>();
    match module.profiles.iter().any(|(p, _)| *p == name) {
        true => Ok(name),
        false => Err(CommandError::new(404, "Profile not found")),
    }
}

/// Dialogs of all workers that `fits` takes.
async fn collect(
    kernel: &Kernel,
    whole: bool,
    fits: impl Fn(&Dialog) -> bool + Send + Clone + 'static,
) -> Vec<Json> {
    let mut waits = Vec::new();
    for worker in 0..kernel.workers {
        let (answer, wait) = oneshot::channel::<Vec<Json>>();
        let fits = fits.clone();
        let posted = kernel.on_worker(worker, move |shard: &Rc<Shard>| {
            let part = shard.part::<Dialogs>();
            // One that is over only stays for the scripts of its last requests.
            let listed = |d: &Dialog| d.state < State::Deleted && fits(d);
            let one = |id| part.with(id, |d| listed(d).then(|| as_json(&shard.kernel, d, whole))).flatten();
            answer.send(part.ids().into_iter().filter_map(one).collect());
        });
        if posted {
            waits.push(wait);
        }
    }
    let mut all = Vec::new();
    for w in waits {
        all.extend(w.await.unwrap_or_default());
    }
    all
}

fn leg(kernel: &Kernel, prefix: &str, leg: &Leg, out: &mut Map<String, Json>) {
    let text = |b: &[u8]| json!(String::from_utf8_lossy(b));
    out.insert(format!("{prefix}_tag"), text(&leg.tag));
    out.insert(format!("{prefix}_contact"), text(&leg.contact));
    out.insert(format!("{prefix}_cseq"), json!(leg.cseq.to_string()));
    let routes = leg.routes.iter().map(|r| String::from_utf8_lossy(r)).collect::<Vec<_>>().join(",");
    out.insert(format!("{prefix}_route_set"), json!(routes));
    let socket = leg.socket.and_then(|s| kernel.socket(s)).map(|s| s.name()).unwrap_or_default();
    out.insert(format!("{prefix}_bind_addr"), json!(socket));
}

/// A dialog as commands and scripts see it; with `whole` also its values and profiles.
pub(super) fn as_json(kernel: &Kernel, d: &Dialog, whole: bool) -> Json {
    let mut out = Map::new();
    let mut put = |name: &str, value: Json| {
        out.insert(name.to_owned(), value);
    };
    put("ID", json!(d.did()));
    put("state", json!(d.state as i64));
    put("user_flags", json!(kernel.registry.names.flag_names(FlagKind::Message, d.flags)));
    put("timestart", json!(d.started));
    put("timeout", json!(if d.started == 0 { 0 } else { d.started + d.timeout }));
    put("callid", json!(String::from_utf8_lossy(&d.call_id)));
    let uri = |l: &Leg| {
        let n = switchroom_wire::sip::NameAddr::parse(&l.uri).map(|n| n.uri.to_vec()).unwrap_or_default();
        json!(String::from_utf8_lossy(&n))
    };
    put("from_uri", uri(&d.legs[0]));
    put("to_uri", uri(&d.legs[1]));
    leg(kernel, "caller", &d.legs[0], &mut out);
    let mut callee = Map::new();
    leg(kernel, "callee", &d.legs[1], &mut callee);
    out.insert("CALLEES".into(), json!([callee]));
    if whole {
        let values = d.values.iter().map(|(k, v)| {
            let text = v.to_bytes().map(|b| String::from_utf8_lossy(&b).into_owned());
            json!({kernel.registry.names.text(*k).to_string(): text})
        });
        let profiles = d.profiles.iter().map(|(p, v)| json!({p.as_str(): v}));
        out.insert(
            "context".into(),
            json!({"values": values.collect::<Vec<_>>(), "profiles": profiles.collect::<Vec<_>>()}),
        );
    }
    Json::Object(out)
}

async fn list(call: CommandCall, whole: bool) -> CommandResult {
    let (call_id, from_tag) = (call.text("callid"), call.text("from_tag"));
    let index = call.int("index")?.unwrap_or(0).max(0) as usize;
    let counter = call.int("counter")?.map_or(usize::MAX, |n| n.max(0) as usize);
    let named = call_id.is_some();
    let fits = move |d: &Dialog| {
        call_id.as_ref().is_none_or(|c| d.call_id == c.as_bytes())
            && from_tag.as_ref().is_none_or(|t| d.legs[0].tag == t.as_bytes())
    };
    let all = collect(&call.kernel, whole, fits).await;
    if named && all.is_empty() {
        return Err(CommandError::new(404, "Dialog not found"));
    }
    let rows: Vec<Json> = all.into_iter().skip(index).take(counter).collect();
    Ok(json!({"Dialogs": rows}))
}

async fn end_dialog(call: CommandCall) -> CommandResult {
    let name = call.text("dialog_id").unwrap_or_default();
    let headers = call.text("extra_hdrs").unwrap_or_default();
    // A Call-ID is taken as well as a dialog's own name.
    let workers: Vec<usize> = match parse_did(&name) {
        Some((worker, _)) if worker < call.kernel.workers => vec![worker],
        _ => (0..call.kernel.workers).collect(),
    };
    for worker in workers {
        let (answer, wait) = oneshot::channel::<Option<bool>>();
        let (name, headers) = (name.clone(), headers.clone());
        let posted = call.kernel.on_worker(worker, move |shard| {
            let part = shard.part::<Dialogs>();
            let id = match parse_did(&name) {
                Some((_, id)) => part.with(id, |d| d.id),
                None => part.of_call(name.as_bytes()).first().copied(),
            };
            answer.send(id.map(|id| {
                let done = hang_up(shard, id, headers.as_bytes());
                if done {
                    end(shard, id, "MI Termination");
                }
                done
            }));
        });
        if !posted {
            return Err(CommandError::new(503, "the worker is busy"));
        }
        match wait.await.flatten() {
            Some(true) => return Ok(json!("OK")),
            Some(false) => return Err(CommandError::new(403, "The dialog is not answered")),
            None => {}
        }
    }
    Err(CommandError::new(404, "Dialog not found"))
}
