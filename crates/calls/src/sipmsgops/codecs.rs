//! Codecs and streams of the session description (RFC 8866, RFC 3264).
//!
//! Only RTP streams have codecs here: the formats of others (T.38 over UDPTL) are not touched.

use regex::bytes::Regex;
use switchroom_kernel::context::{Call, FALSE, Flow, TRUE};
use switchroom_wire::sdp::{Codec, Direction, Sdp, Stream};

use super::truth;
use crate::core::body;

/// What to do with the codecs that match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Delete,
    Up,
    Down,
}

/// Which codecs are meant.
enum Which<'a> {
    Named { name: &'a [u8], clock: Option<&'a [u8]> },
    Regex(&'a Regex),
    Except(&'a Regex),
}

impl Which<'_> {
    fn has(&self, codec: &Codec<'_>) -> bool {
        match self {
            Which::Named { name, clock } => {
                let same_clock =
                    |c: &[u8]| itoa::Buffer::new().format(codec.clock).as_bytes() == c.trim_ascii();
                codec.name.eq_ignore_ascii_case(name) && clock.is_none_or(same_clock)
            }
            Which::Regex(r) => r.is_match(codec.name),
            Which::Except(r) => !r.is_match(codec.name),
        }
    }
}

fn has_codecs(stream: &Stream<'_>) -> bool {
    stream.proto.windows(3).any(|w| w.eq_ignore_ascii_case(b"RTP"))
}

pub(super) fn exists(c: &mut Call<'_>) -> Flow {
    with_named(c, |c, which| truth(any(c, &which)))
}
pub(super) fn exists_re(c: &mut Call<'_>) -> Flow {
    with_regex(c, |c, r| truth(any(c, &Which::Regex(r))))
}
pub(super) fn delete(c: &mut Call<'_>) -> Flow {
    with_named(c, |c, which| change(c, Change::Delete, &which))
}
pub(super) fn delete_re(c: &mut Call<'_>) -> Flow {
    with_regex(c, |c, r| change(c, Change::Delete, &Which::Regex(r)))
}
pub(super) fn delete_except_re(c: &mut Call<'_>) -> Flow {
    with_regex(c, |c, r| change(c, Change::Delete, &Which::Except(r)))
}
pub(super) fn up(c: &mut Call<'_>) -> Flow {
    with_named(c, |c, which| change(c, Change::Up, &which))
}
pub(super) fn up_re(c: &mut Call<'_>) -> Flow {
    with_regex(c, |c, r| change(c, Change::Up, &Which::Regex(r)))
}
pub(super) fn down(c: &mut Call<'_>) -> Flow {
    with_named(c, |c, which| change(c, Change::Down, &which))
}
pub(super) fn down_re(c: &mut Call<'_>) -> Flow {
    with_regex(c, |c, r| change(c, Change::Down, &Which::Regex(r)))
}

fn with_named(c: &mut Call<'_>, then: impl FnOnce(&mut Call<'_>, Which<'_>) -> Flow) -> Flow {
    let Some(name) = c.str(0).cloned() else { return FALSE };
    let clock = c.str(1).cloned();
    then(c, Which::Named { name: &name, clock: clock.as_deref() })
}

fn with_regex(c: &mut Call<'_>, then: impl FnOnce(&mut Call<'_>, &Regex) -> Flow) -> Flow {
    let Some(regex) = c.args.regex(0).cloned() else { return FALSE };
    then(c, &regex)
}

fn any(c: &Call<'_>, which: &Which<'_>) -> bool {
    let Some(text) = body::sdp(c.ctx) else { return false };
    let Ok(sdp) = Sdp::parse(&text) else { return false };
    sdp.streams.iter().filter(|s| has_codecs(s)).any(|s| s.codecs().any(|codec| which.has(&codec)))
}

fn change(c: &mut Call<'_>, change: Change, which: &Which<'_>) -> Flow {
    let Some(text) = body::sdp(c.ctx) else { return FALSE };
    match changed(&text, change, which) {
        Some(new) => {
            body::set_sdp(c.ctx, &new);
            TRUE
        }
        None => FALSE,
    }
}

