//! A received (or about to be sent) SIP message: the bytes, and where its parts are (RFC 3261 §7).
//!
//! One pass finds the start line, the headers and the body. Header values are parsed when first read; topmost Via, From,
//! To and request URI are then kept. Reading allocates nothing while a message has at most [`INLINE_HEADERS`] headers.
//! Bodies are opaque here.

use super::error::{Fault, FieldError, ParseError};
use super::header::{Header, HeaderId};
use super::method::Method;
use super::name_addr::{NameAddr, NameAddrSpans, NameAddrs};
use super::scan;
use super::span::Span;
use super::uri::{Uri, UriError, UriSpans};
use super::via::{Via, ViaSpans};
use bytes::{Buf, Bytes};
use smallvec::SmallVec;
use std::cell::OnceCell;
use std::rc::Rc;

/// Headers kept without allocating.
pub const INLINE_HEADERS: usize = 24;
/// A message with more headers is refused.
pub const MAX_HEADERS: usize = 512;
/// A message with more bytes is refused, whatever the transport allows.
pub const MAX_MESSAGE: usize = 16 << 20;

/// A SIP message over its received bytes.
#[derive(Clone, Debug)]
pub struct Message {
    buf: Bytes,
    start: StartLine,
    headers: SmallVec<[Slot; INLINE_HEADERS]>,
    /// Index of the first header of each of the leading [`HeaderId`]s.
    first: [u16; FIRSTS],
    /// Where the empty line begins; new headers are appended here.
    head_end: u32,
    body: u32,
    cseq: Option<(u32, Method)>,
    ruri: OnceCell<Result<UriSpans, UriError>>,
    via: OnceCell<Result<ViaSpans, FieldError>>,
    from: OnceCell<Result<NameAddrSpans, FieldError>>,
    to: OnceCell<Result<NameAddrSpans, FieldError>>,
}

#[derive(Clone, Copy, Debug)]
enum StartLine {
    Request { method: Method, name: Span, uri: Span, end: u32 },
    Reply { status: u16, reason: Span, end: u32 },
}

/// Where one header is. `line` is the offset of its name.
#[derive(Clone, Copy, Debug)]
struct Slot {
    line: u32,
    value_end: u32,
    end: u32,
    /// Offset of the value from `line`.
    value: u16,
    name_len: u8,
    id: HeaderId,
}

/// Longer names do not fit a [`Slot`].
const MAX_NAME: usize = u8::MAX as usize;
/// The colon must not be farther from the start of the line than this.
const MAX_COLON: usize = u16::MAX as usize - 1;

const FIRSTS: usize = HeaderId::ContentType as usize + 1;
const NONE: u16 = u16::MAX;

impl Message {
    /// Reads one whole message: a datagram, or what [`super::frame`] cut from a stream. Bytes after the body (datagrams
    /// only) and line ends before the start line are left out of the message.
    ///
    /// Checks what routing and answering need: start line, boundaries, the mandatory headers of RFC 3261 §8.1.1 (except
    /// Max-Forwards, which old peers leave out), CSeq and Content-Length. [`Message::check`] checks the rest.
    pub fn parse(buf: Bytes) -> Result<Message, ParseError> {
        let (buf, start, line_ends, fault) = begin(buf)?;
        // Read where the caller gets it: it is too large to be moved about.
        let mut parsed = Ok(Message::unread(buf, start));
        let fault = parsed.as_mut().map_or(None, |message| message.read(line_ends, fault));
        if let Some(fault) = fault {
            parsed = parsed.and_then(|message| Err(message.refuse(fault)));
        }
        parsed
    }

    #[inline]
    fn unread(buf: Bytes, start: StartLine) -> Message {
        Message {
            start,
            headers: SmallVec::new(),
            first: [NONE; FIRSTS],
            head_end: start.end(),
            body: start.end(),
            cseq: None,
            ruri: OnceCell::new(),
            via: OnceCell::new(),
            from: OnceCell::new(),
            to: OnceCell::new(),
            buf,
        }
    }

