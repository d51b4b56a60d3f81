//! Real time, and the control thread on which everything runs that is no worker's business.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use switchroom_kernel::ports::net::{BoxFuture, Clock, Spawn};
use tokio::runtime::{Builder, Handle, Runtime};

/// The control thread: a runtime for timers of modules, writers and servers. Dropping it ends what runs there.
pub struct Control {
    runtime: Option<Runtime>,
}

impl Control {
    /// Starts the thread.
    pub fn start() -> io::Result<Control> {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("control").enable_all().build()?;
        Ok(Control { runtime: Some(runtime) })
    }

    /// A handle with which to run futures there.
    pub fn handle(&self) -> ControlHandle {
        // It is only taken in `drop`.
        let runtime = self.runtime.as_ref().expect("the runtime lives as long as Control");
        ControlHandle { handle: runtime.handle().clone() }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_millis(500));
        }
    }
}

/// Runs futures on the control thread, and tells the time.
#[derive(Clone)]
pub struct ControlHandle {
    handle: Handle,
}

impl ControlHandle {
    /// The same as the port that modules see.
    pub fn spawner(&self) -> Arc<dyn Spawn> {
        Arc::new(self.clone())
    }

    /// The real clock.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(RealClock { control: self.clone() })
    }

    /// Runs `future` on the control thread and gives its answer to a caller on any thread, which need not have a
    /// runtime. `None` when the control thread is gone.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Pin<Box<dyn Future<Output = Option<T>> + Send + 'static>> {
        let task = self.handle.spawn(future);
        Box::pin(async move { task.await.ok() })
    }

    pub(crate) fn tokio(&self) -> &Handle {
        &self.handle
    }

    /// Waits for a future on the calling thread, which must be neither a worker nor the control thread.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.handle.block_on(future)
    }
}

impl Spawn for ControlHandle {
    fn spawn(&self, future: BoxFuture<()>) {
        self.handle.spawn(future);
    }
}

struct RealClock {
    control: ControlHandle,
}

impl Clock for RealClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn unix(&self) -> Duration {
        // A clock before 1970 counts as 1970.
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    fn sleep(&self, after: Duration) -> BoxFuture<()> {
        // On a worker its own timer is used, so that waking up needs no other thread.
        match Handle::try_current() {
            Ok(_) => Box::pin(tokio::time::sleep(after)),
            Err(_) => {
                let _inside = self.control.handle.enter();
                Box::pin(tokio::time::sleep(after))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn sleeps_and_spawned_work_need_no_runtime_of_the_caller() {
        let control = Control::start().unwrap();
        let (clock, spawner) = (control.handle().clock(), control.handle().spawner());
        let sleep = clock.sleep(Duration::from_millis(20));
        let (tell, told) = mpsc::channel();
        let started = clock.now();
        spawner.spawn(Box::pin(async move {
            sleep.await;
            tell.send(()).unwrap();
        }));
        told.recv_timeout(Duration::from_secs(5)).unwrap();
        assert!(clock.now() - started >= Duration::from_millis(20));
        assert!(clock.unix() > Duration::from_secs(1_700_000_000));
    }
}
