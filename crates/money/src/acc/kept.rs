//! The account of a whole call as text, so that a restart of the server keeps it (the dialog module stores it).

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value as Json, json};
use switchroom_calls::dialog::api::Follow;
use switchroom_script::Value;

use super::account::{Values, WholeCall};
use super::record::{Extras, Record, Why};
use super::what::What;

/// As text.
pub fn save(call: &WholeCall) -> String {
    let r = &call.record;
    let text = |b: &Bytes| json!(String::from_utf8_lossy(b));
    let fields = |list: &[(Arc<str>, Value)]| -> Json {
        list.iter().map(|(name, v)| json!([&**name, value(v)])).collect()
    };
    let extras = call.extras.each_ref().map(
        |e| json!({"own": fields(&e.own), "legs": e.legs.iter().map(|l| fields(l)).collect::<Vec<_>>()}),
    );
    let values = call.values.borrow();
    json!({
        "what": call.call.bits(),
        "table": call.table.as_deref(),
        "method": text(&r.method),
        "from_tag": text(&r.from_tag),
        "to_tag": text(&r.to_tag),
        "call_id": text(&r.call_id),
        "code": r.code,
        "reason": text(&r.reason),
        "created": r.created,
        "extras": extras,
        "extra": values.extra.iter().map(value).collect::<Vec<_>>(),
        "legs": values.legs.iter().map(|l| l.iter().map(value).collect::<Vec<_>>()).collect::<Vec<_>>(),
    })
    .to_string()
}

/// From that text; `None` when it is something else.
pub fn restore(text: &str) -> Option<Rc<dyn Follow>> {
    let all: Json = serde_json::from_str(text).ok()?;
    let text = |name: &str| Some(Bytes::from(all.get(name)?.as_str()?.to_owned()));
    let list = |j: Option<&Json>| Some(j?.as_array()?.iter().map(script_value).collect::<Vec<_>>());
    let fields = |j: &Json| -> Option<Vec<(Arc<str>, Value)>> {
        let pairs = j.as_array()?.iter();
        pairs.map(|p| Some((Arc::from(p.get(0)?.as_str()?), script_value(p.get(1)?)))).collect()
    };
    let extras = |i: usize| -> Option<Extras> {
        let e = all.get("extras")?.get(i)?;
        let legs = e.get("legs")?.as_array()?.iter().map(fields).collect::<Option<_>>()?;
        Some(Extras { own: fields(e.get("own")?)?, legs })
    };
    let record = Record {
        why: Why::Ended(0),
        method: text("method")?,
        from_tag: text("from_tag")?,
        to_tag: text("to_tag")?,
        call_id: text("call_id")?,
        code: all.get("code").and_then(Json::as_u64).and_then(|c| u16::try_from(c).ok()),
        reason: text("reason")?,
        time: 0,
        created: all.get("created")?.as_u64()?,
    };
    let legs = all.get("legs")?.as_array()?.iter().map(|l| list(Some(l))).collect::<Option<_>>()?;
    let values = Values { extra: list(all.get("extra"))?, legs };
    Some(Rc::new(WholeCall {
        call: What::from_bits(u16::try_from(all.get("what")?.as_u64()?).ok()?),
        record,
        table: all.get("table").and_then(Json::as_str).map(Arc::from),
        extras: [extras(0)?, extras(1)?, extras(2)?],
        values: Rc::new(RefCell::new(values)),
    }))
}

fn value(v: &Value) -> Json {
    match v {
        Value::Null => Json::Null,
        Value::Int(i) => json!(i),
        Value::Str(s) => json!(String::from_utf8_lossy(s)),
    }
}

fn script_value(j: &Json) -> Value {
    match j {
        Json::Number(n) => n.as_i64().map_or(Value::Null, Value::Int),
        Json::String(s) => Value::Str(s.clone().into()),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_comes_back_as_it_was_saved_and_nonsense_does_not() {
        let own: Vec<(Arc<str>, Value)> =
            vec![("caller".into(), Value::Int(7)), ("plan".into(), Value::Null)];
        let extras = Extras { own, legs: vec![vec![("leg".into(), Value::Str("a|#".into()))]] };
        let call = WholeCall {
            call: What::of(super::super::what::Backend::Db, 8),
            record: Record {
                why: Why::Ended(0),
                method: "INVITE".into(),
                from_tag: "f".into(),
                to_tag: "t".into(),
                call_id: "c".into(),
                code: Some(200),
                reason: "OK".into(),
                time: 0,
                created: 5,
            },
            table: Some("cdrs".into()),
            extras: [extras.clone(), extras.clone(), extras],
            values: Rc::new(RefCell::new(Values {
                extra: vec![Value::Null],
                legs: vec![vec![Value::Int(1)]],
            })),
        };
        let text = save(&call);
        assert_eq!(restore(&text).unwrap().save(), Some(text));
        assert!(restore("{}").is_none() && restore("x").is_none());
    }
}
