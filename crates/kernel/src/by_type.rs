//! Maps from a type to what is kept of it, for what modules keep per process and per worker: looked up for every message.

use std::any::TypeId;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map with types as keys.
pub type ByType<T> = HashMap<TypeId, T, BuildHasherDefault<Already>>;

/// A type's identity is a good hash already.
#[derive(Clone, Copy, Debug, Default)]
pub struct Already(u64);

impl Hasher for Already {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Not what a TypeId calls, but any bytes must give some hash.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_its_own() {
        let mut map = ByType::default();
        map.insert(TypeId::of::<u8>(), 8);
        map.insert(TypeId::of::<u16>(), 16);
        map.insert(TypeId::of::<str>(), 0);
        assert_eq!((map.get(&TypeId::of::<u16>()), map.get(&TypeId::of::<i8>())), (Some(&16), None));
    }
}
