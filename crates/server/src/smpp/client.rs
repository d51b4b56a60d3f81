//! The client: binds, sends, listens, measures.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use parking_lot::Mutex;
use serde_json::json;
use switchroom_engine::smpp_session::{self, Settings, Side};
use switchroom_kernel::open::block_on;
use switchroom_kernel::ports::http::ClientTls;
use switchroom_kernel::ports::stream::StreamTarget;
use switchroom_messages::link::compose::{Composed, References, Style, Wanted, compose};
use switchroom_messages::link::join::{Bounds, Joiner, Outcome, Piece, read};
use switchroom_messages::link::{Closed, Handler, Link, LinkHandle, Options};
use switchroom_wire::gsm::Alphabet;
use switchroom_wire::smpp::{
    Address, Bind, Body, CommandId, MessageId, Pdu, ShortMessage, Status, Tlvs, receipt, tag,
};

use super::{BenchArgs, BindArgs, ListenArgs, Message, Mode, Peer, SendArgs, Version, World};

/// What happened, for the main thread. More are not kept; a peer is then asked to try again.
const MAX_EVENTS: usize = 10_000;
/// The same for one of many connections.
const FEW_EVENTS: usize = 64;
/// How long anything but a receipt may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// `switchroom smpp bind`
pub fn bind(world: &World, args: &BindArgs) -> anyhow::Result<ExitCode> {
    let mut clients = Vec::new();
    for _ in 0..args.sessions.max(1) {
        clients.push(Client::bind_with(world, &args.peer, 10, FEW_EVENTS)?);
    }
    match &clients[..] {
        [one] => println!("bound as {}", one.description),
        many => println!("bound {} times as {}", many.len(), args.peer.system_id),
    }
    std::thread::sleep(Duration::from_secs(args.hold));
    let alive = clients.iter().filter(|c| c.handle.mode().is_some()).count();
    // All at once, so that the answers are waited for together.
    clients.iter().for_each(|c| c.handle.unbind());
    clients.iter().for_each(Client::end);
    if alive < clients.len() {
        bail!("{} of {} connections ended before", clients.len() - alive, clients.len());
    }
    Ok(ExitCode::SUCCESS)
}

/// `switchroom smpp send`
pub fn send(world: &World, args: &SendArgs) -> anyhow::Result<ExitCode> {
    let client = Client::bind(world, &args.peer, 255)?;
    let composed = args.message.compose(&args.text)?;
    for part in 0..composed.parts.len() {
        client.submit(&args.message, &composed, part, args.receipt.is_some())?;
    }
    let (mut open, mut failed) = (composed.parts.len(), false);
    let mut ids = Vec::new();
    while open > 0 {
        match client.event(PATIENCE)? {
            Event::Answer { token, status: Status::OK, id } => {
                println!("part {}: accepted as {id}", token);
                ids.push(id);
                open -= 1;
            }
            Event::Answer { token, status, .. } => {
                println!("part {token}: {status}");
                (open, failed) = (open - 1, true);
            }
            other => print(other, false),
        }
    }
    if let Some(seconds) = args.receipt.filter(|_| !failed) {
        let until = Instant::now() + Duration::from_secs(seconds);
        let mut missing = ids.len();
        while missing > 0 {
            let left = until.saturating_duration_since(Instant::now());
            let event = client.event(left).map_err(|e| anyhow!("{missing} receipts did not come: {e}"))?;
            missing -= usize::from(matches!(&event, Event::Message(m) if m.receipt));
            print(event, false);
        }
    }
    client.end();
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// `switchroom smpp listen`
pub fn listen(world: &World, args: &ListenArgs) -> anyhow::Result<ExitCode> {
    let client = Client::bind(world, &args.peer, 10)?;
    eprintln!("bound as {}", client.description);
    let mut left = args.count;
    while left != Some(0) {
        let event = client.event(Duration::from_secs(86_400))?;
        if matches!(event, Event::Message(_)) {
            left = left.map(|n| n - 1);
        }
        print(event, args.json);
    }
    client.end();
    Ok(ExitCode::SUCCESS)
}

/// `switchroom smpp bench`
pub fn bench(world: &World, args: &BenchArgs) -> anyhow::Result<ExitCode> {
    let client = Client::bind(world, &args.peer, args.window)?;
    let composed = args.message.compose(&args.text)?;
    let parts = composed.parts.len() as u64;
    let total = args.count * parts;
    let mut sent_at = vec![None; usize::try_from(total).context("too many messages")?];
    let mut waits = Vec::with_capacity(sent_at.len());
    let (mut sent, mut done, mut refused) = (0u64, 0u64, 0u64);
    let begin = Instant::now();
    while done < total {
        while sent < total && client.handle.room() > 0 {
            sent_at[sent as usize] = Some(Instant::now());
            client.submit_as(&args.message, &composed, (sent % parts) as usize, false, sent)?;
            sent += 1;
        }
        match client.event(PATIENCE)? {
            Event::Answer { token, status, .. } => {
                done += 1;
                refused += u64::from(status != Status::OK);
                waits.extend(sent_at.get(token as usize).copied().flatten().map(|at| at.elapsed()));
            }
            Event::Unanswered(_) => {
                done += 1;
                refused += 1;
            }
            _ => {}
        }
    }
    let time = begin.elapsed();
    waits.sort_unstable();
    let at = |percent: usize| waits.get((waits.len() * percent / 100).min(waits.len().saturating_sub(1)));
    let rate = total as f64 / time.as_secs_f64().max(1e-9);
    println!("{total} messages in {time:.2?}: {rate:.0} a second, {refused} refused");
    if let (Some(half), Some(most), Some(last)) = (at(50), at(99), waits.last()) {
        println!("answers after {half:.2?} (half), {most:.2?} (99 %), {last:.2?} (all)");
    }
    client.end();
    Ok(ExitCode::SUCCESS)
}

/// What happened on the link.
enum Event {
    Bound,
    Refused(Status),
    Answer { token: u64, status: Status, id: String },
    Unanswered(u64),
    Message(Received),
    Closed(String),
}

struct Received {
    from: String,
    to: String,
    text: String,
    receipt: bool,
    parts: u8,
    data_coding: u8,
}

fn print(event: Event, as_json: bool) {
    match event {
        Event::Message(m) if as_json => {
            let kind = if m.receipt { "receipt" } else { "message" };
            println!(
                "{}",
                json!({"kind": kind, "from": m.from, "to": m.to, "text": m.text, "parts": m.parts,
                       "data_coding": m.data_coding})
            );
        }
        Event::Message(m) if m.receipt => match receipt::read(m.text.as_bytes()) {
            Some(r) => println!(
                "receipt of {}: {} {}",
                String::from_utf8_lossy(r.id),
                String::from_utf8_lossy(r.stat),
                String::from_utf8_lossy(r.error)
            ),
            None => println!("receipt: {}", m.text),
        },
        Event::Message(m) => println!("{} to {}: {}", m.from, m.to, m.text),
        Event::Unanswered(token) => println!("part {token}: no answer"),
        _ => {}
    }
}

struct Client<'w> {
    world: &'w World,
    handle: LinkHandle,
    events: Receiver<Event>,
    description: String,
}

