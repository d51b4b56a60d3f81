//! Whether a worker gets more than it can do: what waits for it stays much for a while.
//!
//! What counts is the fuller of two: how full the queues are, and how long what waits in the sockets will take at the pace of the
//! last moments. The second keeps a large receive buffer from turning into seconds of delay. A burst fills a queue and is worked
//! off; only what is still [`LONG`] after [`PATIENCE`] means overload. Once that has been seen, the next time is believed at once,
//! so that the queue swings between [`SHORT`] and [`LONG`]. All of that is one episode until nothing was refused for [`MEMORY`].
//! During an episode little is let wait: what belongs to calls in progress then comes soon, and finds room.

use std::time::{Duration, Instant};

/// How long a queue may be long before it means something.
const PATIENCE: Duration = Duration::from_millis(300);
/// How long an overload is remembered.
const MEMORY: Duration = Duration::from_secs(5);
/// Level from which a queue is long.
const LONG: u32 = 50;
/// Level below which it is short again.
const SHORT: u32 = 25;

/// How long messages may wait during an episode, if that is not less than [`AHEAD`] of them take.
const BRIEF: Duration = Duration::from_millis(2);
/// Messages that a worker must find waiting, or it would stand idle at times.
const AHEAD: u64 = 128;

/// The judgement of one worker.
#[derive(Debug, Default)]
pub(crate) struct Overload {
    long_since: Option<Instant>,
    refused_at: Option<Instant>,
    refusing: bool,
    episode: bool,
}

impl Overload {
    /// Whether new work should be refused now.
    pub fn refusing(&self) -> bool {
        self.refusing
    }

    /// The level (percent) of a wait, when `usual` is what is long without an episode.
    pub fn level_of(&self, wait: Duration, usual: Duration, pace: &Pace) -> u32 {
        let long = if self.episode { usual.min(BRIEF.max(pace.time_of(AHEAD))) } else { usual };
        (wait.as_micros() * u128::from(LONG) / long.as_micros().max(1)).min(1000) as u32
    }

    /// The queues were measured (percent), or were read to their end (0).
    pub fn measured(&mut self, level: u32, now: Instant) {
        if level < SHORT {
            self.long_since = None;
            self.refusing = false;
        } else if level >= LONG {
            let since = *self.long_since.get_or_insert(now);
            let known = self.refused_at.is_some_and(|at| now.duration_since(at) < MEMORY);
            self.refusing |= known || now.duration_since(since) >= PATIENCE;
        }
        if self.refusing {
            self.refused_at = Some(now);
        }
    }

    /// An episode has begun (`true`) or ended since this was asked last.
    pub fn turn(&mut self, now: Instant) -> Option<bool> {
        let lasts = self.refusing || self.deadline().is_some_and(|end| now < end);
        let changed = lasts != self.episode;
        self.episode = lasts;
        changed.then_some(lasts)
    }

    /// When the episode ends if nothing is refused any more.
    pub fn deadline(&self) -> Option<Instant> {
        let at = self.refused_at.filter(|_| self.episode)?;
        Some(at + MEMORY)
    }
}

/// How fast a worker works off its sockets, in bytes as the kernel accounts for them, while they have something for it.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// The last look: when, and the worker's datagrams and bytes so far.
    last: Option<(Instant, u64, u64)>,
    bytes_per_second: u64,
    /// Bytes of a datagram of late.
    footprint: u64,
}

impl Pace {
    /// The sockets still have something; so much was received so far.
    pub fn busy(&mut self, now: Instant, datagrams: u64, bytes: u64) {
        if let Some((at, old_datagrams, old_bytes)) = self.last.replace((now, datagrams, bytes)) {
            let (datagrams, bytes) = (datagrams.wrapping_sub(old_datagrams), bytes.wrapping_sub(old_bytes));
            let micros = now.duration_since(at).as_micros() as u64;
            if datagrams > 0 && micros > 0 {
                self.footprint = footprint(bytes / datagrams);
                let rate = datagrams.saturating_mul(self.footprint) * 1_000_000 / micros;
                self.bytes_per_second = match self.bytes_per_second {
                    0 => rate,
                    old => (3 * old + rate) / 4,
                };
            }
        }
    }

    /// Whether the sockets had something at the last look.
    pub fn is_busy(&self) -> bool {
        self.last.is_some()
    }

    /// The sockets have been read to their end: the time that follows says nothing.
    pub fn idle(&mut self) {
        self.last = None;
    }

    /// How long so many datagrams take.
    fn time_of(&self, datagrams: u64) -> Duration {
        self.wait(datagrams * self.footprint)
    }

    /// How long so many bytes in the sockets will take; nothing before that is known.
    pub fn wait(&self, queued: u64) -> Duration {
        if self.bytes_per_second == 0 {
            return Duration::ZERO;
        }
        Duration::from_micros(queued.saturating_mul(1_000_000) / self.bytes_per_second)
    }
}

