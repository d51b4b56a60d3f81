//! The frame: the state of one run, from its start over its waits to its outcome.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::host::{Finished, Host, Position};
use super::run::Run;
use crate::program::{Program, RouteId, RoutePart};
use crate::value::Value;

/// One run of a script, from a top route on. It owns its state and can be kept while something is awaited.
#[derive(Debug)]
pub struct Frame {
    program: Arc<Program>,
    state: State,
}

/// Where a run has come to.
#[derive(Debug)]
pub enum Step<W> {
    /// The run is over.
    Done(Outcome),
    /// A function waits: when it is done, [`Frame::resume`] and run again.
    Wait(W),
    /// `async()` waits: this run is over; when it is done, run the route `resume` with the code
    /// ([`Frame::with_code`]).
    Async {
        /// What is waited for.
        wait: W,
        /// Route to go on with.
        resume: RouteId,
        /// Seconds after which the wait counts as failed.
        timeout: Option<u32>,
    },
    /// The run was stopped.
    Failed(ScriptError),
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The code of the top route.
    pub code: i64,
    /// What ended it.
    pub how: How,
}

/// What ended a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The end of the top route or a `return` in it.
    End,
    /// `exit`, or a result of 0.
    Exit,
    /// `drop`
    Drop,
}

/// Why a run was stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// More operations than one run may have.
    #[error("{file}:{line}: the script was stopped after {operations} operations")]
    Budget {
        /// File.
        file: Arc<str>,
        /// Line.
        line: u32,
        /// Bound.
        operations: u32,
    },
    /// More routes inside one another than allowed.
    #[error("{file}:{line}: routes are called more than {depth} deep")]
    Depth {
        /// File.
        file: Arc<str>,
        /// Line.
        line: u32,
        /// Bound.
        depth: u32,
    },
    /// A failed `assert()` with `abort_on_assert`.
    #[error("{file}:{line}: assertion failed: {text}")]
    Assert {
        /// File.
        file: Arc<str>,
        /// Line.
        line: u32,
        /// Text of the assertion.
        text: String,
    },
}

#[derive(Debug)]
pub(super) struct State {
    pub pc: u32,
    /// Operation that was done last, for a trace; `u32::MAX` when it was told.
    pub last: u32,
    pub route: RouteId,
    pub calls: SmallVec<[Call; 4]>,
    /// Arguments of all routes under way; those of the current one begin at `params_base`.
    pub params: Vec<Value>,
    pub params_base: usize,
    /// Arguments of the top route, by position and perhaps name.
    pub top_params: Vec<(Option<Bytes>, Value)>,
    pub returned: Vec<Value>,
    pub stack: SmallVec<[Value; 4]>,
    pub loops: SmallVec<[u32; 4]>,
    pub code: i64,
    pub test: Test,
    pub operations: u32,
    pub pending: Option<Finished>,
    pub done: Option<Outcome>,
    pub text: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub pc: u32,
    pub route: RouteId,
    pub params_base: usize,
    pub loops: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    True,
    False,
    Error,
}

impl From<bool> for Test {
    fn from(yes: bool) -> Self {
        if yes { Self::True } else { Self::False }
    }
}

/// What reading a variable sees of the run.
pub(crate) struct Scope<'a> {
    pub(super) program: &'a Program,
    pub(super) state: &'a State,
}

impl Frame {
    /// A run of `route` that has not begun.
    pub fn new(program: &Arc<Program>, route: RouteId) -> Self {
        let entry = program.route(route).map_or(u32::MAX, |r| r.entry);
        Self {
            program: Arc::clone(program),
            state: State {
                pc: entry,
                last: u32::MAX,
                route,
                calls: SmallVec::new(),
                params: Vec::new(),
                params_base: 0,
                top_params: Vec::new(),
                returned: Vec::new(),
                stack: SmallVec::new(),
                loops: SmallVec::new(),
                code: 1,
                test: Test::False,
                operations: 0,
                pending: None,
                done: None,
                text: Vec::new(),
            },
        }
    }

    /// Gives the top route arguments, read as `$param(1)` and on.
    #[must_use]
    pub fn with_params(mut self, params: impl IntoIterator<Item = Value>) -> Self {
        self.state.top_params = params.into_iter().map(|v| (None, v)).collect();
        self
    }

