//! One row of the table alive: connecting, binding, binding again after pauses, and sending what waits.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use parking_lot::Mutex;
use switchroom_engine::smpp_session::{Mode, SendError, Settings, Side};
use switchroom_kernel::oneshot;
use switchroom_kernel::ports::stream::StreamTarget;
use switchroom_wire::smpp::{Address, Bind, Body, CommandId, Outbind, Rules, Status};

use super::gateway::Gateway;
use super::incoming::Peer;
use super::outgoing::{Accepted, Failure, Job, Outgoing, Queue, Turn};
use super::params::Conf;
use super::store::{Kind, Row};
use crate::link::compose::References;
use crate::link::join::{Joiner, Key};
use crate::link::{Counters, Link, LinkHandle, Options};

/// Token of our bind.
pub(super) const BIND: u64 = 0;
/// How long a TCP connection may take to stand.
const CONNECT: Duration = Duration::from_secs(10);
/// Sessions of one row: an application binds as transmitter and as receiver, perhaps more than once.
const MAX_LINKS: usize = 16;

/// A row and what became of it.
pub(super) struct Connection {
    pub row: Row,
    pub conf: Conf,
    pub counters: Arc<Counters>,
    pub joiner: Mutex<Joiner>,
    /// Names of the parts that an application wants receipts for.
    pub submitted: Mutex<HashMap<Key, Vec<Vec<u8>>>>,
    pub references: References,
    pub queue: Mutex<Queue>,
    life: Mutex<Life>,
}

struct Life {
    links: Vec<LinkHandle>,
    phase: Phase,
    /// Unix seconds of the last change of phase.
    since: u64,
    last_error: Option<String>,
    /// Dropped to end the loop that runs.
    stop: Option<oneshot::Sender<()>>,
    /// Tells a loop that runs from those that were ended.
    generation: u64,
    /// When the queue is looked at again.
    timer: Option<Instant>,
}

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Stopped,
    Connecting,
    Binding,
    Bound,
    /// Before it connects again.
    Pausing,
    /// For a peer that connects by itself.
    Listening,
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Phase::Stopped => "stopped",
            Phase::Connecting => "connecting",
            Phase::Binding => "binding",
            Phase::Bound => "bound",
            Phase::Pausing => "waiting to connect again",
            Phase::Listening => "waiting for the peer",
        }
    }
}

/// What a command shows.
pub(super) struct Shown {
    pub phase: Phase,
    pub since: u64,
    pub last_error: Option<String>,
    pub modes: Vec<Mode>,
}

impl Connection {
    pub fn new(row: Row, conf: Conf, joiner: Joiner) -> Connection {
        Connection {
            row,
            conf,
            counters: Arc::default(),
            joiner: Mutex::new(joiner),
            submitted: Mutex::default(),
            references: References::default(),
            queue: Mutex::default(),
            life: Mutex::new(Life {
                links: Vec::new(),
                phase: Phase::Stopped,
                since: 0,
                last_error: None,
                stop: None,
                generation: 0,
                timer: None,
            }),
        }
    }

    /// Which side we are.
    pub fn side(&self) -> Side {
        if self.row.kind == Kind::Outbind { Side::Centre } else { Side::Application }
    }

    /// Timers and windows of a session.
    pub fn settings(&self, side: Side) -> Settings {
        Settings {
            enquire_link: Some(self.conf.enquire_link),
            response: self.conf.response,
            window_out: self.conf.window,
            ..Settings::new(side)
        }
    }

    /// Options of a link.
    pub fn options(&self, gateway: &Gateway, side: Side) -> Options {
        let mut options = Options::new(self.settings(side), gateway.clock.clone());
        options.counters = self.counters.clone();
        if self.conf.strict {
            options.rules = Rules::STRICT;
        }
        options
    }

    pub fn shown(&self) -> Shown {
        let life = self.life.lock();
        let modes = life.links.iter().filter_map(LinkHandle::mode).collect();
        Shown { phase: life.phase, since: life.since, last_error: life.last_error.clone(), modes }
    }

    pub fn is_bound(&self) -> bool {
        self.life.lock().phase == Phase::Bound
    }

    /// Our bind with the credentials of the row.
    pub fn bind(&self, link: &LinkHandle) -> Result<u32, SendError> {
        let range = Address {
            ton: self.row.src_ton,
            npi: self.row.src_npi,
            addr: self.conf.address_range.as_bytes(),
        };
        let bind = Bind {
            system_id: self.row.system_id.as_bytes(),
            password: self.row.password.as_bytes(),
            system_type: self.row.system_type.as_bytes(),
            interface_version: self.conf.version,
            range,
        };
        link.bind(self.row.kind.mode(), &bind, BIND)
    }

