//! The worker threads: start, drain, end.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::{self, JoinHandle};

use switchroom_kernel::ports::net::{Handler, Mail, Net, Post, Sockets};
use tokio::runtime::Builder;
use tokio::task::LocalSet;

use crate::bind::{Bound, Listener};
use crate::config::NetConfig;
use crate::counters::NetCounters;
use crate::mailbox::Mailboxes;
use crate::tcp::Directory;
use crate::worker;

/// What a handler is given when it is made, on its worker's thread.
pub struct Seat {
    /// Number of the worker, from 0.
    pub worker: usize,
    /// Number of workers.
    pub workers: usize,
    /// The way out.
    pub net: Rc<dyn Net>,
    /// All listening sockets.
    pub sockets: Sockets,
    /// The way to the other workers.
    pub post: Arc<dyn Post>,
}

/// The running workers.
pub struct Workers {
    mailboxes: Arc<Mailboxes>,
    counters: NetCounters,
    threads: Vec<JoinHandle<()>>,
}

impl Bound {
    /// Starts one thread per worker. `make` is called once on each of them.
    pub fn start<F>(self, make: F) -> io::Result<Workers>
    where
        F: Fn(Seat) -> Rc<dyn Handler> + Send + Sync + 'static,
    {
        let make = Arc::new(make);
        let directory = Arc::new(Directory::default());
        let drained = Arc::new(AtomicUsize::new(0));
        let mut workers = Workers {
            mailboxes: self.mailboxes.clone(),
            counters: self.counters.clone(),
            threads: Vec::new(),
        };
        for (worker, listeners) in self.seats.into_iter().enumerate() {
            // Made here, so that a system without room for it says so at start.
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let desk = Desk {
                worker,
                listeners,
                config: self.config.clone(),
                sockets: self.sockets.clone(),
                counters: self.counters.clone(),
                mailboxes: self.mailboxes.clone(),
                directory: directory.clone(),
                drained: drained.clone(),
            };
            let make = make.clone();
            let thread = thread::Builder::new().name(format!("worker-{worker}")).spawn(move || {
                let local = LocalSet::new();
                let mailboxes = desk.mailboxes.clone();
                let done = local.block_on(&runtime, worker::run(desk, &*make));
                mailboxes.close(worker);
                if let Err(e) = done {
                    tracing::error!(worker, "worker cannot use its sockets: {e}");
                }
            })?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }
}

/// What a worker starts from.
pub(crate) struct Desk {
    pub worker: usize,
    pub listeners: Vec<Listener>,
    pub config: NetConfig,
    pub sockets: Sockets,
    pub counters: NetCounters,
    pub mailboxes: Arc<Mailboxes>,
    pub directory: Arc<Directory>,
    /// Number of workers that have drained.
    pub drained: Arc<AtomicUsize>,
}

impl Workers {
    /// The way into the workers' mailboxes.
    pub fn post(&self) -> Arc<dyn Post> {
        self.mailboxes.clone()
    }

    /// The counters of all workers.
    pub fn counters(&self) -> &NetCounters {
        &self.counters
    }

    /// Asks every worker to finish; a full mailbox is tried again until there is room or the worker is gone.
    pub fn drain(&self) {
        for (worker, thread) in self.threads.iter().enumerate() {
            while !thread.is_finished() && self.mailboxes.post(worker, Mail::Drain).is_err() {
                thread::sleep(std::time::Duration::from_millis(5));
            }
        }
    }

    /// Whether a worker's thread has ended, which is only right after [`Workers::drain`].
    pub fn any_ended(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Waits for all workers to end. Gives the number that ended by a panic.
    pub fn join(self) -> usize {
        self.threads.into_iter().filter_map(|thread| thread.join().err()).count()
    }
}
