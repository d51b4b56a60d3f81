//! The operator's script looks at each message that enters: the parameter `route` names a `route[...]`, which reads and
//! writes `$sms(...)`, chooses destinations, refuses, and may wait.
//!
//! Messages between the same two numbers run on the same worker, so they enter in the order in which they came, unless the
//! script waits for one of them.

use std::hash::BuildHasher;
use std::sync::{Arc, Weak};

use switchroom_calls::core::events::dummy;
use switchroom_kernel::Kernel;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow};
use switchroom_kernel::run::run_route;
use switchroom_script::names::RouteType;
use switchroom_script::vm::{How, Outcome};
use switchroom_wire::smpp::Status;

use super::centre::{Answered, Centre, Submission};
use super::customer::Customer;

/// A message in the hands of the script; a note of the context it runs on.
pub struct Entering {
    /// The centre.
    pub centre: Arc<Centre>,
    /// Who sends.
    pub customer: Arc<Customer>,
    /// What, as the script has changed it.
    pub submission: Submission,
    /// The script has refused it.
    pub refused: Option<Status>,
    answered: Option<Answered>,
    /// What the customer is told when the script never ends.
    lost: Status,
}

impl Drop for Entering {
    fn drop(&mut self) {
        if let Some(answered) = self.answered.take() {
            self.centre.refuse(self.lost, answered);
        }
    }
}

/// Shows every message that enters to `route[name]`.
pub fn install(kernel: &Arc<Kernel>, centre: &Arc<Centre>, name: String) {
    let kernel: Weak<Kernel> = Arc::downgrade(kernel);
    let hasher = foldhash::fast::RandomState::default();
    let script =
        move |centre: &Arc<Centre>, customer: &Arc<Customer>, submission: Submission, answered: Answered| {
            let between = (&submission.source.addr, &submission.destination.addr);
            let hash = hasher.hash_one(between) as usize;
            let mut entering = Entering {
                centre: centre.clone(),
                customer: customer.clone(),
                submission,
                refused: None,
                answered: Some(answered),
                lost: Status::MSGQFUL,
            };
            let Some(kernel) = kernel.upgrade() else { return };
            let name = name.clone();
            // When there is no room for it, dropping it says so to the customer.
            kernel.on_worker(hash % kernel.workers.max(1), move |shard| {
                entering.lost = Status::SYSERR;
                let program = shard.kernel.program.load_full();
                let Some(route) = program.find(RouteType::Request, Some(&name)) else {
                    return finish(entering, false);
                };
                let mut ctx = dummy(shard, RouteType::Request);
                ctx.add_note(entering);
                run_route(ctx, &program, route, ended);
            });
        };
    centre.set_script(Box::new(script));
}

fn ended(mut ctx: Box<Ctx>, outcome: Outcome) {
    if let Some(entering) = ctx.take_note::<Entering>() {
        finish(*entering, outcome.how == How::Drop);
    }
}

fn finish(mut entering: Entering, dropped: bool) {
    let Some(answered) = entering.answered.take() else { return };
    let (centre, customer) = (entering.centre.clone(), entering.customer.clone());
    if let Some(status) = entering.refused {
        return centre.refuse(status, answered);
    }
    if dropped {
        // Taken and thrown away: it has a number, and nobody will find it.
        centre.count(|c| c.dropped);
        if let Some(asked) = &entering.submission.asked {
            centre.unexpect(asked);
        }
        return answered(Ok(centre.next_id()));
    }
    centre.enter(&customer, std::mem::take(&mut entering.submission), answered);
}

/// `sms_reject([status])`: the message is refused with this `command_status`, and the script ends.
pub(super) fn sms_reject(c: &mut Call<'_>) -> Flow {
    let status = c.int(0).unwrap_or(i64::from(Status::SUBMITFAIL.0));
    let status = match u32::try_from(status) {
        Ok(status) if status != 0 => Status(status),
        _ => {
            tracing::error!("sms_reject(): {status} is no command_status of an error, such as 0x0404");
            Status::SUBMITFAIL
        }
    };
    let Some(mut entering) = c.ctx.take_note::<Entering>() else {
        tracing::error!("sms_reject(): no message of the SMS centre is being routed here");
        return FALSE;
    };
    entering.refused = Some(status);
    c.ctx.add_note(*entering);
    Flow::Exit
}
