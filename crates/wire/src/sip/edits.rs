//! Changes to a message as a list over its received bytes, replayed in one serialisation (house rule: edits are
//! recorded, not applied).
//!
//! One [`Edits`] is one layer: the request route has one, each branch has its own on top. Header texts are whole lines
//! `Name: value\r\n`; a missing line end is added. Positions belong to the message the layer was made for.

use super::header::HeaderId;
use super::message::Message;
use super::scan;
use super::via::Rport;
use bytes::Bytes;
use smallvec::SmallVec;
use std::net::IpAddr;
use std::ops::Range;

/// A layer of changes over one message.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    ops: SmallVec<[Op; 4]>,
    ruri: Option<Bytes>,
    start_line: Option<Bytes>,
    body: Option<Body>,
}

/// Replaces `start..end` by `text`; an empty range inserts.
#[derive(Clone, Debug)]
struct Op {
    start: u32,
    end: u32,
    text: Bytes,
    /// Later insertions at the same place go above earlier ones.
    above: bool,
}

#[derive(Clone, Debug)]
struct Body {
    content_type: Option<Bytes>,
    bytes: Bytes,
}

/// Stands for "after the last header", whatever message it is.
const END_OF_HEADERS: u32 = u32::MAX;

impl Edits {
    /// No changes.
    #[must_use]
    pub fn new() -> Edits {
        Edits::default()
    }

