//! What other modules may do with dialogs.

use std::any::Any;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;
use switchroom_kernel::Kernel;
use switchroom_kernel::context::Ctx;
use switchroom_kernel::shard::Shard;

use super::state::{Dialog, DialogModule, Dialogs};
use super::{follow, loaded, sequential};
use crate::tm::api::OnFinal;

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
    /// What the module needs to follow it after a restart; one module does.
    fn save(&self) -> Option<String> {
        None
    }
    /// Itself, for its module.
    fn as_any(&self) -> Option<&dyn Any> {
        None
    }
}

/// A module's state: how it follows a dialog again, from what [`Follow::save`] gave.
pub struct Restorer(pub fn(&str) -> Option<Rc<dyn Follow>>);

/// Those who follow the dialog that the script looks at, if this worker has it.
pub fn followers(ctx: &Ctx) -> SmallVec<[Rc<dyn Follow>; 1]> {
    let Some(now) = loaded::current(ctx).filter(|_| !loaded::is_copy(ctx)) else { return SmallVec::new() };
    restore(&ctx.shard, now.id);
    ctx.shard.part::<Dialogs>().with(now.id, |d| d.followers.clone()).unwrap_or_default()
}

/// What was saved becomes a follower.
fn restore(shard: &Shard, id: u64) {
    let saved = shard.part::<Dialogs>().with(id, |d| d.saved.take()).flatten();
    let Some(saved) = saved else { return };
    let restored = shard.kernel.find::<Restorer>().and_then(|r| (r.0)(&saved));
    match restored {
        Some(who) => {
            shard.part::<Dialogs>().with(id, |d| d.followers.push(who));
        }
        None => tracing::warn!("what was kept of a call for its accounting makes no sense"),
    }
}

/// Whether the module is loaded.
pub fn is_loaded(kernel: &Kernel) -> bool {
    kernel.find::<DialogModule>().is_some()
}

/// Keep the dialog of the INVITE in `ctx`, as `create_dialog()` does. False when it is none, or there is no room.
pub fn create(ctx: &mut Ctx) -> bool {
    follow::create(ctx, follow::Wishes::default())
}

/// Follow the dialog of the message in `ctx`. False when it has none.
pub fn follow(ctx: &Ctx, who: Rc<dyn Follow>) -> bool {
    let Some(now) = follow::own(ctx) else { return false };
    let known = ctx.shard.part::<Dialogs>().with(now.id, |d| d.followers.push(who)).is_some();
    super::store::note(&ctx.shard, now.id);
    known
}

/// Call-ID and tag of one side (0 the caller, 1 the callee) of the dialog that the script looks at, if this worker has it.
pub fn side(ctx: &Ctx, of: usize) -> Option<(Bytes, Bytes)> {
    let now = loaded::current(ctx).filter(|_| !loaded::is_copy(ctx))?;
    let look = |d: &mut Dialog| Some((d.call_id.clone(), d.legs.get(of)?.tag.clone()));
    ctx.shard.part::<Dialogs>().with(now.id, look).flatten()
}

/// Send a request of ours to one side of that dialog. False when it is not answered.
pub fn send(
    ctx: &Ctx,
    to: usize,
    method: &[u8],
    body: Option<(Bytes, Bytes)>,
    headers: &[u8],
    done: OnFinal,
) -> bool {
    let Some(now) = loaded::current(ctx).filter(|_| !loaded::is_copy(ctx)) else { return false };
    to < 2 && sequential::send(&ctx.shard, now.id, to, method, body, headers, done)
}

/// Tell those who follow an answered dialog of its end.
pub(super) fn tell(shard: &Rc<Shard>, id: u64) {
    restore(shard, id);
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
