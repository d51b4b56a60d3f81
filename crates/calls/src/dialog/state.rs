//! Dialogs (RFC 3261 §12) as a proxy sees them, kept by the worker that owns their Call-ID.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use smallvec::SmallVec;
use switchroom_kernel::context::TxHandle;
use switchroom_kernel::events::EventId;
use switchroom_kernel::ports::net::SocketId;
use switchroom_kernel::stats::StatId;
use switchroom_kernel::{Kernel, Shard};
use switchroom_script::{Program, RouteId, Value};

use super::api::Follow;
use super::sequential::Ping;
use super::store::Keeper;

/// Dialogs a worker may keep.
pub const MAX_DIALOGS: usize = 500_000;

/// Where a dialog stands; the numbers are those of `$DLG_status` and the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i64)]
pub enum State {
    /// INVITE seen, no answer yet.
    Unconfirmed = 1,
    /// A provisional answer with a tag.
    Early = 2,
    /// 2xx seen, no ACK yet.
    ConfirmedNoAck = 3,
    /// ACK seen.
    Confirmed = 4,
    /// Over.
    Deleted = 5,
}

/// One side of a dialog.
#[derive(Clone, Debug, Default)]
pub struct Leg {
    /// Tag; of the callee unknown until a reply brings it.
    pub tag: Bytes,
    /// Value of From or To, with URI and tag.
    pub uri: Bytes,
    /// Contact URI: where requests to this side go.
    pub contact: Bytes,
    /// Route set from the proxy towards this side, in order.
    pub routes: Vec<Bytes>,
    /// Last CSeq this side used.
    pub cseq: u32,
    /// How many requests of ours the other side has had in this side's name: its own are numbered so much higher.
    pub shift: u32,
    /// The same when its last INVITE passed, for the ACK.
    pub invite_shift: u32,
    /// Content-Type and body that this side sent last, when re-INVITE pings will need them.
    pub body: Option<(Bytes, Bytes)>,
    /// Socket towards this side.
    pub socket: Option<SocketId>,
}

/// A route to run at a turn of the dialog.
#[derive(Clone, Debug)]
pub struct OnTurn {
    /// Script.
    pub program: Arc<Program>,
    /// Route.
    pub route: RouteId,
}

/// One dialog.
///
/// More than 15 fields: it is what the variables and commands of the module show.
pub struct Dialog {
    /// Number within the worker.
    pub id: u64,
    /// Call-ID.
    pub call_id: Bytes,
    /// Transaction of the INVITE until it is answered.
    pub invite: Option<TxHandle>,
    /// Caller and callee.
    pub legs: [Leg; 2],
    /// State.
    pub state: State,
    /// Seconds since the epoch when it was made.
    pub created: u64,
    /// Seconds since the epoch when it was answered; 0 before.
    pub started: u64,
    /// Lifetime in seconds once answered.
    pub timeout: u64,
    /// When it ends by itself.
    pub deadline: Option<Instant>,
    /// `$dlg_val(name)`
    pub values: Vec<(u32, Value)>,
    /// `set_dlg_flag()`
    pub flags: u32,
    /// Profiles it is in, with values.
    pub profiles: Vec<(String, String)>,
    /// End both sides with BYE when the lifetime is over.
    pub bye_on_timeout: bool,
    /// After a CANCEL that came too late: end it.
    pub end_on_race: bool,
    /// Reliable provisional replies that were acknowledged here, by tag and number; `None` when the caller does that.
    pub pracked: Option<SmallVec<[(Bytes, u32); 1]>>,
    /// Pings with OPTIONS.
    pub options_ping: Ping,
    /// Pings with INVITE.
    pub reinvite_ping: Ping,
    /// When the next ping of either kind is due.
    pub next_ping: Option<Instant>,
    /// Seconds it stays after its end.
    pub delete_delay: u64,
    /// Routes for answer, timeout and end.
    pub on_answer: Option<OnTurn>,
    /// See `on_answer`.
    pub on_timeout: Option<OnTurn>,
    /// See `on_answer`.
    pub on_hangup: Option<OnTurn>,
    /// Why it ended.
    pub end_reason: &'static str,
    /// Worker that keeps it.
    pub worker: usize,
    /// When it was answered, since the epoch; zero before.
    pub answered: Duration,
    /// Modules that want to know of its end.
    pub followers: SmallVec<[Rc<dyn Follow>; 1]>,
    /// What a follower of a run before this one saved, until it is needed.
    pub saved: Option<String>,
}

