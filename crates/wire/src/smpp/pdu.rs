//! The PDUs (SMPP 3.4 §4, 5.0 §4): header and body.

use super::command::{CommandId, Status, tag};
use super::fields::{Reader, push_text};
use super::frame::HEADER;
use super::tlv::Tlvs;

/// How strictly the bodies of a peer are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Lengths to the letter of the specification, optional parameters of known tags too.
    pub strict: bool,
    /// The longest text, with NUL, that a lenient reader takes where the specification allows less. The field sends
    /// passwords of nine characters and more.
    pub longest: usize,
}

impl Rules {
    /// As the field needs it.
    pub const LENIENT: Rules = Rules { strict: false, longest: 65 };
    /// As the specification says.
    pub const STRICT: Rules = Rules { strict: true, longest: 0 };
}

/// The header of a PDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is.
    pub command: CommandId,
    /// Outcome, in responses.
    pub status: Status,
    /// Ties a response to its request.
    pub sequence: u32,
}

impl Header {
    /// A request.
    #[must_use]
    pub fn request(command: CommandId, sequence: u32) -> Header {
        Header { command, status: Status::OK, sequence }
    }

    /// The response to this request; a `generic_nack` where it has none of its own.
    #[must_use]
    pub fn answer(&self, status: Status) -> Header {
        let command = self.command.response().unwrap_or(CommandId::GENERIC_NACK);
        Header { command, status, sequence: self.sequence }
    }

    /// Reads the header of a whole PDU.
    #[must_use]
    pub fn read(pdu: &[u8]) -> Option<Header> {
        let word = |at: usize| {
            let bytes = pdu.get(at..at + 4)?;
            Some(u32::from_be_bytes(*bytes.first_chunk()?))
        };
        Some(Header { command: CommandId(word(4)?), status: Status(word(8)?), sequence: word(12)? })
    }
}

/// What is wrong with a PDU: the answer it deserves is [`Header::answer`] with the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} {}: {status}", header.command, header.sequence)]
pub struct Fault {
    /// Header of the faulty PDU.
    pub header: Header,
    /// What to say.
    pub status: Status,
}

/// An address with type of number and numbering plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Address<'a> {
    /// Type of number: 0 unknown, 1 international, 2 national, 5 alphanumeric.
    pub ton: u8,
    /// Numbering plan: 1 is E.164, 14 internet.
    pub npi: u8,
    /// Digits or name, 20 octets at most (64 in `data_sm`).
    pub addr: &'a [u8],
}

/// `bind_transmitter`, `bind_receiver`, `bind_transceiver`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bind<'a> {
    /// Who binds.
    pub system_id: &'a [u8],
    /// Its password.
    pub password: &'a [u8],
    /// Kind of system.
    pub system_type: &'a [u8],
    /// 0x33, 0x34 or 0x50.
    pub interface_version: u8,
    /// Addresses it wants to serve.
    pub range: Address<'a>,
}

/// `outbind`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outbind<'a> {
    /// The SMS centre.
    pub system_id: &'a [u8],
    /// Its password.
    pub password: &'a [u8],
}

/// `submit_sm` and `deliver_sm`; also what `submit_multi` says besides its destinations.
///
/// More than 15 fields: they are those of the specification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShortMessage<'a> {
    /// Service, usually empty.
    pub service_type: &'a [u8],
    /// Sender.
    pub source: Address<'a>,
    /// Recipient; empty in `submit_multi`.
    pub destination: Address<'a>,
    /// Mode, type, UDHI (0x40) and reply path (0x80).
    pub esm_class: u8,
    /// GSM protocol identifier.
    pub protocol_id: u8,
    /// 0 to 3.
    pub priority: u8,
    /// When to deliver; empty for at once. See [`super::time`].
    pub schedule: &'a [u8],
    /// Until when; empty for the default.
    pub validity: &'a [u8],
    /// Which receipts are wanted.
    pub registered_delivery: u8,
    /// Replaces an earlier one.
    pub replace_if_present: u8,
    /// Alphabet of the text.
    pub data_coding: u8,
    /// A text that the SMS centre keeps.
    pub sm_default_msg_id: u8,
    /// Text, or header and text.
    pub text: &'a [u8],
    /// Optional parameters.
    pub tlvs: Tlvs<'a>,
}

