//! Messages (RFC 3428) for users who are not there: stored by the script, sent when it says so, usually at registration.
//!
//! Left out: reminders, and sending at a time that the script names.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use switchroom_calls::core::body;
use switchroom_calls::tm::api::{Request, request};
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE, wait};
use switchroom_kernel::module::{Function, Module, Param, Statistic, TableUse};
use switchroom_kernel::open::Opening;
use switchroom_kernel::ports::store::{Query, SqlValue, Store};
use switchroom_kernel::stats::StatId;
use switchroom_kernel::{Kernel, Shard};
use switchroom_wire::sip::Uri;

/// The module.
pub static MODULE: Module = Module {
    name: "msilo",
    summary: "Messages for users who are not there",
    needs: &["tm"],
    params: &[
        Param::unset("db_url", "Database"),
        Param::str("db_table", "silo", "Table of messages"),
        Param::unset("from_address", "URI that stored messages come from; their sender when unset"),
        Param::unset("outbound_proxy", "Where stored messages go first"),
        Param::int("expire_time", "259200", "Seconds for which a message is kept"),
        Param::int("check_time", "60", "Seconds between looks for messages whose time is over"),
        Param::int("add_date", "1", "Write the date of storing before a text"),
        Param::int("max_messages", "0", "Messages kept for one user; 0 for any number"),
        Param::str("sc_mid", "id", "Column"),
        Param::str("sc_from", "src_addr", "Column"),
        Param::str("sc_to", "dst_addr", "Column"),
        Param::str("sc_uri_user", "username", "Column"),
        Param::str("sc_uri_host", "domain", "Column"),
        Param::str("sc_body", "body", "Column"),
        Param::str("sc_ctype", "ctype", "Column"),
        Param::str("sc_exp_time", "exp_time", "Column"),
        Param::str("sc_inc_time", "inc_time", "Column"),
    ],
    functions: &[
        Function::new("m_store", &["[str]"], "RF", m_store, "Store the MESSAGE for its recipient")
            .asynchronous(),
        Function::new("m_dump", &["[str],[int]"], "RSTV", m_dump, "Send what is stored for a user")
            .asynchronous(),
    ],
    statistics: &[
        Statistic::counter("stored_messages", "Messages stored"),
        Statistic::counter("dumped_messages", "Stored messages that were taken"),
        Statistic::counter("failed_messages", "Stored messages that were sent and not taken"),
    ],
    tables: &[TableUse { name: "silo", version: 6 }],
    open,
    live: Some(live),
    ..Module::EMPTY
};

/// Messages sent by one `m_dump()`.
const MOST: i64 = 1000;

struct Silo {
    store: Arc<dyn Store>,
    insert: Arc<str>,
    count: Arc<str>,
    select: Arc<str>,
    delete: Arc<str>,
    expire: Arc<str>,
    from_address: Option<String>,
    outbound_proxy: Option<Bytes>,
    expire_time: i64,
    check_time: u64,
    add_date: bool,
    max_messages: i64,
    /// Rows under way, so that a second `m_dump()` does not send them again.
    under_way: Mutex<HashSet<i64>>,
    stored: StatId,
    dumped: StatId,
    failed: StatId,
}

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let name = |param: &str| {
        let name = o.text(param);
        let good = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if good {
            Ok(name)
        } else {
            Err(format!("parameter `{param}`: \"{name}\" is no column or table name"))
        }
    };
    let (table, id, from, to) = (name("db_table")?, name("sc_mid")?, name("sc_from")?, name("sc_to")?);
    let (user, host, body, kind) =
        (name("sc_uri_user")?, name("sc_uri_host")?, name("sc_body")?, name("sc_ctype")?);
    let (expires, came) = (name("sc_exp_time")?, name("sc_inc_time")?);
    let positive = |param: &str| match o.int(param) {
        n if n > 0 => Ok(n),
        n => Err(format!("{param} is {n}; it must be positive")),
    };
    let given = |param: &str| o.str(param).filter(|v| !v.is_empty());
    let silo = Silo {
        // The table may have another name, so no version is asked for unless it is the standard one.
        store: match table.as_str() {
            "silo" => o.store(o.str("db_url").as_deref(), &[("silo", 6)])?,
            _ => o.store(o.str("db_url").as_deref(), &[])?,
        },
        insert: format!(
            "INSERT INTO {table} ({from}, {to}, {user}, {host}, {body}, {kind}, {came}, {expires}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        )
        .into(),
        count: format!("SELECT COUNT(*) FROM {table} WHERE {user} = ? AND {host} = ?").into(),
        select: format!(
            "SELECT {id}, {from}, {to}, {body}, {kind}, {came} FROM {table} WHERE {user} = ? AND {host} = ? AND {expires} > ? ORDER BY {id} LIMIT ?"
        )
        .into(),
        delete: format!("DELETE FROM {table} WHERE {id} = ?").into(),
        expire: format!("DELETE FROM {table} WHERE {expires} <= ?").into(),
        from_address: given("from_address"),
        outbound_proxy: given("outbound_proxy").map(Bytes::from),
        expire_time: positive("expire_time")?,
        check_time: positive("check_time")? as u64,
        add_date: o.on("add_date"),
        max_messages: o.int("max_messages"),
        under_way: Mutex::default(),
        stored: o.stat("stored_messages")?,
        dumped: o.stat("dumped_messages")?,
        failed: o.stat("failed_messages")?,
    };
    o.provide(Arc::new(silo));
    Ok(())
}

