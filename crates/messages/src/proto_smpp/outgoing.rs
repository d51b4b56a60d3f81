//! Messages on their way to a peer: what waits, what is unanswered, and how fast they may go.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use switchroom_kernel::oneshot;
use switchroom_wire::smpp::{Address, Body, ShortMessage, Status, Tlvs};

/// First pause after a peer said that it is too much; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(32);

/// An address that owns its text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Party {
    /// Type of number.
    pub ton: u8,
    /// Numbering plan.
    pub npi: u8,
    /// Digits or name.
    pub addr: Vec<u8>,
}

impl Party {
    fn address(&self) -> Address<'_> {
        Address { ton: self.ton, npi: self.npi, addr: &self.addr }
    }
}

/// One message, ready to be sent: one PDU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// Sender.
    pub source: Party,
    /// Recipient.
    pub destination: Party,
    /// Service, usually empty.
    pub service_type: Vec<u8>,
    /// As in `submit_sm`.
    pub esm_class: u8,
    /// GSM protocol identifier.
    pub protocol_id: u8,
    /// 0 to 3.
    pub priority: u8,
    /// Time of delivery; empty for at once.
    pub schedule: Vec<u8>,
    /// Until when; empty for the peer's default.
    pub validity: Vec<u8>,
    /// Which receipts are wanted.
    pub registered_delivery: u8,
    /// Alphabet.
    pub data_coding: u8,
    /// Header and text.
    pub text: Vec<u8>,
    /// Optional parameters.
    pub tlvs: Vec<u8>,
}

impl Outgoing {
    pub(super) fn body(&self) -> Body<'_> {
        Body::Message(ShortMessage {
            service_type: &self.service_type,
            source: self.source.address(),
            destination: self.destination.address(),
            esm_class: self.esm_class,
            protocol_id: self.protocol_id,
            priority: self.priority,
            schedule: &self.schedule,
            validity: &self.validity,
            registered_delivery: self.registered_delivery,
            data_coding: self.data_coding,
            text: &self.text,
            tlvs: Tlvs::read(&self.tlvs, false).unwrap_or_default(),
            ..ShortMessage::default()
        })
    }
}

/// Why a message was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There is no connection of this name.
    #[error("there is no connection \"{0}\"")]
    Unknown(String),
    /// The connection is not bound, or not for this direction.
    #[error("not bound")]
    NotBound,
    /// Too many wait already.
    #[error("too many messages are waiting")]
    Full,
    /// The peer refused it.
    #[error("refused: {0}")]
    Refused(Status),
    /// It left, and no answer came: the peer may have it or not.
    #[error("no answer; it may have been accepted or not")]
    Unanswered,
    /// It could not leave in time.
    #[error("could not be sent in time")]
    Late,
}

/// The name the peer gave an accepted message.
pub type Accepted = Result<Vec<u8>, Failure>;

pub(super) struct Job {
    pub message: Outgoing,
    pub until: Instant,
    pub done: oneshot::Sender<Accepted>,
}

/// What waits and what is unanswered, by the order in which it came.
#[derive(Default)]
pub(super) struct Queue {
    waiting: BTreeMap<u64, Box<Job>>,
    flights: HashMap<u64, Box<Job>>,
    serial: u64,
    /// Nothing leaves before this.
    held: Option<Instant>,
    pause: Duration,
    /// For the rate: when the next message may leave.
    next: Option<Instant>,
}

/// What the queue wants.
pub(super) enum Turn {
    /// Send this; then say [`Queue::sent`] or [`Queue::back`].
    Send(u64, Box<Job>),
    /// Ask again then.
    At(Instant),
    /// Nothing waits.
    Idle,
}

impl Queue {
    /// Takes a message; `max` may wait.
    pub fn push(&mut self, job: Job, max: usize) {
        if self.waiting.len() >= max {
            return job.done.send(Err(Failure::Full));
        }
        self.serial += 1;
        self.waiting.insert(self.serial, Box::new(job));
    }

    /// The next message that may leave, `rate` a second.
    pub fn next(&mut self, now: Instant, rate: u32) -> Turn {
        if let Some(at) = [self.held, self.next].into_iter().flatten().max().filter(|at| *at > now) {
            return if self.waiting.is_empty() { Turn::Idle } else { Turn::At(at) };
        }
        while let Some((serial, job)) = self.waiting.pop_first() {
            if job.until <= now {
                job.done.send(Err(Failure::Late));
                continue;
            }
            if rate > 0 {
                let gap = Duration::from_secs(1) / rate;
                // A pause does not save up more than a tenth of a second.
                let floor = now.checked_sub(Duration::from_millis(100)).unwrap_or(now);
                self.next = Some(self.next.map_or(now, |at| at.max(floor)) + gap);
            }
            return Turn::Send(serial, job);
        }
        Turn::Idle
    }

    /// It has left.
    pub fn sent(&mut self, serial: u64, job: Box<Job>) {
        self.flights.insert(serial, job);
    }

