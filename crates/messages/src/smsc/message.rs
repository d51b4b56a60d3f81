//! A message as the SMS centre keeps it, and its octets in the table.

use std::sync::Arc;

use switchroom_wire::smpp::{Address, MessageState, ShortMessage, Tlvs};

use crate::imdn::Asked;

/// An address that owns its digits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Addr {
    /// Type of number.
    pub ton: u8,
    /// Numbering plan.
    pub npi: u8,
    /// Digits or letters.
    pub addr: Box<[u8]>,
}

impl Addr {
    /// From a PDU. An international number loses its `+` (SMPP 5.0 §4.7.1).
    pub fn of(a: &Address<'_>) -> Addr {
        let addr = if a.ton == 1 { a.addr.strip_prefix(b"+").unwrap_or(a.addr) } else { a.addr };
        Addr { ton: a.ton, npi: a.npi, addr: addr.into() }
    }

    /// From text: `+49...` is international, letters are alphanumeric, the rest is unknown.
    pub fn parse(text: &str) -> Addr {
        let text = text.trim();
        let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
        match text.strip_prefix('+') {
            Some(rest) if digits(rest) => Addr { ton: 1, npi: 1, addr: rest.as_bytes().into() },
            _ if digits(text) => {
                let ton = u8::from(text.len() > 6);
                Addr { ton, npi: 1, addr: text.as_bytes().into() }
            }
            _ => Addr { ton: 5, npi: 0, addr: text.as_bytes().into() },
        }
    }

    /// As a PDU has it.
    pub fn wire(&self) -> Address<'_> {
        Address { ton: self.ton, npi: self.npi, addr: &self.addr }
    }

    /// For people and tables. What is no UTF-8 is Latin-1, as many senders write their name.
    pub fn text(&self) -> String {
        match std::str::from_utf8(&self.addr) {
            Ok(text) => text.to_owned(),
            Err(_) => self.addr.iter().map(|b| char::from(*b)).collect(),
        }
    }
}

/// What a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// Somebody's message.
    Message,
    /// Our receipt for one.
    Receipt,
}

/// What is said with a message, whatever becomes of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Service.
    pub service_type: Box<[u8]>,
    /// Mode, type, UDHI.
    pub esm_class: u8,
    /// GSM protocol identifier.
    pub protocol_id: u8,
    /// 0 to 3.
    pub priority: u8,
    /// Which receipts are wanted.
    pub registered_delivery: u8,
    /// Alphabet.
    pub data_coding: u8,
    /// Text, or header and text; up to 65,535 octets.
    pub text: Box<[u8]>,
    /// Optional parameters besides `message_payload`, as they came.
    pub tlvs: Box<[u8]>,
}

/// A message in the centre.
///
/// More than 15 fields: they are the columns of its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its number; the text of the message id is decimal.
    pub id: u64,
    /// Message or receipt.
    pub nature: Nature,
    /// Who submitted it.
    pub account: Arc<str>,
    /// Where it goes: `account:shop`, `smsc:upstream`, `http:hook`, `sip:`.
    pub target: Arc<str>,
    /// Sender.
    pub source: Addr,
    /// Recipient.
    pub destination: Addr,
    /// Content.
    pub content: Content,
    /// Unix seconds.
    pub submitted: i64,
    /// When it is tried next, unix seconds.
    pub due: i64,
    /// When it is given up, unix seconds.
    pub expires: i64,
    /// Tries that failed.
    pub attempts: u32,
    /// An attempt has begun whose outcome is not known.
    pub under_way: bool,
    /// What is set aside for it, millionths; 0 when nothing is.
    pub price: i64,
    /// State.
    pub state: MessageState,
    /// Its name at the next SMS centre, which has it and owes a receipt.
    pub remote_id: Option<Box<str>>,
    /// Last error, `command_status`.
    pub error: u32,
    /// Destinations to try when this one fails, best first.
    pub further: Vec<Arc<str>>,
    /// A SIP user who wants to be told of its end.
    pub asked: Option<Box<Asked>>,
}

impl Message {
    /// The PDU's fields; `payload` is for texts that do not fit one octet's length.
    pub fn wire<'a>(&'a self, tlvs: &'a mut Vec<u8>) -> ShortMessage<'a> {
        let c = &self.content;
        let long = c.text.len() > 254;
        if long {
            tlvs.extend_from_slice(&c.tlvs);
            switchroom_wire::smpp::push_tlv(tlvs, switchroom_wire::smpp::tag::MESSAGE_PAYLOAD, &c.text);
        }
        let all: &'a [u8] = if long { tlvs } else { &c.tlvs };
        ShortMessage {
            service_type: &c.service_type,
            source: self.source.wire(),
            destination: self.destination.wire(),
            esm_class: c.esm_class,
            protocol_id: c.protocol_id,
            priority: c.priority,
            registered_delivery: c.registered_delivery,
            data_coding: c.data_coding,
            text: if long { &[] } else { &c.text },
            tlvs: Tlvs::read(all, false).unwrap_or_default(),
            ..ShortMessage::default()
        }
    }

