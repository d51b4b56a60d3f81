//! Ten per cent of all packets lost, in both directions: calls complete, and nothing happens twice.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use switchroom_testkit::LossyLink;
use switchroom_testkit::peer::header;

use crate::support::{OPEN_REGISTER, PROXY, Setup};
use crate::ua::{Call, Ua};

const CALL: &str = r#"
route[call] {
    xlog("L_NOTICE", "script runs for $rm $ci\n");
    record_route();
    if (!lookup("location")) { t_newtran(); t_reply(404, "Not Found"); exit; }
    route(relay);
}
"#;

/// Sends again with growing pauses until a message comes that `pick` takes (RFC 3261 §17.1.1.2, timer A).
fn until(ua: &mut Ua, text: &str, pick: impl Fn(&str) -> bool) -> String {
    let mut pause = Duration::from_millis(500);
    for _ in 0..7 {
        ua.send(text);
        if let Some(found) = ua.peer.wait_for(pause, &pick) {
            return found;
        }
        pause = (pause * 2).min(Duration::from_secs(4));
    }
    panic!("no answer to {text}");
}

#[test]
fn calls_complete_over_a_link_that_loses_every_tenth_packet() {
    let house = Setup::new(&[PROXY, OPEN_REGISTER, CALL])
        .params("log_level=3\nxlog_level=3\nmodparam(\"tm\", \"fr_timeout\", 20)\nmodparam(\"tm\", \"fr_inv_timeout\", 20)")
        .start();
    let link = LossyLink::start(house.addr, 10, 20_260);
    let mut bob = Ua::new("bob", link.addr());
    let registration = {
        let call = Call::new("bob", "bob");
        // The relay has a port of its own for each phone, so the contact must be that; the server sees it as the source.
        let more = format!("Contact: <{}>;expires=600\r\n", bob.contact());
        bob.request("REGISTER", "sip:127.0.0.1", &call, &more)
    };
    let done = until(&mut bob, &registration, |m| m.starts_with("SIP/2.0 200"));
    let via = header(&done, "Via").unwrap();
    let seen = via.split("rport=").nth(1).unwrap().split(';').next().unwrap().to_owned();
    let mut call = Call::new("bob", "bob");
    call.cseq = 2;
    let more = format!(
        "Contact: <sip:bob@127.0.0.1:{seen}>;expires=600\r\nContact: <{}>;expires=0\r\n",
        bob.contact()
    );
    let registration = bob.request("REGISTER", "sip:127.0.0.1", &call, &more);
    until(&mut bob, &registration, |m| {
        m.starts_with("SIP/2.0 200") && header(m, "CSeq") == Some("2 REGISTER")
    });

    // Bob's application: answers each new INVITE once it is there, repeats its 200 until the ACK, as RFC 3261 §13.3.1.4 asks.
    const CALLS: usize = 12;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (ended, end) = (stop.clone(), stop);
    let answering = std::thread::spawn(move || {
        let mut seen: HashMap<String, String> = HashMap::new();
        let mut open: HashMap<String, (String, Instant)> = HashMap::new();
        while !ended.load(std::sync::atomic::Ordering::Relaxed) {
            if let Some(m) = bob.peer.wait_for(Duration::from_millis(100), |_| true) {
                let id = header(&m, "Call-ID").unwrap().to_owned();
                if m.starts_with("INVITE") {
                    let branch = header(&m, "Via").unwrap().to_owned();
                    let first = seen.entry(id.clone()).or_insert_with(|| branch.clone());
                    assert_eq!(*first, branch, "a second INVITE for the same call");
                    bob.reply(&m, "200 OK");
                    open.insert(id, (m, Instant::now()));
                } else if m.starts_with("ACK") {
                    open.remove(&id);
                } else if m.starts_with("BYE") {
                    bob.reply(&m, "200 OK");
                }
            }
            for (invite, at) in open.values_mut() {
                if at.elapsed() > Duration::from_millis(500) {
                    *at = Instant::now();
                    let invite = invite.clone();
                    bob.reply(&invite, "200 OK");
                }
            }
        }
        seen.len()
    });

    let calling: Vec<_> = (0..CALLS)
        .map(|_| {
            let server = link.addr();
            std::thread::spawn(move || {
                let mut alice = Ua::new("alice", server);
                let call = Call::new("alice", "bob");
                let more = format!("Contact: <{}>\r\n", alice.contact());
                let invite = alice.request("INVITE", &call.to, &call, &more);
                let done = until(&mut alice, &invite, |m| m.starts_with("SIP/2.0 200"));
                let ack = alice.in_dialog("ACK", &call, &done);
                // Whenever the 200 comes again the ACK got lost.
                while alice
                    .peer
                    .wait_for(Duration::from_millis(1200), |m| m.starts_with("SIP/2.0 200"))
                    .is_some()
                {
                    alice.send(&ack);
                }
                let bye = alice.in_dialog("BYE", &call, &done);
                until(&mut alice, &bye, |m| header(m, "CSeq") == Some("2 BYE"));
                call.id
            })
        })
        .collect();
    let ids: Vec<String> = calling.into_iter().map(|t| t.join().unwrap()).collect();
    end.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(answering.join().unwrap(), CALLS);
    let (passed, lost) = link.counts();
    assert!(lost * 20 > passed, "the link lost {lost} of {}", passed + lost);
    for id in ids {
        house.expect_log_times(&format!("script runs for INVITE {id}"), 1);
    }
}
