//! What tm keeps: its settings, and on each worker the transactions of that worker.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use smallvec::SmallVec;
use switchroom_engine::proxy::{self, Branch};
use switchroom_engine::transaction::{Id, Table, Timing};
use switchroom_engine::wheel::Wheel;
use switchroom_kernel::avp::Avps;
use switchroom_kernel::context::{Ctx, LateEdit, Notes, Received, Target, TxHandle};
use switchroom_kernel::open::Opening;
use switchroom_kernel::ports::net::{ConnId, SocketId};
use switchroom_kernel::stats::StatId;
use switchroom_script::{Program, RouteId};
use switchroom_wire::sip::{Edits, Message};

use crate::core::locate::Hop;
use crate::core::state::push_hex;

/// Transactions a worker may hold; more are refused with 503.
pub const MAX_TRANSACTIONS: usize = 500_000;

/// Settings and statistics.
pub struct Tm {
    /// Timers of new transactions.
    pub timing: Timing,
    /// A 6xx is treated like other failures.
    pub allow_after_6xx: bool,
    /// INVITE gets its 100 when its transaction is made.
    pub auto_100: bool,
    /// A received 503 goes on as 500.
    pub translate_503: bool,
    /// Relay 100 as well.
    pub pass_100: bool,
    /// onreply_route sees the AVPs of the transaction.
    pub onreply_avps: bool,
    /// Bit of `minor_branch_flag`.
    pub minor_flag: u32,
    /// Name of the route that sees our own replies.
    pub local_reply_route: Option<String>,
    /// Name of the route that sees our own requests.
    pub local_request_route: Option<String>,
    /// Counters.
    pub stats: Counters,
}

/// Counters of the group `tm`.
pub struct Counters {
    /// Replies received.
    pub received: StatId,
    /// Replies relayed.
    pub relayed: StatId,
    /// Replies made here.
    pub local: StatId,
    /// Transactions for received requests.
    pub uas: StatId,
    /// Transactions for requests of our own.
    pub uac: StatId,
    /// Finished, by class 2xx to 6xx.
    pub by_class: [StatId; 5],
    /// Under way.
    pub in_use: StatId,
    /// Retransmitted requests: first, second, third time, later.
    pub retransmitted: [StatId; 4],
    /// Retransmitted replies.
    pub replies_again: StatId,
    /// Final reply timeouts without and with a provisional reply before.
    pub timeouts: [StatId; 2],
}

impl Counters {
    /// Register them.
    pub fn open(o: &Opening<'_>) -> Result<Counters, String> {
        Ok(Counters {
            received: o.stat("received_replies")?,
            relayed: o.stat("relayed_replies")?,
            local: o.stat("local_replies")?,
            uas: o.stat("UAS_transactions")?,
            uac: o.stat("UAC_transactions")?,
            by_class: [
                o.stat("2xx_transactions")?,
                o.stat("3xx_transactions")?,
                o.stat("4xx_transactions")?,
                o.stat("5xx_transactions")?,
                o.stat("6xx_transactions")?,
            ],
            in_use: o.stat("inuse_transactions")?,
            retransmitted: [
                o.stat("retransmission_req_T1_1")?,
                o.stat("retransmission_req_T1_2")?,
                o.stat("retransmission_req_T1_3")?,
                o.stat("retransmission_req_T2")?,
            ],
            replies_again: o.stat("retransmission_rpl_T2")?,
            timeouts: [o.stat("timeout_finalresponse")?, o.stat("timeout_finalresponse_inv")?],
        })
    }
}

/// A received reply with the changes that routes made to it.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The message.
    pub msg: Rc<Message>,
    /// Its changes; most replies have none.
    pub edits: Option<Box<Edits>>,
}

impl AsRef<Message> for Reply {
    fn as_ref(&self) -> &Message {
        &self.msg
    }
}

/// What is kept about the destination of a branch.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Request-URI, flags, q and attributes of the branch.
    pub target: Target,
    /// Where it was sent.
    pub hop: Hop,
    /// Socket it left from.
    pub socket: SocketId,
    /// Connection to prefer.
    pub conn: Option<ConnId>,
    /// Places still to be tried (RFC 3263 §4.3).
    pub more: Vec<Hop>,
    /// Changes that a branch_route made on top of the request's.
    pub edits: Option<Box<Edits>>,
    /// onreply_route of this branch only.
    pub on_reply: Option<Armed>,
    /// How often its request was sent.
    pub sends: u8,
}

/// An armed route: the script it belongs to stays alive with it.
#[derive(Clone, Debug)]
pub struct Armed {
    /// Script.
    pub program: Arc<Program>,
    /// Route.
    pub route: RouteId,
}

