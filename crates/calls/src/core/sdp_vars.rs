//! The session description as variables: `$sdp`, `$sdp.line(path)`, `$sdp.session(path)`, `$sdp.stream(path)`,
//! `$sdp.stream.idx(path)`.
//!
//! A path is `line/token`, for streams `stream/line/token`; each step is a prefix, an index in brackets, or both
//! (`video[1]/a=fmtp[0]/bitrate=`), and `\/` is a slash. A token that was found by a prefix ending in `=`, `:` or `/` stands
//! for what follows the prefix. Reading sees the changes made so far.

use std::ops::Range;

use bytes::Bytes;
use switchroom_kernel::context::Ctx;
use switchroom_script::Value;
use switchroom_script::vm::{Context, Index, VarAccess};
use switchroom_wire::sdp::Sdp;

use super::body;
use super::uri_vars::share;

/// `$sdp`
pub fn sdp(ctx: &mut Ctx, var: &VarAccess) -> Value {
    match ctx.shard.kernel.registry.inner_name(var) {
        Some(_) => line(ctx, var),
        None => text(ctx, var).map_or(Value::Null, Value::Str),
    }
}
/// `$sdp`
pub fn set_sdp(ctx: &mut Ctx, var: &VarAccess, value: Value) -> Result<(), String> {
    if ctx.shard.kernel.registry.inner_name(var).is_some() {
        return set_line(ctx, var, value);
    }
    match value.to_bytes().filter(|v| !v.is_empty()) {
        Some(new) => body::set_sdp(ctx, &new),
        None => body::remove(ctx),
    }
    Ok(())
}
/// `$sdp.line(path)`
pub fn line(ctx: &mut Ctx, var: &VarAccess) -> Value {
    get(ctx, var, Scope::All)
}
/// `$sdp.line(path)`
pub fn set_line(ctx: &mut Ctx, var: &VarAccess, value: Value) -> Result<(), String> {
    set(ctx, var, Scope::All, value)
}
/// `$sdp.session(path)`
pub fn session(ctx: &mut Ctx, var: &VarAccess) -> Value {
    get(ctx, var, Scope::Session)
}
/// `$sdp.session(path)`
pub fn set_session(ctx: &mut Ctx, var: &VarAccess, value: Value) -> Result<(), String> {
    set(ctx, var, Scope::Session, value)
}
/// `$sdp.stream(path)`
pub fn stream(ctx: &mut Ctx, var: &VarAccess) -> Value {
    get(ctx, var, Scope::Stream)
}
/// `$sdp.stream(path)`
pub fn set_stream(ctx: &mut Ctx, var: &VarAccess, value: Value) -> Result<(), String> {
    set(ctx, var, Scope::Stream, value)
}
/// `$sdp.stream.idx(path)`: the number of the stream, when the whole path is there.
pub fn stream_index(ctx: &mut Ctx, var: &VarAccess) -> Value {
    let Some((text, steps)) = read(ctx, var) else { return Value::Null };
    let found = locate(&text, Scope::Stream, &steps).filter(|f| f.line.is_some() || steps.len() < 2);
    let found = found.filter(|f| f.token.is_some() || steps.len() < 3);
    found.and_then(|f| f.stream).map_or(Value::Null, |i| Value::Int(i as i64))
}

/// Where a path begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    All,
    Session,
    Stream,
}

/// One step of a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Step {
    prefix: Vec<u8>,
    index: usize,
}

/// What a path leads to, as places in the description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Found {
    /// Number of the stream.
    stream: Option<usize>,
    /// All of its lines.
    stream_range: Range<usize>,
    /// Without its line end.
    line: Option<Range<usize>>,
    /// The whole token, and what is read and written of it.
    token: Option<(Range<usize>, Range<usize>)>,
}

/// The description of the message the variable means.
fn text(ctx: &Ctx, var: &VarAccess) -> Option<Bytes> {
    // While the other message of the transaction is looked at, the changes on record are not about it.
    let other = var.context != Context::Current && ctx.other.is_none();
    if !other {
        return body::sdp(ctx);
    }
    let msg = &ctx.msg;
    msg.parts().find(|p| p.is("application/sdp")).map(|p| msg.slice(p.body))
}

fn read(ctx: &Ctx, var: &VarAccess) -> Option<(Bytes, Vec<Step>)> {
    let path = ctx.shard.kernel.registry.inner_name(var)?;
    Some((text(ctx, var)?, parse_path(&path)))
}

fn get(ctx: &Ctx, var: &VarAccess, scope: Scope) -> Value {
    let Some((text, mut steps)) = read(ctx, var) else { return Value::Null };
    override_index(&mut steps, scope, var.index);
    let Some(found) = locate(&text, scope, &steps) else { return Value::Null };
    match range_of(&found, scope, &steps) {
        Some(range) => Value::Str(share(&text, &text[range])),
        None => Value::Null,
    }
}

