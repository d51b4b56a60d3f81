//! A text becomes messages: alphabet, parts, one submission for each part.

use std::sync::Arc;

use switchroom_kernel::oneshot;
use switchroom_wire::gsm::Alphabet;
use switchroom_wire::smpp::Status;

use super::centre::{Centre, Submission};
use super::customer::Customer;
use super::message::{Addr, Content};
use crate::imdn::Asked;
use crate::link::compose::{ComposeError, Style, Wanted, compose};

/// What is to be sent.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Sender; empty for the account's.
    pub from: String,
    /// Text.
    pub text: String,
    /// UCS-2 even where the default alphabet would do.
    pub ucs2: bool,
    /// Message class; 0 is flash.
    pub class: Option<u8>,
    /// 0 to 3.
    pub priority: u8,
    /// `registered_delivery`
    pub receipts: u8,
    /// Unix seconds.
    pub schedule: Option<i64>,
    /// Unix seconds.
    pub validity: Option<i64>,
    /// A SIP user who wants to be told of its end; then he is, instead of the account.
    pub asked: Option<Asked>,
}

/// Why nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The text.
    #[error(transparent)]
    Text(#[from] ComposeError),
    /// The centre.
    #[error("{}", .0.text())]
    Status(Status),
}

/// Sends to one recipient; completes when all parts are durable. Gives their numbers.
pub async fn send(
    centre: &Arc<Centre>,
    customer: &Arc<Customer>,
    to: &str,
    wish: &Wish,
) -> Result<Vec<u64>, Refused> {
    let destination = Addr::parse(to);
    let style = Style { max_parts: centre.settings.max_parts, ..Style::default() };
    let wanted = if wish.ucs2 { Wanted::Only(Alphabet::Ucs2) } else { Wanted::Shortest };
    let reference = centre.references.next(&destination.addr);
    let composed = compose(&wish.text, wanted, wish.class, reference, style)?;
    let asked = wish.asked.clone().map(|a| Asked { parts: composed.parts.len() as u16, ..a });
    if let Some(asked) = &asked {
        centre.expect(asked);
    }
    let mut waits = Vec::with_capacity(composed.parts.len());
    for part in composed.parts {
        let submission = Submission {
            source: if wish.from.is_empty() { Addr::default() } else { Addr::parse(&wish.from) },
            destination: destination.clone(),
            content: Content {
                esm_class: composed.esm_class,
                priority: wish.priority,
                registered_delivery: wish.receipts,
                data_coding: composed.data_coding,
                text: part.text.into(),
                tlvs: part.tlvs.into(),
                ..Content::default()
            },
            schedule: wish.schedule,
            validity: wish.validity,
            asked: asked.clone().map(Box::new),
            ..Submission::default()
        };
        let (tell, told) = oneshot::channel();
        centre.submit(customer, submission, Box::new(move |result| tell.send(result)));
        waits.push(told);
    }
    let mut ids = Vec::with_capacity(waits.len());
    let mut failed = None;
    for told in waits {
        match told.await.unwrap_or(Err(Status::SYSERR)) {
            Ok(id) => ids.push(id),
            Err(status) => failed = Some(status),
        }
    }
    match failed {
        None => Ok(ids),
        Some(status) => {
            // A message that lacks a part is of no use.
            if let Some(asked) = &asked {
                centre.unexpect(asked);
            }
            ids.iter().for_each(|id| {
                centre.cancel(&customer.name, *id);
            });
            Err(Refused::Status(status))
        }
    }
}
