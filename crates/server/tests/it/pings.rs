//! nathelper's pings: who gets which, where they go, and what answers and silence do.

use std::time::{Duration, Instant};

use switchroom_testkit::peer::header;

use crate::support::{House, OPEN_CALL, PROXY, Setup};
use crate::ua::{Call, Ua};

/// What a phone wants stands in a header.
const REGISTER: &str = r#"
route[register] {
    if ($hdr(X-Flags) =~ "nat") setbflag("NAT");
    if ($hdr(X-Flags) =~ "sip") setbflag("SIP");
    if ($hdr(X-Flags) =~ "timed") setbflag("TIMED");
    if ($hdr(X-Flags) =~ "remove") setbflag("REMOVE");
    save("location", "path-off");
}
onreply_route { xlog("L_ERR", "the script saw a reply $rs $rm\n"); }
event_route[E_UL_LATENCY_UPDATE] { xlog("L_ERR", "latency of $param(aor): $param(latency)\n"); }
event_route[E_UL_CONTACT_DELETE] { xlog("L_ERR", "gone: $param(aor)\n"); }
"#;

const PINGS: &str = r#"
loadmodule "nathelper.so"
modparam("usrloc", "nat_bflag", "NAT")
modparam("nathelper", "natping_interval", 1)
modparam("nathelper", "sipping_from", "sip:pinger@example.org")
modparam("nathelper", "sipping_bflag", "SIP")
modparam("nathelper", "sipping_latency_flag", "TIMED")
modparam("nathelper", "remove_on_timeout_bflag", "REMOVE")
modparam("nathelper", "ping_threshold", 1)
modparam("nathelper", "max_pings_lost", 2)
"#;

fn house(more: &str) -> House {
    Setup::new(&[PROXY, REGISTER, OPEN_CALL]).params(PINGS).params(more).start()
}

#[track_caller]
fn register(phone: &mut Ua, flags: &str, more: &str) {
    let text = format!("Contact: <{}>\r\nExpires: 600\r\nX-Flags: {flags}\r\n{more}", phone.contact());
    let user = phone.user.clone();
    let answer = phone.register(&mut Call::new(&user, &user), &text);
    assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
}

#[test]
fn phones_on_udp_get_datagrams_and_marked_ones_sip_requests() {
    let house = house("modparam(\"nathelper\", \"ping_nated_only\", 1)");
    let (mut plain, mut marked) = (Ua::new("plain", house.addr), Ua::new("marked", house.addr));
    let (mut open, mut stream) = (Ua::new("open", house.addr), Ua::tcp("stream", house.addr));
    register(&mut plain, "nat", "");
    register(&mut marked, "nat,sip", "");
    register(&mut open, "sip", "");
    register(&mut stream, "nat,sip", "");
    let started = Instant::now();
    plain.expect("\0\0\0\0");
    let ping = marked.expect("OPTIONS");
    assert!(ping.starts_with(&format!("OPTIONS {} SIP/2.0\r\n", marked.contact())), "{ping}");
    assert!(header(&ping, "From").unwrap().starts_with("<sip:pinger@example.org>;tag="), "{ping}");
    assert_eq!(header(&ping, "To"), Some(&*format!("<{}>", marked.contact())));
    assert_eq!(marked.peer.last_sender(), Some(house.addr));
    marked.reply(&ping, "200 OK");
    // One each in every interval.
    plain.expect("\0\0\0\0");
    assert!(started.elapsed() > Duration::from_millis(900), "{:?}", started.elapsed());
    let again = marked.expect("OPTIONS");
    assert_ne!(header(&ping, "Call-ID"), header(&again, "Call-ID"));
    marked.reply(&again, "404 Not Found");
    // Neither those who are not behind NAT, nor those on streams unless asked for.
    assert!(open.peer.is_quiet(Duration::from_millis(1200)));
    assert!(stream.peer.is_quiet(Duration::from_millis(10)));
    assert_eq!(house.count_log("the script saw a reply"), 0);
    assert_eq!(house.mi_json(&["nathelper:enable_ping"])["Status"], 1);
    assert!(house.mi(&["nh_enable_ping", "0"]).0);
    assert_eq!(house.mi_json(&["nathelper:enable_ping"])["Status"], 0);
    while !plain.peer.is_quiet(Duration::from_millis(300)) {
        plain.expect("\0\0\0\0");
    }
    assert!(plain.peer.is_quiet(Duration::from_millis(1500)), "stopped by command");
    let stats = house.mi_json(&["get_statistics", "nathelper:"]);
    assert!(stats["nathelper:pings_answered"].as_i64() >= Some(2), "{stats}");
}

