//! Another address in the SDP: `c=` and `o=` lines, and notes of what was there (RFC 8866 §5.2, §5.7).

use std::net::IpAddr;

use bytes::Bytes;
use switchroom_kernel::context::{Call, FALSE, Flow, TRUE};

use super::{Nat, bits};
use switchroom_calls::core::body;
use switchroom_wire::sip::scan::ip_literal;

const DIR_ACTIVE: u32 = 1;
const MEDIA_IP: u32 = 2;
const NO_RTPPROXY: u32 = 4;
const ORIGIN_IP: u32 = 8;
const NULL_IPS: u32 = 16;

const NAMES: &[(&str, u32)] = &[
    ("add-dir-active", DIR_ACTIVE),
    ("rewrite-media-ip", MEDIA_IP),
    ("add-no-rtpproxy", NO_RTPPROXY),
    ("rewrite-origin-ip", ORIGIN_IP),
    ("rewrite-null-ips", NULL_IPS),
];

/// `fix_nated_sdp(flags[, ip[, fields]])`
pub(super) fn fix_nated_sdp(c: &mut Call<'_>) -> Flow {
    let text = c.text(0);
    let Some(flags) = bits(&text, NAMES) else {
        tracing::error!("fix_nated_sdp(): \"{text}\" is no list of flags");
        return FALSE;
    };
    let ip = match c.str(1).filter(|ip| !ip.is_empty()) {
        Some(text) => match ip_literal(text) {
            Some(ip) => ip,
            None => {
                tracing::error!("fix_nated_sdp(): \"{}\" is no address", String::from_utf8_lossy(text));
                return FALSE;
            }
        },
        None => c.ctx.received.peer.ip(),
    };
    let fields = c.str(2).cloned().unwrap_or_default();
    let Some(old) = body::sdp(c.ctx) else { return FALSE };
    let shard = c.ctx.shard.clone();
    let nat = shard.kernel.state::<Nat>();
    let change = Change { flags, ip: ip.to_canonical(), fields, nat };
    let new = change.apply(&old);
    body::set_sdp(c.ctx, &new);
    TRUE
}

struct Change<'a> {
    flags: u32,
    ip: IpAddr,
    fields: Bytes,
    nat: &'a Nat,
}

impl Change<'_> {
    fn on(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    fn apply(&self, old: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(old.len() + 128);
        let mut notes = Vec::new();
        for line in old.split_inclusive(|b| *b == b'\n') {
            let bare = line.trim_ascii_end();
            let (wanted, note, skip) = match bare {
                [b'c', b'=', ..] => (self.on(MEDIA_IP), &b"a=oldcip:"[..], self.nat.skip_old_media),
                [b'o', b'=', ..] => (self.on(ORIGIN_IP), &b"a=oldoip:"[..], self.nat.skip_old_origin),
                _ => (false, &b""[..], true),
            };
            match self.line(bare).filter(|_| wanted) {
                Some((new, was)) => {
                    out.extend_from_slice(&new);
                    out.extend_from_slice(&line[bare.len()..]);
                    if !skip {
                        let note = [note, was].concat();
                        if !notes.contains(&note) {
                            notes.push(note);
                        }
                    }
                }
                None => out.extend_from_slice(line),
            }
        }
        while out.last().is_some_and(|b| matches!(b, b'\r' | b'\n')) {
            out.pop();
        }
        let marked = |out: &[u8], line: &[u8]| out.split(|b| *b == b'\n').any(|l| l.trim_ascii() == line);
        if self.on(DIR_ACTIVE) {
            notes.push(b"a=direction:active".to_vec());
        }
        if self.on(NO_RTPPROXY) && !self.nat.marker.is_empty() && !marked(&out, &self.nat.marker) {
            notes.push(self.nat.marker.to_vec());
        }
        for note in notes {
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(&note);
        }
        let fields = self.fields.trim_ascii_end();
        if !fields.is_empty() && !fields.starts_with(b"\r\n") {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(fields);
        out.extend_from_slice(b"\r\n");
        out
    }

    /// A line whose last two words are family and address, with ours in their place; and the address that was there.
    fn line<'l>(&self, line: &'l [u8]) -> Option<(Vec<u8>, &'l [u8])> {
        let at = line.iter().rposition(|b| *b == b' ')?;
        let was = &line[at + 1..];
        let ip = ip_literal(was);
        // A name or a multicast group with its TTL stays what it is.
        let null = ip.map(|ip| ip.is_unspecified())?;
        if null && !self.on(NULL_IPS) {
            return None;
        }
        let family_end = line[..at].trim_ascii_end().len();
        let family = family_end.checked_sub(3)?;
        if !matches!(&line[family..family_end], b"IP4" | b"IP6") {
            return None;
        }
        let mut new = line[..family].to_vec();
        new.extend_from_slice(if self.ip.is_ipv4() { b"IP4 " } else { b"IP6 " });
        new.extend_from_slice(self.ip.to_string().as_bytes());
        Some((new, was))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(flags: &str, fields: &str) -> String {
        let nat = Nat {
            received_avp: None,
            marker: Bytes::from_static(b"a=nortpproxy:yes"),
            skip_old_origin: false,
            skip_old_media: false,
        };
        let change = Change {
            flags: bits(flags, NAMES).unwrap(),
            ip: "192.0.2.1".parse().unwrap(),
            fields: Bytes::from(fields.to_owned()),
            nat: &nat,
        };
        const OLD: &[u8] = b"v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\n\
            m=audio 4000 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\n";
        String::from_utf8(change.apply(OLD)).unwrap()
    }

    #[test]
    fn media_and_origin_addresses_are_replaced_and_noted() {
        assert_eq!(
            change("rewrite-media-ip,rewrite-origin-ip", ""),
            "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
             m=audio 4000 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\na=oldoip:10.0.0.1\r\na=oldcip:10.0.0.1\r\n"
        );
    }

    #[test]
    fn the_null_address_changes_only_when_asked() {
        let new = change("18", "");
        assert!(
            new.contains("RTP/AVP 0\r\nc=IN IP4 192.0.2.1\r\n") && new.contains("o=- 1 1 IN IP4 10.0.0.1"),
            "{new}"
        );
    }

    #[test]
    fn lines_are_added_at_the_end() {
        let new = change("5", "\r\na=x-1\r\na=x-2");
        assert!(
            new.ends_with("c=IN IP4 0.0.0.0\r\na=direction:active\r\na=nortpproxy:yes\r\na=x-1\r\na=x-2\r\n"),
            "{new}"
        );
    }
}
