//! What other modules use: price a message, reserve, settle, give back.
//!
//! The balance in force is in memory and changes at once, under the account's lock. Each change gives an [`Entry`]; whoever
//! caused it writes [`Credit::statements`] in the same transaction as what it was for, or calls [`Credit::undo`]. So the
//! ledger and what it tells of are never apart, whenever the process dies. One process owns an account.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::{Mutex, RwLock};
use switchroom_kernel::ports::store::{Query, SqlValue, Store, StoreError};
use switchroom_kernel::stats::{StatId, Stats};

use super::purse::Purse;
use super::store;
use super::tariff::Tariffs;

pub use super::purse::Refused;
pub use super::tariff::Price;

/// Kinds of movement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Money comes in, or is taken out by the operator.
    Topup,
    /// Set aside.
    Reserve,
    /// What was set aside is spent.
    Settle,
    /// What was set aside comes back.
    Return,
}

impl Kind {
    /// As it stands in the ledger.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Topup => "topup",
            Kind::Reserve => "reserve",
            Kind::Settle => "settle",
            Kind::Return => "return",
        }
    }

    /// What it adds to the balance and to what is reserved.
    pub fn deltas(self, amount: i64) -> (i64, i64) {
        match self {
            Kind::Topup => (amount, 0),
            Kind::Reserve => (-amount, amount),
            Kind::Settle => (0, -amount),
            Kind::Return => (amount, -amount),
        }
    }
}

/// One movement, made in memory and to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Number in the ledger.
    pub id: i64,
    /// Account.
    pub account: Arc<str>,
    /// Unix milliseconds.
    pub moment: i64,
    /// What it is.
    pub kind: Kind,
    /// Millionths.
    pub amount: i64,
    /// Balance after it.
    pub balance: i64,
    /// Reserved after it.
    pub reserved: i64,
    /// What it was for, such as a message's id.
    pub reference: String,
}

/// What an operator sets for an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Name of its tariff.
    pub tariff: String,
    /// Currency, for people.
    pub currency: String,
    /// Whether it may reserve.
    pub enabled: bool,
}

/// Why nothing moves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreditError {
    /// No such account.
    #[error("no credit account `{0}`; `credit:list` shows them")]
    NoAccount(String),
    /// There is one of that name.
    #[error("credit account `{0}` exists already")]
    Exists(String),
    /// It may not spend.
    #[error("credit account `{0}` is disabled")]
    Disabled(String),
    /// Its tariff has no price for the number.
    #[error("tariff `{tariff}` has no price for {number}")]
    NoTariff {
        /// The tariff.
        tariff: String,
        /// The number.
        number: String,
    },
    /// The purse refuses.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The database refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Ids of the module's statistics.
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    /// Reservations.
    pub reserved: StatId,
    /// Spent.
    pub settled: StatId,
    /// Given back.
    pub returned: StatId,
    /// Refused.
    pub refused: StatId,
    /// Not written.
    pub failed: StatId,
}

struct Account {
    name: Arc<str>,
    purse: Mutex<Purse>,
    settings: RwLock<Settings>,
}

/// What can be shown of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Name.
    pub name: Arc<str>,
    /// Millionths.
    pub balance: i64,
    /// Millionths.
    pub reserved: i64,
    /// What it may owe.
    pub limit: i64,
    /// Settings.
    pub settings: Settings,
}

/// All accounts.
pub struct Credit {
    store: Arc<dyn Store>,
    accounts: RwLock<HashMap<Arc<str>, Arc<Account>>>,
    tariffs: RwLock<Tariffs>,
    serial: AtomicI64,
    stats: Option<(Arc<Stats>, Counters)>,
    ledger_days: u64,
}

impl Credit {
    /// Reads the tables. `ledger_days` 0 keeps movements for ever.
    pub async fn load(
        store: Arc<dyn Store>,
        stats: Option<(Arc<Stats>, Counters)>,
        ledger_days: u64,
    ) -> Result<Arc<Credit>, String> {
        let serial = store::last_entry(&*store).await.map_err(|e| format!("credit_ledger: {e}"))?;
        let credit = Credit {
            store,
            accounts: RwLock::default(),
            tariffs: RwLock::default(),
            serial: AtomicI64::new(serial),
            stats,
            ledger_days,
        };
        credit.reload().await.map_err(|e| format!("credit: {e}"))?;
        Ok(Arc::new(credit))
    }

