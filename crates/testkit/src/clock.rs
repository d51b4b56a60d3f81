//! Time that stands still until a test moves it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use switchroom_kernel::ports::net::{BoxFuture, Clock};

/// A clock for tests; clones show the same time.
#[derive(Clone)]
pub struct VirtualClock(Arc<Mutex<State>>);

struct State {
    start: Instant,
    elapsed: Duration,
    unix: Duration,
    sleepers: BTreeMap<(Instant, u64), Option<Waker>>,
    serial: u64,
}

impl State {
    fn now(&self) -> Instant {
        self.start + self.elapsed
    }
}

impl VirtualClock {
    /// A clock that shows `unix` seconds since the epoch.
    pub fn new(unix: u64) -> VirtualClock {
        VirtualClock(Arc::new(Mutex::new(State {
            start: Instant::now(),
            elapsed: Duration::ZERO,
            unix: Duration::from_secs(unix),
            sleepers: BTreeMap::new(),
            serial: 0,
        })))
    }

    /// Moves time on and wakes whoever's sleep is over.
    pub fn advance(&self, by: Duration) {
        let due: Vec<Waker> = {
            let mut state = self.0.lock();
            state.elapsed += by;
            let now = state.now();
            let later = state.sleepers.split_off(&(now, u64::MAX));
            std::mem::replace(&mut state.sleepers, later).into_values().flatten().collect()
        };
        due.into_iter().for_each(Waker::wake);
    }

    /// When the next sleep is over.
    pub fn next_wake(&self) -> Option<Instant> {
        self.0.lock().sleepers.keys().next().map(|(at, _)| *at)
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Instant {
        self.0.lock().now()
    }

    fn unix(&self) -> Duration {
        let state = self.0.lock();
        state.unix + state.elapsed
    }

    fn sleep(&self, after: Duration) -> BoxFuture<()> {
        let mut state = self.0.lock();
        let key = (state.now() + after, state.serial);
        state.serial += 1;
        state.sleepers.insert(key, None);
        Box::pin(Sleep { clock: self.0.clone(), key })
    }
}

struct Sleep {
    clock: Arc<Mutex<State>>,
    key: (Instant, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.clock.lock();
        if state.now() >= self.key.0 {
            return Poll::Ready(());
        }
        state.sleepers.insert(self.key, Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.clock.lock().sleepers.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_end_when_time_is_moved_past_them() {
        let clock = VirtualClock::new(1000);
        let (mut short, mut long) =
            (clock.sleep(Duration::from_secs(1)), clock.sleep(Duration::from_secs(32)));
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(short.as_mut().poll(cx).is_pending());
        clock.advance(Duration::from_millis(1500));
        assert!(short.as_mut().poll(cx).is_ready());
        assert!(long.as_mut().poll(cx).is_pending());
        assert_eq!(clock.next_wake(), Some(clock.now() + Duration::from_millis(30_500)));
        assert_eq!(clock.unix(), Duration::from_millis(1_001_500));
        drop(long);
        assert_eq!(clock.next_wake(), None);
    }
}
