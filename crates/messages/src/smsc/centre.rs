//! The centre itself: takes messages in, gives them to their destinations, and ends them.
//!
//! A message is answered when it is durable. An attempt is noted before it is made, so that after a crash those whose
//! outcome is not known are known themselves, and said in the log; all others are delivered once.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use switchroom_kernel::ports::http::HttpClient;
use switchroom_kernel::ports::net::{Clock, Spawn};
use switchroom_kernel::ports::store::Store;
use switchroom_kernel::stats::{StatId, Stats};
use switchroom_money::credit::api::{Credit, CreditError, Entry};
use switchroom_wire::gsm::{Alphabet, Coding, Shifts, Udh, decode};
use switchroom_wire::smpp::receipt::Receipt;
use switchroom_wire::smpp::{MessageState, Status, push_tlv, tag};

use super::accounts::{Account, Verifier};
use super::customer::Customer;
use super::hook::Hook;
use super::message::{Addr, Content, Message, Nature};
use super::policy::{Checked, Policy, Recent};
use super::queue::{Depth, Queue};
use super::routes::{Routed, Routes};
use super::store::{self, Change};
use super::writer::{Work, Writer};

/// Where messages go to: an account's binds, another SMS centre, a web server.
pub trait Outlet: Send + Sync {
    /// How many messages it takes now; 0 when it is not there.
    fn room(&self) -> usize;
    /// Begins to deliver. The outcome is told to [`Centre::outcome`], later or at once. False when it takes none after all.
    fn send(&self, centre: &Arc<Centre>, message: &Message) -> bool;
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The recipient has it.
    Delivered,
    /// The next SMS centre has it under this id and will send a receipt.
    Taken(String),
    /// Not now; the status says why.
    Temporary(Status),
    /// Never.
    Permanent(Status),
    /// The destination wants a pause; the attempt does not count.
    Throttled,
    /// Nobody knows: the connection ended before the answer.
    Unknown,
}

/// A message that comes in.
#[derive(Clone, Debug, Default)]
pub struct Submission {
    /// Sender.
    pub source: Addr,
    /// Recipient.
    pub destination: Addr,
    /// Content.
    pub content: Content,
    /// When to deliver, unix seconds.
    pub schedule: Option<i64>,
    /// Until when, unix seconds.
    pub validity: Option<i64>,
    /// Takes the place of one that waits.
    pub replace: bool,
}

/// Told once the message is durable: its number, or why it was not accepted.
pub type Answered = Box<dyn FnOnce(Result<u64, Status>) + Send>;

/// Settings of the module.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our `system_id`.
    pub system_id: String,
    /// Seconds until a message is given up that says nothing else.
    pub validity: i64,
    /// The most a message may ask for.
    pub longest_validity: i64,
    /// Seconds until each further attempt; the last is repeated.
    pub retry: Vec<u32>,
    /// Messages kept at a time.
    pub most: usize,
    /// Seconds for which ended messages can be asked for.
    pub keep: i64,
    /// Seconds that dates in receipts are ahead of UTC.
    pub offset: i64,
}

/// Ids of the statistics.
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    /// Accepted.
    pub accepted: StatId,
    /// Refused.
    pub refused: StatId,
    /// Delivered.
    pub delivered: StatId,
    /// Given up by time.
    pub expired: StatId,
    /// Ended otherwise without success.
    pub failed: StatId,
    /// Attempts repeated.
    pub retried: StatId,
    /// Receipts made.
    pub receipts: StatId,
    /// Attempts of unknown outcome.
    pub unknown: StatId,
}

/// What the centre stands on.
pub struct Base {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The control thread.
    pub spawn: Arc<dyn Spawn>,
    /// Web servers.
    pub web: Arc<dyn HttpClient>,
    /// The database.
    pub store: Arc<dyn Store>,
    /// Money, when that module is loaded.
    pub credit: Arc<OnceLock<Arc<Credit>>>,
    /// Statistics.
    pub stats: Option<(Arc<Stats>, Counters)>,
}

