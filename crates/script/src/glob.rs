//! Shell patterns: `*`, `?`, `[a-z]`, `[!a-z]`, `\x` (POSIX.1-2017, XCU 2.13). Left out: classes by name (`[:alpha:]`).

/// Whether the case of letters counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// It does, as in values.
    Counts,
    /// It does not, as in names of headers.
    Ignored,
}

impl Case {
    fn of(self, c: u8) -> u8 {
        if self == Case::Ignored { c.to_ascii_lowercase() } else { c }
    }
}

/// Whether all of `text` matches `pattern`. Takes time in proportion to the product of the two lengths at most.
pub fn matches(pattern: &[u8], text: &[u8], case: Case) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows the last star does not fit: one character later.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            retry = Some((p, t));
            continue;
        }
        let step = match (pattern.get(p), text.get(t)) {
            (None, None) => return true,
            (Some(_), Some(c)) => one(&pattern[p..], *c, case),
            _ => None,
        };
        match (step, retry) {
            (Some(len), _) => {
                p += len;
                t += 1;
            }
            (None, Some((star, at))) if at < text.len() => {
                p = star;
                t = at + 1;
                retry = Some((star, at + 1));
            }
            (None, _) => return false,
        }
    }
}

/// Length of the pattern element that takes `c`.
fn one(pattern: &[u8], c: u8, case: Case) -> Option<usize> {
    let same = |a: u8| case.of(a) == case.of(c);
    match pattern {
        [b'?', ..] => Some(1),
        [b'\\', escaped, ..] => same(*escaped).then_some(2),
        [b'[', rest @ ..] => match class(rest, c, case) {
            Some((len, yes)) => yes.then_some(len + 1),
            // Without its end a bracket is a character like any other.
            None => same(b'[').then_some(1),
        },
        [own, ..] => same(*own).then_some(1),
        [] => None,
    }
}

/// Length of the rest of a bracket expression, and whether `c` is in it.
fn class(rest: &[u8], c: u8, case: Case) -> Option<(usize, bool)> {
    let negated = matches!(rest.first(), Some(b'!' | b'^'));
    let mut i = usize::from(negated);
    let first = i;
    let mut inside = false;
    loop {
        let from = *rest.get(i)?;
        if from == b']' && i > first {
            return Some((i + 1, inside != negated));
        }
        let to = match (rest.get(i + 1), rest.get(i + 2)) {
            (Some(b'-'), Some(to)) if *to != b']' => {
                i += 2;
                *to
            }
            _ => from,
        };
        inside |= (case.of(from)..=case.of(to)).contains(&case.of(c));
        i += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_take_what_a_shell_would_take() {
        let yes = |p: &str, t: &str| assert!(matches(p.as_bytes(), t.as_bytes(), Case::Ignored), "{p} {t}");
        let no = |p: &str, t: &str| assert!(!matches(p.as_bytes(), t.as_bytes(), Case::Ignored), "{p} {t}");
        yes("X-Billing*", "x-billing-rate");
        yes("*", "");
        yes("a*b*c", "a1b2b3c");
        no("a*b*c", "a1b2b3d");
        yes("X-?", "X-1");
        no("X-?", "X-");
        yes("X-[a-c1]", "X-B");
        no("X-[!a-c]", "X-b");
        yes("[]x]", "]");
        yes("a[", "a[");
        yes("\\*", "*");
        no("\\*", "a");
        no("", "a");
        yes("**a", "bca");
    }

    #[test]
    fn the_case_of_values_counts() {
        for (pattern, text, yes) in [
            ("a*c", "abbc", true),
            ("a*c", "abbC", false),
            ("[a-c]1", "b1", true),
            ("[a-c]1", "B1", false),
            ("sip:*@a;x=*", "sip:bob@a;x=1", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes(), Case::Counts), yes, "{pattern} {text}");
        }
    }

    #[test]
    fn patterns_fit_as_in_a_shell() {
        for (glob, text, wanted) in [
            ("*", "", true),
            ("a*", "abc", true),
            ("a*c", "abc", true),
            ("a*c", "abcd", false),
            ("*b*d", "abcbd", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a[b-d]e", "ace", true),
            ("a[!b-d]e", "ace", false),
            ("a[", "a[", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(glob.as_bytes(), text.as_bytes(), Case::Counts), wanted, "{glob} {text}");
        }
    }

    #[test]
    fn many_stars_do_not_take_exponential_time() {
        let pattern = b"a*".repeat(2000);
        let text = b"a".repeat(1999);
        assert!(!matches(&pattern, &text, Case::Counts));
    }

    proptest::proptest! {
        #[test]
        fn any_pattern_meets_any_text(pattern in "[a-c*?\\[\\]!\\\\-]{0,12}", text in "[a-c\\[\\]-]{0,12}") {
            let plain = !pattern.contains(['*', '?', '[', '\\']);
            let hit = matches(pattern.as_bytes(), text.as_bytes(), Case::Ignored);
            if plain {
                proptest::prop_assert_eq!(hit, pattern.eq_ignore_ascii_case(&text));
            }
            proptest::prop_assert!(matches(b"*", text.as_bytes(), Case::Counts));
        }
    }
}
