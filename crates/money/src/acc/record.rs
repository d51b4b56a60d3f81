//! Records: what is known of a transaction when it is accounted, and how each backend is told.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use switchroom_kernel::context::Ctx;
use switchroom_kernel::ports::store::{Query, SqlValue};
use switchroom_kernel::run::read_variable;
use switchroom_script::Value;

use super::account::Values;
use super::fields::{Fields, Source};
use super::what::Backend;
use super::{Acc, Columns};

/// Why a record is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The script asked for it on the spot.
    Asked,
    /// A transaction has its final reply.
    Answered,
    /// A call was not answered.
    Missed,
    /// An answered call has ended; how long it took, in milliseconds.
    Ended(u64),
}

impl Why {
    fn title(self) -> &'static [u8] {
        match self {
            Why::Asked => b"ACC: request accounted: ",
            Why::Answered => b"ACC: transaction answered: ",
            Why::Missed => b"ACC: call missed: ",
            Why::Ended(_) => b"ACC: call ended: ",
        }
    }
}

/// The fixed part of a record.
#[derive(Clone)]
pub struct Record {
    /// Why it is made.
    pub why: Why,
    /// Request method.
    pub method: Bytes,
    /// Tag of the caller's side.
    pub from_tag: Bytes,
    /// Tag of the callee's side, empty when there is none.
    pub to_tag: Bytes,
    /// Call-ID.
    pub call_id: Bytes,
    /// Code of the final reply.
    pub code: Option<u16>,
    /// Its reason phrase.
    pub reason: Bytes,
    /// Now, or for a whole call when it was answered, in seconds since the epoch.
    pub time: u64,
    /// When the request came, in seconds since the epoch.
    pub created: u64,
}

/// Values of the fields of one backend: those of the request, and those of each leg.
#[derive(Clone)]
pub struct Extras {
    /// Of the request.
    pub own: Vec<(Arc<str>, Value)>,
    /// Of each leg.
    pub legs: Vec<Vec<(Arc<str>, Value)>>,
}

impl Extras {
    /// Collect them.
    pub fn collect(acc: &Acc, ctx: &mut Ctx, values: &Values, backend: Backend) -> Extras {
        let own = list(&acc.extra, ctx, &values.extra, backend);
        let declared = acc.legs.of(backend).next().is_some();
        let legs = match declared {
            true => values.legs.iter().map(|leg| list(&acc.legs, ctx, leg, backend)).collect(),
            false => Vec::new(),
        };
        Extras { own, legs }
    }
}

impl Extras {
    /// What the script set by now, with the variables as they were in `before`.
    pub fn again(acc: &Acc, values: &Values, backend: Backend, before: &Extras) -> Extras {
        let set = |fields: &Fields, values: &[Value], old: &[(Arc<str>, Value)]| -> Vec<(Arc<str>, Value)> {
            let all = fields.of(backend).enumerate().map(|(i, f)| {
                let value = match &f.source {
                    Source::Tag(place) => values.get(*place).cloned(),
                    Source::Variable(_) => old.get(i).map(|(_, v)| v.clone()),
                };
                (f.name.clone(), value.unwrap_or_default())
            });
            all.collect()
        };
        let own = set(&acc.extra, &values.extra, &before.own);
        let legs = match before.legs.is_empty() {
            true => Vec::new(),
            false => values.legs.iter().map(|leg| set(&acc.legs, leg, &[])).collect(),
        };
        Extras { own, legs }
    }
}

fn list(fields: &Fields, ctx: &mut Ctx, values: &[Value], backend: Backend) -> Vec<(Arc<str>, Value)> {
    let mut out = Vec::new();
    for f in fields.of(backend) {
        let value = match &f.source {
            Source::Tag(place) => values.get(*place).cloned().unwrap_or_default(),
            Source::Variable(v) => read_variable(ctx, v),
        };
        out.push((f.name.clone(), value));
    }
    out
}

impl Record {
    fn code_text(&self) -> Bytes {
        match self.code {
            Some(code) => Bytes::copy_from_slice(itoa::Buffer::new().format(code).as_bytes()),
            None => Bytes::new(),
        }
    }

    /// The same without a hold on the message it was made from.
    pub fn own(self) -> Record {
        let copy = |b: &Bytes| Bytes::copy_from_slice(b);
        Record {
            method: copy(&self.method),
            from_tag: copy(&self.from_tag),
            to_tag: copy(&self.to_tag),
            call_id: copy(&self.call_id),
            reason: copy(&self.reason),
            ..self
        }
    }

    fn has_times(&self) -> bool {
        matches!(self.why, Why::Missed | Why::Ended(_))
    }

    fn setup_time(&self) -> u64 {
        self.time.saturating_sub(self.created)
    }

