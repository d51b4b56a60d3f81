//! Shell patterns for the values of events: `*`, `?`, `[a-z]`, `[!a-z]`, `\x` (POSIX.1-2017, XCU 2.13); case counts.
//! Left out: classes by name (`[:alpha:]`).

/// Whether all of `text` matches `pattern`. Takes time in proportion to the product of the two lengths at most.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
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
            (Some(_), Some(c)) => one(&pattern[p..], *c),
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
fn one(pattern: &[u8], c: u8) -> Option<usize> {
    let same = |a: u8| a == c;
    match pattern {
        [b'?', ..] => Some(1),
        [b'\\', escaped, ..] => same(*escaped).then_some(2),
        [b'[', rest @ ..] => match class(rest, c) {
            Some((len, yes)) => yes.then_some(len + 1),
            // Without its end a bracket is a character like any other.
            None => same(b'[').then_some(1),
        },
        [own, ..] => same(*own).then_some(1),
        [] => None,
    }
}

/// Length of the rest of a bracket expression, and whether `c` is in it.
fn class(rest: &[u8], c: u8) -> Option<(usize, bool)> {
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
        inside |= (from..=to).contains(&c);
        i += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_are_those_of_a_shell_and_mind_case() {
        for (pattern, text, yes) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abbC", false),
            ("?b", "ab", true),
            ("?b", "b", false),
            ("[a-c]1", "b1", true),
            ("[a-c]1", "B1", false),
            ("[!a-c]1", "d1", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("[", "[", true),
            ("sip:*@a;x=*", "sip:bob@a;x=1", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), yes, "{pattern} {text}");
        }
    }
}
