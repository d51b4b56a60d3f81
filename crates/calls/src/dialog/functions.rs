//! Script functions of dialogs.

use std::rc::Rc;

use bytes::Bytes;
use switchroom_kernel::context::{Call, FALSE, Flow, TRUE};
use switchroom_kernel::module::{Function, Prepared};
use switchroom_kernel::names::FlagKind;
use switchroom_kernel::registry::Registry;
use switchroom_script::Value;
use switchroom_script::names::{RouteType, StaticArg};
use switchroom_wire::sip::{HeaderId, Method, NameAddr, Uri, uri_eq};

use super::follow::{Wishes, attach, create};
use super::loaded::{self, change, current};
use super::others;
use super::sequential::{self, CALLEE, CALLER};
use super::state::{Dialog, DialogModule, Dialogs, OnTurn, join, leave};

/// The table.
pub(super) static FUNCTIONS: &[Function] = &[
    Function::new("create_dialog", &["[str]"], "R", create_dialog, "Keep the dialog of this INVITE")
        .checked(check_flags),
    Function::new(
        "dlg_send_sequential",
        &["str,str,[str],[str],[str]"],
        "*",
        dlg_send_sequential,
        "Send a request of ours to one side of the dialog",
    ),
    Function::new(
        "dlg_inc_cseq",
        &["[str],[int]"],
        "RFOBL",
        dlg_inc_cseq,
        "Number later requests of a side higher",
    ),
    Function::new("match_dialog", &["[str]"], "R", match_dialog, "Find the dialog of an in-dialog request"),
    Function::new(
        "validate_dialog",
        &[""],
        "R",
        validate_dialog,
        "Check an in-dialog request against its dialog",
    ),
    Function::new(
        "fix_route_dialog",
        &[""],
        "R",
        fix_route_dialog,
        "Route an in-dialog request as its dialog says",
    ),
    Function::new(
        "set_dlg_profile",
        &["str,[str],[int]"],
        "RFOB",
        set_dlg_profile,
        "Count the dialog in a profile",
    ),
    Function::new(
        "unset_dlg_profile",
        &["str,[str]"],
        "RFOB",
        unset_dlg_profile,
        "Take the dialog out of a profile",
    ),
    Function::new(
        "is_in_profile",
        &["str,[str]"],
        "RFOB",
        is_in_profile,
        "Test whether the dialog is in a profile",
    ),
    Function::new(
        "get_profile_size",
        &["str,[str],var"],
        "*",
        get_profile_size,
        "How many dialogs are in a profile",
    ),
    Function::new(
        "dlg_on_answer",
        &["[str]"],
        "RFOB",
        |c| on_turn(c, |d, t| d.on_answer = t),
        "Route for the answer",
    )
    .prepared(prepare_route),
    Function::new(
        "dlg_on_timeout",
        &["[str]"],
        "RFOB",
        |c| on_turn(c, |d, t| d.on_timeout = t),
        "Route for the timeout",
    )
    .prepared(prepare_route),
    Function::new(
        "dlg_on_hangup",
        &["[str]"],
        "RFOB",
        |c| on_turn(c, |d, t| d.on_hangup = t),
        "Route for the end",
    )
    .prepared(prepare_route),
    Function::new("set_dlg_flag", &["str!"], "RFOBL", set_dlg_flag, "Set a flag of the dialog"),
    Function::new("reset_dlg_flag", &["str!"], "RFOBL", reset_dlg_flag, "Clear a flag of the dialog"),
    Function::new("is_dlg_flag_set", &["str!"], "RFOBL", is_dlg_flag_set, "Test a flag of the dialog"),
    Function::new(
        "test_and_set_dlg_flag",
        &["str!,int"],
        "RFOBL",
        test_and_set_dlg_flag,
        "Turn a flag if it stands so",
    ),
    Function::new(
        "store_dlg_value",
        &["str,var", "str,str"],
        "RFOBL",
        store_dlg_value,
        "Keep a value with the dialog",
    ),
    Function::new("fetch_dlg_value", &["str,var"], "RFOBL", fetch_dlg_value, "Read a value of the dialog"),
    loaded::LOAD,
    loaded::UNLOAD,
    others::GET_DIALOG_INFO,
    others::GET_DIALOG_VALS,
    others::GET_DIALOGS_BY_VAL,
    others::GET_DIALOGS_BY_PROFILE,
];

fn prepare_route(args: &[StaticArg]) -> Result<Option<Prepared>, String> {
    match args.first() {
        Some(StaticArg::Int(_)) => Err("the route must be given by its name".into()),
        _ => Ok(None),
    }
}

