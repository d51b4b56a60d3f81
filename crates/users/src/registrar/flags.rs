//! The flag texts of `save()` and `lookup()`: today's words and the letters of older releases.

/// How Path (RFC 3327) is treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum PathMode {
    /// Not kept.
    #[default]
    Ignore,
    /// Kept, not shown in the reply.
    Off,
    /// Kept, shown when the phone supports it.
    Lazy,
    /// Refused with 420 unless the phone supports it.
    Strict,
}

/// Flags of `save()`.
#[derive(Clone, Debug, Default)]
pub(super) struct SaveFlags {
    pub memory_only: bool,
    pub no_reply: bool,
    pub max_contacts: Option<usize>,
    pub force: bool,
    pub matching_mode: Option<i64>,
    pub path: PathMode,
    pub path_received: bool,
    pub only_request_contacts: bool,
    pub socket_header: bool,
    pub min_expires: Option<u64>,
    pub max_expires: Option<u64>,
}

/// Flags of `lookup()`.
#[derive(Clone, Debug, Default)]
pub(super) struct LookupFlags {
    pub method_filtering: bool,
    pub no_branches: bool,
    pub branches_only: bool,
    pub case_insensitive: bool,
    pub user_agent: Option<String>,
    /// Fastest answer to pings first.
    pub by_latency: bool,
    /// Only contacts that answer pings within so many microseconds.
    pub max_latency: Option<u32>,
}

impl SaveFlags {
    /// Read the text; what is not understood is logged and passed over.
    pub fn parse(text: &str) -> SaveFlags {
        let mut f = SaveFlags::default();
        for word in words(text) {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            match name.trim() {
                "memory-only" => f.memory_only = true,
                "no-reply" => f.no_reply = true,
                "max-contacts" => f.max_contacts = value.trim().parse().ok(),
                "force-registration" => f.force = true,
                "matching-mode" => f.matching_mode = matching_mode(value),
                "path-off" => f.path = PathMode::Off,
                "path-lazy" => f.path = PathMode::Lazy,
                "path-strict" => f.path = PathMode::Strict,
                "path-received" => f.path_received = true,
                "only-request-contacts" => f.only_request_contacts = true,
                "socket-header" => f.socket_header = true,
                "min-expires" => f.min_expires = value.trim().parse().ok(),
                "max-expires" => f.max_expires = value.trim().parse().ok(),
                _ => f.letters(word),
            }
        }
        f
    }

    fn letters(&mut self, word: &str) {
        let mut rest = word.trim();
        while let Some(letter) = rest.chars().next() {
            rest = &rest[letter.len_utf8()..];
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let number: Option<u64> = rest[..digits].parse().ok();
            match letter {
                'm' => self.memory_only = true,
                'r' => self.no_reply = true,
                'c' => self.max_contacts = number.map(|n| n as usize),
                'f' => self.force = true,
                'M' => self.matching_mode = number.map(|n| n as i64),
                'p' => {
                    self.path = match number {
                        Some(0) => PathMode::Off,
                        Some(1) => PathMode::Lazy,
                        _ => PathMode::Strict,
                    }
                }
                'v' => self.path_received = true,
                'o' => self.only_request_contacts = true,
                's' => self.socket_header = true,
                'e' => self.min_expires = number,
                'E' => self.max_expires = number,
                other => tracing::warn!("save(): flag `{other}` of \"{word}\" is not known"),
            }
            rest = &rest[digits..];
        }
    }
}

fn matching_mode(value: &str) -> Option<i64> {
    match value.trim() {
        "contact-only" => Some(0),
        "contact-callid" => Some(1),
        n => n.parse().ok(),
    }
}

impl LookupFlags {
    /// Read the text; what is not understood is logged and passed over.
    pub fn parse(text: &str) -> LookupFlags {
        let mut f = LookupFlags::default();
        for word in words(text) {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            match name.trim() {
                "method-filtering" | "m" => f.method_filtering = true,
                "no-branches" | "b" => f.no_branches = true,
                "to-branches-only" | "r" | "branch" | "B" => f.branches_only = true,
                "case-insensitive" | "i" => f.case_insensitive = true,
                "ua-filtering" | "u" => f.user_agent = Some(value.trim().trim_matches('/').to_owned()),
                // Without a cluster there is one answer to this, and there is one kind of expression.
                "global" | "g" | "extended-regexp" | "e" => {}
                "sort-by-latency" | "Y" => f.by_latency = true,
                "max-ping-latency" => f.max_latency = latency(value, word),
                other
                    if other.len() > 1
                        && other.starts_with('y')
                        && value.is_empty()
                        && digits(&other[1..]) =>
                {
                    f.max_latency = latency(&other[1..], word);
                }
                other if other.starts_with('u') && other.contains('/') => {
                    f.user_agent = other[1..].trim_start_matches('/').split('/').next().map(str::to_owned);
                }
                other if other.len() > 1 && other.chars().all(|c| "mbrBigYe".contains(c)) => {
                    f.method_filtering |= other.contains('m');
                    f.no_branches |= other.contains('b');
                    f.branches_only |= other.contains(['r', 'B']);
                    f.case_insensitive |= other.contains('i');
                    f.by_latency |= other.contains('Y');
                }
                other => tracing::warn!("lookup(): flag \"{other}\" is not known"),
            }
        }
        f
    }
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn latency(value: &str, word: &str) -> Option<u32> {
    let number = value.trim().parse().ok();
    if number.is_none() {
        tracing::warn!("lookup(): \"{word}\" needs a number of microseconds");
    }
    number
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|w| !w.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_letters_mean_the_same() {
        let today = SaveFlags::parse("no-reply, max-contacts=3, force-registration,path-lazy");
        let letters = SaveFlags::parse("rc3fp1");
        for f in [today, letters] {
            assert!(f.no_reply && f.force && !f.memory_only);
            assert_eq!((f.max_contacts, f.path), (Some(3), PathMode::Lazy));
        }
        assert_eq!(SaveFlags::parse("M1E7200").max_expires, Some(7200));
        assert!(LookupFlags::parse("method-filtering,no-branches").no_branches);
        assert!(LookupFlags::parse("m").method_filtering);
        for text in ["max-ping-latency=500, sort-by-latency", "y500,Y"] {
            let f = LookupFlags::parse(text);
            assert!(f.by_latency && f.max_latency == Some(500), "{text}");
        }
    }
}
