//! Session descriptions (RFC 8866), read only: slices of a body, enough to answer what a script asks (`$sdp`, codecs,
//! streams, direction). Lines in the wrong order are accepted; changes are made through the edits of the message.

use crate::sip::scan::number;
use smallvec::SmallVec;

/// More streams than this are refused.
pub const MAX_STREAMS: usize = 64;
/// Formats of a stream beyond this number are not listed; RTP has 128 payload types.
pub const MAX_FORMATS: usize = 128;

/// Why a body is not a session description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// The first line is not `v=0`.
    #[error("the first line is not v=0")]
    Version,
    /// A line is not `letter=value`.
    #[error("a line is not letter=value")]
    Line,
    /// An `m=` line lacks media, port, protocol or formats.
    #[error("an m= line is incomplete")]
    Media,
    /// More than [`MAX_STREAMS`] streams.
    #[error("too many streams")]
    TooMany,
}

/// A session description.
#[derive(Clone, Debug)]
pub struct Sdp<'a> {
    /// All of it.
    pub raw: &'a [u8],
    /// The part before the first stream.
    pub session: Lines<'a>,
    /// The streams in order.
    pub streams: SmallVec<[Stream<'a>; 4]>,
}

/// One stream: an `m=` line and what belongs to it.
#[derive(Clone, Copy, Debug)]
pub struct Stream<'a> {
    /// The `m=` line without its line end.
    pub line: &'a [u8],
    /// `audio`, `video`, `image` …
    pub media: &'a [u8],
    /// Port; 0 for a refused stream.
    pub port: u16,
    /// The port as received.
    pub port_text: &'a [u8],
    /// Number of ports, 1 unless the line says more.
    pub ports: u16,
    /// `RTP/AVP`, `RTP/SAVPF`, `udptl` …
    pub proto: &'a [u8],
    /// Formats, separated by spaces.
    pub formats: &'a [u8],
    /// All lines of the stream, the `m=` line included.
    pub lines: Lines<'a>,
}

/// The way media flows, seen from who sent the description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Both ways, the default.
    SendRecv,
    /// From the sender.
    SendOnly,
    /// To the sender.
    RecvOnly,
    /// Neither.
    Inactive,
}

/// A `c=` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection<'a> {
    /// `IP4` or `IP6`.
    pub family: &'a [u8],
    /// Address, with `/ttl` when multicast.
    pub address: &'a [u8],
}

/// An `o=` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// User name, `-` for none.
    pub username: &'a [u8],
    /// Session id.
    pub session_id: &'a [u8],
    /// Session version.
    pub version: &'a [u8],
    /// Family and address.
    pub connection: Connection<'a>,
}

/// An RTP format of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codec<'a> {
    /// Payload type as it stands in the `m=` line.
    pub payload: &'a [u8],
    /// Encoding name; of the static table of RFC 3551 when there is no `rtpmap`, empty when unknown.
    pub name: &'a [u8],
    /// Clock rate in Hz; 0 when unknown.
    pub clock: u32,
    /// The rest of `rtpmap`: channels.
    pub parameters: Option<&'a [u8]>,
}

impl<'a> Sdp<'a> {
    /// Reads a body.
    pub fn parse(raw: &'a [u8]) -> Result<Sdp<'a>, SdpError> {
        if !raw.starts_with(b"v=0") {
            return Err(SdpError::Version);
        }
        let (mut starts, mut at) = (SmallVec::<[usize; 8]>::new(), 0);
        for line in raw.split_inclusive(|b| *b == b'\n') {
            match trim_line(line) {
                [] => {}
                [b'm', b'=', ..] if starts.len() == MAX_STREAMS => return Err(SdpError::TooMany),
                [b'm', b'=', ..] => starts.push(at),
                [letter, b'=', ..] if letter.is_ascii_alphabetic() => {}
                _ => return Err(SdpError::Line),
            }
            at += line.len();
        }
        let session = &raw[..starts.first().copied().unwrap_or(raw.len())];
        let mut streams = SmallVec::new();
        for (i, start) in starts.iter().enumerate() {
            let end = starts.get(i + 1).copied().unwrap_or(raw.len());
            streams.push(Stream::parse(&raw[*start..end]).ok_or(SdpError::Media)?);
        }
        Ok(Sdp { raw, session: Lines(session), streams })
    }

    /// The `o=` line.
    #[must_use]
    pub fn origin(&self) -> Option<Origin<'a>> {
        let mut words = words(self.session.value(b'o')?);
        let (username, session_id, version) = (words.next()?, words.next()?, words.next()?);
        Some(Origin { username, session_id, version, connection: connection(words)? })
    }

