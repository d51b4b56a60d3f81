//! Random numbers for scripts: good enough to spread load and to name things, not for secrets.

use std::cell::Cell;
use std::hash::BuildHasher;

thread_local! {
    static STATE: Cell<u64> = Cell::new(seed());
}

/// 64 random bits (xorshift, seeded by the operating system once per thread).
pub fn bits() -> u64 {
    STATE.with(|state| {
        let mut x = state.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        state.set(x);
        x.wrapping_mul(0x2545_f491_4f6c_dd1d)
    })
}

/// A number from 0 to `end` - 1; 0 when `end` is 0.
pub fn below(end: u64) -> u64 {
    if end == 0 { 0 } else { bits() % end }
}

/// The standard library's hash keys come from the operating system; hashing with two of them gives a seed without a
/// library for it. Or-ing 1 keeps the generator off its fixed point.
fn seed() -> u64 {
    let one = std::hash::RandomState::new().hash_one(0x5377_6974_6368_u64);
    let two = std::hash::RandomState::new().hash_one(std::thread::current().id());
    (one ^ two.rotate_left(32)) | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_below_their_end_and_differ() {
        assert!((0..1000).all(|_| below(7) < 7));
        assert_eq!(below(0), 0);
        assert_ne!(bits(), bits());
    }
}
