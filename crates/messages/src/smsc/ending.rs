//! How a message ends: what became of an attempt, the next destination, receipts of other centres, and who is told.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use switchroom_money::credit::api::Entry;
use switchroom_wire::gsm::{Alphabet, Coding};
use switchroom_wire::smpp::receipt::Receipt;
use switchroom_wire::smpp::{Alert, Body, CommandId, MessageState, Status, Tlvs, push_tlv, tag};

use super::centre::{Centre, Early, Outcome, without_header};
use super::message::{Content, Message, Nature};
use super::store::Change;
use crate::imdn::Asked;
use crate::link::ids::{forms, normal};

/// Receipts that wait for their message, and for how many seconds.
const EARLY: usize = 10_000;
const EARLY_SECONDS: i64 = 30;
/// SIP users that somebody waits for, and how many wait for one.
const ABSENT: usize = 10_000;
const ABSENT_EACH: usize = 16;
/// Domains in which one user is looked for.
const DOMAINS: usize = 100;

impl Centre {
    /// A text comes whose sender wants to be told of the end of all its parts.
    pub fn expect(&self, asked: &Asked) {
        self.told.lock().insert(told_key(asked), (usize::from(asked.parts), false));
    }

    /// It was not accepted after all.
    pub fn unexpect(&self, asked: &Asked) {
        self.told.lock().remove(&told_key(asked));
    }

    /// Whether the end of this part is to be told: a failure when it is the first, success when it is the last.
    fn tells(&self, asked: &Asked, success: bool) -> bool {
        let mut told = self.told.lock();
        let key = told_key(asked);
        let Some((left, failed)) = told.get_mut(&key) else { return true };
        *left = left.saturating_sub(1);
        let first_failure = !success && !*failed;
        *failed |= !success;
        let (last, tells) = (*left == 0, first_failure || (success && *left == 0 && !*failed));
        if last {
            told.remove(&key);
        }
        tells
    }

    /// What became of an attempt.
    pub fn outcome(self: &Arc<Self>, id: u64, outcome: Outcome) {
        let Some(message) = self.queue.lock().get(id).cloned() else { return };
        let target = message.target.clone();
        let once = self.ends.lock().contains_key(&id);
        let outcome = match outcome {
            Outcome::Temporary(status) if once => Outcome::Permanent(status),
            Outcome::Throttled if once => Outcome::Permanent(Status::THROTTLED),
            Outcome::Unknown if once => Outcome::Permanent(Status::TRANSPORTERR),
            // A SIP user or a page does not want to be told; nobody gains when they are asked again.
            Outcome::Permanent(status) if message.nature == Nature::Receipt && message.asked.is_some() => {
                return self.finish(id, MessageState::Rejected, status.0);
            }
            outcome => outcome,
        };
        match outcome {
            Outcome::Delivered => self.finish(id, MessageState::Delivered, 0),
            Outcome::Taken(remote_id) => {
                let remote_id = normal(&remote_id);
                let away = |id, remote_id: &str| Change::Away { id, remote_id: remote_id.to_owned() };
                let mut changes = vec![away(id, &remote_id)];
                {
                    let mut queue = self.queue.lock();
                    queue.away(id, &remote_id);
                    for (n, other) in queue.carried_ids(id).into_iter().enumerate().skip(1) {
                        let of_part = format!("{remote_id}#{n}");
                        queue.away(other, &of_part);
                        changes.push(away(other, &of_part));
                    }
                }
                self.writer.note(changes, Vec::new());
                self.look_for_early(&target, &remote_id);
            }
            Outcome::Permanent(status) if message.nature == Nature::Message => {
                if !self.divert(&message, status.0) {
                    self.finish(id, MessageState::Undeliverable, status.0);
                }
            }
            Outcome::Temporary(status) | Outcome::Permanent(status) => self.retry(&message, status, None),
            Outcome::Throttled => {
                let mut queue = self.queue.lock();
                queue.put_back(id);
                queue.close_line(&target, self.now() + 1);
            }
            Outcome::Unknown => {
                self.count(|c| c.unknown);
                tracing::warn!(
                    "smsc: message {id} to {target} was sent and not answered; it may be delivered twice"
                );
                self.retry(&message, Status::TRANSPORTERR, Some(1));
            }
        }
        self.dispatch(&target);
    }

