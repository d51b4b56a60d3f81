//! SIP users who want to be told of the end of what they sent (RFC 5438), until the receipts come.
//!
//! The oldest are forgotten when there are too many. The rows of the table that go with them are in `kept`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use switchroom_kernel::ports::store::Query;
use switchroom_wire::smpp::MessageState;

use super::gateway::Gateway;
use super::kept::{self, Kept, Kind, MOST};
use crate::imdn::Asked;
use crate::link::ids::{forms, normal};

/// Connection, and its peer's name for a message.
type Name = (String, String);

/// Everybody who waits.
#[derive(Default)]
pub(super) struct Waiting {
    by_id: HashMap<Name, Arc<Text>>,
    order: VecDeque<Name>,
    /// Connections by which texts are being sent, and how many: their receipts may be faster than the names they carry.
    leaving: HashMap<String, usize>,
}

/// A text is being sent, until this is dropped.
pub(super) struct Leaving {
    gateway: Arc<Gateway>,
    connection: String,
}

impl Leaving {
    pub fn by(gateway: &Arc<Gateway>, connection: &str) -> Leaving {
        *gateway.asked.lock().leaving.entry(connection.to_owned()).or_default() += 1;
        Leaving { gateway: gateway.clone(), connection: connection.to_owned() }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let mut waiting = self.gateway.asked.lock();
        if let Some(count) = waiting.leaving.get_mut(&self.connection) {
            *count -= 1;
            if *count == 0 {
                waiting.leaving.remove(&self.connection);
            }
        }
    }
}

/// One text, of one or more messages.
pub(super) struct Text {
    /// Who, and about what.
    pub asked: Asked,
    letter: i64,
    /// Messages that have not ended, and whether one failed.
    left: Mutex<(usize, bool)>,
}

/// A receipt has found its text.
pub(super) struct Found {
    pub text: Arc<Text>,
    name: Name,
    before: (usize, bool),
}

impl Waiting {
    /// Whether a receipt of this connection may be for a text whose name is not known yet.
    pub fn is_leaving(&self, connection: &str) -> bool {
        self.leaving.contains_key(connection)
    }

    /// How many messages are waited for.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// A text was accepted by this connection under these names, one for each part. Gives what is to be written.
    pub fn add(
        &mut self,
        connection: &str,
        ids: &[String],
        asked: Asked,
        letter: i64,
        now: i64,
    ) -> Vec<Query> {
        let content = {
            let fields = [&asked.user, &asked.message_id, &asked.moment, &asked.recipient];
            kept::pack(fields.map(|f| f.as_bytes()))
        };
        let text = Arc::new(Text { asked, letter, left: Mutex::new((ids.len(), false)) });
        let mut queries = Vec::new();
        for id in ids {
            let name = normal(id);
            let row = Kept {
                kind: Kind::User,
                connection: connection.to_owned(),
                name: name.clone(),
                letter,
                state: 0,
                moment: now,
                content: content.clone(),
            };
            // A peer that uses a name again means the new message.
            queries.push(kept::forget(Kind::User, connection, &name));
            queries.push(row.insert());
            queries.extend(self.put((connection.to_owned(), name), text.clone()));
        }
        queries
    }

    fn put(&mut self, name: Name, text: Arc<Text>) -> Option<Query> {
        let mut oldest = None;
        if self.order.len() >= MOST
            && let Some(name) = self.order.pop_front()
            && self.by_id.remove(&name).is_some()
        {
            oldest = Some(kept::forget(Kind::User, &name.0, &name.1));
        }
        self.order.push_back(name.clone());
        self.by_id.insert(name, text);
        oldest
    }

    /// Those who waited when the process ended.
    pub fn restore(&mut self, rows: Vec<Kept>) {
        let mut texts: HashMap<(String, i64), Arc<Text>> = HashMap::new();
        for row in rows {
            let fields: Option<Vec<Box<str>>> = kept::unpack(&row.content).and_then(|fields| {
                fields.iter().map(|f| std::str::from_utf8(f).ok().map(Into::into)).collect()
            });
            let Some([user, message_id, moment, recipient]) = fields.and_then(|f| <[_; 4]>::try_from(f).ok())
            else {
                tracing::error!("proto_smpp: the row {} of smpp_report is broken and is left out", row.name);
                continue;
            };
            let text = texts.entry((row.connection.clone(), row.letter)).or_insert_with(|| {
                let asked = Asked { user, message_id, moment, recipient, parts: 1 };
                Arc::new(Text { asked, letter: row.letter, left: Mutex::default() })
            });
            {
                let mut left = text.left.lock();
                left.0 += 1;
                left.1 |= row.state != 0;
            }
            let text = text.clone();
            self.put((row.connection, row.name), text);
        }
    }

