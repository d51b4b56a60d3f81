//! The registrar (RFC 3261 §10.3, RFC 3327): REGISTER into the location, and the location into destinations.

mod answer;
pub mod api;
mod flags;
mod gruu;
mod lookup;
mod pn;
mod query;
mod save;
mod wake;

use std::sync::Arc;
use std::time::Duration;

use switchroom_calls::core::state::Core;
use switchroom_kernel::Kernel;
use switchroom_kernel::context::Ctx;
use switchroom_kernel::module::{EventDecl, Function, Module, Param, Statistic};
use switchroom_kernel::names::FlagKind;
use switchroom_kernel::open::Opening;
use switchroom_kernel::stats::StatId;
use switchroom_script::vm::VarAccess;
use switchroom_wire::sip::Uri;

use crate::usrloc::Location;
use gruu::Gruu;

/// The module.
pub static MODULE: Module = Module {
    name: "registrar",
    summary: "REGISTER processing and lookup of registered users",
    needs: &["usrloc", "signaling"],
    params: &[
        Param::int("default_expires", "3600", "Seconds when the phone names none"),
        Param::int("default_q", "0", "Quality when the phone names none, in thousandths"),
        Param::int("case_sensitive", "1", "User names differ by case"),
        Param::unset(
            "tcp_persistent_flag",
            "Message flag that keeps the connection for the time of the binding",
        ),
        Param::str("realm_prefix", "", "Taken off the domain of the address of record"),
        Param::int("min_expires", "60", "Shorter bindings are made so long"),
        Param::int("max_expires", "0", "Longer bindings are cut; 0 for no limit"),
        Param::str(
            "received_param",
            "received",
            "Contact parameter that shows the source address in replies",
        ),
        Param::unset("received_avp", "AVP that holds the source address of phones behind NAT"),
        Param::int("retry_after", "0", "Seconds in Retry-After when a binding is refused; 0 for none"),
        Param::unset("sock_hdr_name", "Header that names the receiving socket"),
        Param::unset(
            "mcontact_avp",
            "AVP that holds the Contact that a relayed REGISTER left with, for save() in a reply route",
        ),
        Param::unset("attr_avp", "AVP that holds the free attribute of a contact"),
        Param::unset(
            "gruu_secret",
            "Secret that temporary GRUUs are made with; without it they end with the server",
        ),
        Param::int("disable_gruu", "1", "No GRUU (RFC 5627)"),
        Param::int("max_contacts", "0", "Contacts per address of record; 0 for no limit"),
        Param::int("max_username_len", "64", "Longest user part"),
        Param::int("max_domain_len", "64", "Longest domain"),
        Param::int("max_aor_len", "256", "Longest address of record"),
        Param::int("max_contact_len", "255", "Longest Contact URI"),
        Param::int("allow_dup_cseq", "1", "Take an equal CSeq of the same Call-ID"),
        Param::int("expires_max_deviation", "0", "Spread expiry by so many seconds"),
        Param::int("pn_enable", "0", "Push notifications (RFC 8599)"),
        Param::unset(
            "pn_providers",
            "Known push services, such as \"apns, fcm, webpush\"; any for every one",
        ),
        Param::str(
            "pn_ct_match_params",
            "pn-provider, pn-prid, pn-param",
            "Contact parameters that name a device",
        ),
        Param::int(
            "pn_pnsreg_interval",
            "130",
            "Seconds before its end at which a phone that runs refreshes its binding",
        ),
        Param::int(
            "pn_trigger_interval",
            "120",
            "Seconds before its end at which a binding is refreshed by push",
        ),
        Param::int(
            "pn_skip_pn_interval",
            "0",
            "Bindings not older than so many seconds are called without a push",
        ),
        Param::int("pn_refresh_timeout", "6", "Seconds a request waits for a phone that was woken"),
        Param::int("pn_enable_purr", "0", "Requests inside dialogs wake phones as well"),
    ],
    functions: &[
        Function::new("save", &["str!,[str],[str],[str]"], "RO", save::save, "Process a REGISTER")
            .prepared(prepare_table),
        Function::new(
            "lookup",
            &["str!,[str],[str]"],
            "RFO",
            lookup::lookup,
            "Set destinations from the location",
        )
        .prepared(prepare_table),
        Function::new(
            "remove",
            &["str!,str,[str],[str],[str],[str]"],
            "RO",
            query::remove,
            "Remove contacts",
        )
        .prepared(prepare_table),
        Function::new(
            "remove_ip_port",
            &["str,int,str!,[str]"],
            "*",
            query::remove_ip_port,
            "Remove by address",
        ),
        Function::new(
            "add_sock_hdr",
            &["str"],
            "RFOBL",
            query::add_sock_hdr,
            "Name the receiving socket in a header",
        ),
        Function::new(
            "is_registered",
            &["str!,[str]"],
            "RFOBL",
            query::is_registered,
            "Test for any contact",
        )
        .prepared(prepare_table)
        .formerly(&["registered"]),
        Function::new(
            "is_contact_registered",
            &["str!,[str],[str],[str]"],
            "RFOBL",
            query::is_contact_registered,
            "Test for one contact",
        )
        .prepared(prepare_table),
        Function::new(
            "is_ip_registered",
            &["str!,[str],var,[var]"],
            "RFOBL",
            query::is_ip_registered,
            "Test for an address",
        )
        .prepared(prepare_table),
        Function::new(
            "pn_process_purr",
            &["str!"],
            "R",
            wake::process_purr,
            "Wake the phone that a request inside a dialog is for",
        )
        .prepared(prepare_table)
        .asynchronous(),
    ],
    statistics: &[
        Statistic::gauge("max_expires", "Value of the parameter"),
        Statistic::gauge("max_contacts", "Value of the parameter"),
        Statistic::gauge("default_expire", "Value of the parameter"),
        Statistic::counter("accepted_regs", "REGISTERs accepted"),
        Statistic::counter("rejected_regs", "REGISTERs refused"),
        Statistic::counter("pn_asked", "Phones that requests waited for after a push"),
        Statistic::counter("pn_woken", "Phones that registered in time after a push"),
        Statistic::counter("pn_asleep", "Phones that did not"),
        Statistic::counter("pn_refused", "Waits for phones refused because there were too many"),
    ],
    events: &[EventDecl {
        name: "E_PN_OVER",
        attrs: &["domain", "aor", "uri", "req_callid", "reason"],
        help: "The wait for a phone that was asked for by push is over without it: answered, failed, cancelled or timeout",
    }],
    live: Some(live),
    open,
    ..Module::EMPTY
};