    /// The `s=` line.
    #[must_use]
    pub fn session_name(&self) -> Option<&'a [u8]> {
        self.session.value(b's')
    }

    /// The session's `c=` line.
    #[must_use]
    pub fn connection(&self) -> Option<Connection<'a>> {
        connection(words(self.session.value(b'c')?))
    }

    /// The `c=` line that holds for a stream: its own or the session's.
    #[must_use]
    pub fn connection_of(&self, stream: &Stream<'a>) -> Option<Connection<'a>> {
        stream.lines.value(b'c').and_then(|v| connection(words(v))).or_else(|| self.connection())
    }

    /// The direction that holds for a stream: its own or the session's or both ways.
    #[must_use]
    pub fn direction_of(&self, stream: &Stream<'a>) -> Direction {
        direction(stream.lines).or_else(|| direction(self.session)).unwrap_or(Direction::SendRecv)
    }

    /// Whether a stream is on hold: not sending both ways or with the null address of RFC 2543.
    #[must_use]
    pub fn is_on_hold(&self, stream: &Stream<'a>) -> bool {
        matches!(self.direction_of(stream), Direction::SendOnly | Direction::Inactive)
            || self.connection_of(stream).is_some_and(|c| c.address == b"0.0.0.0")
    }
}

impl<'a> Stream<'a> {
    fn parse(text: &'a [u8]) -> Option<Stream<'a>> {
        let line = trim_line(text.split_inclusive(|b| *b == b'\n').next()?);
        let mut words = words(line.get(2..)?);
        let (media, port, proto, first) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let slash = port.iter().position(|b| *b == b'/');
        let (port_text, ports) = match slash {
            Some(at) => (&port[..at], number(&port[at + 1..])?),
            None => (port, 1),
        };
        let formats_at = first.as_ptr() as usize - line.as_ptr() as usize;
        Some(Stream {
            line,
            media,
            port: u16::try_from(number(port_text)?).ok()?,
            port_text,
            ports: u16::try_from(ports).ok()?,
            proto,
            formats: &line[formats_at..],
            lines: Lines(text),
        })
    }

    /// The formats of the `m=` line in order, with what `rtpmap` says about them.
    pub fn codecs(&self) -> impl Iterator<Item = Codec<'a>> {
        let lines = self.lines;
        words(self.formats).take(MAX_FORMATS).map(move |payload| lines.codec(payload))
    }

    /// The `fmtp` of a payload type.
    #[must_use]
    pub fn fmtp(&self, payload: &[u8]) -> Option<&'a [u8]> {
        self.lines.about("fmtp", payload)
    }
}

/// Lines of a description or of one stream.
#[derive(Clone, Copy, Debug)]
pub struct Lines<'a>(&'a [u8]);

impl<'a> Lines<'a> {
    /// The text of the lines.
    #[must_use]
    pub fn raw(self) -> &'a [u8] {
        self.0
    }

    /// Letter and value of every line.
    pub fn iter(self) -> impl Iterator<Item = (u8, &'a [u8])> {
        self.0.split(|b| *b == b'\n').map(trim_line).filter_map(|line| match line {
            [letter, b'=', value @ ..] => Some((*letter, value)),
            _ => None,
        })
    }

    /// The value of the first line with this letter.
    #[must_use]
    pub fn value(self, letter: u8) -> Option<&'a [u8]> {
        self.iter().find(|(l, _)| *l == letter).map(|(_, v)| v)
    }

    /// Name and value of every attribute; the value is `None` for a flag.
    pub fn attributes(self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        self.iter().filter(|(l, _)| *l == b'a').map(|(_, v)| match memchr::memchr(b':', v) {
            Some(at) => (&v[..at], Some(&v[at + 1..])),
            None => (v, None),
        })
    }

    /// The value of the first attribute `name`, empty for a flag.
    #[must_use]
    pub fn attribute(self, name: &str) -> Option<&'a [u8]> {
        self.attributes()
            .find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, v)| v.unwrap_or(&[]))
    }

    /// The rest of the attribute `name` that begins with this payload type.
    fn about(self, name: &str, payload: &[u8]) -> Option<&'a [u8]> {
        self.attributes().find_map(|(n, v)| {
            let v = v.filter(|_| n.eq_ignore_ascii_case(name.as_bytes()))?;
            let space = memchr::memchr(b' ', v)?;
            (&v[..space] == payload).then(|| v[space + 1..].trim_ascii())
        })
    }

    fn codec(self, payload: &'a [u8]) -> Codec<'a> {
        match self.about("rtpmap", payload) {
            Some(map) => {
                let mut parts = map.splitn(3, |b| *b == b'/');
                Codec {
                    payload,
                    name: parts.next().unwrap_or(&[]),
                    clock: parts.next().and_then(number).unwrap_or(0),
                    parameters: parts.next(),
                }
            }
            None => {
                let (name, clock) = static_payload(payload);
                Codec { payload, name: name.as_bytes(), clock, parameters: None }
            }
        }
    }
}

