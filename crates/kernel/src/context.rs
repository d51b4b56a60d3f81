//! The processing context of one message: what a script and the modules it calls work on.

use std::any::{Any, TypeId};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;
use smallvec::SmallVec;
use switchroom_script::Value;
use switchroom_script::names::{Prepared, RouteType};
use switchroom_script::vm::{Arg, Args, AssignOp, CallMode, Index, TraceStep, VarAccess};
use switchroom_wire::sip::{Edits, Message};

use crate::avp::Avps;
use crate::ports::net::{ConnId, SocketId};
use crate::shard::Shard;

/// Result of a script function; see [`switchroom_script::vm::Flow`].
pub type Flow = switchroom_script::vm::Flow<Wait>;

/// A wait: completes with what is then to be done on the message's own worker.
pub type Wait = Pin<Box<dyn Future<Output = Resume>>>;

/// The second half of a function that waited.
pub struct Resume(Box<dyn FnOnce(&mut Ctx) -> Flow>);

impl Resume {
    /// From what is to be done.
    pub fn new(then: impl FnOnce(&mut Ctx) -> Flow + 'static) -> Resume {
        Resume(Box::new(then))
    }

    /// Do it.
    pub fn run(self, ctx: &mut Ctx) -> Flow {
        (self.0)(ctx)
    }
}

/// The function answered "true".
pub const TRUE: Flow = Flow::Value(1);
/// The function answered "false".
pub const FALSE: Flow = Flow::Value(-1);

/// Where a message came from.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Listening socket it came in on.
    pub socket: SocketId,
    /// Sender.
    pub peer: SocketAddr,
    /// Stream connection.
    pub conn: Option<ConnId>,
}

/// One destination of a request before it is sent: the Request-URI and what goes with it.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// New Request-URI; `None` keeps the received one.
    pub uri: Option<Bytes>,
    /// Next hop that overrides the URI (`$du`).
    pub dst: Option<Bytes>,
    /// Value of the Route headers to add (from Path, RFC 3327).
    pub path: Option<Bytes>,
    /// Quality in thousandths (0..=1000); -1 when unset.
    pub q: i32,
    /// Socket to send from.
    pub socket: Option<SocketId>,
    /// Branch flags.
    pub flags: u32,
    /// Connection to prefer (RFC 5626 flows).
    pub conn: Option<ConnId>,
    /// Named attributes of the branch (`$msg.branch.attr(n)`, `$bavp(n)`).
    pub attrs: Avps,
}

impl Target {
    /// The received Request-URI, unchanged.
    pub fn unchanged() -> Target {
        Target { q: -1, ..Target::default() }
    }
}

/// A change that depends on the socket a request leaves from (Record-Route names both sides).
pub type LateEdit = Rc<dyn Fn(&Leaving<'_>, &mut Edits)>;

/// A request about to leave.
pub struct Leaving<'a> {
    /// The house.
    pub kernel: &'a crate::kernel::Kernel,
    /// The request as received.
    pub msg: &'a Message,
    /// Socket it came in on.
    pub from: SocketId,
    /// Socket it leaves from.
    pub to: SocketId,
    /// Host and port that the script wants shown instead of the socket's.
    pub advertised: &'a (Option<Bytes>, Option<Bytes>),
}

/// Handle of a transaction; the module that owns transactions knows what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TxHandle(pub u64);

/// What `$err.*` shows of the last parsing error.
#[derive(Clone, Debug, Default)]
pub struct ErrorInfo {
    /// Class: 0 none, 1 parsing.
    pub class: i64,
    /// Level, syslog-like.
    pub level: i64,
    /// What was wrong.
    pub info: String,
    /// Reply code proposed.
    pub code: u16,
    /// Reply reason proposed.
    pub reason: String,
}

/// State that modules keep with a message, by type.
pub type Notes = SmallVec<[(TypeId, Box<dyn Any>); 2]>;