    /// Whether nothing is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty() && self.ruri.is_none() && self.start_line.is_none() && self.body.is_none()
    }

    /// Adds header lines after the last header.
    pub fn append_header(&mut self, text: Bytes) {
        self.push(END_OF_HEADERS, END_OF_HEADERS, whole_line(text), false);
    }

    /// Adds header lines before the first header of this kind, or behind the Via headers when there is none. Later calls
    /// go above earlier ones.
    pub fn prepend_header(&mut self, msg: &Message, id: HeaderId, text: Bytes) {
        let at = msg.header(id).and_then(|h| msg.offset_of(h.line)).unwrap_or_else(|| behind_vias(msg));
        self.push(at as u32, at as u32, whole_line(text), true);
    }

    /// Adds header lines before the first header of the message. Later calls go above earlier ones.
    pub fn prepend_first(&mut self, msg: &Message, text: Bytes) {
        let at = msg.headers_start() as u32;
        self.push(at, at, whole_line(text), true);
    }

    /// Adds header lines before the header at `index`.
    pub fn insert_before(&mut self, msg: &Message, index: usize, text: Bytes) {
        if let Some(at) = msg.header_at(index).and_then(|h| msg.offset_of(h.line)) {
            self.push(at as u32, at as u32, whole_line(text), true);
        }
    }

    /// Adds header lines behind the header at `index`.
    pub fn insert_after(&mut self, msg: &Message, index: usize, text: Bytes) {
        if let Some(h) = msg.header_at(index)
            && let Some(at) = msg.offset_of(h.line)
        {
            let at = (at + h.line.len()) as u32;
            self.push(at, at, whole_line(text), false);
        }
    }

    /// Removes the header at `index`.
    pub fn remove_header(&mut self, msg: &Message, index: usize) {
        if let Some(h) = msg.header_at(index) {
            self.replace_part(msg, h.line, Bytes::new());
        }
    }

    /// Removes all headers of this kind; the number removed.
    pub fn remove_headers(&mut self, msg: &Message, id: HeaderId) -> usize {
        let mut removed = 0;
        for h in msg.headers_of(id) {
            self.replace_part(msg, h.line, Bytes::new());
            removed += 1;
        }
        removed
    }

    /// Removes one value of a comma list; the header goes with its last value. Values count from 0 without the empty
    /// ones.
    pub fn remove_value(&mut self, msg: &Message, index: usize, value: usize) {
        let Some(header) = msg.header_at(index) else { return };
        let mut values: SmallVec<[(Range<usize>, bool); 8]> = SmallVec::new();
        for (i, text) in scan::commas(header.value).enumerate() {
            let Some(start) = msg.offset_of(text) else { return };
            let range = start..start + text.len();
            let gone = i == value || self.is_removed(&range);
            values.push((range, gone));
        }
        if value >= values.len() {
            return;
        }
        let Some(line) = msg.offset_of(header.line) else { return };
        let line = line..line + header.line.len();
        // Cuts inside this header are made anew, so that no separator is left behind.
        self.ops.retain(|op| {
            op.start == op.end
                || !op.text.is_empty()
                || (op.start as usize) < line.start
                || op.end as usize > line.end
        });
        let Some(last_kept) = values.iter().rposition(|(_, gone)| !gone) else {
            self.replace(line, Bytes::new());
            return;
        };
        if last_kept + 1 < values.len() {
            let (kept, last) = (values[last_kept].0.end, values[values.len() - 1].0.end);
            self.replace(kept..last, Bytes::new());
        }
        for i in 0..last_kept {
            if values[i].1 {
                self.replace(values[i].0.start..values[i + 1].0.start, Bytes::new());
            }
        }
    }

    fn is_removed(&self, range: &Range<usize>) -> bool {
        self.ops
            .iter()
            .any(|op| op.text.is_empty() && op.start as usize <= range.start && op.end as usize >= range.end)
    }

    /// Replaces a range of the message's bytes. When two changes overlap, the later one of the same start wins and a
    /// change inside a replaced range is lost.
    pub fn replace(&mut self, range: Range<usize>, text: Bytes) {
        if range.start <= range.end && range.end < END_OF_HEADERS as usize {
            self.push(range.start as u32, range.end as u32, text, false);
        }
    }

    /// Replaces a part given as a slice of the message; `false` when it is none.
    pub fn replace_part(&mut self, msg: &Message, part: &[u8], text: Bytes) -> bool {
        match msg.offset_of(part) {
            Some(at) => {
                self.replace(at..at + part.len(), text);
                true
            }
            None => false,
        }
    }

    /// Sets the request URI.
    pub fn set_ruri(&mut self, uri: Bytes) {
        self.ruri = Some(uri);
    }

    /// The request URI set so far.
    #[must_use]
    pub fn ruri(&self) -> Option<&Bytes> {
        self.ruri.as_ref()
    }

    /// Sets status code and reason phrase of a reply.
    pub fn set_status(&mut self, code: u16, reason: &[u8]) {
        let mut line = Vec::with_capacity(12 + reason.len());
        line.extend_from_slice(b"SIP/2.0 ");
        line.extend_from_slice(itoa::Buffer::new().format(code).as_bytes());
        line.push(b' ');
        line.extend_from_slice(reason);
        self.start_line = Some(line.into());
    }

    /// Puts a Via header line on top.
    pub fn push_via(&mut self, msg: &Message, line: Bytes) {
        let at = msg.header(HeaderId::Via).and_then(|h| msg.offset_of(h.line)).unwrap_or(msg.headers_start());
        self.push(at as u32, at as u32, whole_line(line), true);
    }

    /// Removes the topmost Via value that is still there; `false` when there is none.
    pub fn pop_via(&mut self, msg: &Message) -> bool {
        self.pop_value(msg, HeaderId::Via).is_some()
    }

    /// Puts a Record-Route header line above those received and those already pushed.
    pub fn push_record_route(&mut self, msg: &Message, line: Bytes) {
        self.prepend_header(msg, HeaderId::RecordRoute, line);
    }

    /// Puts a Route header line above those received and those already pushed.
    pub fn push_route(&mut self, msg: &Message, line: Bytes) {
        self.prepend_header(msg, HeaderId::Route, line);
    }

    /// Removes the topmost Route value that is still there and returns it.
    pub fn pop_route<'m>(&mut self, msg: &'m Message) -> Option<&'m [u8]> {
        self.pop_value(msg, HeaderId::Route)
    }

    fn pop_value<'m>(&mut self, msg: &'m Message, id: HeaderId) -> Option<&'m [u8]> {
        for header in msg.headers_of(id) {
            for (i, text) in scan::commas(header.value).enumerate() {
                let start = msg.offset_of(text)?;
                if !self.is_removed(&(start..start + text.len())) {
                    self.remove_value(msg, header.index, i);
                    return Some(text);
                }
            }
        }
        None
    }

    /// Writes `received` and, where the sender asked for it or `force_rport` says so, `rport` into the topmost Via
    /// (RFC 3261 §18.2.1, RFC 3581 §4). Nothing is added that is already right; what an earlier call wrote is replaced.
    pub fn stamp_via(&mut self, msg: &Message, ip: IpAddr, port: u16, force_rport: bool) {
        let Ok(via) = msg.via() else { return };
        if let Some(end) = msg.offset_of(via.raw).map(|at| at + via.raw.len()) {
            let mut text = Vec::new();
            write_received(&via, ip, port, force_rport, &mut text);
            if text.is_empty() {
                return;
            }
            for p in via.params() {
                let stale = p.is("received") || p.is("rport");
                if let Some(at) = msg.offset_of(p.name).filter(|_| stale) {
                    let len = p.value.and_then(|v| msg.offset_of(v).map(|v_at| v_at + v.len() - at));
                    // The separator before the parameter goes with it.
                    let from = msg.raw()[..at].iter().rposition(|b| *b == b';').unwrap_or(at);
                    let range = from..at + len.unwrap_or(p.name.len());
                    if !self.is_removed(&range) {
                        self.replace(range, Bytes::new());
                    }
                }
            }
            // An old-style comment stays behind the parameters.
            let params = via.params().raw();
            let end = scan::find_outside(params, b"(").map_or(end, |at| end - (params.len() - at));
            let end = end as u32;
            self.ops.retain(|op| (op.start, op.end) != (end, end) || !op.text.starts_with(b";received="));
            self.push(end, end, text.into(), false);
        }
    }

    /// Sets the body; `content_type` replaces that of the message, `None` leaves it.
    pub fn set_body(&mut self, content_type: Option<Bytes>, bytes: Bytes) {
        self.body = Some(Body { content_type, bytes });
    }

    /// The body set so far with its Content-Type where that was set too; an empty body stands for a removed one.
    #[must_use]
    pub fn body(&self) -> Option<(Option<&Bytes>, &Bytes)> {
        self.body.as_ref().map(|b| (b.content_type.as_ref(), &b.bytes))
    }

    /// Removes the body and its Content-Type.
    pub fn remove_body(&mut self, msg: &Message) {
        self.remove_headers(msg, HeaderId::ContentType);
        self.body = Some(Body { content_type: None, bytes: Bytes::new() });
    }

    fn push(&mut self, start: u32, end: u32, text: Bytes, above: bool) {
        self.ops.push(Op { start, end, text, above });
    }
}

