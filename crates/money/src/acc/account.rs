//! The account of one request: what is to be accounted, the script's values, and what was told already.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use switchroom_calls::dialog::api::{self as dialog, Ended, Follow};
use switchroom_calls::rr;
use switchroom_calls::tm::api::{self, TxEvent, Watch};
use switchroom_kernel::Shard;
use switchroom_kernel::context::Ctx;
use switchroom_script::Value;
use switchroom_wire::sip::reply::phrase;
use switchroom_wire::sip::{Message, Method};

use super::Acc;
use super::kept;
use super::record::{Extras, Record, Why};
use super::what::{Backend, CDR, DONE, FAILED, MISSED, What};

/// Records of one kind that a transaction may have: answers of different phones, early media.
const MAX_TOLD: usize = 16;

/// Values that the script gave.
pub struct Values {
    /// `$acc_extra(tag)`, by place of the tag.
    pub extra: Vec<Value>,
    /// `$acc_leg(tag)`, for each leg; there is always one.
    pub legs: Vec<Vec<Value>>,
}

/// The account of one request.
pub struct Account {
    what: Cell<What>,
    table: RefCell<Option<Arc<str>>>,
    /// The script's values.
    pub values: Rc<RefCell<Values>>,
    created: u64,
    follows: Cell<bool>,
    told: RefCell<SmallVec<[(u16, Bytes); 1]>>,
    /// The dialog tells of the whole call.
    has_call: Cell<bool>,
}

/// A call that is accounted as a whole.
pub struct WholeCall {
    /// Backends that are told.
    pub call: What,
    /// What is known of it already.
    pub record: Record,
    /// Table of its record.
    pub table: Option<Arc<str>>,
    /// Values when it was answered, by backend.
    pub extras: [Extras; 3],
    /// The script's values.
    pub values: Rc<RefCell<Values>>,
}

impl Follow for WholeCall {
    fn save(&self) -> Option<String> {
        Some(kept::save(self))
    }

    fn as_any(&self) -> Option<&dyn std::any::Any> {
        Some(self)
    }

    fn ended(&self, shard: &Rc<Shard>, end: &Ended) {
        let kernel = &shard.kernel;
        let acc = kernel.state::<Acc>();
        let ms = end.ended.saturating_sub(end.answered).as_millis() as u64;
        let mut record = self.record.clone();
        record.why = Why::Ended(ms);
        record.time = end.answered.as_secs();
        for (backend, before) in Backend::ALL.into_iter().zip(&self.extras) {
            if !self.call.has(backend, CDR) {
                continue;
            }
            let extras = Extras::again(acc, &self.values.borrow(), backend, before);
            match backend {
                Backend::Log => acc.log(kernel, &record.line(&extras)),
                Backend::Db => {
                    let (Some(writer), Some(table)) = (&acc.writer, &self.table) else { continue };
                    for row in record.rows(acc, table, extras) {
                        writer.push(row);
                    }
                }
                Backend::Evi => acc.raise(shard, &record, record.attributes(extras)),
            }
        }
    }
}

/// How it is kept with the request.
#[derive(Clone)]
struct Kept(Rc<Account>);

/// The account of the dialog that the script looks at, in place of the request's own.
struct OfDialog(Rc<Account>);

/// Use the account of the call whose dialog the script looks at. False when that call is not accounted as a whole.
pub fn load_of_dialog(ctx: &mut Ctx) -> bool {
    let followers = dialog::followers(ctx);
    let Some(call) = followers.iter().find_map(|f| f.as_any()?.downcast_ref::<WholeCall>()) else {
        return false;
    };
    let account = Account {
        what: Cell::default(),
        table: RefCell::default(),
        values: call.values.clone(),
        has_call: Cell::new(true),
        created: call.record.created,
        follows: Cell::new(false),
        told: RefCell::default(),
    };
    ctx.add_note(OfDialog(Rc::new(account)));
    true
}

/// Use the request's own account again. False when no other was loaded.
pub fn unload_of_dialog(ctx: &mut Ctx) -> bool {
    ctx.take_note::<OfDialog>().is_some()
}

