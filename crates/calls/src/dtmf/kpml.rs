//! Keys by KPML (RFC 4730): a phone is asked, inside its dialog, to tell of each key; it does so in NOTIFY, which is answered here.
//!
//! Left out: patterns of several keys, which events match by their filters, and refreshing a subscription, since two hours are
//! longer than most calls.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use bytes::Bytes;
use roxmltree::Document;
use switchroom_kernel::Shard;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE, wait};
use switchroom_kernel::module::Hooked;
use switchroom_kernel::oneshot;
use switchroom_wire::sip::{HeaderId, scan};

use super::{Dtmf, Key, pressed};
use crate::core::send;
use crate::dialog::api::{self as dialog, Ended, Follow};
use crate::tm::api::OnFinal;

/// Longest body that is read.
const MAX_BODY: usize = 4096;
const KIND: &[u8] = b"application/kpml-request+xml";
const HEADERS: &[u8] = b"Event: kpml\r\nAccept: application/kpml-response+xml\r\nExpires: 7200\r\n";
/// Every key at once, again and again (RFC 4730 §5.1).
const WISH: &[u8] = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n\
    <kpml-request xmlns=\"urn:ietf:params:xml:ns:kpml-request\" version=\"1.0\">\
    <pattern persist=\"persist\"><regex>x</regex><regex>[*#ABCD]</regex></pattern></kpml-request>\r\n";

type Side = (Bytes, Bytes);

/// The phones of a worker's calls that tell of their keys, by Call-ID and tag, with the CSeq of the last NOTIFY.
pub(super) struct Asked {
    sides: RefCell<HashMap<Side, u32>>,
    most: usize,
}

impl Asked {
    /// For so many at a time.
    pub fn new(most: usize) -> Asked {
        Asked { sides: RefCell::default(), most }
    }

    fn add(&self, side: Side) -> bool {
        let mut sides = self.sides.borrow_mut();
        if sides.len() >= self.most && !sides.contains_key(&side) {
            return false;
        }
        sides.entry(side).or_insert(0);
        true
    }

    fn remove(&self, side: &Side) {
        self.sides.borrow_mut().remove(side);
    }

    /// Whether a NOTIFY of that side is expected, and whether it is new.
    fn hear(&self, side: &Side, cseq: u32) -> Option<bool> {
        let mut sides = self.sides.borrow_mut();
        let last = sides.get_mut(side)?;
        let fresh = cseq > *last;
        *last = cseq.max(*last);
        Some(fresh)
    }
}

/// `dtmf_subscribe("caller" | "callee")`: 1 when the phone will tell of its keys, -1 when it refuses or there is no answered
/// dialog.
pub(super) fn subscribe(c: &mut Call<'_>) -> Flow {
    let to = match c.text(0).as_str() {
        "caller" => 0,
        "callee" => 1,
        other => {
            tracing::error!("dtmf_subscribe(): \"{other}\" is neither caller nor callee");
            return FALSE;
        }
    };
    let shard = c.ctx.shard.clone();
    let Some(side) = dialog::side(c.ctx, to) else { return FALSE };
    let asked = shard.part::<Asked>();
    if !asked.add(side.clone()) {
        shard.count(shard.kernel.state::<Dtmf>().refused, 1);
        tracing::error!("dtmf_subscribe(): too many phones are asked already");
        return FALSE;
    }
    let (answer, answered) = oneshot::channel::<u16>();
    let answer = Cell::new(Some(answer));
    let done: OnFinal = Rc::new(move |_, code, _| {
        if let Some(answer) = answer.take() {
            answer.send(code);
        }
    });
    let body = Some((Bytes::from_static(KIND), Bytes::from_static(WISH)));
    if !dialog::send(c.ctx, to, b"SUBSCRIBE", body, HEADERS, done) {
        asked.remove(&side);
        return FALSE;
    }
    dialog::follow(c.ctx, Rc::new(Ends(side.clone())));
    wait(answered, move |ctx, code| {
        if code.is_some_and(|c| (200..300).contains(&c)) {
            return TRUE;
        }
        let shard = ctx.shard.clone();
        shard.part::<Asked>().remove(&side);
        shard.count(shard.kernel.state::<Dtmf>().refused, 1);
        FALSE
    })
}