    /// Finds the headers and checks what cannot be missing; the first fault.
    fn read(&mut self, line_ends: scan::LineEnds, fault: Option<Fault>) -> Option<Fault> {
        let headers = self.find_headers(line_ends).err();
        let mandatory = self.check_mandatory().err();
        fault.or(headers).or(mandatory)
    }

    /// Checks what [`Message::parse`] leaves for later: request URI, Via values, From, To, Max-Forwards.
    pub fn check(self) -> Result<Message, ParseError> {
        match self.find_fault() {
            None => Ok(self),
            Some(fault) => Err(self.refuse(fault)),
        }
    }

    /// Reads a message to the place where it stays: a request as strictly as [`Message::check`], a reply as
    /// [`Message::parse`] does.
    pub fn shared(buf: Bytes) -> Result<Rc<Message>, ParseError> {
        let (buf, start, line_ends, fault) = begin(buf)?;
        let mut shared = Rc::new(Message::unread(buf, start));
        let Some(message) = Rc::get_mut(&mut shared) else { return Ok(shared) };
        let fault = message
            .read(line_ends, fault)
            .or_else(|| message.is_request().then(|| message.find_fault()).flatten());
        match fault {
            None => Ok(shared),
            Some(fault) => Err(Rc::unwrap_or_clone(shared).refuse(fault)),
        }
    }

    /// The error for a message with this fault: answered where that is allowed and possible, otherwise dropped.
    #[must_use]
    pub fn refuse(self, fault: Fault) -> ParseError {
        let answerable =
            self.is_request() && self.method() != Method::Ack && self.first(HeaderId::Via).is_some();
        if !answerable {
            return ParseError::Drop(fault);
        }
        let code = if fault == Fault::Version { 505 } else { 400 };
        ParseError::Reject { code, reason: fault.reason(), fault, message: Box::new(self) }
    }

    #[inline(never)]
    fn find_headers(&mut self, mut line_ends: scan::LineEnds) -> Result<(), Fault> {
        let buf: &[u8] = &self.buf;
        let mut fault = Ok(());
        let mut line = self.start.end() as usize;
        loop {
            let mut next = line_ends.next(buf).map_or(buf.len(), |end| end + 1);
            let Some(rest @ [first, ..]) = buf.get(line..) else {
                self.head_end = buf.len() as u32;
                self.body = buf.len() as u32;
                return fault.and(Err(Fault::Truncated));
            };
            if *first <= b'\r'
                && let [b'\n', ..] | [b'\r', b'\n', ..] = rest
            {
                self.head_end = line as u32;
                self.body = next as u32;
                return fault;
            }
            if let Some(b' ' | b'\t') = buf.get(next) {
                (next, line_ends) = fold_end(buf, next, line_ends);
            }
            let text = rest.get(..next - line).unwrap_or(rest);
            // Nearly all names are shorter than that, and the message goes on behind the header.
            let colon = match rest.first_chunk().map(|start| scan::marks(start, b':')) {
                Some(marks) if marks != 0 => marks.trailing_zeros() as usize,
                _ => scan::find_near(text, b':').unwrap_or(0),
            };
            let mut name = text.get(..colon).unwrap_or(&[]);
            let id = match HeaderId::from_usual(name) {
                Some(id) => id,
                None => {
                    name = trim_blank(name);
                    let id = HeaderId::from_unusual(name);
                    let sound = id != HeaderId::Other || is_name(name);
                    if !sound || colon > MAX_COLON || name.len() > MAX_NAME {
                        fault = fault.and(Err(Fault::HeaderLine));
                        line = next;
                        continue;
                    }
                    id
                }
            };
            if self.headers.len() == MAX_HEADERS {
                self.head_end = line as u32;
                self.body = buf.len() as u32;
                return fault.and(Err(Fault::TooManyHeaders));
            }
            if let Some(first) = self.first.get_mut(id as usize) {
                if *first == NONE {
                    *first = self.headers.len() as u16;
                } else if id.occurs_once() {
                    fault = fault.and(Err(Fault::Repeated(id)));
                }
            }
            let (value, value_end) = trimmed(text, colon + 1);
            self.headers.push(Slot {
                line: line as u32,
                value: value.min(usize::from(u16::MAX)) as u16,
                value_end: (line + value_end) as u32,
                end: next as u32,
                name_len: name.len() as u8,
                id,
            });
            line = next;
        }
    }