/// What the kernel accounts for a datagram of so many bytes: its memory comes in powers of two, with some for itself.
fn footprint(len: u64) -> u64 {
    (len.min(1 << 20) + 384).next_power_of_two() + 256
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker that does a message in 10 µs and a refusal in 2 µs, with room for 6,553 messages, in steps of half a millisecond.
    struct Sim {
        start: Instant,
        overload: Overload,
        pace: Pace,
        micros: u64,
        queue: u64,
        taken: u64,
        done: u64,
        lost: u64,
    }

    impl Sim {
        const ROOM: u64 = 6_553;

        fn new() -> Sim {
            let (overload, pace) = Default::default();
            Sim { start: Instant::now(), overload, pace, micros: 0, queue: 0, taken: 0, done: 0, lost: 0 }
        }

        /// So many messages a millisecond for so long; a worker that is held does nothing.
        fn run(&mut self, per_ms: u64, ms: u64, held: bool) {
            for _ in 0..ms * 2 {
                self.micros += 500;
                self.queue += per_ms / 2;
                self.lost += self.queue.saturating_sub(Self::ROOM);
                self.queue = self.queue.min(Self::ROOM);
                if !held {
                    self.step();
                }
            }
        }

        fn step(&mut self) {
            let refusing = self.overload.refusing();
            let n = self.queue.min(if refusing { 250 } else { 50 });
            self.queue -= n;
            self.taken += n;
            self.done += if refusing { 0 } else { n };
            let now = self.start + Duration::from_micros(self.micros);
            if self.queue == 0 {
                self.pace.idle();
                self.overload.measured(0, now);
            } else {
                self.pace.busy(now, self.taken, self.taken * 600);
                let wait = self.pace.wait(self.queue * footprint(600));
                let waits = self.overload.level_of(wait, Duration::from_millis(150), &self.pace);
                self.overload.measured(waits.max((self.queue * 100 / Self::ROOM) as u32), now);
            }
            self.overload.turn(now);
        }
    }

    #[test]
    fn what_piled_up_while_a_worker_was_held_is_not_refused() {
        let mut sim = Sim::new();
        for held in [100, 400, 1_000] {
            sim.run(50, 500, false);
            sim.run(50, held, true);
            sim.run(50, 500, false);
        }
        assert_eq!(sim.done, sim.taken);
        assert_eq!(sim.queue, 0);
    }

    #[test]
    fn at_twice_what_can_be_done_little_waits_and_no_more_is_refused_than_must_be() {
        let mut sim = Sim::new();
        sim.run(200, 1_000, false);
        let (done, lost) = (sim.done, sim.lost);
        let mut longest = 0;
        for _ in 0..1_000 {
            sim.run(200, 1, false);
            longest = longest.max(sim.queue);
        }
        // A refusal costs a fifth here, so that three quarters of the work can be done.
        assert!(sim.done - done > 70_000, "{} done", sim.done - done);
        assert_eq!(sim.lost, lost, "the queue overflows no more");
        assert!(longest < Sim::ROOM / 4, "{longest} waited");
        // It ends with the flood.
        sim.run(50, 20, false);
        let (done, taken) = (sim.done, sim.taken);
        sim.run(50, 1_000, false);
        assert_eq!(sim.done - done, sim.taken - taken);
    }

    #[test]
    fn a_burst_is_let_in_and_a_lasting_queue_is_not() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut o = Overload::default();
        for (ms, level, refusing) in [
            (0, 90, false),
            (299, 90, false),
            (300, 0, false),
            (400, 60, false),
            (600, 40, false),
            (700, 60, true),
            (701, 30, true),
            (702, 24, false),
            (710, 49, false),
            (711, 50, true),
            (712, 0, false),
            (6_000, 80, false),
        ] {
            o.measured(level, at(ms));
            assert_eq!(o.refusing(), refusing, "{ms} ms, {level} %");
        }
    }

    #[test]
    fn an_episode_lasts_until_nothing_was_refused_for_a_while() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut o = Overload::default();
        let mut seen = Vec::new();
        for (ms, level) in
            [(0, 80), (300, 80), (310, 0), (900, 80), (910, 0), (5_800, 0), (5_905, 0), (6_000, 0)]
        {
            o.measured(level, at(ms));
            seen.extend(o.turn(at(ms)).map(|begins| (ms, begins)));
        }
        // The last refusal was at 900 ms.
        assert_eq!(seen, [(300, true), (5_905, false)]);
        assert_eq!(o.deadline(), None);
    }

    #[test]
    fn during_an_episode_little_is_let_wait_but_never_less_than_keeps_a_worker_busy() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let usual = Duration::from_millis(150);
        let mut pace = Pace::default();
        pace.busy(at(0), 0, 0);
        pace.busy(at(1_000), 200_000, 120_000_000);
        let mut o = Overload::default();
        assert_eq!(o.level_of(Duration::from_millis(15), usual, &pace), 5);
        o.measured(100, at(0));
        o.measured(100, at(300));
        assert_eq!(o.turn(at(300)), Some(true));
        assert_eq!(o.level_of(Duration::from_millis(2), usual, &pace), LONG);
        // A slow script: 128 messages take 32 ms.
        let mut slow = Pace::default();
        slow.busy(at(0), 0, 0);
        slow.busy(at(1_000), 4_000, 2_400_000);
        assert_eq!(o.level_of(Duration::from_millis(16), usual, &slow), LONG / 2);
    }

    #[test]
    fn the_wait_follows_from_the_pace_while_there_is_work() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut p = Pace::default();
        assert_eq!(p.wait(1_000_000), Duration::ZERO);
        // A thousand datagrams of 600 bytes in a second: 1,280 bytes each for the kernel.
        p.busy(at(0), 0, 0);
        p.busy(at(1_000), 1_000, 600_000);
        assert_eq!(p.wait(128_000), Duration::from_millis(100));
        // An hour without work does not make it slow.
        p.idle();
        p.busy(at(3_600_000), 1_000, 600_000);
        p.busy(at(3_601_000), 2_000, 1_200_000);
        assert_eq!(p.wait(128_000), Duration::from_millis(100));
    }
}
