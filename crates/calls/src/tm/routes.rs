//! Arming routes: `t_on_failure()`, `t_on_reply()`, `t_on_branch()`.

use std::rc::Rc;

use bytes::Bytes;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, Received, TRUE};
use switchroom_kernel::open::Opening;
use switchroom_kernel::run::run_route;
use switchroom_kernel::shard::Shard;
use switchroom_script::names::RouteType;
use switchroom_wire::sip::Message;

use super::state::{Armed, Transactions, id};

/// What a request arms before its transaction is made, and what is to go with all of its requests.
#[derive(Default)]
pub(super) struct Arming {
    pub failure: Option<Armed>,
    pub reply: Option<Armed>,
    pub branch: Option<Armed>,
    /// Headers of `t_add_hdrs()`.
    pub headers: Bytes,
}

/// Every route that the script arms by a plain name must exist.
pub(super) fn check(o: &Opening<'_>) -> Result<(), String> {
    let program = o.kernel.program.load();
    let pairs = [
        ("t_on_failure", RouteType::Failure),
        ("t_on_reply", RouteType::Onreply),
        ("t_on_branch", RouteType::Branch),
    ];
    for (function, kind) in pairs {
        for name in o.kernel.registry.static_args(function, 0) {
            let name = String::from_utf8_lossy(&name);
            if !name.is_empty() && program.find(kind, Some(&name)).is_none() {
                return Err(format!("{function}(\"{name}\"): there is no {}[{name}]", kind.keyword()));
            }
        }
    }
    Ok(())
}

fn find(ctx: &Ctx, kind: RouteType, name: &str) -> Option<Option<Armed>> {
    if name.is_empty() || name == "0" {
        return Some(None);
    }
    let program = ctx.shard.kernel.program.load_full();
    match program.find(kind, Some(name)) {
        Some(route) => Some(Some(Armed { program, route })),
        None => {
            tracing::error!("there is no {}[{name}]", kind.keyword());
            None
        }
    }
}

/// Arm on the transaction when there is one, and for the one to come.
fn arm(c: &mut Call<'_>, kind: RouteType) -> Flow {
    let name = c.text(0);
    let ctx = &mut *c.ctx;
    let Some(armed) = find(ctx, kind, &name) else { return FALSE };
    if kind == RouteType::Onreply && ctx.route == RouteType::Branch {
        ctx.note_mut::<BranchArming>().0 = armed;
        return TRUE;
    }
    if let Some(tx) = ctx.tx {
        let shard = ctx.shard.clone();
        let done = shard.part::<Transactions>().with(id(tx), |tx| match kind {
            RouteType::Failure => tx.on_failure = armed,
            RouteType::Branch => tx.on_branch = armed,
            _ => tx.on_reply = armed,
        });
        return if done.is_some() { TRUE } else { FALSE };
    }
    let note = ctx.note_mut::<Arming>();
    match kind {
        RouteType::Failure => note.failure = armed,
        RouteType::Branch => note.branch = armed,
        _ => note.reply = armed,
    }
    TRUE
}

/// onreply_route armed inside a branch_route, for that branch only.
#[derive(Default)]
pub(super) struct BranchArming(pub Option<Armed>);

pub(super) fn on_failure(c: &mut Call<'_>) -> Flow {
    arm(c, RouteType::Failure)
}
pub(super) fn on_reply(c: &mut Call<'_>) -> Flow {
    arm(c, RouteType::Onreply)
}
pub(super) fn on_branch(c: &mut Call<'_>) -> Flow {
    arm(c, RouteType::Branch)
}

/// Show a message of ours, as it leaves, to the route named by `local_reply_route` or `local_request_route`. The route only
/// looks; nothing it does to the message has an effect.
pub(super) fn inspect(shard: &Rc<Shard>, name: Option<&str>, message: &Bytes, received: Received) {
    let Some(name) = name else { return };
    let program = shard.kernel.program.load_full();
    let Some(route) = program.find(RouteType::Request, Some(name)) else { return };
    let Ok(msg) = Message::parse(message.clone()) else { return };
    let kind = if msg.is_request() { RouteType::Local } else { RouteType::Onreply };
    let ctx = Ctx::new(shard.clone(), Rc::new(msg), received, kind);
    run_route(ctx, &program, route, |_, _| {});
}