/// `$(sdp.line(a=)[2])` is the same as `$sdp.line(a=[2])`.
fn override_index(steps: &mut [Step], scope: Scope, index: Index) {
    let at = if scope == Scope::Stream && steps.len() > 1 { 1 } else { 0 };
    if let (Index::At(i), Some(step)) = (index, steps.get_mut(at))
        && i >= 0
    {
        step.index = i as usize;
    }
}

/// What the path is about: stream, line or token.
fn range_of(found: &Found, scope: Scope, steps: &[Step]) -> Option<Range<usize>> {
    let line_step = usize::from(scope == Scope::Stream);
    match steps.len().checked_sub(line_step) {
        None | Some(0) => Some(found.stream_range.clone()),
        Some(1) => found.line.clone(),
        Some(_) => found.token.clone().map(|t| t.1),
    }
}

fn set(ctx: &mut Ctx, var: &VarAccess, scope: Scope, value: Value) -> Result<(), String> {
    let (text, mut steps) = read(ctx, var).ok_or("the message has no session description")?;
    override_index(&mut steps, scope, var.index);
    let new = changed(&text, scope, &steps, value.to_bytes().as_deref())?;
    body::set_sdp(ctx, &new);
    Ok(())
}

/// The description with what the path leads to replaced, or removed without `value`.
fn changed(text: &[u8], scope: Scope, steps: &[Step], value: Option<&[u8]>) -> Result<Vec<u8>, String> {
    if value.is_some_and(|v| v.contains(&0)) {
        return Err("a session description cannot hold the character 0".into());
    }
    let found = locate(text, scope, steps).ok_or("the session description has nothing like that")?;
    let line_step = usize::from(scope == Scope::Stream);
    let has_token = steps.len() > line_step + 1;
    let has_line = steps.len() > line_step;
    let (range, new) = match (has_line, has_token, value) {
        (false, _, None) => (found.stream_range, Vec::new()),
        (false, _, Some(v)) => (found.stream_range, ended(v)),
        (true, false, value) => {
            let line = found.line.ok_or("the session description has no such line")?;
            match value {
                Some(v) => (line, bare(v).to_vec()),
                None => (with_line_end(text, line), Vec::new()),
            }
        }
        (true, true, value) => {
            let line = found.line.ok_or("the session description has no such line")?;
            match (found.token, value) {
                (Some((_, part)), Some(v)) => (part, bare(v).to_vec()),
                (Some((whole, _)), None) => (with_delimiter(text, &line, whole), Vec::new()),
                (None, Some(v)) => (line.end..line.end, appended(text, &line, steps, v)),
                (None, None) => return Ok(text.to_vec()),
            }
        }
    };
    let mut out = Vec::with_capacity(text.len() + new.len());
    out.extend_from_slice(&text[..range.start]);
    out.extend_from_slice(&new);
    out.extend_from_slice(&text[range.end..]);
    Ok(out)
}

/// A token that was not there, to stand at the end of its line.
fn appended(text: &[u8], line: &Range<usize>, steps: &[Step], value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if !matches!(text[line.clone()].last(), Some(b':' | b'=' | b' ')) {
        out.push(b' ');
    }
    if let Some(step) = steps.last().filter(|s| is_key(&s.prefix)) {
        out.extend_from_slice(&step.prefix);
    }
    out.extend_from_slice(bare(value));
    out
}

fn ended(text: &[u8]) -> Vec<u8> {
    [bare(text), b"\r\n"].concat()
}

fn bare(text: &[u8]) -> &[u8] {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.strip_suffix(b"\r").unwrap_or(text)
}

fn with_line_end(text: &[u8], line: Range<usize>) -> Range<usize> {
    let end = memchr_newline(&text[line.end..]).map_or(text.len(), |n| line.end + n + 1);
    line.start..end
}

fn memchr_newline(text: &[u8]) -> Option<usize> {
    text.iter().position(|b| *b == b'\n')
}

/// A token with the delimiters before it, so that none is left over.
fn with_delimiter(text: &[u8], line: &Range<usize>, token: Range<usize>) -> Range<usize> {
    let mut start = token.start;
    while start > line.start + 2 && is_delimiter(text[start - 1]) {
        start -= 1;
    }
    start..token.end
}

fn is_delimiter(b: u8) -> bool {
    matches!(b, b' ' | b';' | b'\t')
}

/// Whether a token prefix names a key whose value is meant.
fn is_key(prefix: &[u8]) -> bool {
    matches!(prefix.last(), Some(b'=' | b':' | b'/'))
}

