//! The one kind of value a script handles: nothing, an integer or a string of bytes.
//!
//! An integer carries both forms: it prints as decimal and may be compared with a string literal. Strings are
//! [`Bytes`], so a piece of the received message is handed to the script without a copy. What is left out: floating
//! numbers, lists (a list is a variable that is read by index) and anything a module keeps behind its own variables.

use bytes::Bytes;

/// A script value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Value {
    /// No value; prints as `<null>` inside a format string.
    #[default]
    Null,
    /// A signed integer.
    Int(i64),
    /// A string of bytes in no particular encoding.
    Str(Bytes),
}

impl Value {
    /// A string value from anything that can become [`Bytes`].
    pub fn str(text: impl Into<Bytes>) -> Self {
        Self::Str(text.into())
    }

    /// True for [`Value::Null`].
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Truth of a bare variable in a condition: not for nothing, an empty string or the integer 0.
    pub fn truthy(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Int(n) => *n != 0,
            Self::Str(s) => !s.is_empty(),
        }
    }

    /// The integer form: an integer as it is, a string when it is a whole decimal number.
    pub fn to_int(&self) -> Option<i64> {
        match self {
            Self::Null => None,
            Self::Int(n) => Some(*n),
            Self::Str(s) => parse_int(s),
        }
    }

    /// The string form; `None` for nothing. An integer is printed in decimal, which allocates.
    pub fn to_bytes(&self) -> Option<Bytes> {
        match self {
            Self::Null => None,
            Self::Int(n) => Some(int_bytes(*n)),
            Self::Str(s) => Some(s.clone()),
        }
    }

    /// Appends the string form to `out`; nothing is written as `<null>`.
    pub fn print(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"<null>"),
            Self::Int(n) => out.extend_from_slice(itoa::Buffer::new().format(*n).as_bytes()),
            Self::Str(s) => out.extend_from_slice(s),
        }
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Self::Int(n)
    }
}

impl From<Bytes> for Value {
    fn from(s: Bytes) -> Self {
        Self::Str(s)
    }
}

impl From<&'static str> for Value {
    fn from(s: &'static str) -> Self {
        Self::Str(Bytes::from_static(s.as_bytes()))
    }
}

/// A decimal integer as bytes.
pub(crate) fn int_bytes(n: i64) -> Bytes {
    Bytes::copy_from_slice(itoa::Buffer::new().format(n).as_bytes())
}

/// Reads a whole decimal integer with an optional sign; `None` when anything else is in `text`.
pub(crate) fn parse_int(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let mut n: i64 = 0;
    for d in digits {
        if !d.is_ascii_digit() {
            return None;
        }
        n = n * 10 + i64::from(d - b'0');
    }
    Some(if negative { -n } else { n })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truth_of_a_bare_value_follows_its_kind() {
        assert!(!Value::Null.truthy());
        assert!(!Value::Int(0).truthy());
        assert!(Value::Int(-1).truthy());
        assert!(!Value::from("").truthy());
        assert!(Value::from("0").truthy());
    }

    #[test]
    fn only_whole_numbers_have_an_integer_form() {
        assert_eq!(Value::from("-12").to_int(), Some(-12));
        assert_eq!(Value::from("12x").to_int(), None);
        assert_eq!(Value::from("").to_int(), None);
        assert_eq!(Value::from("9999999999999999999999").to_int(), None);
    }
}
