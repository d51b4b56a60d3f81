//! Where a URI leads: RFC 3263 §4, by address literal at once, by NAPTR, SRV, A and AAAA without blocking.

use std::net::SocketAddr;
use std::sync::Arc;

use smallvec::SmallVec;
use switchroom_kernel::Kernel;
use switchroom_kernel::ports::net::{BoxFuture, Proto, Resolver};
use switchroom_wire::sip::{Scheme, Uri};

use switchroom_wire::sip::scan::ip_literal;

/// One place to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Transport to use.
    pub proto: Proto,
    /// Address and port.
    pub addr: SocketAddr,
}

/// Places to try, best first.
pub type Hops = SmallVec<[Hop; 1]>;

/// At most so many places are tried for one URI.
const MAX_HOPS: usize = 16;

/// Answer of [`locate`].
pub enum Located {
    /// Known at once. Empty when the URI cannot lead anywhere.
    Now(Hops),
    /// DNS must be asked.
    Wait(BoxFuture<Hops>),
}

/// Find the places a URI leads to. `forced` overrides the transport of the URI.
pub fn locate(kernel: &Arc<Kernel>, uri: &Uri<'_>, forced: Option<Proto>) -> Located {
    let Some(wish) = Wish::of(uri, forced) else { return Located::Now(Hops::new()) };
    if let Some(ip) = ip_literal(wish.host) {
        let proto = wish.proto.unwrap_or(wish.default());
        let port = uri.port.unwrap_or(proto.default_port());
        return Located::Now(SmallVec::from_iter([Hop { proto, addr: SocketAddr::new(ip, port) }]));
    }
    let Some(question) = Question::new(kernel, uri, &wish) else { return Located::Now(Hops::new()) };
    let resolver = kernel.drivers.resolver.clone();
    Located::Wait(Box::pin(async move { question.ask(&*resolver).await }))
}

/// What a URI says about the way to it.
struct Wish<'a> {
    host: &'a [u8],
    proto: Option<Proto>,
    secure: bool,
}

impl Wish<'_> {
    fn of<'a>(uri: &Uri<'a>, forced: Option<Proto>) -> Option<Wish<'a>> {
        if !matches!(uri.scheme, Scheme::Sip | Scheme::Sips) {
            return None;
        }
        let host = uri.param("maddr").filter(|m| !m.is_empty()).unwrap_or(uri.host);
        let secure = uri.scheme == Scheme::Sips;
        let named = match uri.transport() {
            Some(t) => Some(Proto::parse(std::str::from_utf8(t).ok()?)?),
            None => None,
        };
        let proto = match (forced, named) {
            (Some(p), _) => Some(p),
            (None, Some(Proto::Tcp)) if secure => Some(Proto::Tls),
            (None, Some(Proto::Ws)) if secure => Some(Proto::Wss),
            (None, named) => named,
        };
        Some(Wish { host, proto, secure })
    }

    fn default(&self) -> Proto {
        if self.secure { Proto::Tls } else { Proto::Udp }
    }
}

struct Question {
    host: String,
    port: Option<u16>,
    proto: Option<Proto>,
    secure: bool,
    naptr: bool,
    /// Transports we have sockets for.
    ours: Vec<Proto>,
}

impl Question {
    fn new(kernel: &Kernel, uri: &Uri<'_>, wish: &Wish<'_>) -> Option<Question> {
        let mut ours: Vec<Proto> = Vec::new();
        for s in kernel.sockets() {
            if !ours.contains(&s.proto) {
                ours.push(s.proto);
            }
        }
        Some(Question {
            host: std::str::from_utf8(wish.host).ok()?.trim_end_matches('.').to_owned(),
            port: uri.port,
            proto: wish.proto,
            secure: wish.secure,
            naptr: kernel.settings.on("dns_try_naptr"),
            ours,
        })
    }

    async fn ask(self, resolver: &dyn Resolver) -> Hops {
        let default = if self.secure { Proto::Tls } else { Proto::Udp };
        if let Some(port) = self.port {
            return addresses(resolver, &self.host, self.proto.unwrap_or(default), port).await;
        }
        if self.naptr && self.proto.is_none() {
            let hops = self.by_naptr(resolver).await;
            if !hops.is_empty() {
                return hops;
            }
        }
        let order = [Proto::Udp, Proto::Tcp, Proto::Tls];
        let candidates: Vec<Proto> = match self.proto {
            Some(p) => vec![p],
            None => order
                .into_iter()
                .filter(|p| self.ours.contains(p) && (!self.secure || *p == Proto::Tls))
                .collect(),
        };
        for proto in candidates {
            let Some(service) = srv_service(proto) else { continue };
            let hops = by_srv(resolver, &format!("{service}.{}", self.host), proto).await;
            if !hops.is_empty() {
                return hops;
            }
        }
        let proto = self.proto.unwrap_or(default);
        addresses(resolver, &self.host, proto, proto.default_port()).await
    }

    async fn by_naptr(&self, resolver: &dyn Resolver) -> Hops {
        let mut hops = Hops::new();
        for record in resolver.naptr(&self.host).await.unwrap_or_default() {
            let proto = match record.service.to_ascii_uppercase().as_str() {
                "SIP+D2U" => Proto::Udp,
                "SIP+D2T" => Proto::Tcp,
                "SIPS+D2T" => Proto::Tls,
                _ => continue,
            };
            let usable = self.ours.contains(&proto) && (!self.secure || proto == Proto::Tls);
            if usable && record.flags.eq_ignore_ascii_case("s") {
                hops.extend(by_srv(resolver, &record.replacement, proto).await);
            }
            if hops.len() >= MAX_HOPS {
                break;
            }
        }
        hops.truncate(MAX_HOPS);
        hops
    }
}

fn srv_service(proto: Proto) -> Option<&'static str> {
    match proto {
        Proto::Udp => Some("_sip._udp"),
        Proto::Tcp => Some("_sip._tcp"),
        Proto::Tls => Some("_sips._tcp"),
        Proto::Ws | Proto::Wss => None,
    }
}

async fn by_srv(resolver: &dyn Resolver, name: &str, proto: Proto) -> Hops {
    let mut hops = Hops::new();
    for record in resolver.srv(name).await.unwrap_or_default() {
        hops.extend(addresses(resolver, &record.target, proto, record.port).await);
        if hops.len() >= MAX_HOPS {
            break;
        }
    }
    hops.truncate(MAX_HOPS);
    hops
}

async fn addresses(resolver: &dyn Resolver, host: &str, proto: Proto, port: u16) -> Hops {
    let found = resolver.addresses(host).await.unwrap_or_default();
    found.into_iter().take(MAX_HOPS).map(|ip| Hop { proto, addr: SocketAddr::new(ip, port) }).collect()
}
