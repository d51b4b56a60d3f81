//! Names of commands, status codes and TLV tags (SMPP 5.0 §4.7, SMPP 3.4 §5.1, §5.3).

use std::fmt;

/// `command_id` of a PDU; vendor values are kept as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId(pub u32);

/// The bit that makes a response of a request.
const RESPONSE: u32 = 0x8000_0000;

macro_rules! commands {
    ($($konst:ident = $value:literal, $name:literal;)*) => {
        impl CommandId {
            $(#[doc = concat!("`", $name, "`")] pub const $konst: CommandId = CommandId($value);)*

            /// The name of the specification; `None` for one we do not know. Responses have `_resp` behind the name of their
            /// request.
            #[must_use]
            pub fn known_name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($name),)*
                    _ => None,
                }
            }
        }
    };
}

commands! {
    BIND_RECEIVER = 0x01, "bind_receiver";
    BIND_TRANSMITTER = 0x02, "bind_transmitter";
    QUERY_SM = 0x03, "query_sm";
    SUBMIT_SM = 0x04, "submit_sm";
    DELIVER_SM = 0x05, "deliver_sm";
    UNBIND = 0x06, "unbind";
    REPLACE_SM = 0x07, "replace_sm";
    CANCEL_SM = 0x08, "cancel_sm";
    BIND_TRANSCEIVER = 0x09, "bind_transceiver";
    OUTBIND = 0x0b, "outbind";
    ENQUIRE_LINK = 0x15, "enquire_link";
    SUBMIT_MULTI = 0x21, "submit_multi";
    ALERT_NOTIFICATION = 0x102, "alert_notification";
    DATA_SM = 0x103, "data_sm";
    BROADCAST_SM = 0x111, "broadcast_sm";
    QUERY_BROADCAST_SM = 0x112, "query_broadcast_sm";
    CANCEL_BROADCAST_SM = 0x113, "cancel_broadcast_sm";
    GENERIC_NACK = 0x8000_0000, "generic_nack";
}

impl CommandId {
    /// Whether it answers something.
    #[must_use]
    pub fn is_response(self) -> bool {
        self.0 & RESPONSE != 0
    }

    /// The response to this request. `alert_notification` and `outbind` have none.
    #[must_use]
    pub fn response(self) -> Option<CommandId> {
        let answered = !self.is_response()
            && !matches!(self, CommandId::ALERT_NOTIFICATION | CommandId::OUTBIND)
            && self.known_name().is_some();
        answered.then_some(CommandId(self.0 | RESPONSE))
    }

    /// The request that this answers; itself for a request.
    #[must_use]
    pub fn request(self) -> CommandId {
        CommandId(self.0 & !RESPONSE)
    }

    /// Whether it binds.
    #[must_use]
    pub fn is_bind(self) -> bool {
        matches!(self, CommandId::BIND_RECEIVER | CommandId::BIND_TRANSMITTER | CommandId::BIND_TRANSCEIVER)
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.known_name() {
            return f.write_str(name);
        }
        match self.request().known_name().filter(|_| self.is_response()) {
            Some(name) => write!(f, "{name}_resp"),
            None => write!(f, "0x{:08x}", self.0),
        }
    }
}

/// `command_status`; values outside the specification are carried unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Status(pub u32);

macro_rules! statuses {
    ($($konst:ident = $value:literal, $text:literal;)*) => {
        impl Status {
            $(#[doc = $text] pub const $konst: Status = Status($value);)*

            /// The name without `ESME_R`, for logs; `None` for one we do not know.
            #[must_use]
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($konst)),)*
                    _ => None,
                }
            }

            /// The name without `ESME_R` back to its value.
            #[must_use]
            pub fn by_name(name: &str) -> Option<Status> {
                let name = name.strip_prefix("ESME_R").unwrap_or(name);
                $(if name.eq_ignore_ascii_case(stringify!($konst)) { return Some(Status($value)); })*
                None
            }

            /// What it says, in words.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self.0 {
                    $($value => $text,)*
                    _ => "an error of the vendor",
                }
            }
        }
    };
}

