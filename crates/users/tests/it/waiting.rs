//! Calls that wait for registrations, in virtual time: the orders in which a registration, its event, a CANCEL, a final
//! reply and the end of a subscription can come, each walked; and phones that are woken by push (RFC 8599).

use crate::support::House;
use switchroom_kernel::ports::store::{SqlValue, StoreError};

const MODULES: &str = r#"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "rr.so"
loadmodule "signaling.so"
loadmodule "sipmsgops.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "event_routing.so"
modparam("usrloc", "use_domain", 0)
"#;

const ENTRY: &str = r#"
route {
    if (is_method("REGISTER")) { save("location"); exit; }
    if (is_method("CANCEL") || is_method("ACK")) { if (t_check_trans()) t_relay(); exit; }
    route(call);
}
"#;

const WAKE: &str = r#"
route[call] {
    t_newtran();
    t_wait_for_new_branches();
    $avp(filter) = "aor=" + $rU;
    notify_on_event("E_UL_CONTACT_INSERT", $avp(filter), "fork_call", 20);
    if (lookup("location")) t_relay();
    exit;
}
route[fork_call] {
    t_inject_branches("event");
}
"#;

const PUSH: &str = r#"
route[call] {
    $var(found) = 0;
    lookup("location");
    $var(found) = $rc;
    if ($var(found) == 2) exit;
    if ($var(found) < 0) { send_reply(404, "Not Found"); exit; }
    t_relay();
}
event_route[E_UL_CONTACT_REFRESH] {
    xlog("push for $param(aor): $param(reason) $param(req_callid)\n");
}
"#;

const PUSH_PARAMS: &str = r#"
modparam("usrloc", "contact_refresh_timer", 1)
modparam("registrar", "pn_enable", 1)
modparam("registrar", "pn_providers", "apns, fcm")
modparam("registrar", "pn_trigger_interval", 120)
"#;

fn no_database(_: &str, _: &[SqlValue]) -> Result<Vec<Vec<SqlValue>>, StoreError> {
    Err(StoreError::Unreachable("test".into()))
}

fn house(routes: &str) -> House {
    House::start(&format!("{MODULES}{ENTRY}{routes}"), no_database)
}

fn push_house() -> House {
    House::start(&format!("{MODULES}{PUSH_PARAMS}{ENTRY}{PUSH}"), no_database)
}

/// A request from the only peer there is.
fn request(method: &str, uri: &str, branch: &str, call: &str, more: &str) -> String {
    let to = if method == "REGISTER" { "sip:bob@example.org" } else { uri };
    let number = if method == "ACK" || method == "CANCEL" { 1 } else { call.len() as u32 % 7 + 1 };
    let number = if method == "REGISTER" { number } else { 1 };
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK{branch}\r\n\
         From: <sip:alice@example.org>;tag=1\r\nTo: <{to}>\r\nCall-ID: {call}\r\nCSeq: {number} {method}\r\n\
         Max-Forwards: 70\r\n{more}Content-Length: 0\r\n\r\n"
    )
}

fn register(phone: &str, params: &str, call: &str) -> String {
    let contact = format!("Contact: <sip:bob@127.0.0.1:{phone}{params}>\r\nExpires: 600\r\n");
    request("REGISTER", "sip:example.org", call, call, &contact)
}

fn invite() -> String {
    request("INVITE", "sip:bob@example.org", "inv", "call", "Contact: <sip:alice@127.0.0.1:5070>\r\n")
}

/// The answer of a phone to a request it got.
fn answer(asked: &str, status: &str) -> String {
    let mut out = format!("SIP/2.0 {status}\r\n");
    for line in asked.lines() {
        let copied =
            ["Via:", "From:", "Call-ID:", "CSeq:", "Record-Route:"].iter().any(|n| line.starts_with(n));
        match line.starts_with("To:") {
            true => out.push_str(&format!("{line};tag=phone\r\n")),
            false if copied => out.push_str(&format!("{line}\r\n")),
            false => {}
        }
    }
    out.push_str("Contact: <sip:bob@127.0.0.1:6000>\r\nContent-Length: 0\r\n\r\n");
    out
}

fn invites(sent: &[String], phone: &str) -> usize {
    sent.iter().filter(|m| m.starts_with(&format!("INVITE sip:bob@127.0.0.1:{phone}"))).count()
}

/// Codes of the final replies to the caller's INVITE, repetitions left out.
fn finals(sent: &[String]) -> Vec<String> {
    let mine = sent.iter().filter(|m| m.starts_with("SIP/2.0 ") && m.contains("CSeq: 1 INVITE"));
    let mut codes: Vec<String> = mine.map(|m| m[8..11].to_owned()).filter(|c| c.as_str() >= "200").collect();
    codes.dedup();
    codes
}