    fn check_mandatory(&mut self) -> Result<(), Fault> {
        let available = self.buf.len() - self.body as usize;
        if let Some(length) = self.given(HeaderId::ContentLength) {
            let length = scan::number(length)
                .ok_or(FieldError::Malformed(HeaderId::ContentLength, "not a number of bytes"))?;
            if length as usize > available {
                return Err(Fault::BodyTooShort);
            }
            self.buf.truncate(self.body as usize + length as usize);
        }
        for id in [HeaderId::Via, HeaderId::To, HeaderId::From, HeaderId::CallId, HeaderId::CSeq] {
            if self.first(id).is_none() {
                return Err(FieldError::Missing(id).into());
            }
        }
        if self.call_id().is_empty() {
            return Err(FieldError::Malformed(HeaderId::CallId, "it is empty").into());
        }
        self.cseq = Some(self.read_cseq()?);
        Ok(())
    }

    fn read_cseq(&self) -> Result<(u32, Method), Fault> {
        let malformed = |what| Fault::Field(FieldError::Malformed(HeaderId::CSeq, what));
        let value = self.value(HeaderId::CSeq);
        let end = value.iter().position(|b| !b.is_ascii_digit()).unwrap_or(value.len());
        let (digits, rest) = value.split_at(end);
        let number =
            scan::number(digits).filter(|n| *n < 1 << 31).ok_or(malformed("no number below 2^31"))?;
        let name = scan::trim_start(rest);
        if name.is_empty() || name.len() == rest.len() {
            return Err(malformed("no method"));
        }
        match self.start {
            StartLine::Request { method, name: own, .. } if own.get(&self.buf) == name => {
                Ok((number, method))
            }
            _ if !name.iter().all(|b| scan::is_token(*b)) => Err(malformed("the method is not a token")),
            StartLine::Request { .. } => Err(Fault::MethodMismatch),
            StartLine::Reply { .. } => Ok((number, Method::from_bytes(name))),
        }
    }

    fn cseq_method_name(&self) -> &[u8] {
        let value = self.value(HeaderId::CSeq);
        let end = value.iter().position(|b| !b.is_ascii_digit()).unwrap_or(value.len());
        scan::trim(&value[end..])
    }

    fn find_fault(&self) -> Option<Fault> {
        if self.is_request()
            && let Err(error) = self.ruri()
        {
            return Some(Fault::RequestUri(error));
        }
        if let Err(error) = self.via() {
            return Some(error.into());
        }
        if let Some(what) = self.vias_below().find_map(Result::err) {
            return Some(FieldError::Malformed(HeaderId::Via, what).into());
        }
        for (id, addr) in [(HeaderId::From, self.from()), (HeaderId::To, self.to())] {
            match addr {
                Err(error) => return Some(error.into()),
                Ok(addr) if addr.parse_uri().is_err() => {
                    return Some(FieldError::Malformed(id, "the URI cannot be read").into());
                }
                Ok(_) => {}
            }
        }
        self.max_forwards().err().map(Fault::from)
    }

    /// The bytes of the message.
    #[must_use]
    pub fn raw(&self) -> &Bytes {
        &self.buf
    }

    /// Whether it is a request.
    #[inline]
    #[must_use]
    pub fn is_request(&self) -> bool {
        matches!(self.start, StartLine::Request { .. })
    }