/// The SMS centre.
pub struct Centre {
    /// Settings.
    pub settings: Settings,
    /// What it stands on.
    pub base: Base,
    /// Checks passwords.
    pub verifier: Verifier,
    /// Writes.
    pub writer: Arc<Writer>,
    queue: Mutex<Queue>,
    customers: RwLock<HashMap<Arc<str>, Arc<Customer>>>,
    policy: RwLock<Arc<Policy>>,
    routes: RwLock<Arc<Routes>>,
    outlets: RwLock<HashMap<Arc<str>, Arc<dyn Outlet>>>,
    recent: Recent,
    early: Mutex<VecDeque<Early>>,
    serial: AtomicU64,
    upstreams: OnceLock<Upstreams>,
}

/// Makes the destination of a connection to another SMS centre, by the connection's name.
pub type Upstreams = Box<dyn Fn(&str) -> Arc<dyn Outlet> + Send + Sync>;

/// A receipt that came before the answer which names its message.
struct Early {
    until: i64,
    target: Arc<str>,
    remote_id: String,
    state: MessageState,
    error: u32,
}

/// Receipts that wait for their message, and for how many seconds.
const EARLY: usize = 10_000;
const EARLY_SECONDS: i64 = 30;
/// Web servers kept as destinations.
const HOOKS: usize = 1000;
/// Rows read at a time.
const PAGE: i64 = 5000;

impl Centre {
    /// Reads accounts, routes and rules, and what was waiting when the process ended.
    pub async fn load(settings: Settings, base: Base) -> Result<Arc<Centre>, String> {
        let writer = Writer::new(base.store.clone(), base.credit.clone(), settings.most);
        let centre = Arc::new(Centre {
            verifier: Verifier::start()?,
            writer: Arc::new(writer),
            queue: Mutex::default(),
            customers: RwLock::default(),
            policy: RwLock::default(),
            routes: RwLock::default(),
            outlets: RwLock::default(),
            recent: Recent::default(),
            early: Mutex::default(),
            serial: AtomicU64::new(0),
            upstreams: OnceLock::new(),
            settings,
            base,
        });
        centre.reload().await?;
        let failed = |e| format!("table sms_message: {e}");
        let store = &*centre.base.store;
        centre.serial.store(store::last_id(store).await.map_err(failed)?, Relaxed);
        let (mut after, mut count, now) = (0, 0, centre.now());
        loop {
            let page = store::waiting(store, after, PAGE).await.map_err(failed)?;
            let Some(last) = page.last() else { break };
            after = last.id;
            count += page.len();
            for message in page {
                if message.under_way {
                    tracing::warn!(
                        "smsc: message {} to {} was under way when the process ended; it may be delivered twice",
                        message.id,
                        message.target
                    );
                }
                centre.queue.lock().insert(message, now);
            }
        }
        if count > 0 {
            tracing::info!("smsc: {count} messages were waiting");
        }
        Ok(centre)
    }

    /// Reads accounts, routes and rules again. Nothing changes when something in them is wrong.
    pub async fn reload(self: &Arc<Self>) -> Result<(), String> {
        let store = &*self.base.store;
        let accounts = super::accounts::load(store).await?;
        let (routes, policy) = (Routes::load(store).await?, Policy::load(store).await?);
        *self.routes.write() = Arc::new(routes);
        *self.policy.write() = Arc::new(policy);
        self.set_accounts(accounts);
        Ok(())
    }

    fn set_accounts(self: &Arc<Self>, accounts: Vec<Account>) {
        let mut customers = self.customers.write();
        let names: Vec<Arc<str>> = accounts.iter().map(|a| a.system_id.clone()).collect();
        for account in accounts {
            match customers.get(&account.system_id) {
                Some(known) => known.set(account),
                None => {
                    let customer = Arc::new(Customer::new(account));
                    let name = customer.name.clone();
                    self.add_outlet(format!("account:{name}").into(), customer.clone());
                    customers.insert(name, customer);
                }
            }
        }
        customers.retain(|name, customer| {
            let stays = names.contains(name);
            if !stays {
                customer.close();
                self.outlets.write().remove(format!("account:{name}").as_str());
            }
            stays
        });
    }