/// Forgets a phone with its call.
struct Ends(Side);

impl Follow for Ends {
    fn ended(&self, shard: &Rc<Shard>, _: &Ended) {
        shard.part::<Asked>().remove(&self.0);
    }
}

/// A NOTIFY came: one that was asked for ends here.
pub(super) fn notified(ctx: &mut Ctx) -> Hooked {
    let (shard, msg) = (ctx.shard.clone(), ctx.msg.clone());
    let is_kpml = |h: &[u8]| {
        let name = scan::trim(h.split(|b| *b == b';').next().unwrap_or_default());
        name.eq_ignore_ascii_case(b"kpml")
    };
    if !msg.header(HeaderId::Event).is_some_and(|h| is_kpml(h.value)) {
        return Hooked::Continue;
    }
    let (Ok(from), Ok((cseq, _))) = (msg.from(), msg.cseq()) else { return Hooked::Continue };
    let side =
        (Bytes::copy_from_slice(msg.call_id()), Bytes::copy_from_slice(from.tag().unwrap_or_default()));
    let asked = shard.part::<Asked>();
    let Some(fresh) = asked.hear(&side, cseq) else { return Hooked::Continue };
    send::reply(ctx, 200, b"OK", None, &[], None);
    if fresh {
        for name in keys(msg.body()) {
            pressed(&shard, &msg, Key { name, ms: 0 }, "kpml");
        }
        let over = msg.headers_by_name(b"Subscription-State").any(|h| h.value.starts_with(b"terminated"));
        if over {
            asked.remove(&side);
        }
    }
    Hooked::Consumed
}

/// Keys that a NOTIFY tells of; none when it tells of something else.
fn keys(body: &[u8]) -> Vec<char> {
    let Some(text) = std::str::from_utf8(body).ok().filter(|t| t.len() <= MAX_BODY) else {
        return Vec::new();
    };
    let Ok(xml) = Document::parse(text.trim()) else { return Vec::new() };
    let told = xml.root_element();
    if told.tag_name().name() != "kpml-response" || told.attribute("code") != Some("200") {
        return Vec::new();
    }
    let digits = told.attribute("digits").unwrap_or_default().chars();
    let digits = digits.map(|c| c.to_ascii_uppercase());
    digits.filter(|c| matches!(c, '0'..='9' | '*' | '#' | 'A'..='D')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_whatever_the_order_and_the_prefix_and_nonsense_has_none() {
        let text = "<?xml version=\"1.0\"?>\n<k:kpml-response xmlns:k='urn:x'\n text=\"a > b\" digits = '4#x' code=\"200\"/>";
        assert_eq!(keys(text.as_bytes()), ['4', '#']);
        assert!(keys(text.replace("200", "423").as_bytes()).is_empty());
        for bad in [
            "",
            "<kpml-response",
            "<kpml-response code=\"200\" digits>",
            "<kpml-response code=\"200\" digits=4/>",
            "<kpml-response code=\"200\" digits=\"4",
            "<other code=\"200\" digits=\"4\"/>",
        ] {
            assert!(keys(bad.as_bytes()).is_empty(), "{bad}");
        }
    }

    #[test]
    fn a_notify_that_comes_again_is_not_new_and_the_number_of_phones_is_bounded() {
        let asked = Asked::new(1);
        let side = |n: &'static str| (Bytes::from_static(n.as_bytes()), Bytes::from_static(b"t"));
        assert!(asked.add(side("a")) && asked.add(side("a")) && !asked.add(side("b")));
        assert_eq!(asked.hear(&side("b"), 1), None);
        assert_eq!(
            (asked.hear(&side("a"), 5), asked.hear(&side("a"), 5), asked.hear(&side("a"), 6)),
            (Some(true), Some(false), Some(true))
        );
        asked.remove(&side("a"));
        assert!(asked.add(side("b")));
    }
}