/// `a=fmtp[1]/bitrate=` and the like; a step without brackets has index 0.
fn parse_path(path: &[u8]) -> Vec<Step> {
    let mut texts: Vec<Vec<u8>> = vec![Vec::new()];
    let mut i = 0;
    while i < path.len() && texts.len() <= 3 {
        let last = texts.len() - 1;
        match (path[i], path.get(i + 1)) {
            (b'\\', Some(b'/')) => {
                texts[last].push(b'/');
                i += 1;
            }
            (b'/', _) => texts.push(Vec::new()),
            (b, _) => texts[last].push(b),
        }
        i += 1;
    }
    texts.into_iter().map(step).collect()
}

fn step(mut text: Vec<u8>) -> Step {
    let open = text.iter().rposition(|b| *b == b'[');
    let index = match (open, text.last()) {
        (Some(open), Some(b']')) => {
            std::str::from_utf8(&text[open + 1..text.len() - 1]).ok().and_then(|t| t.parse().ok())
        }
        _ => None,
    };
    if let (Some(_), Some(open)) = (index, open) {
        text.truncate(open);
    }
    Step { prefix: text, index: index.unwrap_or(0) }
}

/// Follow a path. Nothing when its stream or its line is not there; a missing token is left empty.
fn locate(text: &[u8], scope: Scope, steps: &[Step]) -> Option<Found> {
    let mut steps = steps.iter();
    let mut found = Found::default();
    match scope {
        Scope::All => found.stream_range = 0..text.len(),
        Scope::Session => found.stream_range = 0..Sdp::parse(text).ok()?.session.raw().len(),
        Scope::Stream => {
            let wanted = steps.next()?;
            let sdp = Sdp::parse(text).ok()?;
            let fits = |s: &switchroom_wire::sdp::Stream<'_>| starts(s.media, &wanted.prefix);
            let (i, s) = sdp.streams.iter().enumerate().filter(|(_, s)| fits(s)).nth(wanted.index)?;
            let start = (s.lines.raw().as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
            found.stream = Some(i);
            found.stream_range = start..start + s.lines.raw().len();
        }
    }
    let Some(wanted) = steps.next() else { return Some(found) };
    let line = lines(text, found.stream_range.clone())
        .filter(|r| starts(&text[r.clone()], &wanted.prefix))
        .nth(wanted.index)?;
    found.line = Some(line.clone());
    if let Some(wanted) = steps.next() {
        let token = tokens(text, line).filter(|r| starts(&text[r.clone()], &wanted.prefix)).nth(wanted.index);
        found.token = token.map(|t| {
            let part = if is_key(&wanted.prefix) { t.start + wanted.prefix.len()..t.end } else { t.clone() };
            (t, part)
        });
    }
    Some(found)
}

fn starts(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|t| t.eq_ignore_ascii_case(prefix))
}

/// Places of the lines, without their ends.
fn lines(text: &[u8], within: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let mut at = within.start;
    text[within].split_inclusive(|b| *b == b'\n').filter_map(move |line| {
        let start = at;
        at += line.len();
        let len = bare(line).len();
        (len > 0).then(|| start..start + len)
    })
}