    /// A destination is there, or there anew.
    pub fn add_outlet(&self, target: Arc<str>, outlet: Arc<dyn Outlet>) {
        self.outlets.write().insert(target, outlet);
    }

    /// How connections to other SMS centres are reached. The first call counts.
    pub fn set_upstreams(&self, upstreams: Upstreams) {
        // A second start in one process would only say the same again.
        let _ = self.upstreams.set(upstreams);
    }

    /// Whether a receipt of this destination may be for a message of ours.
    pub fn owns(&self, target: &Arc<str>, remote_id: &str) -> bool {
        let queue = self.queue.lock();
        queue.is_busy(target) || forms(remote_id).iter().any(|f| queue.by_remote(target, f).is_some())
    }

    /// Whether a message would go anywhere.
    pub fn has_route(&self, account: &str, source: &Addr, destination: &Addr) -> bool {
        let (source, destination) = (source.text(), destination.text());
        let destination = destination.strip_prefix('+').unwrap_or(&destination);
        let routes = self.routes.read().clone();
        !routes.find(&Routed { account, source: &source, destination, text: "", chance: 0 }).is_empty()
    }

    /// An account.
    pub fn customer(&self, name: &str) -> Option<Arc<Customer>> {
        self.customers.read().get(name).cloned()
    }