/// `create_dialog([flags])`: see [`wishes`].
fn create_dialog(c: &mut Call<'_>) -> Flow {
    let wishes = match wishes(&c.text(0)) {
        Ok(wishes) => wishes,
        Err(e) => {
            tracing::error!("create_dialog(): {e}");
            return FALSE;
        }
    };
    if create(c.ctx, wishes) { TRUE } else { FALSE }
}

fn check_flags(_: &Registry, args: &[StaticArg]) -> Result<(), String> {
    match args.first() {
        Some(StaticArg::Str(text)) => wishes(&String::from_utf8_lossy(text)).map(|_| ()),
        _ => Ok(()),
    }
}

/// Words with commas between them, or the letters of older releases.
fn wishes(text: &str) -> Result<Wishes, String> {
    let mut w = Wishes::default();
    for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
        match word {
            "options-ping-caller" => w.options_ping[CALLER] = true,
            "options-ping-callee" => w.options_ping[CALLEE] = true,
            "reinvite-ping-caller" => w.reinvite_ping[CALLER] = true,
            "reinvite-ping-callee" => w.reinvite_ping[CALLEE] = true,
            "bye-on-timeout" => w.bye_on_timeout = true,
            "end-on-race-condition" => w.end_on_race = true,
            "auto-prack" => w.auto_prack = true,
            letters => {
                for letter in letters.chars() {
                    match letter {
                        'P' => w.options_ping[CALLER] = true,
                        'p' => w.options_ping[CALLEE] = true,
                        'R' => w.reinvite_ping[CALLER] = true,
                        'r' => w.reinvite_ping[CALLEE] = true,
                        'B' => w.bye_on_timeout = true,
                        'E' => w.end_on_race = true,
                        _ => {
                            return Err(format!(
                                "\"{word}\" is no flag; there are options-ping-caller, options-ping-callee, \
                                 reinvite-ping-caller, reinvite-ping-callee, bye-on-timeout, end-on-race-condition, auto-prack"
                            ));
                        }
                    }
                }
            }
        }
    }
    // One kind of ping for a side is enough, and an INVITE says more.
    for side in [CALLER, CALLEE] {
        w.options_ping[side] &= !w.reinvite_ping[side];
    }
    Ok(w)
}

/// `caller` or `callee`.
pub(super) fn side(text: &str) -> Option<usize> {
    match text {
        "caller" => Some(CALLER),
        "callee" => Some(CALLEE),
        _ => None,
    }
}

/// `dlg_send_sequential(method, leg[, body[, content type[, headers]]])`
fn dlg_send_sequential(c: &mut Call<'_>) -> Flow {
    let Some(to) = side(&c.text(1)) else {
        tracing::error!("dlg_send_sequential(): \"{}\" is neither caller nor callee", c.text(1));
        return FALSE;
    };
    let method = c.str(0).cloned().unwrap_or_default();
    if method.is_empty() || !method.iter().all(u8::is_ascii_alphanumeric) {
        tracing::error!("dlg_send_sequential(): the method must be a word such as INFO");
        return FALSE;
    }
    let kind = c.str(3).cloned().filter(|k| !k.is_empty());
    let body = c.str(2).cloned().filter(|b| !b.is_empty()).map(|body| {
        let kind = kind.unwrap_or_else(|| Bytes::from_static(b"application/sdp"));
        (Bytes::copy_from_slice(&kind), Bytes::copy_from_slice(&body))
    });
    let headers = lines(c.str(4).cloned().unwrap_or_default());
    loaded::there(c.ctx, move |shard, id| {
        let done: crate::tm::api::OnFinal = Rc::new(|_, code, _| {
            tracing::debug!("a sequential request of the script's was answered with {code}")
        });
        sequential::send(shard, id, to, &method, body, &headers, done)
    })
}

