//! Prepaid accounts: balance, tariffs by prefix and by part, reservations, and a ledger of every movement.
//!
//! `purse` decides, `tariff` prices, `api` is what others use, `store` are the tables. Rating of calls is left out.

pub mod api;
mod commands;
pub mod money;
mod purse;
mod store;
mod tariff;
#[cfg(test)]
mod tests;

use switchroom_kernel::module::{Command, Module, Param, Statistic, TableUse};
use switchroom_kernel::open::{Opening, block_on};

use api::Credit;

/// The module.
pub static MODULE: Module = Module {
    name: "credit",
    summary: "Prepaid accounts with tariffs, reservations and a ledger",
    params: &[
        Param::unset("db_url", "Database of the accounts"),
        Param::int("ledger_days", "0", "Days for which movements are kept; 0 keeps them for ever"),
    ],
    commands: &[
        Command {
            name: "credit:list",
            old_names: &[],
            args: "[account]",
            help: "Accounts with their balances",
            run: commands::list,
        },
        Command {
            name: "credit:create",
            old_names: &[],
            args: "account,[balance],[tariff],[limit],[currency]",
            help: "Make an account; limit is what it may owe",
            run: commands::create,
        },
        Command {
            name: "credit:set",
            old_names: &[],
            args: "account,[tariff],[limit],[enabled]",
            help: "Change the tariff of an account, what it may owe, or whether it may spend",
            run: commands::set,
        },
        Command {
            name: "credit:topup",
            old_names: &[],
            args: "account,amount,[reference]",
            help: "Add money to an account; a negative amount takes it away",
            run: commands::topup,
        },
        Command {
            name: "credit:ledger",
            old_names: &[],
            args: "account,[limit]",
            help: "The last movements of an account, newest first",
            run: commands::ledger,
        },
        Command {
            name: "credit:tariff",
            old_names: &[],
            args: "tariff,prefix,part,[message]",
            help: "Set the price of a prefix: for each part, and for each message besides",
            run: commands::tariff,
        },
        Command {
            name: "credit:price",
            old_names: &[],
            args: "account,number,[parts]",
            help: "What a message to a number costs an account",
            run: commands::price,
        },
        Command {
            name: "credit:reload",
            old_names: &[],
            args: "",
            help: "Read tariffs and accounts again; balances in force stay",
            run: commands::reload,
        },
    ],
    statistics: &[
        Statistic::counter("reserved", "Reservations made"),
        Statistic::counter("settled", "Reservations spent"),
        Statistic::counter("returned", "Reservations given back"),
        Statistic::counter("refused", "Reservations refused for want of money"),
        Statistic::counter("failed", "Movements that the database did not take"),
    ],
    tables: &[
        TableUse { name: "credit_account", version: 1 },
        TableUse { name: "credit_tariff", version: 1 },
        TableUse { name: "credit_ledger", version: 1 },
    ],
    open,
    live: Some(|kernel| {
        kernel.every(std::time::Duration::from_secs(3600), |kernel| async move {
            kernel.state::<std::sync::Arc<Credit>>().forget_old(kernel.unix()).await;
        });
    }),
    ..Module::EMPTY
};

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let tables: Vec<(&str, u32)> = MODULE.tables.iter().map(|t| (t.name, t.version)).collect();
    let store = o.store(o.str("db_url").as_deref(), &tables)?;
    let counters = api::Counters {
        reserved: o.stat("reserved")?,
        settled: o.stat("settled")?,
        returned: o.stat("returned")?,
        refused: o.stat("refused")?,
        failed: o.stat("failed")?,
    };
    let days = u64::try_from(o.int("ledger_days")).map_err(|_| "ledger_days must not be negative")?;
    let stats = o.kernel.stats.clone();
    let credit = block_on(Credit::load(store, Some((stats, counters)), days))?;
    o.provide(credit);
    Ok(())
}
