//! Phones behind NAT: find out that they are, and put the address that works into Contact, SDP and registrations.
//!
//! `guess` tests, `contact` and `sdp` correct, `ping` keeps the bindings of NATs open.

mod contact;
mod guess;
mod ping;
mod sdp;
mod token;

use std::net::IpAddr;

use bytes::Bytes;
use serde_json::json;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE};
use switchroom_kernel::module::{
    Command, CommandCall, CommandError, CommandResult, Function, Hook, Module, Param, Statistic,
};
use switchroom_kernel::open::Opening;
use switchroom_kernel::ports::net::Proto;
use switchroom_script::Value;
use switchroom_script::vm::VarAccess;

use ping::Pings;

/// The module.
pub static MODULE: Module = Module {
    name: "nathelper",
    summary: "Tests and corrections for phones behind NAT",
    params: &[
        Param::int("natping_interval", "0", "Seconds in which each contact is pinged once; 0 for no pings"),
        Param::int("ping_nated_only", "0", "Ping only contacts with usrloc's `nat_bflag`"),
        Param::int(
            "natping_partitions",
            "1",
            "Parts a round of pings is divided into; here pings are always spread evenly over the round",
        ),
        Param::unset("natping_socket", "Socket that datagram pings leave from, as ip:port"),
        Param::int("natping_tcp", "0", "Ping over TCP, TLS and WebSocket as well, by SIP requests"),
        Param::unset("received_avp", "AVP for the source address of registrations"),
        Param::unset("force_socket", "Socket for pings to contacts that came in on no known one"),
        Param::unset("sipping_bflag", "Branch flag of contacts that are pinged by a SIP request"),
        Param::unset("sipping_from", "URI in From of SIP pings; they need it"),
        Param::str("sipping_method", "OPTIONS", "Method of SIP pings"),
        Param::unset("sipping_latency_flag", "Branch flag of contacts whose answers are timed"),
        Param::unset("sipping_ignore_rpl_codes", "Reply codes that are no answer, such as \"408, 480\""),
        Param::unset(
            "remove_on_timeout_bflag",
            "Branch flag of contacts that are removed when they are silent",
        ),
        Param::str("nortpproxy_str", "a=nortpproxy:yes", "SDP line that says the SDP was changed"),
        Param::multi("oldip_skip", "Old addresses not noted: o (origin), c (media)"),
        Param::int("ping_threshold", "3", "Seconds an answer to a SIP ping may take"),
        Param::int("max_pings_lost", "3", "SIP pings in a row without an answer until a contact is removed"),
        Param::int("cluster_id", "0", "Cluster; servers do not share their pings yet"),
        Param::unset("cluster_sharing_tag", "Sharing tag of the node that pings; not used yet"),
    ],
    old_params: &[("natping_processes", ""), ("ping_checker_interval", "")],
    functions: &[
        Function::new(
            "nat_uac_test",
            &["str"],
            "RFOBL",
            nat_uac_test,
            "Test whether the sender seems to be behind NAT",
        ),
        Function::new(
            "fix_nated_contact",
            &["[str],[str]"],
            "RFOBL",
            contact::fix_nated_contact,
            "Put the source address into Contact",
        ),
        Function::new(
            "restore_nated_ruri",
            &[""],
            "RBL",
            contact::restore_nated_ruri,
            "Put the host of the phone itself back into the Request-URI",
        ),
        Function::new(
            "fix_nated_sdp",
            &["str,[str],[str]"],
            "RFOBL",
            sdp::fix_nated_sdp,
            "Put an address into the SDP",
        ),
        Function::new(
            "fix_nated_register",
            &[""],
            "R",
            fix_nated_register,
            "Keep the source address for the registrar",
        ),
        Function::new(
            "add_rcv_param",
            &["[int]"],
            "R",
            contact::add_rcv_param,
            "Note the source address in Contact",
        ),
    ],
    commands: &[Command {
        name: "nathelper:enable_ping",
        old_names: &["nh_enable_ping"],
        args: "[status]",
        help: "Whether contacts are pinged; with 0 or 1, stop or begin to",
        run: |call| Box::pin(enable_ping(call)),
    }],
    statistics: &[
        Statistic::counter("pings_sent", "Pings sent"),
        Statistic::counter("pings_answered", "SIP pings answered"),
        Statistic::counter("pings_skipped", "Pings not sent: no way to the contact, or too much to do"),
        Statistic::counter("contacts_removed", "Contacts removed because they answered no pings"),
    ],
    hooks: &[Hook::Answer(ping::answer)],
    live: Some(ping::start),
    open,
    ..Module::EMPTY
};

