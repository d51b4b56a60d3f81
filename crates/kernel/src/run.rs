//! Running a route on a message: the script's host, and the waits in between.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use switchroom_script::names::{Prepared, RouteType};
use switchroom_script::vm::{
    Args, AssignOp, CallMode, Finished, Frame, Host, How, LaunchJob, Outcome, Position, Step, TraceStep,
    VarAccess,
};
use switchroom_script::{Program, RouteId, Template, Value};

use crate::context::{Call, Ctx, Flow, Resume, Wait};
use crate::shard::{AfterWait, Shard};

/// What is done when the route has ended. Plain functions, so that nothing is allocated for them; they find what they
/// need in the context.
pub type Then = fn(Box<Ctx>, Outcome);

/// How a run ends that was stopped because of an error: as `exit` does.
pub const ABORTED: Outcome = Outcome { code: -1, how: How::Exit };

/// Run `route` of the script in force.
pub fn run_route(ctx: Box<Ctx>, program: &Arc<Program>, route: RouteId, then: Then) {
    drive(ctx, Frame::new(program, route), then);
}

/// Run a frame that was set up by the caller (event routes with parameters).
pub fn run_frame(ctx: Box<Ctx>, frame: Frame, then: Then) {
    drive(ctx, frame, then);
}

/// Run a route in the middle of a function's own work (a branch route inside `t_relay()`), then go on with `then`. When
/// the route waits, so does the function.
pub fn run_within(
    ctx: &mut Ctx,
    mut frame: Frame,
    then: impl FnOnce(&mut Ctx, Outcome) -> Flow + 'static,
) -> Flow {
    match frame.run(&mut View { ctx }) {
        Step::Done(outcome) => {
            ctx.dropped |= outcome.how == How::Drop;
            then(ctx, outcome)
        }
        Step::Failed(error) => {
            tracing::error!(target: "script", "{error}");
            then(ctx, ABORTED)
        }
        Step::Wait(wait) => Flow::Wait(Box::pin(async move {
            let resume = wait.await;
            Resume::new(move |ctx| {
                let flow = resume.run(ctx);
                within_resumed(ctx, frame, flow, then)
            })
        })),
        Step::Async { wait, resume: route, timeout } => {
            let wait = with_timeout(wait, &ctx.shard, timeout);
            let frame = Frame::new(frame.program(), route);
            Flow::Wait(Box::pin(async move {
                let resume = wait.await;
                Resume::new(move |ctx| {
                    let flow = resume.run(ctx);
                    let code = match poll_once(ctx, flow) {
                        Flow::Value(v) => v,
                        Flow::Exit | Flow::Drop => 0,
                        wait @ Flow::Wait(_) => return within_resumed(ctx, frame, wait, then),
                    };
                    run_within(ctx, frame.with_code(code), then)
                })
            }))
        }
    }
}

/// A function inside such a route is done, or waits for something more.
fn within_resumed(
    ctx: &mut Ctx,
    mut frame: Frame,
    flow: Flow,
    then: impl FnOnce(&mut Ctx, Outcome) -> Flow + 'static,
) -> Flow {
    match finish(ctx, flow) {
        Ok(finished) => {
            frame.resume(finished);
            run_within(ctx, frame, then)
        }
        Err(wait) => Flow::Wait(Box::pin(async move {
            let resume = wait.await;
            Resume::new(move |ctx| {
                let flow = resume.run(ctx);
                within_resumed(ctx, frame, flow, then)
            })
        })),
    }
}

