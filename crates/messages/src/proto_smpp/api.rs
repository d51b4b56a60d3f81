//! What other modules may do with the connections of this one.

use std::sync::Arc;
use std::time::Duration;

use switchroom_kernel::Kernel;
use switchroom_kernel::ports::net::BoxFuture;
use switchroom_wire::smpp::MessageState;

use super::connection;
use super::gateway::Gateway;
use crate::link::compose::Style;
use crate::link::join::Joined;

pub use super::answer::{Answer, Verdict};
pub use super::incoming::escape_user;
pub use super::outgoing::{Accepted, Failure, Outgoing, Party};

/// A connection as others see it.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Its name in the table.
    pub name: String,
    /// Whether it is bound.
    pub bound: bool,
    /// What its peer understands.
    pub style: Style,
}

/// All connections.
#[must_use]
pub fn upstreams(kernel: &Kernel) -> Vec<Upstream> {
    let Some(gateway) = kernel.find::<Arc<Gateway>>() else { return Vec::new() };
    let connections = gateway.connections.read();
    let shown = connections.values().map(|c| Upstream {
        name: c.row.name.clone(),
        bound: c.is_bound(),
        style: c.conf.style,
    });
    shown.collect()
}

/// One connection, when it is there.
#[must_use]
pub fn upstream(kernel: &Kernel, name: &str) -> Option<Upstream> {
    let c = kernel.find::<Arc<Gateway>>()?.find(name)?;
    Some(Upstream { name: name.to_owned(), bound: c.is_bound(), style: c.conf.style })
}

/// The next reference for a message in parts towards this destination.
#[must_use]
pub fn reference(kernel: &Kernel, name: &str, destination: &[u8]) -> Option<u16> {
    Some(kernel.find::<Arc<Gateway>>()?.find(name)?.references.next(destination))
}

/// Sends one message by the connection of this name; it may wait `patience` to leave. Gives the peer's name for it.
pub fn submit(kernel: &Kernel, name: &str, message: Outgoing, patience: Duration) -> BoxFuture<Accepted> {
    let found = kernel.find::<Arc<Gateway>>().and_then(|g| Some((g.clone(), g.find(name)?)));
    let Some((gateway, connection)) = found else {
        let name = name.to_owned();
        return Box::pin(async move { Err(Failure::Unknown(name)) });
    };
    let until = gateway.clock.now() + patience;
    let wait = connection::submit(&gateway, &connection, message, until);
    Box::pin(async move { wait.await.unwrap_or(Err(Failure::Unanswered)) })
}

/// What came from a peer: a message, whole, or a receipt.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Name of the connection.
    pub connection: String,
    /// Sender.
    pub source: Party,
    /// Recipient.
    pub destination: Party,
    /// Text and alphabet.
    pub content: Joined,
    /// As received in the last part.
    pub data_coding: u8,
    /// As received in the last part.
    pub esm_class: u8,
    /// GSM protocol identifier.
    pub protocol_id: u8,
    /// When it is a receipt.
    pub receipt: Option<Receipt>,
}

/// A delivery receipt, from its parameters or else its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Name of the message, as the peer writes it here.
    pub id: String,
    /// State of the message.
    pub state: MessageState,
    /// The word or number the peer used.
    pub word: String,
    /// Error of the network.
    pub error: String,
}

/// Who may take what comes, before it becomes a SIP MESSAGE.
pub trait Receiver: Send + Sync {
    /// Whether it takes the messages of this connection between these two as they come, part by part.
    fn wants(&self, connection: &str, source: &Party, destination: &Party) -> bool;
    /// A phone can be reached again, says the centre of this connection. Must not block.
    fn alert(&self, connection: &str, number: &Party);
    /// Takes a message as it came, a part of a text perhaps, and answers later. Must not block.
    fn take(&self, connection: &str, message: Outgoing, answer: Answer);
    /// Takes a receipt, or a message it did not want, and answers later, or gives the answer back to let it become a MESSAGE. Must not block.
    fn receive(&self, incoming: &Incoming, answer: Answer) -> Option<Answer>;
}

/// Sets who is asked first about everything that comes. One at a time; the last one counts.
pub fn set_receiver(kernel: &Kernel, receiver: Arc<dyn Receiver>) {
    if let Some(gateway) = kernel.find::<Arc<Gateway>>() {
        *gateway.receiver.write() = Some(receiver);
    }
}