fn live(kernel: &Arc<Kernel>) {
    let period = kernel.state::<Arc<Silo>>().check_time;
    kernel.every(Duration::from_secs(period), |kernel| async move {
        let silo = kernel.state::<Arc<Silo>>();
        let query = Query::new(silo.expire.clone(), vec![(kernel.unix() as i64).into()]);
        if let Err(e) = silo.store.execute(query).await {
            tracing::warn!("msilo: old messages were not deleted: {e}");
        }
    });
}

/// User and host of a URI; `None` when it has no user.
fn owner(uri: &[u8]) -> Option<(String, String)> {
    let uri = Uri::parse(uri).ok()?;
    let text = |t: &[u8]| String::from_utf8_lossy(t).into_owned();
    Some((text(uri.user.filter(|u| !u.is_empty())?), text(uri.host).to_ascii_lowercase()))
}

/// `m_store([owner])`: 1 when it is stored, -1 when it cannot be.
fn m_store(c: &mut Call<'_>) -> Flow {
    let kernel = c.ctx.shard.kernel.clone();
    let silo = kernel.state::<Arc<Silo>>().clone();
    let target = c.str(0).cloned().unwrap_or_else(|| c.ctx.ruri());
    let Some((user, host)) = owner(&target) else {
        tracing::warn!("m_store(): the owner has no user");
        return FALSE;
    };
    let body = body::current(c.ctx);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (Ok(from), Ok(to)) = (c.ctx.msg.from(), c.ctx.msg.to()) else { return FALSE };
    if body.bytes.is_empty() {
        return FALSE;
    }
    let now = kernel.unix() as i64;
    let insert = Query::new(
        silo.insert.clone(),
        vec![
            text(from.uri).into(),
            text(to.uri).into(),
            user.as_str().into(),
            host.as_str().into(),
            SqlValue::Blob(body.bytes.to_vec()),
            text(&body.kind).into(),
            now.into(),
            (now + silo.expire_time).into(),
        ],
    );
    let count = Query::new(silo.count.clone(), vec![user.into(), host.into()]);
    let work = {
        let silo = silo.clone();
        async move {
            if silo.max_messages > 0 {
                let rows = silo.store.fetch(count).await?;
                let found = rows.rows.first().and_then(|r| r.first()).and_then(SqlValue::to_int).unwrap_or(0);
                if found >= silo.max_messages {
                    return Ok(0);
                }
            }
            silo.store.execute(insert).await
        }
    };
    wait(Box::pin(work), move |ctx, result| match result {
        Ok(1..) => {
            ctx.shard.kernel.stats.add_outside(silo.stored, 1);
            TRUE
        }
        Ok(0) => {
            tracing::info!("m_store(): the user has {} messages already", silo.max_messages);
            FALSE
        }
        Err(e) => {
            tracing::error!("m_store(): {e}");
            FALSE
        }
    })
}

