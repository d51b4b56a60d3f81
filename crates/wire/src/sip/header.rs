//! Header names: long and compact forms, classified without hashing strings at run time (RFC 3261 §7.3, §20).

use super::scan;
use std::borrow::Cow;
use std::fmt;

macro_rules! headers {
    ($($(#[$doc:meta])* $id:ident = $name:literal $(/ $compact:literal)?;)*) => {
        /// A header we know by name; all others are [`HeaderId::Other`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum HeaderId {
            $(#[doc = $name] $id,)*
            /// A header not in the list; its name stays in the message.
            Other,
        }

        const NAMES: &[&str] = &[$($name),*];
        const IDS: &[HeaderId] = &[$(HeaderId::$id),*];

        /// Compact names by letter, `a` to `z`.
        const COMPACT: [HeaderId; 26] = {
            let mut table = [HeaderId::Other; 26];
            $($(table[($compact - b'a') as usize] = HeaderId::$id;)?)*
            table
        };
    };
}

headers! {
    Via = "Via" / b'v';
    From = "From" / b'f';
    To = "To" / b't';
    CallId = "Call-ID" / b'i';
    CSeq = "CSeq";
    MaxForwards = "Max-Forwards";
    Contact = "Contact" / b'm';
    Route = "Route";
    RecordRoute = "Record-Route";
    Path = "Path";
    ServiceRoute = "Service-Route";
    ContentLength = "Content-Length" / b'l';
    ContentType = "Content-Type" / b'c';
    ContentEncoding = "Content-Encoding" / b'e';
    ContentDisposition = "Content-Disposition";
    ContentLanguage = "Content-Language";
    Expires = "Expires";
    MinExpires = "Min-Expires";
    Supported = "Supported" / b'k';
    Require = "Require";
    ProxyRequire = "Proxy-Require";
    Unsupported = "Unsupported";
    Allow = "Allow";
    AllowEvents = "Allow-Events" / b'u';
    Accept = "Accept";
    AcceptEncoding = "Accept-Encoding";
    AcceptLanguage = "Accept-Language";
    AcceptContact = "Accept-Contact" / b'a';
    RejectContact = "Reject-Contact" / b'j';
    RequestDisposition = "Request-Disposition" / b'd';
    Authorization = "Authorization";
    ProxyAuthorization = "Proxy-Authorization";
    WwwAuthenticate = "WWW-Authenticate";
    ProxyAuthenticate = "Proxy-Authenticate";
    AuthenticationInfo = "Authentication-Info";
    Event = "Event" / b'o';
    SubscriptionState = "Subscription-State";
    ReferTo = "Refer-To" / b'r';
    ReferredBy = "Referred-By" / b'b';
    Replaces = "Replaces";
    Join = "Join";
    TargetDialog = "Target-Dialog";
    RAck = "RAck";
    RSeq = "RSeq";
    SessionExpires = "Session-Expires" / b'x';
    MinSe = "Min-SE";
    UserAgent = "User-Agent";
    Server = "Server";
    Subject = "Subject" / b's';
    Timestamp = "Timestamp";
    Date = "Date";
    Privacy = "Privacy";
    PAssertedIdentity = "P-Asserted-Identity";
    PPreferredIdentity = "P-Preferred-Identity";
    PAccessNetworkInfo = "P-Access-Network-Info";
    PChargingVector = "P-Charging-Vector";
    RemotePartyId = "Remote-Party-ID";
    Diversion = "Diversion";
    HistoryInfo = "History-Info";
    Reason = "Reason";
    Warning = "Warning";
    RetryAfter = "Retry-After";
    ErrorInfo = "Error-Info";
    SipIfMatch = "SIP-If-Match";
    SipETag = "SIP-ETag";
    Identity = "Identity" / b'y';
    IdentityInfo = "Identity-Info" / b'n';
    CallInfo = "Call-Info";
    AlertInfo = "Alert-Info";
    Organization = "Organization";
    Priority = "Priority";
    InReplyTo = "In-Reply-To";
    ReplyTo = "Reply-To";
    MimeVersion = "MIME-Version";
    FeatureCaps = "Feature-Caps";
    Geolocation = "Geolocation";
}

const SLOTS: usize = 1024;
const EMPTY: u8 = u8::MAX;

/// The multiplier that gives each name, as it is usually written, a slot of its own; found at compile time.
const MULTIPLIER: u64 = {
    let mut multiplier: u64 = 0x9e37_79b9_7f4a_7c15;
    while table_of(multiplier).is_none() {
        multiplier = multiplier.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(2);
    }
    multiplier
};

/// Which name may stand in which slot.
static USUAL: [u8; SLOTS] = match table_of(MULTIPLIER) {
    Some(table) => table,
    None => [EMPTY; SLOTS],
};

const fn table_of(multiplier: u64) -> Option<[u8; SLOTS]> {
    let mut table = [EMPTY; SLOTS];
    let mut i = 0;
    while i < NAMES.len() {
        let at = slot(words(NAMES[i].as_bytes()), NAMES[i].len(), multiplier);
        if table[at] != EMPTY {
            return None;
        }
        table[at] = i as u8;
        i += 1;
    }
    Some(table)
}

/// Which names have which length, as bits.
static BY_LENGTH: [u128; 32] = {
    assert!(NAMES.len() <= 128);
    let mut table = [0; 32];
    let mut i = 0;
    while i < NAMES.len() {
        table[NAMES[i].len()] |= 1 << i;
        i += 1;
    }
    table
};

/// A name in the form it is compared in.
struct Known {
    words: (u64, u64),
    len: u8,
    id: HeaderId,
}

static KNOWN: [Known; NAMES.len()] = {
    let mut table = [const { Known { words: (0, 0), len: 0, id: HeaderId::Other } }; NAMES.len()];
    let mut i = 0;
    while i < NAMES.len() {
        assert!(NAMES[i].len() <= u8::MAX as usize);
        table[i] = Known { words: words(NAMES[i].as_bytes()), len: NAMES[i].len() as u8, id: IDS[i] };
        i += 1;
    }
    table
};

/// The first and the last eight bytes of a name, which are the whole of it up to a length of 16.
const fn words(name: &[u8]) -> (u64, u64) {
    match name {
        [a, b, c, d, e, f, g, h, ..] => {
            let first = u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
            match name {
                [.., a, b, c, d, e, f, g, h] => (first, u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h])),
                _ => (first, 0),
            }
        }
        [a, b, c, d, ..] => {
            let first = u32::from_le_bytes([*a, *b, *c, *d]) as u64;
            match name {
                [.., a, b, c, d] => (first, u32::from_le_bytes([*a, *b, *c, *d]) as u64),
                _ => (first, 0),
            }
        }
        [a, .., z] => (*a as u64, (*z as u64) << 8 | name[1] as u64),
        [a] => (*a as u64, 0),
        [] => (0, 0),
    }
}