    /// A link is bound. False when there are too many.
    pub fn attach(&self, gateway: &Gateway, link: &LinkHandle) -> bool {
        let mut life = self.life.lock();
        if life.links.iter().any(|l| l.is(link)) {
            return true;
        }
        if life.links.len() >= MAX_LINKS {
            return false;
        }
        life.links.push(link.clone());
        life.phase = Phase::Bound;
        life.since = gateway.unix();
        life.last_error = None;
        true
    }

    /// A link is over. Whether it was the last that was bound.
    pub fn detach(&self, gateway: &Gateway, link: &LinkHandle, why: &str) -> bool {
        let last = {
            let mut life = self.life.lock();
            let before = life.links.len();
            life.links.retain(|l| !l.is(link));
            let last = life.links.is_empty() && before > 0;
            if last {
                life.phase = match life.stop {
                    None => Phase::Stopped,
                    Some(_) if self.row.port == 0 => Phase::Listening,
                    Some(_) => Phase::Pausing,
                };
                life.since = gateway.unix();
                life.last_error = Some(why.to_owned());
            }
            last
        };
        if last {
            self.queue.lock().clear();
        }
        last
    }

    fn enter(&self, gateway: &Gateway, generation: u64, phase: Phase, error: Option<String>) {
        let mut life = self.life.lock();
        if life.generation == generation && life.phase != Phase::Bound {
            life.phase = phase;
            life.since = gateway.unix();
            if error.is_some() {
                life.last_error = error;
            }
        }
    }

    /// A link on which messages may leave now.
    fn sender(&self) -> Option<LinkHandle> {
        let fits = |mode: Mode| match self.side() {
            Side::Application => mode.submits(),
            Side::Centre => mode.receives(),
        };
        let life = self.life.lock();
        let mut links = life.links.iter().filter(|l| l.mode().is_some_and(fits));
        let first = links.clone().next().cloned();
        links.find(|l| l.room() > 0).cloned().or(first)
    }
}

/// Starts the loop of a connection, or starts it again at once.
pub(super) fn start(gateway: &Arc<Gateway>, connection: &Arc<Connection>) {
    let (stop, stopped) = oneshot::channel();
    let generation = {
        let mut life = connection.life.lock();
        life.generation += 1;
        life.stop = Some(stop);
        life.generation
    };
    let (gateway, connection) = (gateway.clone(), connection.clone());
    let spawn = gateway.spawn.clone();
    spawn.spawn(Box::pin(run(gateway, connection, generation, stopped)));
}

/// Unbinds and stays so until it is started again.
pub(super) fn stop(gateway: &Gateway, connection: &Connection) {
    let links = {
        let mut life = connection.life.lock();
        life.stop = None;
        life.generation += 1;
        if life.links.is_empty() {
            life.phase = Phase::Stopped;
            life.since = gateway.unix();
        }
        life.links.clone()
    };
    links.iter().for_each(LinkHandle::unbind);
    if links.is_empty() {
        connection.queue.lock().clear();
    }
}

async fn run(
    gateway: Arc<Gateway>,
    connection: Arc<Connection>,
    generation: u64,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut failures = 0;
    loop {
        if connection.row.port == 0 {
            connection.enter(&gateway, generation, Phase::Listening, None);
            stopped.await;
            return;
        }
        connection.enter(&gateway, generation, Phase::Connecting, None);
        let session = pin!(session(&gateway, &connection, generation));
        let (was_bound, error) = match select(session, &mut stopped).await {
            Either::Left((ended, _)) => ended,
            // The links were unbound by whoever stopped us; what still runs ends with its peer's answer.
            Either::Right((_, session)) => {
                let limit = gateway.clock.sleep(Duration::from_secs(2));
                select(session, limit).await;
                return;
            }
        };
        failures = if was_bound { 1 } else { failures + 1 };
        let pause = pause(failures, gateway.random.hash_one(gateway.clock.now()));
        tracing::warn!("proto_smpp: {}: {error}; connecting again in {pause:?}", connection.row.name);
        connection.enter(&gateway, generation, Phase::Pausing, Some(error));
        if let Either::Right(_) = select(gateway.clock.sleep(pause), &mut stopped).await {
            return;
        }
    }
}

/// 1 s doubling to 60 s, a quarter more or less.
fn pause(failures: u32, random: u64) -> Duration {
    let whole = 1000u64 << failures.saturating_sub(1).min(6);
    let whole = whole.min(60_000);
    Duration::from_millis((whole * 3 / 4 + random % (whole / 2 + 1)).min(60_000))
}