/// What watchers of a transaction are told. Borrowed: nothing is kept.
pub enum TxEvent<'a> {
    /// A reply is about to be sent upstream; `relayed` when it is one that was received.
    Sending {
        /// Its code.
        code: u16,
        /// Its reason phrase.
        reason: &'a [u8],
        /// The received reply.
        relayed: Option<&'a Message>,
        /// Branch it came from.
        branch: Option<usize>,
    },
    /// All branches of a step failed; the failure route comes next.
    Failed {
        /// Winning code.
        code: u16,
        /// Winning reply.
        reply: Option<&'a Message>,
        /// Winning branch.
        branch: Option<usize>,
    },
    /// The caller cancelled.
    Cancelled,
    /// The transaction ends.
    Over,
}

/// A module that follows a transaction (accounting, dialogs).
pub trait Watch {
    /// Something happened. The context holds the request with the transaction's AVPs, flags and notes; changes to them are
    /// kept.
    fn event(&self, ctx: &mut Ctx, event: &TxEvent<'_>);

    /// Whether nothing that may still happen matters to it. The request of a transaction that is over goes early when this
    /// holds for all who follow it.
    fn is_done(&self) -> bool {
        false
    }
}

/// One transaction.
///
/// More than 15 fields: it is the stored half of a [`Ctx`], so that its routes see the request as the script left it.
pub struct Tx {
    /// The machines.
    pub core: proxy::Transaction<Reply, Destination>,
    /// The request as received; a stand-in once the transaction only waits for retransmissions.
    pub request: Rc<Message>,
    /// Where it came from.
    pub received: Received,
    /// Changes of the request route; gone once nothing can be sent any more.
    pub edits: Option<Box<Edits>>,
    /// Changes that depend on the outgoing socket.
    pub late_edits: SmallVec<[LateEdit; 1]>,
    /// Request-URI and so on, as the request route left them.
    pub target: Target,
    /// Message flags.
    pub flags: u32,
    /// Attributes.
    pub avps: Avps,
    /// What modules keep with the request.
    pub notes: Notes,
    /// `force_rport()`
    pub force_rport: bool,
    /// Advertised address.
    pub advertised: (Option<Bytes>, Option<Bytes>),
    /// Armed by `t_on_failure()`.
    pub on_failure: Option<Armed>,
    /// Armed by `t_on_reply()`.
    pub on_reply: Option<Armed>,
    /// Armed by `t_on_branch()`.
    pub on_branch: Option<Armed>,
    /// Tag of our own replies; empty until the first of them.
    pub to_tag: Bytes,
    /// Headers for its ACKs and CANCELs; in what is relayed they are among the edits (`t_add_hdrs()`).
    pub own_headers: Bytes,
    /// Headers for CANCELs that the script causes.
    pub cancel_headers: Bytes,
    /// Followers.
    pub watchers: SmallVec<[Rc<dyn Watch>; 1]>,
    /// Where replies go.
    pub reply_to: SocketAddr,
    /// Branch and code that the failure route works on.
    pub picked: Option<(Option<usize>, u16)>,
    /// The last reply sent was made here.
    pub local_last: bool,
    /// Any reply sent was made here.
    pub local_any: bool,
    /// Called when a request of our own has its final reply.
    pub on_final: Option<super::local::OnFinal>,
    /// Told of each 2xx that comes again to an INVITE of ours.
    pub on_again: Option<super::local::OnAgain>,
}

impl Tx {
    /// The final reply is out and no follower will look at the request again: keep only what answers retransmissions, since
    /// that lasts for seconds. Reply routes that may still run keep the request, the AVPs and the notes that they see.
    pub fn lighten(&mut self, stand_in: &Rc<Message>) {
        if !self.core.is_final() || self.core.in_route() {
            return;
        }
        self.watchers.retain(|w| !w.is_done());
        if !self.watchers.is_empty() {
            return;
        }
        self.edits = None;
        self.late_edits.clear();
        self.target = Target::default();
        (self.on_failure, self.on_branch) = (None, None);
        if self.awaits_replies() {
            return;
        }
        // A 2xx that comes again is still relayed, and must look like the first one.
        self.notes.retain(|(kind, _)| *kind == std::any::TypeId::of::<super::api::ReplyEdits>());
        self.request = stand_in.clone();
        self.avps.clear();
        self.on_reply = None;
    }