    /// The method: of the request line, or of CSeq for a reply.
    #[must_use]
    pub fn method(&self) -> Method {
        match self.start {
            StartLine::Request { method, .. } => method,
            StartLine::Reply { .. } => self.cseq.map_or(Method::Other, |c| c.1),
        }
    }

    /// The method as received.
    #[must_use]
    pub fn method_name(&self) -> &[u8] {
        match self.start {
            StartLine::Request { name, .. } => name.get(&self.buf),
            StartLine::Reply { .. } => self.cseq_method_name(),
        }
    }

    /// Status code of a reply, 100 to 699; 0 for a request.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self.start {
            StartLine::Request { .. } => 0,
            StartLine::Reply { status, .. } => status,
        }
    }

    /// Reason phrase of a reply; empty for a request.
    #[must_use]
    pub fn reason(&self) -> &[u8] {
        match self.start {
            StartLine::Request { .. } => &[],
            StartLine::Reply { reason, .. } => reason.get(&self.buf),
        }
    }

    /// The request URI as received; empty for a reply.
    #[must_use]
    pub fn ruri_bytes(&self) -> &[u8] {
        match self.start {
            StartLine::Request { uri, .. } => uri.get(&self.buf),
            StartLine::Reply { .. } => &[],
        }
    }

    /// The parts of the request URI.
    pub fn ruri(&self) -> Result<Uri<'_>, UriError> {
        if let Some(known) = self.ruri.get() {
            return known.as_ref().map(|spans| spans.view(&self.buf)).map_err(|e| *e);
        }
        let read = Uri::parse(self.ruri_bytes());
        let _ = self.ruri.set(read.as_ref().map(|u| UriSpans::of(&self.buf, u)).map_err(|e| *e));
        read
    }

    /// The start line without its line end.
    #[must_use]
    pub fn start_line(&self) -> &[u8] {
        scan::trim_end(&self.buf[..self.start.end() as usize])
    }

    /// Offset of the first header.
    pub(crate) fn headers_start(&self) -> usize {
        self.start.end() as usize
    }

    /// Offset of the empty line after the headers.
    pub(crate) fn headers_end(&self) -> usize {
        self.head_end as usize
    }

    /// Offset of the body.
    pub(crate) fn body_start(&self) -> usize {
        self.body as usize
    }

    /// All headers in order.
    pub fn headers(&self) -> impl DoubleEndedIterator<Item = Header<'_>> + ExactSizeIterator {
        self.headers.iter().enumerate().map(|(index, slot)| self.view(index, slot))
    }

    /// Number of headers.
    #[must_use]
    pub fn header_count(&self) -> usize {
        self.headers.len()
    }

    /// The header at `index`.
    #[must_use]
    pub fn header_at(&self, index: usize) -> Option<Header<'_>> {
        self.headers.get(index).map(|slot| self.view(index, slot))
    }

    /// The first header of this kind.
    #[must_use]
    pub fn header(&self, id: HeaderId) -> Option<Header<'_>> {
        self.header_at(self.first(id)?)
    }

    /// All headers of this kind; for [`HeaderId::Other`] all that we do not know.
    pub fn headers_of(&self, id: HeaderId) -> impl Iterator<Item = Header<'_>> {
        let from = self.first(id).unwrap_or(self.headers.len());
        self.headers[from..]
            .iter()
            .enumerate()
            .filter(move |(_, slot)| slot.id == id)
            .map(move |(i, slot)| self.view(from + i, slot))
    }

    /// All headers with this name, in any case; a known name also finds its compact or long form.
    pub fn headers_by_name<'m>(&'m self, name: &'m [u8]) -> impl Iterator<Item = Header<'m>> {
        let id = HeaderId::from_name(name);
        self.headers_of(id).filter(move |h| id != HeaderId::Other || h.name.eq_ignore_ascii_case(name))
    }

    /// The topmost Via value.
    pub fn via(&self) -> Result<Via<'_>, FieldError> {
        if let Some(known) = self.via.get() {
            return known.as_ref().map(|spans| spans.view(&self.buf)).map_err(|e| *e);
        }
        let top = self.headers_of(HeaderId::Via).find_map(|h| scan::commas(h.value).next());
        let read = match top {
            Some(value) => Via::parse(value).map_err(|what| FieldError::Malformed(HeaderId::Via, what)),
            None => Err(FieldError::Missing(HeaderId::Via)),
        };
        let _ = self.via.set(read.as_ref().map(|v| ViaSpans::of(&self.buf, v)).map_err(|e| *e));
        read
    }

    /// All Via values from the top, comma lists included; the error says what is wrong with one.
    pub fn vias(&self) -> impl Iterator<Item = Result<Via<'_>, &'static str>> {
        self.headers_of(HeaderId::Via).flat_map(|h| scan::commas(h.value)).map(Via::parse)
    }

    /// The Via values under the topmost.
    pub fn vias_below(&self) -> impl Iterator<Item = Result<Via<'_>, &'static str>> {
        // Skipped as text, so that the topmost is not read again.
        self.headers_of(HeaderId::Via).flat_map(|h| scan::commas(h.value)).skip(1).map(Via::parse)
    }

    /// From.
    pub fn from(&self) -> Result<NameAddr<'_>, FieldError> {
        self.cached_address(HeaderId::From, &self.from)
    }

    /// To.
    pub fn to(&self) -> Result<NameAddr<'_>, FieldError> {
        self.cached_address(HeaderId::To, &self.to)
    }

    fn cached_address(
        &self,
        id: HeaderId,
        cell: &OnceCell<Result<NameAddrSpans, FieldError>>,
    ) -> Result<NameAddr<'_>, FieldError> {
        if let Some(known) = cell.get() {
            return known.as_ref().map(|spans| spans.view(&self.buf)).map_err(|e| *e);
        }
        let read = match self.given(id) {
            Some(value) => NameAddr::parse(value).map_err(|what| FieldError::Malformed(id, what)),
            None => Err(FieldError::Missing(id)),
        };
        let _ = cell.set(read.as_ref().map(|a| NameAddrSpans::of(&self.buf, a)).map_err(|e| *e));
        read
    }

    /// Call-ID.
    #[must_use]
    pub fn call_id(&self) -> &[u8] {
        self.value(HeaderId::CallId)
    }

    /// Number and method of CSeq.
    pub fn cseq(&self) -> Result<(u32, Method), FieldError> {
        self.cseq.ok_or(FieldError::Missing(HeaderId::CSeq))
    }

    /// All addresses of the headers of one kind, comma lists included.
    pub fn addresses(&self, id: HeaderId) -> impl Iterator<Item = Result<NameAddr<'_>, &'static str>> {
        NameAddrs::new(self.headers_of(id).map(|h| h.value))
    }

    /// All Contact values.
    pub fn contacts(&self) -> impl Iterator<Item = Result<NameAddr<'_>, &'static str>> {
        self.addresses(HeaderId::Contact)
    }

    /// All Route values from the top.
    pub fn routes(&self) -> impl Iterator<Item = Result<NameAddr<'_>, &'static str>> {
        self.addresses(HeaderId::Route)
    }

    /// All Record-Route values from the top.
    pub fn record_routes(&self) -> impl Iterator<Item = Result<NameAddr<'_>, &'static str>> {
        self.addresses(HeaderId::RecordRoute)
    }

    /// All Path values from the top (RFC 3327).
    pub fn paths(&self) -> impl Iterator<Item = Result<NameAddr<'_>, &'static str>> {
        self.addresses(HeaderId::Path)
    }

    /// Max-Forwards; `None` when the header is missing. Values above 255 are read as they are.
    pub fn max_forwards(&self) -> Result<Option<u32>, FieldError> {
        match self.given(HeaderId::MaxForwards) {
            None => Ok(None),
            Some(value) => scan::number(value)
                .map(Some)
                .ok_or(FieldError::Malformed(HeaderId::MaxForwards, "not a number")),
        }
    }

    /// Expires in seconds; `None` when missing or malformed (RFC 3261 §20.19 lets both mean the default).
    #[must_use]
    pub fn expires(&self) -> Option<u32> {
        scan::number(self.given(HeaderId::Expires)?)
    }

    /// Content-Length in bytes, when given.
    #[must_use]
    pub fn content_length(&self) -> Option<u32> {
        scan::number(self.given(HeaderId::ContentLength)?)
    }

    /// Content-Type with its parameters.
    #[must_use]
    pub fn content_type(&self) -> Option<&[u8]> {
        self.given(HeaderId::ContentType)
    }

    /// The body; empty when there is none.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.buf.get(self.body as usize..).unwrap_or(&[])
    }

    /// A part of this message that keeps the received bytes alive instead of copying them. Bytes from elsewhere are
    /// copied.
    #[must_use]
    pub fn slice(&self, part: &[u8]) -> Bytes {
        match self.offset_of(part) {
            Some(at) => self.buf.slice(at..at + part.len()),
            None => Bytes::copy_from_slice(part),
        }
    }

    /// Where `part` begins, when it lies inside this message.
    pub(crate) fn offset_of(&self, part: &[u8]) -> Option<usize> {
        let at = (part.as_ptr() as usize).checked_sub(self.buf.as_ptr() as usize)?;
        (at <= self.buf.len() && part.len() <= self.buf.len() - at).then_some(at)
    }

    /// The value of the first header of this kind, empty when missing.
    fn value(&self, id: HeaderId) -> &[u8] {
        self.given(id).unwrap_or(&[])
    }

    /// The value of the first header of this kind.
    #[inline]
    fn given(&self, id: HeaderId) -> Option<&[u8]> {
        self.headers.get(self.first(id)?).map(|slot| self.value_of(slot))
    }

    #[inline]
    fn value_of(&self, slot: &Slot) -> &[u8] {
        let from = slot.line + u32::from(slot.value);
        scan::trim_start(self.buf.get(from as usize..slot.value_end as usize).unwrap_or(&[]))
    }

    #[inline]
    fn first(&self, id: HeaderId) -> Option<usize> {
        match self.first.get(id as usize) {
            Some(&NONE) => None,
            Some(&index) => Some(usize::from(index)),
            None => self.headers.iter().position(|slot| slot.id == id),
        }
    }

    #[inline]
    fn view(&self, index: usize, slot: &Slot) -> Header<'_> {
        let buf: &[u8] = &self.buf;
        let get = |from: u32, to: u32| buf.get(from as usize..to as usize).unwrap_or(&[]);
        Header {
            id: slot.id,
            index,
            name: get(slot.line, slot.line + u32::from(slot.name_len)),
            value: self.value_of(slot),
            line: get(slot.line, slot.end),
        }
    }
}

