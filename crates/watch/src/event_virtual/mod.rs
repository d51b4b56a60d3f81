//! Several subscribers as one: `virtual:POLICY address address ...`, told all at once, in turn, or until one could be
//! told.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use switchroom_kernel::events::{Event, EventTransport, Events, Subscriber};
use switchroom_kernel::module::{Module, Param};
use switchroom_kernel::open::Opening;
use switchroom_kernel::ports::net::{Clock, Spawn};

use crate::outbox::{self, Counters, Outbox, Way};

/// The module.
pub static MODULE: Module = Module {
    name: "event_virtual",
    summary: "Several event subscribers as one",
    params: &[Param::int(
        "failover_timeout",
        "30",
        "Seconds for which FAILOVER skips a subscriber that failed",
    )],
    statistics: outbox::STATISTICS,
    open,
    ..Module::EMPTY
};

/// Subscribers behind one address at most.
const MAX_MEMBERS: usize = 64;

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let seconds = o.int("failover_timeout");
    if !(0..=86_400).contains(&seconds) {
        return Err(format!("failover_timeout is {seconds}; it must be between 0 and 86400 seconds"));
    }
    let transport = Transport {
        // The events own this transport.
        events: Arc::downgrade(&o.kernel.events),
        clock: o.kernel.drivers.clock.clone(),
        spawn: o.kernel.drivers.spawn.clone(),
        counters: Counters::new(o)?,
        skip: Duration::from_secs(seconds as u64),
    };
    o.kernel.events.add_transport("virtual", Arc::new(transport));
    Ok(())
}

struct Transport {
    events: Weak<Events>,
    clock: Arc<dyn Clock>,
    spawn: Arc<dyn Spawn>,
    counters: Counters,
    skip: Duration,
}

impl EventTransport for Transport {
    fn subscriber(&self, socket: &str) -> Result<Arc<dyn Subscriber>, String> {
        let mut words = socket.split_ascii_whitespace();
        let policy = words.next().unwrap_or_default();
        let addresses: Vec<&str> = words.collect();
        if addresses.is_empty() || addresses.len() > MAX_MEMBERS {
            return Err(format!(
                "\"virtual:{socket}\" must be virtual:POLICY and 1 to {MAX_MEMBERS} addresses, with spaces between them"
            ));
        }
        if let Some(nested) = addresses.iter().find(|a| a.starts_with("virtual:")) {
            return Err(format!("\"{nested}\" cannot be inside another virtual address"));
        }
        let events = self.events.upgrade().ok_or("the server is ending")?;
        let members = addresses.iter().map(|a| events.subscriber(a)).collect::<Result<Vec<_>, _>>()?;
        let name = format!("virtual:{policy} {}", addresses.join(" "));
        match policy {
            "PARALLEL" | "ROUND-ROBIN" => {
                let turn = (policy == "ROUND-ROBIN").then(AtomicUsize::default);
                Ok(Arc::new(Group { name, members, turn, counters: self.counters.clone() }))
            }
            "FAILOVER" => {
                let members = members.into_iter().map(|m| (m, None)).collect();
                let way = Failover { members, clock: self.clock.clone(), skip: self.skip };
                Ok(Outbox::start(name, way, &*self.spawn, &self.counters))
            }
            _ => Err(format!("\"{policy}\" is no policy; there are PARALLEL, FAILOVER and ROUND-ROBIN")),
        }
    }
}

/// All at once, or one after the other in turn.
struct Group {
    name: String,
    members: Vec<Arc<dyn Subscriber>>,
    turn: Option<AtomicUsize>,
    counters: Counters,
}

impl Subscriber for Group {
    fn event(&self, event: &Arc<Event>, worker: Option<usize>) {
        match &self.turn {
            None => self.members.iter().for_each(|m| m.event(event, worker)),
            Some(turn) => {
                let next = turn.fetch_add(1, Ordering::Relaxed) % self.members.len();
                self.members[next].event(event, worker);
            }
        }
        self.counters.done(true);
    }
    fn describe(&self) -> String {
        self.name.clone()
    }
}

/// The first that takes it. Those that failed are skipped for a while.
struct Failover {
    members: Vec<(Arc<dyn Subscriber>, Option<Instant>)>,
    clock: Arc<dyn Clock>,
    skip: Duration,
}

impl Way for Failover {
    async fn send(&mut self, event: &Arc<Event>) -> Result<(), String> {
        let mut last = "all subscribers failed lately".to_owned();
        for (member, skipped) in &mut self.members {
            if skipped.is_some_and(|until| until > self.clock.now()) {
                continue;
            }
            match member.clone().deliver(event).await {
                Ok(()) => {
                    *skipped = None;
                    return Ok(());
                }
                Err(e) => {
                    *skipped = Some(self.clock.now() + self.skip);
                    last = format!("{}: {e}", member.describe());
                }
            }
        }
        Err(last)
    }
}
