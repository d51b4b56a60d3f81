//! From `socket=` lines to addresses: host names, interface names, `*`, port ranges.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use anyhow::{Context, bail};
use switchroom_kernel::kernel::Listen;
use switchroom_kernel::ports::net::Proto;
use switchroom_kernel::settings::Settings;
use switchroom_net::ListenSpec;
use switchroom_script::parse::ast::SocketDef;

/// All addresses of the script's sockets.
pub fn resolve(defs: &[SocketDef], settings: &Settings) -> anyhow::Result<Vec<ListenSpec>> {
    let mut specs: Vec<ListenSpec> = Vec::new();
    for def in defs {
        let proto = def.proto.as_deref().and_then(Proto::parse).unwrap_or(Proto::Udp);
        let ips = addresses(&def.host).with_context(|| format!("socket {proto}:{}", def.host))?;
        let ports: Vec<u16> = match def.ports.is_empty() {
            true => vec![proto.default_port()],
            false => def.ports.iter().flat_map(|(a, b)| *a..=*b).collect(),
        };
        for ip in ips {
            for port in &ports {
                let addr = SocketAddr::new(ip, *port);
                if *port != 0 && specs.iter().any(|s| s.proto == proto && s.addr == addr) {
                    continue;
                }
                let mut spec = ListenSpec::new(proto, addr);
                spec.advertised = def.advertise.clone().or_else(|| advertised(settings, ip));
                spec.tag = def.tag.clone();
                spec.anycast = def.anycast;
                spec.tos = tos(def.tos.as_deref().or(settings.str("tos")))?;
                specs.push(spec);
            }
        }
    }
    Ok(specs)
}

/// The addresses of sockets that modules serve.
pub fn listens(defs: &[SocketDef]) -> anyhow::Result<Vec<Listen>> {
    let mut listens = Vec::new();
    for def in defs {
        let transport = def.proto.clone().unwrap_or_default();
        let ips = addresses(&def.host).with_context(|| format!("socket {transport}:{}", def.host))?;
        let ports: Vec<u16> = match def.ports.is_empty() {
            true => vec![0],
            false => def.ports.iter().flat_map(|(a, b)| *a..=*b).collect(),
        };
        for ip in ips {
            for port in &ports {
                let listen = Listen { transport: transport.clone(), addr: SocketAddr::new(ip, *port) };
                if !listens.contains(&listen) {
                    listens.push(listen);
                }
            }
        }
    }
    Ok(listens)
}

/// `advertised_address` and `advertised_port` stand for sockets that name nothing of their own.
fn advertised(settings: &Settings, own: IpAddr) -> Option<(String, Option<u16>)> {
    let port = u16::try_from(settings.int("advertised_port")).ok().filter(|p| *p != 0);
    match settings.str("advertised_address") {
        Some(host) => Some((host.to_owned(), port)),
        None if own.is_ipv6() => port.map(|_| (format!("[{own}]"), port)),
        None => port.map(|_| (own.to_string(), port)),
    }
}

fn tos(value: Option<&str>) -> anyhow::Result<Option<u8>> {
    let Some(value) = value.filter(|v| !v.is_empty()) else { return Ok(None) };
    let tos = match value {
        "IPTOS_LOWDELAY" => 0x10,
        "IPTOS_THROUGHPUT" => 0x08,
        "IPTOS_RELIABILITY" => 0x04,
        "IPTOS_MINCOST" => 0x02,
        number => match number.parse() {
            Ok(n) => n,
            Err(_) => bail!("tos \"{number}\" is neither a number from 0 to 255 nor an IPTOS_ name"),
        },
    };
    Ok(Some(tos))
}