    /// Everything that has no column of its own.
    pub fn pack(&self) -> Vec<u8> {
        let c = &self.content;
        let plain = self.further.is_empty() && self.asked.is_none();
        let mut out = Vec::with_capacity(16 + c.text.len() + c.tlvs.len());
        out.push(if plain { 1 } else { 2 });
        out.extend_from_slice(&[
            self.source.ton,
            self.source.npi,
            self.destination.ton,
            self.destination.npi,
        ]);
        out.extend_from_slice(&[
            c.esm_class,
            c.protocol_id,
            c.priority,
            c.registered_delivery,
            c.data_coding,
        ]);
        for field in [&self.source.addr, &self.destination.addr, &c.service_type, &c.text, &c.tlvs] {
            push_field(&mut out, field);
        }
        if !plain {
            push_field(&mut out, self.further.join("\n").as_bytes());
            if let Some(a) = &self.asked {
                for field in [&a.user, &a.message_id, &a.moment, &a.recipient] {
                    push_field(&mut out, field.as_bytes());
                }
                push_field(&mut out, &a.parts.to_be_bytes());
            }
        }
        out
    }
}

fn push_field(out: &mut Vec<u8>, field: &[u8]) {
    out.extend_from_slice(&(field.len() as u32).to_be_bytes());
    out.extend_from_slice(field);
}

/// What [`Message::pack`] has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Sender.
    pub source: Addr,
    /// Recipient.
    pub destination: Addr,
    /// Content.
    pub content: Content,
    /// Destinations to try when the first fails.
    pub further: Vec<Arc<str>>,
    /// Who wants to be told.
    pub asked: Option<Box<Asked>>,
}

/// Reads what [`Message::pack`] has written; `None` when it is broken.
pub fn unpack(octets: &[u8]) -> Option<Unpacked> {
    let (
        &[version, st, sn, dt, dn, esm_class, protocol_id, priority, registered_delivery, data_coding],
        rest,
    ) = octets.split_first_chunk::<10>()?;
    if !matches!(version, 1 | 2) {
        return None;
    }
    let mut rest = rest;
    let mut field = || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (value, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        rest = after;
        Some(Box::<[u8]>::from(value))
    };
    let source = Addr { ton: st, npi: sn, addr: field()? };
    let destination = Addr { ton: dt, npi: dn, addr: field()? };
    let (service_type, text, tlvs) = (field()?, field()?, field()?);
    let content = Content {
        service_type,
        esm_class,
        protocol_id,
        priority,
        registered_delivery,
        data_coding,
        text,
        tlvs,
    };
    let (mut further, mut asked) = (Vec::new(), None);
    if version == 2 {
        let lossy = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let list = lossy(&field()?);
        further = list.split('\n').filter(|t| !t.is_empty()).map(Arc::from).collect();
        if let Some(user) = field() {
            let text = |field: Option<Box<[u8]>>| Some(lossy(&field?).into_boxed_str());
            asked = Some(Box::new(Asked {
                user: lossy(&user).into(),
                message_id: text(field())?,
                moment: text(field())?,
                recipient: text(field())?,
                parts: u16::from_be_bytes(field()?[..].try_into().ok()?),
            }));
        }
    }
    Some(Unpacked { source, destination, content, further, asked })
}

/// A message to play with.
#[cfg(test)]
pub(super) fn sample(id: u64, target: &str) -> Message {
    Message {
        id,
        nature: Nature::Message,
        account: "shop".into(),
        target: target.into(),
        source: Addr::parse("Shop"),
        destination: Addr::parse("+491512345678"),
        content: Content { text: b"hello".as_slice().into(), ..Content::default() },
        submitted: 1000,
        due: 1000,
        expires: 2000,
        attempts: 0,
        under_way: false,
        price: 0,
        state: MessageState::Enroute,
        remote_id: None,
        error: 0,
        further: Vec::new(),
        asked: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back() {
        let mut m = sample(7, "account:a");
        m.content.tlvs = vec![0x14, 0, 0, 1, 9].into();
        let read = unpack(&m.pack()).unwrap();
        assert_eq!((read.source, read.destination), (m.source.clone(), m.destination.clone()));
        assert_eq!((read.content, read.further.len(), read.asked), (m.content.clone(), 0, None));
        m.further = vec!["smsc:b".into(), "smsc:c".into()];
        assert_eq!(unpack(&m.pack()).unwrap().further, m.further);
        let text = |t: &str| Box::<str>::from(t);
        let asked = Asked {
            user: text("sip:a@b"),
            message_id: text("x1"),
            moment: text("2026-01-01T00:00:00Z"),
            recipient: text("sip:49@b"),
            parts: 3,
        };
        m.asked = Some(Box::new(asked));
        assert_eq!(unpack(&m.pack()).unwrap().asked, m.asked);
        let packed = m.pack();
        assert_eq!(unpack(&packed[..packed.len() - 1]), None);
        assert_eq!(unpack(b""), None);
        assert_eq!(unpack(&[1; 12]), None);
    }

    #[test]
    fn long_texts_go_into_the_payload() {
        let mut m = sample(7, "account:a");
        m.content.text = vec![b'x'; 300].into();
        let mut tlvs = Vec::new();
        let wire = m.wire(&mut tlvs);
        assert!(wire.text.is_empty());
        assert_eq!(wire.payload().len(), 300);
    }

    #[test]
    fn addresses_from_text_have_their_type() {
        let types = |t: &str| (Addr::parse(t).ton, Addr::parse(t).text());
        assert_eq!(types("+4915"), (1, "4915".into()));
        assert_eq!(types("491512345"), (1, "491512345".into()));
        assert_eq!(types("12345"), (0, "12345".into()));
        assert_eq!(types("Shop"), (5, "Shop".into()));
    }
}
