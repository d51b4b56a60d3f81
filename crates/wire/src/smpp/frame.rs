//! Finding PDUs in a stream (SMPP 5.0 §2.8): TCP keeps no boundaries.

/// Octets of a header.
pub const HEADER: usize = 16;
/// The longest PDU that is accepted unless a connection sets less: a `message_payload` of 65,535 octets and its PDU.
pub const MAX_PDU: usize = 70_000;

/// What the beginning of a buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A whole PDU of this many octets.
    Whole(usize),
    /// At least this many octets in sum are needed.
    Partial(usize),
    /// `command_length` is below 16 or above the limit. Where the next PDU begins is not known: answer `generic_nack` with
    /// [`super::Status::INVCMDLEN`] and this sequence number (0 when it was not received), and close.
    Broken {
        /// Sequence number of the PDU, when its header is there.
        sequence: u32,
    },
}

/// Looks at what was received.
#[must_use]
pub fn next(buffer: &[u8], max: usize) -> Frame {
    let Some(length) = buffer.first_chunk::<4>() else { return Frame::Partial(HEADER) };
    let length = u32::from_be_bytes(*length) as usize;
    if length < HEADER || length > max {
        let sequence = buffer.get(12..16).and_then(|s| s.first_chunk()).map_or(0, |s| u32::from_be_bytes(*s));
        return Frame::Broken { sequence };
    }
    if buffer.len() < length { Frame::Partial(length) } else { Frame::Whole(length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pdus_are_found_whole_partial_and_broken() {
        let mut pdu = vec![0, 0, 0, 16, 0, 0, 0, 0x15, 0, 0, 0, 0, 0, 0, 0, 7];
        assert_eq!(next(&[], MAX_PDU), Frame::Partial(HEADER));
        for n in 4..16 {
            assert_eq!(next(&pdu[..n], MAX_PDU), Frame::Partial(16));
        }
        pdu.push(0);
        assert_eq!(next(&pdu, MAX_PDU), Frame::Whole(16));
        pdu[3] = 15;
        assert_eq!(next(&pdu, MAX_PDU), Frame::Broken { sequence: 7 });
        assert_eq!(next(&pdu[..8], MAX_PDU), Frame::Broken { sequence: 0 });
        assert_eq!(next(&1_000_000u32.to_be_bytes(), MAX_PDU), Frame::Broken { sequence: 0 });
    }
}