/// Reads the start line; the fault is one that can be answered.
fn begin(mut buf: Bytes) -> Result<(Bytes, StartLine, scan::LineEnds, Option<Fault>), ParseError> {
    let lead = buf.iter().position(|b| !matches!(b, b'\r' | b'\n')).unwrap_or(buf.len());
    buf.advance(lead);
    if buf.is_empty() {
        return Err(ParseError::Drop(Fault::KeepAlive));
    }
    if buf.len() > MAX_MESSAGE {
        return Err(ParseError::Drop(Fault::TooLong));
    }
    let mut line_ends = scan::LineEnds::new();
    let (start, fault) = StartLine::parse(&buf, &mut line_ends).map_err(ParseError::Drop)?;
    Ok((buf, start, line_ends, fault))
}

impl StartLine {
    /// Reads the first line. A wrong version in an otherwise sound line comes back beside it.
    fn parse(buf: &[u8], line_ends: &mut scan::LineEnds) -> Result<(StartLine, Option<Fault>), Fault> {
        let newline = line_ends.next(buf).ok_or(Fault::StartLine)?;
        let end = newline as u32 + 1;
        let line = scan::trim_end(&buf[..newline]);
        if line.get(..4).is_some_and(|p| p.eq_ignore_ascii_case(b"SIP/")) {
            return Self::parse_status(buf, line, end);
        }
        let space = scan::find_near(line, b' ').ok_or(Fault::StartLine)?;
        let (last, fault) = match line.strip_suffix(b" SIP/2.0") {
            Some(front) => (front.len(), None),
            None => Self::unusual_version(line)?,
        };
        let name = &line[..space];
        let method = Method::from_bytes(name);
        if (method == Method::Other && !is_name(name)) || last <= space {
            return Err(Fault::StartLine);
        }
        let start = StartLine::Request {
            method,
            name: Span::of(buf, name),
            uri: Span::of(buf, &line[space + 1..last]),
            end,
        };
        Ok((start, fault))
    }