/// Settings, as the parameters give them.
///
/// More than 15 fields: one per parameter.
pub(crate) struct Registrar {
    default_expires: u64,
    default_q: i16,
    case_sensitive: bool,
    realm_prefix: String,
    min_expires: u64,
    max_expires: u64,
    received_param: String,
    received_avp: Option<VarAccess>,
    attr_avp: Option<VarAccess>,
    /// AVP with the Contact that a relayed REGISTER left with.
    mcontact_avp: Option<VarAccess>,
    /// Bit of `tcp_persistent_flag`, 0 without one.
    tcp_flag: u32,
    retry_after: i64,
    sock_hdr_name: Option<String>,
    max_contacts: usize,
    max_username_len: usize,
    max_domain_len: usize,
    max_aor_len: usize,
    max_contact_len: usize,
    allow_dup_cseq: bool,
    max_deviation: u64,
    accepted: StatId,
    rejected: StatId,
    push: Option<pn::Push>,
    /// `None` with `disable_gruu`.
    gruu: Option<Gruu>,
    /// What `lookup()` filtered by.
    expressions: lookup::Expressions,
}

fn live(kernel: &Arc<Kernel>) {
    if kernel.state::<Registrar>().push.is_none() {
        return;
    }
    for name in ["E_UL_CONTACT_INSERT", "E_UL_CONTACT_UPDATE"] {
        let event = kernel.events.publish(name, &[]);
        kernel.events.subscribe(event, Arc::new(wake::Ear(Arc::downgrade(kernel))));
    }
    kernel.every(Duration::from_millis(50), |kernel| async move {
        let now = kernel.drivers.clock.now();
        kernel.state::<wake::Waiting>().expire(&kernel, now);
    });
}

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let r = Registrar {
        default_expires: o.int("default_expires").max(0) as u64,
        default_q: o.int("default_q").clamp(-1, 1000) as i16,
        case_sensitive: o.on("case_sensitive"),
        realm_prefix: o.text("realm_prefix"),
        min_expires: o.int("min_expires").max(0) as u64,
        max_expires: o.int("max_expires").max(0) as u64,
        received_param: o.text("received_param"),
        received_avp: o.variable("received_avp")?,
        attr_avp: o.variable("attr_avp")?,
        mcontact_avp: o.variable("mcontact_avp")?,
        tcp_flag: match o.str("tcp_persistent_flag").filter(|f| !f.is_empty()) {
            Some(name) => 1 << o.kernel.registry.names.flag(FlagKind::Message, &name)?,
            None => 0,
        },
        retry_after: o.int("retry_after"),
        sock_hdr_name: o.str("sock_hdr_name").filter(|n| !n.is_empty()),
        max_contacts: o.int("max_contacts").max(0) as usize,
        max_username_len: o.int("max_username_len").max(1) as usize,
        max_domain_len: o.int("max_domain_len").max(1) as usize,
        max_aor_len: o.int("max_aor_len").max(1) as usize,
        max_contact_len: o.int("max_contact_len").clamp(1, 8000) as usize,
        allow_dup_cseq: o.on("allow_dup_cseq"),
        max_deviation: o.int("expires_max_deviation").max(0) as u64,
        accepted: o.stat("accepted_regs")?,
        rejected: o.stat("rejected_regs")?,
        push: pn::Push::open(o)?,
        gruu: gruu(o)?,
        expressions: Default::default(),
    };
    let counters = wake::Counters {
        asked: o.stat("pn_asked")?,
        woken: o.stat("pn_woken")?,
        asleep: o.stat("pn_asleep")?,
        refused: o.stat("pn_refused")?,
    };
    let over = o.kernel.events.publish("E_PN_OVER", &[]);
    o.provide(wake::Waiting::new(over, counters));
    let waiting = o.kernel.share::<wake::Waiting>().ok_or("the waiting were not kept")?;
    let help = "Requests that wait for a phone woken by push";
    o.kernel.stats.computed("registrar", "pn_waiting", help, move || waiting.len() as i64);
    for (name, value) in [
        ("max_expires", r.max_expires),
        ("max_contacts", r.max_contacts as u64),
        ("default_expire", r.default_expires),
    ] {
        let value = value as i64;
        o.kernel.stats.computed("registrar", name, "Value of the parameter", move || value);
    }
    o.provide(r);
    // The tables that the script names exist from the start, so that their rows are loaded.
    let location = o.kernel.share::<Location>().ok_or("usrloc is not loaded")?;
    for function in [
        "save",
        "lookup",
        "remove",
        "is_registered",
        "is_contact_registered",
        "is_ip_registered",
        "pn_process_purr",
    ] {
        for name in o.kernel.registry.static_args(function, 0) {
            crate::usrloc::api::table(&location, &String::from_utf8_lossy(&name));
        }
    }
    Ok(())
}