/// Static payload types (RFC 3551 §6).
fn static_payload(payload: &[u8]) -> (&'static str, u32) {
    match number(payload) {
        Some(0) => ("PCMU", 8000),
        Some(3) => ("GSM", 8000),
        Some(4) => ("G723", 8000),
        Some(5) => ("DVI4", 8000),
        Some(6) => ("DVI4", 16000),
        Some(7) => ("LPC", 8000),
        Some(8) => ("PCMA", 8000),
        Some(9) => ("G722", 8000),
        Some(10 | 11) => ("L16", 44100),
        Some(12) => ("QCELP", 8000),
        Some(13) => ("CN", 8000),
        Some(14) => ("MPA", 90000),
        Some(15) => ("G728", 8000),
        Some(16) => ("DVI4", 11025),
        Some(17) => ("DVI4", 22050),
        Some(18) => ("G729", 8000),
        Some(25) => ("CelB", 90000),
        Some(26) => ("JPEG", 90000),
        Some(28) => ("nv", 90000),
        Some(31) => ("H261", 90000),
        Some(32) => ("MPV", 90000),
        Some(33) => ("MP2T", 90000),
        Some(34) => ("H263", 90000),
        _ => ("", 0),
    }
}

fn direction(lines: Lines<'_>) -> Option<Direction> {
    lines.attributes().find_map(|(name, _)| match name {
        b"sendrecv" => Some(Direction::SendRecv),
        b"sendonly" => Some(Direction::SendOnly),
        b"recvonly" => Some(Direction::RecvOnly),
        b"inactive" => Some(Direction::Inactive),
        _ => None,
    })
}

fn connection<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Option<Connection<'a>> {
    let net = words.next()?;
    let (family, address) = (words.next()?, words.next()?);
    net.eq_ignore_ascii_case(b"IN").then_some(Connection { family, address })
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| *b == b' ').filter(|w| !w.is_empty())
}

fn trim_line(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &[u8] = b"v=0\r\no=alice 2890844526 2890844527 IN IP4 host.example\r\ns=call\r\nc=IN IP4 192.0.2.1\r\n\
        t=0 0\r\na=recvonly\r\nm=audio 49170/2 RTP/AVP 0 96  18\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\n\
        a=sendonly\r\nm=video 0 RTP/SAVPF 31\r\nc=IN IP6 2001:db8::1\r\n";

    #[test]
    fn session_and_streams_are_read() {
        let sdp = Sdp::parse(OFFER).unwrap();
        let origin = sdp.origin().unwrap();
        assert_eq!((origin.username, origin.version), (&b"alice"[..], &b"2890844527"[..]));
        assert_eq!(sdp.session_name(), Some(&b"call"[..]));
        let [audio, video] = &sdp.streams[..] else { panic!("two streams") };
        assert_eq!((audio.media, audio.port, audio.ports), (&b"audio"[..], 49170, 2));
        assert_eq!(sdp.connection_of(audio).unwrap().address, b"192.0.2.1");
        assert_eq!(sdp.connection_of(video).unwrap().address, b"2001:db8::1");
        assert_eq!(sdp.direction_of(audio), Direction::SendOnly);
        assert_eq!(sdp.direction_of(video), Direction::RecvOnly);
        assert!(sdp.is_on_hold(audio) && !sdp.is_on_hold(video));
        assert_eq!((video.port, video.proto), (0, &b"RTP/SAVPF"[..]));
    }

    #[test]
    fn codecs_come_from_rtpmap_or_the_static_table() {
        let sdp = Sdp::parse(OFFER).unwrap();
        let codecs: Vec<_> = sdp.streams[0].codecs().map(|c| (c.name, c.clock, c.parameters)).collect();
        assert_eq!(
            codecs,
            [(&b"PCMU"[..], 8000, None), (b"opus", 48000, Some(&b"2"[..])), (b"G729", 8000, None)]
        );
        assert_eq!(sdp.streams[0].fmtp(b"96"), Some(&b"useinbandfec=1"[..]));
    }

    #[test]
    fn what_is_not_sdp_is_refused() {
        let error = |text: &'static [u8]| Sdp::parse(text).unwrap_err();
        assert_eq!(error(b"hello"), SdpError::Version);
        assert_eq!(error(b"v=0\r\nnonsense\r\n"), SdpError::Line);
        assert_eq!(error(b"v=0\r\nm=audio\r\n"), SdpError::Media);
        assert_eq!(error(b"v=0\r\nm=audio 70000 RTP/AVP 0\r\n"), SdpError::Media);
        assert_eq!(
            error(
                "v=0\n"
                    .to_owned()
                    .into_bytes()
                    .into_iter()
                    .chain(b"m=a 1 b 0\n".repeat(65))
                    .collect::<Vec<_>>()
                    .leak()
            ),
            SdpError::TooMany
        );
    }
}
