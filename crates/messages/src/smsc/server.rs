//! The SMPP listener: customers bind, submit, ask, cancel and replace, and get their messages and receipts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;
use switchroom_engine::smpp_session::{Mode, Settings as SessionSettings, Side};
use switchroom_kernel::Kernel;
use switchroom_kernel::open::block_on;
use switchroom_kernel::ports::stream::{ServerTls, StreamListen};
use switchroom_wire::gsm::Udh;
use switchroom_wire::smpp::time::Time;
use switchroom_wire::smpp::{
    Address, Bind, Body, CommandId, Header, MessageId, MultiResponse, Pdu, Query, QueryResponse, Rules,
    ShortMessage, Status, Target, Tlvs, push_failure, tag, targets,
};

use super::centre::{Centre, Outcome, Submission};
use super::customer::Customer;
use super::message::{Addr, Content};
use crate::link::{Closed, Counters, Handler, Link, LinkHandle, Options};

/// Where and how to listen.
#[derive(Clone, Debug)]
pub struct Listen {
    /// Address.
    pub addr: SocketAddr,
    /// Certificate and key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Connections at a time.
    pub connections: usize,
    /// Timers and windows.
    pub session: SessionSettings,
}

/// The session settings of our side.
pub fn session(window: usize) -> SessionSettings {
    SessionSettings { window_in: window, window_out: window, ..SessionSettings::new(Side::Centre) }
}

/// Listens for as long as the process lives.
pub fn listen(kernel: &Arc<Kernel>, centre: &Arc<Centre>, counters: &Arc<Counters>, listen: Listen) {
    let (centre, counters) = (centre.clone(), counters.clone());
    let clock = kernel.drivers.clock.clone();
    let session = listen.session;
    let accept = Arc::new(move |stream, peer: SocketAddr| {
        let options = Options { counters: counters.clone(), ..Options::new(session, clock.clone()) };
        let link = Link::new(options);
        let visitor = Visitor { centre: centre.clone(), peer, state: Arc::default() };
        Box::pin(link.run(stream, Arc::new(visitor))) as switchroom_kernel::ports::net::BoxFuture<()>
    });
    let tls = listen.tls.map(|(certificate, key)| ServerTls { certificate, key, client_authorities: None });
    let secure = tls.is_some();
    let streams = StreamListen { addr: listen.addr, tls, connections: listen.connections };
    let started = kernel.drivers.streams.listen(streams, accept);
    let addr = listen.addr;
    // Who is told that the server is ready may bind at once.
    match block_on(started) {
        Ok(addr) => tracing::info!("smsc: listening on {addr}{}", if secure { " (TLS)" } else { "" }),
        Err(e) => tracing::error!("smsc: cannot listen on {addr}: {e}"),
    }
}

/// One connection.
struct Visitor {
    centre: Arc<Centre>,
    peer: SocketAddr,
    state: Arc<Mutex<Bound>>,
}

#[derive(Default)]
struct Bound {
    customer: Option<Arc<Customer>>,
    /// Over, so that a password checked late binds nobody.
    closed: bool,
    /// Submissions without an answer.
    open: Arc<AtomicUsize>,
}

