//! The money of one account: what it may do, without a clock, a lock or a database.

use super::api::Kind;

/// Why money does not move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It would owe more than it may.
    #[error("not enough money")]
    NoFunds,
    /// More would be settled or returned than is reserved, or the amount is negative or too large.
    #[error("the amount does not fit what is reserved")]
    Amount,
}

/// Balance and reservations, in millionths. What is reserved is not in the balance any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purse {
    /// What can be spent; not below `-limit`.
    pub balance: i64,
    /// What is set aside for messages under way.
    pub reserved: i64,
    /// What the account may owe.
    pub limit: i64,
}

impl Purse {
    /// Moves money, or changes nothing. `amount` is not negative, except for a top-up.
    pub fn apply(&mut self, kind: Kind, amount: i64) -> Result<(), Refused> {
        if amount < 0 && kind != Kind::Topup {
            return Err(Refused::Amount);
        }
        let (balance, reserved) = kind.deltas(amount);
        let balance = self.balance.checked_add(balance).ok_or(Refused::Amount)?;
        let reserved = self.reserved.checked_add(reserved).ok_or(Refused::Amount)?;
        if reserved < 0 {
            return Err(Refused::Amount);
        }
        // Money that comes is always welcome, even when the account owes more than it may by now.
        if balance < self.balance && balance < -self.limit {
            return Err(Refused::NoFunds);
        }
        self.balance = balance;
        self.reserved = reserved;
        Ok(())
    }

    /// Takes a movement back that was not written.
    pub fn undo(&mut self, kind: Kind, amount: i64) {
        let (balance, reserved) = kind.deltas(amount);
        self.balance -= balance;
        self.reserved -= reserved;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_is_spent_or_comes_back() {
        let mut purse = Purse { balance: 100, reserved: 0, limit: 0 };
        purse.apply(Kind::Reserve, 60).unwrap();
        assert_eq!(purse.apply(Kind::Reserve, 60), Err(Refused::NoFunds));
        purse.apply(Kind::Settle, 20).unwrap();
        purse.apply(Kind::Return, 40).unwrap();
        assert_eq!(purse, Purse { balance: 80, reserved: 0, limit: 0 });
        assert_eq!(purse.apply(Kind::Settle, 1), Err(Refused::Amount));
        assert_eq!(purse.apply(Kind::Reserve, -1), Err(Refused::Amount));
    }

    #[test]
    fn an_account_owes_at_most_its_limit() {
        let mut purse = Purse { balance: 0, reserved: 0, limit: 50 };
        purse.apply(Kind::Reserve, 50).unwrap();
        assert_eq!(purse.apply(Kind::Reserve, 1), Err(Refused::NoFunds));
        assert_eq!(purse.apply(Kind::Topup, -1), Err(Refused::NoFunds));
        purse.apply(Kind::Topup, 1).unwrap();
    }
}
