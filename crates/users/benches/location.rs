//! Cost of the location table: a refresh and a lookup among 1,000 to 1,000,000 users.

#![allow(missing_docs)]

use std::hint::black_box;
use std::time::Instant;

use switchroom_users::usrloc::contact::{Contact, Texts};
use switchroom_users::usrloc::table::Table;

fn main() {
    for users in [1_000u64, 100_000, 1_000_000] {
        let table = Table::new("location", 9);
        let name = |n: u64| format!("u{n:07}@bench.local").into_bytes();
        for n in 0..users {
            let texts = Texts {
                uri: b"sip:user@192.0.2.10:5060",
                user_agent: b"bench",
                call_id: b"0123456789abcdef@192.0.2.10",
                ..Texts::default()
            };
            table.change(&name(n), |r| r.contacts.push(Contact::new(&texts)));
        }
        // The same users in an order that no cache foresees.
        let order: Vec<Vec<u8>> =
            (0..200_000u64).map(|n| name(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % users)).collect();
        let time = |what: &str, mut f: Box<dyn FnMut(&[u8])>| {
            let best = (0..3)
                .map(|_| {
                    let start = Instant::now();
                    order.iter().for_each(|aor| f(aor));
                    start.elapsed().as_nanos() as f64 / order.len() as f64
                })
                .fold(f64::INFINITY, f64::min);
            println!("{what} among {users} users: {best:.0} ns");
        };
        let table = std::sync::Arc::new(table);
        let of = table.clone();
        time(
            "lookup",
            Box::new(move |aor| {
                black_box(of.read(aor, |r| r.map(|r| r.contacts.len())));
            }),
        );
        time(
            "refresh",
            Box::new(move |aor| {
                table.change(aor, |r| {
                    if let Some(c) = r.contacts.first_mut() {
                        c.expires += 1;
                        c.touch();
                    }
                });
            }),
        );
    }
}
