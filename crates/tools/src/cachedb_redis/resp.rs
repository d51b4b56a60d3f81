//! The protocol of Redis servers, version 2 (RESP2, redis.io/docs/reference/protocol-spec): commands out, replies in.
//!
//! Replies are bounded in size and depth, so that a server that goes mad costs a connection and no more.

use bytes::Bytes;

/// Bytes of one reply.
pub const MAX_REPLY: usize = 64 << 20;
/// Arrays in arrays.
const MAX_DEPTH: usize = 8;

/// What a server says.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// `+OK`
    Status(Bytes),
    /// `-ERR why`
    Error(String),
    /// `:5`
    Int(i64),
    /// `$3`, and the bytes.
    Bulk(Bytes),
    /// No value, no array.
    Null,
    /// `*2`, and the elements.
    Array(Vec<Reply>),
}

/// The server broke its own rules.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(&'static str);

/// Appends a command.
pub fn write(parts: &[&[u8]], out: &mut Vec<u8>) {
    number(b'*', parts.len(), out);
    for part in parts {
        number(b'$', part.len(), out);
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
}

fn number(kind: u8, n: usize, out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(n.to_string().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Reads the reply at the beginning of `data`, and how long it is; `None` when there is more to come.
pub fn read(data: &[u8]) -> Result<Option<(Reply, usize)>, Broken> {
    let mut at = 0;
    match value(data, &mut at, 0) {
        Ok(reply) => Ok(Some((reply, at))),
        Err(Stop::More) if data.len() > MAX_REPLY => Err(Broken("a reply is too large")),
        Err(Stop::More) => Ok(None),
        Err(Stop::Broken(why)) => Err(Broken(why)),
    }
}

enum Stop {
    More,
    Broken(&'static str),
}

fn value(data: &[u8], at: &mut usize, depth: usize) -> Result<Reply, Stop> {
    if depth > MAX_DEPTH {
        return Err(Stop::Broken("arrays are nested too deeply"));
    }
    let line = line(data, at)?;
    let (kind, rest) = line.split_first().ok_or(Stop::Broken("an empty line"))?;
    match kind {
        b'+' => Ok(Reply::Status(Bytes::copy_from_slice(rest))),
        b'-' => Ok(Reply::Error(String::from_utf8_lossy(rest).into_owned())),
        b':' => Ok(Reply::Int(parse(rest)?)),
        b'$' => {
            let Some(length) = length(rest)? else { return Ok(Reply::Null) };
            let end = at.checked_add(length).ok_or(Stop::Broken("a length is too large"))?;
            let bytes = data.get(*at..end).ok_or(Stop::More)?;
            let after = data.get(end..end + 2).ok_or(Stop::More)?;
            if after != b"\r\n" {
                return Err(Stop::Broken("a string does not end where it should"));
            }
            *at = end + 2;
            Ok(Reply::Bulk(Bytes::copy_from_slice(bytes)))
        }
        b'*' => {
            let Some(count) = length(rest)? else { return Ok(Reply::Null) };
            // Room for what has come, not for what was announced.
            let mut elements = Vec::with_capacity(count.min(data.len().saturating_sub(*at) / 4));
            for _ in 0..count {
                elements.push(value(data, at, depth + 1)?);
            }
            Ok(Reply::Array(elements))
        }
        _ => Err(Stop::Broken("a reply of unknown kind")),
    }
}

/// The line at `at` without its end, and moves behind it.
fn line<'a>(data: &'a [u8], at: &mut usize) -> Result<&'a [u8], Stop> {
    let rest = data.get(*at..).ok_or(Stop::More)?;
    let end = rest.windows(2).position(|two| two == b"\r\n").ok_or(Stop::More)?;
    *at += end + 2;
    Ok(&rest[..end])
}

fn parse(digits: &[u8]) -> Result<i64, Stop> {
    let text = std::str::from_utf8(digits).ok();
    text.and_then(|t| t.parse().ok()).ok_or(Stop::Broken("a number is no number"))
}

/// A length; -1 stands for nothing.
fn length(digits: &[u8]) -> Result<Option<usize>, Stop> {
    match parse(digits)? {
        -1 => Ok(None),
        n => match usize::try_from(n) {
            Ok(n) if n <= MAX_REPLY => Ok(Some(n)),
            _ => Err(Stop::Broken("a length is too large")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_as_they_come_in() {
        let data = b"*5\r\n+OK\r\n:-5\r\n$4\r\na\r\nb\r\n$-1\r\n*1\r\n$0\r\n\r\n-ERR no\r\n";
        let first = Reply::Array(vec![
            Reply::Status("OK".into()),
            Reply::Int(-5),
            Reply::Bulk("a\r\nb".into()),
            Reply::Null,
            Reply::Array(vec![Reply::Bulk("".into())]),
        ]);
        let end = data.len() - 9;
        for cut in 0..end {
            assert_eq!(read(&data[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(read(data), Ok(Some((first, end))));
        assert_eq!(read(&data[end..]), Ok(Some((Reply::Error("ERR no".into()), 9))));
    }

    #[test]
    fn nonsense_is_refused() {
        let deep = "*1\r\n".repeat(20);
        for data in ["x\r\n", "\r\n", ":x\r\n", "$-2\r\n", "$99999999999\r\n", "$1\r\nabc\r\n", &deep] {
            assert!(read(data.as_bytes()).is_err(), "{data:?}");
        }
    }

    #[test]
    fn a_command_is_an_array_of_strings() {
        let mut out = Vec::new();
        write(&[b"SET", b"k", b"a\r\nb"], &mut out);
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\na\r\nb\r\n");
    }
}
