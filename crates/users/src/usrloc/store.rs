//! The location table in SQL: columns as OpenSIPS names them, so that its database opens as it is.

use std::sync::Arc;

use switchroom_kernel::Kernel;
use switchroom_kernel::open::Opening;
use switchroom_kernel::ports::net::SocketId;
use switchroom_kernel::ports::store::{Query, Rows, SqlValue};

use super::contact::{Contact, Field, Texts};

/// Column names, all changeable by parameter; statements made from them once.
pub struct Columns {
    names: Vec<String>,
}

const STANDARD: [&str; 19] = [
    "contact_id",
    "username",
    "domain",
    "contact",
    "received",
    "path",
    "expires",
    "q",
    "callid",
    "cseq",
    "last_modified",
    "flags",
    "cflags",
    "user_agent",
    "socket",
    "methods",
    "sip_instance",
    "kv_store",
    "attr",
];

impl Columns {
    /// Names from the parameters (`contact_column` ...).
    pub fn open(o: &Opening<'_>) -> Columns {
        let name = |standard: &str| match standard {
            "last_modified" => standard.to_owned(),
            "username" => o.str("user_column").unwrap_or_else(|| standard.to_owned()),
            other => o.str(&format!("{other}_column")).unwrap_or_else(|| other.to_owned()),
        };
        Columns { names: STANDARD.iter().map(|s| name(s)).collect() }
    }

    /// Insert a row, or replace the one with the same key.
    pub fn upsert(&self, table: &str) -> Arc<str> {
        let marks = vec!["?"; self.names.len()].join(", ");
        format!("REPLACE INTO {table} ({}) VALUES ({marks})", self.names.join(", ")).into()
    }

    /// Delete by key.
    pub fn delete(&self, table: &str) -> Arc<str> {
        format!("DELETE FROM {table} WHERE {} = ?", self.names[0]).into()
    }

    /// All rows.
    pub fn select(&self, table: &str) -> Arc<str> {
        format!("SELECT {} FROM {table}", self.names.join(", ")).into()
    }

    /// The next `limit` rows behind the one with key `after`, in the order of keys.
    pub fn loading(&self, table: &str, after: Option<SqlValue>, limit: usize) -> Query {
        let id = &self.names[0];
        let behind = if after.is_some() { format!(" WHERE {id} > ?") } else { String::new() };
        let sql = format!("{}{behind} ORDER BY {id} LIMIT ?", self.select(table));
        Query::new(sql, after.into_iter().chain([SqlValue::Int(limit as i64)]).collect())
    }

    /// Rows of one address of record that still count at `now`.
    pub fn of_aor(&self, table: &str, aor: &[u8], use_domain: bool, now: u64) -> Query {
        let (user, domain) = (&self.names[1], &self.names[2]);
        let (name, host) = split(aor, use_domain);
        let mut sql = format!("{} WHERE {user} = ?", self.select(table));
        let mut args = vec![SqlValue::Text(name)];
        if let Some(host) = host {
            sql.push_str(&format!(" AND {domain} = ?"));
            args.push(host.into());
        }
        sql.push_str(&self.live());
        args.push(SqlValue::Int(now as i64));
        Query::new(sql, args)
    }

    /// Rows that still count and name this text in their Contact URI or the address they were seen at.
    pub fn of_address(&self, table: &str, address: &str, now: u64) -> Query {
        let (contact, received) = (&self.names[3], &self.names[4]);
        let like = format!("%{address}%");
        let sql =
            format!("{} WHERE ({contact} LIKE ? OR {received} LIKE ?){}", self.select(table), self.live());
        Query::new(sql, vec![like.clone().into(), like.into(), SqlValue::Int(now as i64)])
    }