impl Dialog {
    /// The text of `$DLG_did`, the `did` parameter and management commands: worker and number in hexadecimal.
    pub fn did(&self) -> String {
        did(self.worker, self.id)
    }
}

/// See [`Dialog::did`].
pub fn did(worker: usize, id: u64) -> String {
    format!("{worker:x}.{id:x}")
}

/// Worker and number of a `did`.
pub fn parse_did(text: &str) -> Option<(usize, u64)> {
    let (worker, id) = text.split_once('.')?;
    Some((usize::from_str_radix(worker, 16).ok()?, u64::from_str_radix(id, 16).ok()?))
}

/// Settings and what all workers share.
pub struct DialogModule {
    /// Seconds of `default_timeout`.
    pub default_timeout: u64,
    /// Name of the Record-Route parameter.
    pub rr_param: String,
    /// 0: match by the parameter only, 1: else by tags, 2: by tags only.
    pub match_mode: i64,
    /// Headers for requests of our own.
    pub extra_headers: Bytes,
    /// Seconds a dialog stays after its end.
    pub delete_delay: u64,
    /// Seconds between pings with OPTIONS and with INVITE.
    pub ping_every: [u64; 2],
    /// Seconds until a dialog ends that was cancelled too late.
    pub race_timeout: u64,
    /// `auto_prack_fr_timeout` in milliseconds, and `auto_prack_hangup_on_failure`.
    pub prack: (u32, bool),
    /// Declared profiles and whether they have values.
    pub profiles: Vec<(String, bool)>,
    /// How many dialogs are in each profile, by value.
    pub members: Mutex<HashMap<String, HashMap<String, i64>>>,
    /// Writes dialogs to a database, if that is wanted.
    pub keeper: Option<Keeper>,
    /// E_DLG_STATE_CHANGED.
    pub changed: EventId,
    /// Counters.
    pub stats: Counters,
}

/// Counters of the group `dialog`.
pub struct Counters {
    /// Answered and not ended.
    pub active: StatId,
    /// Ringing.
    pub early: StatId,
    /// Made so far.
    pub processed: StatId,
    /// Ended by their lifetime.
    pub expired: StatId,
    /// Never answered.
    pub failed: StatId,
}

/// The dialogs of one worker.
#[derive(Default)]
pub struct Dialogs {
    inner: RefCell<Inner>,
}

#[derive(Default)]
struct Inner {
    /// In boxes, so that a table that grows does not move them all at once.
    all: HashMap<u64, Box<Dialog>, RandomState>,
    by_call: HashMap<Bytes, SmallVec<[u64; 1]>, RandomState>,
    /// Lifetimes.
    by_time: BTreeSet<(Instant, u64)>,
    /// Those that are over, in the order in which they go; nearly all linger equally long.
    ended: VecDeque<(Instant, u64)>,
    by_ping: BTreeSet<(Instant, u64)>,
    next: u64,
}

impl Dialogs {
    /// Keep a new dialog; its number, or `None` when there is no room. Its Call-ID must be a copy: a part of the received
    /// message would keep all of it alive.
    pub fn insert(&self, mut dialog: Box<Dialog>) -> Option<u64> {
        let mut inner = self.inner.borrow_mut();
        if inner.all.len() >= MAX_DIALOGS {
            return None;
        }
        inner.next += 1;
        let id = inner.next;
        dialog.id = id;
        inner.by_call.entry(dialog.call_id.clone()).or_default().push(id);
        inner.all.insert(id, dialog);
        Some(id)
    }

    /// Keep one that a run before this one made. Another that took its number meanwhile goes; there is none at the start.
    pub(super) fn restore(&self, dialog: Box<Dialog>) {
        let mut inner = self.inner.borrow_mut();
        let id = dialog.id;
        inner.next = inner.next.max(id);
        inner.by_call.entry(dialog.call_id.clone()).or_default().push(id);
        inner.all.insert(id, dialog);
    }