impl Handler for Visitor {
    fn bind(&self, link: &LinkHandle, header: Header, bind: &Bind<'_>) {
        let name = String::from_utf8_lossy(bind.system_id).into_owned();
        let refuse = |status, why: &str| {
            tracing::info!("smsc: {name} from {} may not bind: {why}", self.peer);
            link.refuse(header, status);
            link.close();
        };
        let Some(customer) = self.centre.customer(&name) else {
            return refuse(Status::INVPASWD, "no such account");
        };
        let account = customer.account();
        let Some(mode) = Mode::of(header.command) else { return };
        if account.strict && (bind.password.len() > 8 || bind.system_id.len() > 15) {
            return refuse(Status::INVPASWD, "its account is strict, and system_id or password are too long");
        }
        if !account.enabled || !account.admits(self.peer.ip()) || !account.may_bind(mode) {
            return refuse(Status::BINDFAIL, "disabled, or not from this address, or not in this mode");
        }
        let (link, state, centre) = (link.clone(), self.state.clone(), self.centre.clone());
        let version = (bind.interface_version >= 0x34).then_some(bind.interface_version.min(0x50));
        let peer = self.peer;
        let late = link.clone();
        let told = Box::new(move |right: bool| {
            if !right {
                tracing::info!("smsc: {} from {peer} may not bind: wrong password", customer.name);
                link.refuse(header, Status::INVPASWD);
                return link.close();
            }
            {
                let mut bound = state.lock();
                if bound.closed {
                    return;
                }
                if !customer.add(&link) {
                    drop(bound);
                    tracing::info!("smsc: {} from {peer} may not bind: too many binds", customer.name);
                    link.refuse(header, Status::BINDFAIL);
                    return link.close();
                }
                bound.customer = Some(customer.clone());
            }
            link.set_strict(customer.account().strict);
            link.accept(header, centre.settings.system_id.as_bytes(), version);
            tracing::info!("smsc: {} from {peer} is bound ({mode:?})", customer.name);
            if mode.receives() {
                centre.dispatch(&format!("account:{}", customer.name).into());
            }
        });
        if !self.centre.verifier.check(account.password.clone(), bind.password.to_vec(), told) {
            late.refuse(header, Status::SYSERR);
        }
    }

    fn request(&self, link: &LinkHandle, pdu: &Pdu<'_>) {
        let header = pdu.header;
        let (customer, open) = {
            let state = self.state.lock();
            (state.customer.clone(), state.open.clone())
        };
        let Some(customer) = customer else {
            link.respond(header, Status::INVBNDSTS, &Body::Empty);
            return;
        };
        let fail = |status| {
            link.respond(header, status, &Body::Empty);
        };
        match &pdu.body {
            Body::Message(m) if header.command == CommandId::SUBMIT_SM => {
                if open.load(Relaxed) >= customer.account().window {
                    return fail(Status::THROTTLED);
                }
                match self.submission(&customer, m, m.payload()) {
                    Ok(s) => self.submit(&customer, link, header, open, s),
                    Err(status) => fail(status),
                }
            }
            Body::Data(d) => {
                let m = ShortMessage::from(*d);
                match self.submission(&customer, &m, m.payload()) {
                    Ok(s) => self.submit(&customer, link, header, open, s),
                    Err(status) => fail(status),
                }
            }
            Body::Multi { message, targets, .. } => self.multi(&customer, link, header, message, targets),
            Body::Query(q) => self.query(&customer, link, header, q),
            Body::Cancel(c) => {
                let done = if c.id.is_empty() {
                    let (source, destination) = (Addr::of(&c.source), Addr::of(&c.destination));
                    self.centre.cancel_alike(&customer.name, &source, &destination, c.service_type) > 0
                } else {
                    let source = customer.account().strict.then_some(c.source.addr);
                    number(c.id).is_some_and(|id| self.centre.cancel_of(&customer.name, id, source))
                };
                fail(if done { Status::OK } else { Status::CANCELFAIL });
            }
            Body::Replace(r) => {
                let now = self.centre.now();
                let times =
                    (time(r.schedule, now, Status::INVSCHED), time(r.validity, now, Status::INVEXPIRY));
                let (Ok(schedule), Ok(validity)) = times else {
                    return fail(if times.0.is_err() { Status::INVSCHED } else { Status::INVEXPIRY });
                };
                let text =
                    if r.text.is_empty() { r.tlvs.get(tag::MESSAGE_PAYLOAD).unwrap_or(&[]) } else { r.text };
                let source = Addr::of(&r.source);
                let change = |c: &mut Content| {
                    c.text = text.into();
                    c.registered_delivery = r.registered_delivery;
                };
                let done = number(r.id).is_some_and(|id| {
                    self.centre.replace(&customer.name, id, &source.addr, schedule, validity, change)
                });
                fail(if done { Status::OK } else { Status::REPLACEFAIL });
            }
            _ if header.command.response().is_some() => fail(Status::INVCMDID),
            _ => {}
        }
    }

    fn response(&self, _: &LinkHandle, token: u64, request: CommandId, pdu: &Pdu<'_>) {
        if !matches!(request, CommandId::DELIVER_SM | CommandId::DATA_SM) {
            return;
        }
        let outcome = match pdu.header.status {
            Status::OK if pdu.header.command != CommandId::GENERIC_NACK => Outcome::Delivered,
            Status::THROTTLED | Status::MSGQFUL => Outcome::Throttled,
            status if status.is_temporary() => Outcome::Temporary(status),
            status => Outcome::Permanent(status),
        };
        self.centre.outcome(token, outcome);
    }