    /// The next `limit` rows after key `after` that still count and came in on one of `sockets`, or on none that is known.
    pub fn page(&self, table: &str, after: u64, sockets: &[String], now: u64, limit: usize) -> Query {
        let (id, socket) = (&self.names[0], &self.names[14]);
        let marks = vec!["?"; sockets.len()].join(", ");
        let ours = match sockets.is_empty() {
            true => String::new(),
            false => format!(" OR {socket} IN ({marks})"),
        };
        let sql = format!(
            "{} WHERE {id} > ? AND ({socket} IS NULL OR {socket} = ''{ours}){} ORDER BY {id} LIMIT ?",
            self.select(table),
            self.live()
        );
        let mut args = vec![SqlValue::Int(after as i64)];
        args.extend(sockets.iter().map(|s| SqlValue::from(&**s)));
        args.extend([SqlValue::Int(now as i64), SqlValue::Int(limit as i64)]);
        Query::new(sql, args)
    }

    /// Some rows whose time is over.
    pub fn expired(&self, table: &str, now: u64, limit: usize) -> Query {
        let expires = &self.names[6];
        let sql = format!("{} WHERE {expires} > 0 AND {expires} <= ? LIMIT ?", self.select(table));
        Query::new(sql, vec![SqlValue::Int(now as i64), SqlValue::Int(limit as i64)])
    }

    /// Delete a row whose time is over, unless another server has renewed it meanwhile.
    pub fn delete_expired(&self, table: &str, c: &Contact) -> Query {
        let sql = format!("DELETE FROM {table} WHERE {} = ? AND {} = ?", self.names[0], self.names[6]);
        Query::new(sql, vec![SqlValue::Int(c.id as i64), SqlValue::Int(c.expires as i64)])
    }

    fn live(&self) -> String {
        format!(" AND ({0} = 0 OR {0} > ?)", self.names[6])
    }
}

/// User and domain of an address of record.
fn split(aor: &[u8], use_domain: bool) -> (String, Option<String>) {
    let aor = String::from_utf8_lossy(aor).into_owned();
    match aor.rsplit_once('@') {
        Some((u, d)) if use_domain => (u.to_owned(), Some(d.to_owned())),
        _ => (aor, None),
    }
}

/// Arguments of [`Columns::upsert`].
pub fn row(kernel: &Kernel, aor: &[u8], use_domain: bool, c: &Contact) -> Vec<SqlValue> {
    let (user, domain) = split(aor, use_domain);
    let optional = |f: Field| Some(c.string(f)).filter(|t| !t.is_empty());
    let socket = c.socket.and_then(|s| kernel.socket(s)).map(|s| s.name());
    vec![
        SqlValue::Int(c.id as i64),
        user.into(),
        domain.into(),
        c.string(Field::Uri).into(),
        optional(Field::Received).into(),
        optional(Field::Path).into(),
        SqlValue::Int(c.expires as i64),
        SqlValue::Real(if c.q < 0 { -1.0 } else { f64::from(c.q) / 1000.0 }),
        c.string(Field::CallId).into(),
        SqlValue::Int(i64::from(c.cseq)),
        datetime(c.modified).into(),
        SqlValue::Int(i64::from(c.flags)),
        flag_names(kernel, c.cflags).into(),
        c.string(Field::UserAgent).into(),
        socket.into(),
        if c.methods == u32::MAX { SqlValue::Null } else { SqlValue::Int(i64::from(c.methods)) },
        optional(Field::Instance).into(),
        SqlValue::Null,
        optional(Field::Attr).into(),
    ]
}

/// Branch flags are stored by name, as their bits depend on the script.
fn flag_names(kernel: &Kernel, mask: u32) -> Option<String> {
    use switchroom_kernel::names::FlagKind;
    (mask != 0).then(|| kernel.registry.names.flag_names(FlagKind::Branch, mask))
}

fn flag_mask(kernel: &Kernel, value: &SqlValue) -> u32 {
    use switchroom_kernel::names::FlagKind;
    match value {
        SqlValue::Text(names) => {
            let names = names.split_whitespace();
            let known = names.filter_map(|n| kernel.registry.names.flag(FlagKind::Branch, n).ok());
            known.fold(0, |mask, bit| mask | 1 << bit)
        }
        other => other.to_int().unwrap_or(0) as u32,
    }
}