async fn enable_ping(call: CommandCall) -> CommandResult {
    let pings = call.kernel.find::<Pings>();
    match (call.int("status")?, pings) {
        (None, pings) => Ok(json!({"Status": i32::from(pings.is_some_and(Pings::is_on))})),
        (Some(status), Some(pings)) => {
            pings.switch(status > 0);
            Ok(json!("OK"))
        }
        (Some(_), None) => Err(CommandError::new(400, "natping_interval is 0, so nothing is pinged")),
    }
}

/// Settings.
struct Nat {
    received_avp: Option<VarAccess>,
    /// Line without its end; empty for none.
    marker: Bytes,
    skip_old_origin: bool,
    skip_old_media: bool,
}

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    if let Some(pings) = Pings::open(o)? {
        o.provide(pings);
    }
    let skip = o.all("oldip_skip").concat();
    let nat = Nat {
        received_avp: o.variable("received_avp")?,
        marker: o.text("nortpproxy_str").trim().to_owned().into(),
        skip_old_origin: skip.contains('o'),
        skip_old_media: skip.contains('c'),
    };
    if nat.received_avp.is_none() && o.kernel.registry.is_called("fix_nated_register") {
        return Err("fix_nated_register() needs the parameter `received_avp`".into());
    }
    o.provide(nat);
    Ok(())
}

/// `nat_uac_test("name,name")`, or the bit mask of older scripts.
fn nat_uac_test(c: &mut Call<'_>) -> Flow {
    let text = c.text(0);
    let Some(wanted) = bits(&text, guess::NAMES) else {
        tracing::error!("nat_uac_test(): \"{text}\" is no list of tests");
        return FALSE;
    };
    if guess::any(c.ctx, wanted) { TRUE } else { FALSE }
}

/// `fix_nated_register()`
fn fix_nated_register(c: &mut Call<'_>) -> Flow {
    let shard = c.ctx.shard.clone();
    let Some(avp) = &shard.kernel.state::<Nat>().received_avp else { return FALSE };
    let uri = source_uri(c.ctx);
    match c.ctx.set_var(avp, Value::Str(uri.into())) {
        Ok(()) => TRUE,
        Err(e) => {
            tracing::error!("fix_nated_register(): {e}");
            FALSE
        }
    }
}

/// A list of names, or their bits as a number; `None` for something else.
fn bits(text: &str, names: &[(&str, u32)]) -> Option<u32> {
    let mut all = 0;
    for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
        let named = names.iter().find(|(n, _)| n.eq_ignore_ascii_case(word)).map(|(_, bit)| *bit);
        let number = || match word.strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => word.parse().ok(),
        };
        all |= named.or_else(number)?;
    }
    Some(all)
}

/// The sender as a URI: `sip:ip:port`, with the transport unless it is UDP.
fn source_uri(ctx: &Ctx) -> Vec<u8> {
    let mut uri = b"sip:".to_vec();
    push_source(ctx, &mut uri);
    let proto = ctx.shard.kernel.socket(ctx.received.socket).map_or(Proto::Udp, |s| s.proto);
    if proto != Proto::Udp {
        uri.extend_from_slice(b";transport=");
        uri.extend_from_slice(proto.name().as_bytes());
    }
    uri
}

/// `ip:port` of the sender, IPv6 in brackets.
fn push_source(ctx: &Ctx, out: &mut Vec<u8>) {
    out.extend_from_slice(ctx.received.peer.to_string().as_bytes());
}

/// Addresses that are not routed: RFC 1918, RFC 6598, unique local and link-local IPv6, and with `cgn` those of RFC 6333.
fn is_private(ip: IpAddr, cgn: bool) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            let o = v4.octets();
            v4.is_private()
                || (o[0] == 100 && o[1] & 0xc0 == 64)
                || (cgn && o[..3] == [192, 0, 0] && o[3] < 8)
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_named_or_numbered() {
        assert_eq!(bits("private-contact, diff-port-src-via", guess::NAMES), Some(17));
        assert_eq!(bits("23", guess::NAMES), Some(23));
        assert_eq!(bits("0x10,private-via", guess::NAMES), Some(20));
        assert_eq!(bits("privat", guess::NAMES), None);
    }

    #[test]
    fn private_addresses_are_those_of_the_rfcs() {
        for (text, plain, cgn) in [
            ("10.1.2.3", true, true),
            ("172.31.0.1", true, true),
            ("172.32.0.1", false, false),
            ("100.64.0.1", true, true),
            ("100.128.0.1", false, false),
            ("192.0.0.4", false, true),
            ("192.0.2.1", false, false),
            ("fd00::1", true, true),
            ("2001:db8::1", false, false),
        ] {
            let ip = text.parse().unwrap();
            assert_eq!((is_private(ip, false), is_private(ip, true)), (plain, cgn), "{text}");
        }
    }
}