    /// The destination refused for good: the message goes to the next one that its routes named. False when there is none.
    fn divert(self: &Arc<Self>, message: &Message, error: u32) -> bool {
        match message.further.split_first() {
            Some((next, rest)) => self.redirect(message, next, rest, error),
            None => false,
        }
    }

    fn redirect(
        self: &Arc<Self>,
        message: &Message,
        target: &Arc<str>,
        rest: &[Arc<str>],
        error: u32,
    ) -> bool {
        let now = self.now();
        if now >= message.expires {
            return false;
        }
        let moved = self.queue.lock().redirect(message.id, target, rest, now, now, error);
        let change = |m: &Message| Change::Redirect {
            id: m.id,
            target: m.target.clone(),
            due: m.due,
            attempts: m.attempts,
            error,
            content: m.pack(),
        };
        tracing::info!("smsc: message {} goes on to {target}, {} has failed", message.id, message.target);
        self.count(|c| c.diverted);
        self.writer.note(moved.iter().map(change).collect(), Vec::new());
        self.dispatch(target);
        true
    }

    fn retry(self: &Arc<Self>, message: &Message, status: Status, pause: Option<i64>) {
        // All destinations have their turn before there is a pause.
        let ways = message.further.len() as u32 + 1;
        if ways > 1 && pause.is_none() && !(message.attempts + 1).is_multiple_of(ways) {
            let mut rest = message.further.clone();
            let next = rest.remove(0);
            rest.push(message.target.clone());
            if self.redirect(message, &next, &rest, status.0) {
                return;
            }
        }
        let now = self.now();
        let routes = self.routes.read().clone();
        let steps = routes.retry(&message.target).unwrap_or(&self.settings.retry);
        let step = steps.get((message.attempts / ways) as usize).or(steps.last()).copied().unwrap_or(60);
        let due = now + pause.unwrap_or(i64::from(step)).max(1);
        if due >= message.expires {
            return self.finish(message.id, MessageState::Expired, status.0);
        }
        self.count(|c| c.retried);
        let change =
            Change::Postpone { id: message.id, due, attempts: message.attempts + 1, error: status.0 };
        self.writer.note(vec![change], Vec::new());
        self.queue.lock().postpone(message.id, due, now, status.0);
    }

    /// A message comes to its end: its money moves, and who wants a receipt gets one.
    pub(super) fn finish(self: &Arc<Self>, id: u64, state: MessageState, error: u32) {
        let Some((mut message, carried)) = self.queue.lock().remove(id) else { return };
        // The parts that went with it share its end.
        for other in carried {
            self.finish(other, state, error);
        }
        let (now, now_ms) = (self.now(), self.now_ms());
        self.count(|c| match state {
            MessageState::Delivered => c.delivered,
            MessageState::Expired => c.expired,
            _ => c.failed,
        });
        message.state = state;
        message.error = error;
        let success = matches!(state, MessageState::Delivered | MessageState::Accepted);
        let waits = self.ends.lock().remove(&id);
        if let Some(answered) = waits {
            answered(if success { Ok(id) } else { Err(Status::DELIVERYFAILURE) });
        }
        if !success {
            self.note_absence(&message);
        }
        let mut changes = vec![Change::Done { id, state, error, done: now }];
        let entries = self.money(&message, now_ms).into_iter().collect();
        let mut made = None;
        if let Some(receipt) = self.receipt_for(&message, now) {
            self.count(|c| c.receipts);
            changes.insert(0, Change::insert(&receipt));
            made = Some(receipt.target.clone());
            self.queue.lock().insert(receipt, now);
        }
        self.writer.note(changes, entries);
        if let Some(target) = made {
            self.dispatch(&target);
        }
    }

    /// The sender wants to hear when the recipient is there again (`set_dpf`).
    fn note_absence(&self, m: &Message) {
        let tlvs = Tlvs::read(&m.content.tlvs, false).unwrap_or_default();
        if m.nature == Nature::Receipt || tlvs.number(tag::SET_DPF) != Some(1) {
            return;
        }
        // A SIP user is a destination of his own; of another centre it is the number that counts.
        let who_is_absent: Arc<str> = match m.target.starts_with("smsc:") {
            true => absent_at(&m.target, &m.destination.addr),
            false => m.target.clone(),
        };
        let mut absent = self.absent.lock();
        if absent.len() < ABSENT {
            let who = (m.account.clone(), m.source.clone(), m.destination.clone());
            let list = absent.entry(who_is_absent).or_default();
            if list.len() < ABSENT_EACH && !list.contains(&who) {
                list.push(who);
            }
        }
    }