    /// This number, or another when it is taken.
    pub(super) fn free_id(&self, wanted: u64) -> u64 {
        let mut inner = self.inner.borrow_mut();
        if !inner.all.contains_key(&wanted) {
            return wanted;
        }
        inner.next += 1;
        inner.next
    }

    /// Look at or change one. Nothing else of the module may be called inside.
    pub fn with<T>(&self, id: u64, work: impl FnOnce(&mut Dialog) -> T) -> Option<T> {
        self.inner.borrow_mut().all.get_mut(&id).map(|d| work(d))
    }

    /// Dialogs of a Call-ID.
    pub fn of_call(&self, call_id: &[u8]) -> SmallVec<[u64; 1]> {
        self.inner.borrow().by_call.get(call_id).cloned().unwrap_or_default()
    }

    /// Numbers of all dialogs, oldest first.
    pub fn ids(&self) -> Vec<u64> {
        let mut ids: Vec<u64> = self.inner.borrow().all.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.inner.borrow().all.len()
    }

    /// Forget one.
    pub fn remove(&self, id: u64) -> Option<Box<Dialog>> {
        let mut inner = self.inner.borrow_mut();
        let dialog = inner.all.remove(&id)?;
        if let Some(at) = dialog.deadline {
            inner.by_time.remove(&(at, id));
        }
        if let Some(at) = dialog.next_ping {
            inner.by_ping.remove(&(at, id));
        }
        if let Some(list) = inner.by_call.get_mut(&dialog.call_id) {
            list.retain(|x| *x != id);
            if list.is_empty() {
                inner.by_call.remove(&dialog.call_id);
            }
        }
        Some(dialog)
    }

    /// Set when a dialog ends by itself.
    pub fn schedule(&self, id: u64, at: Option<Instant>) {
        let mut inner = self.inner.borrow_mut();
        let Some(dialog) = inner.all.get_mut(&id) else { return };
        let old = std::mem::replace(&mut dialog.deadline, at);
        move_in(&mut inner.by_time, id, old, at);
    }

    /// Set when a dialog that is over is forgotten.
    pub fn linger(&self, id: u64, until: Instant) {
        self.schedule(id, None);
        let mut inner = self.inner.borrow_mut();
        if inner.ended.back().is_none_or(|(last, _)| *last <= until) {
            inner.ended.push_back((until, id));
        } else {
            drop(inner);
            self.schedule(id, Some(until));
        }
    }

    /// Set when a dialog is pinged.
    pub fn schedule_ping(&self, id: u64, at: Option<Instant>) {
        let mut inner = self.inner.borrow_mut();
        let Some(dialog) = inner.all.get_mut(&id) else { return };
        let old = std::mem::replace(&mut dialog.next_ping, at);
        move_in(&mut inner.by_ping, id, old, at);
    }

    /// When the next one ends by itself or is pinged.
    pub fn next_deadline(&self) -> Option<Instant> {
        let inner = self.inner.borrow();
        let firsts = [inner.by_time.first(), inner.by_ping.first(), inner.ended.front()];
        firsts.into_iter().flatten().map(|(at, _)| *at).min()
    }

    /// Those that are to be pinged.
    pub fn pings_due(&self, now: Instant) -> Vec<u64> {
        let inner = self.inner.borrow();
        inner.by_ping.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id).collect()
    }

    /// Those whose time is over. One that lingered is named once.
    pub fn due(&self, now: Instant) -> Vec<u64> {
        let mut inner = self.inner.borrow_mut();
        let past = inner.ended.partition_point(|(at, _)| *at <= now);
        let lingered: Vec<u64> = inner.ended.drain(..past).map(|(_, id)| id).collect();
        let lived = inner.by_time.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id);
        lingered.into_iter().chain(lived).collect()
    }
}

