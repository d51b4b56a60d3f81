//! Which messages belong together (RFC 3261 §17.2.3, §9.2, §8.2.2.2) and the table of transactions.

use bytes::Bytes;
use proptest::prelude::*;
use std::collections::HashMap;
use switchroom_engine::transaction::{BranchId, Id, Table, key};
use switchroom_wire::sip::Message;

fn request(method: &str, via: &str, to_tag: &str) -> Message {
    let raw = format!(
        "{method} sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP {via}\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>{to_tag}\r\n\
         Call-ID: c\r\nCSeq: 1 {method}\r\n\r\n"
    );
    Message::parse(Bytes::from(raw)).unwrap()
}

#[test]
fn new_branches_match_by_branch_sent_by_and_method() {
    let key = |method: &str, via: &str| key::server(&request(method, via, "")).unwrap();
    let invite = key("INVITE", "P1:5060;branch=z9hG4bKabc");
    assert_eq!(invite, key("INVITE", "p1;branch=z9hg4bkABC;x=y"));
    assert_eq!(invite, key("ACK", "p1;branch=z9hG4bKabc"));
    for other in ["p2;branch=z9hG4bKabc", "p1:5061;branch=z9hG4bKabc", "p1;branch=z9hG4bKabd"] {
        assert_ne!(invite, key("INVITE", other));
    }
    assert_ne!(invite, key("CANCEL", "p1;branch=z9hG4bKabc"));
    assert_ne!(invite, key("INFO", "p1;branch=z9hG4bKabc"));
    let cancel = request("CANCEL", "p1;branch=z9hG4bKabc", "");
    assert_eq!(key::cancelled(&cancel).unwrap(), invite);
}

#[test]
fn old_peers_match_by_the_headers_of_the_request() {
    let invite = key::server(&request("INVITE", "p1;branch=1", "")).unwrap();
    assert_eq!(invite, key::server(&request("ACK", "p1;branch=1", ";tag=9")).unwrap());
    assert_eq!(invite, key::cancelled(&request("CANCEL", "p1;branch=1", "")).unwrap());
    assert_ne!(invite, key::server(&request("INVITE", "p1", "")).unwrap());
}

#[test]
fn a_request_that_came_two_ways_is_merged() {
    let first = request("INVITE", "p1;branch=z9hG4bK1", "");
    let second = request("INVITE", "p2;branch=z9hG4bK2", "");
    assert_eq!(key::merged(&first), key::merged(&second));
    assert_eq!(key::merged(&request("INVITE", "p2;branch=z9hG4bK2", ";tag=1")), None);
    assert_eq!(key::merged(&request("ACK", "p2", "")), None);
    assert_eq!(key::loop_number(&first), key::loop_number(&second));
    let mut table = Table::new(4, 42);
    let id = table.insert(&key::server(&first).unwrap(), key::merged(&first).as_deref(), 0, ()).unwrap();
    let merge = key::merged(&second).unwrap();
    assert!(table.is_merged(&merge, None) && !table.is_merged(&merge, Some(id)));
    table.remove(id);
    assert!(!table.is_merged(&merge, None));
}

#[test]
fn a_request_that_returns_unchanged_is_a_loop_and_a_changed_one_a_spiral() {
    let number = key::loop_number(&request("INVITE", "p1;branch=z9hG4bK1", ""));
    let branch =
        |loop_number| BranchId { shard: 1, slot: 2, generation: 3, nonce: 4, loop_number, branch: 0 };
    let via = |b: BranchId| {
        let text = String::from_utf8(b.encode().to_vec()).unwrap();
        format!("p2;branch=z9hG4bK2, SIP/2.0/UDP us;branch={text}")
    };
    let ours = |v: &switchroom_wire::sip::Via<'_>| v.host == b"us";
    assert!(key::is_loop(&request("INVITE", &via(branch(number)), ""), ours));
    assert!(!key::is_loop(&request("INVITE", &via(branch(number ^ 1)), ""), ours));
    assert!(!key::is_loop(&request("INVITE", &via(branch(number)), ""), |_| false));
}

#[test]
fn a_full_table_refuses_and_old_ids_find_nothing() {
    let mut table = Table::new(1, 42);
    let id = table.insert(b"k", None, 7, "a").unwrap();
    assert_eq!(table.insert(b"l", None, 7, "b"), None);
    assert_eq!(table.remove(id), Some("a"));
    let again = table.insert(b"l", None, 7, "b").unwrap();
    assert_eq!((again.slot, table.get(id), table.get(again)), (id.slot, None, Some(&"b")));
    let branch = |id: Id, nonce| BranchId {
        shard: 0,
        slot: id.slot,
        generation: id.generation,
        nonce,
        loop_number: 0,
        branch: 0,
    };
    assert_eq!(table.find_branch(&branch(again, 7)), Some(again));
    assert_eq!(table.find_branch(&branch(again, 8)), None);
    assert_eq!(table.find_branch(&branch(id, 7)), None);
}

proptest! {
    #[test]
    fn branches_come_back_from_their_text(
        shard: u16, slot: u32, generation: u32, nonce: u32, loop_number: u32, branch: u16, noise in ".{0,60}"
    ) {
        let id = BranchId { shard, slot, generation, nonce, loop_number, branch };
        prop_assert_eq!(BranchId::decode(&id.encode()), Some(id));
        prop_assert_eq!(BranchId::decode(noise.as_bytes()), None);
        let mut reply = b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=".to_vec();
        prop_assert_eq!(BranchId::shard_of_reply(&reply), None);
        reply.extend_from_slice(&id.encode());
        prop_assert_eq!(BranchId::shard_of_reply(&reply), Some(shard));
    }

    #[test]
    fn the_table_behaves_like_a_map(steps in prop::collection::vec((any::<bool>(), 0u8..20), 1..200)) {
        let mut table = Table::new(12, 42);
        let mut model: HashMap<u8, Id> = HashMap::new();
        for (add, k) in steps {
            match model.get(&k).copied() {
                None if add => {
                    let expect = table.next_id();
                    let got = table.insert(&[k], Some(&[k % 4]), u32::from(k), k);
                    prop_assert_eq!(got, (model.len() < 12).then_some(expect));
                    if let Some(id) = got {
                        model.insert(k, id);
                    }
                }
                Some(id) if !add => {
                    prop_assert_eq!(table.remove(id), Some(k));
                    prop_assert_eq!(table.remove(id), None);
                    model.remove(&k);
                }
                _ => {}
            }
            prop_assert_eq!(table.len(), model.len());
            for k in 0..20u8 {
                prop_assert_eq!(table.find_key(&[k]), model.get(&k).copied());
            }
            for m in 0..4u8 {
                prop_assert_eq!(table.is_merged(&[m], None), model.keys().any(|k| k % 4 == m));
            }
        }
    }
}
