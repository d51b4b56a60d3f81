//! Management commands.

use std::sync::Arc;

use serde_json::{Value as Json, json};
use switchroom_kernel::module::{CommandCall, CommandError, CommandResult};
use switchroom_kernel::ports::net::BoxFuture;
use switchroom_kernel::ports::store::{Query, SqlValue, StoreError};
use switchroom_wire::smpp::receipt;

use super::centre::Centre;
use super::message::Addr;
use super::policy::Policy;
use super::routes::{check_target, retry};
use super::{State, accounts};

fn centre(call: &CommandCall) -> Arc<Centre> {
    call.kernel.state::<State>().centre.clone()
}

pub(super) fn status(call: CommandCall) -> BoxFuture<CommandResult> {
    Box::pin(async move {
        let centre = centre(&call);
        let (kept, lines) = centre.depths();
        let lines: Vec<Json> = lines
            .into_iter()
            .map(|(target, d)| json!({"target": &*target, "waiting": d.waiting, "under_way": d.under_way}))
            .collect();
        Ok(json!({"kept": kept, "to_write": centre.writer.waiting(), "Lines": lines}))
    })
}

pub(super) fn binds(call: CommandCall) -> BoxFuture<CommandResult> {
    Box::pin(async move {
        let one = |customer: Arc<super::customer::Customer>| {
            let binds: Vec<Json> = customer
                .binds()
                .iter()
                .map(|l| {
                    let mode = l.mode().map(|m| format!("{m:?}").to_lowercase());
                    json!({"mode": mode, "unanswered": l.unanswered(), "room": l.room()})
                })
                .collect();
            json!({"system_id": &*customer.name, "enabled": customer.account().enabled, "Binds": binds})
        };
        Ok(json!({"Accounts": centre(&call).customers().into_iter().map(one).collect::<Vec<_>>()}))
    })
}

pub(super) fn reload(call: CommandCall) -> BoxFuture<CommandResult> {
    Box::pin(async move {
        centre(&call).reload().await.map_err(|e| CommandError::new(500, e))?;
        Ok(json!("OK"))
    })
}

pub(super) fn message(call: CommandCall) -> BoxFuture<CommandResult> {
    Box::pin(async move {
        let centre = centre(&call);
        let (account, id) = (call.text("account").unwrap_or_default(), number(&call)?);
        let Some((state, done, error)) = centre.query(&account, id).await else {
            return Err(CommandError::new(404, format!("account {account} has no message {id}")));
        };
        Ok(json!({"id": id.to_string(), "state": receipt::word(state), "done": done, "error": error}))
    })
}

pub(super) fn cancel(call: CommandCall) -> BoxFuture<CommandResult> {
    Box::pin(async move {
        let (account, id) = (call.text("account").unwrap_or_default(), number(&call)?);
        if !centre(&call).cancel(&account, id) {
            return Err(CommandError::new(404, format!("account {account} has no message {id} that waits")));
        }
        Ok(json!("OK"))
    })
}

pub(super) fn account(call: CommandCall) -> BoxFuture<CommandResult> {
    Box::pin(async move {
        let centre = centre(&call);
        let name = call.text("system_id").unwrap_or_default();
        if name.is_empty() || name.len() > 15 {
            return Err(CommandError::args("`system_id` must have 1 to 15 characters"));
        }
        let failed = |e: StoreError| CommandError::new(500, e.to_string());
        let mut queries = Vec::new();
        if centre.customer(&name).is_none() {
            queries.push(Query::new(
                "INSERT INTO sms_account (system_id) VALUES (?)",
                vec![name.as_str().into()],
            ));
        }
        let mut key = None;
        let mut set = |sql: &'static str, value: SqlValue| {
            queries.push(Query::new(sql, vec![value, name.as_str().into()]));
        };
        if let Some(password) = call.text("password") {
            let hash = accounts::hash(password.as_bytes()).map_err(|e| CommandError::new(500, e))?;
            set("UPDATE sms_account SET password = ? WHERE system_id = ?", hash.into());
        }
        if let Some(credit) = call.text("credit") {
            set("UPDATE sms_account SET credit = ? WHERE system_id = ?", credit.into());
        }
        if let Some(webhook) = call.text("webhook") {
            set("UPDATE sms_account SET webhook = ? WHERE system_id = ?", webhook.into());
        }
        if call.int("api_key")?.unwrap_or(0) != 0 {
            let new = accounts::new_key().map_err(|e| CommandError::new(500, e))?;
            set("UPDATE sms_account SET api_key = ? WHERE system_id = ?", accounts::hash_key(&new).into());
            key = Some(new);
        }
        for (arg, sql) in [
            ("rate", "UPDATE sms_account SET rate = ? WHERE system_id = ?"),
            ("binds", "UPDATE sms_account SET binds = ? WHERE system_id = ?"),
            ("window", "UPDATE sms_account SET max_window = ? WHERE system_id = ?"),
            ("strict", "UPDATE sms_account SET strict = ? WHERE system_id = ?"),
            ("enabled", "UPDATE sms_account SET enabled = ? WHERE system_id = ?"),
        ] {
            if let Some(n) = call.int(arg)? {
                if n < 0 {
                    return Err(CommandError::args(format!("`{arg}` must not be negative")));
                }
                set(sql, n.into());
            }
        }
        centre.base.store.batch(queries).await.map_err(failed)?;
        centre.reload().await.map_err(|e| CommandError::new(500, e))?;
        Ok(match key {
            // Said once; only its hash is kept.
            Some(key) => json!({"system_id": name, "api_key": key}),
            None => json!({"system_id": name}),
        })
    })
}