/// A `data_sm` says what a `submit_sm` or `deliver_sm` of the same fields would say.
impl<'a> From<DataSm<'a>> for ShortMessage<'a> {
    fn from(data: DataSm<'a>) -> ShortMessage<'a> {
        ShortMessage {
            service_type: data.service_type,
            source: data.source,
            destination: data.destination,
            esm_class: data.esm_class,
            registered_delivery: data.registered_delivery,
            data_coding: data.data_coding,
            tlvs: data.tlvs,
            ..ShortMessage::default()
        }
    }
}

impl<'a> ShortMessage<'a> {
    /// The text, wherever it stands: `short_message` or `message_payload`.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        if self.text.is_empty() { self.tlvs.get(tag::MESSAGE_PAYLOAD).unwrap_or(&[]) } else { self.text }
    }

    /// Whether the text begins with a user data header.
    #[must_use]
    pub fn has_udh(&self) -> bool {
        self.esm_class & 0x40 != 0
    }

    /// Whether it is a delivery receipt of the SMS centre (5.0 §4.7.12).
    #[must_use]
    pub fn is_receipt(&self) -> bool {
        self.esm_class & 0x3c == 0x04
    }
}

/// One destination of `submit_multi`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// A number.
    Address(Address<'a>),
    /// A distribution list of the SMS centre's.
    List(&'a [u8]),
}

/// `data_sm`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataSm<'a> {
    /// Service, usually empty.
    pub service_type: &'a [u8],
    /// Sender.
    pub source: Address<'a>,
    /// Recipient.
    pub destination: Address<'a>,
    /// As in `submit_sm`.
    pub esm_class: u8,
    /// Which receipts are wanted.
    pub registered_delivery: u8,
    /// Alphabet of the text.
    pub data_coding: u8,
    /// Optional parameters; the text is `message_payload`.
    pub tlvs: Tlvs<'a>,
}

/// A response that names a message: to `submit_sm`, `deliver_sm`, `data_sm`, `broadcast_sm`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageId<'a> {
    /// Name of the message; empty in `deliver_sm_resp` and when the body was left out.
    pub id: &'a [u8],
    /// Whether there was a body at all: errors often have none.
    pub present: bool,
    /// Optional parameters.
    pub tlvs: Tlvs<'a>,
}

/// `submit_multi_resp`; the failures are read with [`MultiResponse::failures`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MultiResponse<'a> {
    /// Name of the message.
    pub id: &'a [u8],
    /// Number of destinations that failed.
    pub count: u8,
    /// Those destinations with their status, checked to be whole.
    failures: &'a [u8],
    /// Optional parameters.
    pub tlvs: Tlvs<'a>,
}

/// `query_sm`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Query<'a> {
    /// Name of the message.
    pub id: &'a [u8],
    /// Its sender.
    pub source: Address<'a>,
}

/// State of a message (5.0 §4.7.15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum MessageState {
    Scheduled = 0,
    Enroute = 1,
    Delivered = 2,
    Expired = 3,
    Deleted = 4,
    Undeliverable = 5,
    Accepted = 6,
    Unknown = 7,
    Rejected = 8,
    Skipped = 9,
}

impl MessageState {
    /// From its number.
    #[must_use]
    pub fn from_number(n: u8) -> Option<MessageState> {
        use MessageState::*;
        [Scheduled, Enroute, Delivered, Expired, Deleted, Undeliverable, Accepted, Unknown, Rejected, Skipped]
            .get(usize::from(n))
            .copied()
    }

    /// Whether nothing more will happen to the message.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(
            self,
            MessageState::Scheduled | MessageState::Enroute | MessageState::Accepted | MessageState::Unknown
        )
    }
}

/// `query_sm_resp`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueryResponse<'a> {
    /// Name of the message.
    pub id: &'a [u8],
    /// When it became final; empty before.
    pub final_date: &'a [u8],
    /// See [`MessageState`].
    pub state: u8,
    /// Error of the network.
    pub error: u8,
}