/// Move a dialog to another state: statistics, event, profiles at its end. False when it is there already or further.
pub fn turn(shard: &Shard, id: u64, new: State) -> bool {
    let module = shard.kernel.state::<DialogModule>();
    let part = shard.part::<Dialogs>();
    let changed = part.with(id, |d| {
        let old = d.state;
        if new <= old {
            return None;
        }
        d.state = new;
        if new == State::ConfirmedNoAck {
            d.answered = shard.kernel.drivers.clock.unix();
            d.started = d.answered.as_secs();
        }
        Some(old)
    });
    let Some(Some(old)) = changed else { return false };
    let active = |s: State| matches!(s, State::ConfirmedNoAck | State::Confirmed);
    if old == State::Early {
        shard.count(module.stats.early, -1);
    }
    if new == State::Early {
        shard.count(module.stats.early, 1);
    }
    match (active(old), active(new)) {
        (false, true) => shard.count(module.stats.active, 1),
        (true, false) => shard.count(module.stats.active, -1),
        (false, false) if new == State::Deleted => shard.count(module.stats.failed, 1),
        _ => {}
    }
    if shard.kernel.events.heard(module.changed) {
        let text = |b: &Bytes| Value::Str(Bytes::copy_from_slice(b));
        let values = part.with(id, |d| {
            vec![
                Value::Str(d.did().into()),
                // The number in the database, which has none of its own here.
                Value::Str(Bytes::new()),
                text(&d.call_id),
                text(&d.legs[0].tag),
                text(&d.legs[1].tag),
                Value::Int(old as i64),
                Value::Int(new as i64),
            ]
        });
        shard.kernel.events.raise(module.changed, values.unwrap_or_default(), Some(shard.worker));
    }
    if new == State::Deleted {
        leave_all_profiles(&shard.kernel, part, id);
    }
    super::store::note(shard, id);
    true
}

/// A dialog joins a profile; an earlier value of the same profile is replaced when `single`.
pub fn join(kernel: &Kernel, part: &Dialogs, id: u64, profile: &str, value: &str) -> bool {
    let module = kernel.state::<DialogModule>();
    let added = part.with(id, |d| {
        let entry = (profile.to_owned(), value.to_owned());
        if d.profiles.contains(&entry) {
            return false;
        }
        d.profiles.push(entry);
        true
    });
    match added {
        Some(true) => {
            let mut members = module.members.lock();
            *members.entry(profile.to_owned()).or_default().entry(value.to_owned()).or_default() += 1;
            true
        }
        Some(false) => true,
        None => false,
    }
}

/// A dialog leaves a profile; `None` leaves it with every value.
pub fn leave(kernel: &Kernel, part: &Dialogs, id: u64, profile: &str, value: Option<&str>) -> bool {
    let gone = part.with(id, |d| {
        let is_it = |(p, v): &(String, String)| p == profile && value.is_none_or(|w| w == v);
        let gone: Vec<_> = d.profiles.iter().filter(|e| is_it(e)).cloned().collect();
        d.profiles.retain(|e| !is_it(e));
        gone
    });
    let gone = gone.unwrap_or_default();
    forget_members(kernel, &gone);
    !gone.is_empty()
}

fn leave_all_profiles(kernel: &Kernel, part: &Dialogs, id: u64) {
    let gone = part.with(id, |d| std::mem::take(&mut d.profiles)).unwrap_or_default();
    forget_members(kernel, &gone);
}

fn forget_members(kernel: &Kernel, gone: &[(String, String)]) {
    if gone.is_empty() {
        return;
    }
    let mut members = kernel.state::<DialogModule>().members.lock();
    for (profile, value) in gone {
        if let Some(values) = members.get_mut(profile)
            && let Some(n) = values.get_mut(value)
        {
            *n -= 1;
            if *n <= 0 {
                values.remove(value);
            }
        }
    }
}

/// The lifetime counts from now.
pub fn start_lifetime(shard: &Shard, id: u64) {
    let part = shard.part::<Dialogs>();
    let seconds = part.with(id, |d| d.timeout).unwrap_or(0);
    part.schedule(id, Some(shard.now() + Duration::from_secs(seconds)));
    super::store::note(shard, id);
}

/// Move what is due at `old` to `new`.
fn move_in(queue: &mut BTreeSet<(Instant, u64)>, id: u64, old: Option<Instant>, new: Option<Instant>) {
    if let Some(old) = old {
        queue.remove(&(old, id));
    }
    if let Some(new) = new {
        queue.insert((new, id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_dialog_says_where_it_is() {
        assert_eq!(did(1, 0xabc), "1.abc");
        assert_eq!(parse_did("1.abc"), Some((1, 0xabc)));
        assert_eq!(parse_did("xyz"), None);
        assert_eq!(parse_did("1.g"), None);
    }
}