impl Account {
    /// That of the request in hand, if it has one.
    pub fn find(ctx: &Ctx) -> Option<Rc<Account>> {
        if let Some(loaded) = ctx.note::<OfDialog>() {
            return Some(loaded.0.clone());
        }
        api::shared::<Kept>(ctx).map(|k| k.0)
    }

    /// That of the request in hand; made when it has none.
    pub fn of(ctx: &mut Ctx) -> Rc<Account> {
        if let Some(account) = Account::find(ctx) {
            return account;
        }
        let kernel = ctx.shard.kernel.clone();
        let acc = kernel.state::<Acc>();
        let values = Values {
            extra: vec![Value::Null; acc.extra.tags.len()],
            legs: vec![vec![Value::Null; acc.legs.tags.len()]],
        };
        let account = Rc::new(Account {
            what: Cell::default(),
            table: RefCell::default(),
            values: Rc::new(RefCell::new(values)),
            has_call: Cell::new(false),
            created: kernel.unix(),
            follows: Cell::new(false),
            told: RefCell::default(),
        });
        api::share(ctx, Kept(account.clone()));
        account
    }

    /// Account the transaction of the request in hand.
    pub fn add(self: &Rc<Self>, ctx: &mut Ctx, what: What, table: Option<Arc<str>>) {
        self.what.set(self.what.get().with(what));
        if table.is_some() {
            *self.table.borrow_mut() = table;
        }
        if !self.follows.replace(true) {
            api::follow(ctx, self.clone());
        }
    }

    /// Do not account some of it, or with `None` nothing.
    pub fn remove(&self, what: Option<What>) {
        let left = what.map_or(What::default(), |w| self.what.get().without(w));
        self.what.set(left);
    }

    fn table(&self, acc: &Acc, ctx: &mut Ctx, why: Why) -> Arc<str> {
        if let Some(own) = self.table.borrow().as_ref() {
            return own.clone();
        }
        if let Some(own) = acc.table_of_avp(ctx) {
            return own;
        }
        if why == Why::Missed { acc.missed_table.clone() } else { acc.table.clone() }
    }

    /// Backends that get one record of the whole call; their record is made when its dialog ends.
    fn whole_call(self: &Account, ctx: &mut Ctx, what: What, event: &TxEvent<'_>) -> What {
        let TxEvent::Sending { code, reason, relayed, .. } = event else { return What::default() };
        let call = what.only(CDR);
        let initial = ctx.request().is_some_and(|r| r.method() == Method::Invite && to_tag(r).is_empty());
        if call == What::default() || !initial || self.has_call.get() {
            return if initial { call } else { What::default() };
        }
        let kernel = ctx.shard.kernel.clone();
        let acc = kernel.state::<Acc>();
        let tag = match relayed {
            Some(reply) => to_tag(reply),
            None => own_tag(ctx),
        };
        let why = Why::Ended(0);
        let reason = Bytes::copy_from_slice(reason);
        let Some(record) = record(acc, ctx, why, Some(*code), reason, tag, self.created) else {
            return What::default();
        };
        let table = if call.any_of(Backend::Db) { Some(self.table(acc, ctx, why)) } else { None };
        let extras = Backend::ALL.map(|b| Extras::collect(acc, ctx, &self.values.borrow(), b));
        let whole = WholeCall { call, record: record.own(), table, extras, values: self.values.clone() };
        if !dialog::follow(ctx, Rc::new(whole)) {
            // Without a dialog the transaction is accounted, so that nothing is lost.
            return What::default();
        }
        self.has_call.set(true);
        call
    }

    /// Whether a reply of this code to this tag is told for the first time.
    fn is_new(&self, code: u16, tag: &Bytes) -> bool {
        let mut told = self.told.borrow_mut();
        let known = told.iter().any(|(c, t)| *c == code && t == tag);
        if known || told.len() >= MAX_TOLD {
            return false;
        }
        told.push((code, tag.clone()));
        true
    }
}

