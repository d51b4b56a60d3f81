//! Answers OPTIONS that are meant for this server (RFC 3261 §11).

use switchroom_kernel::context::{Call, FALSE, Flow, TRUE};
use switchroom_kernel::module::{Function, Module, Param};
use switchroom_wire::sip::{Method, Uri};

use crate::signaling;

/// The module.
pub static MODULE: Module = Module {
    name: "options",
    summary: "OPTIONS for the server itself",
    needs: &["signaling"],
    params: &[
        Param::str("accept", "*/*", "Value of Accept"),
        Param::str("accept_encoding", "*", "Value of Accept-Encoding"),
        Param::str("accept_language", "en", "Value of Accept-Language"),
        Param::str("support", "*", "Value of Supported"),
    ],
    functions: &[Function::new("options_reply", &[""], "R", options_reply, "Answer an OPTIONS without user")],
    open: |o| {
        let headers = format!(
            "Accept: {}\r\nAccept-Encoding: {}\r\nAccept-Language: {}\r\nSupported: {}\r\n",
            o.text("accept"),
            o.text("accept_encoding"),
            o.text("accept_language"),
            o.text("support")
        );
        o.provide(Options { headers });
        Ok(())
    },
    ..Module::EMPTY
};

struct Options {
    headers: String,
}

/// True when answered. An OPTIONS with a user, or another method, is not ours to answer.
fn options_reply(c: &mut Call<'_>) -> Flow {
    if c.ctx.msg.method() != Method::Options {
        tracing::error!("options_reply() was called for another method");
        return FALSE;
    }
    let uri = c.ctx.ruri();
    if Uri::parse(&uri).is_ok_and(|u| u.user.is_some_and(|u| !u.is_empty())) {
        tracing::warn!("options_reply(): the Request-URI has a user");
        return FALSE;
    }
    let shard = c.ctx.shard.clone();
    let headers = &shard.kernel.state::<Options>().headers;
    if signaling::reply(c.ctx, 200, b"OK", headers.as_bytes(), None) { TRUE } else { FALSE }
}
