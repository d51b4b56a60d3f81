//! What comes from a peer: binds to our sockets, messages that become SIP MESSAGEs, receipts.
//!
//! A message is answered when the MESSAGE has its final reply, so the peer keeps what could not be delivered. Of a message in
//! parts all but the last are answered at once, since a peer's window may be smaller than the message; its parts then lie
//! in memory.

use std::cell::RefCell;
use std::hash::BuildHasher;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use switchroom_calls::tm::api::{Request, request};
use switchroom_engine::smpp_session::{Mode, Side};
use switchroom_kernel::Shard;
use switchroom_script::Value;
use switchroom_wire::gsm::Alphabet;
use switchroom_wire::smpp::{
    Bind, Body, CommandId, Header, MessageState, Outbind, Pdu, ShortMessage, Status, push_tlv, receipt, tag,
};

use super::answer::{Answer, Arrival, Verdict};
use super::api::{Incoming, Receipt};
use super::connection::{self, BIND, Connection};
use super::gateway::{Gateway, same};
use super::outgoing::{Outgoing, Party};
use super::phones::{Question, Receipts};
use crate::imdn::{self, Asked};
use crate::link::join::{Key, Outcome, Piece, read};
use crate::link::{Closed, Handler, LinkHandle};

/// Texts of an application in parts, whose names are remembered for their receipts.
const MAX_SUBMITTED: usize = 10_000;

/// One peer: what happens on its link.
pub(super) struct Peer {
    gateway: Arc<Gateway>,
    address: String,
    side: Side,
    connection: Mutex<Option<Arc<Connection>>>,
    /// Whether it was bound, and why it ended.
    ended: Mutex<(bool, Option<String>)>,
}

impl Peer {
    pub fn new(
        gateway: Arc<Gateway>,
        address: String,
        side: Side,
        connection: Option<Arc<Connection>>,
    ) -> Peer {
        let connection = Mutex::new(connection);
        Peer { gateway, address, side, connection, ended: Mutex::default() }
    }

    /// Whether it was bound, and why it ended.
    pub fn ended(&self) -> (bool, String) {
        let (bound, why) = &*self.ended.lock();
        (*bound, why.clone().unwrap_or_else(|| "closed".to_owned()))
    }

    fn connection(&self) -> Option<Arc<Connection>> {
        self.connection.lock().clone()
    }

    fn now_bound(&self, link: &LinkHandle, connection: &Arc<Connection>) -> bool {
        if !connection.attach(&self.gateway, link) {
            return false;
        }
        self.ended.lock().0 = true;
        tracing::info!("proto_smpp: {} is bound with {}", connection.row.name, self.address);
        self.gateway.tell_all(Some(&connection.row.name));
        self.gateway.tell_bind(connection, "bound", "");
        connection::pump(&self.gateway, connection);
        true
    }

