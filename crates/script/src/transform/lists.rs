//! The classes `param`, `csv` and `sdp`.

use smallvec::SmallVec;

use super::{Entry, int, maybe, owned, pick, text};
use crate::value::{Value, parse_int};

pub(super) const TABLE: &[Entry] = &[
    ("param.value", "sS", |s, a| {
        let Some(name) = text(a, 0) else { return Value::Null };
        maybe(value(s, &name, separator(a, 1)))
    }),
    ("param.exist", "sS", |s, a| {
        let Some(name) = text(a, 0) else { return Value::Null };
        Value::Int(i64::from(params(s, separator(a, 1)).any(|p| p.0.eq_ignore_ascii_case(&name))))
    }),
    ("param.valueat", "iS", |s, a| at(s, a).map_or(Value::Null, |p| maybe(p.1))),
    ("param.name", "iS", |s, a| at(s, a).map_or(Value::Null, |p| owned(p.0))),
    ("param.count", "S", |s, a| Value::Int(params(s, separator(a, 0)).count() as i64)),
    ("csv.count", "", |s, _| Value::Int(fields(s).len() as i64)),
    ("csv.value", "i", |s, a| match int(a, 0) {
        Some(i) => maybe(pick(&fields(s), i)),
        None => Value::Null,
    }),
    ("sdp.line", "sI", sdp_line),
    ("sdp.stream", "s", |s, a| match text(a, 0) {
        Some(which) => maybe(chosen(&streams(s), &which).first().map(|i| streams(s)[*i])),
        None => Value::Null,
    }),
    ("sdp.stream-delete", "s", sdp_delete),
];

/// A parameter's name and, behind `=`, its value.
type Param<'a> = (&'a [u8], Option<&'a [u8]>);

/// The parameters of `a=1;b;c="x;y"`, blanks around them cut.
pub(super) fn params(s: &[u8], sep: u8) -> impl Iterator<Item = Param<'_>> {
    pieces(s, sep).map(<[u8]>::trim_ascii).filter(|p| !p.is_empty()).map(|p| match memchr::memchr(b'=', p) {
        Some(i) => (p[..i].trim_ascii_end(), Some(p[i + 1..].trim_ascii_start())),
        None => (p, None),
    })
}

/// The value of a parameter; empty when it has none.
pub(super) fn value<'a>(s: &'a [u8], name: &[u8], sep: u8) -> Option<&'a [u8]> {
    params(s, sep).find(|p| p.0.eq_ignore_ascii_case(name)).map(|p| p.1.unwrap_or_default())
}

/// The pieces between separators that stand outside of quotes.
pub(super) fn pieces(s: &[u8], sep: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(s);
    std::iter::from_fn(move || {
        let s = rest?;
        let mut quoted = false;
        let mut angle = false;
        let mut i = 0;
        while i < s.len() {
            match s[i] {
                b'\\' if quoted => i += 1,
                b'"' => quoted = !quoted,
                b'<' if !quoted => angle = true,
                b'>' if !quoted => angle = false,
                b if b == sep && !quoted && !(angle && sep == b',') => {
                    rest = Some(&s[i + 1..]);
                    return Some(&s[..i]);
                }
                _ => {}
            }
            i += 1;
        }
        rest = None;
        Some(s)
    })
}

fn separator(args: &[Value], i: usize) -> u8 {
    text(args, i).and_then(|t| t.first().copied()).unwrap_or(b';')
}

fn at<'a>(s: &'a [u8], args: &[Value]) -> Option<Param<'a>> {
    let list: SmallVec<[Param<'a>; 16]> = params(s, separator(args, 1)).collect();
    pick(&list, int(args, 0)?)
}

fn fields(s: &[u8]) -> SmallVec<[&[u8]; 16]> {
    if s.is_empty() {
        return SmallVec::new();
    }
    pieces(s, b',').map(<[u8]>::trim_ascii).collect()
}

fn sdp_line(s: &[u8], args: &[Value]) -> Value {
    let Some(kind) = text(args, 0) else { return Value::Null };
    let Some(&kind) = kind.first() else { return Value::Null };
    let n = int(args, 1).unwrap_or(0);
    let lines: SmallVec<[&[u8]; 16]> = s
        .split(|b| *b == b'\n')
        .map(<[u8]>::trim_ascii_end)
        .filter(|l| l.first() == Some(&kind) && l.get(1) == Some(&b'='))
        .collect();
    maybe(pick(&lines, n))
}

/// The streams of a body, each from its `m=` line on, with their line ends.
fn streams(s: &[u8]) -> SmallVec<[&[u8]; 4]> {
    let mut starts: SmallVec<[usize; 4]> = SmallVec::new();
    if s.starts_with(b"m=") {
        starts.push(0);
    }
    starts.extend(memchr::memmem::find_iter(s, b"\nm=").map(|i| i + 1));
    let ends = starts.iter().skip(1).copied().chain([s.len()]);
    starts.iter().zip(ends).map(|(a, b)| &s[*a..b]).collect()
}

/// The indexes of the streams that an index or media type means.
fn chosen(streams: &[&[u8]], which: &[u8]) -> SmallVec<[usize; 4]> {
    if let Some(i) = parse_int(which) {
        let all: SmallVec<[usize; 4]> = (0..streams.len()).collect();
        return pick(&all, i).into_iter().collect();
    }
    let is = |s: &&[u8]| {
        let media = &s[2..];
        let end = media.iter().position(|b| b.is_ascii_whitespace()).unwrap_or(media.len());
        media[..end].eq_ignore_ascii_case(which)
    };
    streams.iter().enumerate().filter(|(_, s)| is(s)).map(|(i, _)| i).collect()
}

fn sdp_delete(s: &[u8], args: &[Value]) -> Value {
    let Some(which) = text(args, 0) else { return Value::Null };
    let streams = streams(s);
    let gone = chosen(&streams, &which);
    if gone.is_empty() {
        return Value::Null;
    }
    let head = s.len() - streams.iter().map(|s| s.len()).sum::<usize>();
    let mut out = s[..head].to_vec();
    for (i, stream) in streams.iter().enumerate() {
        if !gone.contains(&i) {
            out.extend_from_slice(stream);
        }
    }
    Value::Str(out.into())
}
