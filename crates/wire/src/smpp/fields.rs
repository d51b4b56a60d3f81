//! Reading and writing the fields of a body: numbers, C-octet strings, octet strings.

use super::command::Status;
use super::pdu::Rules;

/// A body that is read from the front. Nothing beyond it is ever looked at.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    rules: Rules,
}

impl<'a> Reader<'a> {
    pub fn new(body: &'a [u8], rules: Rules) -> Reader<'a> {
        Reader { rest: body, rules }
    }

    /// One octet; a body that ends before it has a wrong length.
    pub fn octet(&mut self) -> Result<u8, Status> {
        let (first, rest) = self.rest.split_first().ok_or(Status::INVCMDLEN)?;
        self.rest = rest;
        Ok(*first)
    }

    /// Four octets, highest first.
    pub fn long(&mut self) -> Result<u32, Status> {
        let (bytes, rest) = self.rest.split_first_chunk::<4>().ok_or(Status::INVCMDLEN)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*bytes))
    }

    /// A text that ends with NUL, without it. `max` counts the NUL; `fault` is what a longer one is.
    pub fn text(&mut self, max: usize, fault: Status) -> Result<&'a [u8], Status> {
        let max = if self.rules.strict { max } else { max.max(self.rules.longest) };
        let room = self.rest.len().min(max);
        match memchr::memchr(0, &self.rest[..room]) {
            Some(at) => {
                let text = &self.rest[..at];
                self.rest = &self.rest[at + 1..];
                Ok(text)
            }
            // Some peers leave out the NUL of the last field.
            None if self.rest.len() < max && !self.rules.strict && !self.rest.is_empty() => {
                Ok(std::mem::take(&mut self.rest))
            }
            None if self.rest.is_empty() => Err(Status::INVCMDLEN),
            None => Err(fault),
        }
    }

    /// So many octets.
    pub fn octets(&mut self, len: usize, fault: Status) -> Result<&'a [u8], Status> {
        let (octets, rest) = self.rest.split_at_checked(len).ok_or(fault)?;
        self.rest = rest;
        Ok(octets)
    }

    /// Everything left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn rules(&self) -> Rules {
        self.rules
    }
}

/// Appends a text and its NUL; what would end it early is left out.
pub(super) fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend(text.iter().take_while(|b| **b != 0));
    out.push(0);
}
