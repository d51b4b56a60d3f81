//! Remote-Party-ID: the identity that authentication found, for the parties behind us.

use bytes::Bytes;
use switchroom_calls::sipmsgops;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE};
use switchroom_wire::sip::{NameAddr, Uri};

use super::Auth;

fn identity(ctx: &mut Ctx) -> Option<Bytes> {
    let shard = ctx.shard.clone();
    let var = shard.kernel.state::<Auth>().rpid.as_ref()?;
    ctx.get_var(var).to_bytes().filter(|v| !v.is_empty())
}

/// `is_rpid_user_e164()`
pub(super) fn is_e164(c: &mut Call<'_>) -> Flow {
    let Some(rpid) = identity(c.ctx) else { return FALSE };
    if has_e164_user(&rpid) { TRUE } else { FALSE }
}

fn has_e164_user(rpid: &[u8]) -> bool {
    let Ok(address) = NameAddr::parse(rpid) else { return false };
    Uri::parse(address.uri).is_ok_and(|u| u.user.is_some_and(sipmsgops::is_e164))
}

/// `append_rpid_hf([prefix, suffix])`
pub(super) fn append(c: &mut Call<'_>) -> Flow {
    let Some(rpid) = identity(c.ctx) else { return FALSE };
    let shard = c.ctx.shard.clone();
    let auth = shard.kernel.state::<Auth>();
    let prefix = c.str(0).map_or(auth.rpid_prefix.as_bytes(), |p| p);
    let suffix = c.str(1).map_or(auth.rpid_suffix.as_bytes(), |s| s);
    let line = [b"Remote-Party-ID: ", prefix, &rpid, suffix, b"\r\n"].concat();
    c.ctx.edits.append_header(line.into());
    TRUE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_of_the_identity_is_looked_at() {
        assert!(has_e164_user(b"\"A\" <sip:+4312345@h>"));
        assert!(has_e164_user(b"sip:+4312345@h"));
        assert!(!has_e164_user(b"<sip:al@h>"));
        assert!(!has_e164_user(b"+4312345"));
    }
}
