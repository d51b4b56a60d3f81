//! The table `smpp_report`: who waits for a receipt or for what a phone says, so that a restart forgets nobody.
//!
//! Rows are written before the one who asked is told that his message was accepted. A database without the table keeps
//! them in memory only.

use switchroom_kernel::ports::store::{Query, SqlValue, Store, StoreError};

/// Rows read at start, and kept for each kind.
pub(super) const MOST: usize = 100_000;

/// What a row stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A SIP user waits for the receipts of a text; `state` is 1 when a part has failed.
    User = 0,
    /// An application waits for a phone; `state` is the `message_state` that the phone has caused, 0 before.
    Application = 1,
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub kind: Kind,
    pub connection: String,
    /// What the receipt or the notification will name.
    pub name: String,
    /// Parts of one text have the same.
    pub letter: i64,
    pub state: i64,
    /// When it was accepted, unix seconds.
    pub moment: i64,
    pub content: Vec<u8>,
}

impl Kept {
    /// Writes it.
    pub fn insert(&self) -> Query {
        let sql = "INSERT INTO smpp_report (kind, connection, name, letter, state, moment, content) VALUES (?, ?, ?, ?, ?, ?, ?)";
        let args = vec![
            SqlValue::Int(self.kind as i64),
            self.connection.as_str().into(),
            self.name.as_str().into(),
            self.letter.into(),
            self.state.into(),
            self.moment.into(),
            SqlValue::Blob(self.content.clone()),
        ];
        Query::new(sql, args)
    }
}

/// Nobody waits under this name any more.
pub(super) fn forget(kind: Kind, connection: &str, name: &str) -> Query {
    let sql = "DELETE FROM smpp_report WHERE kind = ? AND connection = ? AND name = ?";
    Query::new(sql, vec![SqlValue::Int(kind as i64), connection.into(), name.into()])
}

/// The state of all parts of a text.
pub(super) fn mark(kind: Kind, connection: &str, letter: i64, state: i64) -> Query {
    let sql = "UPDATE smpp_report SET state = ? WHERE kind = ? AND connection = ? AND letter = ?";
    Query::new(sql, vec![state.into(), SqlValue::Int(kind as i64), connection.into(), letter.into()])
}

/// What a phone has said, when its application could not be told.
pub(super) fn tell(connection: &str, name: &str, state: i64) -> Query {
    let sql = "UPDATE smpp_report SET state = ? WHERE kind = ? AND connection = ? AND name = ?";
    let kind = SqlValue::Int(Kind::Application as i64);
    Query::new(sql, vec![state.into(), kind, connection.into(), name.into()])
}

/// Who waited when the process ended, in the order in which they came.
pub(super) async fn waiting(store: &dyn Store) -> Result<Vec<Kept>, StoreError> {
    let sql =
        "SELECT kind, connection, name, letter, state, moment, content FROM smpp_report ORDER BY id LIMIT ?";
    let rows = store.fetch(Query::new(sql, vec![SqlValue::Int(2 * MOST as i64)])).await?;
    Ok(rows.rows.iter().filter_map(|row| read(row)).collect())
}

fn read(row: &[SqlValue]) -> Option<Kept> {
    let int = |i: usize| row.get(i).and_then(SqlValue::to_int);
    let text = |i: usize| row.get(i).and_then(SqlValue::to_text).map(|t| t.trim_end().to_owned());
    let kind = match int(0)? {
        0 => Kind::User,
        1 => Kind::Application,
        _ => return None,
    };
    let Some(SqlValue::Blob(content)) = row.get(6) else { return None };
    Some(Kept {
        kind,
        connection: text(1)?,
        name: text(2)?,
        letter: int(3)?,
        state: int(4)?,
        moment: int(5)?,
        content: content.clone(),
    })
}

/// Fields one behind the other, each with its length.
pub(super) fn pack<'a>(fields: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    for field in fields {
        out.extend_from_slice(&(field.len() as u32).to_be_bytes());
        out.extend_from_slice(field);
    }
    out
}

/// The fields again; `None` when they are broken.
pub(super) fn unpack(mut content: &[u8]) -> Option<Vec<&[u8]>> {
    let mut fields = Vec::new();
    while !content.is_empty() {
        let (length, after) = content.split_first_chunk::<4>()?;
        let (field, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        fields.push(field);
        content = after;
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_they_were_written_and_broken_ones_are_not() {
        let packed = pack([&b"one"[..], b"", b"three"]);
        assert_eq!(unpack(&packed).unwrap(), [&b"one"[..], b"", b"three"]);
        assert_eq!(unpack(&packed[..packed.len() - 1]), None);
        assert_eq!(unpack(&[0, 0, 0]), None);
        assert_eq!(unpack(&[]), Some(Vec::new()));
    }
}