    fn message(&self, link: &LinkHandle, header: Header, message: &ShortMessage<'_>) {
        let Some(connection) = self.connection() else { return };
        let mut answer =
            Answer { waits: Some((link.clone(), header)), id: Vec::new(), parts: None, receipts: None };
        if header.command == CommandId::SUBMIT_SM || header.command == CommandId::DATA_SM {
            answer.id = format!("{:x}", self.gateway.next_letter()).into_bytes();
        }
        let party =
            |a: &switchroom_wire::smpp::Address<'_>| Party { ton: a.ton, npi: a.npi, addr: a.addr.to_vec() };
        let (source, destination) = (party(&message.source), party(&message.destination));
        let receiver = self.gateway.receiver.read().clone().filter(|_| !message.is_receipt());
        if let Some(receiver) = receiver
            && receiver.wants(&connection.row.name, &source, &destination)
        {
            self.gateway.count(|s| s.received);
            let raw = as_it_came(message, source, destination, connection.side());
            return receiver.take(&connection.row.name, raw, answer);
        }
        // Without the phones' word a message is delivered or refused, and then there is no receipt of a failure.
        let wanted = connection.side() == Side::Centre
            && match message.registered_delivery & 0x03 {
                1 | 3 => true,
                2 => connection.conf.imdn,
                _ => false,
            };
        let (own_id, mut ids) = (answer.id.clone(), vec![answer.id.clone()]);
        let piece = Piece::from(message);
        let of = Key::of(&piece).filter(|_| !message.is_receipt());
        let content = match message.is_receipt() {
            // The alphabet of receipts is that of their text, whatever they say.
            true => read(&Piece { data_coding: receipt_coding(message), ..piece }, Alphabet::Latin1),
            false => match connection.joiner.lock().add(self.gateway.clock.now(), &piece) {
                Outcome::Whole(joined) => {
                    if let Some((key, _)) = &of {
                        ids.extend(connection.submitted.lock().remove(key).unwrap_or_default());
                    }
                    answer.parts = of.map(|(key, part)| Arrival {
                        gateway: self.gateway.clone(),
                        connection: connection.clone(),
                        key,
                        last: Some(part),
                    });
                    joined
                }
                Outcome::Waiting => {
                    let Some((key, part)) = of else { return answer.give(Verdict::Taken) };
                    if wanted {
                        let mut submitted = connection.submitted.lock();
                        if submitted.len() < MAX_SUBMITTED || submitted.contains_key(&key) {
                            let ids = submitted.entry(key.clone()).or_default();
                            if ids.len() < 255 {
                                ids.push(own_id);
                            }
                        }
                    }
                    return self.gateway.keep_part(&connection.row.name, &key, part, message, answer);
                }
                Outcome::Full => {
                    tracing::warn!("proto_smpp: {}: too many parts wait", connection.row.name);
                    return answer.give(Verdict::Later);
                }
            },
        };
        if wanted && !message.is_receipt() {
            let receipts = Receipts {
                connection: connection.row.name.clone(),
                ids,
                source: source.clone(),
                destination: destination.clone(),
                submitted: self.gateway.unix() as i64,
                wanted: message.registered_delivery,
            };
            answer.receipts = Some((self.gateway.clone(), receipts));
        }
        let incoming = Incoming {
            connection: connection.row.name.clone(),
            source,
            destination,
            receipt: message.is_receipt().then(|| receipt_of(message, &content.octets)),
            content,
            data_coding: message.data_coding,
            esm_class: message.esm_class,
            protocol_id: message.protocol_id,
        };
        arrived(&self.gateway, &self.address, incoming, answer, connection.conf.imdn);
    }
}

/// Parts whose others did not come in time go as they are.
pub(super) fn release(gateway: &Arc<Gateway>) {
    let connections: Vec<_> = gateway.connections.read().values().cloned().collect();
    for connection in connections {
        let overdue = connection.joiner.lock().overdue(gateway.clock.now());
        for (key, parts) in overdue {
            connection.submitted.lock().remove(&key);
            let address = format!("{}:{}", connection.row.host, connection.row.port);
            let party = |addr: &[u8]| Party { addr: addr.to_vec(), ..Party::default() };
            for content in parts {
                let incoming = Incoming {
                    connection: connection.row.name.clone(),
                    source: party(&key.source),
                    destination: party(&key.destination),
                    content,
                    data_coding: 0,
                    esm_class: 0,
                    protocol_id: 0,
                    receipt: None,
                };
                let (gateway, connection, key) = (gateway.clone(), connection.clone(), key.clone());
                let parts = Some(Arrival { gateway: gateway.clone(), connection, key, last: None });
                arrived(
                    &gateway,
                    &address,
                    incoming,
                    Answer { waits: None, id: Vec::new(), parts, receipts: None },
                    false,
                );
            }
        }
    }
}

/// A message came, whole, or a receipt. `imdn`: the phone is asked for its word where a receipt is wanted.
fn arrived(gateway: &Arc<Gateway>, address: &str, incoming: Incoming, answer: Answer, imdn: bool) {
    gateway.count(|s| if incoming.receipt.is_some() { s.receipts } else { s.received });
    if let Some(receipt) = &incoming.receipt {
        let text = |bytes: &[u8]| Value::str(bytes.to_vec());
        let values = vec![
            Value::str(incoming.connection.clone()),
            Value::str(receipt.id.clone()),
            Value::str(receipt.word.clone()),
            Value::str(receipt.error.clone()),
            text(&incoming.source.addr),
            text(&incoming.destination.addr),
            Value::str(incoming.content.text.clone()),
        ];
        gateway.raise(gateway.receipt_event, values);
    }
    go_on(gateway, address, incoming, answer, imdn, PATIENCE);
}