/// What can happen to a call that rings at a desk and waits for a mobile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The mobile registers; the event is raised.
    Register,
    /// The worker does what the event asked of it.
    Deliver,
    /// The caller gives up.
    Cancel,
    /// The desk phone declines.
    Busy,
    /// The desk phone answers.
    Answer,
    /// The subscription's time is over, to the millisecond.
    Expire,
}

fn permutations(steps: &[Step]) -> Vec<Vec<Step>> {
    if steps.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (i, first) in steps.iter().enumerate() {
        let mut rest = steps.to_vec();
        rest.remove(i);
        all.extend(permutations(&rest).into_iter().map(|mut p| {
            p.insert(0, *first);
            p
        }));
    }
    all
}

fn walk(order: &[Step]) {
    let house = house(WAKE);
    let mut sent = house.take(&register("6000", "", "reg-desk"));
    sent = [sent, house.take(&invite())].concat();
    let at_desk = sent.iter().find(|m| m.starts_with("INVITE")).expect("the desk rings").clone();
    sent.extend(house.take(&answer(&at_desk, "180 Ringing")));
    assert_eq!(house.stat("event_routing:subscriptions"), 1);
    let (mut raised, mut over, mut expired, mut joins) = (false, false, false, false);
    for step in order {
        match step {
            Step::Register => {
                raised = !over && !expired;
                house.put(&register("7000", "", "reg-mobile"));
            }
            Step::Deliver => {
                joins |= raised && !over;
                house.deliver_mail();
            }
            Step::Cancel => {
                house.put(&request("CANCEL", "sip:bob@example.org", "inv", "call", ""));
                over = true;
            }
            Step::Busy => house.put(&answer(&at_desk, "486 Busy Here")),
            Step::Answer => {
                house.put(&answer(&at_desk, "200 OK"));
                over = true;
            }
            Step::Expire => {
                house.pass_ms(20_000);
                expired = true;
            }
        }
    }
    // The event was posted in time, but no step delivered it.
    let late = raised && !over && !joins;
    sent.extend(house.settle());
    joins |= late;
    assert_eq!(invites(&sent, "7000"), usize::from(joins), "{order:?}: {sent:#?}");
    for cancel in sent.clone().iter().filter(|m| m.starts_with("CANCEL ")) {
        // The phone that is cancelled: its INVITE has the same Request-URI.
        let line = cancel.lines().next().unwrap_or_default().replacen("CANCEL", "INVITE", 1);
        let asked = sent.iter().find(|i| i.starts_with(&line)).cloned();
        sent.extend(house.take(&answer(cancel, "200 OK")));
        if let Some(asked) = asked {
            sent.extend(house.take(&answer(&asked, "487 Request Terminated")));
        }
    }
    for _ in 0..200 {
        house.pass_ms(1000);
        house.tick();
        sent.extend(house.settle());
    }
    let codes = finals(&sent);
    assert_eq!(codes.len(), 1, "{order:?}: {codes:?}");
    let answered = order.iter().position(|s| *s == Step::Answer);
    let cancelled = order.iter().position(|s| *s == Step::Cancel);
    match (answered, cancelled) {
        (Some(a), Some(c)) if a < c => assert_eq!(codes, ["200"], "{order:?}"),
        (Some(_), None) => assert_eq!(codes, ["200"], "{order:?}"),
        (None, Some(_)) => assert_eq!(codes, ["487"], "{order:?}"),
        // An answer that crosses the CANCEL is still an answer (RFC 3261 §9.1).
        (Some(_), Some(_)) => assert!(codes == ["200"] || codes == ["487"], "{order:?}: {codes:?}"),
        (None, None) => assert!(codes == ["408"] || codes == ["486"], "{order:?}: {codes:?}"),
    }
    assert_eq!(house.stat("event_routing:subscriptions"), 0, "{order:?}");
    assert_eq!(house.stat("tm:inuse_transactions"), 0, "{order:?}");
}

#[test]
fn in_every_order_of_registration_cancel_and_decline_one_reply_ends_the_call() {
    for order in permutations(&[Step::Register, Step::Deliver, Step::Cancel, Step::Busy]) {
        walk(&order);
    }
}

#[test]
fn in_every_order_of_registration_and_answer_no_phone_rings_after_the_answer() {
    for order in permutations(&[Step::Register, Step::Deliver, Step::Answer, Step::Cancel]) {
        walk(&order);
    }
}

