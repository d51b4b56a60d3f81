//! What is to be accounted and where: the arguments of `do_accounting()`.

use bytes::Bytes;

/// Where a record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// A line in the log.
    Log,
    /// A row in a table.
    Db,
    /// An event.
    Evi,
}

impl Backend {
    /// All of them.
    pub const ALL: [Backend; 3] = [Backend::Log, Backend::Db, Backend::Evi];

    /// By the name that scripts use.
    pub fn parse(name: &str) -> Result<Backend, String> {
        match name.to_ascii_lowercase().as_str() {
            "log" => Ok(Backend::Log),
            "db" => Ok(Backend::Db),
            "evi" => Ok(Backend::Evi),
            "aaa" | "radius" | "diameter" => Err(format!("\"{name}\" accounting is not available")),
            _ => Err(format!("\"{name}\" is not one of log, db, evi")),
        }
    }

    fn shift(self) -> u16 {
        match self {
            Backend::Log => 0,
            Backend::Db => 4,
            Backend::Evi => 8,
        }
    }
}

/// The transaction is accounted when it succeeds.
pub const DONE: u16 = 1;
/// Calls that are not answered are accounted as missed.
pub const MISSED: u16 = 2;
/// The transaction is accounted when it fails, too.
pub const FAILED: u16 = 4;
/// One record of the whole call, when it ends.
pub const CDR: u16 = 8;

/// For each backend what it is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct What(u16);

impl What {
    /// One backend with a set of [`DONE`], [`MISSED`], [`FAILED`] and [`CDR`].
    pub fn of(backend: Backend, bits: u16) -> What {
        What(bits << backend.shift())
    }

    /// As a number, for a text that [`What::from_bits`] reads.
    pub fn bits(self) -> u16 {
        self.0
    }

    /// From that number.
    pub fn from_bits(bits: u16) -> What {
        What(bits & 0xfff)
    }

    /// Whether a backend is told of something.
    pub fn has(self, backend: Backend, bit: u16) -> bool {
        self.0 & (bit << backend.shift()) != 0
    }

    /// Whether any backend is told of something.
    pub fn any(self, bit: u16) -> bool {
        Backend::ALL.iter().any(|b| self.has(*b, bit))
    }

    /// Both.
    pub fn with(self, other: What) -> What {
        What(self.0 | other.0)
    }

    /// This without that.
    pub fn without(self, other: What) -> What {
        What(self.0 & !other.0)
    }

    /// Only one of the four, for every backend.
    pub fn only(self, bit: u16) -> What {
        What(self.0 & (bit | bit << 4 | bit << 8))
    }

    /// The backends that have anything, with [`DONE`] for each.
    pub fn as_done(self) -> What {
        let those = Backend::ALL.into_iter().filter(|b| self.any_of(*b));
        those.fold(What::default(), |all, b| all.with(What::of(b, DONE)))
    }

    /// This for those backends only that have something in `other`.
    pub fn of_which(self, other: What) -> What {
        let kept = Backend::ALL.into_iter().filter(|b| other.any_of(*b));
        kept.fold(What::default(), |all, b| all.with(What(self.0 & (0xf << b.shift()))))
    }

    /// Whether a backend is told of anything.
    pub fn any_of(self, backend: Backend) -> bool {
        self.has(backend, DONE | MISSED | FAILED | CDR)
    }

    /// Read `"log|db"` and `"missed|failed"`. With `adding`, the backends themselves are in the answer (as
    /// `do_accounting()` wants it, and `drop_accounting()` without flags).
    pub fn parse(types: &str, flags: Option<&str>, adding: bool) -> Result<What, String> {
        let mut bits = if adding { DONE } else { 0 };
        for flag in words(flags.unwrap_or_default()) {
            match flag.to_ascii_lowercase().as_str() {
                "cdr" => bits |= CDR,
                "missed" => bits |= MISSED,
                "failed" => bits |= FAILED,
                _ => return Err(format!("\"{flag}\" is not one of cdr, missed, failed")),
            }
        }
        let mut what = What::default();
        for name in words(types) {
            what = what.with(What::of(Backend::parse(name)?, bits));
        }
        if what == What::default() && bits != 0 {
            return Err("the type is empty; write log, db or evi".into());
        }
        Ok(what)
    }

    /// Everything of the backends named in `"log|db"`.
    pub fn whole(types: &str) -> Result<What, String> {
        let all = What::parse(types, Some("cdr|missed|failed"), true)?;
        Ok(all)
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split('|').map(str::trim).filter(|w| !w.is_empty())
}

/// Split a comment into code and reason: `"404 Not Found"`. Without three digits in front all of it is the reason.
pub fn comment(text: &Bytes) -> (Option<u16>, Bytes) {
    let digits = text.len() >= 3 && text[..3].iter().all(u8::is_ascii_digit);
    if !digits || text.get(3).is_some_and(|b| !b.is_ascii_whitespace()) {
        return (None, text.clone());
    }
    let code = text[..3].iter().fold(0, |n, d| n * 10 + u16::from(d - b'0'));
    let blank = text[3..].iter().take_while(|b| b.is_ascii_whitespace()).count();
    (Some(code), text.slice(3 + blank..))
}

/// Whether a table name can stand in a statement as it is.
pub fn is_table(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.'))
        && !name.starts_with(|c: char| c.is_ascii_digit() || c == '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_flags_are_read() {
        let what = What::parse("db | log", Some("cdr|missed"), true).unwrap();
        assert!(what.has(Backend::Db, DONE) && what.has(Backend::Log, MISSED));
        assert!(!what.any(FAILED) && !what.has(Backend::Evi, DONE));
        assert!(What::parse("aaa", None, true).unwrap_err().contains("not available"));
        assert!(What::parse("sql", None, true).is_err());
        assert!(What::parse("log", Some("lost"), true).is_err());
        assert!(What::parse("", None, true).is_err());
    }

    #[test]
    fn dropping_flags_keeps_the_accounting_itself() {
        let what = What::parse("db|log", Some("missed|failed"), true).unwrap();
        let less = what.without(What::parse("log", Some("missed|cdr"), false).unwrap());
        assert!(less.has(Backend::Log, DONE) && less.has(Backend::Log, FAILED));
        assert!(!less.has(Backend::Log, MISSED) && less.has(Backend::Db, MISSED));
        let none = less.without(What::whole("log").unwrap());
        assert!(!none.has(Backend::Log, DONE) && !none.has(Backend::Log, FAILED));
    }

    #[test]
    fn a_comment_is_a_code_and_a_reason() {
        let of = |t: &'static str| comment(&Bytes::from_static(t.as_bytes()));
        assert_eq!(of("404 Not Found"), (Some(404), "Not Found".into()));
        assert_eq!(of("200"), (Some(200), "".into()));
        assert_eq!(of("Some comment"), (None, "Some comment".into()));
        assert_eq!(of("4040"), (None, "4040".into()));
    }

    #[test]
    fn a_table_name_cannot_carry_a_statement() {
        assert!(is_table("acc") && is_table("billing.acc_2"));
        for bad in ["", "acc; drop", "1acc", "a b", "acc--", "`acc`"] {
            assert!(!is_table(bad), "{bad}");
        }
    }
}