pub(super) fn route(call: CommandCall) -> BoxFuture<CommandResult> {
    Box::pin(async move {
        let centre = centre(&call);
        let text = |name: &str| call.text(name).unwrap_or_default();
        let target = text("target");
        check_target(&target).map_err(CommandError::args)?;
        retry(&text("retry")).map_err(CommandError::args)?;
        let query = Query::new(
            "INSERT INTO sms_route (priority, account, sender, prefix, network, content, target, weight, cost, retry) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            vec![
                call.int("priority")?.unwrap_or(0).into(),
                text("account").into(),
                text("sender").into(),
                text("prefix").trim_start_matches('+').into(),
                text("network").into(),
                text("content").into(),
                target.into(),
                call.int("weight")?.unwrap_or(1).into(),
                call.int("cost")?.unwrap_or(0).into(),
                text("retry").into(),
            ],
        );
        write(&centre, query).await
    })
}

pub(super) fn list(call: CommandCall) -> BoxFuture<CommandResult> {
    Box::pin(async move {
        let centre = centre(&call);
        let text = |name: &str| call.text(name).unwrap_or_default();
        let (name, address, account) = (text("name"), text("address"), text("account"));
        if address.is_empty() {
            let lists = centre.lists();
            let all = lists.all().into_iter().filter(|(_, n, _)| name.is_empty() || *n == name);
            let all: Vec<Json> = all
                .map(|(account, name, members)| {
                    let members: Vec<String> = members.iter().map(Addr::text).collect();
                    json!({"name": name, "account": account, "Members": members})
                })
                .collect();
            return Ok(json!({"Lists": all}));
        }
        if name.is_empty() || name.len() > 20 {
            return Err(CommandError::args("`name` must have 1 to 20 characters"));
        }
        let values = vec![account.into(), name.into(), address.trim_start_matches('-').to_owned().into()];
        let sql = match address.starts_with('-') {
            true => "DELETE FROM sms_list WHERE account = ? AND name = ? AND address = ?",
            false => "INSERT INTO sms_list (account, name, address) VALUES (?, ?, ?)",
        };
        write(&centre, Query::new(sql, values)).await
    })
}

pub(super) fn webhooks(call: CommandCall) -> BoxFuture<CommandResult> {
    Box::pin(async move {
        let account = call.text("account").unwrap_or_default();
        let failed = match call.text("state").as_deref() {
            None | Some("pending") => false,
            Some("failed") => true,
            Some(other) => {
                return Err(CommandError::args(format!("`state` is pending or failed, not \"{other}\"")));
            }
        };
        let most = call.int("most")?.unwrap_or(100);
        let posts = centre(&call).posts(&account, failed, most).await;
        Ok(json!({"Webhooks": posts.map_err(|e| CommandError::new(500, e.to_string()))?}))
    })
}

pub(super) fn policy(call: CommandCall) -> BoxFuture<CommandResult> {
    Box::pin(async move {
        let centre = centre(&call);
        let text = |name: &str| call.text(name).unwrap_or_default();
        let (account, kind, value) = (text("account"), text("kind"), text("value"));
        Policy::default().add(&account, &kind, &value).map_err(CommandError::args)?;
        let query = Query::new(
            "INSERT INTO sms_policy (account, kind, value) VALUES (?, ?, ?)",
            vec![account.into(), kind.into(), value.into()],
        );
        write(&centre, query).await
    })
}

async fn write(centre: &Arc<Centre>, query: Query) -> CommandResult {
    centre.base.store.execute(query).await.map_err(|e| CommandError::new(500, e.to_string()))?;
    centre.reload().await.map_err(|e| CommandError::new(500, e))?;
    Ok(json!("OK"))
}

fn number(call: &CommandCall) -> Result<u64, CommandError> {
    let id = call.int("id")?.and_then(|id| u64::try_from(id).ok());
    id.ok_or_else(|| CommandError::args("`id` must be a message id, a positive number"))
}
