//! The order in which SRV targets are tried (RFC 2782): by priority, among equals by weighted chance.

use std::hash::{BuildHasher, RandomState};

use switchroom_kernel::ports::net::SrvRecord;

/// Chance, seeded by the system. Good enough to share load, not for secrets.
pub struct Dice(u64);

impl Dice {
    pub fn new() -> Dice {
        Dice(RandomState::new().hash_one(0u8))
    }

    /// A number from 0 to `top`, inclusive (splitmix64).
    fn throw(&mut self, top: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % (top + 1)
    }
}

/// Sorts as RFC 2782 describes under "Weight".
pub fn by_priority_and_weight(mut records: Vec<SrvRecord>, dice: &mut Dice) -> Vec<SrvRecord> {
    // Weight 0 first, so that it has its very small chance.
    records.sort_by_key(|r| (r.priority, r.weight != 0));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(priority) = records.first().map(|r| r.priority) {
        let same = records.iter().take_while(|r| r.priority == priority).count();
        let total: u64 = records[..same].iter().map(|r| u64::from(r.weight)).sum();
        let chosen = dice.throw(total);
        let mut running = 0;
        let at = records[..same].iter().position(|r| {
            running += u64::from(r.weight);
            running >= chosen
        });
        ordered.push(records.remove(at.unwrap_or(0)));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(priority: u16, weight: u16) -> SrvRecord {
        SrvRecord { priority, weight, port: 5060, target: format!("{priority}-{weight}") }
    }

    #[test]
    fn lower_priority_comes_first_and_weight_decides_the_share() {
        let records = vec![record(20, 0), record(10, 90), record(10, 10), record(5, 0)];
        let mut dice = Dice(1);
        let mut heavy_first = 0;
        for _ in 0..1000 {
            let ordered = by_priority_and_weight(records.clone(), &mut dice);
            assert_eq!(ordered.len(), 4);
            assert_eq!((ordered[0].priority, ordered[3].priority), (5, 20));
            heavy_first += usize::from(ordered[1].weight == 90);
        }
        assert!((850..950).contains(&heavy_first), "{heavy_first}");
    }
}
