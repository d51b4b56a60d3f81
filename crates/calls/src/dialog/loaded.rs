//! `load_dialog_ctx()`: a script looks at another dialog than that of its message, as if it were its own.
//!
//! A dialog of this worker is used itself. Of one that another worker has the script gets a copy, and everything that it
//! changes is changed there: by [`change`] in passing, by [`there`] where the script must know what came of it.

use std::cell::RefCell;
use std::rc::Rc;

use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE, wait};
use switchroom_kernel::module::Function;
use switchroom_kernel::{Shard, oneshot};

use super::follow::{Current, own};
use super::state::{Dialog, Dialogs, State, parse_did};
use super::store::{self, KeptDialog};

/// One of the functions of the module's table.
pub(super) const LOAD: Function = Function::new(
    "load_dialog_ctx",
    &["str,[str],[int]"],
    "*",
    load,
    "Look at another dialog as if it were this message's",
);
/// See [`LOAD`].
pub(super) const UNLOAD: Function =
    Function::new("unload_dialog_ctx", &[""], "*", unload, "Look at the message's own dialog again");

/// The dialog that was loaded.
pub(super) struct Loaded {
    pub current: Current,
    /// That of another worker: where, and its copy.
    pub other: Option<(usize, RefCell<Dialog>)>,
}

/// The dialog that the script looks at now: a loaded one, or that of the message.
pub(super) fn current(ctx: &Ctx) -> Option<Current> {
    match ctx.note::<Loaded>() {
        Some(loaded) => Some(loaded.current),
        None => own(ctx),
    }
}

/// Look at it.
pub(super) fn with<T>(ctx: &Ctx, look: impl FnOnce(&mut Dialog) -> T) -> Option<T> {
    if let Some((_, copy)) = ctx.note::<Loaded>().and_then(|l| l.other.as_ref()) {
        return Some(look(&mut copy.borrow_mut()));
    }
    let now = current(ctx)?;
    ctx.shard.part::<Dialogs>().with(now.id, look)
}

/// Change it, wherever it is.
pub(super) fn change<T>(
    ctx: &Ctx,
    work: impl FnOnce(&mut Dialog) -> T + Clone + Send + 'static,
) -> Option<T> {
    change_then(ctx, work, |_, _| {})
}

/// The same, and then what follows from it on the worker that has it.
pub(super) fn change_then<T>(
    ctx: &Ctx,
    work: impl FnOnce(&mut Dialog) -> T + Clone + Send + 'static,
    then: impl FnOnce(&Rc<Shard>, u64) + Send + 'static,
) -> Option<T> {
    if let Some(Loaded { current, other: Some((worker, _)) }) = ctx.note::<Loaded>() {
        let (id, there) = (current.id, work.clone());
        let posted = ctx.shard.kernel.on_worker(*worker, move |shard| {
            if shard.part::<Dialogs>().with(id, there).is_some() {
                then(shard, id);
                store::note(shard, id);
            }
        });
        if !posted {
            return None;
        }
        return with(ctx, work);
    }
    let now = current(ctx)?;
    let done = with(ctx, work);
    if done.is_some() {
        then(&ctx.shard, now.id);
    }
    done
}

/// Do something with it on the worker that has it; true or false as that says. A copy is made anew afterwards.
pub(super) fn there(ctx: &mut Ctx, work: impl FnOnce(&Rc<Shard>, u64) -> bool + Send + 'static) -> Flow {
    let truth = |done: bool| if done { TRUE } else { FALSE };
    let Some(now) = current(ctx) else { return FALSE };
    let Some(worker) = ctx.note::<Loaded>().and_then(|l| l.other.as_ref()).map(|(worker, _)| *worker) else {
        return truth(work(&ctx.shard.clone(), now.id));
    };
    let (answer, done) = oneshot::channel::<(bool, Option<KeptDialog>)>();
    let posted = ctx.shard.kernel.on_worker(worker, move |shard| {
        let done = work(shard, now.id);
        store::note(shard, now.id);
        answer.send((done, shard.part::<Dialogs>().with(now.id, |d| store::freeze(d))));
    });
    if !posted {
        tracing::error!("the worker that has the dialog is too busy");
        return FALSE;
    }
    wait(done, move |ctx, answer| {
        let Some((done, kept)) = answer else { return FALSE };
        if let Some(kept) = kept
            && let Some((_, copy)) = ctx.note::<Loaded>().and_then(|l| l.other.as_ref())
        {
            *copy.borrow_mut() = store::revive(ctx.shard.kernel.state(), kept, worker);
        }
        truth(done)
    })
}