/// A receipt that fits no text is looked at again so often, and after so long each time, while texts are being sent by the
/// same connection: it may be faster than the answer that names its message.
const PATIENCE: u32 = 10;
const PAUSE: Duration = Duration::from_millis(200);

fn go_on(
    gateway: &Arc<Gateway>,
    address: &str,
    incoming: Incoming,
    answer: Answer,
    imdn: bool,
    patience: u32,
) {
    let mut told = None;
    if let Some(receipt) = &incoming.receipt {
        let last = receipt.state.is_final() || receipt.state == MessageState::Accepted;
        let (found, early) = {
            let mut asked = gateway.asked.lock();
            let found = asked.find(&incoming.connection, &receipt.id, last);
            let early = found.is_none() && asked.is_leaving(&incoming.connection);
            (found, early)
        };
        if early && patience > 0 {
            let (house, address) = (gateway.clone(), address.to_owned());
            gateway.spawn.spawn(Box::pin(async move {
                house.clock.sleep(PAUSE).await;
                go_on(&house, &address, incoming, answer, imdn, patience - 1);
            }));
            return;
        }
        if let Some(found) = found {
            match last.then(|| found.ended(receipt.state)).flatten() {
                Some(delivered) => told = Some((found, delivered)),
                // Others of its parts, or a state on the way: nobody asked for these.
                None => {
                    if last {
                        gateway.note(found.done());
                    }
                    return answer.give(Verdict::Taken);
                }
            }
        }
    }
    let receiver = gateway.receiver.read().clone().filter(|_| told.is_none());
    let answer = match receiver {
        Some(receiver) => match receiver.receive(&incoming, answer) {
            Some(answer) => answer,
            None => return,
        },
        None => answer,
    };
    let (Some(uri), Some(kernel)) = (gateway.outbound_uri.clone(), gateway.kernel()) else {
        // Nobody wants it, and a receipt was told as an event.
        let verdict = if incoming.receipt.is_some() { Verdict::Taken } else { Verdict::Never };
        return answer.give(verdict);
    };
    let made = match &told {
        Some((found, delivered)) => notification(&incoming, &found.text.asked, *delivered, uri),
        None => message_request(&incoming, &gateway.local, address, uri),
    };
    let asks = answer.receipts.as_ref().filter(|_| imdn && incoming.content.alphabet != Alphabet::Binary);
    let phone = asks.and_then(|(_, receipts)| gateway.ask_phone(receipts));
    let wrapped = phone.as_ref().map(|phone| wrap(&made, &phone.name, gateway.unix() as i64));
    // Messages between the same two keep their order: the next leaves when the one before has its final reply.
    let between = (incoming.source.addr, incoming.destination.addr);
    let worker = gateway.random.hash_one(&between) as usize % kernel.workers.max(1);
    let (house, over) = (gateway.clone(), between.clone());
    let send = move |go: bool| {
        if !go {
            // The one before has found nobody; the answer that is dropped here asks the peer to try again.
            drop(answer);
            return false;
        }
        let posted = kernel.on_worker(worker, move |shard| {
            let waits = RefCell::new(Some((answer, told)));
            let done = move |code: u16, asked: Option<&str>| {
                let verdict = Verdict::of_reply(code);
                if verdict != Verdict::Taken {
                    house.count(|s| s.refused);
                }
                let Some((mut answer, told)) = waits.borrow_mut().take() else { return };
                // The line is free before the peer hears of it and tries again.
                house.lines.over(&over, verdict != Verdict::Later);
                match told {
                    Some((found, _)) if verdict == Verdict::Later => house.asked.lock().again(found),
                    Some((found, _)) => house.note(found.done()),
                    None => {}
                }
                match asked {
                    Some(name) if verdict == Verdict::Taken => {
                        answer.receipts = None;
                        house.phone_took(name, answer);
                    }
                    _ => answer.give(verdict),
                }
            };
            send_to_phone(shard, made, wrapped.zip(phone), Rc::new(done));
        });
        if !posted {
            tracing::warn!("proto_smpp: a worker is too busy for a message; the peer will try again");
        }
        posted
    };
    gateway.lines.enter(between, Box::new(send));
}

/// What is done with the final reply; with the name that the phone was asked under, when it was.
type Done = Rc<dyn Fn(u16, Option<&str>)>;