/// One message in processing.
///
/// More than 15 fields, since it is the table on which all functions work: each field is one of the things the
/// routing language can see or change.
pub struct Ctx {
    /// The worker's shard.
    pub shard: Rc<Shard>,
    /// The message the script sees: the request, or in an onreply_route the reply.
    pub msg: Rc<Message>,
    /// The other one, where there are two: the reply in a failure_route, the request in an onreply_route.
    pub other: Option<Rc<Message>>,
    /// Where `msg` came from.
    pub received: Received,
    /// Changes to `msg`, replayed when it is sent.
    pub edits: Edits,
    /// Changes made for each branch when its socket is known.
    pub late_edits: SmallVec<[LateEdit; 1]>,
    /// Branch 0: the Request-URI and what goes with it.
    pub target: Target,
    /// Further branches.
    pub branches: Vec<Target>,
    /// Message flags.
    pub flags: u32,
    /// Attributes of the message, later of its transaction.
    pub avps: Avps,
    /// The transaction, once there is one.
    pub tx: Option<TxHandle>,
    /// Branch of the transaction in branch_route and onreply_route.
    pub branch: Option<u16>,
    /// Status code a failure_route works on; 0 elsewhere.
    pub picked_code: u16,
    /// Type of the top route now running.
    pub route: RouteType,
    /// `drop` was said.
    pub dropped: bool,
    /// `force_rport()`, or the script set Via handling to it.
    pub force_rport: bool,
    /// `set_advertised_address()` and `set_advertised_port()`.
    pub advertised: (Option<Bytes>, Option<Bytes>),
    /// Last parsing error, for error_route.
    pub error: ErrorInfo,
    /// Log levels set for this message only.
    pub log_level: (Option<i64>, Option<i64>),
    /// Whether a request that modules made up is being processed (event, timer, startup routes).
    pub dummy: bool,
    /// Who is told of each step of the script; `None` most of the time.
    pub trace: Option<Rc<dyn Tracer>>,
    /// State that modules keep for the time of the processing.
    notes: Notes,
}

/// Is told of each step of a script, after it was done.
pub trait Tracer {
    /// One step on the message in `ctx`.
    fn step(&self, ctx: &mut Ctx, step: &TraceStep<'_>);
}

impl Ctx {
    /// A fresh context for a received message.
    pub fn new(shard: Rc<Shard>, msg: Rc<Message>, received: Received, route: RouteType) -> Box<Ctx> {
        let trace = shard.tracer.borrow().clone();
        Box::new(Ctx {
            shard,
            msg,
            other: None,
            received,
            edits: Edits::default(),
            late_edits: SmallVec::new(),
            target: Target::unchanged(),
            branches: Vec::new(),
            flags: 0,
            avps: Avps::default(),
            tx: None,
            branch: None,
            picked_code: 0,
            route,
            dropped: false,
            force_rport: false,
            advertised: (None, None),
            error: ErrorInfo::default(),
            log_level: (None, None),
            dummy: false,
            trace,
            notes: SmallVec::new(),
        })
    }

    /// The Request-URI as it is now, after the script's changes. Empty for replies.
    pub fn ruri(&self) -> Bytes {
        match &self.target.uri {
            Some(uri) => uri.clone(),
            None => self.msg.slice(self.request().map_or(&[][..], |m| m.ruri_bytes())),
        }
    }

    /// The request, whether it is `msg` or the other one.
    pub fn request(&self) -> Option<&Rc<Message>> {
        if self.msg.is_request() { Some(&self.msg) } else { self.other.as_ref() }
    }

    /// The reply, whether it is `msg` or the other one.
    pub fn reply(&self) -> Option<&Rc<Message>> {
        if self.msg.is_request() { self.other.as_ref() } else { Some(&self.msg) }
    }

    /// State of type `T` that a module keeps with this message.
    pub fn note<T: 'static>(&self) -> Option<&T> {
        self.notes.iter().find(|(t, _)| *t == TypeId::of::<T>()).and_then(|(_, b)| b.downcast_ref())
    }

