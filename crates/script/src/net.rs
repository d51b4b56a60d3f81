//! Addresses and networks as the language compares them.

use std::net::IpAddr;

/// An address with a number of leading bits that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Any address inside.
    pub ip: IpAddr,
    /// Leading bits that count: 0 to 32 or 0 to 128.
    pub bits: u8,
}

impl Network {
    /// A network; more bits than the address has are cut.
    pub fn new(ip: IpAddr, bits: u8) -> Self {
        Self { ip, bits: bits.min(if ip.is_ipv4() { 32 } else { 128 }) }
    }

    /// One address.
    pub fn host(ip: IpAddr) -> Self {
        Self::new(ip, 128)
    }

    /// Reads `ip` or `ip/bits`.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.trim();
        match text.split_once('/') {
            None => Some(Self::host(parse_ip(text.as_bytes())?)),
            Some((ip, bits)) => {
                let ip = parse_ip(ip.as_bytes())?;
                let bits: u8 = bits.parse().ok()?;
                (bits <= if ip.is_ipv4() { 32 } else { 128 }).then_some(Self { ip, bits })
            }
        }
    }

    /// True when `ip` is inside.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.ip, ip) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let drop = 32 - u32::from(self.bits.min(32));
                u64::from(u32::from(a)) >> drop == u64::from(u32::from(b)) >> drop
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let drop = 128 - u32::from(self.bits.min(128));
                drop == 128 || u128::from(a) >> drop == u128::from(b) >> drop
            }
            _ => false,
        }
    }
}

/// Reads an address, an IPv6 one with or without brackets.
pub(crate) fn parse_ip(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_what_shares_its_leading_bits() {
        let net = Network::parse(b"10.1.0.0/16").unwrap();
        assert!(net.contains("10.1.200.3".parse().unwrap()));
        assert!(!net.contains("10.2.0.1".parse().unwrap()));
        assert!(!net.contains("::1".parse().unwrap()));
        assert!(Network::parse(b"0.0.0.0/0").unwrap().contains("1.2.3.4".parse().unwrap()));
        assert!(Network::parse(b"::/0").unwrap().contains("::1".parse().unwrap()));
        assert!(Network::parse(b"10.0.0.1/33").is_none());
    }
}