/// Sends the MESSAGE, first in the wrapper that asks for a notification; to a phone that does not know that, as it is.
fn send_to_phone(shard: &Rc<Shard>, plain: Request, asking: Option<(Request, Question)>, done: Done) {
    let Some((wrapped, question)) = asking else {
        return request(shard, plain, Rc::new(move |_, code, _| done(code, None)));
    };
    let again = RefCell::new(Some(plain));
    let heard = move |shard: &Rc<Shard>, code: u16| match code {
        406 | 415 | 488 => {
            if let Some(plain) = again.borrow_mut().take() {
                send_to_phone(shard, plain, None, done.clone());
            }
        }
        _ => done(code, Some(&question.name)),
    };
    request(shard, wrapped, Rc::new(move |shard, code, _| heard(shard, code)));
}

/// The same MESSAGE in a wrapper that asks for a notification (RFC 5438 §6).
fn wrap(plain: &Request, name: &str, now: i64) -> Request {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).trim_matches(['<', '>']).to_owned();
    let body =
        plain.body.as_ref().map_or_else(String::new, |(_, body)| String::from_utf8_lossy(body).into_owned());
    let body = imdn::wrap(&text(&plain.from), &text(&plain.to), &imdn::moment(now), name, &body);
    Request { body: Some((Bytes::from_static(imdn::CPIM.as_bytes()), body.into())), ..plain.clone() }
}

/// All fields of a message. Only applications ask for receipts; what an SMS centre says there is for phones.
fn as_it_came(message: &ShortMessage<'_>, source: Party, destination: Party, side: Side) -> Outgoing {
    let receipts = if side == Side::Centre { 0x1f } else { 0x1c };
    let mut tlvs = Vec::new();
    for t in message.tlvs.iter().filter(|t| t.tag != tag::MESSAGE_PAYLOAD) {
        push_tlv(&mut tlvs, t.tag, t.value);
    }
    Outgoing {
        source,
        destination,
        service_type: message.service_type.to_vec(),
        // The mode is between the peer and us.
        esm_class: message.esm_class & !0x03,
        protocol_id: message.protocol_id,
        priority: message.priority,
        schedule: message.schedule.to_vec(),
        validity: message.validity.to_vec(),
        registered_delivery: message.registered_delivery & receipts,
        data_coding: message.data_coding,
        text: message.payload().to_vec(),
        tlvs,
    }
}

/// The MESSAGE for what came.
fn message_request(incoming: &Incoming, local: &str, peer: &str, next_hop: Bytes) -> Request {
    let uri = |user: &[u8], host: &str| {
        let mut uri = Vec::with_capacity(user.len() + host.len() + 8);
        uri.extend_from_slice(b"sip:");
        escape_user(user, &mut uri);
        uri.push(b'@');
        uri.extend_from_slice(host.as_bytes());
        uri
    };
    let to = uri(&incoming.destination.addr, local);
    let from = uri(&incoming.source.addr, peer);
    let bracketed = |uri: &[u8]| Bytes::from([b"<", uri, b">"].concat());
    let mut headers = Vec::new();
    push_header(&mut headers, "P-SMPP-Connection", &incoming.connection);
    if let Some(r) = &incoming.receipt {
        let value = format!("id={};stat={};err={}", token(&r.id), token(&r.word), token(&r.error));
        push_header(&mut headers, "P-SMPP-Receipt", &value);
    }
    let body = match incoming.content.alphabet {
        Alphabet::Binary => ("application/octet-stream", Bytes::from(incoming.content.octets.clone())),
        _ => ("text/plain;charset=utf-8", Bytes::from(incoming.content.text.clone())),
    };
    Request {
        method: Bytes::from_static(b"MESSAGE"),
        ruri: to.clone().into(),
        from: bracketed(&from),
        to: bracketed(&to),
        next_hop: Some(next_hop),
        headers: headers.into(),
        body: Some((Bytes::from_static(body.0.as_bytes()), body.1)),
        ..Request::default()
    }
}

