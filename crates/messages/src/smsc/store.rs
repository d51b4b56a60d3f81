//! The table of messages: changes as statements, many rows in one where that is possible, and reading back at start.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use switchroom_kernel::ports::store::{Query, SqlValue, Store, StoreError};
use switchroom_wire::smpp::MessageState;

use super::message::{Addr, Message, Nature, Unpacked, unpack};

/// What happened to a message.
#[derive(Clone, Debug)]
pub enum Change {
    /// It was accepted.
    Insert(Vec<SqlValue>),
    /// An attempt begins.
    UnderWay(u64),
    /// It is tried again.
    Postpone { id: u64, due: i64, attempts: u32, error: u32 },
    /// The next SMS centre has it.
    Away { id: u64, remote_id: String },
    /// It goes to another destination.
    Redirect { id: u64, target: Arc<str>, due: i64, attempts: u32, error: u32, content: Vec<u8> },
    /// It was replaced or scheduled anew.
    Replace { id: u64, due: i64, expires: i64, content: Vec<u8> },
    /// It has come to its end.
    Done { id: u64, state: MessageState, error: u32, done: i64 },
}

impl Change {
    /// A new row.
    pub fn insert(m: &Message) -> Change {
        Change::Insert(vec![
            SqlValue::Int(m.id as i64),
            SqlValue::Int(i64::from(m.nature == Nature::Receipt)),
            (&*m.account).into(),
            (&*m.target).into(),
            SqlValue::Int(m.state as i64),
            SqlValue::Int(i64::from(m.under_way)),
            m.submitted.into(),
            m.due.into(),
            m.expires.into(),
            m.price.into(),
            address(&m.source),
            address(&m.destination),
            SqlValue::Blob(m.pack()),
        ])
    }
}

/// An address as its column takes it: for people who look, the content has it whole.
fn address(addr: &Addr) -> SqlValue {
    let text: String = addr.text().chars().filter(|c| *c != '\0').take(64).collect();
    text.into()
}

const COLUMNS: usize = 13;
/// Rows in one statement. Few sizes, so that drivers keep them prepared.
const CHUNKS: [usize; 3] = [64, 8, 1];

static INSERTS: LazyLock<[Arc<str>; 3]> = LazyLock::new(|| {
    CHUNKS.map(|rows| {
        let row = format!("({})", vec!["?"; COLUMNS].join(", "));
        format!(
            "INSERT INTO sms_message (id, nature, account, target, state, under_way, submitted, due, expires, price, source, destination, content) VALUES {}",
            vec![row; rows].join(", ")
        )
        .into()
    })
});

static DONE: LazyLock<[Arc<str>; 3]> = LazyLock::new(|| {
    CHUNKS.map(|rows| {
        let ids = vec!["?"; rows].join(", ");
        format!("UPDATE sms_message SET state = ?, error = ?, done = ?, under_way = 0 WHERE id IN ({ids})")
            .into()
    })
});

static UNDER_WAY: LazyLock<[Arc<str>; 3]> = LazyLock::new(|| {
    CHUNKS.map(|rows| {
        let ids = vec!["?"; rows].join(", ");
        format!("UPDATE sms_message SET under_way = 1 WHERE id IN ({ids})").into()
    })
});

static POSTPONE: LazyLock<Arc<str>> = LazyLock::new(|| {
    "UPDATE sms_message SET due = ?, attempts = ?, error = ?, under_way = 0 WHERE id = ?".into()
});
static AWAY: LazyLock<Arc<str>> =
    LazyLock::new(|| "UPDATE sms_message SET remote_id = ?, under_way = 0 WHERE id = ?".into());
static REDIRECT: LazyLock<Arc<str>> = LazyLock::new(|| {
    "UPDATE sms_message SET target = ?, due = ?, attempts = ?, error = ?, content = ?, remote_id = NULL, under_way = 0 WHERE id = ?".into()
});
static REPLACE: LazyLock<Arc<str>> =
    LazyLock::new(|| "UPDATE sms_message SET due = ?, expires = ?, content = ? WHERE id = ?".into());

/// What writes the changes: first what is new, last what has ended; between them in the order given.
pub fn statements<'a>(changes: impl Iterator<Item = &'a Change>) -> Vec<Query> {
    let (mut inserts, mut middle, mut under_way) = (Vec::new(), Vec::new(), Vec::new());
    let mut done: BTreeMap<(i64, i64, i64), Vec<i64>> = BTreeMap::new();
    for change in changes {
        match change {
            Change::Insert(row) => inserts.push(row),
            Change::UnderWay(id) => under_way.push(*id as i64),
            Change::Postpone { id, due, attempts, error } => middle.push(Query::new(
                POSTPONE.clone(),
                vec![
                    (*due).into(),
                    i64::from(*attempts).into(),
                    i64::from(*error).into(),
                    (*id as i64).into(),
                ],
            )),
            Change::Away { id, remote_id } => {
                middle.push(Query::new(AWAY.clone(), vec![remote_id.as_str().into(), (*id as i64).into()]))
            }
            Change::Redirect { id, target, due, attempts, error, content } => middle.push(Query::new(
                REDIRECT.clone(),
                vec![
                    (&**target).into(),
                    (*due).into(),
                    i64::from(*attempts).into(),
                    i64::from(*error).into(),
                    SqlValue::Blob(content.clone()),
                    (*id as i64).into(),
                ],
            )),
            Change::Replace { id, due, expires, content } => middle.push(Query::new(
                REPLACE.clone(),
                vec![(*due).into(), (*expires).into(), SqlValue::Blob(content.clone()), (*id as i64).into()],
            )),
            Change::Done { id, state, error, done: at } => {
                done.entry((*state as i64, i64::from(*error), *at)).or_default().push(*id as i64);
            }
        }
    }
    let mut queries = Vec::new();
    let mut rest = &inserts[..];
    for (size, sql) in CHUNKS.into_iter().zip(INSERTS.iter()) {
        while let Some((now, later)) = rest.split_at_checked(size) {
            rest = later;
            queries.push(Query::new(sql.clone(), now.iter().flat_map(|row| row.iter().cloned()).collect()));
        }
    }
    by_ids(&mut queries, &UNDER_WAY, &[], &under_way);
    queries.extend(middle);
    for ((state, error, at), ids) in done {
        by_ids(&mut queries, &DONE, &[state, error, at], &ids);
    }
    queries
}

