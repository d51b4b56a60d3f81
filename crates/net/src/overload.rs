//! Whether a worker gets more than it can do: its receive queue stays long for a while.
//!
//! A burst fills the queue and is worked off; only a queue that is still half full after [`PATIENCE`] means overload. Once that
//! has been seen, the next time is believed at once, so that the queue swings between a quarter and a half.

use std::time::{Duration, Instant};

/// How long a queue may be long before it means something.
const PATIENCE: Duration = Duration::from_millis(300);
/// How long an overload is remembered.
const MEMORY: Duration = Duration::from_secs(5);
/// Percent of the queue from which it is long.
const LONG: u32 = 50;
/// Percent below which it is short again.
const SHORT: u32 = 25;

/// The judgement of one worker.
#[derive(Debug, Default)]
pub(crate) struct Overload {
    long_since: Option<Instant>,
    refused_at: Option<Instant>,
    refusing: bool,
}

impl Overload {
    /// Whether new work should be refused now.
    pub fn refusing(&self) -> bool {
        self.refusing
    }

    /// The queue was measured, or was read to its end (0).
    pub fn measured(&mut self, percent: u32, now: Instant) {
        if percent < SHORT {
            self.long_since = None;
            self.refusing = false;
        } else if percent >= LONG {
            let since = *self.long_since.get_or_insert(now);
            let known = self.refused_at.is_some_and(|at| now.duration_since(at) < MEMORY);
            self.refusing |= known || now.duration_since(since) >= PATIENCE;
        }
        if self.refusing {
            self.refused_at = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_let_in_and_a_lasting_queue_is_not() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut o = Overload::default();
        for (ms, percent, refusing) in [
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
            o.measured(percent, at(ms));
            assert_eq!(o.refusing(), refusing, "{ms} ms, {percent} %");
        }
    }
}
