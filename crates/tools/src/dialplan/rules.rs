//! Rules in order of priority and id: the first one that fits translates.

use std::collections::HashMap;

use regex::bytes::{Regex, RegexBuilder};
use switchroom_kernel::ports::store::{Rows, SqlValue};

use crate::time_rec::TimeRec;

/// All rules of a table, by dialplan, in order.
#[derive(Default)]
pub struct Rules(HashMap<i64, Vec<Rule>>);

struct Rule {
    fits: Fits,
    subst: Option<Regex>,
    replacement: Option<Vec<u8>>,
    attributes: String,
    times: Option<TimeRec>,
}

enum Fits {
    Equal(Vec<u8>),
    EqualAnyCase(Vec<u8>),
    Regex(Regex),
}

/// What a rule gives.
#[derive(Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// The new text, when the rule has one.
    pub output: Option<Vec<u8>>,
    /// Its attributes; empty without any.
    pub attributes: &'a str,
}

impl Rules {
    /// From rows in order of priority and id, with the columns of the module's query. A rule that is wrong is logged
    /// and left out.
    pub fn read(rows: &Rows) -> Rules {
        let mut rules: HashMap<i64, Vec<Rule>> = HashMap::new();
        let mut sorted: Vec<&Vec<SqlValue>> = rows.rows.iter().collect();
        let number = |row: &[SqlValue], i: usize| row.get(i).and_then(SqlValue::to_int).unwrap_or(0);
        sorted.sort_by_key(|row| (number(row, 1), number(row, 10)));
        for row in sorted {
            if number(row, 9) != 0 {
                continue;
            }
            match Rule::read(row) {
                Ok(rule) => rules.entry(number(row, 0)).or_default().push(rule),
                Err(e) => tracing::error!("dialplan: rule {}: {e}", number(row, 10)),
            }
        }
        Rules(rules)
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// The translation of a text by the first rule that fits now (seconds since the epoch).
    pub fn translate(&self, dialplan: i64, input: &[u8], now: i64) -> Option<Found<'_>> {
        let rules = self.0.get(&dialplan)?;
        let rule = rules.iter().find(|r| r.fits(input) && r.times.as_ref().is_none_or(|t| t.fits(now)))?;
        Some(Found { output: rule.output(input), attributes: &rule.attributes })
    }
}

impl Rule {
    fn read(row: &[SqlValue]) -> Result<Rule, String> {
        let text = |i: usize| row.get(i).and_then(SqlValue::to_text).filter(|t| !t.is_empty());
        let expression = text(3).unwrap_or_default();
        let any_case = row.get(4).and_then(SqlValue::to_int).unwrap_or(0) & 1 != 0;
        let fits = match row.get(2).and_then(SqlValue::to_int) {
            Some(0) if any_case => Fits::EqualAnyCase(expression.into()),
            Some(0) => Fits::Equal(expression.into()),
            Some(1) => Fits::Regex(regex(&expression, any_case)?),
            other => return Err(format!("match_op is {other:?}; it must be 0 (equal) or 1 (regex)")),
        };
        Ok(Rule {
            fits,
            subst: text(5).map(|s| regex(&s, any_case)).transpose()?,
            replacement: text(6).map(String::into_bytes),
            attributes: text(7).unwrap_or_default(),
            times: text(8).map(|t| TimeRec::parse(&t)).transpose()?,
        })
    }

    fn fits(&self, input: &[u8]) -> bool {
        match &self.fits {
            Fits::Equal(text) => text == input,
            Fits::EqualAnyCase(text) => text.eq_ignore_ascii_case(input),
            Fits::Regex(regex) => regex.is_match(input),
        }
    }

    /// Without a replacement nothing is given; without an expression the replacement as it is; else the replacement with
    /// the groups of the first match. An expression that finds nothing leaves the text as it was.
    fn output(&self, input: &[u8]) -> Option<Vec<u8>> {
        let replacement = self.replacement.as_deref()?;
        let regex = match (&self.subst, &self.fits) {
            (Some(regex), _) => regex,
            (None, _) => return Some(replacement.to_vec()),
        };
        let Some(groups) = regex.captures(input) else { return Some(input.to_vec()) };
        let mut out = Vec::new();
        let mut bytes = replacement.iter().copied();
        while let Some(b) = bytes.next() {
            match (b, b == b'\\') {
                (_, true) => match bytes.next() {
                    Some(d) if d.is_ascii_digit() => {
                        let group = groups.get(usize::from(d - b'0'));
                        out.extend_from_slice(group.map_or(&[][..], |g| g.as_bytes()));
                    }
                    Some(other) => out.push(other),
                    None => out.push(b'\\'),
                },
                (b, false) => out.push(b),
            }
        }
        Some(out)
    }
}

fn regex(text: &str, any_case: bool) -> Result<Regex, String> {
    let built = RegexBuilder::new(text).case_insensitive(any_case).unicode(false).size_limit(1 << 20).build();
    built.map_err(|e| format!("\"{text}\": {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Line<'a> = (i64, i64, i64, &'a str, i64, &'a str, &'a str, &'a str);

    fn rules(lines: &[Line<'_>]) -> Rules {
        let row = |(i, l): (usize, &Line<'_>)| {
            let int = SqlValue::Int;
            let text = SqlValue::from;
            let (empty, id) = (SqlValue::Null, int(i as i64));
            let cells = [int(l.0), int(l.1), int(l.2), text(l.3), int(l.4), text(l.5), text(l.6), text(l.7)];
            cells.into_iter().chain([empty, int(0), id]).collect()
        };
        Rules::read(&Rows { columns: Vec::new(), rows: lines.iter().enumerate().map(row).collect() })
    }

    fn text(rules: &Rules, id: i64, input: &str) -> Option<String> {
        let found = rules.translate(id, input.as_bytes(), 0)?;
        let output = found.output.map(|o| String::from_utf8(o).unwrap());
        Some(format!("{} {}", output.as_deref().unwrap_or("-"), found.attributes))
    }

    #[test]
    fn the_first_rule_that_fits_translates() {
        let rules = rules(&[
            (1, 5, 1, r"^(0040|\+40|0|40)21[0-9]+", 0, r"^(0040|\+40|0|40)(.+)", r"40\2", "ro"),
            (1, 9, 1, "^0", 0, "", "", "any"),
            (1, 1, 0, "SIP server", 1, "", "Switchroom", ""),
            (2, 1, 0, "x", 0, "", "", ""),
        ]);
        assert_eq!(text(&rules, 1, "0213456").as_deref(), Some("40213456 ro"));
        assert_eq!(text(&rules, 1, "09").as_deref(), Some("- any"));
        assert_eq!(text(&rules, 1, "sip SERVER").as_deref(), Some("Switchroom "));
        assert_eq!(text(&rules, 1, "1"), None);
        assert_eq!(text(&rules, 2, "X"), None);
        assert_eq!(text(&rules, 3, "x"), None);
    }

    #[test]
    fn wrong_rules_are_left_out() {
        assert_eq!(rules(&[(1, 1, 1, "(", 0, "", "", ""), (1, 1, 7, "a", 0, "", "", "")]).len(), 0);
    }
}