    fn unanswered(&self, _: &LinkHandle, token: u64) {
        self.centre.outcome(token, Outcome::Unknown);
    }

    fn closed(&self, link: &LinkHandle, why: &Closed) {
        let customer = {
            let mut state = self.state.lock();
            state.closed = true;
            state.customer.take()
        };
        if let Some(customer) = customer {
            customer.remove(link);
            tracing::info!("smsc: {} from {} has gone: {why}", customer.name, self.peer);
        }
    }
}

impl Visitor {
    fn submission(
        &self,
        customer: &Customer,
        m: &ShortMessage<'_>,
        payload: &[u8],
    ) -> Result<Submission, Status> {
        let now = self.centre.now();
        if customer.account().strict && !m.source.addr.is_ascii() {
            return Err(Status::INVSRCADR);
        }
        let tlvs = without_payload(m.tlvs);
        let ttl = m.tlvs.number(tag::QOS_TIME_TO_LIVE).map(|s| now + i64::from(s));
        if !m.text.is_empty() && m.tlvs.get(tag::MESSAGE_PAYLOAD).is_some_and(|p| !p.is_empty()) {
            return Err(Status::INVMSGLEN);
        }
        if m.sm_default_msg_id != 0 && payload.is_empty() {
            // No messages are kept ready here.
            return Err(Status::INVDFTMSGID);
        }
        if m.has_udh() && Udh::read(payload).is_none() {
            return Err(Status::INVESMCLASS);
        }
        if customer.account().strict {
            reserved(m)?;
        }
        Ok(Submission {
            source: Addr::of(&m.source),
            destination: Addr::of(&m.destination),
            content: Content {
                service_type: m.service_type.into(),
                // Mode is between the customer and us.
                esm_class: m.esm_class & !0x03,
                protocol_id: m.protocol_id,
                priority: m.priority,
                registered_delivery: m.registered_delivery,
                data_coding: m.data_coding,
                text: payload.into(),
                tlvs,
            },
            schedule: time(m.schedule, now, Status::INVSCHED)?,
            validity: ttl.or(time(m.validity, now, Status::INVEXPIRY)?),
            replace: m.replace_if_present == 1,
            at_once: m.esm_class & 0x03 == 0x02,
            ..Submission::default()
        })
    }

    fn submit(
        &self,
        customer: &Arc<Customer>,
        link: &LinkHandle,
        header: Header,
        open: Arc<AtomicUsize>,
        s: Submission,
    ) {
        open.fetch_add(1, Relaxed);
        let link = link.clone();
        let answered = move |result: Result<u64, Status>| {
            open.fetch_sub(1, Relaxed);
            match result {
                Ok(id) => {
                    let id = id.to_string();
                    let body = MessageId { id: id.as_bytes(), present: true, ..MessageId::default() };
                    link.respond(header, Status::OK, &Body::MessageId(body));
                }
                Err(status) => {
                    link.respond(header, status, &Body::Empty);
                }
            }
        };
        self.centre.submit(customer, s, Box::new(answered));
    }