statuses! {
    OK = 0x00, "no error";
    INVMSGLEN = 0x01, "message length is invalid";
    INVCMDLEN = 0x02, "command length is invalid";
    INVCMDID = 0x03, "command is not known";
    INVBNDSTS = 0x04, "not allowed in this bind state";
    ALYBND = 0x05, "already bound";
    INVPRTFLG = 0x06, "priority flag is invalid";
    INVREGDLVFLG = 0x07, "registered delivery flag is invalid";
    SYSERR = 0x08, "system error";
    INVSRCADR = 0x0a, "source address is invalid";
    INVDSTADR = 0x0b, "destination address is invalid";
    INVMSGID = 0x0c, "message id is invalid";
    BINDFAIL = 0x0d, "bind failed";
    INVPASWD = 0x0e, "password is invalid";
    INVSYSID = 0x0f, "system id is invalid";
    CANCELFAIL = 0x11, "message cannot be cancelled";
    REPLACEFAIL = 0x13, "message cannot be replaced";
    MSGQFUL = 0x14, "message queue is full";
    INVSERTYP = 0x15, "service type is invalid";
    INVNUMDESTS = 0x33, "number of destinations is invalid";
    INVDLNAME = 0x34, "distribution list name is invalid";
    INVDESTFLAG = 0x40, "destination flag is invalid";
    INVSUBREP = 0x42, "submit with replace is not possible";
    INVESMCLASS = 0x43, "esm_class is invalid";
    CNTSUBDL = 0x44, "cannot submit to the distribution list";
    SUBMITFAIL = 0x45, "message was not accepted";
    INVSRCTON = 0x48, "source TON is invalid";
    INVSRCNPI = 0x49, "source NPI is invalid";
    INVDSTTON = 0x50, "destination TON is invalid";
    INVDSTNPI = 0x51, "destination NPI is invalid";
    INVSYSTYP = 0x53, "system type is invalid";
    INVREPFLAG = 0x54, "replace_if_present is invalid";
    INVNUMMSGS = 0x55, "number of messages is invalid";
    THROTTLED = 0x58, "too many messages a second";
    INVSCHED = 0x61, "scheduled delivery time is invalid";
    INVEXPIRY = 0x62, "validity period is invalid";
    INVDFTMSGID = 0x63, "predefined message does not exist";
    RX_T_APPN = 0x64, "receiver has a temporary error";
    RX_P_APPN = 0x65, "receiver has a permanent error";
    RX_R_APPN = 0x66, "receiver refuses this message";
    QUERYFAIL = 0x67, "query failed";
    INVTLVSTREAM = 0xc0, "optional parameters are broken";
    TLVNOTALLWD = 0xc1, "optional parameter is not allowed here";
    INVTLVLEN = 0xc2, "optional parameter has a wrong length";
    MISSINGTLV = 0xc3, "optional parameter is missing";
    INVTLVVAL = 0xc4, "optional parameter has a wrong value";
    DELIVERYFAILURE = 0xfe, "delivery failed";
    UNKNOWNERR = 0xff, "unknown error";
    SERTYPUNAUTH = 0x100, "service type is not authorised";
    PROHIBITED = 0x101, "prohibited";
    SERTYPUNAVAIL = 0x102, "service type is not available";
    SERTYPDENIED = 0x103, "service type is denied";
    INVDCS = 0x104, "data coding is invalid";
    INVSRCADDRSUBUNIT = 0x105, "source subunit is invalid";
    INVDSTADDRSUBUNIT = 0x106, "destination subunit is invalid";
    INVBCASTFREQINT = 0x107, "broadcast frequency is invalid";
    INVBCASTALIAS_NAME = 0x108, "broadcast alias is invalid";
    INVBCASTAREAFMT = 0x109, "broadcast area format is invalid";
    INVNUMBCAST_AREAS = 0x10a, "number of broadcast areas is invalid";
    INVBCASTCNTTYPE = 0x10b, "broadcast content type is invalid";
    INVBCASTMSGCLASS = 0x10c, "broadcast message class is invalid";
    BCASTFAIL = 0x10d, "broadcast failed";
    BCASTQUERYFAIL = 0x10e, "broadcast query failed";
    BCASTCANCELFAIL = 0x10f, "broadcast cannot be cancelled";
    INVBCAST_REP = 0x110, "number of broadcasts is invalid";
    INVBCASTSRVGRP = 0x111, "broadcast service group is invalid";
    INVBCASTCHANIND = 0x112, "broadcast channel is invalid";
    NODCS = 0x400, "data coding is not supported";
    TEXTTOOLONG = 0x401, "text is too long";
    NOTREGISTERED = 0x402, "sender is not registered";
    FORBIDDENWORDS = 0x403, "text has forbidden words";
    BLACKLISTED = 0x404, "sender or recipient is on a black list";
    NOFUNDS = 0x433, "not enough funds";
    NOTARIFF = 0x43c, "no tariff for the destination";
    NOUPSTREAMTARIFF = 0x43f, "no tariff of the supplier";
    TRANSPORTERR = 0x446, "transport error";
    DUPLICATE = 0x453, "the same text to the same number too soon";
    NOROUTE = 0x45a, "no route to the destination";
}

impl Status {
    /// Whether a submission that got this may succeed later unchanged.
    #[must_use]
    pub fn is_temporary(self) -> bool {
        matches!(
            self,
            Status::SYSERR
                | Status::MSGQFUL
                | Status::THROTTLED
                | Status::RX_T_APPN
                | Status::DELIVERYFAILURE
                | Status::UNKNOWNERR
                | Status::TRANSPORTERR
        )
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "0x{:08X} ({name}, {})", self.0, self.text()),
            None => write!(f, "0x{:08X}", self.0),
        }
    }
}