fn by_ids(queries: &mut Vec<Query>, sql: &[Arc<str>; 3], first: &[i64], ids: &[i64]) {
    let mut rest = ids;
    for (size, sql) in CHUNKS.into_iter().zip(sql) {
        while let Some((now, later)) = rest.split_at_checked(size) {
            rest = later;
            let args = first.iter().chain(now).map(|n| SqlValue::Int(*n)).collect();
            queries.push(Query::new(sql.clone(), args));
        }
    }
}

/// A row of the table that has come to its end, or not.
pub struct Found {
    /// The message; its content is what was accepted.
    pub message: Message,
    /// When it ended, unix seconds; 0 before.
    pub done: i64,
}

const FIELDS: &str = "id, nature, account, target, state, under_way, submitted, due, expires, price, attempts, error, remote_id, done, content";

/// Up to `most` messages that have not ended, after the number `after`.
pub async fn waiting(store: &dyn Store, after: u64, most: i64) -> Result<Vec<Message>, StoreError> {
    let sql = format!("SELECT {FIELDS} FROM sms_message WHERE done = 0 AND id > ? ORDER BY id LIMIT ?");
    let rows = store.fetch(Query::new(sql, vec![(after as i64).into(), most.into()])).await?;
    Ok(rows.rows.iter().filter_map(|r| read(r)).map(|f| f.message).collect())
}

/// One message, whether it has ended or not.
pub async fn find(store: &dyn Store, id: u64) -> Result<Option<Found>, StoreError> {
    let sql = format!("SELECT {FIELDS} FROM sms_message WHERE id = ?");
    let rows = store.fetch(Query::new(sql, vec![(id as i64).into()])).await?;
    Ok(rows.rows.first().and_then(|r| read(r)))
}

/// Messages and receipts for a destination, the newest first: those that have not ended, or those that failed.
pub async fn of_target(
    store: &dyn Store,
    target: &str,
    failed: bool,
    most: i64,
) -> Result<Vec<Found>, StoreError> {
    let which = match failed {
        false => "done = 0",
        true => "done > 0 AND state NOT IN (2, 4, 6)",
    };
    let sql =
        format!("SELECT {FIELDS} FROM sms_message WHERE {which} AND target = ? ORDER BY id DESC LIMIT ?");
    let rows = store.fetch(Query::new(sql, vec![target.into(), most.into()])).await?;
    Ok(rows.rows.iter().filter_map(|r| read(r)).collect())
}

/// The highest number given out.
pub async fn last_id(store: &dyn Store) -> Result<u64, StoreError> {
    let rows = store.fetch(Query::new("SELECT MAX(id) FROM sms_message", Vec::new())).await?;
    Ok(rows.rows.first().and_then(|r| r.first()).and_then(SqlValue::to_int).unwrap_or(0) as u64)
}

/// Deletes what ended before.
pub async fn forget(store: &dyn Store, before: i64) -> Result<u64, StoreError> {
    let sql = "DELETE FROM sms_message WHERE done > 0 AND done < ?";
    store.execute(Query::new(sql, vec![before.into()])).await
}

fn read(row: &[SqlValue]) -> Option<Found> {
    let int = |i: usize| row.get(i).and_then(SqlValue::to_int);
    let text = |i: usize| row.get(i).and_then(SqlValue::to_text).map(|t| t.trim_end().to_owned());
    let content = match row.get(14)? {
        SqlValue::Blob(octets) => unpack(octets),
        _ => None,
    };
    let id = int(0)? as u64;
    let Some(Unpacked { source, destination, content, further, asked }) = content else {
        tracing::error!("smsc: the row of message {id} in sms_message is broken and is left out");
        return None;
    };
    let message = Message {
        id,
        nature: if int(1)? == 0 { Nature::Message } else { Nature::Receipt },
        account: text(2)?.into(),
        target: text(3)?.into(),
        source,
        destination,
        content,
        submitted: int(6)?,
        due: int(7)?,
        expires: int(8)?,
        attempts: int(10)? as u32,
        under_way: int(5)? != 0,
        price: int(9)?,
        state: u8::try_from(int(4)?).ok().and_then(MessageState::from_number)?,
        remote_id: text(12).filter(|t| !t.is_empty()).map(Into::into),
        error: int(11)? as u32,
        further,
        asked,
    };
    Some(Found { message, done: int(13)? })
}