/// Whether it is a copy of what another worker has.
pub(super) fn is_copy(ctx: &Ctx) -> bool {
    ctx.note::<Loaded>().is_some_and(|l| l.other.is_some())
}

/// `load_dialog_ctx(name[, "did" | "callid"[, active]])`
fn load(c: &mut Call<'_>) -> Flow {
    let (name, kind, active) = (c.text(0), c.text(1), c.int(2).unwrap_or(0) != 0);
    let by_call = match kind.as_str() {
        "did" => false,
        "callid" => true,
        "" => parse_did(&name).is_none(),
        other => {
            tracing::error!("load_dialog_ctx(): \"{other}\" is neither did nor callid");
            return FALSE;
        }
    };
    if name.is_empty() {
        return FALSE;
    }
    let shard = c.ctx.shard.clone();
    let here = find(&shard, &name, by_call, active);
    if let Some(id) = here {
        return keep(c.ctx, id, None);
    }
    let kernel = shard.kernel.clone();
    let mut asked = Vec::new();
    for worker in (0..kernel.workers).filter(|w| *w != shard.worker) {
        let (answer, wait) = oneshot::channel::<Option<(u64, KeptDialog)>>();
        let name = name.clone();
        let posted = kernel.on_worker(worker, move |shard: &Rc<Shard>| {
            let id = find(shard, &name, by_call, active);
            let copy = |id: u64| shard.part::<Dialogs>().with(id, |d| (id, store::freeze(d)));
            answer.send(id.and_then(copy));
        });
        if posted {
            asked.push((worker, wait));
        }
    }
    let found = async move {
        let mut found = None;
        for (worker, wait) in asked {
            found = found.or(wait.await.flatten().map(|(id, kept)| (worker, id, kept)));
        }
        found
    };
    wait(found, |ctx, found| match found {
        Some((worker, id, kept)) => {
            let dialog = store::revive(ctx.shard.kernel.state(), kept, worker);
            keep(ctx, id, Some((worker, RefCell::new(dialog))))
        }
        None => FALSE,
    })
}

fn keep(ctx: &mut Ctx, id: u64, other: Option<(usize, RefCell<Dialog>)>) -> Flow {
    if ctx.note::<Loaded>().is_some() {
        tracing::error!("load_dialog_ctx(): a dialog is loaded already; unload_dialog_ctx() ends that");
        return FALSE;
    }
    ctx.add_note(Loaded { current: Current { id, downstream: true, cseq_before: 0 }, other });
    TRUE
}

fn find(shard: &Shard, name: &str, by_call: bool, active: bool) -> Option<u64> {
    let part = shard.part::<Dialogs>();
    let fits = |id: u64| {
        let state = part.with(id, |d| d.state);
        state.is_some_and(|s| !active || s < State::Deleted)
    };
    match by_call {
        true => part.of_call(name.as_bytes()).into_iter().find(|id| fits(*id)),
        false => {
            let (worker, id) = parse_did(name)?;
            Some(id).filter(|id| worker == shard.worker && fits(*id))
        }
    }
}

fn unload(c: &mut Call<'_>) -> Flow {
    match c.ctx.take_note::<Loaded>() {
        Some(_) => TRUE,
        None => FALSE,
    }
}