/// Places of the tokens of a line: of an attribute those behind its name, else those behind `letter=`.
fn tokens(text: &[u8], line: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let own = &text[line.clone()];
    let colon = own.iter().position(|b| *b == b':').filter(|_| own.starts_with(b"a="));
    let skip = colon.map_or(2, |c| c + 1).min(own.len());
    let mut at = line.start + skip;
    own[skip..].split(|b| is_delimiter(*b)).filter_map(move |token| {
        let start = at;
        at += token.len() + 1;
        (!token.is_empty()).then(|| start..start + token.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDP: &[u8] = b"v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nt=0 0\r\na=ptime:20\r\n\
        m=audio 4000 RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=ptime:30\r\n\
        m=video 4002 RTP/AVP 115\r\na=fmtp:115 bitrate=64000; max=1\r\na=nortpproxy:\r\n";

    fn value(scope: Scope, path: &str) -> Option<String> {
        let steps = parse_path(path.as_bytes());
        let range = range_of(&locate(SDP, scope, &steps)?, scope, &steps)?;
        Some(String::from_utf8(SDP[range].to_vec()).unwrap())
    }

    #[track_caller]
    fn line(path: &str, expected: Option<&str>) {
        assert_eq!(value(Scope::All, path).as_deref(), expected);
    }

    #[track_caller]
    fn written(scope: Scope, path: &str, new: Option<&str>) -> String {
        let out = changed(SDP, scope, &parse_path(path.as_bytes()), new.map(str::as_bytes)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_are_found_by_prefix_and_index() {
        line("a=", Some("a=ptime:20"));
        line("a=ptime[1]", Some("a=ptime:30"));
        line("a=[100]", None);
        line("[2]", Some("s=-"));
    }

    #[test]
    fn tokens_are_found_by_prefix_and_index() {
        line("m=audio/[0]", Some("audio"));
        line("m=audio/[1]", Some("4000"));
        line("m=audio/RTP", Some("RTP/AVP"));
        line("m=audio/RTP\\/AVP[0]", Some("RTP/AVP"));
        line("m=audio/RTP\\/AVP[1]", None);
        line("m=audio/[9]", None);
        line("a=fmtp:115/bitrate=", Some("64000"));
        line("a=rtpmap/telephone-event\\/", Some("8000"));
    }

    #[test]
    fn streams_and_the_session_are_their_own_scopes() {
        assert_eq!(value(Scope::Stream, "/a=ptime").as_deref(), Some("a=ptime:30"));
        assert_eq!(value(Scope::Stream, "[1]/a=ptime"), None);
        assert_eq!(value(Scope::Stream, "v/a=fmtp:115").as_deref(), Some("a=fmtp:115 bitrate=64000; max=1"));
        assert_eq!(value(Scope::Session, "a=ptime").as_deref(), Some("a=ptime:20"));
        assert_eq!(value(Scope::Session, "a=ptime[1]"), None);
        assert!(value(Scope::Stream, "video").unwrap().starts_with("m=video"));
    }

    #[test]
    fn writing_replaces_only_what_the_path_names() {
        assert!(
            written(Scope::Stream, "video/a=fmtp:115/bitrate=", Some("48000"))
                .contains("bitrate=48000; max=1\r\n")
        );
        assert!(
            written(Scope::Stream, "video/a=nortpproxy:/[0]", Some("yes")).ends_with("a=nortpproxy:yes\r\n")
        );
        assert!(written(Scope::All, "a=ptime", Some("a=ptime:40\r\n")).contains("a=ptime:40\r\nm=audio"));
        assert!(written(Scope::All, "m=audio/[1]", Some("5000")).contains("m=audio 5000 RTP/AVP 8 101\r\n"));
    }

    #[test]
    fn paths_can_be_written_in_a_script() {
        let registry = switchroom_kernel::registry::Registry::new(vec![&crate::core::MODULE]);
        for text in [
            "$sdp",
            "$(<reply>sdp)",
            "$sdp.line(a=ptime[1])",
            "$sdp.line(m=audio[1]/RTP\\/AVP[0])",
            "$sdp.line([$var(i)])",
            "$(sdp.line(a=)[2])",
            "$sdp.stream(/a=ptime)",
            "$sdp.stream(video[1]/a=fmtp:115/bitrate=)",
            "$sdp.stream.idx(video/a=fmtp/packetization-mode=)",
            "$sdp.session(a=rtpmap/telephone-event\\/)",
        ] {
            let compiled = switchroom_script::Variable::compile(text, &registry);
            assert!(compiled.is_ok(), "{text}: {:?}", compiled.err());
        }
    }

    #[test]
    fn writing_nothing_removes() {
        assert!(!written(Scope::Stream, "video", None).contains("m=video"));
        assert!(!written(Scope::Session, "a=ptime", None).contains("ptime:20"));
        assert!(written(Scope::Stream, "video/a=fmtp/max=", None).contains("a=fmtp:115 bitrate=64000\r\n"));
        let missing = changed(SDP, Scope::All, &parse_path(b"a=none"), Some(b"x"));
        assert!(missing.is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_description_and_no_path_can_do_harm(
            lines in proptest::collection::vec(
                proptest::sample::select(vec![
                    "v=0", "m=audio 1 RTP/AVP 8 0", "m=audio 0 RTP/AVP", "m=", "m=a 1 RTP/SAVP 9 9 9", "a=rtpmap:8 PCMA/8000",
                    "a=rtpmap:", "a=fmtp:9 x=1;y=2", "a=", "a", "c=IN IP4 0.0.0.0", "", "=", "a=:", "a=x:", "\u{e9}",
                ]),
                0..12,
            ),
            end in proptest::sample::select(vec!["\r\n", "\n", "\r"]),
            path in "[a-z=:/\\\\\\[\\]0-9]{0,12}",
            value in proptest::option::of("[a-z\r\n]{0,4}"),
        ) {
            let text = lines.join(end).into_bytes();
            let steps = parse_path(path.as_bytes());
            for scope in [Scope::All, Scope::Session, Scope::Stream] {
                if let Some(range) = locate(&text, scope, &steps).and_then(|f| range_of(&f, scope, &steps)) {
                    proptest::prop_assert!(range.start <= range.end && range.end <= text.len());
                }
                let _ = changed(&text, scope, &steps, value.as_deref().map(str::as_bytes));
            }
        }
    }
}