    /// Each destination is a message of its own; the answer names the first that was accepted.
    fn multi(
        &self,
        customer: &Arc<Customer>,
        link: &LinkHandle,
        header: Header,
        message: &ShortMessage<'_>,
        destinations: &[u8],
    ) {
        struct Answer {
            left: usize,
            id: Option<u64>,
            failures: Vec<u8>,
            failed: u8,
        }
        let mut to = Vec::new();
        for t in targets(destinations, Rules::LENIENT) {
            match t {
                Target::Address(a) => to.push(Addr::of(&a)),
                Target::List(name) => match self.centre.list(&customer.name, name) {
                    Some(members) => to.extend(members),
                    None => {
                        link.respond(header, Status::INVDLNAME, &Body::Empty);
                        return;
                    }
                },
            }
        }
        if to.is_empty() || to.len() > super::lists::MOST {
            link.respond(header, Status::INVNUMDESTS, &Body::Empty);
            return;
        }
        let base = match self.submission(customer, message, message.payload()) {
            Ok(s) => s,
            Err(status) => {
                link.respond(header, status, &Body::Empty);
                return;
            }
        };
        let answer = Answer { left: to.len(), id: None, failures: Vec::new(), failed: 0 };
        let answer = Arc::new(Mutex::new(answer));
        for destination in to {
            let (link, answer, address) = (link.clone(), answer.clone(), destination.clone());
            let answered = move |result: Result<u64, Status>| {
                let mut a = answer.lock();
                a.left -= 1;
                match result {
                    Ok(id) => a.id = Some(a.id.map_or(id, |old| old.min(id))),
                    Err(status) => {
                        let wire = Address { ton: address.ton, npi: address.npi, addr: &address.addr };
                        // One octet counts them; those that it cannot count are in the log.
                        if a.failed < u8::MAX {
                            push_failure(&mut a.failures, &wire, status);
                            a.failed += 1;
                        } else {
                            let to = String::from_utf8_lossy(&address.addr);
                            tracing::info!("smsc: submit_multi: {to} is refused as well: {status}");
                        }
                    }
                }
                if a.left == 0 {
                    let id = a.id.map(|id| id.to_string()).unwrap_or_default();
                    let status = if a.id.is_some() { Status::OK } else { Status::SUBMITFAIL };
                    let body = MultiResponse::new(id.as_bytes(), a.failed, &a.failures);
                    link.respond(header, status, &Body::MultiResponse(body));
                }
            };
            let s = Submission { destination, ..base.clone() };
            self.centre.submit(customer, s, Box::new(answered));
        }
    }

    fn query(&self, customer: &Arc<Customer>, link: &LinkHandle, header: Header, asked: &Query<'_>) {
        let Some(number) = number(asked.id) else {
            link.respond(header, Status::INVMSGID, &Body::Empty);
            return;
        };
        // To the letter, who asks names the sender as well (SMPP 5.0 §4.5.1.1).
        if customer.account().strict && !self.centre.is_from(number, asked.source.addr) {
            link.respond(header, Status::QUERYFAIL, &Body::Empty);
            return;
        }
        let (centre, customer, link) = (self.centre.clone(), customer.clone(), link.clone());
        let asked = async move {
            let Some((state, done, error)) = centre.query(&customer.name, number).await else {
                link.respond(header, Status::INVMSGID, &Body::Empty);
                return;
            };
            let id = number.to_string();
            let date = Time::At(done).write();
            let body = QueryResponse {
                id: id.as_bytes(),
                final_date: if done == 0 { &[] } else { &date },
                state: state as u8,
                error: error.min(255) as u8,
            };
            link.respond(header, Status::OK, &Body::QueryResponse(body));
        };
        self.centre.base.spawn.spawn(Box::pin(asked));
    }
}

/// Values that the specification reserves (SMPP 5.0 §4.7.12, §4.7.21, §4.7.22).
fn reserved(m: &ShortMessage<'_>) -> Result<(), Status> {
    match m {
        _ if m.registered_delivery & 0xe0 != 0 => Err(Status::INVREGDLVFLG),
        _ if m.replace_if_present > 1 => Err(Status::INVREPFLAG),
        _ => Ok(()),
    }
}

/// The text of an id back to its number.
pub fn number(id: &[u8]) -> Option<u64> {
    std::str::from_utf8(id).ok()?.trim().parse().ok().filter(|n| *n > 0 && *n < i64::MAX as u64)
}

/// A time of SMPP as unix seconds, or this fault.
pub fn time(text: &[u8], now: i64, fault: Status) -> Result<Option<i64>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    Time::read(text).map(|t| Some(t.at(now))).ok_or(fault)
}

/// Parameters that go on with the message; the payload is kept as text.
fn without_payload(tlvs: Tlvs<'_>) -> Box<[u8]> {
    let mut out = Vec::new();
    for t in tlvs.iter().filter(|t| !matches!(t.tag, tag::MESSAGE_PAYLOAD | tag::QOS_TIME_TO_LIVE)) {
        switchroom_wire::smpp::push_tlv(&mut out, t.tag, t.value);
    }
    out.into()
}