    /// The line of the log.
    pub fn line(&self, extras: &Extras) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(self.why.title());
        let mut number = itoa::Buffer::new();
        put(&mut out, b"timestamp", number.format(self.time).as_bytes());
        let code = self.code_text();
        let texts: [(&[u8], &[u8]); 6] = [
            (b"method", &self.method),
            (b"from_tag", &self.from_tag),
            (b"to_tag", &self.to_tag),
            (b"call_id", &self.call_id),
            (b"code", &code),
            (b"reason", &self.reason),
        ];
        for (name, value) in texts {
            out.push(b';');
            put(&mut out, name, value);
        }
        if let Why::Ended(ms) = self.why {
            for (name, value) in [(&b"duration"[..], ms.div_ceil(1000)), (b"ms_duration", ms)] {
                out.push(b';');
                put(&mut out, name, number.format(value).as_bytes());
            }
        }
        if self.has_times() {
            out.push(b';');
            put(&mut out, b"created", number.format(self.created).as_bytes());
            out.push(b';');
            put(&mut out, b"setuptime", number.format(self.setup_time()).as_bytes());
        }
        for (name, value) in extras.own.iter().chain(extras.legs.iter().flatten()) {
            out.push(b';');
            put(&mut out, name.as_bytes(), &value.to_bytes().unwrap_or_default());
        }
        out
    }

    /// The rows of the table: one, or one for each leg.
    pub fn rows(&self, acc: &Acc, table: &str, extras: Extras) -> Vec<Query> {
        let columns: &Columns = &acc.columns;
        let sql = columns.insert(table, self.why, &acc.extra, &acc.legs);
        let text = |b: &Bytes| SqlValue::from(&b[..]);
        let mut args = vec![
            text(&self.method),
            text(&self.from_tag),
            text(&self.to_tag),
            text(&self.call_id),
            text(&self.code_text()),
            text(&self.reason),
            date(self.time).into(),
        ];
        if self.has_times() {
            args.push(SqlValue::Int(self.setup_time() as i64));
            args.push(date(self.created).into());
        }
        if let Why::Ended(ms) = self.why {
            args.push(SqlValue::Int(ms.div_ceil(1000) as i64));
            args.push(SqlValue::Int(ms as i64));
        }
        args.extend(extras.own.into_iter().map(|(_, v)| sql_value(v)));
        if extras.legs.is_empty() {
            return vec![Query::new(sql, args)];
        }
        let rows = extras.legs.into_iter().map(|leg| {
            let mut args = args.clone();
            args.extend(leg.into_iter().map(|(_, v)| sql_value(v)));
            Query::new(sql.clone(), args)
        });
        rows.collect()
    }

    /// Attributes of the events: one event, or one for each leg.
    pub fn attributes(&self, extras: Extras) -> Vec<Vec<(Arc<str>, Value)>> {
        let fixed = [
            ("method", Value::Str(self.method.clone())),
            ("from_tag", Value::Str(self.from_tag.clone())),
            ("to_tag", Value::Str(self.to_tag.clone())),
            ("callid", Value::Str(self.call_id.clone())),
            ("sip_code", Value::Str(self.code_text())),
            ("sip_reason", Value::Str(self.reason.clone())),
            ("time", Value::Int(self.time as i64)),
        ];
        let mut base: Vec<(Arc<str>, Value)> = fixed.map(|(n, v)| (Arc::from(n), v)).into();
        base.extend(extras.own);
        let mut last: Vec<(Arc<str>, Value)> = Vec::new();
        let mut number = |name: &str, value: u64| last.push((Arc::from(name), Value::Int(value as i64)));
        match self.why {
            Why::Missed => {
                number("created", self.created);
                number("setuptime", self.setup_time());
            }
            Why::Ended(ms) => {
                number("duration", ms.div_ceil(1000));
                number("ms_duration", ms);
                number("setuptime", self.setup_time());
                number("created", self.created);
            }
            Why::Asked | Why::Answered => {}
        }
        let legs = if extras.legs.is_empty() { vec![Vec::new()] } else { extras.legs };
        legs.into_iter().map(|leg| base.iter().cloned().chain(leg).chain(last.clone()).collect()).collect()
    }
}

/// A line must stay one line, whatever a peer wrote.
fn put(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.push(b'=');
    out.extend(value.iter().map(|b| if b.is_ascii_control() { b'.' } else { *b }));
}

fn sql_value(value: Value) -> SqlValue {
    match value {
        Value::Null => SqlValue::Null,
        Value::Int(i) => SqlValue::Int(i),
        Value::Str(s) => SqlValue::from(&s[..]),
    }
}

/// Local time, as the tables have it.
pub fn date(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok().and_then(|s| Timestamp::from_second(s).ok()).unwrap_or_default();
    at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_log_names_every_value_and_stays_one_line() {
        let record = |why| Record {
            why,
            method: "INVITE".into(),
            from_tag: "fa".into(),
            to_tag: "".into(),
            call_id: "c1".into(),
            code: Some(486),
            reason: "Busy\r\nHere".into(),
            time: 1_700_000_010,
            created: 1_700_000_000,
        };
        let extras = Extras {
            own: vec![("caller".into(), Value::Int(7)), ("plan".into(), Value::Null)],
            legs: vec![vec![("leg".into(), Value::from("a"))], vec![("leg".into(), Value::from("b"))]],
        };
        let fixed =
            "timestamp=1700000010;method=INVITE;from_tag=fa;to_tag=;call_id=c1;code=486;reason=Busy..Here";
        let rest = "caller=7;plan=;leg=a;leg=b";
        let line = |why| String::from_utf8(record(why).line(&extras)).unwrap();
        assert_eq!(line(Why::Answered), format!("ACC: transaction answered: {fixed};{rest}"));
        assert_eq!(line(Why::Asked), format!("ACC: request accounted: {fixed};{rest}"));
        assert_eq!(
            line(Why::Missed),
            format!("ACC: call missed: {fixed};created=1700000000;setuptime=10;{rest}")
        );
    }
}
