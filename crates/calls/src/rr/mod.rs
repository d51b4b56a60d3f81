//! Record-Route and loose routing (RFC 3261 §16.4, §16.6 step 4, §16.12), with two entries where a request changes
//! transport or address on its way through (RFC 5658).

mod insert;
mod route;

pub use insert::add_param;

use bytes::Bytes;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE};
use switchroom_kernel::module::{Function, Module, Param, Variable};
use switchroom_script::Value;
use switchroom_script::vm::VarAccess;
use switchroom_wire::sip::Params;

/// The module.
pub static MODULE: Module = Module {
    name: "rr",
    summary: "Record-Route and loose routing",
    params: &[
        Param::int(
            "append_fromtag",
            "1",
            "Note the From tag, so that the direction of later requests is known",
        ),
        Param::int("enable_double_rr", "1", "Two entries where the transport or address changes"),
        Param::unset("ignore_user", "Route entries with this user are passed over"),
        Param::int("add_username", "0", "Note the user of the Request-URI"),
        Param::int("enable_socket_mismatch_warning", "1", "Log when a preset socket is not the one used"),
    ],
    functions: &[
        Function::new("loose_route", &[""], "R", route::loose_route, "Route by the Route headers"),
        Function::new(
            "record_route",
            &["[str]"],
            "RFB",
            insert::record_route,
            "Stay in the way of the dialog",
        ),
        Function::new(
            "record_route_preset",
            &["str,[str]"],
            "RFB",
            insert::record_route_preset,
            "Stay in the way under a given address",
        ),
        Function::new(
            "add_rr_param",
            &["str"],
            "RFB",
            insert::add_rr_param,
            "Add a parameter to our Record-Route",
        ),
        Function::new(
            "check_route_param",
            &["regex"],
            "R",
            check_route_param,
            "Test the parameters of our Route",
        ),
        Function::new(
            "is_direction",
            &["str"],
            "R",
            is_direction,
            "Test which side sent an in-dialog request",
        ),
    ],
    variables: &[Variable::ro("rr_params", rr_params, "Parameters of our Route entry")],
    open: |o| {
        let rr = Rr {
            append_fromtag: o.on("append_fromtag"),
            double: o.on("enable_double_rr"),
            ignore_user: o.str("ignore_user").filter(|u| !u.is_empty()),
            add_username: o.on("add_username"),
        };
        o.provide(rr);
        Ok(())
    },
    ..Module::EMPTY
};

/// Settings.
struct Rr {
    append_fromtag: bool,
    double: bool,
    ignore_user: Option<String>,
    add_username: bool,
}

/// Parameters of our Route entry, left by `loose_route()`: `;lr;ftag=...`.
#[derive(Default)]
struct RouteParams(Bytes);

/// Parameters of our own Route entry, once `loose_route()` took it off. For other modules too.
pub fn route_param(ctx: &Ctx, name: &str) -> Option<Bytes> {
    let params = &ctx.note::<RouteParams>()?.0;
    Params::new(params).value(name).map(Bytes::copy_from_slice)
}

fn rr_params(ctx: &mut Ctx, _: &VarAccess) -> Value {
    match ctx.note::<RouteParams>() {
        Some(p) if !p.0.is_empty() => Value::Str(p.0.clone()),
        _ => Value::Null,
    }
}

fn check_route_param(c: &mut Call<'_>) -> Flow {
    let (Some(regex), Some(params)) = (c.args.regex(0), c.ctx.note::<RouteParams>()) else { return FALSE };
    if regex.is_match(&params.0) { TRUE } else { FALSE }
}

/// Which side sent this in-dialog request: the one that sent the first request has the From tag we noted.
pub fn is_downstream(ctx: &Ctx) -> Option<bool> {
    let noted = route_param(ctx, "ftag")?;
    let from = ctx.request()?.clone();
    let tag = from.from().ok()?.tag()?;
    Some(tag == &noted[..])
}

fn is_direction(c: &mut Call<'_>) -> Flow {
    // Without the note the request is taken for one from the caller, as most are.
    let downstream = is_downstream(c.ctx).unwrap_or(true);
    let wanted = match c.text(0).to_ascii_lowercase().as_str() {
        "downstream" => true,
        "upstream" => false,
        other => {
            tracing::error!("is_direction(): \"{other}\" is neither downstream nor upstream");
            return FALSE;
        }
    };
    if downstream == wanted { TRUE } else { FALSE }
}
