//! The host part of a `socket=` line: an address, `[v6]`, a host name, an interface's name or `*`.
//!
//! Used once at start; a host name is asked of the system and may block.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};

use if_addrs::IfAddr;

/// Why a host part names no address.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Neither address nor interface nor known host.
    #[error("`{0}` is neither an IP address nor a network interface nor a known host name")]
    Unknown(String),
    /// The interface exists and has no usable address.
    #[error("network interface `{0}` has no IP address")]
    NoAddress(String),
    /// The system did not list its interfaces.
    #[error("network interfaces: {0}")]
    System(#[from] io::Error),
}

/// The addresses that `host` stands for. `*` is every address of the machine, loopback included; addresses that are valid
/// on one link only are left out, since nobody could be told to send there.
pub fn listen_addresses(host: &str) -> Result<Vec<IpAddr>, HostError> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = bare.parse() {
        return Ok(vec![ip]);
    }
    let interfaces = if_addrs::get_if_addrs()?;
    let named: Vec<_> = interfaces.into_iter().filter(|i| host == "*" || i.name == host).collect();
    if !named.is_empty() {
        let mut found: Vec<IpAddr> = named.iter().filter_map(|i| usable(&i.addr)).collect();
        found.sort();
        found.dedup();
        return if found.is_empty() { Err(HostError::NoAddress(host.to_owned())) } else { Ok(found) };
    }
    let unknown = || HostError::Unknown(host.to_owned());
    let mut found: Vec<IpAddr> =
        (host, 0).to_socket_addrs().map_err(|_| unknown())?.map(|a| a.ip()).collect();
    found.dedup();
    if found.is_empty() { Err(unknown()) } else { Ok(found) }
}

fn usable(addr: &IfAddr) -> Option<IpAddr> {
    match addr {
        IfAddr::V4(v4) => Some(v4.ip.into()),
        IfAddr::V6(v6) if v6.ip.is_unicast_link_local() => None,
        IfAddr::V6(v6) => Some(v6.ip.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_host_gives_its_addresses() {
        let one: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(listen_addresses("127.0.0.1").unwrap(), [one]);
        assert_eq!(listen_addresses("[2001:db8::1]").unwrap(), ["2001:db8::1".parse::<IpAddr>().unwrap()]);
        for host in ["lo", "*", "localhost"] {
            assert!(listen_addresses(host).unwrap().contains(&one), "{host}");
        }
        assert!(matches!(listen_addresses("no such interface"), Err(HostError::Unknown(_))));
    }
}
