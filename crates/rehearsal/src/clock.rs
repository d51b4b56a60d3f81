//! Time that stands still until it is moved.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use switchroom_kernel::ports::net::{BoxFuture, Clock};

/// A clock under control. Sleeps end when it is moved past them.
pub struct VirtualClock {
    base: Instant,
    start: Duration,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    passed: Duration,
    sleepers: HashMap<u64, (Duration, Waker)>,
    serial: u64,
}

impl VirtualClock {
    /// A clock that shows `unix` seconds since the epoch.
    pub fn new(unix: u64) -> VirtualClock {
        VirtualClock { base: Instant::now(), start: Duration::from_secs(unix), state: Arc::default() }
    }

    /// Set it to a moment that is not before now, and wake who slept until then.
    pub fn set(&self, at: Instant) {
        let mut state = self.state.lock();
        state.passed = at.saturating_duration_since(self.base).max(state.passed);
        let passed = state.passed;
        let due: Vec<u64> =
            state.sleepers.iter().filter(|(_, (d, _))| *d <= passed).map(|(id, _)| *id).collect();
        let due: Vec<Waker> = due.iter().filter_map(|id| state.sleepers.remove(id)).map(|(_, w)| w).collect();
        drop(state);
        due.into_iter().for_each(Waker::wake);
    }

    /// When the next sleeper wakes.
    pub fn next(&self) -> Option<Instant> {
        self.state.lock().sleepers.values().map(|(d, _)| self.base + *d).min()
    }

    /// How many sleep.
    pub fn sleepers(&self) -> usize {
        self.state.lock().sleepers.len()
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Instant {
        self.base + self.state.lock().passed
    }
    fn unix(&self) -> Duration {
        self.start + self.state.lock().passed
    }
    fn sleep(&self, after: Duration) -> BoxFuture<()> {
        let mut state = self.state.lock();
        state.serial += 1;
        let (until, id) = (state.passed + after, state.serial);
        Box::pin(Sleep { state: self.state.clone(), id, until, asleep: false })
    }
}

struct Sleep {
    state: Arc<Mutex<State>>,
    id: u64,
    until: Duration,
    /// Even a sleep of no time ends in the next round, so that a script really waits.
    asleep: bool,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let state = self.state.clone();
        let mut state = state.lock();
        let over = state.passed >= self.until;
        if over && self.asleep {
            return Poll::Ready(());
        }
        self.asleep = true;
        match over {
            true => cx.waker().wake_by_ref(),
            // Polled again, it may be by somebody else.
            false => drop(state.sleepers.insert(self.id, (self.until, cx.waker().clone()))),
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.state.lock().sleepers.remove(&self.id);
    }
}