/// The description with the change made; `None` when nothing matches or it cannot be read.
fn changed(text: &[u8], change: Change, which: &Which<'_>) -> Option<Vec<u8>> {
    let sdp = Sdp::parse(text).ok()?;
    let mut out = Vec::with_capacity(text.len());
    out.extend_from_slice(sdp.session.raw());
    let mut found = false;
    for stream in &sdp.streams {
        let (hit, rest): (Vec<Codec<'_>>, Vec<Codec<'_>>) =
            stream.codecs().partition(|codec| has_codecs(stream) && which.has(codec));
        if hit.is_empty() {
            out.extend_from_slice(stream.lines.raw());
            continue;
        }
        found = true;
        let formats: Vec<&[u8]> = match change {
            Change::Delete => rest.iter().map(|c| c.payload).collect(),
            Change::Up => hit.iter().chain(&rest).map(|c| c.payload).collect(),
            Change::Down => rest.iter().chain(&hit).map(|c| c.payload).collect(),
        };
        let deleted: &[Codec<'_>] = if change == Change::Delete { &hit } else { &[] };
        write_stream(stream, &formats, deleted, &mut out);
    }
    found.then_some(out)
}

fn write_stream(stream: &Stream<'_>, formats: &[&[u8]], deleted: &[Codec<'_>], out: &mut Vec<u8>) {
    let mut first = true;
    for line in stream.lines.raw().split_inclusive(|b| *b == b'\n') {
        if std::mem::take(&mut first) {
            let end = &line[stream.line.len()..];
            write_media_line(stream, formats, out);
            out.extend_from_slice(end);
        } else if !deleted.iter().any(|c| is_about(line, c.payload)) {
            out.extend_from_slice(line);
        }
    }
}

/// The `m=` line with these formats. Without any the stream is refused (RFC 3264 §6): port 0, and its old formats, since
/// the line must have some.
fn write_media_line(stream: &Stream<'_>, formats: &[&[u8]], out: &mut Vec<u8>) {
    let head = stream.line.len() - stream.formats.len();
    if formats.is_empty() {
        out.extend_from_slice(b"m=");
        out.extend_from_slice(stream.media);
        out.extend_from_slice(b" 0 ");
        out.extend_from_slice(stream.proto);
        out.push(b' ');
        out.extend_from_slice(stream.formats);
        return;
    }
    out.extend_from_slice(&stream.line[..head]);
    out.extend_from_slice(&formats.join(&b' '));
}

/// Whether a line is an attribute about this payload type: `a=rtpmap:8 `, `a=fmtp:8 `, `a=rtcp-fb:8 `.
fn is_about(line: &[u8], payload: &[u8]) -> bool {
    [&b"a=rtpmap:"[..], b"a=fmtp:", b"a=rtcp-fb:"].iter().any(|name| {
        let Some(rest) = line.strip_prefix(*name).map(<[u8]>::trim_ascii_start) else { return false };
        rest.strip_prefix(payload).is_some_and(|r| r.first().is_none_or(u8::is_ascii_whitespace))
    })
}

/// `is_audio_on_hold()`: 1 for the null address of RFC 2543, 2 for sendonly or inactive (RFC 3264 §8.4).
pub(super) fn is_audio_on_hold(c: &mut Call<'_>) -> Flow {
    let Some(text) = body::sdp(c.ctx) else { return FALSE };
    match hold(&text) {
        Some(kind) => Flow::Value(kind),
        None => FALSE,
    }
}

fn hold(text: &[u8]) -> Option<i64> {
    let sdp = Sdp::parse(text).ok()?;
    sdp.streams.iter().filter(|s| s.media == b"audio").find_map(|s| {
        let null = sdp.connection_of(s).is_some_and(|c| matches!(c.address, b"0.0.0.0" | b"::"));
        let silent = matches!(sdp.direction_of(s), Direction::SendOnly | Direction::Inactive);
        if null { Some(1) } else { silent.then_some(2) }
    })
}

/// `stream_exists(media[, protocol])`
pub(super) fn stream_exists(c: &mut Call<'_>) -> Flow {
    let Some(text) = body::sdp(c.ctx) else { return FALSE };
    let Ok(sdp) = Sdp::parse(&text) else { return FALSE };
    truth(sdp.streams.iter().any(|s| is_meant(c, s)))
}

/// `stream_delete(media[, protocol])`
pub(super) fn stream_delete(c: &mut Call<'_>) -> Flow {
    let Some(text) = body::sdp(c.ctx) else { return FALSE };
    let Ok(sdp) = Sdp::parse(&text) else { return FALSE };
    let mut out = sdp.session.raw().to_vec();
    let mut found = false;
    for s in &sdp.streams {
        if is_meant(c, s) {
            found = true;
        } else {
            out.extend_from_slice(s.lines.raw());
        }
    }
    if found {
        body::set_sdp(c.ctx, &out);
    }
    truth(found)
}