/// Tags of optional parameters (SMPP 5.0 §4.8).
pub mod tag {
    /// 1 is a flash message.
    pub const DEST_ADDR_SUBUNIT: u16 = 0x0005;
    /// Seconds to live; beats `validity_period`.
    pub const QOS_TIME_TO_LIVE: u16 = 0x0017;
    /// Text about a status.
    pub const ADDITIONAL_STATUS_INFO_TEXT: u16 = 0x001d;
    /// 1 asks to be told when the recipient can be reached again.
    pub const SET_DPF: u16 = 0x0421;
    /// The message a receipt is for.
    pub const RECEIPTED_MESSAGE_ID: u16 = 0x001e;
    /// Number of the sender's.
    pub const USER_MESSAGE_REFERENCE: u16 = 0x0204;
    /// Port of the sending application.
    pub const SOURCE_PORT: u16 = 0x020a;
    /// Port of the receiving application.
    pub const DESTINATION_PORT: u16 = 0x020b;
    /// Number shared by the parts of a message.
    pub const SAR_MSG_REF_NUM: u16 = 0x020c;
    /// Number of parts.
    pub const SAR_TOTAL_SEGMENTS: u16 = 0x020e;
    /// Which part, from 1.
    pub const SAR_SEGMENT_SEQNUM: u16 = 0x020f;
    /// Version of the SMS centre.
    pub const SC_INTERFACE_VERSION: u16 = 0x0210;
    /// Whether a phone can be reached.
    pub const MS_AVAILABILITY_STATUS: u16 = 0x0422;
    /// Error of the mobile network: type and code.
    pub const NETWORK_ERROR_CODE: u16 = 0x0423;
    /// Text of more than 254 octets.
    pub const MESSAGE_PAYLOAD: u16 = 0x0424;
    /// Why a transaction mode message failed.
    pub const DELIVERY_FAILURE_REASON: u16 = 0x0425;
    /// More follow at once.
    pub const MORE_MESSAGES_TO_SEND: u16 = 0x0426;
    /// State of a message, see [`super::super::MessageState`].
    pub const MESSAGE_STATE: u16 = 0x0427;
    /// Load of the peer, 0 to 100.
    pub const CONGESTION_STATE: u16 = 0x0428;
    /// USSD operation.
    pub const USSD_SERVICE_OP: u16 = 0x0501;

    /// Allowed lengths of the value of a tag we know.
    #[must_use]
    pub fn lengths(tag: u16) -> Option<std::ops::RangeInclusive<usize>> {
        Some(match tag {
            0x0005..=0x0007 | 0x000d..=0x0010 | 0x0019 | 0x0030 | 0x0201 | 0x0205 | 0x020d..=0x0210 => 1..=1,
            0x0302 | 0x0304 | 0x0420..=0x0422 | 0x0425..=0x0428 | 0x0501 => 1..=1,
            0x0600 | 0x0603 | 0x0608 | 0x0611 | 0x1201 | 0x1380 => 1..=1,
            0x0008 | 0x0204 | 0x020a..=0x020c | 0x0604 | 0x1203 | 0x1383 => 2..=2,
            0x0423 | 0x0601 | 0x0605 => 3..=3,
            0x0017 | 0x0607 => 4..=4,
            0x001d => 1..=256,
            0x001e => 1..=65,
            0x0202 | 0x0203 => 2..=23,
            0x0381 => 4..=19,
            0x0602 | 0x060a => 1..=255,
            0x0609 => 16..=17,
            0x060b => 1..=1024,
            0x060d | 0x060e => 7..=65,
            0x060f | 0x0610 => 6..=6,
            0x0612 => 10..=10,
            0x0613 => 1..=5,
            0x1204 => 1..=4,
            0x130c => 0..=1,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_belong_to_their_requests() {
        assert_eq!(CommandId::SUBMIT_SM.response(), Some(CommandId(0x8000_0004)));
        assert_eq!(CommandId(0x8000_0004).request(), CommandId::SUBMIT_SM);
        for alone in
            [CommandId::ALERT_NOTIFICATION, CommandId::OUTBIND, CommandId::GENERIC_NACK, CommandId(0x77)]
        {
            assert_eq!(alone.response(), None, "{alone}");
        }
        assert_eq!(CommandId(0x8000_0103).to_string(), "data_sm_resp");
        assert_eq!(CommandId(0x0001_0200).to_string(), "0x00010200");
    }

    #[test]
    fn a_status_has_its_name_both_ways() {
        assert_eq!(Status::by_name("ESME_RTHROTTLED"), Some(Status::THROTTLED));
        assert_eq!(Status(0x58).name(), Some("THROTTLED"));
        assert_eq!(Status(0x4ff).to_string(), "0x000004FF");
        assert!(Status::THROTTLED.is_temporary() && !Status::INVDSTADR.is_temporary());
    }
}
