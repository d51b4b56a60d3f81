//! Messages (RFC 3428) for users who are not there: stored by the script, sent when it says so, usually at registration.
//!
//! A message may name the time when it is sent as a reminder; senders may be told that their message was stored.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::tz::TimeZone;
use parking_lot::Mutex;
use switchroom_calls::core::body;
use switchroom_calls::tm::api::{Request, request};
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE, wait};
use switchroom_kernel::module::{Function, Module, Param, Statistic, TableUse};
use switchroom_kernel::open::Opening;
use switchroom_kernel::ports::store::{Query, SqlValue, Store};
use switchroom_kernel::run::print_format;
use switchroom_kernel::stats::StatId;
use switchroom_kernel::{Kernel, Shard};
use switchroom_script::vm::VarAccess;
use switchroom_script::{Template, Variable};
use switchroom_wire::sip::{HeaderId, NameAddr, Uri};

/// The module.
pub static MODULE: Module = Module {
    name: "msilo",
    summary: "Messages for users who are not there",
    needs: &["tm"],
    params: &[
        Param::unset("db_url", "Database"),
        Param::str("db_table", "silo", "Table of messages"),
        Param::unset("from_address", "URI that tells senders of the storing; nobody is told when unset"),
        Param::unset("contact_hdr", "Header line Contact of what tells senders"),
        Param::unset("content_type_hdr", "Header line Content-Type of what tells senders"),
        Param::unset("offline_message", "What senders are told; may contain variables, as the three above"),
        Param::int("use_contact", "1", "Tell senders at their Contact, else at the URI of From"),
        Param::unset("reminder", "URI that reminders come from; without it there are none"),
        Param::int("send_time", "0", "Seconds between looks for reminders to be sent; 0 sends none"),
        Param::unset("snd_time_avp", "Variable that says when to remind, as 20260131120000"),
        Param::unset("outbound_proxy", "Where stored messages go first"),
        Param::int("expire_time", "259200", "Seconds for which a message is kept"),
        Param::int("check_time", "60", "Seconds of one cycle"),
        Param::int("clean_period", "10", "Cycles between looks for messages whose time is over"),
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
        Param::str("sc_snd_time", "snd_time", "Column"),
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
        Statistic::counter("dumped_reminders", "Reminders that were taken"),
        Statistic::counter("failed_reminders", "Reminders that were sent and not taken"),
    ],
    tables: &[TableUse { name: "silo", version: 6 }],
    open,
    live: Some(live),
    ..Module::EMPTY
};

/// Messages sent by one `m_dump()`.
const MOST: i64 = 1000;

/// Everything the functions need.
///
/// More than 15 fields: they are the module's parameters and its statements.
struct Silo {
    store: Arc<dyn Store>,
    insert: Arc<str>,
    count: Arc<str>,
    select: Arc<str>,
    delete: Arc<str>,
    expire: Arc<str>,
    due: Arc<str>,
    notice: Option<Notice>,
    use_contact: bool,
    reminder: Option<String>,
    send_time: u64,
    snd_time: Option<VarAccess>,
    outbound_proxy: Option<Bytes>,
    expire_time: i64,
    clean: u64,
    add_date: bool,
    max_messages: i64,
    /// Rows under way, so that a second `m_dump()` does not send them again.
    under_way: Mutex<HashSet<i64>>,
    stored: StatId,
    /// Taken and not taken: messages, reminders.
    dumped: [StatId; 2],
    failed: [StatId; 2],
}

