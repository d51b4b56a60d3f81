//! Generic parameters `;name[=value]` of headers and URIs (RFC 3261 §25.1).

use super::scan::{self, trim};
use std::borrow::Cow;

/// One parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param<'a> {
    /// The name as received; names compare without case.
    pub name: &'a [u8],
    /// The value as received, quotes included; `None` without `=`.
    pub value: Option<&'a [u8]>,
}

impl<'a> Param<'a> {
    /// The value without quotes; empty when there is none.
    #[must_use]
    pub fn unquoted(&self) -> Cow<'a, [u8]> {
        scan::unquote(self.value.unwrap_or(&[]))
    }

    /// Whether this is the parameter `name`.
    #[inline]
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// The parameters of a `;`-separated list; copying it restarts nothing. Empty parameters are skipped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Params<'a> {
    rest: &'a [u8],
}

impl<'a> Params<'a> {
    /// Reads `;a=1;b` or `a=1;b`.
    #[must_use]
    pub fn new(text: &'a [u8]) -> Params<'a> {
        Params { rest: text }
    }

    /// The text of the parameters not yet read, with the separators.
    #[must_use]
    pub fn raw(&self) -> &'a [u8] {
        self.rest
    }

    /// The first parameter `name`.
    #[must_use]
    pub fn get(self, name: &str) -> Option<Param<'a>> {
        let mut params = self;
        params.find(|p| p.is(name))
    }

    /// The value of the first parameter `name`; empty when it has none.
    #[must_use]
    pub fn value(self, name: &str) -> Option<&'a [u8]> {
        self.get(name).map(|p| p.value.unwrap_or(&[]))
    }
}

impl<'a> Iterator for Params<'a> {
    type Item = Param<'a>;

    fn next(&mut self) -> Option<Param<'a>> {
        while !self.rest.is_empty() {
            let text = self.rest;
            let mut end = scan::find_near(text, b';').unwrap_or(text.len());
            if scan::find_near(&text[..end], b'"').is_some() {
                end = end_with_quotes(text);
            }
            let equals = scan::find_near(&text[..end], b'=');
            self.rest = text.get(end + 1..).unwrap_or(&[]);
            let (name, value) = match equals {
                Some(at) => (trim(&text[..at]), Some(trim(&text[at + 1..end]))),
                None => (trim(&text[..end]), None),
            };
            if !name.is_empty() {
                return Some(Param { name, value });
            }
        }
        None
    }
}

/// Where a parameter with quotes in it ends.
fn end_with_quotes(text: &[u8]) -> usize {
    let mut end = 0;
    loop {
        match memchr::memchr2(b';', b'"', &text[end..]) {
            None => return text.len(),
            Some(at) if text[end + at] == b';' => return end + at,
            Some(at) => match scan::quoted_end(text, end + at) {
                Some(behind) => end = behind,
                None => return text.len(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn params_in_any_order_with_quotes_and_white_space() {
        let params = Params::new(b"; a = 1 ;lr;;B=\"x;y=\\\"\";c=a=b ");
        let got: Vec<_> = params.map(|p| (p.name, p.value)).collect();
        assert_eq!(
            got,
            [
                (&b"a"[..], Some(&b"1"[..])),
                (b"lr", None),
                (b"B", Some(b"\"x;y=\\\"\"")),
                (b"c", Some(b"a=b")),
            ]
        );
        assert_eq!(&*params.get("b").unwrap().unquoted(), b"x;y=\"");
        assert_eq!(params.value("LR"), Some(&b""[..]));
        assert_eq!(params.value("none"), None);
    }
}
