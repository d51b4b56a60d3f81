//! The centre itself: takes messages in, gives them to their destinations, and ends them.
//!
//! A message is answered when it is durable. An attempt is noted before it is made, so that after a crash those whose
//! outcome is not known are known themselves, and said in the log; all others are delivered once.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use serde_json::{Value as Json, json};
use switchroom_kernel::ports::http::HttpClient;
use switchroom_kernel::ports::net::{Clock, Spawn};
use switchroom_kernel::ports::store::{Store, StoreError};
use switchroom_kernel::stats::{StatId, Stats};
use switchroom_money::credit::api::Credit;
use switchroom_wire::gsm::{Alphabet, Coding, Shifts, Udh, decode};
use switchroom_wire::smpp::{MessageState, Status};

use crate::imdn::Asked;
use crate::link::compose::References;
use crate::link::ids::forms;
use crate::link::join::join_all;

use super::accounts::{Account, Verifier};
use super::aliases::Aliases;
use super::customer::Customer;
use super::ending::told_key;
use super::hook::Hook;
use super::lists::Lists;
use super::message::{Addr, Content, Message, Nature};
use super::parts::{joined_part, piece};
use super::policy::{Policy, Recent};
use super::queue::{Depth, Queue};
use super::report::Reports;
use super::routes::{Routed, Routes};
use super::store::{self, Change};
use super::writer::{Work, Writer};

/// Where messages go to: an account's binds, another SMS centre, a web server.
pub trait Outlet: Send + Sync {
    /// How many messages it takes now; 0 when it is not there.
    fn room(&self) -> usize;
    /// Messages wait and it is not there: it may be woken.
    fn wake(&self) {}
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
    /// Destinations that a script has chosen, best first; the table decides when there is none.
    pub ways: Vec<Arc<str>>,
    /// A SIP user who wants to be told of its end.
    pub asked: Option<Box<Asked>>,
    /// Transaction mode (`esm_class`): it is tried once, and the answer says what became of it.
    pub at_once: bool,
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
    /// Parts of one text.
    pub max_parts: usize,
    /// Seconds for which ended messages can be asked for.
    pub keep: i64,
    /// Seconds that the parts of a text to a SIP user wait for each other.
    pub join: i64,
    /// SIP users are asked to say that a message was delivered (RFC 5438), when its sender wants a receipt.
    pub imdn: bool,
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
    /// Messages that went on to their next destination.
    pub diverted: StatId,
    /// Messages that the script has thrown away.
    pub dropped: StatId,
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
    /// Numbers and SIP users, when they are mapped.
    pub aliases: Option<Arc<Aliases>>,
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
    pub(super) queue: Mutex<Queue>,
    pub(super) customers: RwLock<HashMap<Arc<str>, Arc<Customer>>>,
    pub(super) policy: RwLock<Arc<Policy>>,
    pub(super) routes: RwLock<Arc<Routes>>,
    pub(super) outlets: RwLock<HashMap<Arc<str>, Arc<dyn Outlet>>>,
    pub(super) recent: Recent,
    pub(super) early: Mutex<VecDeque<Early>>,
    /// Of texts whose sender wants to be told: parts that have not ended, and whether he heard of a failure. There are at
    /// most as many as messages.
    pub(super) told: Mutex<HashMap<(Box<str>, Box<str>), (usize, bool)>>,
    /// Messages in transaction mode, and who waits for their end. Customers' windows are their bound.
    pub(super) ends: Mutex<HashMap<u64, Answered>>,
    /// SIP users that were woken: when they may be again, and how often they were.
    pub(super) woken: Mutex<HashMap<Arc<str>, (i64, u32)>>,
    /// Customers who wait for a SIP user to be there (`set_dpf`): account, sender, recipient.
    pub(super) absent: Mutex<BTreeMap<Arc<str>, Vec<(Arc<str>, Addr, Addr)>>>,
    lists: RwLock<Arc<Lists>>,
    /// Readings of the tables that have begun, and the youngest that is in force.
    readings: (AtomicU64, Mutex<u64>),
    pub(super) serial: AtomicU64,
    maker: OnceLock<Maker>,
    /// The script that looks at each message which enters.
    pub(super) script: OnceLock<Script>,
    /// Numbers of long messages.
    pub references: References,
}

/// Makes destinations that are found by their name: other SMS centres, SIP users.
pub type Maker = Box<dyn Fn(&str) -> Option<Arc<dyn Outlet>> + Send + Sync>;