/// What senders are told.
struct Notice {
    from: Template,
    body: Template,
    contact: Option<Template>,
    kind: Option<Template>,
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
    let (expires, came, snd) = (name("sc_exp_time")?, name("sc_inc_time")?, name("sc_snd_time")?);
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
            "INSERT INTO {table} ({from}, {to}, {user}, {host}, {body}, {kind}, {came}, {expires}, {snd}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        )
        .into(),
        count: format!("SELECT COUNT(*) FROM {table} WHERE {user} = ? AND {host} = ?").into(),
        select: format!(
            "SELECT {id}, {from}, {to}, {body}, {kind}, {came} FROM {table} WHERE {user} = ? AND {host} = ? AND {snd} = 0 AND {expires} > ? ORDER BY {id} LIMIT ?"
        )
        .into(),
        delete: format!("DELETE FROM {table} WHERE {id} = ?").into(),
        expire: format!("DELETE FROM {table} WHERE {expires} <= ?").into(),
        due: format!(
            "SELECT {id}, {from}, {to}, {body}, {kind}, {came}, {user}, {host} FROM {table} WHERE {snd} > 0 AND {snd} <= ? ORDER BY {snd} LIMIT ?"
        )
        .into(),
        notice: notice(o)?,
        use_contact: o.on("use_contact"),
        reminder: given("reminder"),
        send_time: o.int("send_time").max(0) as u64,
        snd_time: match given("snd_time_avp") {
            None => None,
            Some(text) => {
                let variable = Variable::compile(&text, &o.kernel.registry);
                let variable = variable.map_err(|e| format!("snd_time_avp \"{text}\": {e}"))?;
                Some(variable.access().cloned().ok_or_else(|| {
                    format!("snd_time_avp \"{text}\" is no plain variable such as $avp(snd_time)")
                })?)
            }
        },
        outbound_proxy: given("outbound_proxy").map(Bytes::from),
        expire_time: positive("expire_time")?,
        clean: (positive("check_time")? * positive("clean_period")?) as u64,
        add_date: o.on("add_date"),
        max_messages: o.int("max_messages"),
        under_way: Mutex::default(),
        stored: o.stat("stored_messages")?,
        dumped: [o.stat("dumped_messages")?, o.stat("dumped_reminders")?],
        failed: [o.stat("failed_messages")?, o.stat("failed_reminders")?],
    };
    o.provide(Arc::new(silo));
    Ok(())
}

fn notice(o: &Opening<'_>) -> Result<Option<Notice>, String> {
    let template = |param: &str| match o.str(param).filter(|v| !v.is_empty()) {
        None => Ok(None),
        Some(text) => Template::compile(text.as_bytes(), &o.kernel.registry)
            .map(Some)
            .map_err(|e| format!("parameter `{param}`: {e}")),
    };
    let (Some(from), Some(body)) = (template("from_address")?, template("offline_message")?) else {
        return Ok(None);
    };
    Ok(Some(Notice { from, body, contact: template("contact_hdr")?, kind: template("content_type_hdr")? }))
}

