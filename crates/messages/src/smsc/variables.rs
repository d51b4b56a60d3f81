//! `$sms(...)`: what the last `sms_submit()` was given, and in the route of messages all fields of the message.

use std::sync::Arc;

use switchroom_kernel::context::Ctx;
use switchroom_kernel::names::Names;
use switchroom_script::Value;
use switchroom_script::vm::VarAccess;
use switchroom_wire::gsm::{Alphabet, Coding, Shifts, encode};
use switchroom_wire::smpp::{Tlvs, push_tlv};

use super::centre::{header, text};
use super::functions::Left;
use super::message::{Addr, Content};
use super::routes::check_target;
use super::script::Entering;

/// Inner names, in the order of [`read`] and [`write`].
const FIELDS: [&str; 27] = [
    "id",
    "ids",
    "status",
    "error",
    "account",
    "from",
    "from_ton",
    "from_npi",
    "to",
    "to_ton",
    "to_npi",
    "text",
    "octets",
    "service_type",
    "esm_class",
    "protocol_id",
    "priority",
    "schedule",
    "validity",
    "registered_delivery",
    "replace",
    "data_coding",
    "part",
    "parts",
    "reference",
    "network",
    "target",
];

/// Keys of optional parameters: this and their tag.
const TLV: u32 = 0x1_0000;
/// Octets of the longest text, a `message_payload`.
const LONGEST: usize = 65_535;

/// Binds an inner name.
pub(super) fn bind(_: &Names, name: &str) -> Result<u32, String> {
    if let Some(tag) = name.strip_prefix("tlv:") {
        let hex = tag.strip_prefix("0x").or(tag.strip_prefix("0X"));
        let tag = hex.and_then(|h| u16::from_str_radix(h, 16).ok());
        return tag
            .map(|t| TLV + u32::from(t))
            .ok_or_else(|| format!("$sms({name}): a tag is written as in $sms(tlv:0x1400)"));
    }
    match FIELDS.iter().position(|f| *f == name) {
        Some(at) => Ok(at as u32),
        None => Err(format!("$sms has no `{name}`; there are: {}, tlv:0xTAG", FIELDS.join(", "))),
    }
}

fn int(n: impl Into<i64>) -> Value {
    Value::Int(n.into())
}

fn string(octets: impl AsRef<[u8]>) -> Value {
    let octets = octets.as_ref();
    if octets.is_empty() { Value::Null } else { Value::str(octets.to_vec()) }
}

/// `$sms(field)`
pub(super) fn read(ctx: &mut Ctx, var: &VarAccess) -> Value {
    let Some(key) = var.key else { return Value::Null };
    if key < 4 {
        let Some(left) = ctx.note::<Left>() else { return Value::Null };
        return match key {
            0 => left.ids.first().map_or(Value::Null, string),
            1 => string(left.ids.join(",")),
            2 => left.status.map_or(Value::Null, |s| Value::Int(i64::from(s))),
            _ => string(&left.error),
        };
    }
    let Some(e) = ctx.note::<Entering>() else { return Value::Null };
    let s = &e.submission;
    let c = &s.content;
    let tlvs = Tlvs::read(&c.tlvs, false).unwrap_or_default();
    if key >= TLV {
        return tlvs.get((key - TLV) as u16).map_or(Value::Null, |v| Value::str(hex(v)));
    }
    let concat = || super::parts::concat(&s.source, &s.destination, c);
    match FIELDS.get(key as usize).copied().unwrap_or_default() {
        "account" => string(&*e.customer.name),
        "from" => string(&s.source.addr),
        "from_ton" => int(s.source.ton),
        "from_npi" => int(s.source.npi),
        "to" => string(&s.destination.addr),
        "to_ton" => int(s.destination.ton),
        "to_npi" => int(s.destination.npi),
        "text" => Value::str(text(c)),
        "octets" => Value::str(hex(&c.text)),
        "service_type" => string(&c.service_type),
        "esm_class" => int(c.esm_class),
        "protocol_id" => int(c.protocol_id),
        "priority" => int(c.priority),
        "schedule" => s.schedule.map_or(Value::Null, Value::Int),
        "validity" => s.validity.map_or(Value::Null, Value::Int),
        "registered_delivery" => int(c.registered_delivery),
        "replace" => int(s.replace),
        "data_coding" => int(c.data_coding),
        "part" => int(concat().map_or(1, |c| c.part)),
        "parts" => int(concat().map_or(1, |c| c.total)),
        "reference" => concat().map_or(Value::Null, |c| int(c.reference)),
        "network" => {
            let to = s.destination.text();
            string(e.centre.routes.read().network(to.strip_prefix('+').unwrap_or(&to)))
        }
        "target" => string(s.ways.join(",")),
        _ => Value::Null,
    }
}