/// One connection from its beginning to its end: whether it was bound, and why it ended.
async fn session(gateway: &Arc<Gateway>, connection: &Arc<Connection>, generation: u64) -> (bool, String) {
    let target = StreamTarget {
        host: connection.row.host.clone(),
        port: connection.row.port,
        from: None,
        tls: connection.conf.tls.clone(),
        timeout: CONNECT,
    };
    let stream = match gateway.streams.connect(target).await {
        Ok(stream) => stream,
        Err(e) => return (false, e.to_string()),
    };
    connection.enter(gateway, generation, Phase::Binding, None);
    let side = connection.side();
    let link = Link::new(connection.options(gateway, side));
    let handle = link.handle();
    let begun = match side {
        Side::Application => connection.bind(&handle).map(drop),
        Side::Centre => {
            let outbind = Outbind {
                system_id: connection.row.system_id.as_bytes(),
                password: connection.row.password.as_bytes(),
            };
            handle.send(CommandId::OUTBIND, &Body::Outbind(outbind), BIND).map(drop)
        }
    };
    if let Err(e) = begun {
        return (false, e.to_string());
    }
    let address = format!("{}:{}", connection.row.host, connection.row.port);
    let peer = Arc::new(Peer::new(gateway.clone(), address, side, Some(connection.clone())));
    link.run(stream, peer.clone()).await;
    peer.ended()
}

/// Puts a message in line. The answer comes by the receiver.
pub(super) fn submit(
    gateway: &Arc<Gateway>,
    connection: &Arc<Connection>,
    message: Outgoing,
    until: Instant,
) -> oneshot::Receiver<Accepted> {
    let (done, wait) = oneshot::channel();
    if connection.sender().is_none() {
        done.send(Err(Failure::NotBound));
        return wait;
    }
    connection.queue.lock().push(Job { message, until, done }, gateway.max_queue);
    pump(gateway, connection);
    wait
}

/// Sends what may leave now.
pub(super) fn pump(gateway: &Arc<Gateway>, connection: &Arc<Connection>) {
    let command = match connection.side() {
        Side::Application => CommandId::SUBMIT_SM,
        Side::Centre => CommandId::DELIVER_SM,
    };
    let now = gateway.clock.now();
    loop {
        let Some(link) = connection.sender() else { return };
        if link.room() == 0 {
            // An answer opens the window and comes by here again.
            return;
        }
        let mut queue = connection.queue.lock();
        match queue.next(now, connection.conf.rate) {
            Turn::Idle => return,
            Turn::At(at) => {
                drop(queue);
                return wake(gateway, connection, at);
            }
            // The lock is held until the queue knows of it, so that the answer finds it.
            Turn::Send(serial, job) => match link.send(command, &job.message.body(), serial) {
                Ok(_) => queue.sent(serial, job),
                Err(SendError::WindowFull) => return queue.back(serial, job),
                Err(SendError::State) => job.done.send(Err(Failure::NotBound)),
            },
        }
    }
}

/// Looks at the queue again at this time.
fn wake(gateway: &Arc<Gateway>, connection: &Arc<Connection>, at: Instant) {
    {
        let mut life = connection.life.lock();
        if life.timer.is_some_and(|armed| armed <= at) {
            return;
        }
        life.timer = Some(at);
    }
    let sleep = gateway.clock.sleep(at.saturating_duration_since(gateway.clock.now()));
    let (weak, connection) = (Arc::downgrade(gateway), connection.clone());
    gateway.spawn.spawn(Box::pin(async move {
        sleep.await;
        connection.life.lock().timer = None;
        if let Some(gateway) = weak.upgrade() {
            pump(&gateway, &connection);
        }
    }));
}

/// The peer answered a message.
pub(super) fn answered(
    gateway: &Arc<Gateway>,
    connection: &Arc<Connection>,
    serial: u64,
    status: Status,
    id: &[u8],
) {
    let throttled = connection.queue.lock().answered(gateway.clock.now(), serial, status, id);
    if throttled {
        tracing::debug!("proto_smpp: {}: {status}: pausing", connection.row.name);
        gateway.count(|s| s.throttled);
    }
    pump(gateway, connection);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_from_one_second_to_a_minute() {
        for (failures, low, high) in
            [(1, 750, 1250), (2, 1500, 2500), (4, 6000, 10_000), (30, 45_000, 60_000)]
        {
            for random in [0, 1, 12_345_678_901, u64::MAX] {
                let ms = pause(failures, random).as_millis();
                assert!((low..=high).contains(&ms), "{failures}: {ms}");
            }
        }
    }
}