    /// Reads tariffs, settings and new accounts again. Balances in force stay, since they are ahead of the table.
    pub async fn reload(&self) -> Result<(), StoreError> {
        let tariffs = store::tariffs(&*self.store).await?;
        let found = store::accounts(&*self.store).await?;
        *self.tariffs.write() = tariffs;
        let mut accounts = self.accounts.write();
        for (name, purse, settings) in found {
            match accounts.get(name.as_str()) {
                Some(known) => {
                    known.purse.lock().limit = purse.limit;
                    *known.settings.write() = settings;
                }
                None => {
                    let name: Arc<str> = name.into();
                    let account = Account {
                        name: name.clone(),
                        purse: Mutex::new(purse),
                        settings: RwLock::new(settings),
                    };
                    accounts.insert(name, Arc::new(account));
                }
            }
        }
        Ok(())
    }

    fn account(&self, name: &str) -> Result<Arc<Account>, CreditError> {
        let found = self.accounts.read().get(name).cloned();
        found.ok_or_else(|| CreditError::NoAccount(name.to_owned()))
    }

    /// What a message of so many parts to `number` costs the account, in millionths.
    pub fn price(&self, account: &str, number: &[u8], parts: u32) -> Result<i64, CreditError> {
        let account = self.account(account)?;
        let settings = account.settings.read();
        let price = self.tariffs.read().find(&settings.tariff, number).and_then(|p| p.of(parts));
        price.ok_or_else(|| CreditError::NoTariff {
            tariff: settings.tariff.clone(),
            number: String::from_utf8_lossy(number).into_owned(),
        })
    }

    /// Sets money aside. `now` in unix milliseconds. The entry is to be written, or undone.
    pub fn reserve(
        &self,
        account: &str,
        amount: i64,
        reference: String,
        now: i64,
    ) -> Result<Entry, CreditError> {
        let found = self.account(account)?;
        if !found.settings.read().enabled {
            return Err(CreditError::Disabled(account.to_owned()));
        }
        let entry = self.apply(&found, Kind::Reserve, amount, reference, now);
        self.count(|c| if entry.is_ok() { c.reserved } else { c.refused });
        Ok(entry?)
    }

    /// What was set aside is spent.
    pub fn settle(
        &self,
        account: &str,
        amount: i64,
        reference: String,
        now: i64,
    ) -> Result<Entry, CreditError> {
        let entry = self.apply(&*self.account(account)?, Kind::Settle, amount, reference, now)?;
        self.count(|c| c.settled);
        Ok(entry)
    }

    /// What was set aside comes back.
    pub fn give_back(
        &self,
        account: &str,
        amount: i64,
        reference: String,
        now: i64,
    ) -> Result<Entry, CreditError> {
        let entry = self.apply(&*self.account(account)?, Kind::Return, amount, reference, now)?;
        self.count(|c| c.returned);
        Ok(entry)
    }

    /// A movement was not written after all.
    pub fn undo(&self, entry: &Entry) {
        if let Ok(account) = self.account(&entry.account) {
            account.purse.lock().undo(entry.kind, entry.amount);
        }
        self.count(|c| c.failed);
    }

    /// The statements that write movements.
    pub fn statements(entries: &[Entry]) -> Vec<Query> {
        store::statements(entries)
    }

    /// Writes movements in a transaction of their own; they are undone when that fails.
    pub async fn commit(&self, entries: Vec<Entry>) -> Result<(), CreditError> {
        if let Err(error) = self.store.batch(store::statements(&entries)).await {
            entries.iter().for_each(|e| self.undo(e));
            return Err(error.into());
        }
        Ok(())
    }

