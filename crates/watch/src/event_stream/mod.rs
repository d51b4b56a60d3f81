//! Events as JSON-RPC 2.0 over TCP: `tcp:host:port` or `tcp:host:port/method`.
//!
//! One connection for each subscriber, kept open and opened again when it broke.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::io::{AsyncReadExt, AsyncWriteExt};
use serde_json::{Value as Json, json};
use switchroom_kernel::events::{Event, EventTransport, Subscriber};
use switchroom_kernel::module::{Module, Param};
use switchroom_kernel::open::Opening;
use switchroom_kernel::ports::net::{Clock, Spawn};
use switchroom_kernel::ports::stream::{ByteStream, StreamTarget, Streams};

use crate::outbox::{self, Counters, Outbox, Way};

/// The module.
pub static MODULE: Module = Module {
    name: "event_stream",
    summary: "Events over TCP as JSON-RPC",
    params: &[
        Param::int("reliable_mode", "0", "Wait for an answer to each event"),
        Param::unset("event_param", "Member of `params` that holds the event's name"),
        Param::int("timeout", "1000", "Milliseconds for one event, with connecting and the answer"),
    ],
    statistics: outbox::STATISTICS,
    open,
    ..Module::EMPTY
};

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 65_536;

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let timeout = o.int("timeout");
    if !(1..=600_000).contains(&timeout) {
        return Err(format!("timeout is {timeout}; it must be between 1 and 600000 milliseconds"));
    }
    let drivers = &o.kernel.drivers;
    let shared = Shared {
        streams: drivers.streams.clone(),
        clock: drivers.clock.clone(),
        reliable: o.on("reliable_mode"),
        event_param: o.str("event_param").filter(|p| !p.is_empty()),
        timeout: Duration::from_millis(timeout as u64),
    };
    let (spawn, counters) = (drivers.spawn.clone(), Counters::new(o)?);
    let transport = Transport { shared: Arc::new(shared), spawn, counters };
    o.kernel.events.add_transport("tcp", Arc::new(transport));
    Ok(())
}

struct Shared {
    streams: Arc<dyn Streams>,
    clock: Arc<dyn Clock>,
    reliable: bool,
    event_param: Option<String>,
    timeout: Duration,
}

struct Transport {
    shared: Arc<Shared>,
    spawn: Arc<dyn Spawn>,
    counters: Counters,
}

impl EventTransport for Transport {
    fn subscriber(&self, socket: &str) -> Result<Arc<dyn Subscriber>, String> {
        let (place, method) = match socket.split_once('/') {
            Some((place, method)) => (place, Some(method.to_owned()).filter(|m| !m.is_empty())),
            None => (socket, None),
        };
        let (host, port) = outbox::host_port(place)?;
        let way = Rpc { shared: self.shared.clone(), host, port, method, serial: 0, stream: None };
        Ok(Outbox::start(format!("tcp:{socket}"), way, &*self.spawn, &self.counters))
    }
}

struct Rpc {
    shared: Arc<Shared>,
    host: String,
    port: u16,
    method: Option<String>,
    serial: u64,
    stream: Option<Box<dyn ByteStream>>,
}

impl Way for Rpc {
    async fn send(&mut self, event: &Arc<Event>) -> Result<(), String> {
        let limit = self.shared.clock.sleep(self.shared.timeout);
        let ms = self.shared.timeout.as_millis();
        let done = {
            let exchange = std::pin::pin!(self.exchange(event));
            match select(exchange, limit).await {
                Either::Left((done, _)) => done,
                Either::Right(_) => Err(format!("not done within {ms} ms")),
            }
        };
        if done.is_err() {
            // An answer that comes late must not be taken for that of another event.
            self.stream = None;
        }
        done
    }
}

impl Rpc {
    async fn exchange(&mut self, event: &Event) -> Result<(), String> {
        self.serial += 1;
        let id = self.shared.reliable.then_some(self.serial);
        let mut text = outbox::request(event, self.method.as_deref(), self.shared.event_param.as_deref(), id)
            .to_string()
            .into_bytes();
        text.push(b'\n');
        if let Some(stream) = &mut self.stream
            && ended(&mut **stream).await
        {
            self.stream = None;
        }
        if self.stream.is_none() {
            let target = StreamTarget {
                host: self.host.clone(),
                port: self.port,
                from: None,
                tls: None,
                timeout: self.shared.timeout,
            };
            self.stream = Some(self.shared.streams.connect(target).await.map_err(|e| e.to_string())?);
        }
        let Some(stream) = &mut self.stream else { return Err("not connected".into()) };
        let broken = |e: std::io::Error| format!("the connection broke: {e}");
        stream.write_all(&text).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        match id {
            Some(id) => answer(&mut **stream, id).await,
            None => Ok(()),
        }
    }
}

/// Whether the peer has closed. What it said that nobody waits for is thrown away.
async fn ended(stream: &mut dyn ByteStream) -> bool {
    let mut buffer = [0; 1024];
    poll_fn(|cx| {
        for _ in 0..64 {
            match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(true),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return Poll::Ready(false),
            }
        }
        // It talks without end.
        Poll::Ready(true)
    })
    .await
}

async fn answer(stream: &mut dyn ByteStream, id: u64) -> Result<(), String> {
    let mut got = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let mut values = serde_json::Deserializer::from_slice(&got).into_iter::<Json>();
        for value in values.by_ref() {
            match value {
                Ok(value) if value.get("id") == Some(&json!(id)) => {
                    return match value.get("error").filter(|e| !e.is_null()) {
                        Some(error) => Err(format!("the answer is an error: {error}")),
                        None => Ok(()),
                    };
                }
                Ok(_) => {}
                Err(e) if e.is_eof() => break,
                Err(e) => return Err(format!("the answer is not JSON: {e}")),
            }
        }
        if got.len() > MAX_ANSWER {
            return Err(format!("the answer is longer than {MAX_ANSWER} bytes"));
        }
        match stream.read(&mut buffer).await {
            Ok(0) => return Err("the connection was closed before the answer".into()),
            Ok(n) => got.extend_from_slice(&buffer[..n]),
            Err(e) => return Err(format!("the connection broke: {e}")),
        }
    }
}
