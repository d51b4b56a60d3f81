//! `uac_auth()`: the answer to a 401 or 407, put into the request before it is sent again.

use bytes::Bytes;
use switchroom_kernel::context::{Call, FALSE, Flow, TRUE};
use switchroom_wire::sip::HeaderId;
use switchroom_wire::sip::digest::Challenge;

use crate::uac_auth;

/// Realms that were answered for this request, so that a wrong password does not go round for ever.
#[derive(Default)]
struct Answered(Vec<Bytes>);

/// `uac_auth([algorithms])`: true when a challenge was answered; the script sends the request on.
pub(super) fn uac_auth(c: &mut Call<'_>) -> Flow {
    let wanted = c.text(0).to_ascii_lowercase();
    let ctx = &mut *c.ctx;
    let Some(reply) = ctx.reply().cloned() else { return FALSE };
    let (challenge_id, name): (_, &[u8]) = match reply.status() {
        401 => (HeaderId::WwwAuthenticate, b"Authorization: "),
        407 => (HeaderId::ProxyAuthenticate, b"Proxy-Authorization: "),
        _ => return FALSE,
    };
    let uri = ctx.ruri();
    for header in reply.headers_of(challenge_id) {
        let value = header.unfolded();
        let Ok(challenge) = Challenge::parse(&value) else { continue };
        let algorithm = challenge.algorithm.name().to_ascii_lowercase();
        if !wanted.is_empty() && !wanted.split(',').any(|w| w.trim() == algorithm) {
            continue;
        }
        let again = ctx.note_mut::<Answered>().0.iter().any(|r| r[..] == challenge.realm[..]);
        if again && !challenge.stale {
            tracing::info!("uac_auth(): the credentials for a realm were refused");
            return FALSE;
        }
        let Some(answer) = uac_auth::answer(ctx, &challenge, &uri) else { continue };
        ctx.note_mut::<Answered>().0.push(Bytes::copy_from_slice(&challenge.realm));
        ctx.edits.append_header([name, &answer[..], b"\r\n"].concat().into());
        return TRUE;
    }
    tracing::info!("uac_auth(): there are no credentials for this challenge");
    FALSE
}