/// `cancel_sm`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cancel<'a> {
    /// Service.
    pub service_type: &'a [u8],
    /// Name of the message; empty for all between these addresses.
    pub id: &'a [u8],
    /// Sender.
    pub source: Address<'a>,
    /// Recipient.
    pub destination: Address<'a>,
}

/// `replace_sm`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replace<'a> {
    /// Name of the message.
    pub id: &'a [u8],
    /// Its sender.
    pub source: Address<'a>,
    /// New time; empty keeps it.
    pub schedule: &'a [u8],
    /// New end; empty keeps it.
    pub validity: &'a [u8],
    /// New wish for receipts.
    pub registered_delivery: u8,
    /// A text that the SMS centre keeps.
    pub sm_default_msg_id: u8,
    /// New text.
    pub text: &'a [u8],
    /// Optional parameters (5.0).
    pub tlvs: Tlvs<'a>,
}

/// `alert_notification`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alert<'a> {
    /// The phone that can be reached again.
    pub source: Address<'a>,
    /// Who asked for it.
    pub esme: Address<'a>,
    /// Optional parameters.
    pub tlvs: Tlvs<'a>,
}

/// `broadcast_sm` (5.0); where and how often stand in its optional parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Broadcast<'a> {
    /// Service.
    pub service_type: &'a [u8],
    /// Sender.
    pub source: Address<'a>,
    /// Name of the message, when it replaces one.
    pub id: &'a [u8],
    /// Priority.
    pub priority: u8,
    /// When.
    pub schedule: &'a [u8],
    /// Until when.
    pub validity: &'a [u8],
    /// Replaces an earlier one.
    pub replace_if_present: u8,
    /// Alphabet of the text.
    pub data_coding: u8,
    /// A text that the SMS centre keeps.
    pub sm_default_msg_id: u8,
    /// Optional parameters.
    pub tlvs: Tlvs<'a>,
}

/// `query_broadcast_sm`; `cancel_broadcast_sm` has a service type as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueryBroadcast<'a> {
    /// Service; only when cancelling.
    pub service_type: &'a [u8],
    /// Name of the message.
    pub id: &'a [u8],
    /// Its sender.
    pub source: Address<'a>,
    /// Optional parameters.
    pub tlvs: Tlvs<'a>,
}