impl Watch for Account {
    fn event(&self, ctx: &mut Ctx, event: &TxEvent<'_>) {
        let kernel = ctx.shard.kernel.clone();
        let acc = kernel.state::<Acc>();
        let what = self.what.get().with(acc.flags.what(ctx.flags));
        let (why, told, code, reason, to_tag) = match event {
            TxEvent::Sending { code, reason, relayed, .. } => {
                let told = match code {
                    ..200 if acc.early_media && relayed.is_some_and(|r| !r.body().is_empty()) => {
                        what.only(DONE)
                    }
                    ..200 => return,
                    200..300 => what.only(DONE),
                    // Failures are accounted by those who account the transaction at all.
                    _ => what.only(DONE).of_which(what.only(FAILED)),
                };
                let call = match code {
                    200..300 => self.whole_call(ctx, what, event),
                    _ => What::default(),
                };
                let told = told.without(call.as_done());
                if told == What::default() {
                    return;
                }
                let to_tag = match relayed {
                    Some(reply) => to_tag(reply),
                    None => own_tag(ctx),
                };
                if !self.is_new(*code, &to_tag) {
                    return;
                }
                (Why::Answered, told, *code, Bytes::copy_from_slice(reason), to_tag)
            }
            TxEvent::Failed { code, reply, .. } => {
                let invite = ctx.request().is_some_and(|r| r.method() == Method::Invite);
                let told = what.only(MISSED);
                if !invite || told == What::default() {
                    return;
                }
                // The next destination is accounted when the failure route says so again.
                self.what.set(self.what.get().without(told));
                ctx.flags &= !acc.flags.missed();
                let reason = match reply {
                    Some(reply) => Bytes::copy_from_slice(reply.reason()),
                    None => Bytes::from_static(phrase(*code).as_bytes()),
                };
                (Why::Missed, told, *code, reason, reply.map(to_tag).unwrap_or_default())
            }
            TxEvent::Cancelled | TxEvent::Over => return,
        };
        let Some(record) = record(acc, ctx, why, Some(code), reason, to_tag, self.created) else { return };
        let table = if told.any_of(Backend::Db) { Some(self.table(acc, ctx, why)) } else { None };
        tell(acc, ctx, told, &record, table.as_deref(), &self.values.borrow());
    }
}

/// The record of the request in hand.
pub fn record(
    acc: &Acc,
    ctx: &Ctx,
    why: Why,
    code: Option<u16>,
    reason: Bytes,
    to_tag: Bytes,
    created: u64,
) -> Option<Record> {
    let request = ctx.request()?;
    let tag = request.from().ok().and_then(|f| f.tag()).map(|t| request.slice(t)).unwrap_or_default();
    let (mut from_tag, mut to_tag) = (tag, to_tag);
    // A request of the callee's has the tags the other way round.
    if acc.detect_direction && rr::is_downstream(ctx) == Some(false) {
        std::mem::swap(&mut from_tag, &mut to_tag);
    }
    Some(Record {
        why,
        method: request.slice(request.method_name()),
        from_tag,
        to_tag,
        call_id: request.slice(request.call_id()),
        code,
        reason,
        time: ctx.shard.kernel.unix(),
        created,
    })
}

/// To-tag of a message, empty when it has none.
pub fn to_tag(msg: &Message) -> Bytes {
    msg.to().ok().and_then(|t| t.tag()).map(|t| msg.slice(t)).unwrap_or_default()
}

/// To-tag of a reply of our own: the request's, else the one we give.
fn own_tag(ctx: &Ctx) -> Bytes {
    let of_request = ctx.request().map(|r| to_tag(r)).unwrap_or_default();
    if of_request.is_empty() { api::local_tag(ctx).unwrap_or_default() } else { of_request }
}

/// Tell the backends.
pub fn tell(acc: &Acc, ctx: &mut Ctx, told: What, record: &Record, table: Option<&str>, values: &Values) {
    for backend in Backend::ALL {
        if !told.any_of(backend) {
            continue;
        }
        if backend == Backend::Evi && !acc.is_heard(ctx, record) {
            continue;
        }
        let extras = Extras::collect(acc, ctx, values, backend);
        match backend {
            Backend::Log => acc.log(&ctx.shard.kernel, &record.line(&extras)),
            Backend::Db => {
                let (Some(writer), Some(table)) = (&acc.writer, table) else {
                    tracing::error!("acc: records for the database are lost: db_url is not set");
                    continue;
                };
                for row in record.rows(acc, table, extras) {
                    writer.push(row);
                }
            }
            Backend::Evi => acc.raise(&ctx.shard, record, record.attributes(extras)),
        }
    }
}
