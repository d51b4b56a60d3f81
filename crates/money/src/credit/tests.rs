//! Accounts over a real SQLite file: nothing is ever below zero, and the ledger adds up.

use std::sync::Arc;

use proptest::prelude::*;
use switchroom_data::schema;
use switchroom_data::sqlite::SqliteDriver;
use switchroom_kernel::open::block_on;
use switchroom_kernel::ports::store::{Query, SqlValue, Store, StoreDriver, StoreOptions};

use super::api::{Credit, CreditError, Entry, Kind, Price, Refused, Settings};
use super::purse::Purse;

fn store(driver: &SqliteDriver, folder: &tempfile::TempDir) -> Arc<dyn Store> {
    let url = format!("sqlite://{}", folder.path().join("credit.sqlite").display());
    let store =
        block_on(driver.open(&url, &StoreOptions::from([("create".to_owned(), vec!["1".to_owned()])])))
            .unwrap();
    block_on(schema::create_all(&*store)).unwrap();
    store
}

fn settings() -> Settings {
    Settings { tariff: "t".into(), currency: "EUR".into(), enabled: true }
}

#[test]
fn movements_survive_a_restart() {
    let driver = SqliteDriver::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = store(&driver, &folder);
    block_on(async {
        let credit = Credit::load(store.clone(), None, 0).await.unwrap();
        credit.create("shop", 0, settings()).await.unwrap();
        credit.set_price("t", "+49", Price { part: 40, message: 10 }).await.unwrap();
        assert_eq!(credit.topup("shop", 100, "cash".into(), 1).await.unwrap(), 100);
        let price = credit.price("shop", b"491512345", 2).unwrap();
        assert_eq!(price, 90);
        let entry = credit.reserve("shop", price, "m1".into(), 2).unwrap();
        credit.commit(vec![entry]).await.unwrap();
        let refused = credit.reserve("shop", price, "m2".into(), 3);
        assert_eq!(refused, Err(CreditError::Refused(Refused::NoFunds)));

        let credit = Credit::load(store.clone(), None, 0).await.unwrap();
        let shown = credit.show("shop").unwrap();
        assert_eq!((shown.balance, shown.reserved), (10, 90));
        let entries = vec![
            credit.settle("shop", 45, "m1".into(), 4).unwrap(),
            credit.give_back("shop", 45, "m1".into(), 4).unwrap(),
        ];
        credit.commit(entries).await.unwrap();
        let rows = credit.ledger("shop", 10).await.unwrap();
        let kinds: Vec<_> = rows.iter().filter_map(|r| r[2].to_text()).collect();
        assert_eq!(kinds, ["return", "settle", "reserve", "topup"]);
        let credit = Credit::load(store, None, 0).await.unwrap();
        assert_eq!(credit.show("shop").unwrap().balance, 55);
        assert_eq!(
            credit.price("shop", b"33123", 1).unwrap_err().to_string(),
            "tariff `t` has no price for 33123"
        );
    });
}

#[test]
fn what_the_database_refuses_is_undone() {
    let driver = SqliteDriver::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = store(&driver, &folder);
    block_on(async {
        let credit = Credit::load(store.clone(), None, 0).await.unwrap();
        credit.create("shop", 0, settings()).await.unwrap();
        credit.topup("shop", 100, String::new(), 1).await.unwrap();
        store.execute(Query::new("DROP TABLE credit_ledger", Vec::new())).await.unwrap();
        let entry = credit.reserve("shop", 60, String::new(), 1).unwrap();
        assert!(credit.commit(vec![entry]).await.is_err());
        let shown = credit.show("shop").unwrap();
        assert_eq!((shown.balance, shown.reserved), (100, 0));
        let rows = store.fetch(Query::new("SELECT balance FROM credit_account", Vec::new())).await.unwrap();
        assert_eq!(rows.rows[0][0], SqlValue::Int(100));
    });
}