    /// The same, to change it; made by default when missing.
    pub fn note_mut<T: Default + 'static>(&mut self) -> &mut T {
        let id = TypeId::of::<T>();
        let at = match self.notes.iter().position(|(t, _)| *t == id) {
            Some(at) => at,
            None => {
                self.notes.push((id, Box::new(T::default())));
                self.notes.len() - 1
            }
        };
        // The entry of this TypeId holds a T: it is only ever put there by the lines above.
        self.notes[at].1.downcast_mut().expect("note of its own type")
    }

    /// Keep a `T` with this message, in place of one that was there.
    pub fn add_note<T: 'static>(&mut self, note: T) {
        self.take_note::<T>();
        self.notes.push((TypeId::of::<T>(), Box::new(note)));
    }

    /// Take all notes, to keep them with a transaction.
    pub fn take_notes(&mut self) -> Notes {
        std::mem::take(&mut self.notes)
    }

    /// Put kept notes back.
    pub fn put_notes(&mut self, notes: Notes) {
        self.notes = notes;
    }

    /// Take a note out.
    pub fn take_note<T: 'static>(&mut self) -> Option<Box<T>> {
        let at = self.notes.iter().position(|(t, _)| *t == TypeId::of::<T>())?;
        self.notes.swap_remove(at).1.downcast().ok()
    }

    /// Read a variable that was given as an argument.
    pub fn get_var(&mut self, var: &VarAccess) -> Value {
        self.shard.clone().kernel.registry.get(self, var)
    }

    /// Write a variable that was given as an argument.
    pub fn set_var(&mut self, var: &VarAccess, value: Value) -> Result<(), String> {
        let op = if matches!(value, Value::Null) { AssignOp::SetNull } else { AssignOp::Set };
        self.shard.clone().kernel.registry.set(self, var, op, value)
    }

    /// Write value number `index` of an AVP-like variable given as an argument: pushes.
    pub fn push_var(&mut self, var: &VarAccess, value: Value) -> Result<(), String> {
        let plain = VarAccess { index: Index::None, ..var.clone() };
        self.shard.clone().kernel.registry.set(self, &plain, AssignOp::Set, value)
    }
}

/// One call of a script function.
pub struct Call<'a> {
    /// The message in processing.
    pub ctx: &'a mut Ctx,
    /// Evaluated arguments.
    pub args: Args<'a>,
    /// What the function prepared for this call site.
    pub prepared: Option<&'a Prepared>,
    /// Plain, inside `async()`, inside `launch()`.
    pub mode: CallMode,
}

impl Call<'_> {
    /// String argument.
    pub fn str(&self, i: usize) -> Option<&Bytes> {
        self.args.str(i)
    }
    /// String argument as text; empty when left out. Bytes that are no UTF-8 are replaced.
    pub fn text(&self, i: usize) -> String {
        self.args.str(i).map(|b| String::from_utf8_lossy(b).into_owned()).unwrap_or_default()
    }
    /// Integer argument.
    pub fn int(&self, i: usize) -> Option<i64> {
        self.args.int(i)
    }
    /// Variable argument.
    pub fn var(&self, i: usize) -> Option<VarAccess> {
        self.args.var(i).cloned()
    }
    /// Prepared data of type `T`.
    pub fn prepared<T: 'static>(&self) -> Option<&T> {
        self.prepared.and_then(|p| p.downcast_ref())
    }
    /// Whether an argument was given.
    pub fn has(&self, i: usize) -> bool {
        !matches!(self.args.get(i), Arg::Absent)
    }
}

/// A wait that ends with `then` on the message's worker.
pub fn wait<T: 'static>(
    future: impl Future<Output = T> + 'static,
    then: impl FnOnce(&mut Ctx, T) -> Flow + 'static,
) -> Flow {
    Flow::Wait(Box::pin(async move {
        let value = future.await;
        Resume::new(move |ctx| then(ctx, value))
    }))
}
