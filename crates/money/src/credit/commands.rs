//! Management commands.

use std::sync::Arc;

use serde_json::{Value as Json, json};
use switchroom_kernel::module::{CommandCall, CommandError, CommandResult};
use switchroom_kernel::ports::net::BoxFuture;
use switchroom_kernel::ports::store::SqlValue;

use super::api::{Credit, CreditError, Price, Settings, Shown};
use super::money;

pub(super) fn list(call: CommandCall) -> BoxFuture<CommandResult> {
    Box::pin(async move {
        let credit = credit(&call);
        let names = match call.text("account") {
            Some(name) => vec![name.into()],
            None => credit.names(),
        };
        let shown: Result<Vec<Json>, CreditError> =
            names.iter().map(|name| credit.show(name).map(account)).collect();
        Ok(json!({"Accounts": shown.map_err(refused)?}))
    })
}

pub(super) fn create(call: CommandCall) -> BoxFuture<CommandResult> {
    Box::pin(async move {
        let credit = credit(&call);
        let name = name(&call, "account")?;
        let settings = Settings {
            tariff: call.text("tariff").unwrap_or_else(|| "default".into()),
            currency: call.text("currency").unwrap_or_else(|| "EUR".into()),
            enabled: true,
        };
        let limit = amount(&call, "limit")?.unwrap_or(0);
        let balance = amount(&call, "balance")?.unwrap_or(0);
        if limit < 0 || balance < 0 {
            return Err(CommandError::args("`balance` and `limit` must not be negative"));
        }
        credit.create(&name, limit, settings).await.map_err(refused)?;
        if balance > 0 {
            credit.topup(&name, balance, "create".into(), now(&call)).await.map_err(refused)?;
        }
        credit.show(&name).map(account).map_err(refused)
    })
}

pub(super) fn set(call: CommandCall) -> BoxFuture<CommandResult> {
    Box::pin(async move {
        let credit = credit(&call);
        let name = name(&call, "account")?;
        let (limit, tariff, enabled) = (amount(&call, "limit")?, call.text("tariff"), call.int("enabled")?);
        if limit.is_some_and(|l| l < 0) {
            return Err(CommandError::args("`limit` must not be negative"));
        }
        let change = |l: &mut i64, s: &mut Settings| {
            *l = limit.unwrap_or(*l);
            s.tariff = tariff.unwrap_or_else(|| s.tariff.clone());
            s.enabled = enabled.map_or(s.enabled, |e| e != 0);
        };
        credit.set(&name, change).await.map_err(refused)?;
        credit.show(&name).map(account).map_err(refused)
    })
}

pub(super) fn topup(call: CommandCall) -> BoxFuture<CommandResult> {
    Box::pin(async move {
        let credit = credit(&call);
        let name = name(&call, "account")?;
        let amount = amount(&call, "amount")?.unwrap_or(0);
        let reference = call.text("reference").unwrap_or_default();
        let balance = credit.topup(&name, amount, reference, now(&call)).await.map_err(refused)?;
        Ok(json!({"balance": money::format(balance)}))
    })
}

pub(super) fn ledger(call: CommandCall) -> BoxFuture<CommandResult> {
    Box::pin(async move {
        let credit = credit(&call);
        let most = call.int("limit")?.unwrap_or(50).clamp(1, 10_000);
        let rows = credit.ledger(&name(&call, "account")?, most).await.map_err(refused)?;
        let entry = |row: &Vec<SqlValue>| {
            let int = |i: usize| row.get(i).and_then(SqlValue::to_int).unwrap_or_default();
            let text = |i: usize| row.get(i).and_then(SqlValue::to_text).unwrap_or_default();
            json!({
                "id": int(0), "moment": int(1) / 1000, "kind": text(2).trim_end(), "amount": money::format(int(3)),
                "balance": money::format(int(4)), "reserved": money::format(int(5)), "reference": text(6).trim_end(),
            })
        };
        Ok(json!({"Entries": rows.iter().map(entry).collect::<Vec<_>>()}))
    })
}

pub(super) fn tariff(call: CommandCall) -> BoxFuture<CommandResult> {
    Box::pin(async move {
        let credit = credit(&call);
        let price = Price {
            part: amount(&call, "part")?.unwrap_or(0),
            message: amount(&call, "message")?.unwrap_or(0),
        };
        let prefix = call.text("prefix").unwrap_or_default();
        if price.part < 0 || price.message < 0 {
            return Err(CommandError::args("prices must not be negative"));
        }
        if !prefix.trim_start_matches('+').bytes().all(|b| b.is_ascii_digit()) {
            return Err(CommandError::args("`prefix` must be the beginning of a number, such as 4915"));
        }
        credit.set_price(&name(&call, "tariff")?, &prefix, price).await.map_err(refused)?;
        Ok(json!("OK"))
    })
}

pub(super) fn price(call: CommandCall) -> BoxFuture<CommandResult> {
    Box::pin(async move {
        let parts = u32::try_from(call.int("parts")?.unwrap_or(1))
            .map_err(|_| CommandError::args("`parts` must not be negative"))?;
        let number = call.text("number").unwrap_or_default();
        let price =
            credit(&call).price(&name(&call, "account")?, number.as_bytes(), parts).map_err(refused)?;
        Ok(json!({"price": money::format(price)}))
    })
}

pub(super) fn reload(call: CommandCall) -> BoxFuture<CommandResult> {
    Box::pin(async move {
        credit(&call).reload().await.map_err(|e| refused(e.into()))?;
        Ok(json!("OK"))
    })
}

fn credit(call: &CommandCall) -> Arc<Credit> {
    call.kernel.state::<Arc<Credit>>().clone()
}

fn now(call: &CommandCall) -> i64 {
    call.kernel.drivers.clock.unix().as_millis() as i64
}

fn name(call: &CommandCall, arg: &str) -> Result<String, CommandError> {
    let text = call.text(arg).unwrap_or_default();
    if text.is_empty() || text.len() > 64 {
        return Err(CommandError::args(format!("`{arg}` must have 1 to 64 characters")));
    }
    Ok(text)
}

fn amount(call: &CommandCall, arg: &str) -> Result<Option<i64>, CommandError> {
    let Some(text) = call.text(arg) else { return Ok(None) };
    let wrong = || CommandError::args(format!("`{arg}` must be an amount such as 12.50, not {text}"));
    money::parse(&text).map(Some).ok_or_else(wrong)
}

fn account(shown: Shown) -> Json {
    json!({
        "account": &*shown.name,
        "balance": money::format(shown.balance),
        "reserved": money::format(shown.reserved),
        "limit": money::format(shown.limit),
        "currency": shown.settings.currency,
        "tariff": shown.settings.tariff,
        "enabled": shown.settings.enabled,
    })
}

fn refused(error: CreditError) -> CommandError {
    let code = match error {
        CreditError::NoAccount(_) | CreditError::NoTariff { .. } => 404,
        CreditError::Exists(_) => 409,
        CreditError::Disabled(_) | CreditError::Refused(_) => 403,
        CreditError::Store(_) => 500,
    };
    CommandError::new(code, error.to_string())
}
