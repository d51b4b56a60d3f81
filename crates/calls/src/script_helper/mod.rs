//! The usual beginning of a script, ready-made: requests in a dialog are routed and relayed without the request route,
//! first requests are record-routed before it.
//!
//! The steps are written in the routing language itself. Left out: Max-Forwards, which is the script's.

use std::sync::Arc;

use switchroom_kernel::context::Ctx;
use switchroom_kernel::module::{Hook, Module, Param};
use switchroom_kernel::open::Opening;
use switchroom_kernel::run::{ABORTED, run_route};
use switchroom_script::names::RouteType;
use switchroom_script::vm::{How, Outcome};
use switchroom_script::{NoLoader, Program, diag};

use crate::core::entry;

/// The module.
pub static MODULE: Module = Module {
    name: "script_helper",
    summary: "The usual routing of requests in dialogs, ready-made",
    needs: &["rr", "sl", "tm"],
    params: &[
        Param::unset("sequential_route", "Route to run before a request in a dialog is relayed"),
        Param::int("use_dialog", "0", "Make a dialog for each first INVITE (needs the module dialog)"),
        Param::multi("create_dialog_flags", "Flags of create_dialog()"),
    ],
    hooks: &[Hook::Route(begin)],
    open,
    ..Module::EMPTY
};

/// Code of [`BEFORE`]: the request route follows.
const FIRST: i64 = 1;
/// Code of [`BEFORE`]: it is a request in a dialog, routed by its Route headers.
const SEQUENTIAL: i64 = 2;
/// What comes before the request route.
const BEFORE: &str = r#"
route {
    if ($tt == NULL) {
        if ($rm == "CANCEL") {
            if (t_check_trans()) t_relay();
            else sl_send_reply(481, "Call Leg/Transaction Does Not Exist");
            exit;
        }
        if ($rm != "ACK") t_check_trans();
        if ($rm != "REGISTER" && $rm != "MESSAGE" && $rm != "PUBLISH") record_route();
        DIALOG
        return(1);
    }
    if (loose_route()) return(2);
    if ($rm == "ACK") {
        if (t_check_trans()) t_relay();
        exit;
    }
    sl_send_reply(404, "Not Here");
    exit;
}
"#;
/// The end of a request in a dialog.
const AFTER: &str = "route { if (!t_relay()) sl_reply_error(); exit; }";

struct Helper {
    before: Arc<Program>,
    after: Arc<Program>,
    sequential: Option<String>,
}

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let flags = o.all("create_dialog_flags").concat();
    if !flags.bytes().all(|b| b.is_ascii_alphanumeric() || b"-,".contains(&b)) {
        return Err(format!("create_dialog_flags \"{flags}\" are not flags of create_dialog()"));
    }
    let dialog = match (o.on("use_dialog"), flags.is_empty()) {
        (false, _) => String::new(),
        (true, true) => "if ($rm == \"INVITE\") create_dialog();".to_owned(),
        (true, false) => format!("if ($rm == \"INVITE\") create_dialog(\"{flags}\");"),
    };
    if !dialog.is_empty() && !o.kernel.registry.modules.iter().any(|m| m.name == "dialog") {
        return Err("use_dialog is set, but the module dialog is not loaded".into());
    }
    let sequential = o.str("sequential_route").filter(|r| !r.is_empty());
    if let Some(name) = &sequential
        && o.kernel.program.load().find(RouteType::Request, Some(name)).is_none()
    {
        return Err(format!("sequential_route \"{name}\": there is no route[{name}]"));
    }
    let helper = Helper {
        before: program(o, &BEFORE.replace("DIALOG", &dialog))?,
        after: program(o, AFTER)?,
        sequential,
    };
    o.provide(helper);
    Ok(())
}

fn program(o: &Opening<'_>, text: &str) -> Result<Arc<Program>, String> {
    let (ast, found) = switchroom_script::parse("script_helper", text.as_bytes(), &mut NoLoader);
    if found.iter().any(|d| d.is_error()) {
        return Err(diag::render(&found));
    }
    let compiled = switchroom_script::compile(&ast, &o.kernel.registry);
    compiled.map(|(program, _)| Arc::new(program)).map_err(|e| diag::render(&e))
}

/// Does the usual steps before the request route.
fn begin(ctx: Box<Ctx>) {
    let before = ctx.shard.kernel.state::<Helper>().before.clone();
    match before.find(RouteType::Request, None) {
        Some(route) => run_route(ctx, &before, route, begun),
        None => entry::request_route(ctx),
    }
}

fn begun(ctx: Box<Ctx>, outcome: Outcome) {
    match (outcome.how, outcome.code) {
        (How::End, FIRST) => entry::request_route(ctx),
        (How::End, SEQUENTIAL) => sequential(ctx),
        _ => entry::request_done(ctx, outcome),
    }
}

fn sequential(ctx: Box<Ctx>) {
    let shard = ctx.shard.clone();
    let program = shard.kernel.program.load_full();
    let name = shard.kernel.state::<Helper>().sequential.as_deref();
    match name.and_then(|name| program.find(RouteType::Request, Some(name))) {
        Some(route) => run_route(ctx, &program, route, sequential_done),
        None => relay(ctx),
    }
}

/// A route that ends with `exit` has seen to the request itself.
fn sequential_done(ctx: Box<Ctx>, outcome: Outcome) {
    match outcome.how {
        How::End => relay(ctx),
        How::Exit | How::Drop => entry::request_done(ctx, outcome),
    }
}

fn relay(ctx: Box<Ctx>) {
    let after = ctx.shard.kernel.state::<Helper>().after.clone();
    match after.find(RouteType::Request, None) {
        Some(route) => run_route(ctx, &after, route, entry::request_done),
        None => entry::request_done(ctx, ABORTED),
    }
}