    /// The text that a receipt is about; nobody waits for a final one twice.
    pub fn find(&mut self, connection: &str, id: &str, last: bool) -> Option<Found> {
        let names = forms(id).into_iter().map(|form| (connection.to_owned(), form));
        let name = names.into_iter().find(|name| self.by_id.contains_key(name))?;
        let text = match last {
            true => self.by_id.remove(&name),
            false => self.by_id.get(&name).cloned(),
        }?;
        let before = *text.left.lock();
        Some(Found { text, name, before })
    }

    /// Its user could not be told, and the receipt will come again.
    pub fn again(&mut self, found: Found) {
        *found.text.left.lock() = found.before;
        self.by_id.insert(found.name, found.text);
    }
}

impl Found {
    /// A part has ended. Whether its sender is to be told, and what: `Some(true)` when all parts were delivered,
    /// `Some(false)` when the first one failed.
    pub fn ended(&self, state: MessageState) -> Option<bool> {
        let success = matches!(state, MessageState::Delivered | MessageState::Accepted);
        let mut left = self.text.left.lock();
        left.0 = left.0.saturating_sub(1);
        let first_failure = !success && !left.1;
        left.1 |= !success;
        if first_failure {
            return Some(false);
        }
        (left.0 == 0 && !left.1).then_some(true)
    }

    /// What is to be written when it is done with.
    pub fn done(&self) -> Vec<Query> {
        let (connection, name) = &self.name;
        let mut queries = vec![kept::forget(Kind::User, connection, name)];
        if self.text.left.lock().1 {
            queries.push(kept::mark(Kind::User, connection, self.text.letter, 1));
        }
        queries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> Vec<String> {
        ["0A", "0b", "0C"].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_text_in_parts_is_told_of_once() {
        let mut waiting = Waiting::default();
        assert_eq!(waiting.add("up", &ids(), Asked::default(), 1, 0).len(), 6);
        assert!(waiting.find("other", "0A", true).is_none());
        assert_eq!(waiting.find("up", "10", true).unwrap().ended(MessageState::Delivered), None);
        assert!(waiting.find("up", "10", true).is_none());
        let (b, c) = (waiting.find("up", "B", true).unwrap(), waiting.find("up", "c", true).unwrap());
        assert_eq!(b.ended(MessageState::Delivered), None);
        assert_eq!(c.ended(MessageState::Delivered), Some(true));
        waiting.add("up", &ids()[..2], Asked::default(), 2, 0);
        let (a, b) = (waiting.find("up", "a", true).unwrap(), waiting.find("up", "b", true).unwrap());
        assert_eq!(a.ended(MessageState::Undeliverable), Some(false));
        assert_eq!(a.done().len(), 2, "the others must not be told of again");
        assert_eq!(b.ended(MessageState::Expired), None);
    }

    #[test]
    fn a_user_who_was_not_there_is_told_when_the_receipt_comes_again() {
        let mut waiting = Waiting::default();
        waiting.add("up", &ids()[..1], Asked::default(), 1, 0);
        for _ in 0..2 {
            let found = waiting.find("up", "a", true).unwrap();
            assert_eq!(found.ended(MessageState::Delivered), Some(true));
            waiting.again(found);
        }
        assert_eq!(waiting.len(), 1);
    }

    #[test]
    fn those_who_waited_wait_again_after_a_restart() {
        let row = |name: &str, state| Kept {
            kind: Kind::User,
            connection: "up".into(),
            name: name.into(),
            letter: 7,
            state,
            moment: 0,
            content: kept::pack([&b"sip:a@b"[..], b"d1", b"", b"sip:c@d"]),
        };
        let mut waiting = Waiting::default();
        waiting.restore(vec![row("a", 0), row("b", 0), Kept { content: vec![1], ..row("c", 0) }]);
        assert_eq!(waiting.len(), 2, "broken rows are left out");
        let a = waiting.find("up", "a", true).unwrap();
        assert_eq!((a.ended(MessageState::Delivered), &*a.text.asked.message_id), (None, "d1"));
        let b = waiting.find("up", "b", true).unwrap();
        assert_eq!(b.ended(MessageState::Delivered), Some(true));
        waiting.restore(vec![row("x", 1)]);
        let x = waiting.find("up", "x", true).unwrap();
        assert_eq!(x.ended(MessageState::Undeliverable), None, "he heard of a failure before");
    }
}