#[test]
fn streams_are_pinged_on_their_own_connection_when_asked_for() {
    let house = house("modparam(\"nathelper\", \"natping_tcp\", 1)");
    let (mut stream, mut gone) = (Ua::tcp("stream", house.addr), Ua::tcp("gone", house.addr));
    register(&mut stream, "", "");
    register(&mut gone, "", "");
    drop(gone);
    let ping = stream.expect("OPTIONS");
    assert!(header(&ping, "Via").unwrap().starts_with("SIP/2.0/TCP"), "{ping}");
    stream.reply(&ping, "200 OK");
    stream.expect("OPTIONS");
}

#[test]
fn a_ping_follows_the_path_of_the_registration() {
    let house = house("");
    let (mut phone, mut proxy) = (Ua::new("phone", house.addr), Ua::new("proxy", house.addr));
    let path = format!("<sip:{};lr>,<sip:192.0.2.1;lr>", proxy.peer.addr());
    register(&mut phone, "sip", &format!("Path: {path}\r\nSupported: path\r\n"));
    let ping = proxy.expect("OPTIONS");
    assert!(ping.starts_with(&format!("OPTIONS {} SIP/2.0\r\n", phone.contact())), "{ping}");
    assert_eq!(header(&ping, "Route"), Some(&*path));
    assert!(phone.peer.is_quiet(Duration::from_millis(10)));
}

#[test]
fn answers_are_timed_and_lookup_goes_by_the_time() {
    let lookup = r#"
route[call] {
    if (!lookup("location", "sort-by-latency,max-ping-latency=600000")) { t_newtran(); t_reply(404, "Not Found"); exit; }
    xlog("L_ERR", "first: $ru branches: $(msg.branch.uri[*])\n");
    send_reply(486, "Busy Here");
    exit;
}
"#;
    let house = Setup::new(&[PROXY, REGISTER, lookup])
        .params(PINGS)
        .params("modparam(\"usrloc\", \"latency_event_min_us\", 100000)")
        .start();
    let mut phones = [Ua::new("bob", house.addr), Ua::new("bob", house.addr), Ua::new("bob", house.addr)];
    for phone in &mut phones {
        register(phone, "sip,timed", "");
    }
    // All three are pinged at the same time.
    for (phone, wait) in [(1, 0), (0, 200), (2, 500)] {
        let phone = &mut phones[phone];
        let ping = phone.expect("OPTIONS");
        std::thread::sleep(Duration::from_millis(wait));
        phone.reply(&ping, "200 OK");
    }
    house.expect_log("latency of bob@127.0.0.1: ");
    let ask = || {
        let list = house.mi_json(&["ul_show_contact", "location", "bob@127.0.0.1"]);
        let of = |phone: &Ua| {
            let all = list["Contacts"].as_array().unwrap();
            let one = all.iter().find(|c| c["Contact"] == *phone.contact()).unwrap();
            one["Latency"].as_i64().unwrap_or(0)
        };
        phones.iter().map(of).collect::<Vec<_>>()
    };
    let deadline = Instant::now() + Duration::from_secs(5);
    while ask().contains(&0) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let known = ask();
    assert!(known[1] < known[0] && known[0] >= 200_000 && known[2] >= 600_000, "{known:?}");
    let mut alice = Ua::new("alice", house.addr);
    let (_, invite) = alice.invite("bob", "");
    let busy = alice.expect("SIP/2.0 486");
    alice.ack_failure(&invite, &busy);
    let line = house.expect_log("first: ");
    assert!(line.contains(&format!("first: {}", phones[1].contact())), "{line}");
    assert!(line.contains(&phones[0].contact()) && !line.contains(&phones[2].contact()), "{line}");
    // Only the slow ones passed the filter.
    house.expect_log_times("latency of bob", 2);
}

