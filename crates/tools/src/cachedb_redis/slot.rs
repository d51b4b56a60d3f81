//! Which slot of a cluster a key belongs to (redis.io/docs/reference/cluster-spec, "Key distribution model").

/// CRC-16 (XMODEM) of the key, or of what stands between its first braces, modulo the number of slots.
pub fn slot(key: &[u8]) -> u16 {
    let tag = || {
        let open = key.iter().position(|b| *b == b'{')?;
        let length = key[open + 1..].iter().position(|b| *b == b'}')?;
        (length > 0).then(|| &key[open + 1..open + 1 + length])
    };
    crc16(tag().unwrap_or(key)) % 16_384
}

fn crc16(data: &[u8]) -> u16 {
    data.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot(b"{user1000}.following"), slot(b"{user1000}.followers"));
        assert_eq!(slot(b"foo{}{bar}"), crc16(b"foo{}{bar}") % 16_384);
        assert_eq!(slot(b"foo{bar}{zap}"), slot(b"bar"));
    }
}
