//! The class `ip`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Entry, text};
use crate::net::{Network, parse_ip};
use crate::value::Value;

pub(super) const TABLE: &[Entry] = &[
    ("ip.pton", "", |s, _| match parse_ip(s) {
        Some(IpAddr::V4(ip)) => super::owned(&ip.octets()),
        Some(IpAddr::V6(ip)) => super::owned(&ip.octets()),
        None => Value::Null,
    }),
    ("ip.ntop", "", |s, _| binary(s).map_or(Value::Null, |ip| Value::Str(ip.to_string().into()))),
    ("ip.isip", "", |s, _| Value::Int(i64::from(parse_ip(s).is_some()))),
    ("ip.isip4", "", |s, _| Value::Int(i64::from(parse_ip(s).is_some_and(|ip| ip.is_ipv4())))),
    ("ip.isip6", "", |s, _| Value::Int(i64::from(parse_ip(s).is_some_and(|ip| ip.is_ipv6())))),
    ("ip.family", "", |s, _| match binary(s) {
        Some(IpAddr::V4(_)) => "INET".into(),
        Some(IpAddr::V6(_)) => "INET6".into(),
        None => Value::Null,
    }),
    ("ip.matches", "s", |s, a| {
        let (Some(ip), Some(net)) = (parse_ip(s), text(a, 0).and_then(|n| Network::parse(&n))) else {
            return Value::Null;
        };
        if ip.is_ipv4() == net.ip.is_ipv4() { Value::Int(i64::from(net.contains(ip))) } else { Value::Null }
    }),
    ("ip.isprivate", "", |s, _| match parse_ip(s) {
        Some(IpAddr::V4(ip)) => Value::Int(i64::from(is_private(ip))),
        Some(IpAddr::V6(_)) => Value::Int(0),
        None => Value::Null,
    }),
];

/// An address in its binary form.
fn binary(s: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(s) {
        return Some(Ipv4Addr::from(four).into());
    }
    <[u8; 16]>::try_from(s).ok().map(|six| Ipv6Addr::from(six).into())
}

/// RFC 1918, RFC 6598 and loopback.
fn is_private(ip: Ipv4Addr) -> bool {
    ip.is_private() || ip.is_loopback() || (ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64)
}
