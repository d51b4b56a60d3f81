//! The SMS centre simulator. It stores nothing: what it accepts it forgets, except for the receipts it still owes.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, anyhow};
use parking_lot::Mutex;
use switchroom_engine::smpp_session::{Mode, Settings, Side};
use switchroom_kernel::open::block_on;
use switchroom_kernel::ports::net::{Clock, Spawn};
use switchroom_kernel::ports::stream::{Accept, ServerTls, StreamListen};
use switchroom_messages::link::compose::{References, Style, Wanted, compose};
use switchroom_messages::link::{Closed, Handler, Link, LinkHandle, Options};
use switchroom_wire::smpp::receipt::{self, Receipt};
use switchroom_wire::smpp::{
    Address, Bind, Body, CommandId, Header, MessageId, MessageState, MultiResponse, Pdu, QueryResponse,
    ShortMessage, Status, Tlvs, push_tlv, tag,
};

use super::client::address;
use super::{SimArgs, World};

/// Messages whose state can be asked for.
const MAX_KNOWN: usize = 100_000;
/// Connections at a time.
const MAX_CONNECTIONS: usize = 10_000;

/// A line on standard output; a reader that went away does not end the simulator.
macro_rules! say {
    ($($text:tt)*) => {{
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

/// `switchroom smpp sim`
pub fn sim(world: &World, args: SimArgs) -> anyhow::Result<ExitCode> {
    let sim = Arc::new(Sim::new(world, &args)?);
    let tls = args.certificate.clone().zip(args.key.clone());
    let tls = tls.map(|(certificate, key)| ServerTls { certificate, key, client_authorities: None });
    let shared = sim.clone();
    let accept: Accept = Arc::new(move |stream, peer| {
        let link = Link::new(Options::new(Settings::new(Side::Centre), shared.clock.clone()));
        say!("{peer} connected");
        Box::pin(link.run(stream, Arc::new(Session { sim: shared.clone(), who: Mutex::default() })))
    });
    let listen = StreamListen { addr: args.listen, tls, connections: MAX_CONNECTIONS };
    let addr = block_on(world.streams.listen(listen, accept)).map_err(|e| anyhow!("{e}"))?;
    say!("SMS centre on {addr}");
    if args.stdin {
        for line in std::io::stdin().lock().lines() {
            sim.inject(&line.context("standard input")?);
        }
    }
    loop {
        std::thread::park();
    }
}

struct Sim {
    clock: Arc<dyn Clock>,
    spawn: Arc<dyn Spawn>,
    users: Vec<(String, String)>,
    delay: Duration,
    /// Status and how many of 100 get it.
    errors: Vec<(Status, u64)>,
    state: MessageState,
    receipt_after: Duration,
    silent: bool,
    echo: bool,
    decimal: bool,
    serial: AtomicU64,
    references: References,
    /// Bound links by who they are.
    links: Mutex<Vec<(String, LinkHandle)>>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    states: HashMap<String, MessageState>,
    order: VecDeque<String>,
}

impl Sim {
    fn new(world: &World, args: &SimArgs) -> anyhow::Result<Sim> {
        let users = args.users.iter().map(|u| {
            let (id, password) = u.split_once(':').context("--user is written system_id:password")?;
            Ok((id.to_owned(), password.to_owned()))
        });
        let errors = args.errors.iter().map(|text| {
            let (status, percent) = text.split_once(':').unwrap_or((text, "100"));
            let number = status
                .strip_prefix("0x")
                .map_or_else(|| status.parse().ok(), |hex| u32::from_str_radix(hex, 16).ok());
            let status = number
                .map(Status)
                .or_else(|| Status::by_name(status).or_else(|| Status::by_name(status.strip_prefix('R')?)))
                .with_context(|| format!("--error: there is no status \"{status}\""))?;
            let percent = percent.parse().with_context(|| format!("--error: \"{percent}\" is no number"))?;
            Ok((status, percent))
        });
        let (word, after) = args.receipt.split_once(':').unwrap_or((&args.receipt, "100"));
        Ok(Sim {
            clock: world.clock.clone(),
            spawn: world.spawn.clone(),
            users: users.collect::<anyhow::Result<_>>()?,
            delay: Duration::from_millis(args.delay),
            errors: errors.collect::<anyhow::Result<_>>()?,
            state: receipt::state(word.as_bytes()),
            receipt_after: Duration::from_millis(
                after.parse().with_context(|| format!("--receipt: \"{after}\" is no number"))?,
            ),
            silent: args.silent,
            echo: args.echo,
            decimal: args.decimal_receipts,
            serial: AtomicU64::new(0x10_0000),
            references: References::default(),
            links: Mutex::default(),
            known: Mutex::default(),
        })
    }

    /// The error for this message, by its number.
    fn error(&self, serial: u64) -> Option<Status> {
        let mut dice = serial.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        dice %= 100;
        for (status, percent) in &self.errors {
            if dice < *percent {
                return Some(*status);
            }
            dice -= percent;
        }
        None
    }

    /// A link of this client that receives; its own when there is none.
    fn receiver(&self, who: &str, own: &LinkHandle) -> Option<LinkHandle> {
        let receives = |l: &LinkHandle| l.mode().is_some_and(Mode::receives);
        let links = self.links.lock();
        let of_client = links.iter().find(|(name, l)| name == who && receives(l)).map(|(_, l)| l.clone());
        Some(own.clone()).filter(receives).or(of_client)
    }

    fn inject(&self, line: &str) {
        let mut words = line.splitn(3, ' ');
        let (Some(from), Some(to), Some(text)) = (words.next(), words.next(), words.next()) else {
            return eprintln!("\"{line}\": write FROM TO TEXT");
        };
        let links: Vec<LinkHandle> = self.links.lock().iter().map(|(_, l)| l.clone()).collect();
        for link in links.iter().filter(|l| l.mode().is_some_and(Mode::receives)) {
            self.deliver_text(link, address(from), address(to), text);
        }
    }

    fn deliver_text(&self, link: &LinkHandle, from: Address<'_>, to: Address<'_>, text: &str) {
        let reference = self.references.next(to.addr);
        match compose(text, Wanted::Shortest, None, reference, Style::default()) {
            Ok(composed) => {
                for part in &composed.parts {
                    let message = ShortMessage {
                        source: from,
                        destination: to,
                        esm_class: composed.esm_class,
                        data_coding: composed.data_coding,
                        text: &part.text,
                        ..ShortMessage::default()
                    };
                    deliver(link, message);
                }
            }
            Err(e) => eprintln!("{e}"),
        }
    }
}

fn deliver(link: &LinkHandle, message: ShortMessage<'_>) {
    if let Err(e) = link.send(CommandId::DELIVER_SM, &Body::Message(message), 1) {
        say!("not delivered: {e}");
    }
}

/// One client.
struct Session {
    sim: Arc<Sim>,
    who: Mutex<String>,
}

impl Session {
    fn submit(&self, link: &LinkHandle, header: Header, message: &ShortMessage<'_>) {
        let sim = &self.sim;
        let serial = sim.serial.fetch_add(1, Relaxed);
        let status = sim.error(serial).unwrap_or(Status::OK);
        let id = format!("{serial:x}");
        if sim.silent {
            return;
        }
        if status == Status::OK {
            let mut known = sim.known.lock();
            if known.order.len() >= MAX_KNOWN
                && let Some(oldest) = known.order.pop_front()
            {
                known.states.remove(&oldest);
            }
            known.order.push_back(id.clone());
            known.states.insert(id.clone(), sim.state);
        }
        let answer = move |link: &LinkHandle| match header.command {
            CommandId::SUBMIT_MULTI if status == Status::OK => {
                let body = Body::MultiResponse(MultiResponse::new(id.as_bytes(), 0, &[]));
                link.respond(header, status, &body);
            }
            _ if status == Status::OK => {
                let id = MessageId { id: id.as_bytes(), present: true, ..MessageId::default() };
                link.respond(header, status, &Body::MessageId(id));
            }
            _ => {
                link.respond(header, status, &Body::Empty);
            }
        };
        if sim.delay.is_zero() {
            answer(link);
        } else {
            let (sleep, link) = (sim.clock.sleep(sim.delay), link.clone());
            sim.spawn.spawn(Box::pin(async move {
                sleep.await;
                answer(&link);
            }));
        }
        if status == Status::OK {
            self.follow(link, serial, message);
        }
    }

    /// What comes after an accepted message: its receipt, its echo.
    fn follow(&self, link: &LinkHandle, serial: u64, message: &ShortMessage<'_>) {
        let sim = self.sim.clone();
        let Some(to) = sim.receiver(&self.who.lock(), link) else { return };
        if sim.echo {
            let tlvs = message.tlvs;
            let echo = ShortMessage {
                source: message.destination,
                destination: message.source,
                esm_class: message.esm_class & 0x40,
                data_coding: message.data_coding,
                text: message.text,
                tlvs,
                ..ShortMessage::default()
            };
            deliver(&to, echo);
        }
        let wanted = match message.registered_delivery & 3 {
            1 => true,
            2 => sim.state != MessageState::Delivered,
            3 => sim.state == MessageState::Delivered,
            _ => false,
        };
        if !wanted {
            return;
        }
        let own = |a: &Address<'_>| (a.ton, a.npi, a.addr.to_vec());
        let (from, dest) = (own(&message.destination), own(&message.source));
        let beginning = message.text[..message.text.len().min(20)].to_vec();
        let after = sim.clock.sleep(sim.delay + sim.receipt_after);
        let submit = sim.clock.unix().as_secs() as i64;
        let spawn = sim.spawn.clone();
        spawn.spawn(Box::pin(async move {
            after.await;
            let id = if sim.decimal { serial.to_string() } else { format!("{serial:x}") };
            let receipt = Receipt {
                id: id.as_bytes(),
                submitted: 1,
                delivered: u16::from(sim.state == MessageState::Delivered),
                submit,
                done: sim.clock.unix().as_secs() as i64,
                state: sim.state,
                error: b"000",
                text: &beginning,
            };
            let text = receipt.write(0);
            let mut tlvs = Vec::new();
            push_tlv(&mut tlvs, tag::RECEIPTED_MESSAGE_ID, &[id.as_bytes(), &[0]].concat());
            push_tlv(&mut tlvs, tag::MESSAGE_STATE, &[sim.state as u8]);
            let message = ShortMessage {
                source: Address { ton: from.0, npi: from.1, addr: &from.2 },
                destination: Address { ton: dest.0, npi: dest.1, addr: &dest.2 },
                esm_class: 0x04,
                text: &text,
                tlvs: Tlvs::read(&tlvs, false).unwrap_or_default(),
                ..ShortMessage::default()
            };
            deliver(&to, message);
        }));
    }
}

impl Handler for Session {
    fn bind(&self, link: &LinkHandle, header: Header, bind: &Bind<'_>) {
        let text = |t: &[u8]| String::from_utf8_lossy(t).into_owned();
        let (who, password) = (text(bind.system_id), text(bind.password));
        let users = &self.sim.users;
        if !users.is_empty() && !users.contains(&(who.clone(), password)) {
            say!("{who}: {} refused", header.command);
            link.refuse(header, Status::BINDFAIL);
            return;
        }
        let version = (bind.interface_version >= 0x34).then_some(0x34);
        if link.accept(header, b"switchroom-sim", version) {
            say!("{who}: {}", header.command);
            self.sim.links.lock().push((who.clone(), link.clone()));
            *self.who.lock() = who;
        }
    }

    fn request(&self, link: &LinkHandle, pdu: &Pdu<'_>) {
        let header = pdu.header;
        match &pdu.body {
            Body::Message(message) => self.submit(link, header, message),
            Body::Multi { message, .. } => self.submit(link, header, message),
            Body::Data(data) => self.submit(link, header, &ShortMessage::from(*data)),
            Body::Query(query) => {
                let id = String::from_utf8_lossy(query.id).into_owned();
                let state = self.sim.known.lock().states.get(&id).copied();
                match state {
                    Some(state) => {
                        let body =
                            QueryResponse { id: query.id, final_date: b"", state: state as u8, error: 0 };
                        link.respond(header, Status::OK, &Body::QueryResponse(body));
                    }
                    None => {
                        link.respond(header, Status::QUERYFAIL, &Body::Empty);
                    }
                }
            }
            Body::Cancel(cancel) => {
                let known = self.sim.known.lock().states.contains_key(&*String::from_utf8_lossy(cancel.id));
                let status = if known { Status::OK } else { Status::CANCELFAIL };
                link.respond(header, status, &Body::Empty);
            }
            Body::Replace(replace) => {
                let known = self.sim.known.lock().states.contains_key(&*String::from_utf8_lossy(replace.id));
                let status = if known { Status::OK } else { Status::REPLACEFAIL };
                link.respond(header, status, &Body::Empty);
            }
            _ => {
                link.nack(header, Status::INVCMDID);
            }
        }
    }

    fn response(&self, _: &LinkHandle, _: u64, request: CommandId, pdu: &Pdu<'_>) {
        if pdu.header.status != Status::OK {
            say!("{}: {request} refused: {}", self.who.lock(), pdu.header.status);
        }
    }

    fn unanswered(&self, _: &LinkHandle, _: u64) {
        say!("{}: no answer", self.who.lock());
    }

    fn closed(&self, link: &LinkHandle, why: &Closed) {
        self.sim.links.lock().retain(|(_, l)| !l.is(link));
        say!("{}: {why}", self.who.lock());
    }
}