/// Rows of [`Columns::select`] as (address of record, contact). Rows that make no sense are left out and counted.
pub fn read_rows(kernel: &Kernel, use_domain: bool, rows: Rows) -> (Vec<(Vec<u8>, Contact)>, usize) {
    let mut good = Vec::with_capacity(rows.rows.len());
    let total = rows.rows.len();
    for r in rows.rows {
        let text = |i: usize| r.get(i).and_then(SqlValue::to_text).unwrap_or_default();
        let int = |i: usize| r.get(i).and_then(SqlValue::to_int);
        let (user, uri) = (text(1), text(3));
        let aor = match (use_domain, text(2)) {
            (true, domain) if !domain.is_empty() => format!("{user}@{domain}"),
            _ => user,
        };
        if aor.is_empty() || uri.is_empty() {
            continue;
        }
        let texts = [text(4), text(5), text(13), text(8), text(16), text(18)];
        let mut c = Contact::new(&Texts {
            uri: uri.as_bytes(),
            received: texts[0].as_bytes(),
            path: texts[1].as_bytes(),
            user_agent: texts[2].as_bytes(),
            call_id: texts[3].as_bytes(),
            instance: texts[4].as_bytes(),
            attr: texts[5].as_bytes(),
        });
        c.id = int(0).unwrap_or(0) as u64;
        c.expires = expires(r.get(6));
        c.q = match r.get(7) {
            Some(SqlValue::Real(q)) if *q >= 0.0 => (q * 1000.0) as i16,
            Some(SqlValue::Int(q)) if *q >= 0 => (*q * 1000).min(1000) as i16,
            _ => -1,
        };
        c.cseq = int(9).unwrap_or(0) as u32;
        c.modified = r.get(10).map_or(0, |v| parse_datetime(&v.to_text().unwrap_or_default()));
        c.flags = int(11).unwrap_or(0) as u32;
        c.cflags = r.get(12).map_or(0, |v| flag_mask(kernel, v));
        c.socket = find_socket(kernel, &text(14));
        c.methods = int(15).map_or(u32::MAX, |m| m as u32);
        c.settle();
        good.push((aor.into_bytes(), c));
    }
    let bad = total - good.len();
    (good, bad)
}

/// `expires` is an integer today and was a date in older schemas.
fn expires(value: Option<&SqlValue>) -> u64 {
    match value {
        Some(SqlValue::Text(t)) => match t.parse::<u64>() {
            Ok(n) => n,
            Err(_) => parse_datetime(t),
        },
        Some(v) => v.to_int().unwrap_or(0).max(0) as u64,
        None => 0,
    }
}

fn find_socket(kernel: &Kernel, name: &str) -> Option<SocketId> {
    kernel.sockets().iter().find(|s| s.name() == name).map(|s| s.id)
}

/// `YYYY-MM-DD HH:MM:SS` in UTC.
pub fn datetime(unix: u64) -> String {
    let (days, secs) = ((unix / 86_400) as i64, unix % 86_400);
    let (y, m, d) = civil(days);
    format!("{y:04}-{m:02}-{d:02} {:02}:{:02}:{:02}", secs / 3600, secs / 60 % 60, secs % 60)
}

/// The other way; 0 when it is no date.
pub fn parse_datetime(text: &str) -> u64 {
    let mut n = text.split(|c: char| !c.is_ascii_digit()).filter_map(|p| p.parse::<i64>().ok());
    let (Some(y), Some(m), Some(d)) = (n.next(), n.next(), n.next()) else { return 0 };
    let (h, min, s) = (n.next().unwrap_or(0), n.next().unwrap_or(0), n.next().unwrap_or(0));
    let days = days_from_civil(y, m, d);
    (days * 86_400 + h * 3600 + min * 60 + s).max(0) as u64
}

/// Days since 1970-01-01 to year, month, day (proleptic Gregorian).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

fn days_from_civil(y: i64, m: i64, d: i64) -> i64 {
    let y = if m <= 2 { y - 1 } else { y };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (if m > 2 { m - 3 } else { m + 9 }) + 2) / 5 + d - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_go_there_and_back() {
        for unix in [0, 951_782_400, 1_700_000_000, 4_102_444_799] {
            assert_eq!(parse_datetime(&datetime(unix)), unix);
        }
        assert_eq!(datetime(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(parse_datetime("never"), 0);
    }
}
