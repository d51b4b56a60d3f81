//! SMPP 3.3, 3.4 and 5.0: PDUs as views of the received bytes, written back without loss.
//!
//! [`frame`] finds the PDUs of a stream, [`Pdu::read`] reads one without looking beyond its `command_length`, and a
//! [`Fault`] says which `command_status` the peer gets for what is wrong. Optional parameters are kept as received, those
//! of vendors too. [`receipt`] and [`time`] read and write the two texts that SMPP carries.

mod command;
mod fields;
pub mod frame;
mod pdu;
pub mod receipt;
pub mod time;
mod tlv;

pub use command::{CommandId, Status, tag};
pub use pdu::{
    Address, Alert, Bind, Body, Broadcast, Cancel, DataSm, Fault, Header, MessageId, MessageState,
    MultiResponse, Outbind, Pdu, Query, QueryBroadcast, QueryResponse, Replace, Rules, ShortMessage, Target,
    push_failure, push_target, targets,
};
pub use tlv::{Tlv, Tlvs, push_tlv};
