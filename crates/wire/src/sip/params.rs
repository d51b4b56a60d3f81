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
            // Names are short; values may be long, and only at their start can a quoted string begin.
            let text = text.strip_prefix(b";").unwrap_or(text);
            let name_end = scan::find_near2(text, b';', b'=').unwrap_or(text.len());
            let name = trim(&text[..name_end]);
            let mut end = name_end;
            let mut value = None;
            if text.get(name_end) == Some(&b'=') {
                let rest = scan::trim_start(&text[name_end + 1..]);
                let from = text.len() - rest.len();
                let plain = if rest.first() == Some(&b'"') {
                    scan::quoted_end(text, from).unwrap_or(text.len())
                } else {
                    from
                };
                end = scan::find_near(&text[plain..], b';').map_or(text.len(), |len| plain + len);
                value = Some(scan::trim_end(&text[from..end]));
            }
            self.rest = text.get(end + 1..).unwrap_or(&[]);
            if !name.is_empty() {
                return Some(Param { name, value });
            }
        }
        None
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
