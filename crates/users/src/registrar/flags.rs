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
    /// The URIs of the branches are addresses of record too, and make way for their contacts.
    pub of_branches: bool,
    pub branches_only: bool,
    /// Expression that User-Agent has to match, and whether case does not matter.
    pub user_agent: Option<(String, bool)>,
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
        let (pattern, rest) = cut_pattern(text);
        let mut ignore_case = false;
        for word in words(&rest) {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            match name.trim() {
                "method-filtering" => f.method_filtering = true,
                "no-branches" => f.no_branches = true,
                "branch" => f.of_branches = true,
                "to-branches-only" => f.branches_only = true,
                "case-insensitive" => ignore_case = true,
                "sort-by-latency" => f.by_latency = true,
                "max-ping-latency" => f.max_latency = latency(value, word),
                // Expressions are extended ones anyway, and without a cluster all contacts are here.
                "extended-regexp" | "global" => {}
                letters => ignore_case |= f.letters(letters),
            }
        }
        f.user_agent = pattern.map(|p| (p, ignore_case));
        f
    }

    /// Letters of older releases; whether `i` is among them.
    fn letters(&mut self, word: &str) -> bool {
        let mut ignore_case = false;
        let mut rest = word;
        while let Some(letter) = rest.chars().next() {
            rest = &rest[letter.len_utf8()..];
            match letter {
                'm' => self.method_filtering = true,
                'b' => self.no_branches = true,
                'r' => self.of_branches = true,
                'B' => self.branches_only = true,
                'i' => ignore_case = true,
                'Y' => self.by_latency = true,
                'y' => {
                    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
                    self.max_latency = latency(&rest[..end], word);
                    rest = &rest[end..];
                }
                'g' | 'e' => {}
                _ => {
                    tracing::warn!("lookup(): flag \"{word}\" is not known");
                    break;
                }
            }
        }
        ignore_case
    }
}

/// Take `u/expression/` or `ua-filtering=/expression/` out of a text of flags.
fn cut_pattern(text: &str) -> (Option<String>, String) {
    for opening in ["ua-filtering=/", "u/"] {
        if let Some(at) = text.find(opening) {
            let from = at + opening.len();
            let to = text[from..].find('/').map_or(text.len(), |end| from + end);
            let rest = [&text[..at], text.get(to + 1..).unwrap_or_default()].concat();
            return (Some(text[from..to].to_owned()), rest);
        }
    }
    (None, text.to_owned())
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
        for text in ["mu/^Acme (A|B),1/i", "method-filtering,ua-filtering=/^Acme (A|B),1/,case-insensitive"] {
            let f = LookupFlags::parse(text);
            assert!(f.method_filtering && !f.no_branches);
            assert_eq!(f.user_agent, Some(("^Acme (A|B),1".to_owned(), true)));
        }
        assert!(LookupFlags::parse("r").of_branches && !LookupFlags::parse("r").branches_only);
        assert!(LookupFlags::parse("branch").of_branches && LookupFlags::parse("B").branches_only);
    }
}