    /// Whether a reply may still come that a route of the script will see: of a branch that has none yet, or a 2xx of an
    /// INVITE once more or too late.
    fn awaits_replies(&self) -> bool {
        let branches = self.core.branches();
        let routes = self.on_reply.is_some() || branches.iter().any(|b| b.destination.on_reply.is_some());
        let answered = (200..300).contains(&self.core.last_code());
        let more = self.core.settings().invite && (answered || branches.iter().any(Branch::is_local));
        routes && (more || branches.iter().any(Branch::is_pending))
    }
}

/// The transactions of one worker.
pub struct Transactions {
    /// Boxed, so that the table stays small when it grows.
    table: RefCell<Table<Box<Tx>>>,
    wheel: RefCell<Option<Wheel>>,
    /// See [`Tx::lighten`].
    stand_in: Rc<Message>,
    random: Cell<u64>,
    /// Lists for what machines ask for, kept between messages.
    sinks: RefCell<Vec<Vec<proxy::Output<Reply>>>>,
}

const TICK: Duration = Duration::from_millis(10);

impl Transactions {
    /// For one worker; `seed` must differ from start to start.
    pub fn new(seed: u64) -> Transactions {
        Transactions {
            table: RefCell::new(Table::new(MAX_TRANSACTIONS, seed)),
            wheel: RefCell::new(None),
            stand_in: Rc::new(crate::core::events::stand_in()),
            random: Cell::new(seed | 1),
            sinks: RefCell::default(),
        }
    }

    /// A random number that peers cannot guess from earlier ones in useful time (xorshift over a secret seed).
    pub fn random(&self) -> u64 {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        x.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// The To-tag of our own replies in a transaction, made when it is asked for first.
    pub fn to_tag(&self, id: Id) -> Option<Bytes> {
        self.with(id, |tx| {
            if tx.to_tag.is_empty() {
                let mut tag = Vec::with_capacity(16);
                push_hex(self.random(), &mut tag);
                tx.to_tag = tag.into();
            }
            tx.to_tag.clone()
        })
    }

    /// An empty list for what a machine asks for; one more for each that is in use.
    pub fn sink(&self) -> Vec<proxy::Output<Reply>> {
        self.sinks.borrow_mut().pop().unwrap_or_default()
    }

    /// The list is no longer needed.
    pub fn give_back(&self, mut sink: Vec<proxy::Output<Reply>>) {
        sink.clear();
        self.sinks.borrow_mut().push(sink);
    }

    /// Look at or change one transaction. No script and no other module may run inside.
    pub fn with<T>(&self, id: Id, work: impl FnOnce(&mut Tx) -> T) -> Option<T> {
        self.table.borrow_mut().get_mut(id).map(|tx| work(tx))
    }

    /// Drop what a finished transaction does not need while it lingers.
    pub fn lighten(&self, id: Id) {
        self.with(id, |tx| tx.lighten(&self.stand_in));
    }

    /// Look at the table.
    pub fn table<T>(&self, work: impl FnOnce(&mut Table<Box<Tx>>) -> T) -> T {
        work(&mut self.table.borrow_mut())
    }

    /// Note when a transaction wants to be called.
    pub fn schedule(&self, id: Id, now: Instant) {
        let deadline = self.with(id, |tx| tx.core.deadline()).flatten();
        let mut wheel = self.wheel.borrow_mut();
        let wheel = wheel.get_or_insert_with(|| Wheel::new(now, TICK, 8192));
        wheel.set(id.slot, deadline);
    }

    /// Forget the deadline of a slot.
    pub fn unschedule(&self, id: Id) {
        if let Some(wheel) = self.wheel.borrow_mut().as_mut() {
            wheel.set(id.slot, None);
        }
    }

    /// Transactions whose deadline has come.
    pub fn due(&self, now: Instant) -> SmallVec<[Id; 16]> {
        let mut slots: SmallVec<[u32; 16]> = SmallVec::new();
        if let Some(wheel) = self.wheel.borrow_mut().as_mut() {
            wheel.advance(now, |slot| slots.push(slot));
        }
        let table = self.table.borrow();
        slots.into_iter().filter_map(|slot| table.id_at(slot)).collect()
    }

    /// Whether no transaction owes anything to anybody.
    pub fn at_rest(&self, now: Instant) -> bool {
        self.table.borrow().iter().all(|(_, tx)| tx.core.is_at_rest(now))
    }

    /// When to look again: a moment that stays where it is until then.
    pub fn next(&self) -> Option<Instant> {
        self.wheel.borrow().as_ref()?.next()
    }
}

/// A transaction's place as modules hand it around.
pub fn handle(id: Id) -> TxHandle {
    TxHandle((u64::from(id.slot) << 32) | u64::from(id.generation))
}

/// And back.
pub fn id(handle: TxHandle) -> Id {
    Id { slot: (handle.0 >> 32) as u32, generation: handle.0 as u32 }
}
