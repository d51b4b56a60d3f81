//! `sms_submit()` and what it leaves behind in `$sms(...)`.

use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE, wait};
use switchroom_kernel::names::Names;
use switchroom_script::Value;
use switchroom_script::vm::VarAccess;

use super::State;
use super::text::{Refused, Wish, send};
use crate::proto_smpp::functions::{content, from_user, ruri_user};

/// What the last call of this message left.
#[derive(Clone, Debug, Default)]
struct Left {
    ids: Vec<String>,
    status: Option<u32>,
    error: String,
}

/// `sms_submit(account[, from][, to][, body][, utf16][, receipt])`: the message in the name of an account; completes when
/// it is durable.
pub(super) fn sms_submit(c: &mut Call<'_>) -> Flow {
    let kernel = c.ctx.shard.kernel.clone();
    let centre = kernel.state::<State>().centre.clone();
    let refuse = |ctx: &mut Ctx, error: String| {
        tracing::error!("sms_submit(): {error}");
        *ctx.note_mut::<Left>() = Left { error, ..Left::default() };
        FALSE
    };
    let name = c.text(0);
    let Some(customer) = centre.customer(&name) else {
        return refuse(c.ctx, format!("there is no account \"{name}\""));
    };
    let user = |given: Option<&bytes::Bytes>, own: fn(&Ctx) -> Option<Vec<u8>>, ctx: &Ctx| {
        let found = given.map(|b| b.to_vec()).or_else(|| own(ctx))?;
        String::from_utf8(found).ok().filter(|t| !t.is_empty())
    };
    let (from, to) = (user(c.str(1), from_user, c.ctx), user(c.str(2), ruri_user, c.ctx));
    let Some(to) = to else {
        return refuse(c.ctx, "the Request-URI has no user; give the recipient as third argument".into());
    };
    let (text, ucs2) = match content(c) {
        Ok(content) => content,
        Err(why) => return refuse(c.ctx, why),
    };
    let receipts = u8::from(c.int(5).unwrap_or(0) > 0);
    let wish = Wish { from: from.unwrap_or_default(), text, ucs2, receipts, ..Wish::default() };
    let sent = async move { send(&centre, &customer, &to, &wish).await };
    wait(Box::pin(sent), |ctx, sent| {
        let left = ctx.note_mut::<Left>();
        match sent {
            Ok(ids) => {
                let ids = ids.iter().map(u64::to_string).collect();
                *left = Left { ids, status: Some(0), error: String::new() };
                TRUE
            }
            Err(why) => {
                let status = match why {
                    Refused::Status(status) => Some(status.0),
                    Refused::Text(_) => None,
                };
                *left = Left { ids: Vec::new(), status, error: why.to_string() };
                FALSE
            }
        }
    })
}

/// Inner names of `$sms(...)`.
const FIELDS: [&str; 4] = ["id", "ids", "status", "error"];

/// Binds an inner name.
pub(super) fn bind_field(_: &Names, name: &str) -> Result<u32, String> {
    match FIELDS.iter().position(|f| *f == name) {
        Some(at) => Ok(at as u32),
        None => Err(format!("$sms has no `{name}`; there are: {}", FIELDS.join(", "))),
    }
}

/// `$sms(id)`, `$sms(ids)`, `$sms(status)`, `$sms(error)`
pub(super) fn field(ctx: &mut Ctx, var: &VarAccess) -> Value {
    let Some(left) = ctx.note::<Left>() else { return Value::Null };
    let text = |t: &str| if t.is_empty() { Value::Null } else { Value::str(t.to_owned()) };
    match var.key {
        Some(0) => left.ids.first().map_or(Value::Null, |id| text(id)),
        Some(1) => text(&left.ids.join(",")),
        Some(2) => left.status.map_or(Value::Null, |s| Value::Int(i64::from(s))),
        _ => text(&left.error),
    }
}
