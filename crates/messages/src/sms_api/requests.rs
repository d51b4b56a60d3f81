//! Requests with an idempotency key, in the table `sms_request`: done once, whatever happens to the process or to the answer.
//!
//! The key is written before anything is done. A request that the process did not live to answer stays open: nobody knows
//! how much of it was done, and it is not done again.

use switchroom_kernel::ports::store::{Query, SqlValue, Store, StoreError};

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// It is new, and taken now.
    New,
    /// It was taken and not answered.
    Open,
    /// Status and body.
    Answered(u16, String),
}

/// Takes a key, or says what became of it. `now` in unix seconds.
pub async fn begin(store: &dyn Store, account: &str, key: &str, now: i64) -> Result<Known, StoreError> {
    let sql = "INSERT INTO sms_request (account, request_key, status, moment) VALUES (?, ?, 0, ?)";
    let taken = store.execute(Query::new(sql, vec![account.into(), key.into(), now.into()])).await;
    match taken {
        Ok(_) => return Ok(Known::New),
        Err(StoreError::Constraint(_)) => {}
        Err(e) => return Err(e),
    }
    let sql = "SELECT status, body FROM sms_request WHERE account = ? AND request_key = ?";
    let rows = store.fetch(Query::new(sql, vec![account.into(), key.into()])).await?;
    let Some(row) = rows.rows.first() else { return Ok(Known::Open) };
    let status = row.first().and_then(SqlValue::to_int).and_then(|s| u16::try_from(s).ok()).unwrap_or(0);
    let body = match row.get(1) {
        Some(SqlValue::Blob(octets)) => String::from_utf8_lossy(octets).into_owned(),
        other => other.and_then(SqlValue::to_text).unwrap_or_default(),
    };
    Ok(if status == 0 { Known::Open } else { Known::Answered(status, body) })
}

/// Keeps the answer.
pub async fn end(
    store: &dyn Store,
    account: &str,
    key: &str,
    status: u16,
    body: &str,
) -> Result<(), StoreError> {
    let sql = "UPDATE sms_request SET status = ?, body = ? WHERE account = ? AND request_key = ?";
    let values =
        vec![i64::from(status).into(), SqlValue::Blob(body.as_bytes().to_vec()), account.into(), key.into()];
    store.execute(Query::new(sql, values)).await.map(drop)
}

/// Deletes what came before.
pub async fn forget(store: &dyn Store, before: i64) -> Result<u64, StoreError> {
    store.execute(Query::new("DELETE FROM sms_request WHERE moment < ?", vec![before.into()])).await
}
