//! Other SMS centres as destinations and as sources, over the connections of `proto_smpp`.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use switchroom_kernel::Kernel;
use switchroom_wire::smpp::{MessageState, Status};

use super::accounts::Account;
use super::centre::{Centre, Outcome, Outlet, Submission};
use super::customer::Customer;
use super::message::{Addr, Content, Message};
use super::server::time;
use crate::proto_smpp::api::{self, Answer, Failure, Incoming, Outgoing, Party, Receiver, Verdict};

/// Messages given to one connection at a time; its own window is behind that.
const AT_ONCE: usize = 500;
/// How long one may wait there to leave.
const PATIENCE: Duration = Duration::from_secs(30);

/// One connection.
pub struct Upstream {
    kernel: Weak<Kernel>,
    name: String,
    under_way: Arc<AtomicUsize>,
}

impl Upstream {
    /// By its name in the table `smpp`.
    pub fn new(kernel: &Arc<Kernel>, name: &str) -> Upstream {
        Upstream { kernel: Arc::downgrade(kernel), name: name.to_owned(), under_way: Arc::default() }
    }
}

impl Outlet for Upstream {
    fn room(&self) -> usize {
        let bound =
            self.kernel.upgrade().and_then(|k| api::upstream(&k, &self.name)).is_some_and(|u| u.bound);
        if bound { AT_ONCE.saturating_sub(self.under_way.load(Relaxed)) } else { 0 }
    }

    fn send(&self, centre: &Arc<Centre>, message: &Message) -> bool {
        let Some(kernel) = self.kernel.upgrade().filter(|_| self.room() > 0) else { return false };
        self.under_way.fetch_add(1, Relaxed);
        let mut tlvs = Vec::new();
        let wire = message.wire(&mut tlvs);
        let party = |a: &Addr| Party { ton: a.ton, npi: a.npi, addr: a.addr.to_vec() };
        // Money and receipts need the end of the message, so it is asked for whenever somebody wants to know.
        let wants_end = wire.registered_delivery & 0x03 != 0 || message.price > 0;
        let outgoing = Outgoing {
            source: party(&message.source),
            destination: party(&message.destination),
            service_type: wire.service_type.to_vec(),
            esm_class: wire.esm_class,
            protocol_id: wire.protocol_id,
            priority: wire.priority,
            schedule: Vec::new(),
            validity: Vec::new(),
            registered_delivery: (wire.registered_delivery & 0x1c) | u8::from(wants_end),
            data_coding: wire.data_coding,
            text: wire.text.to_vec(),
            tlvs: wire.tlvs.as_bytes().to_vec(),
        };
        let accepted = api::submit(&kernel, &self.name, outgoing, PATIENCE);
        let (centre, id, under_way) = (centre.clone(), message.id, self.under_way.clone());
        let spawn = centre.base.spawn.clone();
        spawn.spawn(Box::pin(async move {
            let accepted = accepted.await;
            under_way.fetch_sub(1, Relaxed);
            centre.outcome(id, outcome(accepted, wants_end));
        }));
        true
    }
}

fn outcome(accepted: Result<Vec<u8>, Failure>, wants_end: bool) -> Outcome {
    match accepted {
        Ok(id) if wants_end && !id.is_empty() => Outcome::Taken(String::from_utf8_lossy(&id).into_owned()),
        Ok(_) => Outcome::Delivered,
        Err(Failure::Refused(Status::THROTTLED | Status::MSGQFUL) | Failure::Full) => Outcome::Throttled,
        Err(Failure::Refused(status)) if status.is_temporary() => Outcome::Temporary(status),
        Err(Failure::Refused(status)) => Outcome::Permanent(status),
        Err(Failure::Unanswered) => Outcome::Unknown,
        Err(Failure::NotBound | Failure::Late | Failure::Unknown(_)) => {
            Outcome::Temporary(Status::TRANSPORTERR)
        }
    }
}

/// Takes what other centres send: receipts of our messages, and messages that a route wants here.
pub struct Ear(pub Weak<Centre>);

impl Receiver for Ear {
    fn receive(&self, incoming: &Incoming, answer: Answer) -> Option<Answer> {
        let Some(centre) = self.0.upgrade() else { return Some(answer) };
        let target: Arc<str> = format!("smsc:{}", incoming.connection).into();
        if let Some(receipt) = &incoming.receipt {
            // One that is not ours may be for a message that a script has sent.
            if !centre.owns(&target, &receipt.id) {
                return Some(answer);
            }
            let error = receipt.error.parse().unwrap_or(0);
            let state = match receipt.state {
                // A message that is neither on its way nor ended has ended for the sender (SMPP 3.4 appendix B).
                MessageState::Unknown => MessageState::Undeliverable,
                state => state,
            };
            centre.remote_receipt(&target, &receipt.id, state, error);
            answer.give(Verdict::Taken);
            return None;
        }
        Some(answer)
    }

    fn wants(&self, connection: &str, source: &Party, destination: &Party) -> bool {
        let Some(centre) = self.0.upgrade() else { return false };
        centre.is_scripted()
            || centre.has_route(&format!("smsc:{connection}"), &addr(source), &addr(destination))
    }

    fn alert(&self, connection: &str, number: &Party) {
        if let Some(centre) = self.0.upgrade() {
            centre.alerted(connection, &number.addr);
        }
    }

    fn take(&self, connection: &str, m: Outgoing, answer: Answer) {
        let Some(centre) = self.0.upgrade() else { return answer.give(Verdict::Later) };
        let now = centre.now();
        let (schedule, validity) =
            match (time(&m.schedule, now, Status::INVSCHED), time(&m.validity, now, Status::INVEXPIRY)) {
                (Ok(schedule), Ok(validity)) => (schedule, validity),
                (Err(status), _) | (_, Err(status)) => return answer.give(Verdict::Status(status)),
            };
        let submission = Submission {
            source: addr(&m.source),
            destination: addr(&m.destination),
            content: Content {
                service_type: m.service_type.into(),
                esm_class: m.esm_class,
                protocol_id: m.protocol_id,
                priority: m.priority,
                registered_delivery: m.registered_delivery,
                data_coding: m.data_coding,
                text: m.text.into(),
                tlvs: m.tlvs.into(),
            },
            schedule,
            validity,
            ..Submission::default()
        };
        let system_id = format!("smsc:{connection}").into();
        let customer = Arc::new(Customer::new(Account { system_id, enabled: true, ..Account::default() }));
        let answered = move |result: Result<u64, Status>| match result {
            Ok(id) => answer.accept(id.to_string().as_bytes()),
            Err(status) => answer.give(Verdict::Status(status)),
        };
        centre.submit(&customer, submission, Box::new(answered));
    }
}

fn addr(p: &Party) -> Addr {
    Addr { ton: p.ton, npi: p.npi, addr: p.addr.as_slice().into() }
}