    /// Another centre says that a number can be reached again.
    pub fn alerted(&self, connection: &str, number: &[u8]) {
        self.reachable(&absent_at(&format!("smsc:{connection}"), number));
    }

    /// The destinations that stand for a SIP user and for which messages or customers wait.
    pub fn waiting_for(&self, aor: &str) -> Vec<Arc<str>> {
        let mut targets = self.queue.lock().lines_of(aor, DOMAINS);
        let start: Arc<str> =
            if aor.contains('@') { format!("sip:{aor}") } else { format!("sip:{aor}@") }.into();
        let is_his = |t: &Arc<str>| if aor.contains('@') { *t == start } else { t.starts_with(&*start) };
        let absent = self.absent.lock();
        let from_there = absent.range::<Arc<str>, _>(&start..).map(|(target, _)| target);
        targets.extend(from_there.take_while(|t| is_his(t)).take(DOMAINS).cloned());
        targets.sort();
        targets.dedup();
        targets
    }

    /// A SIP user is there: what waits for him leaves, and customers who wanted to know are told with `alert_notification`.
    pub fn reachable(&self, target: &Arc<str>) {
        self.woken.lock().remove(target);
        self.queue.lock().bring_forward(target, self.now());
        let Some(list) = self.absent.lock().remove(target) else { return };
        let mut tlvs = Vec::new();
        push_tlv(&mut tlvs, tag::MS_AVAILABILITY_STATUS, &[0]);
        let tlvs = Tlvs::read(&tlvs, false).unwrap_or_default();
        for (account, source, destination) in list {
            let body = Body::Alert(Alert { source: destination.wire(), esme: source.wire(), tlvs });
            let binds = self.customer(&account).map(|c| c.binds()).unwrap_or_default();
            let told = binds.iter().any(|link| {
                link.mode().is_some_and(|m| m.receives())
                    && link.send(CommandId::ALERT_NOTIFICATION, &body, 0).is_ok()
            });
            if !told {
                tracing::info!("smsc: {account} has no bind to be told that {target} is there");
            }
        }
    }

    fn money(&self, m: &Message, now_ms: i64) -> Option<Entry> {
        if m.price == 0 {
            return None;
        }
        let credit = self.base.credit.get()?;
        let payer = self.customer(&m.account)?.account().credit.clone();
        let reference = format!("sms {}", m.id);
        let moved = match m.state {
            MessageState::Delivered | MessageState::Accepted => {
                credit.settle(&payer, m.price, reference, now_ms)
            }
            _ => credit.give_back(&payer, m.price, reference, now_ms),
        };
        moved.map_err(|e| tracing::error!("smsc: money of message {}: {e}", m.id)).ok()
    }

    /// The receipt that was asked for (`registered_delivery`, SMPP 5.0 §4.7.21).
    fn receipt_for(&self, m: &Message, now: i64) -> Option<Message> {
        let success = matches!(m.state, MessageState::Delivered | MessageState::Accepted);
        let wanted = match m.content.registered_delivery & 0x03 {
            1 => true,
            2 => !success,
            3 => success,
            _ => false,
        };
        if m.nature == Nature::Receipt {
            return None;
        }
        // Of a text in parts only one part tells its sender, so each is counted.
        let tells = m.asked.as_ref().is_none_or(|asked| self.tells(asked, success));
        if !wanted || !tells {
            return None;
        }
        let name = m.id.to_string();
        let error = m.error.min(999).to_string();
        let gsm = Coding::read(m.content.data_coding, Alphabet::Gsm7).alphabet == Alphabet::Gsm7;
        let body = without_header(&m.content);
        let receipt = Receipt {
            id: name.as_bytes(),
            submitted: 1,
            delivered: u16::from(success),
            submit: m.submitted,
            done: now,
            state: m.state,
            error: error.as_bytes(),
            text: if gsm { body } else { &[] },
        };
        let mut tlvs = Vec::with_capacity(48);
        let mut id_text = name.clone().into_bytes();
        id_text.push(0);
        push_tlv(&mut tlvs, tag::RECEIPTED_MESSAGE_ID, &id_text);
        push_tlv(&mut tlvs, tag::MESSAGE_STATE, &[m.state as u8]);
        if m.error != 0 {
            let code = (m.error.min(0xffff) as u16).to_be_bytes();
            push_tlv(&mut tlvs, tag::NETWORK_ERROR_CODE, &[8, code[0], code[1]]);
        }
        // An application that is a row of proto_smpp gets it there.
        let target: Arc<str> = match &m.asked {
            Some(asked) => (&*asked.user).into(),
            None if m.account.starts_with("smsc:") => m.account.clone(),
            None => format!("account:{}", m.account).into(),
        };
        let there = self.outlets.read().get(&target).is_some_and(|o| o.room() > 0);
        Some(Message {
            id: self.serial.fetch_add(1, Relaxed) + 1,
            nature: Nature::Receipt,
            account: m.account.clone(),
            under_way: there,
            target,
            source: m.destination.clone(),
            destination: m.source.clone(),
            content: Content {
                service_type: m.content.service_type.clone(),
                esm_class: 0x04,
                text: receipt.write(self.settings.offset).into(),
                tlvs: tlvs.into(),
                ..Content::default()
            },
            submitted: now,
            due: now,
            expires: now + self.settings.longest_validity,
            attempts: 0,
            price: 0,
            state: MessageState::Enroute,
            remote_id: None,
            error: 0,
            further: Vec::new(),
            asked: m.asked.clone(),
        })
    }

