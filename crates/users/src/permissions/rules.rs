//! Files of rules: `left list [EXCEPT list] : right list [EXCEPT list]`, one a line, `#` begins a comment. A list is `ALL`
//! or regular expressions in double quotes with commas between; case does not count.

use regex::bytes::{Regex, RegexBuilder};

/// A line longer than this is refused.
const MAX_LINE: usize = 8192;
/// A file with more rules is refused.
const MAX_RULES: usize = 100_000;

/// An allow file and a deny file.
#[derive(Default)]
pub struct Files {
    allow: Vec<Rule>,
    deny: Vec<Rule>,
}

impl Files {
    /// Reads both; a file that is not there is empty. The error says what is wrong, and where.
    pub fn read(allow: &str, deny: &str) -> Result<Files, String> {
        Ok(Files { allow: read_file(allow)?, deny: read_file(deny)? })
    }

    /// From the texts of both files.
    #[cfg(test)]
    fn parse(allow: &str, deny: &str) -> Result<Files, String> {
        Ok(Files { allow: parse(allow)?, deny: parse(deny)? })
    }

    /// Whether the pairs of `left` with each of `right` are allowed: all of them by the allow file, or else none of them
    /// refused by the deny file.
    pub fn allows<T: AsRef<[u8]>>(&self, left: &[u8], right: &[T]) -> bool {
        let hit = |rules: &[Rule], r: &T| rules.iter().any(|rule| rule.fits(left, r.as_ref()));
        right.iter().all(|r| hit(&self.allow, r)) || !right.iter().any(|r| hit(&self.deny, r))
    }
}

struct Rule {
    left: Side,
    right: Side,
}

struct Side {
    any: List,
    except: Option<List>,
}

enum List {
    All,
    Of(Vec<Regex>),
}

impl Rule {
    fn fits(&self, left: &[u8], right: &[u8]) -> bool {
        self.left.fits(left) && self.right.fits(right)
    }
}

impl Side {
    fn fits(&self, text: &[u8]) -> bool {
        self.any.fits(text) && !self.except.as_ref().is_some_and(|e| e.fits(text))
    }
}

impl List {
    fn fits(&self, text: &[u8]) -> bool {
        match self {
            List::All => true,
            List::Of(list) => list.iter().any(|r| r.is_match(text)),
        }
    }
}

fn read_file(path: &str) -> Result<Vec<Rule>, String> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text).map_err(|e| format!("{path}: {e}")),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            tracing::info!("permissions: there is no file {path}; it counts as empty");
            Ok(Vec::new())
        }
        Err(e) => Err(format!("{path}: {e}")),
    }
}

fn parse(text: &str) -> Result<Vec<Rule>, String> {
    let mut rules = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let rule = parse_line(line).map_err(|e| format!("line {}: {e}", number + 1))?;
        rules.extend(rule);
        if rules.len() > MAX_RULES {
            return Err(format!("there are more than {MAX_RULES} rules"));
        }
    }
    Ok(rules)
}

fn parse_line(line: &str) -> Result<Option<Rule>, String> {
    if line.len() > MAX_LINE {
        return Err(format!("it is longer than {MAX_LINE} bytes"));
    }
    let words = words(line)?;
    if words.is_empty() {
        return Ok(None);
    }
    let mut sides = words.split(|w| *w == Word::Colon);
    match (sides.next(), sides.next(), sides.next()) {
        (Some(left), Some(right), None) => Ok(Some(Rule { left: side(left)?, right: side(right)? })),
        _ => Err("a rule is two lists with one colon between".into()),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Colon,
    Comma,
    All,
    Except,
    Pattern(String),
}

fn words(line: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let used = match first {
            '#' => break,
            ':' => {
                words.push(Word::Colon);
                1
            }
            ',' => {
                words.push(Word::Comma);
                1
            }
            '"' => {
                let end = rest[1..].find('"').ok_or("a quotation mark is missing")?;
                words.push(Word::Pattern(rest[1..=end].to_owned()));
                end + 2
            }
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || ":,\"#".contains(c)).unwrap_or(rest.len());
                words.push(match &rest[..end] {
                    "ALL" => Word::All,
                    "EXCEPT" => Word::Except,
                    other => {
                        return Err(format!("`{other}` is neither ALL, EXCEPT nor an expression in quotes"));
                    }
                });
                end
            }
        };
        rest = rest[used..].trim_start();
    }
    Ok(words)
}

fn side(words: &[Word]) -> Result<Side, String> {
    let mut parts = words.split(|w| *w == Word::Except);
    let any = list(parts.next().unwrap_or_default())?;
    let except = parts.next().map(list).transpose()?;
    if parts.next().is_some() {
        return Err("EXCEPT stands twice in one list".into());
    }
    Ok(Side { any, except })
}

fn list(words: &[Word]) -> Result<List, String> {
    if words == [Word::All] {
        return Ok(List::All);
    }
    let mut patterns = Vec::new();
    for item in words.split(|w| *w == Word::Comma) {
        match item {
            [Word::Pattern(text)] => {
                let regex = RegexBuilder::new(text).case_insensitive(true).unicode(false).build();
                patterns.push(regex.map_err(|e| format!("\"{text}\": {e}"))?);
            }
            [Word::All] => return Ok(List::All),
            _ => return Err("a list is ALL or expressions in quotes with commas between".into()),
        }
    }
    Ok(List::Of(patterns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allow_file_wins_then_the_deny_file_and_nothing_said_is_allowed() {
        let files = Files::parse(
            "# staff\nALL : \"^sip:361[0-9]*@abc\\.org$\" EXCEPT \"^sip:3611\", \"^sip:3612\"\n",
            "\n\"^sip:guest@\", \"^sip:anonymous@\" EXCEPT \"@home\" : ALL # no guests\n",
        )
        .unwrap();
        let allows = |from: &str, to: &[&str]| files.allows(from.as_bytes(), to);
        assert!(allows("sip:guest@x", &["sip:36130@ABC.org"]));
        assert!(!allows("sip:guest@x", &["sip:36110@abc.org"]));
        assert!(
            !allows("sip:guest@x", &["sip:36130@abc.org", "sip:1@b.org"]),
            "every branch must be allowed"
        );
        assert!(allows("sip:guest@home", &["sip:1@b.org"]));
        assert!(allows("sip:alice@x", &["sip:1@b.org"]));
        assert!(Files::default().allows(b"x", &["y"]));
    }

    #[test]
    fn a_broken_line_is_named() {
        for bad in
            ["ALL", "ALL : ALL : ALL", "ALL : \"a", "ALL : \"(\"", "x : ALL", "ALL : \"a\" \"b\"", ": ALL"]
        {
            let e = Files::parse(&format!("\n{bad}"), "").err().unwrap_or_default();
            assert!(e.starts_with("line 2: "), "{bad}: {e}");
        }
    }
}
