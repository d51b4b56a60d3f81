//! SIP users who want to be told of the end of what they sent (RFC 5438), until the receipts come.
//!
//! It is in memory only, and the oldest are forgotten when there are too many; the SMS centre keeps it with its messages.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use switchroom_wire::smpp::MessageState;

use crate::imdn::Asked;
use crate::link::ids::{forms, normal};

/// Messages whose receipts are waited for.
const MOST: usize = 100_000;

/// Everybody who waits.
#[derive(Default)]
pub(super) struct Waiting {
    by_id: HashMap<(String, String), Arc<Text>>,
    order: VecDeque<(String, String)>,
}

/// One text, of one or more messages.
pub(super) struct Text {
    /// Who, and about what.
    pub asked: Asked,
    /// Messages that have not ended, and whether one failed.
    left: Mutex<(usize, bool)>,
}

impl Waiting {
    /// A text was accepted by this connection under these names, one for each part.
    pub fn add(&mut self, connection: &str, ids: &[String], asked: Asked) {
        let text = Arc::new(Text { asked, left: Mutex::new((ids.len(), false)) });
        for id in ids {
            let key = (connection.to_owned(), normal(id));
            if self.order.len() >= MOST
                && let Some(oldest) = self.order.pop_front()
            {
                self.by_id.remove(&oldest);
            }
            self.order.push_back(key.clone());
            self.by_id.insert(key, text.clone());
        }
    }

    /// The text that a receipt is about; final ones are forgotten with this.
    pub fn find(&mut self, connection: &str, id: &str, last: bool) -> Option<Arc<Text>> {
        let keys = forms(id).into_iter().map(|form| (connection.to_owned(), form));
        let key = keys.into_iter().find(|key| self.by_id.contains_key(key))?;
        match last {
            true => self.by_id.remove(&key),
            false => self.by_id.get(&key).cloned(),
        }
    }
}

impl Text {
    /// A part has ended. Whether its sender is to be told, and what: `Some(true)` when all parts were delivered,
    /// `Some(false)` when the first one failed.
    pub fn ended(&self, state: MessageState) -> Option<bool> {
        let success = matches!(state, MessageState::Delivered | MessageState::Accepted);
        let mut left = self.left.lock();
        left.0 = left.0.saturating_sub(1);
        let first_failure = !success && !left.1;
        left.1 |= !success;
        if first_failure {
            return Some(false);
        }
        (left.0 == 0 && !left.1).then_some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_in_parts_is_told_of_once() {
        let mut waiting = Waiting::default();
        let ids = ["0A".to_owned(), "0b".to_owned(), "0C".to_owned()];
        waiting.add("up", &ids, Asked::default());
        assert!(waiting.find("other", "0A", true).is_none());
        assert_eq!(waiting.find("up", "10", true).unwrap().ended(MessageState::Delivered), None);
        assert!(waiting.find("up", "10", true).is_none());
        let (b, c) = (waiting.find("up", "B", true).unwrap(), waiting.find("up", "c", true).unwrap());
        assert_eq!(b.ended(MessageState::Delivered), None);
        assert_eq!(c.ended(MessageState::Delivered), Some(true));
        waiting.add("up", &ids[..2], Asked::default());
        let (a, b) = (waiting.find("up", "a", true).unwrap(), waiting.find("up", "b", true).unwrap());
        assert_eq!(a.ended(MessageState::Undeliverable), Some(false));
        assert_eq!(b.ended(MessageState::Expired), None);
    }
}
