//! How a message enters: checks, the script, route, price, and its row.

use std::sync::Arc;

use parking_lot::Mutex;
use switchroom_money::credit::api::{CreditError, Entry};
use switchroom_wire::smpp::{MessageState, Status};

use super::centre::{Answered, Centre, Submission, parts, text};
use super::customer::Customer;
use super::message::{Addr, Message, Nature};
use super::parts::joined_part;
use super::policy::Checked;
use super::routes::Routed;
use super::store::Change;
use super::writer::Work;

/// Seconds that the customer waits for the end of a message in transaction mode.
const AT_ONCE: i64 = 30;
/// Destinations that are kept with one message.
const WAYS: usize = 8;

impl Centre {
    /// A customer submits a message.
    pub fn submit(self: &Arc<Self>, customer: &Arc<Customer>, mut s: Submission, answered: Answered) {
        if let Err(status) = self.admit(customer, &mut s) {
            return self.refuse(status, answered);
        }
        match self.script.get() {
            Some(script) => script(self, customer, s, answered),
            None => self.enter(customer, s, answered),
        }
    }

    /// A message that its script has seen goes on: it is routed.
    pub fn enter(self: &Arc<Self>, customer: &Arc<Customer>, mut s: Submission, answered: Answered) {
        let id = self.next_id();
        let destination = s.destination.text();
        let destination = destination.strip_prefix('+').unwrap_or(&destination).to_owned();
        if s.ways.is_empty() {
            let (routes, source) = (self.routes.read().clone(), s.source.text());
            let text = if routes.reads_text() { text(&s.content) } else { String::new() };
            let account = &*customer.name;
            let chance = id;
            s.ways = routes.find(&Routed {
                account,
                source: &source,
                destination: &destination,
                text: &text,
                chance,
            });
        }
        let domain =
            |way: &Arc<str>| way.strip_prefix("sip:").filter(|d| !d.contains('@')).map(str::to_owned);
        if let Some(aliases) = self.base.aliases.clone()
            && let Some(domain) = s.ways.iter().find_map(domain)
        {
            let (centre, customer) = (self.clone(), customer.clone());
            return self.base.spawn.spawn(Box::pin(async move {
                if let Some(user) = aliases.user_of(&destination, &domain).await {
                    let own = format!("sip:{domain}");
                    s.ways
                        .iter_mut()
                        .filter(|w| ***w == *own)
                        .for_each(|w| *w = format!("sip:{user}").into());
                }
                centre.store(&customer, id, s, answered);
            }));
        }
        self.store(customer, id, s, answered);
    }

    fn store(self: &Arc<Self>, customer: &Customer, id: u64, s: Submission, answered: Answered) {
        let at_once = s.at_once;
        match self.accept(customer, id, s) {
            Err(status) => self.refuse(status, answered),
            Ok((message, entry, replaced)) => self.keep(message, entry, replaced, at_once, answered),
        }
    }

    /// A message is not accepted.
    pub fn refuse(&self, status: Status, answered: Answered) {
        self.count(|c| c.refused);
        answered(Err(status));
    }

    /// Whether the customer may submit this at all.
    fn admit(&self, customer: &Customer, s: &mut Submission) -> Result<(), Status> {
        let account = customer.account();
        if !account.enabled {
            return Err(Status::PROHIBITED);
        }
        if !customer.rate.take(account.rate, self.now_ms()) {
            return Err(Status::THROTTLED);
        }
        if s.source.addr.is_empty() && !account.default_sender.is_empty() {
            s.source = Addr::parse(&account.default_sender);
        }
        if !account.may_send_as(&s.source.text()) {
            return Err(Status::INVSRCADR);
        }
        if s.destination.addr.is_empty() {
            return Err(Status::INVDSTADR);
        }
        Ok(())
    }