/// The keys of temporary GRUUs: from `gruu_secret`, else new ones of this run.
fn gruu(o: &Opening<'_>) -> Result<Option<Gruu>, String> {
    if o.on("disable_gruu") {
        return Ok(None);
    }
    if let Some(secret) = o.str("gruu_secret").filter(|s| !s.is_empty()) {
        return Ok(Some(Gruu::new(secret.as_bytes())));
    }
    tracing::warn!("registrar: without gruu_secret, temporary GRUUs end with this run of the server");
    let core = o.kernel.share::<Core>().ok_or("core is not loaded")?;
    let secret: Vec<u8> = (0u8..4).flat_map(|i| core.digest(&[&b"gruu"[..], &[i]]).to_be_bytes()).collect();
    Ok(Some(Gruu::new(&secret)))
}

/// The name of a table must be a plain word.
fn prepare_table(
    args: &[switchroom_script::names::StaticArg],
) -> Result<Option<switchroom_kernel::module::Prepared>, String> {
    match switchroom_calls::core::functions::static_str(args.first()) {
        Some(name) if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') => {
            Ok(None)
        }
        Some(name) => {
            Err(format!("\"{name}\" is no name of a location table; the usual one is \"location\""))
        }
        None => Err("the location table must be given as a plain string".into()),
    }
}

/// The address of record of a URI as the location keys it: `user@domain`, or `user` without `use_domain`.
pub(crate) fn aor(ctx: &Ctx, uri: &[u8]) -> Result<Vec<u8>, &'static str> {
    let r = ctx.shard.kernel.state::<Registrar>();
    let u = Uri::parse(uri).map_err(|_| "the URI cannot be read")?;
    let user = switchroom_wire::sip::scan::percent_decode(u.user.unwrap_or_default());
    let host = u.host_bare();
    let host = host.strip_prefix(r.realm_prefix.as_bytes()).unwrap_or(host);
    let mut out = Vec::with_capacity(user.len() + host.len() + 1);
    if user.len() > r.max_username_len {
        return Err("the user part is too long");
    }
    if host.len() > r.max_domain_len {
        return Err("the domain is too long");
    }
    out.extend_from_slice(&user);
    if !r.case_sensitive {
        out.make_ascii_lowercase();
    }
    if ctx.shard.kernel.state::<Location>().use_domain {
        out.push(b'@');
        out.extend(host.iter().map(u8::to_ascii_lowercase));
    } else if user.is_empty() {
        out.extend(host.iter().map(u8::to_ascii_lowercase));
    }
    if out.len() > r.max_aor_len {
        return Err("the address of record is too long");
    }
    Ok(out)
}