fn drive(mut ctx: Box<Ctx>, mut frame: Frame, then: Then) {
    loop {
        match frame.run(&mut View { ctx: &mut ctx }) {
            Step::Done(outcome) => {
                ctx.dropped |= outcome.how == How::Drop;
                return then(ctx, outcome);
            }
            Step::Failed(error) => {
                tracing::error!(target: "script", "{error}");
                return then(ctx, ABORTED);
            }
            Step::Wait(wait) => {
                suspend(&mut ctx);
                let shard = ctx.shard.clone();
                if shard.waiting() >= crate::shard::MAX_WAITING {
                    tracing::error!(target: "script", "too many scripts are waiting; this call fails");
                    frame.resume(Finished::Value(-1));
                    continue;
                }
                shard.wait(async move {
                    let resume = wait.await;
                    Box::new(move |_: &Rc<Shard>| resumed(ctx, frame, then, resume)) as AfterWait
                });
                return;
            }
            Step::Async { wait, resume, timeout } => {
                suspend(&mut ctx);
                let shard = ctx.shard.clone();
                let program = frame.program().clone();
                let wait = with_timeout(wait, &shard, timeout);
                let started = shard.wait(async move {
                    let after = wait.await;
                    Box::new(move |_: &Rc<Shard>| {
                        let frame = Frame::new(&program, resume);
                        resumed_async(ctx, frame, then, after);
                    }) as AfterWait
                });
                if !started {
                    tracing::error!(target: "script", "too many scripts are waiting; an async call was given up");
                }
                return;
            }
        }
    }
}

/// A function that waited is done: hand its result to the script and go on.
fn resumed(mut ctx: Box<Ctx>, mut frame: Frame, then: Then, resume: Resume) {
    let flow = resume.run(&mut ctx);
    match finish(&mut ctx, flow) {
        Ok(finished) => {
            frame.resume(finished);
            drive(ctx, frame, then);
        }
        Err(wait) => {
            let shard = ctx.shard.clone();
            shard.wait(async move {
                let resume = wait.await;
                Box::new(move |_: &Rc<Shard>| resumed(ctx, frame, then, resume)) as AfterWait
            });
        }
    }
}

/// The same for `async()`: the resume route starts with the result as `$rc`.
fn resumed_async(mut ctx: Box<Ctx>, frame: Frame, then: Then, resume: Resume) {
    let flow = resume.run(&mut ctx);
    match finish(&mut ctx, flow) {
        Ok(finished) => {
            let code = match finished {
                Finished::Value(v) => v,
                Finished::Exit | Finished::Drop => 0,
            };
            drive(ctx, frame.with_code(code), then);
        }
        Err(wait) => {
            let shard = ctx.shard.clone();
            shard.wait(async move {
                let resume = wait.await;
                Box::new(move |_: &Rc<Shard>| resumed_async(ctx, frame, then, resume)) as AfterWait
            });
        }
    }
}

fn finish(ctx: &mut Ctx, flow: Flow) -> Result<Finished, Wait> {
    match poll_once(ctx, flow) {
        Flow::Value(v) => Ok(Finished::Value(v)),
        Flow::Exit => Ok(Finished::Exit),
        Flow::Drop => Ok(Finished::Drop),
        Flow::Wait(wait) => Err(wait),
    }
}

/// A wait that is over at once costs nothing more: poll it on the spot.
fn poll_once(ctx: &mut Ctx, mut flow: Flow) -> Flow {
    loop {
        let Flow::Wait(mut wait) = flow else { return flow };
        match Pin::new(&mut wait).poll(&mut TaskContext::from_waker(Waker::noop())) {
            Poll::Ready(resume) => flow = resume.run(ctx),
            Poll::Pending => return Flow::Wait(wait),
        }
    }
}

fn with_timeout(wait: Wait, shard: &Rc<Shard>, timeout: Option<u32>) -> Wait {
    let Some(seconds) = timeout else { return wait };
    let sleep = shard.kernel.drivers.clock.sleep(Duration::from_secs(u64::from(seconds)));
    Box::pin(async move {
        match futures_util::future::select(wait, sleep).await {
            futures_util::future::Either::Left((resume, _)) => resume,
            futures_util::future::Either::Right(_) => Resume::new(|_| Flow::Value(-2)),
        }
    })
}

fn suspend(ctx: &mut Ctx) {
    if ctx.route != RouteType::Request || ctx.dummy {
        return;
    }
    let shard = ctx.shard.clone();
    for hook in &shard.kernel.hooks.suspend {
        hook(ctx);
    }
}

/// What a script sees of a context.
struct View<'a> {
    ctx: &'a mut Ctx,
}