const fn slot((first, last): (u64, u64), len: usize, multiplier: u64) -> usize {
    let mixed = first ^ last.rotate_left(23) ^ (len as u64).rotate_left(48);
    (mixed.wrapping_mul(multiplier) >> (64 - SLOTS.ilog2())) as usize
}

impl HeaderId {
    /// Classifies a header name, long or compact, in any case.
    #[inline]
    #[must_use]
    pub fn from_name(name: &[u8]) -> HeaderId {
        HeaderId::from_usual(name).unwrap_or_else(|| HeaderId::from_unusual(name))
    }

    /// A name as it is usually written.
    #[inline]
    pub(crate) fn from_usual(name: &[u8]) -> Option<HeaderId> {
        let words = words(name);
        // An empty slot names nothing.
        let known = KNOWN.get(usize::from(USUAL[slot(words, name.len(), MULTIPLIER)]))?;
        let same = known.words == words
            && usize::from(known.len) == name.len()
            && (name.len() <= 16 || known.id.name().as_bytes() == name);
        same.then_some(known.id)
    }

    /// A compact name, a name in another case than usual, or one we do not know.
    #[inline(never)]
    pub(crate) fn from_unusual(name: &[u8]) -> HeaderId {
        if let [letter] = name {
            return match letter.to_ascii_lowercase() {
                l @ b'a'..=b'z' => COMPACT[usize::from(l - b'a')],
                _ => HeaderId::Other,
            };
        }
        let mut candidates = BY_LENGTH.get(name.len()).copied().unwrap_or(0);
        while candidates != 0 {
            let i = candidates.trailing_zeros() as usize;
            if NAMES[i].as_bytes().eq_ignore_ascii_case(name) {
                return IDS[i];
            }
            candidates &= candidates - 1;
        }
        HeaderId::Other
    }

    /// The long name; `"header"` for [`HeaderId::Other`].
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES.get(self as usize).copied().unwrap_or("header")
    }
}

impl fmt::Display for HeaderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One header of a message, as received.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    /// What it is.
    pub id: HeaderId,
    /// Its place among the headers, from 0. [`super::Edits`] names headers by it.
    pub index: usize,
    /// The name as received (long or compact).
    pub name: &'a [u8],
    /// The value without the white space around it; folds are still inside.
    pub value: &'a [u8],
    /// The whole of it: name, colon, value, folds and line end.
    pub line: &'a [u8],
}

impl<'a> Header<'a> {
    /// The value on one line; copies only when it was folded.
    #[must_use]
    pub fn unfolded(&self) -> Cow<'a, [u8]> {
        scan::unfold(self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_case() {
        for (i, name) in NAMES.iter().enumerate() {
            assert_eq!(HeaderId::from_name(name.as_bytes()), IDS[i]);
            assert_eq!(HeaderId::from_name(name.to_ascii_uppercase().as_bytes()), IDS[i]);
            assert_eq!(IDS[i].name(), *name);
        }
    }

    #[test]
    fn compact_names_are_the_same_headers() {
        for (letter, id) in [
            (b"v", HeaderId::Via),
            (b"L", HeaderId::ContentLength),
            (b"i", HeaderId::CallId),
            (b"y", HeaderId::Identity),
            (b"x", HeaderId::SessionExpires),
            (b"z", HeaderId::Other),
            (b"1", HeaderId::Other),
        ] {
            assert_eq!(HeaderId::from_name(letter), id);
        }
    }
}