/// `m_dump([owner][, max])`: sends what is stored for the owner, or the user of To. True when the table could be read.
fn m_dump(c: &mut Call<'_>) -> Flow {
    let kernel = c.ctx.shard.kernel.clone();
    let silo = kernel.state::<Arc<Silo>>().clone();
    let to = |ctx: &Ctx| ctx.msg.to().ok().map(|to| Bytes::copy_from_slice(to.uri));
    let Some(uri) = c.str(0).cloned().or_else(|| to(c.ctx)) else { return FALSE };
    let Some((user, host)) = owner(&uri) else { return FALSE };
    let most = c.int(1).filter(|n| *n > 0).unwrap_or(MOST).min(MOST);
    let now = kernel.unix() as i64;
    let query = Query::new(silo.select.clone(), vec![user.into(), host.into(), now.into(), most.into()]);
    wait(silo.store.fetch(query), move |ctx, rows| match rows {
        Ok(rows) => {
            let shard = ctx.shard.clone();
            rows.rows.iter().for_each(|row| send(&shard, &silo, &uri, row));
            TRUE
        }
        Err(e) => {
            tracing::error!("m_dump(): {e}");
            FALSE
        }
    })
}

fn send(shard: &Rc<Shard>, silo: &Arc<Silo>, uri: &Bytes, row: &[SqlValue]) {
    let text = |i: usize| {
        let text = row.get(i).and_then(SqlValue::to_text).unwrap_or_default();
        text.trim_end().to_owned()
    };
    let Some(id) = row.first().and_then(SqlValue::to_int) else { return };
    if !silo.under_way.lock().insert(id) {
        return;
    }
    let kind = text(4);
    let mut body = match row.get(3) {
        Some(SqlValue::Blob(octets)) => octets.clone(),
        other => other.and_then(SqlValue::to_text).unwrap_or_default().into_bytes(),
    };
    if silo.add_date && kind.to_ascii_lowercase().starts_with("text/plain") {
        let came = row.get(5).and_then(SqlValue::to_int).unwrap_or(0);
        let mut dated = format!("[Offline message - {}] ", date(came)).into_bytes();
        dated.append(&mut body);
        body = dated;
    }
    let from = silo.from_address.clone().unwrap_or_else(|| text(1));
    let made = Request {
        method: Bytes::from_static(b"MESSAGE"),
        ruri: uri.clone(),
        from: format!("<{from}>").into(),
        to: format!("<{}>", text(2)).into(),
        next_hop: silo.outbound_proxy.clone(),
        body: Some((kind.into(), body.into())),
        ..Request::default()
    };
    let silo = silo.clone();
    let done = move |shard: &Rc<Shard>, code: u16| {
        let kernel = shard.kernel.clone();
        if !(200..300).contains(&code) {
            kernel.stats.add_outside(silo.failed, 1);
            silo.under_way.lock().remove(&id);
            return;
        }
        kernel.stats.add_outside(silo.dumped, 1);
        let silo = silo.clone();
        kernel.drivers.spawn.spawn(Box::pin(async move {
            let query = Query::new(silo.delete.clone(), vec![id.into()]);
            match silo.store.execute(query).await {
                Ok(_) => {
                    silo.under_way.lock().remove(&id);
                }
                // It stays noted as under way, so that this process does not send it again.
                Err(e) => tracing::error!("msilo: message {id} was taken and cannot be deleted: {e}"),
            }
        }));
    };
    request(shard, made, Rc::new(move |shard, code, _| done(shard, code)));
}

/// `2026-01-31 12:00`, UTC.
fn date(moment: i64) -> String {
    let short = switchroom_wire::smpp::time::short(moment, 0);
    let d = |at: usize| char::from(short[at]);
    let pair = |at: usize| [d(at), d(at + 1)].iter().collect::<String>();
    format!("20{}-{}-{} {}:{}", pair(0), pair(2), pair(4), pair(6), pair(8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_have_a_user() {
        assert_eq!(owner(b"sip:Bob@Example.org;x=y"), Some(("Bob".into(), "example.org".into())));
        assert_eq!(owner(b"sip:example.org"), None);
        assert_eq!(owner(b"bob"), None);
    }

    #[test]
    fn dates_are_for_people() {
        assert_eq!(date(1_700_000_000), "2023-11-14 22:13");
    }
}