/// The body of a PDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)]
pub enum Body<'a> {
    /// `bind_*`
    Bind(Bind<'a>),
    /// `bind_*_resp`: who answers; its version is a parameter.
    BindResponse {
        /// Name of the SMS centre.
        system_id: &'a [u8],
        /// Optional parameters.
        tlvs: Tlvs<'a>,
    },
    /// `outbind`
    Outbind(Outbind<'a>),
    /// `submit_sm`, `deliver_sm`
    Message(ShortMessage<'a>),
    /// `submit_multi`: the destinations are read with [`targets`], and checked to be whole.
    Multi {
        /// Everything else.
        message: ShortMessage<'a>,
        /// Number of destinations.
        count: u8,
        /// The destinations.
        targets: &'a [u8],
    },
    /// `submit_multi_resp`
    MultiResponse(MultiResponse<'a>),
    /// `data_sm`
    Data(DataSm<'a>),
    /// Responses with a message id.
    MessageId(MessageId<'a>),
    /// `query_sm`
    Query(Query<'a>),
    /// `query_sm_resp`
    QueryResponse(QueryResponse<'a>),
    /// `cancel_sm`
    Cancel(Cancel<'a>),
    /// `replace_sm`
    Replace(Replace<'a>),
    /// `alert_notification`
    Alert(Alert<'a>),
    /// `broadcast_sm`
    Broadcast(Broadcast<'a>),
    /// `query_broadcast_sm`, `cancel_broadcast_sm`
    QueryBroadcast(QueryBroadcast<'a>),
    /// PDUs without a body, whatever follows their header.
    Empty,
    /// A command we do not know.
    Unknown(&'a [u8]),
}

/// The destinations of [`Body::Multi`].
pub fn targets(bytes: &[u8], rules: Rules) -> impl Iterator<Item = Target<'_>> {
    let mut r = Reader::new(bytes, rules);
    std::iter::from_fn(move || if r.is_empty() { None } else { r.target().ok() })
}

/// Appends one destination, for [`Body::Multi`].
pub fn push_target(out: &mut Vec<u8>, target: &Target<'_>) {
    match target {
        Target::Address(a) => {
            out.push(1);
            push_address(out, a);
        }
        Target::List(name) => {
            out.push(2);
            push_text(out, name);
        }
    }
}

/// Appends one destination that failed, for [`MultiResponse::new`].
pub fn push_failure(out: &mut Vec<u8>, address: &Address<'_>, status: Status) {
    push_address(out, address);
    out.extend_from_slice(&status.0.to_be_bytes());
}

impl<'a> MultiResponse<'a> {
    /// An answer; `failures` was made with [`push_failure`], `count` times.
    #[must_use]
    pub fn new(id: &'a [u8], count: u8, failures: &'a [u8]) -> MultiResponse<'a> {
        MultiResponse { id, count, failures, tlvs: Tlvs::default() }
    }

    /// The destinations that failed, each with why.
    pub fn failures(&self, rules: Rules) -> impl Iterator<Item = (Address<'a>, Status)> + use<'a> {
        let mut r = Reader::new(self.failures, rules);
        std::iter::from_fn(move || {
            if r.is_empty() {
                return None;
            }
            let address = r.address(21, Status::INVDSTADR).ok()?;
            Some((address, Status(r.long().ok()?)))
        })
    }
}

/// A PDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pdu<'a> {
    /// Header.
    pub header: Header,
    /// Body.
    pub body: Body<'a>,
}

impl<'a> Pdu<'a> {
    /// Reads one whole PDU, as [`super::frame::next`] cut it.
    pub fn read(bytes: &'a [u8], rules: Rules) -> Result<Pdu<'a>, Fault> {
        let none = Header { command: CommandId::GENERIC_NACK, status: Status::OK, sequence: 0 };
        let header = Header::read(bytes).ok_or(Fault { header: none, status: Status::INVCMDLEN })?;
        let mut r = Reader::new(&bytes[HEADER..], rules);
        let body = r.body(&header).map_err(|status| Fault { header, status })?;
        Ok(Pdu { header, body })
    }

    /// Appends the PDU. Texts are cut at a NUL; the text of a message that is longer than its one-octet length is not
    /// written, so longer ones go into `message_payload`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.header.command.0.to_be_bytes());
        out.extend_from_slice(&self.header.status.0.to_be_bytes());
        out.extend_from_slice(&self.header.sequence.to_be_bytes());
        self.body.write(self.header.command, out);
        let len = (out.len() - start) as u32;
        out[start..start + 4].copy_from_slice(&len.to_be_bytes());
    }
}

/// Whether a PDU of this command is only a header.
fn is_bare(command: CommandId) -> bool {
    matches!(command.request(), CommandId::ENQUIRE_LINK | CommandId::UNBIND | CommandId(0))
        || (command.is_response()
            && matches!(
                command.request(),
                CommandId::CANCEL_SM | CommandId::REPLACE_SM | CommandId::CANCEL_BROADCAST_SM
            ))
}

impl<'a> Reader<'a> {
    fn body(&mut self, header: &Header) -> Result<Body<'a>, Status> {
        let command = header.command;
        if is_bare(command) {
            return Ok(Body::Empty);
        }
        if command.is_response() {
            return self.response(header);
        }
        Ok(match command {
            c if c.is_bind() => Body::Bind(Bind {
                system_id: self.text(16, Status::INVSYSID)?,
                password: self.text(9, Status::INVPASWD)?,
                system_type: self.text(13, Status::INVSYSTYP)?,
                interface_version: self.octet()?,
                range: self.address(41, Status::BINDFAIL)?,
            }),
            CommandId::OUTBIND => Body::Outbind(Outbind {
                system_id: self.text(16, Status::INVSYSID)?,
                password: self.text(9, Status::INVPASWD)?,
            }),
            CommandId::SUBMIT_SM | CommandId::DELIVER_SM => {
                let (service_type, source) = self.head()?;
                let destination = self.address(21, Status::INVDSTADR)?;
                Body::Message(self.message(service_type, source, destination)?)
            }
            CommandId::SUBMIT_MULTI => {
                let (service_type, source) = self.head()?;
                let count = self.octet()?;
                if count == 0 {
                    return Err(Status::INVNUMDESTS);
                }
                let begin = self.rest();
                *self = Reader::new(begin, self.rules());
                for _ in 0..count {
                    self.target()?;
                }
                let left = self.rest();
                *self = Reader::new(left, self.rules());
                let targets = &begin[..begin.len() - left.len()];
                let message = self.message(service_type, source, Address::default())?;
                Body::Multi { message, count, targets }
            }
            CommandId::DATA_SM => Body::Data(DataSm {
                service_type: self.text(6, Status::INVSERTYP)?,
                source: self.address(65, Status::INVSRCADR)?,
                destination: self.address(65, Status::INVDSTADR)?,
                esm_class: self.octet()?,
                registered_delivery: self.octet()?,
                data_coding: self.octet()?,
                tlvs: self.tlvs()?,
            }),
            CommandId::QUERY_SM => Body::Query(Query {
                id: self.text(65, Status::INVMSGID)?,
                source: self.address(21, Status::INVSRCADR)?,
            }),
            CommandId::CANCEL_SM => Body::Cancel(Cancel {
                service_type: self.text(6, Status::INVSERTYP)?,
                id: self.text(65, Status::INVMSGID)?,
                source: self.address(21, Status::INVSRCADR)?,
                destination: self.address(21, Status::INVDSTADR)?,
            }),
            CommandId::REPLACE_SM => Body::Replace(Replace {
                id: self.text(65, Status::INVMSGID)?,
                source: self.address(21, Status::INVSRCADR)?,
                schedule: self.text(17, Status::INVSCHED)?,
                validity: self.text(17, Status::INVEXPIRY)?,
                registered_delivery: self.octet()?,
                sm_default_msg_id: self.octet()?,
                text: self.short_message()?,
                tlvs: self.tlvs()?,
            }),
            CommandId::ALERT_NOTIFICATION => Body::Alert(Alert {
                source: self.address(65, Status::INVSRCADR)?,
                esme: self.address(65, Status::INVDSTADR)?,
                tlvs: self.tlvs()?,
            }),
            CommandId::BROADCAST_SM => Body::Broadcast(Broadcast {
                service_type: self.text(6, Status::INVSERTYP)?,
                source: self.address(21, Status::INVSRCADR)?,
                id: self.text(65, Status::INVMSGID)?,
                priority: self.octet()?,
                schedule: self.text(17, Status::INVSCHED)?,
                validity: self.text(17, Status::INVEXPIRY)?,
                replace_if_present: self.octet()?,
                data_coding: self.octet()?,
                sm_default_msg_id: self.octet()?,
                tlvs: self.tlvs()?,
            }),
            CommandId::QUERY_BROADCAST_SM | CommandId::CANCEL_BROADCAST_SM => {
                let cancels = command == CommandId::CANCEL_BROADCAST_SM;
                Body::QueryBroadcast(QueryBroadcast {
                    service_type: if cancels { self.text(6, Status::INVSERTYP)? } else { &[] },
                    id: self.text(65, Status::INVMSGID)?,
                    source: self.address(21, Status::INVSRCADR)?,
                    tlvs: self.tlvs()?,
                })
            }
            _ => Body::Unknown(self.rest()),
        })
    }

    fn response(&mut self, header: &Header) -> Result<Body<'a>, Status> {
        Ok(match header.command.request() {
            c if c.is_bind() => {
                // An error may have no body.
                let system_id = if self.is_empty() { &[][..] } else { self.text(16, Status::INVSYSID)? };
                Body::BindResponse { system_id, tlvs: self.answered_tlvs()? }
            }
            CommandId::SUBMIT_SM | CommandId::DELIVER_SM | CommandId::DATA_SM | CommandId::BROADCAST_SM => {
                let present = !self.is_empty();
                let id = if present { self.text(65, Status::INVMSGID)? } else { &[] };
                Body::MessageId(MessageId { id, present, tlvs: self.answered_tlvs()? })
            }
            CommandId::SUBMIT_MULTI => {
                if self.is_empty() {
                    return Ok(Body::MultiResponse(MultiResponse::default()));
                }
                let id = self.text(65, Status::INVMSGID)?;
                let count = self.octet()?;
                let begin = self.rest();
                *self = Reader::new(begin, self.rules());
                for _ in 0..count {
                    self.address(21, Status::INVDSTADR)?;
                    self.long()?;
                }
                let left = self.rest();
                *self = Reader::new(left, self.rules());
                let failures = &begin[..begin.len() - left.len()];
                Body::MultiResponse(MultiResponse { id, count, failures, tlvs: self.answered_tlvs()? })
            }
            CommandId::QUERY_SM => {
                if self.is_empty() {
                    return Ok(Body::QueryResponse(QueryResponse::default()));
                }
                Body::QueryResponse(QueryResponse {
                    id: self.text(65, Status::INVMSGID)?,
                    final_date: self.text(17, Status::INVCMDLEN)?,
                    state: self.octet()?,
                    error: self.octet()?,
                })
            }
            CommandId::QUERY_BROADCAST_SM => {
                let present = !self.is_empty();
                let id = if present { self.text(65, Status::INVMSGID)? } else { &[] };
                Body::MessageId(MessageId { id, present, tlvs: self.answered_tlvs()? })
            }
            _ => Body::Unknown(self.rest()),
        })
    }

    fn head(&mut self) -> Result<(&'a [u8], Address<'a>), Status> {
        Ok((self.text(6, Status::INVSERTYP)?, self.address(21, Status::INVSRCADR)?))
    }

    fn address(&mut self, max: usize, fault: Status) -> Result<Address<'a>, Status> {
        Ok(Address { ton: self.octet()?, npi: self.octet()?, addr: self.text(max, fault)? })
    }

    fn target(&mut self) -> Result<Target<'a>, Status> {
        match self.octet()? {
            1 => Ok(Target::Address(self.address(21, Status::INVDSTADR)?)),
            2 => Ok(Target::List(self.text(21, Status::INVDLNAME)?)),
            _ => Err(Status::INVDESTFLAG),
        }
    }

    fn message(
        &mut self,
        service_type: &'a [u8],
        source: Address<'a>,
        destination: Address<'a>,
    ) -> Result<ShortMessage<'a>, Status> {
        let message = ShortMessage {
            service_type,
            source,
            destination,
            esm_class: self.octet()?,
            protocol_id: self.octet()?,
            priority: self.octet()?,
            schedule: self.text(17, Status::INVSCHED)?,
            validity: self.text(17, Status::INVEXPIRY)?,
            registered_delivery: self.octet()?,
            replace_if_present: self.octet()?,
            data_coding: self.octet()?,
            sm_default_msg_id: self.octet()?,
            text: self.short_message()?,
            tlvs: self.tlvs()?,
        };
        let twice = message.tlvs.get(tag::MESSAGE_PAYLOAD).is_some_and(|p| !p.is_empty());
        if twice && !message.text.is_empty() {
            return Err(Status::INVMSGLEN);
        }
        Ok(message)
    }

    fn short_message(&mut self) -> Result<&'a [u8], Status> {
        let len = self.octet()?;
        self.octets(usize::from(len), Status::INVMSGLEN)
    }

    fn tlvs(&mut self) -> Result<Tlvs<'a>, Status> {
        let strict = self.rules().strict;
        Tlvs::read(self.rest(), strict)
    }

    /// Those of a response. What it says before them counts more than stray octets behind it.
    fn answered_tlvs(&mut self) -> Result<Tlvs<'a>, Status> {
        let strict = self.rules().strict;
        self.tlvs().or_else(|fault| if strict { Err(fault) } else { Ok(Tlvs::default()) })
    }
}

fn push_address(out: &mut Vec<u8>, a: &Address<'_>) {
    out.extend_from_slice(&[a.ton, a.npi]);
    push_text(out, a.addr);
}

fn push_short_message(out: &mut Vec<u8>, text: &[u8]) {
    let text = if text.len() > 255 { &[] } else { text };
    out.push(text.len() as u8);
    out.extend_from_slice(text);
}

impl ShortMessage<'_> {
    fn write_tail(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.esm_class, self.protocol_id, self.priority]);
        push_text(out, self.schedule);
        push_text(out, self.validity);
        out.extend_from_slice(&[
            self.registered_delivery,
            self.replace_if_present,
            self.data_coding,
            self.sm_default_msg_id,
        ]);
        push_short_message(out, self.text);
        out.extend_from_slice(self.tlvs.as_bytes());
    }
}

