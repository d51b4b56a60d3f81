//! Whether a server can be reached, and when the next attempt is due.

use std::time::Duration;

use parking_lot::Mutex;
use switchroom_kernel::ports::store::StoreError;
use tokio::time::Instant;

/// The first pause; it doubles with every failure.
const FIRST: Duration = Duration::from_millis(200);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(5);

/// Shared by all connections of a store.
pub struct Health {
    name: String,
    down: Mutex<Option<Down>>,
}

struct Down {
    since: Instant,
    next: Instant,
    pause: Duration,
    why: String,
}

impl Health {
    /// A server that was not called yet; `name` stands in the log.
    pub fn new(name: String) -> Health {
        Health { name, down: Mutex::new(None) }
    }

    pub fn is_up(&self) -> bool {
        self.down.lock().is_none()
    }

    /// An error while the server is left alone. When an attempt is due, the caller is the one to make it and the others
    /// keep waiting.
    pub fn may_connect(&self) -> Result<(), StoreError> {
        let mut down = self.down.lock();
        let Some(down) = &mut *down else { return Ok(()) };
        let now = Instant::now();
        if now >= down.next {
            down.next = now + down.pause;
            return Ok(());
        }
        let seconds = down.since.elapsed().as_secs();
        Err(StoreError::Unreachable(format!("{} since {seconds} s: {}", self.name, down.why)))
    }

    /// A connection stands.
    pub fn connected(&self) {
        if let Some(down) = self.down.lock().take() {
            tracing::warn!("database {}: answers again after {:?}", self.name, down.since.elapsed());
        }
    }

    /// No connection could be made.
    pub fn failed(&self, why: &StoreError) {
        let now = Instant::now();
        let mut down = self.down.lock();
        match &mut *down {
            Some(down) => {
                down.pause = (down.pause * 2).min(LONGEST);
                down.next = now + down.pause;
                down.why = why.to_string();
            }
            none => {
                tracing::error!("database {}: {why}", self.name);
                *none = Some(Down { since: now, next: now + FIRST, pause: FIRST, why: why.to_string() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_one_attempt_at_a_time_is_let_through() {
        let health = Health::new("mysql://h/d".to_owned());
        assert!(health.may_connect().is_ok() && health.is_up());
        let why = StoreError::Unreachable("refused".to_owned());
        health.failed(&why);
        let refused = health.may_connect().unwrap_err().to_string();
        assert!(refused.contains("mysql://h/d") && refused.contains("refused"), "{refused}");
        for pause in [200, 400, 800, 1600, 3200, 5000, 5000] {
            tokio::time::advance(Duration::from_millis(pause - 1)).await;
            assert!(health.may_connect().is_err(), "{pause}");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(health.may_connect().is_ok(), "{pause}");
            assert!(health.may_connect().is_err(), "one attempt only");
            health.failed(&why);
        }
        health.connected();
        assert!(health.may_connect().is_ok() && health.is_up());
    }
}