/// Appends `;received=` and `;rport=` as they are due for a message with this topmost Via from this source address.
pub(crate) fn write_received(
    via: &super::via::Via<'_>,
    ip: IpAddr,
    port: u16,
    force_rport: bool,
    out: &mut Vec<u8>,
) {
    let rport = force_rport || via.rport != Rport::Absent;
    let same_ip = scan::ip_literal(via.host) == Some(ip);
    if via.received.is_some() || !same_ip || rport {
        out.extend_from_slice(b";received=");
        write_ip(ip, out);
    }
    if rport {
        out.extend_from_slice(b";rport=");
        out.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
    }
}

fn write_ip(ip: IpAddr, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(v4) => {
            for (i, octet) in v4.octets().into_iter().enumerate() {
                if i > 0 {
                    out.push(b'.');
                }
                out.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
            }
        }
        IpAddr::V6(v6) => out.extend_from_slice(v6.to_string().as_bytes()),
    }
}

fn whole_line(text: Bytes) -> Bytes {
    if text.is_empty() || text.ends_with(b"\n") {
        return text;
    }
    let mut line = Vec::with_capacity(text.len() + 2);
    line.extend_from_slice(&text);
    line.extend_from_slice(b"\r\n");
    line.into()
}

/// The offset behind the last header of the first run of Via headers.
fn behind_vias(msg: &Message) -> usize {
    let Some(first) = msg.header(HeaderId::Via) else { return msg.headers_start() };
    let last = msg.headers().skip(first.index).take_while(|h| h.id == HeaderId::Via).last().unwrap_or(first);
    msg.offset_of(last.line).map_or(msg.headers_start(), |at| at + last.line.len())
}

/// One change, ready to be sorted.
struct Step<'a> {
    start: usize,
    end: usize,
    order: i32,
    text: &'a [u8],
}