impl Body<'_> {
    fn write(&self, command: CommandId, out: &mut Vec<u8>) {
        match self {
            Body::Bind(b) => {
                push_text(out, b.system_id);
                push_text(out, b.password);
                push_text(out, b.system_type);
                out.push(b.interface_version);
                push_address(out, &b.range);
            }
            Body::BindResponse { system_id, tlvs } => {
                push_text(out, system_id);
                out.extend_from_slice(tlvs.as_bytes());
            }
            Body::Outbind(o) => {
                push_text(out, o.system_id);
                push_text(out, o.password);
            }
            Body::Message(m) => {
                push_text(out, m.service_type);
                push_address(out, &m.source);
                push_address(out, &m.destination);
                m.write_tail(out);
            }
            Body::Multi { message, count, targets } => {
                push_text(out, message.service_type);
                push_address(out, &message.source);
                out.push(*count);
                out.extend_from_slice(targets);
                message.write_tail(out);
            }
            Body::MultiResponse(r) => {
                push_text(out, r.id);
                out.push(r.count);
                out.extend_from_slice(r.failures);
                out.extend_from_slice(r.tlvs.as_bytes());
            }
            Body::Data(d) => {
                push_text(out, d.service_type);
                push_address(out, &d.source);
                push_address(out, &d.destination);
                out.extend_from_slice(&[d.esm_class, d.registered_delivery, d.data_coding]);
                out.extend_from_slice(d.tlvs.as_bytes());
            }
            Body::MessageId(m) => {
                if m.present {
                    push_text(out, m.id);
                    out.extend_from_slice(m.tlvs.as_bytes());
                }
            }
            Body::Query(q) => {
                push_text(out, q.id);
                push_address(out, &q.source);
            }
            Body::QueryResponse(q) => {
                push_text(out, q.id);
                push_text(out, q.final_date);
                out.extend_from_slice(&[q.state, q.error]);
            }
            Body::Cancel(c) => {
                push_text(out, c.service_type);
                push_text(out, c.id);
                push_address(out, &c.source);
                push_address(out, &c.destination);
            }
            Body::Replace(r) => {
                push_text(out, r.id);
                push_address(out, &r.source);
                push_text(out, r.schedule);
                push_text(out, r.validity);
                out.extend_from_slice(&[r.registered_delivery, r.sm_default_msg_id]);
                push_short_message(out, r.text);
                out.extend_from_slice(r.tlvs.as_bytes());
            }
            Body::Alert(a) => {
                push_address(out, &a.source);
                push_address(out, &a.esme);
                out.extend_from_slice(a.tlvs.as_bytes());
            }
            Body::Broadcast(b) => {
                push_text(out, b.service_type);
                push_address(out, &b.source);
                push_text(out, b.id);
                out.push(b.priority);
                push_text(out, b.schedule);
                push_text(out, b.validity);
                out.extend_from_slice(&[b.replace_if_present, b.data_coding, b.sm_default_msg_id]);
                out.extend_from_slice(b.tlvs.as_bytes());
            }
            Body::QueryBroadcast(q) => {
                if command == CommandId::CANCEL_BROADCAST_SM {
                    push_text(out, q.service_type);
                }
                push_text(out, q.id);
                push_address(out, &q.source);
                out.extend_from_slice(q.tlvs.as_bytes());
            }
            Body::Empty => {}
            Body::Unknown(bytes) => out.extend_from_slice(bytes),
        }
    }
}
