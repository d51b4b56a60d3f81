//! What other modules may do with dialogs.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use switchroom_kernel::Kernel;
use switchroom_kernel::context::Ctx;
use switchroom_kernel::shard::Shard;

use super::follow;
use super::state::{Dialog, DialogModule, Dialogs};

/// An answered dialog that has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Call-ID.
    pub call_id: Bytes,
    /// Tag of the caller.
    pub from_tag: Bytes,
    /// Tag of the callee.
    pub to_tag: Bytes,
    /// When it was answered, since the epoch.
    pub answered: Duration,
    /// When it ended, since the epoch.
    pub ended: Duration,
}

/// A module that follows dialogs (accounting).
pub trait Follow {
    /// An answered dialog has ended.
    fn ended(&self, shard: &Rc<Shard>, dialog: &Ended);
}

/// Whether the module is loaded.
pub fn is_loaded(kernel: &Kernel) -> bool {
    kernel.find::<DialogModule>().is_some()
}

/// Keep the dialog of the INVITE in `ctx`, as `create_dialog()` does. False when it is none, or there is no room.
pub fn create(ctx: &mut Ctx) -> bool {
    follow::create(ctx, false)
}

/// Follow the dialog of the message in `ctx`. False when it has none.
pub fn follow(ctx: &Ctx, who: Rc<dyn Follow>) -> bool {
    let Some(now) = follow::current(ctx) else { return false };
    ctx.shard.part::<Dialogs>().with(now.id, |d| d.followers.push(who)).is_some()
}

/// Tell those who follow an answered dialog of its end.
pub(super) fn tell(shard: &Rc<Shard>, id: u64) {
    let ended = shard.kernel.drivers.clock.unix();
    let told = shard.part::<Dialogs>().with(id, |d: &mut Dialog| {
        let followers = std::mem::take(&mut d.followers);
        let end = Ended {
            call_id: d.call_id.clone(),
            from_tag: d.legs[0].tag.clone(),
            to_tag: d.legs[1].tag.clone(),
            answered: d.answered,
            ended,
        };
        (followers, end)
    });
    let Some((followers, end)) = told else { return };
    for f in followers {
        f.ended(shard, &end);
    }
}