#[test]
fn in_every_order_of_registration_and_expiry_a_subscription_hears_nothing_after_its_end() {
    for order in permutations(&[Step::Register, Step::Deliver, Step::Expire, Step::Busy]) {
        walk(&order);
    }
}

#[test]
fn a_registration_before_the_relay_of_the_same_request_rings_once() {
    // The route subscribes, then looks up: what registers in between is in neither too late nor twice.
    let house = house(
        r#"
route[call] {
    t_newtran();
    t_wait_for_new_branches();
    notify_on_event("E_UL_CONTACT_INSERT", "aor=$rU", "fork_call", 20);
    async(wait_for_event("E_GO", "n=1", 10), go_on);
}
route[go_on] {
    if (lookup("location")) t_relay();
}
route[fork_call] {
    if ($avp(qval) == 77) exit;
    t_inject_branches("event");
}
"#,
    );
    let mut sent = house.take(&invite());
    sent.extend(house.take(&register("7000", "", "reg-mobile")));
    assert_eq!(invites(&sent, "7000"), 1, "{sent:#?}");
}

// Push ------------------------------------------------------------------------------------------------------------------

const DEVICE: &str = ";pn-provider=apns;pn-prid=token1;pn-param=TEAM.app.voip";

#[test]
fn a_device_registers_with_push_parameters_and_is_told_of_the_service() {
    let house = push_house();
    let answer = house.one(&register("7000", ";pn-provider", "q1"));
    for service in ["apns", "fcm"] {
        assert!(answer.contains(&format!("Feature-Caps: *;+sip.pns=\"{service}\"\r\n")), "{answer}");
    }
    let answer = house.one(&register("7000", ";pn-provider=acme;pn-prid=x;pn-param=y", "q22"));
    assert!(answer.starts_with("SIP/2.0 555 Push Notification Service Not Supported"), "{answer}");
    let answer = house.one(&register("7000", DEVICE, "q333"));
    assert!(answer.contains("Feature-Caps: *;+sip.pns=\"apns\";+sip.pnsreg=\"130\"\r\n"), "{answer}");
    // From another address, without the old binding being left behind.
    let answer = house.one(&register("7001", DEVICE, "q4444"));
    let contact = answer.lines().find(|l| l.starts_with("Contact:")).unwrap();
    assert!(contact.contains("127.0.0.1:7001") && !contact.contains("127.0.0.1:7000;pn"), "{contact}");
    assert_eq!(contact.matches("token1").count(), 1, "{contact}");
}

#[test]
fn a_sleeping_phone_joins_the_call_when_it_registers() {
    let house = push_house();
    house.take(&register("7000", DEVICE, "r1"));
    let sent = house.take(&invite());
    assert_eq!(sent.iter().filter(|m| m.starts_with("INVITE")).count(), 0, "{sent:#?}");
    assert_eq!(house.stat("registrar:pn_waiting"), 1);
    house.pass_ms(900);
    let sent = house.take(&register("7777", DEVICE, "r22"));
    let asked = sent.iter().find(|m| m.starts_with("INVITE")).expect("it rings");
    assert!(asked.starts_with("INVITE sip:bob@127.0.0.1:7777 SIP/2.0"), "no push parameters in it: {asked}");
    let sent = house.take(&answer(asked, "200 OK"));
    assert_eq!(finals(&sent), ["200"]);
    assert_eq!((house.stat("registrar:pn_waiting"), house.stat("registrar:pn_woken")), (0, 1));
}

#[test]
fn a_message_waits_for_a_sleeping_phone_as_a_call_does() {
    let house = push_house();
    house.take(&register("7000", DEVICE, "r1"));
    let sent = house.take(&request("MESSAGE", "sip:bob@example.org", "msg", "m", ""));
    assert!(sent.is_empty(), "{sent:#?}");
    let sent = house.take(&register("7000", DEVICE, "r22"));
    assert!(sent.iter().any(|m| m.starts_with("MESSAGE sip:bob@127.0.0.1:7000 SIP/2.0")), "{sent:#?}");
}

#[test]
fn a_phone_that_does_not_wake_up_ends_the_wait_with_408() {
    let house = push_house();
    house.take(&register("7000", DEVICE, "r1"));
    let mut sent = house.take(&invite());
    for _ in 0..7 {
        house.pass_ms(1000);
        house.tick();
        sent.extend(house.settle());
    }
    assert_eq!(finals(&sent), ["408"]);
    assert_eq!((house.stat("registrar:pn_waiting"), house.stat("registrar:pn_asleep")), (0, 1));
}