impl Host for View<'_> {
    type Wait = Wait;

    fn call(&mut self, func: u32, args: Args<'_>, prepared: Option<&Prepared>, mode: CallMode) -> Flow {
        let Some(function) = self.ctx.shard.kernel.registry.function_at(func) else { return Flow::Value(-1) };
        let flow = (function.run)(&mut Call { ctx: self.ctx, args, prepared, mode });
        poll_once(self.ctx, flow)
    }

    fn get(&mut self, var: &VarAccess) -> Value {
        let shard = self.ctx.shard.clone();
        shard.kernel.registry.get(self.ctx, var)
    }

    fn set(&mut self, var: &VarAccess, op: AssignOp, value: Value) -> Result<(), String> {
        let shard = self.ctx.shard.clone();
        shard.kernel.registry.set(self.ctx, var, op, value)
    }

    fn log(&mut self, level: i32, text: &[u8], _at: Position<'_>) {
        if self.log_enabled(level) {
            write_log(level, text);
        }
    }

    fn print_level(&mut self) -> i32 {
        self.ctx.shard.kernel.xlog_print_level
    }

    fn log_enabled(&mut self, level: i32) -> bool {
        let wanted = match self.ctx.log_level.1 {
            Some(own) => own,
            None => self.ctx.shard.kernel.xlog_level.load(std::sync::atomic::Ordering::Relaxed),
        };
        i64::from(level) <= wanted
    }

    fn launch(&mut self, job: LaunchJob<Wait>, report: Option<RouteId>, param: Option<Value>) {
        launch(self.ctx, job, report, param);
    }

    fn error(&mut self, at: Position<'_>, text: &str) {
        tracing::warn!(target: "script", "{at}: {text}");
    }

    fn tracing(&self) -> bool {
        self.ctx.trace.is_some()
    }

    fn step(&mut self, step: &TraceStep<'_>) {
        if let Some(tracer) = self.ctx.trace.clone() {
            tracer.step(self.ctx, step);
        }
    }

    fn expand(&mut self, text: &[u8]) -> Value {
        let shard = self.ctx.shard.clone();
        match Template::compile(text, &shard.kernel.registry) {
            Ok(template) => template.value(self),
            Err(_) => Value::Null,
        }
    }
}

/// Print a format (`"user=$fU"`) on a context, outside of a running script.
pub fn print_format(ctx: &mut Ctx, format: &Template) -> bytes::Bytes {
    format.expand(&mut View { ctx })
}

/// The value of a variable that a parameter names, on a context.
pub fn read_variable(ctx: &mut Ctx, variable: &switchroom_script::Variable) -> Value {
    variable.value(&mut View { ctx })
}

fn launch(ctx: &mut Ctx, job: LaunchJob<Wait>, report: Option<RouteId>, param: Option<Value>) {
    let shard = ctx.shard.clone();
    let program = shard.kernel.program.load_full();
    // The job goes on beside the message: it works on a copy of what the report route may see.
    let mut side = Ctx::new(shard.clone(), ctx.msg.clone(), ctx.received, RouteType::Request);
    side.dummy = true;
    let report_run = move |side: Box<Ctx>, code: i64| {
        if let Some(route) = report {
            let frame = Frame::new(&program, route).with_params([param.unwrap_or_default()]).with_code(code);
            drive(side, frame, |_, _| {});
        }
    };
    match job {
        LaunchJob::Done(code) => shard.later(move |_| report_run(side, code)),
        LaunchJob::Pending(wait) => {
            let started = shard.wait(async move {
                let resume = wait.await;
                Box::new(move |_: &Rc<Shard>| {
                    let mut side = side;
                    let code = match resume.run(&mut side) {
                        Flow::Value(v) => v,
                        Flow::Exit | Flow::Drop => 0,
                        Flow::Wait(_) => -1,
                    };
                    report_run(side, code);
                }) as AfterWait
            });
            if !started {
                tracing::error!(target: "script", "too many scripts are waiting; a launched job was given up");
            }
        }
    }
}

/// A line of the script's own, at the language's levels (-3 alert ... 4 debug).
pub fn write_log(level: i32, text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    let text = text.trim_end_matches('\n');
    match level {
        ..=-1 => tracing::error!(target: "script", "{text}"),
        0 | 1 => tracing::warn!(target: "script", "{text}"),
        2 | 3 => tracing::info!(target: "script", "{text}"),
        _ => tracing::debug!(target: "script", "{text}"),
    }
}