    /// Checks a submission and makes a message of it; money is set aside.
    fn accept(
        &self,
        customer: &Customer,
        id: u64,
        s: Submission,
    ) -> Result<(Message, Option<Entry>, Vec<u64>), Status> {
        let account = customer.account();
        let (now, now_ms) = (self.now(), self.now_ms());
        if s.destination.addr.is_empty() || s.destination.addr.len() > 64 {
            return Err(Status::INVDSTADR);
        }
        let destination = s.destination.text();
        let destination = destination.strip_prefix('+').unwrap_or(&destination);
        if s.content.priority > 4 {
            return Err(Status::INVPRTFLG);
        }
        let expires = match s.validity {
            Some(at) if at <= now || s.schedule.is_some_and(|from| at <= from) => {
                return Err(Status::INVEXPIRY);
            }
            Some(at) => at.min(s.schedule.unwrap_or(now).max(now) + self.settings.longest_validity),
            None => s.schedule.unwrap_or(now).max(now) + self.settings.validity,
        };
        let expires = if s.at_once { expires.min(now + AT_ONCE) } else { expires };
        let policy = self.policy.read().clone();
        let text = if policy.reads_text() { text(&s.content) } else { String::new() };
        let checked = Checked {
            account: &customer.name,
            source: &s.source.addr,
            destination: destination.as_bytes(),
            coding: s.content.data_coding,
            octets: &s.content.text,
            text: &text,
            now,
        };
        let mut ways = s.ways;
        ways.iter_mut().for_each(|way| to_user(way, destination));
        ways.dedup();
        let there = ways.iter().position(|t| self.outlet(t).is_some_and(|o| o.room() > 0));
        if ways.is_empty() {
            return Err(Status::NOROUTE);
        }
        let target = ways.remove(there.unwrap_or(0));
        ways.truncate(WAYS);
        policy.check(&checked, &self.recent)?;
        let (mut price, mut entry) = (0, None);
        if !account.credit.is_empty() {
            let credit = self.base.credit.get().ok_or(Status::SYSERR)?;
            let refused = |e: CreditError| match e {
                CreditError::NoTariff { .. } => Status::NOTARIFF,
                CreditError::Store(_) => Status::SYSERR,
                _ => Status::NOFUNDS,
            };
            price =
                credit.price(&account.credit, destination.as_bytes(), parts(&s.content)).map_err(refused)?;
            if price > 0 {
                let reference = format!("sms {id}");
                entry = Some(credit.reserve(&account.credit, price, reference, now_ms).map_err(refused)?);
            }
        }
        let replaced = if s.replace {
            let queue = self.queue.lock();
            queue.alike(&customer.name, &s.source, &s.destination, &s.content.service_type)
        } else {
            Vec::new()
        };
        let due = s.schedule.filter(|at| *at > now).unwrap_or(now);
        let mut message = Message {
            id,
            nature: Nature::Message,
            account: customer.name.clone(),
            under_way: false,
            target,
            source: s.source,
            destination: s.destination,
            content: s.content,
            submitted: now,
            due,
            expires,
            attempts: 0,
            price,
            state: if due > now { MessageState::Scheduled } else { MessageState::Enroute },
            remote_id: None,
            error: 0,
            further: ways,
            asked: s.asked,
        };
        // Given out as soon as it is written, so the note is made with it.
        message.under_way = due <= now && there.is_some() && joined_part(&message).is_none();
        Ok((message, entry, replaced))
    }

    /// Writes a message, then answers and begins.
    fn keep(
        self: &Arc<Self>,
        message: Message,
        entry: Option<Entry>,
        replaced: Vec<u64>,
        at_once: bool,
        answered: Answered,
    ) {
        let changes = vec![Change::insert(&message)];
        let (centre, id) = (self.clone(), message.id);
        let full = self.queue.lock().len() >= self.settings.most;
        let undo = entry.clone();
        let answer = Arc::new(Mutex::new(Some((message, answered))));
        let waits = answer.clone();
        let told = move |result: Result<(), _>| {
            let Some((message, answered)) = waits.lock().take() else { return };
            if let Err(error) = result {
                tracing::error!("smsc: a message cannot be stored: {error}");
                centre.count(|c| c.refused);
                return answered(Err(Status::SYSERR));
            }
            centre.count(|c| c.accepted);
            let target = message.target.clone();
            if at_once {
                centre.ends.lock().insert(id, answered);
                centre.queue.lock().insert(message, centre.now());
            } else {
                centre.queue.lock().insert(message, centre.now());
                answered(Ok(id));
            }
            for old in replaced {
                centre.end_waiting(old, MessageState::Deleted);
            }
            centre.dispatch(&target);
        };
        let work = Work {
            changes,
            entries: entry.into_iter().collect(),
            told: Some(Box::new(told)),
            ..Work::default()
        };
        if (full || self.writer.ask(work).is_err())
            && let Some((_, answered)) = answer.lock().take()
        {
            if let (Some(credit), Some(entry)) = (self.base.credit.get(), undo) {
                credit.undo(&entry);
            }
            self.count(|c| c.refused);
            answered(Err(Status::MSGQFUL));
        }
    }
}

/// `sip:DOMAIN` is the user of that domain whose name is the recipient; `sip:USER@DOMAIN` stays.
fn to_user(way: &mut Arc<str>, destination: &str) {
    if let Some(domain) = way.strip_prefix("sip:").filter(|rest| !rest.contains('@')) {
        *way = format!("sip:{destination}@{domain}").into();
    }
}