/// The addresses of a host part. `*` and the unspecified address mean every address of this machine, since a reply must
/// name one that can be reached.
fn addresses(host: &str) -> anyhow::Result<Vec<IpAddr>> {
    let interfaces = || if_addrs::get_if_addrs().context("cannot list the interfaces");
    if host == "*" || host == "0.0.0.0" || host == "::" {
        let v6 = host == "::";
        let all = interfaces()?.into_iter().map(|i| i.ip());
        let mut ips: Vec<IpAddr> = all.filter(|ip| ip.is_ipv6() == v6 && !is_link_local(ip)).collect();
        // Addresses that others can reach come first: the first socket of a kind is the usual one to send from.
        ips.sort_by_key(IpAddr::is_loopback);
        if ips.is_empty() {
            bail!("this machine has no such address");
        }
        return Ok(ips);
    }
    if let Ok(ip) = host.parse() {
        return Ok(vec![ip]);
    }
    let of_interface: Vec<IpAddr> = interfaces()?
        .into_iter()
        .filter(|i| i.name == host)
        .map(|i| i.ip())
        .filter(|ip| !is_link_local(ip))
        .collect();
    if !of_interface.is_empty() {
        return Ok(of_interface);
    }
    let found = (host, 0)
        .to_socket_addrs()
        .with_context(|| format!("\"{host}\" is no address, interface or host"))?;
    let first = found.map(|a| a.ip()).next();
    Ok(vec![first.with_context(|| format!("\"{host}\" has no address"))?])
}

fn is_link_local(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfe80)
}

/// `[proto:]address[:port]` of the command line.
pub fn parse_listen(text: &str) -> anyhow::Result<SocketDef> {
    let (proto, rest) = match text.split_once(':') {
        Some((p, rest)) if Proto::parse(p).is_some() => (Some(p.to_ascii_lowercase()), rest),
        _ => (None, text),
    };
    let (host, port) = if let Some(v6) = rest.strip_prefix('[') {
        let (host, tail) = v6.split_once(']').with_context(|| format!("\"{text}\": a ] is missing"))?;
        (host, tail.strip_prefix(':'))
    } else {
        match rest.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') => (host, Some(port)),
            _ => (rest, None),
        }
    };
    let port = match port {
        Some(p) => Some(p.parse::<u16>().with_context(|| format!("\"{text}\": \"{p}\" is no port"))?),
        None => None,
    };
    Ok(SocketDef {
        proto: Some(proto.unwrap_or_else(|| "udp".into())),
        host: host.to_owned(),
        ports: port.map(|p| (p, p)).into_iter().collect(),
        ..SocketDef::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_options_are_read_in_all_forms() {
        let read = |t: &str| {
            let d = parse_listen(t).unwrap();
            (d.proto.unwrap(), d.host, d.ports)
        };
        assert_eq!(read("tcp:127.0.0.1:5070"), ("tcp".into(), "127.0.0.1".into(), vec![(5070, 5070)]));
        assert_eq!(read("127.0.0.1"), ("udp".into(), "127.0.0.1".into(), vec![]));
        assert_eq!(read("udp:[::1]:5062"), ("udp".into(), "::1".into(), vec![(5062, 5062)]));
        assert!(parse_listen("udp:1.2.3.4:x").is_err());
    }

    #[test]
    fn port_ranges_and_symbolic_tos_are_resolved() {
        let mut def = parse_listen("udp:127.0.0.1").unwrap();
        def.ports = vec![(5080, 5082)];
        def.tos = Some("IPTOS_THROUGHPUT".into());
        let specs = resolve(&[def], &Settings::default()).unwrap();
        assert_eq!(specs.len(), 3);
        assert_eq!(specs[0].tos, Some(8));
    }

    #[test]
    fn a_symbolic_tos_sets_what_it_says() {
        let of = |text: &str| super::tos(Some(text)).unwrap();
        assert_eq!((of("IPTOS_LOWDELAY"), of("IPTOS_THROUGHPUT")), (Some(0x10), Some(0x08)));
        assert_eq!(
            (of("IPTOS_RELIABILITY"), of("IPTOS_MINCOST"), of("184")),
            (Some(0x04), Some(0x02), Some(184))
        );
        assert_eq!(of(""), None);
        assert!(super::tos(Some("IPTOS_NONSENSE")).is_err() && super::tos(Some("256")).is_err());
    }
}
