//! Credentials for challenges that other servers send us, and the answers computed from them (RFC 8760, RFC 3261 §22).

use bytes::Bytes;
use switchroom_kernel::context::Ctx;
use switchroom_kernel::module::{Module, Param};
use switchroom_script::vm::VarAccess;
use switchroom_wire::sip::digest::{Challenge, Client, ha1};

use crate::core::body;
use crate::core::state::{Core, push_hex};

/// The module.
pub static MODULE: Module = Module {
    name: "uac_auth",
    summary: "Credentials for challenges of other servers",
    params: &[
        Param::multi("credential", "\"user:realm:password\""),
        Param::unset("auth_username_avp", "AVP with the user"),
        Param::unset("auth_realm_avp", "AVP with the realm"),
        Param::unset("auth_password_avp", "AVP with the password"),
    ],
    open: |o| {
        let mut list = Vec::new();
        for text in o.all("credential") {
            let mut parts = text.splitn(3, ':');
            match (parts.next(), parts.next(), parts.next()) {
                (Some(user), Some(realm), Some(password)) if !user.is_empty() => {
                    list.push(Credential::new(user, realm, password));
                }
                _ => return Err("a `credential` is written \"user:realm:password\"".into()),
            }
        }
        let names = ["auth_realm_avp", "auth_username_avp", "auth_password_avp"];
        let avps = match (o.variable(names[0])?, o.variable(names[1])?, o.variable(names[2])?) {
            (Some(realm), Some(user), Some(password)) => Some([realm, user, password]),
            (None, None, None) => None,
            _ => return Err(format!("{} must be set together", names.join(", "))),
        };
        o.provide(UacAuth { list, avps });
        Ok(())
    },
    ..Module::EMPTY
};

struct UacAuth {
    list: Vec<Credential>,
    /// Realm, user, password.
    avps: Option<[VarAccess; 3]>,
}

#[derive(Clone)]
struct Credential {
    user: Bytes,
    realm: Bytes,
    password: Bytes,
}

impl Credential {
    fn new(user: &str, realm: &str, password: &str) -> Credential {
        let copy = |t: &str| Bytes::copy_from_slice(t.as_bytes());
        Credential { user: copy(user), realm: copy(realm), password: copy(password) }
    }
}

/// The value of the header that answers a challenge to the request in `ctx`, whose Request-URI is `uri`. `None` when there
/// are no credentials for its realm.
pub fn answer(ctx: &mut Ctx, challenge: &Challenge<'_>, uri: &[u8]) -> Option<Vec<u8>> {
    let credential = find(ctx, &challenge.realm)?;
    let request = ctx.request()?.clone();
    let secret = ha1(challenge.algorithm, &credential.user, &credential.realm, &credential.password);
    let mut cnonce = Vec::with_capacity(16);
    push_hex(ctx.shard.kernel.state::<Core>().digest(&[&challenge.nonce, request.call_id()]), &mut cnonce);
    let body = body::current(ctx).bytes;
    let client = Client {
        username: &credential.user,
        ha1: secret.as_bytes(),
        cnonce: &cnonce,
        nonce_count: 1,
        method: request.method_name(),
        uri,
        body: &body,
    };
    let mut out = Vec::with_capacity(256);
    challenge.answer(&client, &mut out);
    Some(out)
}

/// Those of the AVPs first.
fn find(ctx: &mut Ctx, realm: &[u8]) -> Option<Credential> {
    let shard = ctx.shard.clone();
    let known = shard.kernel.find::<UacAuth>()?;
    if let Some(avps) = &known.avps {
        let [own, user, password] = avps.each_ref().map(|avp| ctx.get_var(avp).to_bytes());
        if let (Some(own), Some(user), Some(password)) = (own, user, password)
            && own == realm
        {
            return Some(Credential { user, realm: own, password });
        }
    }
    known.list.iter().find(|c| c.realm == realm).cloned()
}