/// Lets a script look at a message before it is routed; the script's end calls [`Centre::enter`].
pub type Script = Box<dyn Fn(&Arc<Centre>, &Arc<Customer>, Submission, Answered) + Send + Sync>;

/// A receipt that came before the answer which names its message.
pub(super) struct Early {
    pub until: i64,
    pub target: Arc<str>,
    pub remote_id: String,
    pub state: MessageState,
    pub error: u32,
}

/// SIP users looked after in one second.
const ROUND: usize = 2000;
/// SIP users whose wakings are remembered.
const WOKEN: usize = 100_000;
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
            told: Mutex::default(),
            ends: Mutex::default(),
            woken: Mutex::default(),
            absent: Mutex::default(),
            lists: RwLock::default(),
            readings: Default::default(),
            serial: AtomicU64::new(0),
            maker: OnceLock::new(),
            script: OnceLock::new(),
            references: References::default(),
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
                if let Some(asked) = message.asked.as_ref().filter(|_| message.nature == Nature::Message) {
                    centre.told.lock().entry(told_key(asked)).or_default().0 += 1;
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
        let turn = self.readings.0.fetch_add(1, Relaxed) + 1;
        let accounts = super::accounts::load(store).await?;
        let (routes, policy) = (Routes::load(store).await?, Policy::load(store).await?);
        let lists = Lists::load(store).await?;
        let mut youngest = self.readings.1.lock();
        if *youngest > turn {
            // One that began later is in force already and knows more.
            return Ok(());
        }
        *youngest = turn;
        *self.lists.write() = Arc::new(lists);
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

    /// Every message that enters is shown to this. The first call counts.
    pub fn set_script(&self, script: Script) {
        let _ = self.script.set(script);
    }

    /// Whether a script looks at messages that enter.
    pub fn is_scripted(&self) -> bool {
        self.script.get().is_some()
    }

    /// The text of a message for people, with those of the parts that it carries.
    pub fn whole_text(&self, m: &Message) -> String {
        let queue = self.queue.lock();
        let parts = queue.carried(m.id);
        let mut seen = Vec::new();
        // A part that came twice stands behind the others.
        let distinct = parts.iter().filter(|m| {
            let part = joined_part(m).map(|c| c.part);
            let new = !seen.contains(&part);
            seen.push(part);
            new
        });
        let pieces: Vec<_> = distinct.map(|m| piece(m)).collect();
        if pieces.is_empty() { text(&m.content) } else { join_all(&pieces, Alphabet::Gsm7).text }
    }

    /// How other SMS centres and SIP users are reached. The first call counts.
    pub fn set_maker(&self, maker: Maker) {
        // A second start in one process would only say the same again.
        let _ = self.maker.set(maker);
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

    /// A number for a message that is not kept.
    pub fn next_id(&self) -> u64 {
        self.serial.fetch_add(1, Relaxed) + 1
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

    /// Texts to SIP users of which parts are missing.
    pub fn incomplete(&self) -> usize {
        self.queue.lock().incomplete()
    }

    /// A destination, by its name.
    pub(super) fn outlet(&self, target: &Arc<str>) -> Option<Arc<dyn Outlet>> {
        if let Some(outlet) = self.outlets.read().get(target) {
            return Some(outlet.clone());
        }
        let made = match target.split(':').next() {
            Some("http" | "https") => {
                Arc::new(Hook::new(target.to_string(), String::new())) as Arc<dyn Outlet>
            }
            Some("report") => Arc::new(Reports::default()) as Arc<dyn Outlet>,
            _ => self.maker.get()?(target)?,
        };
        if target.starts_with("sip:") {
            // Made anew each time: there are as many as users.
            return Some(made);
        }
        let accounts = self.customers.read().len();
        let mut outlets = self.outlets.write();
        if outlets.len() >= HOOKS + 2 * accounts {
            return None;
        }
        Some(outlets.entry(target.clone()).or_insert(made).clone())
    }

    /// Gives a destination what it takes.
    pub fn dispatch(self: &Arc<Self>, target: &Arc<str>) {
        let Some(outlet) = self.outlet(target) else { return };
        loop {
            let mut room = outlet.room();
            if target.starts_with("sip:") {
                room = room.saturating_sub(self.queue.lock().under_way(target));
            }
            if room == 0 {
                if target.starts_with("sip:") {
                    self.wake(target, &*outlet);
                }
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

    /// A SIP user has registered.
    pub fn arrived(self: &Arc<Self>, target: &Arc<str>) {
        self.reachable(target);
        self.dispatch(target);
    }

    /// Wakes a destination for which messages wait, after pauses as between attempts.
    fn wake(&self, target: &Arc<str>, outlet: &dyn Outlet) {
        if !self.queue.lock().waits(target) {
            return;
        }
        let now = self.now();
        {
            let mut woken = self.woken.lock();
            let (next, times) = woken.get(target).copied().unwrap_or_default();
            if now < next || (times == 0 && woken.len() >= WOKEN) {
                return;
            }
            let pauses = &self.settings.retry;
            let pause = pauses.get(times as usize).or(pauses.last()).copied().unwrap_or(60).max(5);
            woken.insert(target.clone(), (now + i64::from(pause), times + 1));
        }
        outlet.wake();
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

    /// Members of a distribution list.
    pub fn list(&self, account: &str, name: &[u8]) -> Option<Vec<Addr>> {
        self.lists.read().find(account, &String::from_utf8_lossy(name)).map(<[Addr]>::to_vec)
    }

    /// All lists.
    pub fn lists(&self) -> Arc<Lists> {
        self.lists.read().clone()
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

    /// What is posted to the webhook of an account, the newest first: what has not been taken, or what failed for good.
    pub async fn posts(&self, account: &str, failed: bool, most: i64) -> Result<Vec<Json>, StoreError> {
        let target = format!("account:{account}");
        let found = store::of_target(&*self.base.store, &target, failed, most.clamp(1, 1000)).await?;
        let one = |f: store::Found| {
            let m = f.message;
            json!({
                "id": m.id.to_string(), "type": if m.nature == Nature::Message { "message" } else { "receipt" },
                "attempts": m.attempts, "due": m.due, "expires": m.expires, "error": m.error, "done": f.done,
                "from": m.source.text(), "to": m.destination.text(),
            })
        };
        Ok(found.into_iter().map(one).collect())
    }

    /// Cancels a message that waits.
    pub fn cancel(self: &Arc<Self>, account: &str, id: u64) -> bool {
        self.cancel_of(account, id, None)
    }

    /// Cancels a message that waits, and that has this sender when one is named.
    pub fn cancel_of(self: &Arc<Self>, account: &str, id: u64, source: Option<&[u8]>) -> bool {
        let mine = {
            let queue = self.queue.lock();
            let is_his = |m: &Message| source.is_none_or(|source| m.source.addr[..] == *source);
            queue.is_waiting(id)
                && queue
                    .get(id)
                    .is_some_and(|m| *m.account == *account && m.nature == Nature::Message && is_his(m))
        };
        mine && self.end_waiting(id, MessageState::Deleted)
    }

    /// Whether a message has this sender; one that has ended is not asked for it.
    pub fn is_from(&self, id: u64, source: &[u8]) -> bool {
        self.queue.lock().get(id).is_none_or(|m| m.source.addr[..] == *source)
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

    pub(super) fn end_waiting(self: &Arc<Self>, id: u64, state: MessageState) -> bool {
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
            if now % 30 == 0 {
                queue.begin_round();
            }
            let mut stuck = queue.stuck();
            stuck.extend(queue.next_of_round(ROUND));
            (queue.wake(now), queue.expired(now, 5000), stuck)
        };
        for id in over {
            // A phone that took the message and says no more has it, as far as anybody knows.
            let taken = self.queue.lock().get(id).is_some_and(|m| {
                m.target.starts_with("sip:") && m.remote_id.is_some() && m.nature == Nature::Message
            });
            self.finish(id, if taken { MessageState::Accepted } else { MessageState::Expired }, 0);
        }
        targets.extend(self.queue.lock().release(now - self.settings.join, now));
        targets.extend(lines);
        targets.sort();
        targets.dedup();
        targets.iter().for_each(|t| self.dispatch(t));
        if now % 30 == 0 {
            let queue = self.queue.lock();
            self.woken.lock().retain(|target, _| queue.waits(target));
        }
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

    pub(super) fn count(&self, which: impl FnOnce(&Counters) -> StatId) {
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

pub(super) fn header(content: &Content) -> Option<Udh<'_>> {
    if content.esm_class & 0x40 == 0 { None } else { Udh::read(&content.text) }
}

pub(super) fn without_header(content: &Content) -> &[u8] {
    header(content).map_or(&content.text[..], |u| u.text)
}

/// Parts that a message takes on the air.
pub(super) fn parts(content: &Content) -> u32 {
    let (single, part) = match Coding::read(content.data_coding, Alphabet::Gsm7).alphabet {
        Alphabet::Gsm7 => (160, 153),
        _ => (140, 134),
    };
    let octets = content.text.len();
    if octets <= single { 1 } else { octets.div_ceil(part) as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

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