impl<'w> Client<'w> {
    fn bind(world: &'w World, peer: &Peer, window: usize) -> anyhow::Result<Client<'w>> {
        Client::bind_with(world, peer, window, MAX_EVENTS)
    }

    fn bind_with(world: &'w World, peer: &Peer, window: usize, events: usize) -> anyhow::Result<Client<'w>> {
        let (host, port) = peer.to.rsplit_once(':').context("--to is written host:port")?;
        let target = StreamTarget {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: port.parse().with_context(|| format!("--to: \"{port}\" is no port"))?,
            from: None,
            tls: peer.tls.then(|| {
                Arc::new(ClientTls { verify_chain: false, verify_host: false, ..ClientTls::default() })
            }),
            timeout: Duration::from_secs(10),
        };
        let stream = block_on(world.streams.connect(target)).map_err(|e| anyhow!("{e}"))?;
        let settings = Settings { window_out: window.max(1), ..Settings::new(Side::Application) };
        let link = Link::new(Options::new(settings, world.clock.clone()));
        let handle = link.handle();
        let (sender, events) = sync_channel(events);
        let joiner = Mutex::new(Joiner::new(Bounds::default(), Alphabet::Gsm7));
        world.spawn.spawn(Box::pin(link.run(stream, Arc::new(Ear { sender, joiner }))));
        let mode = match peer.mode {
            Mode::Trx => smpp_session::Mode::Transceiver,
            Mode::Tx => smpp_session::Mode::Transmitter,
            Mode::Rx => smpp_session::Mode::Receiver,
        };
        let bind = Bind {
            system_id: peer.system_id.as_bytes(),
            password: peer.password.as_bytes(),
            system_type: peer.system_type.as_bytes(),
            interface_version: match peer.smpp {
                Version::V33 => 0x33,
                Version::V34 => 0x34,
                Version::V50 => 0x50,
            },
            range: Address::default(),
        };
        handle.bind(mode, &bind, 0)?;
        let description = format!("{} at {}", peer.system_id, peer.to);
        let client = Client { world, handle, events, description };
        match client.event(PATIENCE)? {
            Event::Bound => Ok(client),
            Event::Refused(status) => bail!("the SMS centre refuses the bind: {status}"),
            _ => bail!("the SMS centre says something else than the answer to the bind"),
        }
    }

    fn event(&self, patience: Duration) -> anyhow::Result<Event> {
        match self.events.recv_timeout(patience) {
            Ok(Event::Closed(why)) => bail!("the connection is over: {why}"),
            Ok(event) => Ok(event),
            Err(RecvTimeoutError::Timeout) => bail!("nothing came within {patience:.0?}"),
            Err(RecvTimeoutError::Disconnected) => bail!("the connection is over"),
        }
    }

    fn submit(&self, m: &Message, c: &Composed, part: usize, receipt: bool) -> anyhow::Result<()> {
        self.submit_as(m, c, part, receipt, part as u64 + 1)
    }

    fn submit_as(
        &self,
        m: &Message,
        composed: &Composed,
        part: usize,
        receipt: bool,
        token: u64,
    ) -> anyhow::Result<()> {
        let piece = &composed.parts[part];
        let message = ShortMessage {
            source: address(&m.from),
            destination: address(&m.dest),
            esm_class: composed.esm_class,
            registered_delivery: u8::from(receipt),
            data_coding: composed.data_coding,
            text: &piece.text,
            tlvs: Tlvs::read(&piece.tlvs, false).unwrap_or_default(),
            ..ShortMessage::default()
        };
        self.handle.send(CommandId::SUBMIT_SM, &Body::Message(message), token)?;
        Ok(())
    }

    fn end(&self) {
        self.handle.unbind();
        let limit = self.world.clock.now() + Duration::from_secs(2);
        while self.world.clock.now() < limit && self.event(Duration::from_secs(2)).is_ok() {}
    }
}

impl Message {
    fn compose(&self, text: &str) -> anyhow::Result<Composed> {
        let style = Style { default: self.alphabet.alphabet(), ties: self.parts.ties(), ..Style::default() };
        let reference = References::default().next(self.dest.as_bytes());
        let class = self.flash.then_some(0);
        Ok(compose(text, Wanted::Shortest, class, reference, style)?)
    }
}

/// Digits are a number, with `+` an international one; anything else is a name.
pub fn address(text: &str) -> Address<'_> {
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    match text.strip_prefix('+') {
        Some(number) if digits(number) => Address { ton: 1, npi: 1, addr: number.as_bytes() },
        _ if digits(text) => Address { ton: 0, npi: 1, addr: text.as_bytes() },
        _ => Address { ton: 5, npi: 0, addr: text.as_bytes() },
    }
}

/// Tells the main thread.
struct Ear {
    sender: SyncSender<Event>,
    joiner: Mutex<Joiner>,
}

impl Handler for Ear {
    fn request(&self, link: &LinkHandle, pdu: &Pdu<'_>) {
        let message = match pdu.body {
            Body::Message(message) => message,
            Body::Data(d) => ShortMessage {
                source: d.source,
                destination: d.destination,
                esm_class: d.esm_class,
                data_coding: d.data_coding,
                tlvs: d.tlvs,
                ..ShortMessage::default()
            },
            _ => {
                link.nack(pdu.header, Status::INVCMDID);
                return;
            }
        };
        let piece = Piece::from(&message);
        let receipt = message.is_receipt();
        let whole = match receipt {
            true => Some(read(&piece, Alphabet::Latin1)),
            false => match self.joiner.lock().add(link.now(), &piece) {
                Outcome::Whole(joined) => Some(joined),
                _ => None,
            },
        };
        let mut status = Status::OK;
        if let Some(joined) = whole {
            let plain = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let mut text = joined.text;
            if receipt && text.is_empty() {
                let id = message.tlvs.text(tag::RECEIPTED_MESSAGE_ID).unwrap_or_default();
                text = format!("id:{}", plain(id));
            }
            let received = Received {
                from: plain(message.source.addr),
                to: plain(message.destination.addr),
                text,
                receipt,
                parts: joined.parts,
                data_coding: message.data_coding,
            };
            if self.sender.try_send(Event::Message(received)).is_err() {
                status = Status::RX_T_APPN;
            }
        }
        let id = MessageId { present: true, ..MessageId::default() };
        link.respond(pdu.header, status, &Body::MessageId(id));
    }

    fn response(&self, link: &LinkHandle, token: u64, request: CommandId, pdu: &Pdu<'_>) {
        let status = pdu.header.status;
        let event = match pdu.body {
            _ if request.is_bind() && status != Status::OK => Event::Refused(status),
            _ if request.is_bind() => return,
            Body::MessageId(m) => Event::Answer { token, status, id: String::from_utf8_lossy(m.id).into() },
            _ => Event::Answer { token, status, id: String::new() },
        };
        if self.sender.try_send(event).is_err() {
            link.close();
        }
    }

    fn unanswered(&self, _: &LinkHandle, token: u64) {
        // A full channel means that the main thread is far behind or gone.
        let _ = self.sender.try_send(Event::Unanswered(token));
    }

    fn bound(&self, link: &LinkHandle, _: smpp_session::Mode) {
        if self.sender.try_send(Event::Bound).is_err() {
            link.close();
        }
    }

    fn closed(&self, _: &LinkHandle, why: &Closed) {
        let _ = self.sender.try_send(Event::Closed(why.to_string()));
    }
}