    /// Another SMS centre says what became of a message. `target` is that centre's. The id may be written in any of the
    /// ways of the field: in hexadecimal or decimal, with or without leading zeros.
    pub fn remote_receipt(
        self: &Arc<Self>,
        target: &Arc<str>,
        remote_id: &str,
        state: MessageState,
        error: u32,
    ) {
        let forms = forms(remote_id);
        let found = {
            let queue = self.queue.lock();
            forms.iter().find_map(|f| queue.by_remote(target, f))
        };
        match found {
            Some(id) if state.is_final() => {
                let others = self.queue.lock().parts_of_remote(id);
                self.ended_elsewhere(id, state, error);
                for id in others {
                    // Those that were diverted together with the first are not there any more.
                    let is_away = self.queue.lock().get(id).is_some_and(|m| m.remote_id.is_some());
                    if is_away {
                        self.ended_elsewhere(id, state, error);
                    }
                }
            }
            Some(_) => {}
            None => {
                let mut early = self.early.lock();
                if early.len() >= EARLY {
                    early.pop_front();
                }
                early.push_back(Early {
                    until: self.now() + EARLY_SECONDS,
                    target: target.clone(),
                    remote_id: remote_id.to_owned(),
                    state,
                    error,
                });
            }
        }
    }

    fn ended_elsewhere(self: &Arc<Self>, id: u64, state: MessageState, error: u32) {
        let failed = matches!(
            state,
            MessageState::Undeliverable
                | MessageState::Rejected
                | MessageState::Expired
                | MessageState::Unknown
                | MessageState::Skipped
        );
        let message = self.queue.lock().get(id).filter(|_| failed).cloned();
        if !message.is_some_and(|m| self.divert(&m, error)) {
            self.finish(id, state, error);
        }
    }

    /// The phone of a SIP user says what became of a message (RFC 5438). False when it is not one that went to this user.
    pub fn notified(self: &Arc<Self>, user: &str, id: u64, delivered: bool) -> bool {
        let target = self.queue.lock().get(id).map(|m| m.target.clone());
        let name = |aor: &str| aor.split('@').next().unwrap_or_default().to_owned();
        let Some(target) = target.filter(|t| t.strip_prefix("sip:").map(name) == Some(name(user))) else {
            return false;
        };
        let state = if delivered { MessageState::Delivered } else { MessageState::Undeliverable };
        self.remote_receipt(&target, &format!("sms-{id}"), state, 0);
        true
    }

    /// The answer has come: did its receipt come before?
    fn look_for_early(self: &Arc<Self>, target: &Arc<str>, remote_id: &str) {
        let found = {
            let mut early = self.early.lock();
            let at = early.iter().position(|e| {
                e.target == *target && forms(&e.remote_id).iter().any(|f| f.as_str() == remote_id)
            });
            at.and_then(|at| early.remove(at))
        };
        if let Some(e) = found {
            self.remote_receipt(target, remote_id, e.state, e.error);
        }
    }
}

fn absent_at(target: &str, number: &[u8]) -> Arc<str> {
    format!("{target} {}", String::from_utf8_lossy(number)).into()
}

/// Who wants to be told, and of which text.
pub(super) fn told_key(asked: &Asked) -> (Box<str>, Box<str>) {
    (asked.user.clone(), asked.message_id.clone())
}