    /// It could not leave now.
    pub fn back(&mut self, serial: u64, job: Box<Job>) {
        self.waiting.insert(serial, job);
    }

    /// The peer answered. Whether it said that it is too much: then all wait, and the message is tried again.
    pub fn answered(&mut self, now: Instant, serial: u64, status: Status, id: &[u8]) -> bool {
        let Some(job) = self.flights.remove(&serial) else { return false };
        match status {
            Status::OK => {
                self.pause = Duration::ZERO;
                job.done.send(Ok(id.to_vec()));
            }
            Status::THROTTLED | Status::MSGQFUL if now < job.until => {
                // Messages that left before the first refusal are refused as well; they do not make the pause longer.
                if self.held.is_none_or(|at| at <= now) {
                    self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
                    self.held = Some(now + self.pause);
                }
                self.waiting.insert(serial, job);
                return true;
            }
            status => job.done.send(Err(Failure::Refused(status))),
        }
        false
    }

    /// No answer came.
    pub fn unanswered(&mut self, serial: u64) {
        if let Some(job) = self.flights.remove(&serial) {
            job.done.send(Err(Failure::Unanswered));
        }
    }

    /// The connection is gone.
    pub fn clear(&mut self) {
        std::mem::take(&mut self.flights)
            .into_values()
            .for_each(|job| job.done.send(Err(Failure::Unanswered)));
        std::mem::take(&mut self.waiting).into_values().for_each(|job| job.done.send(Err(Failure::NotBound)));
        (self.held, self.next, self.pause) = (None, None, Duration::ZERO);
    }

    /// How many wait, and how many are unanswered.
    pub fn len(&self) -> (usize, usize) {
        (self.waiting.len(), self.flights.len())
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "an Instant can only be had from the clock")]
mod tests {
    use super::*;

    fn job(now: Instant) -> (Job, oneshot::Receiver<Accepted>) {
        let (done, wait) = oneshot::channel();
        (Job { message: Outgoing::default(), until: now + Duration::from_secs(20), done }, wait)
    }

    fn result(wait: oneshot::Receiver<Accepted>) -> Option<Accepted> {
        use futures_util::FutureExt;
        wait.now_or_never().flatten()
    }

    #[test]
    fn a_throttled_message_goes_again_before_those_behind_it() {
        let now = Instant::now();
        let mut q = Queue::default();
        let (first, wait) = job(now);
        q.push(first, 10);
        q.push(job(now).0, 10);
        let Turn::Send(serial, j) = q.next(now, 0) else { panic!() };
        q.sent(serial, j);
        assert!(q.answered(now, serial, Status::THROTTLED, b""));
        assert!(matches!(q.next(now, 0), Turn::At(at) if at == now + FIRST_PAUSE));
        let later = now + FIRST_PAUSE;
        let Turn::Send(again, j) = q.next(later, 0) else { panic!() };
        assert_eq!(again, serial);
        q.sent(again, j);
        assert!(q.answered(later, again, Status::MSGQFUL, b""));
        assert!(matches!(q.next(later, 0), Turn::At(at) if at == later + 2 * FIRST_PAUSE));
        let later = later + 2 * FIRST_PAUSE;
        let Turn::Send(again, j) = q.next(later, 0) else { panic!() };
        q.sent(again, j);
        q.answered(later, again, Status::OK, b"77");
        assert_eq!(result(wait), Some(Ok(b"77".to_vec())));
    }

    #[test]
    fn the_rate_is_kept() {
        let now = Instant::now();
        let mut q = Queue::default();
        (0..30).for_each(|_| q.push(job(now).0, 100));
        let mut sent = 0;
        for ms in 0..1000 {
            while let Turn::Send(serial, j) = q.next(now + Duration::from_millis(ms), 10) {
                q.sent(serial, j);
                sent += 1;
            }
        }
        assert!((10..=11).contains(&sent), "{sent}");
    }

    #[test]
    fn what_is_too_much_too_late_or_lost_is_said() {
        let now = Instant::now();
        let mut q = Queue::default();
        let (a, wait_a) = job(now);
        let (b, wait_b) = job(now);
        q.push(a, 1);
        q.push(b, 1);
        assert_eq!(result(wait_b), Some(Err(Failure::Full)));
        assert!(matches!(q.next(now + Duration::from_secs(21), 0), Turn::Idle));
        assert_eq!(result(wait_a), Some(Err(Failure::Late)));
        let (c, wait_c) = job(now);
        let (d, wait_d) = job(now);
        q.push(c, 9);
        q.push(d, 9);
        let Turn::Send(serial, j) = q.next(now, 0) else { panic!() };
        q.sent(serial, j);
        q.clear();
        assert_eq!(result(wait_c), Some(Err(Failure::Unanswered)));
        assert_eq!(result(wait_d), Some(Err(Failure::NotBound)));
    }
}
