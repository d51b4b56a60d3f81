//! Probing: requests to destinations, and what their answers mean.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use switchroom_kernel::Kernel;

use super::Dispatcher;
use super::set::{Destination, State};
use crate::tm::api::{Request, request};

/// Codes that say that nobody is there: no answer, no way to send, no address.
const DEAD: [u16; 3] = [408, 477, 478];

/// Which destinations are probed, and how.
pub(super) struct Probing {
    /// Time between two rounds.
    pub interval: Duration,
    /// Method.
    pub method: String,
    /// From.
    pub from: String,
    /// Probe those in use as well.
    pub all: bool,
    /// Only these sets; all when empty.
    pub sets: Vec<i64>,
    /// Codes besides 2xx that count as alive.
    pub good: Vec<u16>,
    /// Socket to send from.
    pub socket: Option<String>,
}

impl Probing {
    fn wants(&self, set: i64, d: &Destination) -> bool {
        let state = d.state();
        (self.sets.is_empty() || self.sets.contains(&set))
            && state != State::Inactive
            && (self.all || d.always_probed || state == State::Probing)
    }
}

/// Begin the rounds.
pub(super) fn start(kernel: &Arc<Kernel>) {
    let dispatcher = kernel.state::<Dispatcher>();
    if let Some(probing) = &dispatcher.probing {
        kernel.every(probing.interval, |kernel| async move { round(&kernel) });
    }
}

/// Probe everything that is to be probed, spread over the workers.
fn round(kernel: &Arc<Kernel>) {
    let dispatcher = kernel.state::<Dispatcher>();
    let Some(probing) = &dispatcher.probing else { return };
    let mut number = 0;
    for part in &dispatcher.partitions {
        for (id, set) in part.sets().iter() {
            for d in set.list.iter().filter(|d| probing.wants(*id, d)) {
                let (name, id, d) = (part.name.clone(), *id, d.clone());
                let posted = kernel.on_worker(number % kernel.workers.max(1), move |shard| {
                    probe(shard, name, id, d);
                });
                if !posted {
                    tracing::warn!("dispatcher: a worker is too busy for a probe");
                }
                number += 1;
            }
        }
    }
}

fn probe(shard: &Rc<switchroom_kernel::Shard>, partition: String, id: i64, d: Arc<Destination>) {
    let dispatcher = shard.kernel.state::<Dispatcher>();
    let Some(probing) = &dispatcher.probing else { return };
    let to = [b"<", &d.uri[..], b">"].concat();
    let wanted = d.socket.as_deref().or(probing.socket.as_deref());
    let socket =
        wanted.and_then(|name| shard.kernel.sockets().iter().find(|s| s.name() == name).map(|s| s.id));
    let r = Request {
        method: probing.method.clone().into(),
        ruri: d.uri.clone(),
        from: format!("<{}>", probing.from).into(),
        to: to.into(),
        socket,
        ..Request::default()
    };
    request(
        shard,
        r,
        Rc::new(move |shard, code, _| {
            let dispatcher = shard.kernel.state::<Dispatcher>();
            if dispatcher.answered(&d, code) {
                dispatcher.tell(&shard.kernel, Some(shard.worker), &partition, id, &d);
            }
        }),
    );
}

impl Dispatcher {
    /// A probe has its final code; whether the destination's use has changed.
    fn answered(&self, d: &Destination, code: u16) -> bool {
        let Some(probing) = &self.probing else { return false };
        let good = (200..300).contains(&code) || probing.good.contains(&code);
        match d.state() {
            State::Inactive => false,
            State::Probing | State::Active if good => d.set(State::Active),
            State::Active if DEAD.contains(&code) => d.failed(self.threshold),
            State::Probing | State::Active => false,
        }
    }
}
