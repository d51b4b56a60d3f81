//! What stands around a call: aliases, domains, accounting, the FIFO, IPv6.

use std::net::UdpSocket;
use std::time::Duration;

use switchroom_testkit::free_port;
use switchroom_testkit::peer::header;

use crate::support::{OPEN_CALL, OPEN_REGISTER, PROXY, Setup};
use crate::ua::{Call, Ua};

const ACCOUNTED: &str = r#"
route[call] {
    if (!is_domain_local("$rd")) { send_reply(403, "Not ours"); exit; }
    record_route();
    do_accounting("db|log", "missed|failed");
    alias_db_lookup("dbaliases");
    if (!lookup("location")) { t_newtran(); t_reply(404, "Not Found"); exit; }
    route(relay);
}
"#;

#[test]
fn aliases_and_domains_lead_to_the_phone_and_the_accounting_tells_what_happened() {
    let setup = Setup::new(&[PROXY, OPEN_REGISTER, ACCOUNTED])
        .params("loadmodule \"acc.so\"\nloadmodule \"domain.so\"\nloadmodule \"alias_db.so\"\nmodparam(\"domain\", \"db_mode\", 1)")
        .database();
    let house = setup.start();
    house.sql(
        "insert into domain (domain) values ('127.0.0.1'); \
         insert into dbaliases (alias_username, alias_domain, username, domain) \
         values ('4711', '127.0.0.1', 'bob', '127.0.0.1')",
    );
    let (good, _, why) = house.mi(&["domain:reload"]);
    assert!(good, "{why}");
    let (mut alice, mut bob) = (Ua::new("alice", house.addr), Ua::new("bob", house.addr));
    bob.register_here("");
    let (answered, _) = alice.invite("4711", "");
    let asked = bob.expect("INVITE");
    bob.reply(&asked, "200 OK");
    let done = alice.expect_reply(200, &answered);
    alice.in_dialog("ACK", &answered, &done);
    bob.expect("ACK");
    let (missed, invite) = alice.invite("4711", "");
    let asked = bob.expect("INVITE");
    bob.reply(&asked, "486 Busy Here");
    bob.expect("ACK");
    let busy = alice.expect_reply(486, &missed);
    alice.ack_failure(&invite, &busy);
    let call = Call { to: "sip:bob@elsewhere.example.com".into(), ..Call::new("alice", "bob") };
    let text = alice.request("OPTIONS", &call.to, &call, "");
    alice.send(text);
    alice.expect_reply(403, &call);
    house.expect_log("ACC: transaction answered");
    let until = std::time::Instant::now() + Duration::from_secs(5);
    let expect = format!("{}|INVITE|200\n{}|INVITE|486", answered.id, missed.id);
    while house.sql("select callid, method, sip_code from acc order by id") != expect {
        assert!(std::time::Instant::now() < until, "{}", house.sql("select * from acc"));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(house.sql("select callid, sip_code from missed_calls"), format!("{}|486", missed.id));
}

#[test]
fn the_fifo_takes_the_same_commands() {
    let house = Setup::new(&[PROXY, OPEN_REGISTER, OPEN_CALL])
        .params("loadmodule \"mi_fifo.so\"\nmodparam(\"mi_fifo\", \"fifo_name\", \"{dir}/fifo\")")
        .start();
    Ua::new("bob", house.addr).register_here("");
    let fifo = house.dir.join("fifo").display().to_string();
    let (status, out, err) = house.server.command(&["mi", "--fifo", &fifo, "usrloc:dump"]);
    assert!(status.success() && out.contains("bob@127.0.0.1"), "{out}{err}");
    let (status, _, err) = house.server.command(&["mi", "--fifo", &fifo, "no_such_thing"]);
    assert!(!status.success() && err.contains("no_such_thing"), "{err}");
}

#[test]
fn ipv6_phones_register_and_are_answered() {
    let Ok(socket) = UdpSocket::bind("[::1]:0") else {
        eprintln!("this machine has no IPv6; nothing to test");
        return;
    };
    let port = free_port();
    let house =
        Setup::new(&[PROXY, OPEN_REGISTER, OPEN_CALL]).params(&format!("socket=udp:[::1]:{port}")).start();
    let own = socket.local_addr().unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let text = format!(
        "REGISTER sip:[::1]:{port} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKv6;rport\r\nMax-Forwards: 70\r\n\
         From: <sip:bob@127.0.0.1>;tag=a\r\nTo: <sip:bob@127.0.0.1>\r\nCall-ID: v6\r\nCSeq: 1 REGISTER\r\n\
         Contact: <sip:bob@{own}>\r\nExpires: 600\r\nContent-Length: 0\r\n\r\n"
    );
    socket.send_to(text.as_bytes(), ("::1", port)).unwrap();
    let mut buf = [0; 2000];
    let n = socket.recv(&mut buf).unwrap();
    let reply = String::from_utf8_lossy(&buf[..n]).into_owned();
    assert!(reply.starts_with("SIP/2.0 200") && reply.contains(&own.to_string()), "{reply}");
    // A phone of the old world calls it: the request changes its address family on the way.
    let mut alice = Ua::new("alice", house.addr);
    let (call, _) = alice.invite("bob", "");
    let n = socket.recv(&mut buf).unwrap();
    let asked = String::from_utf8_lossy(&buf[..n]).into_owned();
    assert!(asked.starts_with("INVITE") && header(&asked, "Via").unwrap().contains("[::1]"), "{asked}");
    let answer = switchroom_testkit::peer::response(&asked, "486 Busy Here", "t", "");
    socket.send_to(answer.as_bytes(), ("::1", port)).unwrap();
    alice.expect_reply(486, &call);
}