/// Appends the message with the changes of all layers to `out`. A later layer's request URI, start line and body win.
/// Headers no change touches go out byte for byte. Content-Length is corrected, and added when there are changes and
/// it is missing; without changes the output is the input.
pub fn serialise(msg: &Message, layers: &[&Edits], out: &mut Vec<u8>) {
    let buf: &[u8] = msg.raw();
    if layers.iter().all(|l| l.is_empty()) {
        out.extend_from_slice(buf);
        return;
    }
    let head_end = msg.headers_end();
    let mut digits = itoa::Buffer::new();
    let mut steps: SmallVec<[Step<'_>; 24]> = SmallVec::new();
    let mut order = 0i32;
    for op in layers.iter().flat_map(|l| l.ops.iter()) {
        order += 1;
        let at = |p: u32| if p == END_OF_HEADERS { head_end } else { p as usize };
        let order = if op.above || op.start != op.end { -order } else { order };
        steps.push(Step { start: at(op.start), end: at(op.end), order, text: &op.text });
    }
    let start_line = layers.iter().rev().find_map(|l| l.start_line.as_deref());
    if let Some(ruri) = layers.iter().rev().find_map(|l| l.ruri.as_deref()).filter(|_| msg.is_request())
        && let Some(at) = msg.offset_of(msg.ruri_bytes())
    {
        let end = at + msg.ruri_bytes().len();
        steps.push(Step { start: at, end, order: i32::MIN, text: ruri });
    }
    let body = layers.iter().rev().find_map(|l| l.body.as_ref());
    let body_len = match body {
        Some(body) => body.bytes.len(),
        None => {
            sort(&mut steps);
            let mut len = 0;
            replay(buf, &steps, msg.body_start()..buf.len(), true, &mut |part| len += part.len());
            len
        }
    };
    let digits = digits.format(body_len).as_bytes();
    let removed = |line: &[u8]| {
        let at = msg.offset_of(line).unwrap_or(0);
        layers.iter().any(|l| l.is_removed(&(at..at + line.len())))
    };
    let length = msg.header(HeaderId::ContentLength).filter(|h| !removed(h.line));
    if let Some(h) = &length
        && scan::number(h.value) != Some(body_len as u32)
        && let Some(at) = msg.offset_of(h.value)
    {
        steps.push(Step { start: at, end: at + h.value.len(), order: i32::MIN, text: digits });
    }
    let new_type = body.and_then(|b| b.content_type.as_deref());
    let old_type = msg.header(HeaderId::ContentType).filter(|h| !removed(h.line));
    if let (Some(text), Some(h)) = (new_type, &old_type)
        && let Some(at) = msg.offset_of(h.value)
    {
        steps.push(Step { start: at, end: at + h.value.len(), order: i32::MIN, text });
    }
    sort(&mut steps);

    out.reserve(size_hint(msg, &steps, body.map(|b| b.bytes.len()), digits, length.is_none()));
    let headers = msg.headers_start()..head_end;
    match start_line {
        Some(line) => {
            out.extend_from_slice(line);
            out.extend_from_slice(b"\r\n");
        }
        None => replay(buf, &steps, 0..headers.start, false, &mut |part| out.extend_from_slice(part)),
    }
    replay(buf, &steps, headers, true, &mut |part| out.extend_from_slice(part));
    if let (Some(text), None) = (new_type, &old_type) {
        out.extend_from_slice(b"Content-Type: ");
        out.extend_from_slice(text);
        out.extend_from_slice(b"\r\n");
    }
    if length.is_none() {
        out.extend_from_slice(b"Content-Length: ");
        out.extend_from_slice(digits);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(&buf[head_end..msg.body_start()]);
    match body {
        Some(body) => out.extend_from_slice(&body.bytes),
        None => {
            replay(buf, &steps, msg.body_start()..buf.len(), true, &mut |part| out.extend_from_slice(part))
        }
    }
}

/// How long the message becomes, exactly when no changes overlap and neither start line nor Content-Type are added.
fn size_hint(
    msg: &Message,
    steps: &[Step<'_>],
    new_body: Option<usize>,
    digits: &[u8],
    without_length: bool,
) -> usize {
    let kept = if new_body.is_some() { msg.body_start() } else { msg.raw().len() };
    let (mut added, mut removed) = (0, 0);
    for step in steps {
        added += step.text.len();
        removed += step.end - step.start;
    }
    let length = if without_length { b"Content-Length: \r\n".len() + digits.len() } else { 0 };
    (kept + added).saturating_sub(removed) + new_body.unwrap_or(0) + length
}

fn sort(steps: &mut [Step<'_>]) {
    // Insertions at a place come before what is replaced from there on.
    steps.sort_by_key(|s| (s.start, s.start != s.end, s.order));
}

/// Walks `range` of `buf` with the sorted changes applied. `closed` ranges take insertions at their end too.
fn replay(buf: &[u8], steps: &[Step<'_>], range: Range<usize>, closed: bool, sink: &mut dyn FnMut(&[u8])) {
    let mut at = range.start;
    for step in steps {
        let inside =
            step.start >= range.start && (step.start < range.end || (closed && step.start == range.end));
        if !inside {
            continue;
        }
        if step.start < at {
            at = at.max(step.end.min(range.end));
            continue;
        }
        sink(&buf[at..step.start]);
        sink(step.text);
        at = step.end.min(range.end);
    }
    if at < range.end {
        sink(&buf[at..range.end]);
    }
}