/// Header lines, each with its end.
pub(super) fn lines(text: Bytes) -> Vec<u8> {
    let mut out = text.to_vec();
    if !out.is_empty() && !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// `dlg_inc_cseq([leg[, number]])`: requests of that side (both, when none is given) are numbered so much higher.
fn dlg_inc_cseq(c: &mut Call<'_>) -> Flow {
    let by = c.int(1).unwrap_or(1);
    let Some(by) = u32::try_from(by).ok().filter(|n| (1..=1 << 20).contains(n)) else {
        tracing::error!("dlg_inc_cseq(): {by} is no number from 1 to 1048576");
        return FALSE;
    };
    let leg = c.text(0);
    let which = match (leg.as_str(), side(&leg)) {
        ("", _) => vec![CALLER, CALLEE],
        (_, Some(one)) => vec![one],
        _ => {
            tracing::error!("dlg_inc_cseq(): \"{leg}\" is neither caller nor callee");
            return FALSE;
        }
    };
    let done = change(c.ctx, move |d| {
        for leg in which {
            d.legs[leg].shift = d.legs[leg].shift.saturating_add(by);
        }
    });
    if done.is_some() { TRUE } else { FALSE }
}

fn match_dialog(c: &mut Call<'_>) -> Flow {
    if attach(c.ctx) { TRUE } else { FALSE }
}

fn with<T>(c: &Call<'_>, work: impl FnOnce(&mut Dialog) -> T) -> Option<T> {
    loaded::with(c.ctx, work)
}

/// 1 fine, -1 CSeq out of order, -2 the Request-URI is not the other side's contact, -4 no dialog.
fn validate_dialog(c: &mut Call<'_>) -> Flow {
    let Some(now) = current(c.ctx) else { return Flow::Value(-4) };
    let msg = c.ctx.msg.clone();
    let Ok((cseq, method)) = msg.cseq() else { return Flow::Value(-1) };
    let in_order = match method {
        Method::Ack | Method::Cancel => true,
        _ => cseq > now.cseq_before || now.cseq_before == 0,
    };
    if !in_order {
        return Flow::Value(-1);
    }
    let target = with(c, |d| d.legs[usize::from(now.downstream)].contact.clone()).unwrap_or_default();
    let uri = c.ctx.ruri();
    let fits = match (Uri::parse(&uri), Uri::parse(&target)) {
        (Ok(a), Ok(b)) => uri_eq(&a, &b),
        _ => target.is_empty(),
    };
    if fits { TRUE } else { Flow::Value(-2) }
}

/// The Request-URI and the Route headers become what the dialog knows.
fn fix_route_dialog(c: &mut Call<'_>) -> Flow {
    let Some(now) = current(c.ctx) else { return FALSE };
    let leg = with(c, |d| d.legs[usize::from(now.downstream)].clone());
    let Some(leg) = leg.filter(|l| !l.contact.is_empty()) else { return FALSE };
    let ctx = &mut *c.ctx;
    let msg = ctx.msg.clone();
    ctx.edits.remove_headers(&msg, HeaderId::Route);
    for r in leg.routes.iter().rev() {
        let mut line = b"Route: ".to_vec();
        line.extend_from_slice(r);
        line.extend_from_slice(b"\r\n");
        ctx.edits.push_route(&msg, line.into());
    }
    ctx.target.uri = Some(leg.contact);
    ctx.target.dst =
        leg.routes.first().and_then(|r| NameAddr::parse(r).ok()).map(|n| Bytes::copy_from_slice(n.uri));
    TRUE
}

// Profiles ------------------------------------------------------------------------------------------------------------

/// Name of a profile without `/s` and the like, and whether it has values; logged when it is not declared.
fn profile(c: &Call<'_>) -> Option<(String, bool)> {
    let name = c.text(0);
    let name = name.split('/').next().unwrap_or_default().trim();
    let module = c.ctx.shard.kernel.state::<DialogModule>();
    let found = module.profiles.iter().find(|(p, _)| p == name).cloned();
    if found.is_none() {
        tracing::error!(
            "there is no dialog profile \"{name}\"; declare it with profiles_with_value or profiles_no_value"
        );
    }
    found
}

fn set_dlg_profile(c: &mut Call<'_>) -> Flow {
    let Some((name, with_value)) = profile(c) else { return FALSE };
    let value = if with_value { c.text(1) } else { String::new() };
    if with_value && value.is_empty() {
        tracing::error!("set_dlg_profile(): profile \"{name}\" needs a value");
        return FALSE;
    }
    let alone = c.int(2).unwrap_or(0) != 0;
    loaded::there(c.ctx, move |shard, id| {
        let part = shard.part::<Dialogs>();
        if alone {
            leave(&shard.kernel, part, id, &name, None);
        }
        join(&shard.kernel, part, id, &name, &value)
    })
}

fn unset_dlg_profile(c: &mut Call<'_>) -> Flow {
    let Some((name, with_value)) = profile(c) else { return FALSE };
    let value = (with_value && c.has(1)).then(|| c.text(1));
    loaded::there(c.ctx, move |shard, id| {
        leave(&shard.kernel, shard.part::<Dialogs>(), id, &name, value.as_deref())
    })
}

fn is_in_profile(c: &mut Call<'_>) -> Flow {
    let Some((name, _)) = profile(c) else { return FALSE };
    let value = c.has(1).then(|| c.text(1));
    let inside =
        with(c, |d| d.profiles.iter().any(|(p, v)| *p == name && value.as_ref().is_none_or(|w| w == v)));
    if inside == Some(true) { TRUE } else { FALSE }
}

fn get_profile_size(c: &mut Call<'_>) -> Flow {
    let Some((name, _)) = profile(c) else { return FALSE };
    let Some(var) = c.var(2) else { return FALSE };
    let value = c.has(1).then(|| c.text(1));
    let size = super::profile_size(&c.ctx.shard.kernel, &name, value.as_deref());
    match c.ctx.set_var(&var, Value::Int(size)) {
        Ok(()) => TRUE,
        Err(_) => FALSE,
    }
}

// Turns, flags and values ---------------------------------------------------------------------------------------------

fn on_turn(c: &mut Call<'_>, set: fn(&mut Dialog, Option<OnTurn>)) -> Flow {
    let name = c.text(0);
    let armed = match name.as_str() {
        "" => None,
        name => {
            let program = c.ctx.shard.kernel.program.load_full();
            match program.find(RouteType::Request, Some(name)) {
                Some(route) => Some(OnTurn { program, route }),
                None => {
                    tracing::error!("there is no route[{name}]");
                    return FALSE;
                }
            }
        }
    };
    match change(c.ctx, move |d| set(d, armed)) {
        Some(()) => TRUE,
        None => FALSE,
    }
}

fn bit(c: &Call<'_>) -> Option<u32> {
    c.ctx.shard.kernel.registry.names.flag(FlagKind::Message, &c.text(0)).ok().map(|b| 1 << b)
}

fn set_dlg_flag(c: &mut Call<'_>) -> Flow {
    let Some(bit) = bit(c) else { return FALSE };
    if change(c.ctx, move |d| d.flags |= bit).is_some() { TRUE } else { FALSE }
}

fn reset_dlg_flag(c: &mut Call<'_>) -> Flow {
    let Some(bit) = bit(c) else { return FALSE };
    if change(c.ctx, move |d| d.flags &= !bit).is_some() { TRUE } else { FALSE }
}

fn is_dlg_flag_set(c: &mut Call<'_>) -> Flow {
    let Some(bit) = bit(c) else { return FALSE };
    if with(c, |d| d.flags & bit != 0) == Some(true) { TRUE } else { FALSE }
}

/// `test_and_set_dlg_flag(flag, value)`: when the flag stands as `value` says, it is turned.
fn test_and_set_dlg_flag(c: &mut Call<'_>) -> Flow {
    let Some(bit) = bit(c) else { return FALSE };
    let wanted = c.int(1).unwrap_or(0) != 0;
    loaded::there(c.ctx, move |shard, id| {
        let turned = shard.part::<Dialogs>().with(id, |d| {
            let fits = (d.flags & bit != 0) == wanted;
            if fits {
                d.flags ^= bit;
            }
            fits
        });
        turned == Some(true)
    })
}

fn store_dlg_value(c: &mut Call<'_>) -> Flow {
    let name = c.text(0);
    let value = match c.var(1) {
        Some(var) => c.ctx.get_var(&var),
        None => c.str(1).map_or(Value::Null, |text| Value::Str(text.clone())),
    };
    let Ok(key) = c.ctx.shard.kernel.registry.names.intern(&name) else { return FALSE };
    if change(c.ctx, move |d| put(d, key, value)).is_some() { TRUE } else { FALSE }
}

/// Set or remove a value.
pub(super) fn put(d: &mut Dialog, key: u32, value: Value) {
    d.values.retain(|(k, _)| *k != key);
    match value {
        Value::Null => {}
        // A dialog lives long: it must not keep a message's buffer alive.
        Value::Str(s) => d.values.push((key, Value::Str(Bytes::copy_from_slice(&s)))),
        other => d.values.push((key, other)),
    }
}

fn fetch_dlg_value(c: &mut Call<'_>) -> Flow {
    let name = c.text(0);
    let Some(var) = c.var(1) else { return FALSE };
    let Some(key) = c.ctx.shard.kernel.registry.names.find(&name) else { return FALSE };
    let value = with(c, |d| d.values.iter().find(|(k, _)| *k == key).map(|(_, v)| v.clone())).flatten();
    let Some(value) = value else { return FALSE };
    match c.ctx.set_var(&var, value) {
        Ok(()) => TRUE,
        Err(_) => FALSE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_words_or_letters_and_a_side_gets_one_kind_of_ping() {
        let w = wishes("options-ping-caller, options-ping-callee,reinvite-ping-callee,auto-prack").unwrap();
        assert_eq!((w.options_ping, w.reinvite_ping), ([true, false], [false, true]));
        assert!(w.auto_prack && !w.bye_on_timeout);
        let letters = wishes("PpRB").unwrap();
        assert_eq!((letters.options_ping, letters.reinvite_ping), ([false, true], [true, false]));
        assert!(letters.bye_on_timeout);
        assert!(wishes("options-ping").is_err_and(|e| e.contains("auto-prack")));
    }
}
