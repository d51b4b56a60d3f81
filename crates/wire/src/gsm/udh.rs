//! User data headers (TS 23.040 §9.2.3.24).

use super::alphabet::{Language, Shifts};
use super::parts::Concat;

/// A user data header and what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udh<'a> {
    /// The information elements.
    elements: &'a [u8],
    /// Octets of the header, its length octet included.
    pub len: usize,
    /// The text behind it.
    pub text: &'a [u8],
}

impl<'a> Udh<'a> {
    /// Splits off the header; `None` when it is longer than the data.
    #[must_use]
    pub fn read(data: &'a [u8]) -> Option<Udh<'a>> {
        let (len, rest) = data.split_first()?;
        let (elements, text) = rest.split_at_checked(usize::from(*len))?;
        Some(Udh { elements, len: elements.len() + 1, text })
    }

    /// The information elements: identifier and data. A broken one ends them.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
        let mut rest = self.elements;
        std::iter::from_fn(move || {
            let [id, len, behind @ ..] = rest else { return None };
            let (data, behind) = behind.split_at_checked(usize::from(*len))?;
            rest = behind;
            Some((*id, data))
        })
    }

    /// Which part of a long message this is; the last element of its kind counts. `None` for what is not really in parts.
    #[must_use]
    pub fn concat(&self) -> Option<Concat> {
        let parts = self.iter().filter_map(|(id, data)| match (id, data) {
            (0x00, [reference, total, part]) => {
                Some(Concat { reference: u16::from(*reference), total: *total, part: *part, wide: false })
            }
            (0x08, [high, low, total, part]) => Some(Concat {
                reference: u16::from_be_bytes([*high, *low]),
                total: *total,
                part: *part,
                wide: true,
            }),
            _ => None,
        });
        parts.last().filter(Concat::is_real)
    }

    /// Ports of the applications: destination, source.
    #[must_use]
    pub fn ports(&self) -> Option<(u16, u16)> {
        let ports = self.iter().filter_map(|(id, data)| match (id, data) {
            (0x04, [to, from]) => Some((u16::from(*to), u16::from(*from))),
            (0x05, [t0, t1, f0, f1]) => {
                Some((u16::from_be_bytes([*t0, *t1]), u16::from_be_bytes([*f0, *f1])))
            }
            _ => None,
        });
        ports.last()
    }

    /// National tables in use.
    #[must_use]
    pub fn shifts(&self) -> Shifts {
        let mut shifts = Shifts::default();
        for (id, data) in self.iter() {
            match (id, data) {
                (0x24, [n]) => shifts.single = Language::from_number(*n),
                (0x25, [n]) => shifts.locking = Language::from_number(*n),
                _ => {}
            }
        }
        shifts
    }
}

/// A header with nothing but the part: six octets, or seven with a wide reference.
#[must_use]
pub fn concat_header(c: Concat) -> Vec<u8> {
    let [high, low] = c.reference.to_be_bytes();
    match c.wide {
        true => vec![6, 8, 4, high, low, c.total, c.part],
        false => vec![5, 0, 3, low, c.total, c.part],
    }
}

/// A header with nothing but ports; WAP push goes from 9200 to 2948.
#[must_use]
pub fn ports_header(destination: u16, source: u16) -> Vec<u8> {
    let ([d0, d1], [s0, s1]) = (destination.to_be_bytes(), source.to_be_bytes());
    vec![6, 5, 4, d0, d1, s0, s1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_ports_and_tables_are_found() {
        let c = Concat { reference: 0xab, total: 3, part: 2, wide: false };
        let mut data = concat_header(c);
        data.extend_from_slice(b"text");
        let udh = Udh::read(&data).unwrap();
        assert_eq!((udh.concat(), udh.text, udh.len), (Some(c), &b"text"[..], 6));
        let wide = Concat { reference: 0xabcd, wide: true, ..c };
        assert_eq!(Udh::read(&concat_header(wide)).unwrap().concat(), Some(wide));
        assert_eq!(Udh::read(&ports_header(2948, 9200)).unwrap().ports(), Some((2948, 9200)));
        let national = Udh::read(&[6, 0x24, 1, 3, 0x25, 1, 1]).unwrap().shifts();
        assert_eq!(national, Shifts { locking: Some(Language::Turkish), single: Some(Language::Portuguese) });
    }

    #[test]
    fn broken_headers_do_no_harm() {
        assert_eq!(Udh::read(&[]), None);
        assert_eq!(Udh::read(&[9, 0, 3]), None);
        assert_eq!(Udh::read(&[3, 0, 9, 1]).unwrap().iter().count(), 0);
        for (total, part) in [(1, 1), (3, 0), (3, 4), (0, 0)] {
            assert_eq!(Udh::read(&[5, 0, 3, 1, total, part]).unwrap().concat(), None);
        }
    }
}
