//! The guesses of `nat_uac_test()`: what the message says of its sender against where it came from.

use std::net::IpAddr;

use switchroom_kernel::context::Ctx;
use switchroom_kernel::ports::net::Proto;
use switchroom_wire::sdp::Sdp;
use switchroom_wire::sip::{NameAddr, Uri};

use super::is_private;
use switchroom_calls::core::body;
use switchroom_wire::sip::scan::ip_literal;

const PRIVATE_CONTACT: u32 = 1;
const DIFF_IP_VIA: u32 = 2;
const PRIVATE_VIA: u32 = 4;
const PRIVATE_SDP: u32 = 8;
const DIFF_PORT_VIA: u32 = 16;
const DIFF_IP_CONTACT: u32 = 32;
const DIFF_PORT_CONTACT: u32 = 64;
const CARRIER_GRADE: u32 = 128;

/// Names of the tests and their bits.
pub const NAMES: &[(&str, u32)] = &[
    ("private-contact", PRIVATE_CONTACT),
    ("diff-ip-src-via", DIFF_IP_VIA),
    ("private-via", PRIVATE_VIA),
    ("private-sdp", PRIVATE_SDP),
    ("diff-port-src-via", DIFF_PORT_VIA),
    ("diff-ip-src-contact", DIFF_IP_CONTACT),
    ("diff-port-src-contact", DIFF_PORT_CONTACT),
    ("carrier-grade-nat", CARRIER_GRADE),
];

/// Whether any of the wanted tests is true. The Via of a reply is our own and says nothing.
pub fn any(ctx: &Ctx, wanted: u32) -> bool {
    let cgn = wanted & CARRIER_GRADE != 0;
    let on = |bit: u32| wanted & bit != 0;
    (on(PRIVATE_CONTACT) && private_contact(ctx, cgn))
        || (on(DIFF_IP_VIA | PRIVATE_VIA | DIFF_PORT_VIA) && ctx.msg.is_request() && via(ctx, wanted, cgn))
        || (on(DIFF_IP_CONTACT | DIFF_PORT_CONTACT) && contact_differs(ctx, wanted))
        || (on(PRIVATE_SDP) && private_sdp(ctx, cgn))
}

fn via(ctx: &Ctx, wanted: u32, cgn: bool) -> bool {
    let Ok(via) = ctx.msg.via() else { return false };
    let ip = ip_literal(via.host_bare());
    let peer = ctx.received.peer;
    let proto = std::str::from_utf8(via.transport).ok().and_then(Proto::parse);
    let port = via.port.unwrap_or(proto.map_or(5060, Proto::default_port));
    (wanted & DIFF_IP_VIA != 0 && !same(ip, peer.ip()))
        || (wanted & PRIVATE_VIA != 0 && ip.is_some_and(|ip| is_private(ip, cgn)))
        || (wanted & DIFF_PORT_VIA != 0 && port != peer.port())
}

/// A name is not resolved and counts as another address.
fn same(named: Option<IpAddr>, peer: IpAddr) -> bool {
    named.is_some_and(|ip| ip.to_canonical() == peer.to_canonical())
}

fn contacts(ctx: &Ctx) -> impl Iterator<Item = NameAddr<'_>> {
    ctx.msg.contacts().filter_map(Result::ok).filter(|n| !n.is_star())
}

fn private_contact(ctx: &Ctx, cgn: bool) -> bool {
    contacts(ctx).any(|n| {
        let ip = n.parse_uri().ok().and_then(|u| ip_literal(u.host_bare()));
        ip.is_some_and(|ip| is_private(ip, cgn))
    })
}

fn contact_differs(ctx: &Ctx, wanted: u32) -> bool {
    let Some(first) = contacts(ctx).next() else { return false };
    let Ok(uri) = Uri::parse(first.uri) else { return false };
    let proto = uri.transport().and_then(|t| std::str::from_utf8(t).ok()).and_then(Proto::parse);
    let port = uri.port.unwrap_or(proto.map_or(5060, Proto::default_port));
    let peer = ctx.received.peer;
    (wanted & DIFF_IP_CONTACT != 0 && !same(ip_literal(uri.host_bare()), peer.ip()))
        || (wanted & DIFF_PORT_CONTACT != 0 && port != peer.port())
}

fn private_sdp(ctx: &Ctx, cgn: bool) -> bool {
    let Some(text) = body::sdp(ctx) else { return false };
    let Ok(sdp) = Sdp::parse(&text) else { return false };
    let private = |address: &[u8]| ip_literal(address).is_some_and(|ip| is_private(ip, cgn));
    sdp.connection().is_some_and(|c| private(c.address))
        || sdp.streams.iter().any(|s| sdp.connection_of(s).is_some_and(|c| private(c.address)))
}