/// The MESSAGE that tells a SIP user of the end of what he sent (RFC 5438).
fn notification(incoming: &Incoming, asked: &Asked, delivered: bool, next_hop: Bytes) -> Request {
    let mut headers = Vec::new();
    push_header(&mut headers, "P-SMPP-Connection", &incoming.connection);
    let id = incoming.receipt.as_ref().map_or("", |r| &r.id);
    let about = imdn::Notification { message_id: asked.message_id.to_string(), delivered };
    let name = format!("smpp-{}", token(id));
    let body = imdn::notify(&asked.recipient, &asked.user, &asked.moment, &name, &about);
    Request {
        method: Bytes::from_static(b"MESSAGE"),
        ruri: asked.user.to_string().into(),
        from: format!("<{}>", asked.recipient).into(),
        to: format!("<{}>", asked.user).into(),
        next_hop: Some(next_hop),
        headers: headers.into(),
        body: Some((Bytes::from_static(imdn::CPIM.as_bytes()), body.into())),
        ..Request::default()
    }
}

fn push_header(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend(value.bytes().map(|b| if b.is_ascii_control() { b' ' } else { b }));
    out.extend_from_slice(b"\r\n");
}

/// What may stand in a parameter of a header.
fn token(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() && !matches!(c, ';' | ',' | '"' | '=')).take(64).collect()
}