#[test]
fn a_caller_who_gives_up_frees_the_wait_for_a_phone() {
    let house = push_house();
    house.take(&register("7000", DEVICE, "r1"));
    let mut sent = house.take(&invite());
    sent.extend(house.take(&request("CANCEL", "sip:bob@example.org", "inv", "call", "")));
    assert_eq!(finals(&sent), ["487"]);
    assert_eq!(house.stat("registrar:pn_waiting"), 0);
    let sent = house.take(&register("7000", DEVICE, "r22"));
    assert_eq!(invites(&sent, "7000"), 0);
}

#[test]
fn a_desk_phone_rings_at_once_while_the_mobile_is_woken() {
    let house = push_house();
    house.take(&register("6000", "", "desk"));
    house.take(&register("7000", DEVICE, "r1"));
    let mut sent = house.take(&invite());
    assert_eq!(invites(&sent, "6000"), 1);
    let asked = sent.iter().find(|m| m.starts_with("INVITE")).unwrap().clone();
    sent.extend(house.take(&answer(&asked, "486 Busy Here")));
    assert!(finals(&sent).is_empty(), "{sent:#?}");
    sent.extend(house.take(&register("7000", DEVICE, "r22")));
    assert_eq!(invites(&sent, "7000"), 1);
}

#[test]
fn a_binding_of_a_device_is_refreshed_by_push_before_it_ends() {
    let house = push_house();
    house.take(&register("7000", DEVICE, "r1"));
    let mut heard = 0;
    let event = house.kernel.events.find("E_UL_CONTACT_REFRESH").unwrap();
    let ear = std::sync::Arc::new(Heard::default());
    house.kernel.events.subscribe(event, ear.clone());
    for second in 1..=600 {
        house.pass_ms(1000);
        house.run_tasks();
        let now = ear.0.load(std::sync::atomic::Ordering::Relaxed);
        if now > heard {
            assert!((480..=481).contains(&second), "after {second} seconds");
            heard = now;
        }
    }
    assert_eq!(heard, 1, "once for each binding");
}

#[derive(Default)]
struct Heard(std::sync::atomic::AtomicUsize);

impl switchroom_kernel::events::Subscriber for Heard {
    fn event(&self, _: &std::sync::Arc<switchroom_kernel::events::Event>, _: Option<usize>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
    fn describe(&self) -> String {
        "test".into()
    }
}

#[test]
fn a_request_inside_a_dialog_wakes_the_phone_that_its_purr_names() {
    let script = r#"
modparam("registrar", "pn_enable_purr", 1)
route {
    if (is_method("REGISTER")) { save("location"); exit; }
    if (is_method("INVITE")) record_route();
    async(pn_process_purr("location"), go_on);
}
route[go_on] {
    $var(code) = $rc;
    append_to_reply("X-Code: $var(code)\r\n");
    send_reply(202, "Gone on");
}
"#;
    let house = House::start(&format!("{MODULES}{PUSH_PARAMS}{script}"), no_database);
    let answer = house.one(&register("7000", DEVICE, "r1"));
    let purr = answer.split("+sip.pnspurr=\"").nth(1).and_then(|t| t.split('"').next()).unwrap().to_owned();
    let bye = |uri: &str, n: &str| request("BYE", uri, n, n, "");
    let at_once = house.one(&bye("sip:bob@127.0.0.1:7000", "b1"));
    assert!(at_once.contains("X-Code: 2\r\n"), "{at_once}");
    let uri = format!("sip:bob@127.0.0.1:7000;pn-purr={purr}");
    assert!(house.take(&bye(&uri, "b2")).is_empty());
    let sent = house.take(&register("7000", DEVICE, "r22"));
    assert!(sent.iter().any(|m| m.starts_with("SIP/2.0 202") && m.contains("X-Code: 1\r\n")), "{sent:#?}");
    assert!(house.take(&bye(&uri, "b3")).is_empty());
    house.pass_ms(6100);
    let sent = house.settle();
    assert!(sent.iter().any(|m| m.contains("X-Code: -2\r\n")), "{sent:#?}");
}

#[test]
fn push_settings_that_cannot_work_are_refused_at_start() {
    let start = |params: &str| {
        std::panic::catch_unwind(|| {
            drop(House::start(&format!("{MODULES}{params}{ENTRY}{PUSH}"), no_database))
        })
    };
    let error = |params: &str| *start(params).expect_err(params).downcast::<String>().unwrap();
    let enabled = "modparam(\"registrar\", \"pn_enable\", 1)\n";
    assert!(error(enabled).contains("pn_providers names no service"));
    let purr = format!("{PUSH_PARAMS}modparam(\"registrar\", \"pn_enable_purr\", 1)\n");
    assert!(error(&purr).contains("pn_process_purr"));
}
