//! Management commands: list dialogs and end them.

use std::rc::Rc;

use serde_json::{Map, Value as Json, json};
use switchroom_kernel::module::{Command, CommandCall, CommandError, CommandResult};
use switchroom_kernel::names::FlagKind;
use switchroom_kernel::{Kernel, Shard, oneshot};

use super::changes;
use super::follow::end;
use super::functions::lines;
use super::sequential::hang_up;
use super::state::{Dialog, DialogModule, Dialogs, Leg, State};
use crate::core::process_vars::strftime_text;
use crate::tm::api as tm;

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
        help: "End a dialog: BYE to both sides, or CANCEL when it is not answered",
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
        name: "dialog:profile_end_dlgs",
        old_names: &["profile_end_dlgs"],
        args: "profile,[value]",
        help: "End the dialogs in a profile",
        run: |call| Box::pin(changes::end_profile(call)),
    },
    Command {
        name: "dialog:set_profile",
        old_names: &["dlg_set_profile"],
        args: "dlg_id,profile,[value],[clear_values]",
        help: "Put a dialog into a profile",
        run: |call| Box::pin(changes::set_profile(call)),
    },
    Command {
        name: "dialog:unset_profile",
        old_names: &["dlg_unset_profile"],
        args: "dlg_id,profile,[value]",
        help: "Take a dialog out of a profile",
        run: |call| Box::pin(changes::unset_profile(call)),
    },
    Command {
        name: "dialog:push_var",
        old_names: &["dlg_push_var"],
        args: "dlg_val_name,dlg_val_value,DID",
        help: "Set a value of dialogs",
        run: |call| Box::pin(changes::push_var(call)),
    },
    Command {
        name: "dialog:send_sequential",
        old_names: &["dlg_send_sequential"],
        args: "callid,[mode],[method],[body],[headers]",
        help: "Send a request of ours inside a dialog, or renegotiate its media",
        run: |call| Box::pin(changes::send_sequential(call)),
    },
    Command {
        name: "dialog:db_sync",
        old_names: &["dlg_db_sync"],
        args: "",
        help: "Read dialogs from the database that are not in memory",
        run: |call| Box::pin(changes::db_sync(call)),
    },
    Command {
        name: "dialog:restore_db",
        old_names: &["dlg_restore_db"],
        args: "",
        help: "Write the database anew from memory",
        run: |call| Box::pin(changes::restore_db(call)),
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

pub(super) fn declared(call: &CommandCall) -> Result<String, CommandError> {
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
    let ends = if d.started == 0 { 0 } else { d.started + d.timeout };
    let date = |at: u64| if at == 0 { Json::Null } else { json!(strftime_text(at, "%Y-%m-%d %H:%M:%S")) };
    put("timestart", json!(d.started));
    put("datestart", date(d.started));
    put("timeout", json!(ends));
    put("dateout", date(ends));
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
    let headers = lines(call.text("extra_hdrs").unwrap_or_default().into());
    let done = changes::at(&call.kernel, &name, move |shard, id| terminate(shard, id, &headers));
    match done.await? {
        true => Ok(json!("OK")),
        false => Err(CommandError::new(500, "Operation failed")),
    }
}

/// End a dialog: with BYE to both sides when it is answered, else by cancelling its INVITE, which the callee's 487 then
/// ends.
pub(super) fn terminate(shard: &Rc<Shard>, id: u64, headers: &[u8]) -> bool {
    let part = shard.part::<Dialogs>();
    let invite = part.with(id, |d| (d.state < State::ConfirmedNoAck).then_some(d.invite)).flatten();
    if let Some(invite) = invite {
        return invite.is_some_and(|tx| tm::cancel(shard, tx));
    }
    let done = hang_up(shard, id, headers);
    if done {
        end(shard, id, "MI Termination");
    }
    done
}
