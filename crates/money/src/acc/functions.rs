//! Script functions of acc.

use std::sync::Arc;

use bytes::Bytes;
use switchroom_calls::dialog::api as dialog;
use switchroom_kernel::context::{Call, FALSE, Flow, TRUE};
use switchroom_kernel::module::{Function, Prepared};
use switchroom_script::names::{RouteType, StaticArg};
use switchroom_wire::sip::Method;

use super::Acc;
use super::account::{self, Account};
use super::record::Why;
use super::what::{Backend, CDR, DONE, What, comment, is_table};

/// The table.
pub(super) static FUNCTIONS: &[Function] = &[
    Function::new(
        "do_accounting",
        &["str,[str],[str]"],
        "RFBL",
        do_accounting,
        "Account the transaction of this request",
    )
    .prepared(|args| prepare(args, true)),
    Function::new(
        "drop_accounting",
        &["[str],[str]"],
        "RFBL",
        drop_accounting,
        "Do not account it after all",
    )
    .prepared(|args| prepare(args, false)),
    Function::new(
        "acc_log_request",
        &["str"],
        "RFBL",
        |c| on_the_spot(c, Backend::Log),
        "Account this request now, in the log",
    ),
    Function::new(
        "acc_db_request",
        &["str,str"],
        "RFBL",
        |c| on_the_spot(c, Backend::Db),
        "Account this request now, in the database",
    ),
    Function::new(
        "acc_evi_request",
        &["str"],
        "RFBL",
        |c| on_the_spot(c, Backend::Evi),
        "Account this request now, as an event",
    ),
    Function::new(
        "acc_load_ctx_from_dlg",
        &[""],
        "*",
        |c| if account::load_of_dialog(c.ctx) { TRUE } else { FALSE },
        "Use the account of the call whose dialog the script looks at",
    ),
    Function::new(
        "acc_unload_ctx_from_dlg",
        &[""],
        "*",
        |c| if account::unload_of_dialog(c.ctx) { TRUE } else { FALSE },
        "Use the request's own account again",
    ),
    Function::new("acc_new_leg", &[""], "RFBL", new_leg, "Begin another leg of the call"),
];

/// Legs that a call may have.
const MAX_LEGS: usize = 64;

/// Read types and flags once, when both are plain strings.
fn prepare(args: &[StaticArg], adding: bool) -> Result<Option<Prepared>, String> {
    let text = |i: usize| match args.get(i) {
        None | Some(StaticArg::Absent) => Some(None),
        Some(StaticArg::Str(s)) => Some(Some(String::from_utf8_lossy(s).into_owned())),
        Some(_) => None,
    };
    if let Some(Some(table)) = text(2)
        && !is_table(&table)
    {
        return Err(format!("\"{table}\" is no table name"));
    }
    let (Some(types), Some(flags)) = (text(0), text(1)) else { return Ok(None) };
    let Some(types) = types else { return Ok(None) };
    let what = read(&types, flags.as_deref(), adding)?;
    Ok(Some(Arc::new(what)))
}

fn read(types: &str, flags: Option<&str>, adding: bool) -> Result<What, String> {
    match (adding, flags) {
        (false, None) => What::whole(types),
        _ => What::parse(types, flags, adding),
    }
}

fn what(c: &Call<'_>, name: &str, adding: bool) -> Option<What> {
    if let Some(known) = c.prepared::<What>() {
        return Some(*known);
    }
    let flags = c.has(1).then(|| c.text(1));
    match read(&c.text(0), flags.as_deref(), adding) {
        Ok(what) => Some(what),
        Err(e) => {
            tracing::error!("{name}(): {e}");
            None
        }
    }
}

fn do_accounting(c: &mut Call<'_>) -> Flow {
    let Some(what) = what(c, "do_accounting", true) else { return FALSE };
    let table = c.has(2).then(|| c.text(2)).filter(|t| !t.is_empty());
    if let Some(table) = table.as_deref().filter(|t| !is_table(t)) {
        tracing::error!("do_accounting(): \"{table}\" is no table name");
        return FALSE;
    }
    let kernel = c.ctx.shard.kernel.clone();
    let acc = kernel.state::<Acc>();
    if what.any_of(Backend::Db) && acc.writer.is_none() {
        tracing::error!("do_accounting(): db_url is not set");
        return FALSE;
    }
    let whole = what.any(CDR) && dialog::is_loaded(&kernel) && c.ctx.msg.method() == Method::Invite;
    if whole && c.ctx.route == RouteType::Request {
        dialog::create(c.ctx);
    }
    if acc.takes(c.ctx) {
        Account::of(c.ctx).add(c.ctx, what, table.map(Arc::from));
    }
    TRUE
}

fn drop_accounting(c: &mut Call<'_>) -> Flow {
    let what = match c.has(0) {
        true => match what(c, "drop_accounting", false) {
            Some(what) => Some(what),
            None => return FALSE,
        },
        false => None,
    };
    match Account::find(c.ctx) {
        Some(account) => {
            account.remove(what);
            TRUE
        }
        None => FALSE,
    }
}

fn on_the_spot(c: &mut Call<'_>, backend: Backend) -> Flow {
    let kernel = c.ctx.shard.kernel.clone();
    let acc = kernel.state::<Acc>();
    let table = c.text(1);
    if backend == Backend::Db && !is_table(&table) {
        tracing::error!("acc_db_request(): \"{table}\" is no table name");
        return FALSE;
    }
    let (code, reason) = comment(&c.str(0).cloned().unwrap_or_default());
    let to_tag: Bytes = c.ctx.request().map(|r| account::to_tag(r)).unwrap_or_default();
    let account = Account::of(c.ctx);
    let now = kernel.unix();
    let Some(record) = account::record(acc, c.ctx, Why::Asked, code, reason, to_tag, now) else {
        return FALSE;
    };
    let told = What::of(backend, DONE);
    account::tell(acc, c.ctx, told, &record, Some(&table), &account.values.borrow());
    TRUE
}

fn new_leg(c: &mut Call<'_>) -> Flow {
    let kernel = c.ctx.shard.kernel.clone();
    let places = kernel.state::<Acc>().legs.tags.len();
    if places == 0 {
        tracing::error!("acc_new_leg(): leg_fields is not set");
        return FALSE;
    }
    let account = Account::of(c.ctx);
    let legs = &mut account.values.borrow_mut().legs;
    if legs.len() >= MAX_LEGS {
        tracing::error!("acc_new_leg(): a call has no more than {MAX_LEGS} legs");
        return FALSE;
    }
    legs.push(vec![Default::default(); places]);
    TRUE
}