#[test]
fn threads_that_spend_at_once_never_overdraw() {
    let driver = SqliteDriver::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = store(&driver, &folder);
    let credit = block_on(async {
        let credit = Credit::load(store.clone(), None, 0).await.unwrap();
        credit.create("shop", 0, settings()).await.unwrap();
        credit.topup("shop", 1000, String::new(), 1).await.unwrap();
        credit
    });
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let credit = credit.clone();
            std::thread::spawn(move || {
                let mut spent = 0;
                for _ in 0..200 {
                    let Ok(entry) = credit.reserve("shop", 7, String::new(), 1) else { continue };
                    assert!(entry.balance >= 0);
                    let settle = credit.settle("shop", 7, String::new(), 1).unwrap();
                    block_on(credit.commit(vec![entry, settle])).unwrap();
                    spent += 7;
                }
                spent
            })
        })
        .collect();
    let spent: i64 = threads.into_iter().map(|t| t.join().unwrap()).sum();
    assert_eq!(spent, 1000 / 7 * 7);
    let again = block_on(Credit::load(store, None, 0)).unwrap();
    let shown = again.show("shop").unwrap();
    assert_eq!((shown.balance, shown.reserved), (1000 - spent, 0));
}

proptest! {
    /// Any interleaving of movements of several payers, some of which fail to be written.
    #[test]
    fn no_interleaving_overdraws_or_loses_money(
        start in 0i64..500,
        limit in 0i64..100,
        steps in proptest::collection::vec((0usize..4, 0usize..4, 0i64..200, any::<bool>()), 0..60),
    ) {
        let mut purse = Purse { balance: start, reserved: 0, limit };
        let mut held = [0i64; 4];
        let (mut spent, mut added) = (0, 0);
        for (who, what, amount, written) in steps {
            let (kind, amount) = match what {
                0 => (Kind::Reserve, amount),
                1 => (Kind::Settle, amount.min(held[who])),
                2 => (Kind::Return, amount.min(held[who])),
                _ => (Kind::Topup, amount - 100),
            };
            let before = purse;
            if purse.apply(kind, amount).is_err() {
                prop_assert_eq!(purse, before);
                continue;
            }
            if !written {
                purse.undo(kind, amount);
                prop_assert_eq!(purse, before);
                continue;
            }
            match kind {
                Kind::Reserve => held[who] += amount,
                Kind::Settle => { held[who] -= amount; spent += amount }
                Kind::Return => held[who] -= amount,
                Kind::Topup => added += amount,
            }
            prop_assert!(purse.balance >= -limit);
            prop_assert_eq!(purse.reserved, held.iter().sum::<i64>());
            prop_assert_eq!(purse.balance + purse.reserved, start + added - spent);
        }
    }

    /// What is written adds up to what is in memory, in whatever groups it is written.
    #[test]
    fn statements_have_a_row_for_each_movement(kinds in proptest::collection::vec(0usize..4, 1..90)) {
        let kinds = kinds.into_iter().map(|k| [Kind::Topup, Kind::Reserve, Kind::Settle, Kind::Return][k]);
        let entries: Vec<Entry> = kinds.enumerate().map(|(i, kind)| Entry {
            id: i as i64, account: "a".into(), moment: 0, kind, amount: 3, balance: 0, reserved: 0,
            reference: String::new(),
        }).collect();
        let queries = Credit::statements(&entries);
        let rows: usize = queries.iter().filter(|q| q.sql.starts_with("INSERT")).map(|q| q.args.len() / 8).sum();
        prop_assert_eq!(rows, entries.len());
        let sum: (i64, i64) = entries.iter().map(|e| e.kind.deltas(e.amount)).fold((0, 0), |s, d| (s.0 + d.0, s.1 + d.1));
        let moved = queries.iter().find(|q| q.sql.starts_with("UPDATE"));
        let wanted = moved.map_or((0, 0), |q| (q.args[0].to_int().unwrap(), q.args[1].to_int().unwrap()));
        prop_assert_eq!(wanted, sum);
    }
}
