//! Events in datagrams to `udp:host:port` and `unix:/path`: JSON-RPC notifications, or the plain lines of before.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use switchroom_kernel::events::{Event, EventTransport, Subscriber};
use switchroom_kernel::module::{Module, Param};
use switchroom_kernel::open::Opening;
use switchroom_kernel::ports::datagram::{DatagramAddress, Datagrams};
use switchroom_kernel::ports::net::{Resolver, Spawn};
use switchroom_script::Value;

use crate::outbox::{self, Counters, Outbox, Way};

/// The module.
pub static MODULE: Module = Module {
    name: "event_datagram",
    summary: "Events over UDP and Unix datagram sockets",
    params: &[Param::int("plain_text", "0", "Send lines of text, as OpenSIPS 2 did, and not JSON-RPC")],
    statistics: outbox::STATISTICS,
    open,
    ..Module::EMPTY
};

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let drivers = &o.kernel.drivers;
    let shared = Shared {
        datagrams: drivers.datagrams.clone(),
        resolver: drivers.resolver.clone(),
        plain: o.on("plain_text"),
    };
    let (spawn, counters) = (drivers.spawn.clone(), Counters::new(o)?);
    for unix in [false, true] {
        let transport =
            Transport { unix, shared: shared.clone(), spawn: spawn.clone(), counters: counters.clone() };
        o.kernel.events.add_transport(if unix { "unix" } else { "udp" }, Arc::new(transport));
    }
    Ok(())
}

#[derive(Clone)]
struct Shared {
    datagrams: Arc<dyn Datagrams>,
    resolver: Arc<dyn Resolver>,
    plain: bool,
}

struct Transport {
    unix: bool,
    shared: Shared,
    spawn: Arc<dyn Spawn>,
    counters: Counters,
}

impl EventTransport for Transport {
    fn subscriber(&self, socket: &str) -> Result<Arc<dyn Subscriber>, String> {
        let (name, to) = match self.unix {
            true if socket.is_empty() => return Err("`unix:` needs the path of a socket".into()),
            true => (format!("unix:{socket}"), To::Unix(PathBuf::from(socket))),
            false => {
                let (host, port) = outbox::host_port(socket)?;
                (format!("udp:{socket}"), To::Udp(host, port))
            }
        };
        Ok(Outbox::start(name, Datagram { shared: self.shared.clone(), to }, &*self.spawn, &self.counters))
    }
}

enum To {
    Udp(String, u16),
    Unix(PathBuf),
}

struct Datagram {
    shared: Shared,
    to: To,
}

impl Way for Datagram {
    async fn send(&mut self, event: &Arc<Event>) -> Result<(), String> {
        let to = match &self.to {
            To::Unix(path) => DatagramAddress::Unix(path.clone()),
            To::Udp(host, port) => {
                let ip = match host.parse::<IpAddr>() {
                    Ok(ip) => ip,
                    Err(_) => {
                        let found = self.shared.resolver.addresses(host).await;
                        let found = found.map_err(|e| format!("{host}: {e}"))?;
                        *found.first().ok_or_else(|| format!("{host} has no address"))?
                    }
                };
                DatagramAddress::Udp(SocketAddr::new(ip, *port))
            }
        };
        let payload = match self.shared.plain {
            true => text(event),
            false => outbox::request(event, None, None, None).to_string().into_bytes(),
        };
        self.shared.datagrams.send(to, payload.into()).await.map_err(|e| e.to_string())
    }
}

/// One line with the name, then one for each attribute: `name::value`, or the value alone.
fn text(event: &Event) -> Vec<u8> {
    let mut out = event.name.as_bytes().to_vec();
    out.push(b'\n');
    for (name, value) in &event.attrs {
        if !name.is_empty() {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"::");
        }
        match value {
            Value::Null => {}
            Value::Int(i) => out.extend_from_slice(i.to_string().as_bytes()),
            Value::Str(s) if s.iter().any(|b| b"'\",\r\n".contains(b)) => {
                out.push(b'"');
                for b in s.iter() {
                    if matches!(b, b'"' | b'\\') {
                        out.push(b'\\');
                    }
                    out.push(*b);
                }
                out.push(b'"');
            }
            Value::Str(s) => out.extend_from_slice(s),
        }
        out.push(b'\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchroom_kernel::events::EventId;

    #[test]
    fn an_event_is_its_name_and_a_line_for_each_attribute() {
        let str = |s: &'static str| Value::Str(s.into());
        let event = Event {
            id: EventId(0),
            name: "E_X".into(),
            attrs: vec![
                ("ip".into(), str("192.0.2.1")),
                ("n".into(), Value::Int(-3)),
                ("say".into(), str("a \"b\",\nc")),
                ("none".into(), Value::Null),
                ("".into(), str("only")),
            ],
        };
        let expect = "E_X\nip::192.0.2.1\nn::-3\nsay::\"a \\\"b\\\",\nc\"\nnone::\nonly\n";
        assert_eq!(String::from_utf8(text(&event)).unwrap(), expect);
    }
}