fn is_meant(c: &Call<'_>, s: &Stream<'_>) -> bool {
    c.args.regex(0).is_some_and(|r| r.is_match(s.media))
        && c.args.regex(1).is_none_or(|r| r.is_match(s.proto))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDP: &str = "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\n\
        m=audio 4000 RTP/AVP 8 0 97 101\r\na=rtpmap:97 speex/16000\r\na=fmtp:97 mode=1\r\n\
        a=rtpmap:101 telephone-event/8000\r\na=sendonly\r\nm=image 4002 udptl t38\r\n";

    fn named<'a>(name: &'a str, clock: Option<&'a str>) -> Which<'a> {
        Which::Named { name: name.as_bytes(), clock: clock.map(str::as_bytes) }
    }

    fn text(change: Change, which: &Which<'_>) -> String {
        String::from_utf8(changed(SDP.as_bytes(), change, which).unwrap()).unwrap()
    }

    #[test]
    fn a_codec_goes_with_its_attributes() {
        let new = text(Change::Delete, &named("SPEEX", None));
        assert!(new.contains("m=audio 4000 RTP/AVP 8 0 101\r\n"));
        assert!(!new.contains(":97") && new.contains("rtpmap:101"));
        assert!(changed(SDP.as_bytes(), Change::Delete, &named("speex", Some("8000"))).is_none());
    }

    #[test]
    fn static_payload_types_are_known_by_name() {
        assert!(text(Change::Up, &named("pcmu", None)).contains("RTP/AVP 0 8 97 101\r\n"));
        assert!(text(Change::Down, &named("PCMA", Some("8000"))).contains("RTP/AVP 0 97 101 8\r\n"));
    }

    #[test]
    fn deletions_one_after_another_compose() {
        let once = changed(SDP.as_bytes(), Change::Delete, &named("PCMA", None)).unwrap();
        let twice = changed(&once, Change::Delete, &named("PCMU", None)).unwrap();
        assert!(String::from_utf8(twice).unwrap().contains("RTP/AVP 97 101\r\n"));
    }

    #[test]
    fn a_stream_without_codecs_is_refused_and_other_streams_stay() {
        let regex = Regex::new("nothing").unwrap();
        let new = text(Change::Delete, &Which::Except(&regex));
        assert!(new.contains("m=audio 0 RTP/AVP 8 0 97 101\r\n"));
        assert!(new.contains("m=image 4002 udptl t38\r\n"));
    }

    #[test]
    fn payload_numbers_that_begin_alike_are_not_mixed_up() {
        assert!(is_about(b"a=fmtp:97 x\r\n", b"97") && !is_about(b"a=fmtp:97 x\r\n", b"9"));
    }

    #[test]
    fn both_kinds_of_hold_are_told_apart() {
        assert_eq!(hold(SDP.as_bytes()), Some(2));
        assert_eq!(hold(SDP.replace("c=IN IP4 10.0.0.1", "c=IN IP4 0.0.0.0").as_bytes()), Some(1));
        assert_eq!(hold(SDP.replace("sendonly", "sendrecv").as_bytes()), None);
    }

    proptest::proptest! {
        #[test]
        fn what_is_left_of_a_description_can_still_be_read(
            lines in proptest::collection::vec(
                proptest::sample::select(vec![
                    "v=0", "m=audio 1 RTP/AVP 8 0", "m=audio 0 RTP/AVP", "m=", "m=a 1 RTP/SAVP 9 9 9", "a=rtpmap:8 PCMA/8000",
                    "a=rtpmap:", "a=fmtp:9 x=1;y=2", "a=", "a", "c=IN IP4 0.0.0.0", "", "=", "a=:", "a=x:", "\u{e9}",
                ]),
                0..12,
            ),
            name in proptest::sample::select(vec!["PCMA", "PCMU", "G722", ""]),
        ) {
            let text = format!("v=0\r\n{}\r\n", lines.join("\r\n")).into_bytes();
            for change in [Change::Delete, Change::Up, Change::Down] {
                if let Some(new) = changed(&text, change, &named(name, None)) {
                    proptest::prop_assert!(Sdp::parse(&new).is_ok(), "{}", String::from_utf8_lossy(&new));
                    let again = changed(&new, change, &named(name, None));
                    if change != Change::Delete {
                        proptest::prop_assert_eq!(again, Some(new));
                    }
                }
            }
        }
    }
}
