//! `sms_submit()`

use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE, wait};

use super::State;
use super::text::{Refused, Wish, send};
use crate::imdn::Cpim;
use crate::proto_smpp::functions::{aor, asked, content, from_user, ruri_user, wrapped};

/// What the last call of this message left.
#[derive(Clone, Debug, Default)]
pub(super) struct Left {
    /// Numbers of the parts.
    pub ids: Vec<String>,
    /// `command_status`
    pub status: Option<u32>,
    /// What went wrong.
    pub error: String,
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
    let wrapped = wrapped(c);
    let cpim = wrapped.as_deref().and_then(Cpim::read);
    let own = aor(c.ctx.msg.from().ok().map(|f| f.uri));
    if let Some(told) = cpim.as_ref().and_then(Cpim::notification) {
        let id = told.message_id.strip_prefix("sms-").and_then(|id| id.parse().ok());
        let known = id.is_some_and(|id| {
            own.as_ref().is_some_and(|(user, _)| centre.notified(user, id, told.delivered))
        });
        if !known {
            tracing::info!(
                "sms_submit(): a notification names no message that waits for it: {}",
                told.message_id
            );
        }
        *c.ctx.note_mut::<Left>() = Left { status: Some(0), ..Left::default() };
        return TRUE;
    }
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
    let (asked, receipts) = match asked(c) {
        Some((asked, receipts)) => (Some(asked), receipts),
        None => (None, u8::from(c.int(5).unwrap_or(0) > 0)),
    };
    let mut wish = Wish { from: from.unwrap_or_default(), text, ucs2, receipts, asked, ..Wish::default() };
    let aliases = centre.base.aliases.clone().filter(|_| c.str(1).is_none());
    let sent = async move {
        if let (Some(aliases), Some((user, domain))) = (aliases, own)
            && let Some(number) = aliases.number_of(&user, &domain).await
        {
            wish.from = number;
        }
        send(&centre, &customer, &to, &wish).await
    };
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
