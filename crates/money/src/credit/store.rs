//! The tables: accounts, tariffs, and the ledger, which is only ever added to.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use switchroom_kernel::ports::store::{Query, SqlValue, Store, StoreError};

use super::api::{Entry, Settings};
use super::purse::Purse;
use super::tariff::{Price, Tariffs};

/// Rows in one INSERT. Few sizes, so that drivers keep the statements prepared.
const CHUNKS: [usize; 3] = [32, 8, 1];

static INSERTS: LazyLock<[Arc<str>; 3]> = LazyLock::new(|| {
    CHUNKS.map(|rows| {
        let values = vec!["(?, ?, ?, ?, ?, ?, ?, ?)"; rows].join(", ");
        format!(
            "INSERT INTO credit_ledger (id, account, moment, kind, amount, balance, reserved, reference) VALUES {values}"
        )
        .into()
    })
});

static MOVE: LazyLock<Arc<str>> = LazyLock::new(|| {
    "UPDATE credit_account SET balance = balance + ?, reserved = reserved + ? WHERE name = ?".into()
});

/// What writes movements: one row each, and one update for each account. The order of commits does not matter, since
/// balances are changed and not set.
pub fn statements(entries: &[Entry]) -> Vec<Query> {
    let mut queries = Vec::new();
    let mut rest = entries;
    for (size, sql) in CHUNKS.into_iter().zip(INSERTS.iter()) {
        while rest.len() >= size {
            let (now, later) = rest.split_at(size);
            rest = later;
            queries.push(Query::new(sql.clone(), now.iter().flat_map(row).collect()));
        }
    }
    let mut sums: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for e in entries {
        let (balance, reserved) = e.kind.deltas(e.amount);
        let sum = sums.entry(&e.account).or_default();
        sum.0 += balance;
        sum.1 += reserved;
    }
    for (account, (balance, reserved)) in sums.into_iter().filter(|(_, sum)| *sum != (0, 0)) {
        queries.push(Query::new(MOVE.clone(), vec![balance.into(), reserved.into(), account.into()]));
    }
    queries
}

fn row(e: &Entry) -> [SqlValue; 8] {
    [
        e.id.into(),
        (&*e.account).into(),
        e.moment.into(),
        e.kind.name().into(),
        e.amount.into(),
        e.balance.into(),
        e.reserved.into(),
        e.reference.as_str().into(),
    ]
}

/// All accounts.
pub async fn accounts(store: &dyn Store) -> Result<Vec<(String, Purse, Settings)>, StoreError> {
    let sql = "SELECT name, balance, reserved, credit_limit, tariff, currency, enabled FROM credit_account";
    let rows = store.fetch(Query::new(sql, Vec::new())).await?;
    let account = |row: &Vec<SqlValue>| {
        let text = |i: usize| row.get(i).and_then(SqlValue::to_text).map(|t| t.trim_end().to_owned());
        let int = |i: usize| row.get(i).and_then(SqlValue::to_int);
        let purse = Purse { balance: int(1)?, reserved: int(2)?, limit: int(3)? };
        let settings = Settings { tariff: text(4)?, currency: text(5)?, enabled: int(6)? != 0 };
        Some((text(0)?, purse, settings))
    };
    Ok(rows.rows.iter().filter_map(account).collect())
}

/// All tariffs.
pub async fn tariffs(store: &dyn Store) -> Result<Tariffs, StoreError> {
    let sql = "SELECT tariff, prefix, price_part, price_message FROM credit_tariff";
    let rows = store.fetch(Query::new(sql, Vec::new())).await?;
    let mut tariffs = Tariffs::default();
    for row in &rows.rows {
        let text = |i: usize| row.get(i).and_then(SqlValue::to_text).unwrap_or_default();
        let int = |i: usize| row.get(i).and_then(SqlValue::to_int).unwrap_or_default();
        tariffs.set(text(0).trim_end(), text(1).trim(), Price { part: int(2), message: int(3) });
    }
    Ok(tariffs)
}

/// The highest number in the ledger.
pub async fn last_entry(store: &dyn Store) -> Result<i64, StoreError> {
    let rows = store.fetch(Query::new("SELECT MAX(id) FROM credit_ledger", Vec::new())).await?;
    Ok(rows.rows.first().and_then(|r| r.first()).and_then(SqlValue::to_int).unwrap_or(0))
}

/// The statement that makes an account without money.
pub fn insert_account(name: &str, limit: i64, settings: &Settings) -> Query {
    Query::new(
        "INSERT INTO credit_account (name, balance, reserved, credit_limit, tariff, currency, enabled) VALUES (?, 0, 0, ?, ?, ?, ?)",
        vec![
            name.into(),
            limit.into(),
            settings.tariff.as_str().into(),
            settings.currency.as_str().into(),
            i64::from(settings.enabled).into(),
        ],
    )
}

/// The statement that writes what an operator may change.
pub fn update_account(name: &str, limit: i64, settings: &Settings) -> Query {
    Query::new(
        "UPDATE credit_account SET credit_limit = ?, tariff = ?, enabled = ? WHERE name = ?",
        vec![limit.into(), settings.tariff.as_str().into(), i64::from(settings.enabled).into(), name.into()],
    )
}

/// The statements that set a price.
pub fn set_price(tariff: &str, prefix: &str, price: Price) -> Vec<Query> {
    vec![
        Query::new(
            "DELETE FROM credit_tariff WHERE tariff = ? AND prefix = ?",
            vec![tariff.into(), prefix.into()],
        ),
        Query::new(
            "INSERT INTO credit_tariff (tariff, prefix, price_part, price_message) VALUES (?, ?, ?, ?)",
            vec![tariff.into(), prefix.into(), price.part.into(), price.message.into()],
        ),
    ]
}

/// The last movements of an account, newest first.
pub async fn ledger(store: &dyn Store, account: &str, most: i64) -> Result<Vec<Vec<SqlValue>>, StoreError> {
    let sql = "SELECT id, moment, kind, amount, balance, reserved, reference FROM credit_ledger WHERE account = ? ORDER BY id DESC LIMIT ?";
    Ok(store.fetch(Query::new(sql, vec![account.into(), most.into()])).await?.rows)
}