    /// Where the version begins (the space before it), and what is wrong with it.
    #[inline(never)]
    fn unusual_version(line: &[u8]) -> Result<(usize, Option<Fault>), Fault> {
        let last = memchr::memrchr(b' ', line).ok_or(Fault::StartLine)?;
        match &line[last + 1..] {
            v if v.eq_ignore_ascii_case(b"SIP/2.0") => Ok((last, None)),
            v if v.get(..4).is_some_and(|p| p.eq_ignore_ascii_case(b"SIP/")) => {
                Ok((last, Some(Fault::Version)))
            }
            _ => Err(Fault::StartLine),
        }
    }

    fn parse_status(buf: &[u8], line: &[u8], end: u32) -> Result<(StartLine, Option<Fault>), Fault> {
        if !line.get(..8).is_some_and(|p| p.eq_ignore_ascii_case(b"SIP/2.0 ")) {
            return Err(Fault::Version);
        }
        let digits = line.get(8..11).ok_or(Fault::StartLine)?;
        let status = scan::number(digits).filter(|n| (100..700).contains(n)).ok_or(Fault::StartLine)? as u16;
        let reason = match &line[11..] {
            [] => &line[11..],
            [b' ', reason @ ..] => reason,
            _ => return Err(Fault::StartLine),
        };
        Ok((StartLine::Reply { status, reason: Span::of(buf, reason), end }, None))
    }