#[test]
fn a_phone_that_answers_no_pings_is_removed_and_others_stay() {
    // So many that the answers of a machine under load still count.
    let house = house(
        "modparam(\"nathelper\", \"sipping_ignore_rpl_codes\", \"408, 480\")\nmodparam(\"nathelper\", \"max_pings_lost\", 4)",
    );
    let (mut live, mut dead) = (Ua::new("live", house.addr), Ua::new("dead", house.addr));
    let (mut fake, mut kept) = (Ua::new("fake", house.addr), Ua::new("kept", house.addr));
    for phone in [&mut live, &mut dead, &mut fake] {
        register(phone, "sip,remove", "");
    }
    register(&mut kept, "sip", "");
    let deadline = Instant::now() + Duration::from_secs(20);
    while house.count_log("gone: ") < 2 && Instant::now() < deadline {
        if let Some(ping) = live.peer.wait_for(Duration::from_millis(20), |m| m.starts_with("OPTIONS")) {
            live.reply(&ping, "200 OK");
        }
        if let Some(ping) = fake.peer.wait_for(Duration::from_millis(20), |m| m.starts_with("OPTIONS")) {
            fake.reply(&ping, "480 Temporarily Unavailable");
        }
    }
    house.expect_log("gone: dead@127.0.0.1");
    house.expect_log("gone: fake@127.0.0.1");
    assert_eq!(house.count_log("gone: "), 2);
    let dump = house.mi(&["ul_dump"]).1;
    assert!(dump.contains("live@") && dump.contains("kept@") && !dump.contains("dead@"), "{dump}");
    let stats = house.mi_json(&["get_statistics", "nathelper:contacts_removed"]);
    assert_eq!(stats["nathelper:contacts_removed"], 2);
}

#[test]
fn wrong_parameters_of_pings_are_told_at_start() {
    for (line, told) in [
        ("modparam(\"nathelper\", \"sipping_from\", \"pinger\")", "is no URI"),
        ("modparam(\"nathelper\", \"sipping_method\", \"INVITE\")", "begins or changes a call"),
        ("modparam(\"nathelper\", \"sipping_ignore_rpl_codes\", \"4xx\")", "is no reply code"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.cfg");
        let text = format!(
            "socket=udp:127.0.0.1:5060\nloadmodule \"usrloc.so\"\nloadmodule \"nathelper.so\"\n\
             modparam(\"nathelper\", \"natping_interval\", 5)\n{line}\nroute {{ exit; }}\n"
        );
        std::fs::write(&file, text).unwrap();
        let run = std::process::Command::new(crate::support::PROGRAM)
            .args(["run", "-f"])
            .arg(&file)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stderr).into_owned() + &String::from_utf8_lossy(&run.stdout);
        assert!(!run.status.success() && said.contains(told), "{said}");
    }
}

#[test]
fn a_source_of_pings_that_is_no_socket_is_told_and_the_own_socket_used() {
    let house = house("modparam(\"nathelper\", \"natping_socket\", \"192.0.2.9:5060\")");
    house.expect_log("natping_socket \"192.0.2.9:5060\" is no socket of this server");
    let mut phone = Ua::new("phone", house.addr);
    register(&mut phone, "", "");
    phone.expect("\0\0\0\0");
    assert_eq!(phone.peer.last_sender(), Some(house.addr));
}