/// Characters that a user part may have stay (RFC 3261 §25.1), others are escaped.
pub fn escape_user(user: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &b in user {
        if b.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&b) {
            out.push(b);
        } else {
            out.extend([b'%', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
        }
    }
}

/// Some SMS centres say UCS-2 and send ASCII.
fn receipt_coding(message: &ShortMessage<'_>) -> u8 {
    let text = message.payload();
    let wide = text.len() >= 2 && text.len().is_multiple_of(2) && text[0] == 0;
    if wide { 8 } else { 3 }
}

/// What a receipt says: its parameters count before its text.
fn receipt_of(message: &ShortMessage<'_>, text: &[u8]) -> Receipt {
    let narrow: Vec<u8> = match receipt_coding(message) {
        8 => text.iter().skip(1).step_by(2).copied().collect(),
        _ => text.to_vec(),
    };
    let read = receipt::read(&narrow).unwrap_or_default();
    let plain = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let by_number = message
        .tlvs
        .number(tag::MESSAGE_STATE)
        .and_then(|n| MessageState::from_number(u8::try_from(n).ok()?));
    let state = by_number.unwrap_or_else(|| read.state());
    let word = if read.stat.is_empty() { receipt::word(state).to_owned() } else { plain(read.stat) };
    let network = message.tlvs.get(tag::NETWORK_ERROR_CODE).and_then(|v| v.get(1..3));
    let error = match network {
        Some(&[high, low]) if read.error.is_empty() => u16::from_be_bytes([high, low]).to_string(),
        _ => plain(read.error),
    };
    let id = message.tlvs.text(tag::RECEIPTED_MESSAGE_ID).unwrap_or(read.id);
    Receipt { id: plain(id), state, word, error }
}

impl Handler for Peer {
    fn bind(&self, link: &LinkHandle, header: Header, bind: &Bind<'_>) {
        let connection = match self.connection() {
            Some(own) => Some(own).filter(|c| c.row.system_id.as_bytes() == bind.system_id),
            None => self.gateway.application(bind.system_id),
        };
        let verdict = match &connection {
            None => Err(Status::INVSYSID),
            Some(c) if !same(c.row.password.as_bytes(), bind.password) => Err(Status::INVPASWD),
            Some(c) => Ok(c),
        };
        match verdict {
            Ok(connection) => {
                *self.connection.lock() = Some(connection.clone());
                let version = (bind.interface_version >= 0x34).then_some(connection.conf.version);
                if !link.accept(header, connection.row.system_id.as_bytes(), version)
                    || !self.now_bound(link, connection)
                {
                    link.close();
                }
            }
            Err(status) => {
                self.gateway.count(|s| s.bind_failures);
                let who = String::from_utf8_lossy(bind.system_id);
                tracing::warn!("proto_smpp: bind of \"{who}\" from {} refused: {status}", self.address);
                link.refuse(header, status);
                link.close();
            }
        }
    }

    fn outbind(&self, link: &LinkHandle, outbind: &Outbind<'_>) {
        let found = self
            .connection()
            .or_else(|| self.gateway.centre(outbind.system_id, outbind.password, &self.address));
        match found {
            Some(connection) if connection.bind(link).is_ok() => *self.connection.lock() = Some(connection),
            _ => {
                self.gateway.count(|s| s.bind_failures);
                tracing::warn!("proto_smpp: outbind from {} fits no row", self.address);
                link.close();
            }
        }
    }

    fn request(&self, link: &LinkHandle, pdu: &Pdu<'_>) {
        match &pdu.body {
            Body::Message(message) => self.message(link, pdu.header, message),
            Body::Data(data) => self.message(link, pdu.header, &ShortMessage::from(*data)),
            Body::Alert(alert) => {
                let text = |octets: &[u8]| Value::str(octets.to_vec());
                let name = self.connection().map_or_else(String::new, |c| c.row.name.clone());
                let status = alert.tlvs.number(tag::MS_AVAILABILITY_STATUS).unwrap_or(0);
                let number =
                    Party { ton: alert.source.ton, npi: alert.source.npi, addr: alert.source.addr.to_vec() };
                let receiver = self.gateway.receiver.read().clone();
                if let Some(receiver) = receiver {
                    receiver.alert(&name, &number);
                }
                let values = vec![
                    Value::str(name),
                    text(alert.source.addr),
                    text(alert.esme.addr),
                    Value::Int(i64::from(status)),
                ];
                self.gateway.raise(self.gateway.alert_event, values);
            }
            _ => {
                link.nack(pdu.header, Status::INVCMDID);
            }
        }
    }

    fn response(&self, link: &LinkHandle, token: u64, request: CommandId, pdu: &Pdu<'_>) {
        let Some(connection) = self.connection() else { return };
        if request.is_bind() && token == BIND {
            if pdu.header.status != Status::OK {
                self.gateway.count(|s| s.bind_failures);
                let why = format!("bind refused: {}", pdu.header.status);
                self.gateway.tell_bind(&connection, "refused", &why);
                self.ended.lock().1 = Some(why);
                link.close();
            }
            return;
        }
        let id = match &pdu.body {
            Body::MessageId(m) => m.id,
            _ => &[],
        };
        connection::answered(&self.gateway, &connection, token, pdu.header.status, id);
    }

    fn unanswered(&self, _: &LinkHandle, token: u64) {
        if let Some(connection) = self.connection()
            && token != BIND
        {
            connection.queue.lock().unanswered(token);
            connection::pump(&self.gateway, &connection);
        }
    }

    fn bound(&self, link: &LinkHandle, _: Mode) {
        if let Some(connection) = self.connection()
            && !self.now_bound(link, &connection)
        {
            link.close();
        }
    }

    fn closed(&self, link: &LinkHandle, why: &Closed) {
        let why = {
            let mut ended = self.ended.lock();
            ended.1.get_or_insert_with(|| why.to_string()).clone()
        };
        let Some(connection) = self.connection() else {
            return tracing::debug!("smpp: {} ({:?}): {why}", self.address, self.side);
        };
        if connection.detach(&self.gateway, link, &why) {
            tracing::info!("proto_smpp: {} is not bound any more: {why}", connection.row.name);
            self.gateway.tell_bind(&connection, "unbound", &why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchroom_wire::smpp::{Tlvs, push_tlv};

    #[test]
    fn parameters_of_a_receipt_count_before_its_text() {
        let mut tlvs = Vec::new();
        push_tlv(&mut tlvs, tag::RECEIPTED_MESSAGE_ID, b"00ff\0");
        push_tlv(&mut tlvs, tag::MESSAGE_STATE, &[5]);
        let message = ShortMessage {
            esm_class: 4,
            text: b"id:255 stat:DELIVRD err:017",
            tlvs: Tlvs::read(&tlvs, true).unwrap(),
            ..ShortMessage::default()
        };
        let r = receipt_of(&message, message.text);
        assert_eq!(
            (r.id.as_str(), r.state, r.word.as_str()),
            ("00ff", MessageState::Undeliverable, "DELIVRD")
        );
        assert_eq!(r.error, "017");
    }

    #[test]
    fn users_of_uris_are_escaped_and_headers_have_one_line() {
        let mut out = Vec::new();
        escape_user("Müller & <x>@y".as_bytes(), &mut out);
        assert_eq!(out, b"M%C3%BCller%20&%20%3Cx%3E%40y");
        assert_eq!(token("12\r\nEvil: 1;3"), "12Evil:13");
        let mut header = Vec::new();
        push_header(&mut header, "X", "a\r\nb");
        assert_eq!(header, b"X: a  b\r\n");
    }
}