    fn end(&self) -> u32 {
        match self {
            StartLine::Request { end, .. } | StartLine::Reply { end, .. } => *end,
        }
    }
}

impl HeaderId {
    /// Whether a second header of this kind makes the message ambiguous for routing.
    fn occurs_once(self) -> bool {
        matches!(
            self,
            HeaderId::From
                | HeaderId::To
                | HeaderId::CallId
                | HeaderId::CSeq
                | HeaderId::MaxForwards
                | HeaderId::ContentLength
        )
    }
}

/// The end of a header whose first line ends at `next`, where it goes on.
#[cold]
fn fold_end(buf: &[u8], mut next: usize, mut line_ends: scan::LineEnds) -> (usize, scan::LineEnds) {
    while let Some(b' ' | b'\t') = buf.get(next) {
        next = line_ends.next(buf).map_or(buf.len(), |end| end + 1);
    }
    (next, line_ends)
}

fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|b| scan::is_token(*b))
}

/// Where the value that begins at `from` starts and ends without the white space around it. Nearly always that is one space
/// before and CRLF behind.
#[inline]
fn trimmed(text: &[u8], mut from: usize) -> (usize, usize) {
    let mut to = text.len();
    if let Some([b' ', first, .., last, b'\r', b'\n']) = text.get(from..)
        && *first > b' '
        && *last > b' '
    {
        return (from + 1, to - 2);
    }
    while from < to && scan::is_lws(text[to - 1]) {
        to -= 1;
    }
    while from < to && scan::is_lws(text[from]) {
        from += 1;
    }
    (from, to)
}

/// The name without blanks before the colon.
fn trim_blank(mut name: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t'] = name {
        name = rest;
    }
    name
}