    /// Adds money, or takes it away when `amount` is negative; durable when it completes. Gives the balance.
    pub async fn topup(
        &self,
        account: &str,
        amount: i64,
        reference: String,
        now: i64,
    ) -> Result<i64, CreditError> {
        let entry = self.apply(&*self.account(account)?, Kind::Topup, amount, reference, now)?;
        let balance = entry.balance;
        self.commit(vec![entry]).await?;
        Ok(balance)
    }

    /// Makes an account; durable when it completes.
    pub async fn create(&self, name: &str, limit: i64, settings: Settings) -> Result<(), CreditError> {
        if self.accounts.read().contains_key(name) {
            return Err(CreditError::Exists(name.to_owned()));
        }
        self.store.batch(vec![store::insert_account(name, limit, &settings)]).await?;
        let name: Arc<str> = name.into();
        let account = Account {
            name: name.clone(),
            purse: Mutex::new(Purse { limit, ..Purse::default() }),
            settings: RwLock::new(settings),
        };
        self.accounts.write().entry(name).or_insert(Arc::new(account));
        Ok(())
    }

    /// Changes an account's settings; durable when it completes.
    pub async fn set(
        &self,
        name: &str,
        change: impl FnOnce(&mut i64, &mut Settings),
    ) -> Result<(), CreditError> {
        let account = self.account(name)?;
        let (mut limit, mut settings) = (account.purse.lock().limit, account.settings.read().clone());
        change(&mut limit, &mut settings);
        self.store.batch(vec![store::update_account(name, limit, &settings)]).await?;
        account.purse.lock().limit = limit;
        *account.settings.write() = settings;
        Ok(())
    }

    /// Sets a price; durable when it completes.
    pub async fn set_price(&self, tariff: &str, prefix: &str, price: Price) -> Result<(), CreditError> {
        let prefix = prefix.trim_start_matches('+');
        self.store.batch(store::set_price(tariff, prefix, price)).await?;
        self.tariffs.write().set(tariff, prefix, price);
        Ok(())
    }

    /// One account.
    pub fn show(&self, name: &str) -> Result<Shown, CreditError> {
        let account = self.account(name)?;
        let purse = *account.purse.lock();
        let settings = account.settings.read().clone();
        Ok(Shown {
            name: account.name.clone(),
            balance: purse.balance,
            reserved: purse.reserved,
            limit: purse.limit,
            settings,
        })
    }

    /// Names of all accounts, sorted.
    pub fn names(&self) -> Vec<Arc<str>> {
        let mut names: Vec<_> = self.accounts.read().keys().cloned().collect();
        names.sort();
        names
    }

    /// The last movements of an account: id, moment, kind, amount, balance, reserved, reference.
    pub async fn ledger(&self, account: &str, most: i64) -> Result<Vec<Vec<SqlValue>>, CreditError> {
        Ok(store::ledger(&*self.store, &self.account(account)?.name, most).await?)
    }

    /// Deletes movements older than `ledger_days`. `now` in unix seconds.
    pub async fn forget_old(&self, now: u64) {
        if self.ledger_days == 0 {
            return;
        }
        let before = now.saturating_sub(self.ledger_days * 86_400) as i64 * 1000;
        let query = Query::new("DELETE FROM credit_ledger WHERE moment < ?", vec![before.into()]);
        if let Err(e) = self.store.execute(query).await {
            tracing::warn!("credit: old movements were not deleted: {e}");
        }
    }

    fn apply(
        &self,
        account: &Account,
        kind: Kind,
        amount: i64,
        reference: String,
        now: i64,
    ) -> Result<Entry, Refused> {
        let mut purse = account.purse.lock();
        purse.apply(kind, amount)?;
        Ok(Entry {
            id: self.serial.fetch_add(1, Ordering::Relaxed) + 1,
            account: account.name.clone(),
            moment: now,
            kind,
            amount,
            balance: purse.balance,
            reserved: purse.reserved,
            reference,
        })
    }

    fn count(&self, which: impl FnOnce(&Counters) -> StatId) {
        if let Some((stats, counters)) = &self.stats {
            stats.add_outside(which(counters), 1);
        }
    }
}