    /// Gives the top route named arguments, read by name or position.
    #[must_use]
    pub fn with_named_params(mut self, params: impl IntoIterator<Item = (Bytes, Value)>) -> Self {
        self.state.top_params = params.into_iter().map(|(n, v)| (Some(n), v)).collect();
        self
    }

    /// Sets what `$rc` reads first, for a resume route.
    #[must_use]
    pub fn with_code(mut self, code: i64) -> Self {
        self.state.code = code;
        self
    }

    /// The program this run is of.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// The route the run began in, or was sent on to by `async()` or a failed `assert()`.
    pub fn top_route(&self) -> RouteId {
        self.state.calls.first().map_or(self.state.route, |c| c.route)
    }

    /// Where the run is, for messages.
    pub fn position(&self) -> Position<'_> {
        self.program.position(self.state.pc.saturating_sub(1))
    }

    /// Says how the awaited function ended; [`Frame::run`] goes on from there.
    pub fn resume(&mut self, result: impl Into<Finished>) {
        self.state.pending = Some(result.into());
    }

    /// Runs until the end or the next wait.
    pub fn run<H: Host>(&mut self, host: &mut H) -> Step<H::Wait> {
        let Self { program, state } = self;
        if let Some(finished) = state.pending.take()
            && let Some(outcome) = state.finished(finished)
        {
            state.done = Some(outcome);
        }
        if let Some(outcome) = state.done {
            return Step::Done(outcome);
        }
        let step = Run { program, state: &mut *state, host }.go();
        if let Step::Done(outcome) = &step {
            state.done = Some(*outcome);
        }
        step
    }
}

impl State {
    /// Takes a function's result; answers the outcome when the run ends by it.
    pub(super) fn finished(&mut self, finished: Finished) -> Option<Outcome> {
        match finished {
            Finished::Value(0) => {
                self.code = 0;
                Some(Outcome { code: 0, how: How::Exit })
            }
            Finished::Value(code) => {
                self.code = code;
                None
            }
            Finished::Exit => Some(Outcome { code: self.code, how: How::Exit }),
            Finished::Drop => Some(Outcome { code: self.code, how: How::Drop }),
        }
    }
}

impl Scope<'_> {
    pub(super) fn code(&self) -> i64 {
        self.state.code
    }

    pub(super) fn position(&self) -> Position<'_> {
        self.program.position(self.state.pc.saturating_sub(1))
    }

    /// `$param(i)`, from 1.
    pub(super) fn param(&self, i: i64) -> Value {
        let Some(i) = usize::try_from(i).ok().and_then(|i| i.checked_sub(1)) else { return Value::Null };
        if self.state.calls.is_empty() {
            return self.state.top_params.get(i).map_or(Value::Null, |p| p.1.clone());
        }
        self.state.params.get(self.state.params_base + i).cloned().unwrap_or_default()
    }

    /// `$param(name)` of the top route.
    pub(super) fn param_named(&self, name: &[u8]) -> Value {
        let named = |p: &&(Option<Bytes>, Value)| p.0.as_ref().is_some_and(|n| n.eq_ignore_ascii_case(name));
        self.state.top_params.iter().find(named).map_or(Value::Null, |p| p.1.clone())
    }

    /// `$return(i)`, from 0.
    pub(super) fn returned(&self, i: i64) -> Value {
        usize::try_from(i).ok().and_then(|i| self.state.returned.get(i)).cloned().unwrap_or_default()
    }

    /// Routes under way.
    pub(super) fn depth(&self) -> usize {
        self.state.calls.len() + 1
    }

    /// Appends what `$route` and its kin say of the route `i` steps out from the current one.
    pub(super) fn route_text(&self, i: usize, part: RoutePart, out: &mut Vec<u8>) {
        let calls = &self.state.calls;
        let id = match i.checked_sub(1) {
            None => self.state.route,
            Some(i) => calls[calls.len() - 1 - i].route,
        };
        let Some(route) = self.program.route(id) else { return };
        let name = route.name.as_deref().unwrap_or("");
        match part {
            RoutePart::Name => out.extend_from_slice(name.as_bytes()),
            RoutePart::Type => out.extend_from_slice(route.kind.keyword().as_bytes()),
            RoutePart::Whole => {
                out.extend_from_slice(route.kind.keyword().as_bytes());
                if !name.is_empty() {
                    out.push(b'[');
                    out.extend_from_slice(name.as_bytes());
                    out.push(b']');
                }
            }
        }
    }
}