    /// All accounts, sorted by name.
    pub fn customers(&self) -> Vec<Arc<Customer>> {
        let mut all: Vec<_> = self.customers.read().values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Unix seconds.
    pub fn now(&self) -> i64 {
        self.base.clock.unix().as_secs() as i64
    }

    /// Unix milliseconds.
    pub fn now_ms(&self) -> i64 {
        self.base.clock.unix().as_millis() as i64
    }

    /// How many messages are kept, and the lines they wait in.
    pub fn depths(&self) -> (usize, Vec<(Arc<str>, Depth)>) {
        let queue = self.queue.lock();
        (queue.len(), queue.depths())
    }

    /// A customer submits a message.
    pub fn submit(self: &Arc<Self>, customer: &Arc<Customer>, s: Submission, answered: Answered) {
        match self.accept(customer, s) {
            Err(status) => {
                self.count(|c| c.refused);
                answered(Err(status));
            }
            Ok((message, entry, replaced)) => self.keep(message, entry, replaced, answered),
        }
    }

    /// Checks a submission and makes a message of it; money is set aside.
    fn accept(
        &self,
        customer: &Customer,
        mut s: Submission,
    ) -> Result<(Message, Option<Entry>, Vec<u64>), Status> {
        let account = customer.account();
        let (now, now_ms) = (self.now(), self.now_ms());
        if !account.enabled {
            return Err(Status::PROHIBITED);
        }
        if !customer.rate.take(account.rate, now_ms) {
            return Err(Status::THROTTLED);
        }
        if s.source.addr.is_empty() && !account.default_sender.is_empty() {
            s.source = Addr::parse(&account.default_sender);
        }
        let source = s.source.text();
        if !account.may_send_as(&source) {
            return Err(Status::INVSRCADR);
        }
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
        let (policy, routes) = (self.policy.read().clone(), self.routes.read().clone());
        let reads = policy.reads_text() || routes.reads_text();
        let text = if reads { text(&s.content) } else { String::new() };
        let checked = Checked {
            account: &customer.name,
            source: &s.source.addr,
            destination: destination.as_bytes(),
            coding: s.content.data_coding,
            octets: &s.content.text,
            text: &text,
            now,
        };
        let id = self.serial.fetch_add(1, Relaxed) + 1;
        let routed =
            Routed { account: &customer.name, source: &source, destination, text: &text, chance: id };
        let targets = routes.find(&routed);
        let there = targets.iter().find(|t| self.outlet(t).is_some_and(|o| o.room() > 0));
        let target = there.or(targets.first()).ok_or(Status::NOROUTE)?.clone();
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
        let message = Message {
            id,
            nature: Nature::Message,
            account: customer.name.clone(),
            // Given out as soon as it is written, so the note is made with it.
            under_way: due <= now && there.is_some(),
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
        };
        Ok((message, entry, replaced))
    }

    /// Writes a message, then answers and begins.
    fn keep(
        self: &Arc<Self>,
        message: Message,
        entry: Option<Entry>,
        replaced: Vec<u64>,
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
            centre.queue.lock().insert(message, centre.now());
            answered(Ok(id));
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

    fn outlet(&self, target: &Arc<str>) -> Option<Arc<dyn Outlet>> {
        if let Some(outlet) = self.outlets.read().get(target) {
            return Some(outlet.clone());
        }
        let upstreams = self.upstreams.get();
        let made: Arc<dyn Outlet> = match (target.strip_prefix("smsc:"), upstreams) {
            (Some(name), Some(upstreams)) => upstreams(name),
            _ if target.starts_with("http") => Arc::new(Hook::new(target.to_string(), String::new())),
            _ => return None,
        };
        let accounts = self.customers.read().len();
        let mut outlets = self.outlets.write();
        if outlets.len() >= HOOKS + accounts {
            return None;
        }
        Some(outlets.entry(target.clone()).or_insert(made).clone())
    }

    /// Gives a destination what it takes.
    pub fn dispatch(self: &Arc<Self>, target: &Arc<str>) {
        let Some(outlet) = self.outlet(target) else { return };
        loop {
            let room = outlet.room();
            if room == 0 {
                return;
            }
            let taken = self.queue.lock().take(target, room.min(256), self.now());
            if taken.is_empty() {
                return;
            }
            let (noted, new): (Vec<_>, Vec<_>) = taken.into_iter().partition(|(_, noted)| *noted);
            let noted: Vec<u64> = noted.into_iter().map(|(id, _)| id).collect();
            let went = self.give(&outlet, &noted);
            if !new.is_empty() {
                return self.note_and_give(target, outlet, new.into_iter().map(|(id, _)| id).collect());
            }
            if !went {
                return;
            }
        }
    }

    /// Notes that attempts begin, then makes them.
    fn note_and_give(self: &Arc<Self>, target: &Arc<str>, outlet: Arc<dyn Outlet>, ids: Vec<u64>) {
        let changes = ids.iter().map(|id| Change::UnderWay(*id)).collect();
        let (centre, target, again) = (self.clone(), target.clone(), ids.clone());
        let told = move |result: Result<(), _>| match result {
            Ok(()) => {
                if centre.give(&outlet, &ids) {
                    centre.dispatch(&target);
                }
            }
            Err(error) => {
                tracing::error!("smsc: attempts cannot be noted: {error}");
                let mut queue = centre.queue.lock();
                ids.iter().rev().for_each(|id| queue.put_back(*id));
            }
        };
        let work = Work { changes, told: Some(Box::new(told)), ..Work::default() };
        if self.writer.ask(work).is_err() {
            let mut queue = self.queue.lock();
            again.iter().rev().for_each(|id| queue.put_back(*id));
        }
    }

    /// False when the destination took not all of them; the rest waits again.
    fn give(self: &Arc<Self>, outlet: &Arc<dyn Outlet>, ids: &[u64]) -> bool {
        for (at, id) in ids.iter().enumerate() {
            let Some(message) = self.queue.lock().get(*id).cloned() else { continue };
            if !outlet.send(self, &message) {
                let mut queue = self.queue.lock();
                ids[at..].iter().rev().for_each(|id| queue.put_back(*id));
                return false;
            }
        }
        true
    }

    /// What became of an attempt.
    pub fn outcome(self: &Arc<Self>, id: u64, outcome: Outcome) {
        let Some(message) = self.queue.lock().get(id).cloned() else { return };
        let target = message.target.clone();
        match outcome {
            Outcome::Delivered => self.finish(id, MessageState::Delivered, 0),
            Outcome::Taken(remote_id) => {
                let remote_id = normal(&remote_id);
                self.writer.note(vec![Change::Away { id, remote_id: remote_id.clone() }], Vec::new());
                self.queue.lock().away(id, &remote_id);
                self.look_for_early(&target, &remote_id);
            }
            Outcome::Permanent(status) if message.nature == Nature::Message => {
                self.finish(id, MessageState::Undeliverable, status.0);
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

    fn retry(self: &Arc<Self>, message: &Message, status: Status, pause: Option<i64>) {
        let now = self.now();
        let routes = self.routes.read().clone();
        let steps = routes.retry(&message.target).unwrap_or(&self.settings.retry);
        let step = steps.get(message.attempts as usize).or(steps.last()).copied().unwrap_or(60);
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
    fn finish(self: &Arc<Self>, id: u64, state: MessageState, error: u32) {
        let Some(mut message) = self.queue.lock().remove(id) else { return };
        let (now, now_ms) = (self.now(), self.now_ms());
        self.count(|c| match state {
            MessageState::Delivered => c.delivered,
            MessageState::Expired => c.expired,
            _ => c.failed,
        });
        message.state = state;
        message.error = error;
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
        if m.nature == Nature::Receipt || !wanted {
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
        let target: Arc<str> = format!("account:{}", m.account).into();
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
            Some(id) if state.is_final() => self.finish(id, state, error),
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

    /// What can be said of a customer's message: state, unix seconds of its end (0 before), error.
    pub async fn query(&self, account: &str, id: u64) -> Option<(MessageState, i64, u32)> {
        if let Some(m) = self.queue.lock().get(id) {
            return (*m.account == *account && m.nature == Nature::Message).then_some((m.state, 0, m.error));
        }
        let found = store::find(&*self.base.store, id).await.ok()??;
        let m = found.message;
        (*m.account == *account && m.nature == Nature::Message).then_some((m.state, found.done, m.error))
    }

    /// Cancels a message that waits.
    pub fn cancel(self: &Arc<Self>, account: &str, id: u64) -> bool {
        let mine = {
            let queue = self.queue.lock();
            queue.is_waiting(id)
                && queue.get(id).is_some_and(|m| *m.account == *account && m.nature == Nature::Message)
        };
        mine && self.end_waiting(id, MessageState::Deleted)
    }

    /// Cancels all that wait between two addresses. Gives how many there were.
    pub fn cancel_alike(
        self: &Arc<Self>,
        account: &str,
        source: &Addr,
        destination: &Addr,
        service: &[u8],
    ) -> usize {
        let ids = self.queue.lock().alike(account, source, destination, service);
        ids.into_iter().filter(|id| self.end_waiting(*id, MessageState::Deleted)).count()
    }

    fn end_waiting(self: &Arc<Self>, id: u64, state: MessageState) -> bool {
        let waits = self.queue.lock().is_waiting(id);
        if waits {
            self.finish(id, state, 0);
        }
        waits
    }

    /// Changes a message that waits; `source` must be its sender.
    pub fn replace(
        self: &Arc<Self>,
        account: &str,
        id: u64,
        source: &[u8],
        schedule: Option<i64>,
        validity: Option<i64>,
        change: impl FnOnce(&mut Content),
    ) -> bool {
        let now = self.now();
        let mut queue = self.queue.lock();
        let fits = queue.get(id).is_some_and(|m| *m.account == *account && (m.source.addr[..] == *source));
        if !fits {
            return false;
        }
        let changed = queue.change(id, now, |m| {
            m.due = schedule.unwrap_or(m.due).max(now);
            m.expires = validity.unwrap_or(m.expires).min(now + self.settings.longest_validity);
            change(&mut m.content);
        });
        let Some(m) = changed else { return false };
        self.writer.note(
            vec![Change::Replace { id, due: m.due, expires: m.expires, content: m.pack() }],
            Vec::new(),
        );
        true
    }

    /// Once a second: what is due, what is over, and lines that were overlooked.
    pub fn tick(self: &Arc<Self>) {
        let now = self.now();
        let (mut targets, over, lines) = {
            let mut queue = self.queue.lock();
            (queue.wake(now), queue.expired(now, 5000), queue.depths())
        };
        for id in over {
            self.finish(id, MessageState::Expired, 0);
        }
        targets.extend(lines.into_iter().filter(|(_, d)| d.waiting > 0).map(|(t, _)| t));
        targets.sort();
        targets.dedup();
        targets.iter().for_each(|t| self.dispatch(t));
        let late: Vec<Early> = {
            let mut early = self.early.lock();
            let over = early.iter().take_while(|e| e.until <= now).count();
            early.drain(..over).collect()
        };
        for e in late {
            tracing::info!("smsc: a receipt of {} for {} fits no message", e.target, e.remote_id);
        }
    }

    /// Deletes ended messages whose time is over.
    pub async fn forget_old(&self) {
        if let Err(e) = store::forget(&*self.base.store, self.now() - self.settings.keep).await {
            tracing::warn!("smsc: old messages were not deleted: {e}");
        }
    }

    fn count(&self, which: impl FnOnce(&Counters) -> StatId) {
        if let Some((stats, counters)) = &self.base.stats {
            stats.add_outside(which(counters), 1);
        }
    }
}

/// The text of a message, for people.
pub fn text(content: &Content) -> String {
    let coding = Coding::read(content.data_coding, Alphabet::Gsm7);
    let shifts = header(content).map_or_else(Shifts::default, |u| u.shifts());
    decode(coding.alphabet, without_header(content), shifts)
}

fn header(content: &Content) -> Option<Udh<'_>> {
    if content.esm_class & 0x40 == 0 { None } else { Udh::read(&content.text) }
}

fn without_header(content: &Content) -> &[u8] {
    header(content).map_or(&content.text[..], |u| u.text)
}

/// Parts that a message takes on the air.
fn parts(content: &Content) -> u32 {
    let (single, part) = match Coding::read(content.data_coding, Alphabet::Gsm7).alphabet {
        Alphabet::Gsm7 => (160, 153),
        _ => (140, 134),
    };
    let octets = content.text.len();
    if octets <= single { 1 } else { octets.div_ceil(part) as u32 }
}

/// Small letters, no leading zeros.
fn normal(id: &str) -> String {
    let id = id.trim().to_ascii_lowercase();
    let short = id.trim_start_matches('0');
    if short.is_empty() { id } else { short.to_owned() }
}

/// The ways to write an id: as it is, and between hexadecimal and decimal.
fn forms(id: &str) -> Vec<String> {
    let id = normal(id);
    let mut forms = vec![id.clone()];
    if let Ok(n) = id.parse::<u128>() {
        forms.push(format!("{n:x}"));
    }
    if let Ok(n) = u128::from_str_radix(&id, 16) {
        forms.push(n.to_string());
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_in_hexadecimal_decimal_and_without_zeros() {
        assert!(forms("00FF").contains(&"255".to_owned()));
        assert!(forms("255").contains(&"ff".to_owned()));
        assert!(forms("0000123").contains(&"123".to_owned()));
        assert_eq!(normal("000"), "000");
    }

    #[test]
    fn long_payloads_count_as_the_parts_they_take() {
        let content = |octets: usize, data_coding| Content {
            text: vec![b'a'; octets].into(),
            data_coding,
            ..Content::default()
        };
        assert_eq!(parts(&content(160, 0)), 1);
        assert_eq!(parts(&content(161, 0)), 2);
        assert_eq!(parts(&content(140, 8)), 1);
        assert_eq!(parts(&content(141, 8)), 2);
    }
}
