//! Optional parameters (SMPP 3.4 §3.2.4, 5.0 §4.8): tag, length, value.

use super::command::{Status, tag};

/// One optional parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// Its tag; see [`tag`].
    pub tag: u16,
    /// Its value.
    pub value: &'a [u8],
}

/// The optional parameters of a PDU in the order they came, whole and in bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tlvs<'a>(&'a [u8]);

impl<'a> Tlvs<'a> {
    /// Checks that `bytes` are whole parameters: stray octets and values that reach beyond the end are
    /// [`Status::INVTLVSTREAM`], and with `lengths` one that we know with a wrong length is [`Status::INVTLVLEN`].
    pub fn read(bytes: &'a [u8], lengths: bool) -> Result<Tlvs<'a>, Status> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (tlv, behind) = split(rest).ok_or(Status::INVTLVSTREAM)?;
            if lengths && tag::lengths(tlv.tag).is_some_and(|l| !l.contains(&tlv.value.len())) {
                return Err(Status::INVTLVLEN);
            }
            rest = behind;
        }
        Ok(Tlvs(bytes))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Tlv<'a>> + use<'a> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (tlv, behind) = split(rest)?;
            rest = behind;
            Some(tlv)
        })
    }

    /// The value of the first with this tag.
    #[must_use]
    pub fn get(&self, tag: u16) -> Option<&'a [u8]> {
        self.iter().find(|t| t.tag == tag).map(|t| t.value)
    }

    /// The value as a number of one to four octets.
    #[must_use]
    pub fn number(&self, tag: u16) -> Option<u32> {
        let value = self.get(tag).filter(|v| (1..=4).contains(&v.len()))?;
        Some(value.iter().fold(0, |n, b| n << 8 | u32::from(*b)))
    }

    /// A text, which should end with NUL and does not always.
    #[must_use]
    pub fn text(&self, tag: u16) -> Option<&'a [u8]> {
        self.get(tag).map(|v| v.split(|b| *b == 0).next().unwrap_or(v))
    }

    /// The bytes, to be sent on.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }
}

fn split(bytes: &[u8]) -> Option<(Tlv<'_>, &[u8])> {
    let [t0, t1, l0, l1, rest @ ..] = bytes else { return None };
    let (value, behind) = rest.split_at_checked(usize::from(u16::from_be_bytes([*l0, *l1])))?;
    Some((Tlv { tag: u16::from_be_bytes([*t0, *t1]), value }, behind))
}

/// Appends a parameter. False, and nothing is written, when the value is longer than 65,535 octets.
pub fn push_tlv(out: &mut Vec<u8>, tag: u16, value: &[u8]) -> bool {
    let Ok(len) = u16::try_from(value.len()) else { return false };
    out.extend_from_slice(&tag.to_be_bytes());
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(value);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_come_back_in_order_with_unknown_ones() {
        let mut bytes = Vec::new();
        push_tlv(&mut bytes, 0x1400, b"template");
        push_tlv(&mut bytes, tag::SAR_MSG_REF_NUM, &[1, 2]);
        push_tlv(&mut bytes, tag::RECEIPTED_MESSAGE_ID, b"abc\0");
        let tlvs = Tlvs::read(&bytes, true).unwrap();
        assert_eq!(tlvs.iter().map(|t| t.tag).collect::<Vec<_>>(), [0x1400, 0x020c, 0x001e]);
        assert_eq!(tlvs.number(tag::SAR_MSG_REF_NUM), Some(0x102));
        assert_eq!(tlvs.text(tag::RECEIPTED_MESSAGE_ID), Some(&b"abc"[..]));
        assert_eq!(tlvs.get(0x9999), None);
        assert_eq!(tlvs.as_bytes(), bytes);
    }

    #[test]
    fn stray_octets_overruns_and_wrong_lengths_have_their_status() {
        assert_eq!(Tlvs::read(&[0, 5, 0], true), Err(Status::INVTLVSTREAM));
        assert_eq!(Tlvs::read(&[0, 5, 0, 2, 1], true), Err(Status::INVTLVSTREAM));
        assert_eq!(Tlvs::read(&[0, 5, 0, 2, 1, 1], true), Err(Status::INVTLVLEN));
        assert!(Tlvs::read(&[0, 5, 0, 2, 1, 1], false).is_ok());
        assert!(!push_tlv(&mut Vec::new(), 1, &vec![0; 65_536]));
    }
}