/// `$sms(field) = value;`
pub(super) fn write(ctx: &mut Ctx, var: &VarAccess, value: Value) -> Result<(), String> {
    let key = var.key.unwrap_or(0);
    let Some(mut e) = ctx.take_note::<Entering>() else {
        return Err("$sms(...) can be written only in the route of the SMS centre's messages".into());
    };
    let done = set(&mut e, key, &value);
    ctx.add_note(*e);
    done
}

fn set(e: &mut Entering, key: u32, value: &Value) -> Result<(), String> {
    let s = &mut e.submission;
    let octets = value.to_bytes().unwrap_or_default();
    if key >= TLV {
        return set_tlv(&mut s.content, (key - TLV) as u16, value, &octets);
    }
    let name = FIELDS.get(key as usize).copied().unwrap_or_default();
    let octet = || match value.to_int() {
        Some(n) => u8::try_from(n).map_err(|_| format!("$sms({name}): {n} is not between 0 and 255")),
        None => Err(format!("$sms({name}) takes a number")),
    };
    let moment = || match value {
        Value::Null => Ok(None),
        _ => value.to_int().map(Some).ok_or_else(|| format!("$sms({name}) takes unix seconds, or NULL")),
    };
    let address = || match octets.len() {
        1..=64 => Ok(Addr::parse(&String::from_utf8_lossy(&octets))),
        n => Err(format!("$sms({name}): an address has 1 to 64 characters, not {n}")),
    };
    match name {
        "from" => s.source = address()?,
        "from_ton" => s.source.ton = octet()?,
        "from_npi" => s.source.npi = octet()?,
        "to" => s.destination = address()?,
        "to_ton" => s.destination.ton = octet()?,
        "to_npi" => s.destination.npi = octet()?,
        "text" => set_text(&mut s.content, &String::from_utf8_lossy(&octets))?,
        "octets" => s.content.text = unhex(&octets, name)?.into(),
        "service_type" if octets.len() <= 5 => s.content.service_type = octets[..].into(),
        "service_type" => return Err("$sms(service_type) has at most 5 characters".into()),
        "esm_class" => s.content.esm_class = octet()?,
        "protocol_id" => s.content.protocol_id = octet()?,
        "priority" => s.content.priority = octet()?,
        "schedule" => s.schedule = moment()?,
        "validity" => s.validity = moment()?,
        "registered_delivery" => s.content.registered_delivery = octet()?,
        "replace" => s.replace = octet()? != 0,
        "data_coding" => s.content.data_coding = octet()?,
        "target" => s.ways = targets(&String::from_utf8_lossy(&octets))?,
        _ => return Err(format!("$sms({name}) is read-only")),
    }
    Ok(())
}

fn targets(list: &str) -> Result<Vec<Arc<str>>, String> {
    let names = list.split(',').map(str::trim).filter(|t| !t.is_empty());
    names.map(|t| check_target(t).map(|()| t.into())).collect()
}

