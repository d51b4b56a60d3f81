//! A message as the SMS centre keeps it, and its octets in the table.

use std::sync::Arc;

use switchroom_wire::smpp::{Address, MessageState, ShortMessage, Tlvs};

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

    /// For people and tables.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.addr).into_owned()
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
        let mut out = Vec::with_capacity(16 + c.text.len() + c.tlvs.len());
        out.push(1);
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
            out.extend_from_slice(&(field.len() as u32).to_be_bytes());
            out.extend_from_slice(field);
        }
        out
    }
}

/// Addresses and content of [`Message::pack`]; `None` when they are broken.
pub fn unpack(octets: &[u8]) -> Option<(Addr, Addr, Content)> {
    let (
        &[version, st, sn, dt, dn, esm_class, protocol_id, priority, registered_delivery, data_coding],
        rest,
    ) = octets.split_first_chunk::<10>()?;
    if version != 1 {
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
    Some((source, destination, content))
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back() {
        let mut m = sample(7, "account:a");
        m.content.tlvs = vec![0x14, 0, 0, 1, 9].into();
        let (source, destination, content) = unpack(&m.pack()).unwrap();
        assert_eq!((source, destination, content), (m.source, m.destination, m.content));
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
