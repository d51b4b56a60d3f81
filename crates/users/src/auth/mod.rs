//! Digest authentication of callers (RFC 3261 §22, RFC 7616, RFC 8760): challenges, nonces, checking of credentials.
//!
//! Where passwords come from is the business of others: script variables here, a table in `auth_db`. Left out:
//! `userhash`, so that a user who hides behind one is unknown.

pub mod api;
mod challenge;
mod nonce;
mod replay;
mod rpid;

use switchroom_kernel::context::{Call, FALSE, Flow, TRUE};
use switchroom_kernel::module::{Function, Module, Param};
use switchroom_kernel::open::Opening;
use switchroom_script::vm::VarAccess;

use api::{Header, Secret};

/// The module.
pub static MODULE: Module = Module {
    name: "auth",
    summary: "Digest authentication: challenges, nonces, checking of credentials",
    needs: &["signaling"],
    params: &[
        Param::unset("secret", "Key of the nonces; random when unset. Servers that share nonces share it"),
        Param::int("nonce_expire", "30", "Seconds a nonce is good for"),
        Param::str("rpid_prefix", "", "Before the URI in Remote-Party-ID"),
        Param::str(
            "rpid_suffix",
            ";party=calling;id-type=subscriber;screen=yes",
            "After the URI in Remote-Party-ID",
        ),
        Param::str("realm_prefix", "", "Taken off a realm that comes from the request"),
        Param::str("rpid_avp", "$avp(rpid)", "Variable with the identity for Remote-Party-ID"),
        Param::unset("username_spec", "Variable with the user name for pv_*_authorize()"),
        Param::unset("password_spec", "Variable with the password or HA1 for pv_*_authorize()"),
        Param::int("calculate_ha1", "0", "1: password_spec holds a password, 0: an HA1"),
        Param::int("disable_nonce_check", "0", "1: the same nonce and count may come again"),
    ],
    functions: &[
        Function::new(
            "www_challenge",
            &["str,[str],[str]"],
            "R",
            challenge::www,
            "Ask for credentials with a 401",
        ),
        Function::new(
            "proxy_challenge",
            &["str,[str],[str]"],
            "R",
            challenge::proxy,
            "Ask for credentials with a 407",
        ),
        Function::new(
            "pv_www_authorize",
            &["str"],
            "R",
            |c| pv(c, Header::Www),
            "Check Authorization against variables",
        ),
        Function::new(
            "pv_proxy_authorize",
            &["str"],
            "R",
            |c| pv(c, Header::Proxy),
            "Check Proxy-Authorization against variables",
        ),
        Function::new(
            "consume_credentials",
            &[""],
            "R",
            consume,
            "Take the checked credentials out of the request",
        ),
        Function::new(
            "is_rpid_user_e164",
            &[""],
            "R",
            rpid::is_e164,
            "Test the Remote-Party-ID for an E.164 number",
        ),
        Function::new("append_rpid_hf", &["[str],[str]"], "RFB", rpid::append, "Add Remote-Party-ID"),
    ],
    open,
    ..Module::EMPTY
};

/// State of the module.
pub(crate) struct Auth {
    nonces: nonce::Nonces,
    /// `None` when a nonce may be used again.
    used: Option<replay::Used>,
    realm_prefix: String,
    rpid_prefix: String,
    rpid_suffix: String,
    rpid: Option<VarAccess>,
    username: Option<VarAccess>,
    password: Option<VarAccess>,
    calculate_ha1: bool,
}

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let expire = o.int("nonce_expire");
    if !(1..=86_400).contains(&expire) {
        return Err(format!("nonce_expire is {expire}; it must be from 1 to 86400 seconds"));
    }
    let expire = expire as u32;
    let auth = Auth {
        nonces: nonce::Nonces::new(o.str("secret").filter(|s| !s.is_empty()).as_deref(), expire),
        used: (!o.on("disable_nonce_check")).then(|| replay::Used::new(expire)),
        realm_prefix: o.text("realm_prefix"),
        rpid_prefix: o.text("rpid_prefix"),
        rpid_suffix: o.text("rpid_suffix"),
        rpid: o.variable("rpid_avp")?,
        username: o.variable("username_spec")?,
        password: o.variable("password_spec")?,
        calculate_ha1: o.on("calculate_ha1"),
    };
    o.provide(auth);
    Ok(())
}

/// `pv_www_authorize(realm)`, `pv_proxy_authorize(realm)`
fn pv(c: &mut Call<'_>, header: Header) -> Flow {
    let realm = c.str(0).cloned().unwrap_or_default();
    let asked = match api::presented(c.ctx, &realm, header) {
        Ok(asked) => asked,
        Err(code) => return Flow::Value(code),
    };
    let shard = c.ctx.shard.clone();
    let auth = shard.kernel.state::<Auth>();
    let (Some(username), Some(password)) = (&auth.username, &auth.password) else {
        tracing::error!("pv_*_authorize() needs the parameters username_spec and password_spec of auth");
        return Flow::Value(api::GENERIC);
    };
    let user = c.ctx.get_var(username).to_bytes();
    let known = user.is_some_and(|u| u == asked.user || u == asked.full_user);
    let secret = c.ctx.get_var(password).to_bytes().filter(|_| known);
    let secret = secret.map(|s| if auth.calculate_ha1 { Secret::Password(s) } else { Secret::Ha1(s) });
    Flow::Value(api::decide(c.ctx, &asked, secret.as_ref()))
}

/// `consume_credentials()`
fn consume(c: &mut Call<'_>) -> Flow {
    let Some(index) = c.ctx.note::<api::Outcome>().and_then(|o| o.authorized) else { return FALSE };
    let msg = c.ctx.msg.clone();
    c.ctx.edits.remove_header(&msg, index);
    TRUE
}