/// The shortest alphabet that has all of it; a header stays.
fn set_text(content: &mut Content, text: &str) -> Result<(), String> {
    let before = header(content).map_or(&[][..], |u| &content.text[..u.len]);
    let (mut out, begin) = (before.to_vec(), before.len());
    let class = Coding::read(content.data_coding, Alphabet::Gsm7).class;
    let mut alphabet = Alphabet::Gsm7;
    if encode(alphabet, text, Shifts::default(), &mut out).is_err() {
        alphabet = Alphabet::Ucs2;
        out.truncate(begin);
        let done = encode(alphabet, text, Shifts::default(), &mut out);
        done.map_err(|e| format!("$sms(text): no alphabet has {:?}", e.0))?;
    }
    let octets = match alphabet {
        Alphabet::Gsm7 => begin + ((out.len() - begin) * 7).div_ceil(8),
        _ => out.len(),
    };
    // A part must stay one; a whole text may become longer.
    let most = if begin > 0 { 140 } else { LONGEST };
    if octets > most || out.len() > LONGEST {
        return Err(format!("$sms(text): it takes {octets} octets, and {most} fit"));
    }
    content.text = out.into();
    content.data_coding = match class {
        None if alphabet == Alphabet::Gsm7 => 0,
        class => Coding { alphabet, class }.write(),
    };
    Ok(())
}

fn set_tlv(content: &mut Content, tag: u16, value: &Value, octets: &[u8]) -> Result<(), String> {
    let mut out = Vec::new();
    for t in Tlvs::read(&content.tlvs, false).unwrap_or_default().iter().filter(|t| t.tag != tag) {
        push_tlv(&mut out, t.tag, t.value);
    }
    if !value.is_null() {
        push_tlv(&mut out, tag, &unhex(octets, "tlv")?);
    }
    content.tlvs = out.into();
    Ok(())
}

fn hex(octets: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    octets.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]).collect()
}

fn unhex(text: &[u8], name: &str) -> Result<Vec<u8>, String> {
    let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
    let octets: Option<Vec<u8>> =
        text.chunks(2).map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect();
    octets
        .filter(|o| o.len() <= LONGEST)
        .ok_or_else(|| format!("$sms({name}) takes octets in hexadecimal, such as \"0a1b\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_text_takes_the_shortest_alphabet_and_keeps_header_and_class() {
        let mut c = Content { data_coding: 0x10, text: b"old".as_slice().into(), ..Content::default() };
        set_text(&mut c, "Grüße").unwrap();
        assert_eq!((text(&c).as_str(), c.data_coding), ("Grüße", 0x10));
        set_text(&mut c, "Привет").unwrap();
        assert_eq!((text(&c).as_str(), c.data_coding), ("Привет", 0x18));
        let mut part = Content {
            esm_class: 0x40,
            text: [&[5, 0, 3, 1, 2, 1][..], b"old"].concat().into(),
            ..Content::default()
        };
        set_text(&mut part, "new").unwrap();
        assert_eq!((&part.text[..6], text(&part).as_str()), (&[5, 0, 3, 1, 2, 1][..], "new"));
        assert!(set_text(&mut part, &"ж".repeat(70)).unwrap_err().contains("140 fit"));
        set_text(&mut part, &"a".repeat(153)).unwrap();
        set_text(&mut c, &"a".repeat(1000)).unwrap();
    }

    #[test]
    fn parameters_are_set_replaced_and_removed() {
        let mut c = Content::default();
        let set = |c: &mut Content, v: Value| {
            let octets = v.to_bytes().unwrap_or_default();
            set_tlv(c, 0x1400, &v, &octets)
        };
        set(&mut c, Value::str("0102")).unwrap();
        set(&mut c, Value::str("ff")).unwrap();
        assert_eq!(*c.tlvs, [0x14, 0, 0, 1, 0xff]);
        assert!(set(&mut c, Value::str("xyz")).is_err());
        set(&mut c, Value::Null).unwrap();
        assert!(c.tlvs.is_empty());
    }

    #[test]
    fn names_that_are_not_there_are_refused_with_those_that_are() {
        let names = Names::default();
        assert!(bind(&names, "txt").unwrap_err().contains("data_coding"));
        assert!(bind(&names, "tlv:1400").unwrap_err().contains("tlv:0x1400"));
        assert_eq!(bind(&names, "tlv:0x1400").unwrap(), 0x1_1400);
        assert!(targets("smsc:a, up").is_err());
        assert_eq!(targets("smsc:a, sip:b@c").unwrap().len(), 2);
    }
}