fn live(kernel: &Arc<Kernel>) {
    let silo = kernel.state::<Arc<Silo>>();
    let (period, send_time) = (silo.clean, silo.send_time);
    if send_time > 0 && silo.reminder.is_some() {
        kernel.every(Duration::from_secs(send_time), |kernel| async move { remind(&kernel).await });
    }
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

/// Sends the reminders whose time has come.
async fn remind(kernel: &Arc<Kernel>) {
    let silo = kernel.state::<Arc<Silo>>().clone();
    let query = Query::new(silo.due.clone(), vec![(kernel.unix() as i64).into(), MOST.into()]);
    let rows = match silo.store.fetch(query).await {
        Ok(rows) => rows.rows,
        Err(e) => return tracing::warn!("msilo: reminders cannot be read: {e}"),
    };
    for row in rows {
        let text = |i: usize| row.get(i).and_then(SqlValue::to_text).unwrap_or_default().trim().to_owned();
        let uri = Bytes::from(format!("sip:{}@{}", text(6), text(7)));
        let silo = silo.clone();
        // One that finds no room stays for the next look.
        kernel.on_worker(0, move |shard| send(shard, &silo, &uri, &row, true));
    }
}

/// `20260131120000`, local time, as unix seconds.
fn moment(text: &str, zone: TimeZone) -> Option<i64> {
    if text.len() != 14 {
        return None;
    }
    let local = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", text).ok()?;
    Some(local.to_zoned(zone).ok()?.timestamp().as_second())
}

/// `m_store([owner])`: 1 when it is stored, -1 when it cannot be.
fn m_store(c: &mut Call<'_>) -> Flow {
    let kernel = c.ctx.shard.kernel.clone();
    let silo = kernel.state::<Arc<Silo>>().clone();
    let to = c.ctx.msg.to().ok().and_then(|to| owner(to.uri));
    let target = c.str(0).cloned();
    let asked = target.as_ref().map(|t| owner(t)).unwrap_or_else(|| owner(&c.ctx.ruri()).or(to));
    let Some((user, host)) = asked else {
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
    let (from, to) = (text(from.uri), text(to.uri));
    let mut remind_at = 0;
    if let Some(variable) = &silo.snd_time {
        let said = c.ctx.get_var(variable).to_bytes().unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        match moment(said.trim(), TimeZone::system()) {
            Some(at) => remind_at = at,
            None if said.is_empty() => {}
            None => {
                tracing::error!("m_store(): the time \"{said}\" is not of the form 20260131120000");
                return FALSE;
            }
        }
    }
    let insert = Query::new(
        silo.insert.clone(),
        vec![
            from.into(),
            to.into(),
            user.as_str().into(),
            host.as_str().into(),
            SqlValue::Blob(body.bytes.to_vec()),
            text(&body.kind).into(),
            now.into(),
            (now.max(remind_at) + silo.expire_time).into(),
            remind_at.into(),
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
            tell_sender(ctx, &silo);
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

/// The sender hears that his message was stored, when that is wanted.
fn tell_sender(ctx: &mut Ctx, silo: &Silo) {
    let Some(notice) = &silo.notice else { return };
    let contact = ctx.msg.header(HeaderId::Contact).and_then(|h| NameAddr::parse(h.value).ok());
    let contact = contact.filter(|_| silo.use_contact).map(|c| Bytes::copy_from_slice(c.uri));
    let Ok(from) = ctx.msg.from() else { return };
    let sender = Bytes::copy_from_slice(from.uri);
    let bracketed = |uri: &[u8]| Bytes::from([b"<", uri, b">"].concat());
    let (own, body) = (print_format(ctx, &notice.from), print_format(ctx, &notice.body));
    let headers = notice.contact.as_ref().map(|t| print_format(ctx, t)).unwrap_or_default();
    let kind = notice.kind.as_ref().map(|t| print_format(ctx, t)).unwrap_or_default();
    // The parameter is a whole header line.
    let kind = match kind.iter().position(|b| *b == b':') {
        Some(colon) => Bytes::copy_from_slice(kind[colon + 1..].trim_ascii()),
        None => Bytes::from_static(b"text/plain"),
    };
    let made = Request {
        method: Bytes::from_static(b"MESSAGE"),
        ruri: contact.unwrap_or_else(|| sender.clone()),
        from: bracketed(&own),
        to: bracketed(&sender),
        next_hop: silo.outbound_proxy.clone(),
        headers: lines(&headers),
        body: Some((kind, body)),
        ..Request::default()
    };
    request(&ctx.shard.clone(), made, Rc::new(|_, _, _| {}));
}

/// Whole header lines, whatever stands at their ends; empty for nothing.
fn lines(headers: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(headers.len() + 2);
    for line in headers.split(|b| matches!(b, b'\r' | b'\n')).filter(|l| l.contains(&b':')) {
        out.extend_from_slice(line);
        out.extend_from_slice(b"\r\n");
    }
    out.into()
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
            rows.rows.iter().for_each(|row| send(&shard, &silo, &uri, row, false));
            TRUE
        }
        Err(e) => {
            tracing::error!("m_dump(): {e}");
            FALSE
        }
    })
}

fn send(shard: &Rc<Shard>, silo: &Arc<Silo>, uri: &Bytes, row: &[SqlValue], reminds: bool) {
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
        let what = if reminds { "Reminder" } else { "Offline" };
        let mut dated = format!("[{what} message - {}] ", date(came, TimeZone::system())).into_bytes();
        dated.append(&mut body);
        body = dated;
    }
    let from = silo.reminder.clone().filter(|_| reminds).unwrap_or_else(|| text(1));
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
            kernel.stats.add_outside(silo.failed[usize::from(reminds)], 1);
            silo.under_way.lock().remove(&id);
            return;
        }
        kernel.stats.add_outside(silo.dumped[usize::from(reminds)], 1);
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

/// `2026-01-31 12:00`
fn date(moment: i64, zone: TimeZone) -> String {
    let at = jiff::Timestamp::from_second(moment).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    at.to_zoned(zone).strftime("%Y-%m-%d %H:%M").to_string()
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
    fn times_of_reminders_are_read() {
        assert_eq!(moment("20231114221320", TimeZone::UTC), Some(1_700_000_000));
        assert_eq!(moment("19700101000000", TimeZone::UTC), Some(0));
        assert_eq!(moment("20240229120000", TimeZone::UTC), Some(1_709_208_000));
        for wrong in ["", "2023111422132", "20231314221320", "20231114251320", "2023111422132x"] {
            assert_eq!(moment(wrong, TimeZone::UTC), None, "{wrong}");
        }
    }

    #[test]
    fn header_lines_are_whole_or_left_out() {
        assert_eq!(&lines(b"Contact: <sip:a>")[..], b"Contact: <sip:a>\r\n");
        assert_eq!(&lines(b"Contact: <sip:a>\r\n\r\n")[..], b"Contact: <sip:a>\r\n");
        assert!(lines(b"x").is_empty());
    }

    #[test]
    fn dates_are_for_people() {
        assert_eq!(date(1_700_000_000, TimeZone::UTC), "2023-11-14 22:13");
    }
}
