//! The registration flows of RFC 3665 §2, with digest authentication against SQLite.

use switchroom_testkit::peer::{header, headers};

use crate::support::{DIGEST_REGISTER, House, OPEN_CALL, PROXY, Setup};
use crate::ua::{Call, Ua, challenge_param, credentials};

fn house() -> House {
    Setup::new(&[PROXY, DIGEST_REGISTER, OPEN_CALL]).user("bob", "zanzibar").start()
}

/// REGISTER, 401, REGISTER with credentials; gives the last answer.
#[track_caller]
fn register(ua: &mut Ua, call: &mut Call, more: &str, password: &str) -> String {
    let challenge = ua.register(call, more);
    assert!(challenge.starts_with("SIP/2.0 401"), "{challenge}");
    let user = ua.user.clone();
    let answer = credentials(&challenge, &user, password, "REGISTER", "sip:127.0.0.1", 1);
    ua.register(call, &format!("{more}{answer}"))
}

#[test]
fn rfc3665_2_1_a_new_registration_is_challenged_and_taken() {
    let house = house();
    let mut bob = Ua::new("bob", house.addr);
    let mut call = Call::new("bob", "bob");
    let contact = format!("Contact: <{}>\r\n", bob.contact());
    let challenge = bob.register(&mut call, &contact);
    assert!(challenge.starts_with("SIP/2.0 401 Unauthorized\r\n"), "{challenge}");
    let asked = header(&challenge, "WWW-Authenticate").unwrap();
    assert_eq!(challenge_param(asked, "realm").as_deref(), Some("127.0.0.1"));
    assert_eq!(challenge_param(asked, "qop").as_deref(), Some("auth"));
    assert!(header(&challenge, "To").unwrap().contains(";tag="), "{challenge}");
    let answer = credentials(&challenge, "bob", "zanzibar", "REGISTER", "sip:127.0.0.1", 1);
    let done = bob.register(&mut call, &format!("{contact}{answer}"));
    assert!(done.starts_with("SIP/2.0 200 OK\r\n"), "{done}");
    assert_eq!(header(&done, "CSeq"), Some("2 REGISTER"));
    let bound = header(&done, "Contact").unwrap();
    assert!(bound.contains(&bob.contact()) && bound.contains(";expires=3600"), "{done}");
}

#[test]
fn rfc3665_2_2_the_contact_list_is_updated() {
    let house = house();
    let mut bob = Ua::new("bob", house.addr);
    let mut call = Call::new("bob", "bob");
    let first = format!("Contact: <{}>;q=0.5\r\nExpires: 600\r\n", bob.contact());
    register(&mut bob, &mut call, &first, "zanzibar");
    let done = register(&mut bob, &mut call, "Contact: mailto:bob@biloxi.example.com\r\n", "zanzibar");
    assert!(done.starts_with("SIP/2.0 200"), "{done}");
    let all: String = headers(&done, "Contact").collect::<Vec<_>>().join(",");
    assert!(all.contains("mailto:bob@biloxi.example.com") && all.contains(&bob.contact()), "{done}");
    assert!(all.contains("q=0.5"), "{done}");
}

#[test]
fn rfc3665_2_3_a_register_without_contact_asks_for_the_list() {
    let house = house();
    let mut bob = Ua::new("bob", house.addr);
    let mut call = Call::new("bob", "bob");
    let empty = register(&mut bob, &mut call, "", "zanzibar");
    assert!(empty.starts_with("SIP/2.0 200"), "{empty}");
    assert_eq!(header(&empty, "Contact"), None, "{empty}");
    let contact = format!("Contact: <{}>\r\nExpires: 600\r\n", bob.contact());
    register(&mut bob, &mut call, &contact, "zanzibar");
    let list = register(&mut bob, &mut call, "", "zanzibar");
    assert!(header(&list, "Contact").unwrap().contains(&bob.contact()), "{list}");
}

#[test]
fn rfc3665_2_4_a_star_with_expires_0_cancels_all_bindings() {
    let house = house();
    let mut bob = Ua::new("bob", house.addr);
    let mut call = Call::new("bob", "bob");
    for contact in [bob.contact(), "sip:bob@192.0.2.9".to_owned()] {
        let done = register(&mut bob, &mut call, &format!("Contact: <{contact}>\r\n"), "zanzibar");
        assert!(done.starts_with("SIP/2.0 200"), "{done}");
    }
    let done = register(&mut bob, &mut call, "Contact: *\r\nExpires: 0\r\n", "zanzibar");
    assert!(done.starts_with("SIP/2.0 200"), "{done}");
    assert_eq!(header(&done, "Contact"), None, "{done}");
    let list = register(&mut bob, &mut call, "", "zanzibar");
    assert_eq!(header(&list, "Contact"), None, "{list}");
    // A star with another expiry is an error (RFC 3261 §10.3 step 6).
    let bad = register(&mut bob, &mut call, "Contact: *\r\nExpires: 60\r\n", "zanzibar");
    assert!(bad.starts_with("SIP/2.0 400"), "{bad}");
}

#[test]
fn rfc3665_2_5_a_wrong_password_is_challenged_again_and_binds_nothing() {
    let house = house();
    let mut bob = Ua::new("bob", house.addr);
    let mut call = Call::new("bob", "bob");
    let contact = format!("Contact: <{}>\r\n", bob.contact());
    let again = register(&mut bob, &mut call, &contact, "wrong");
    assert!(again.starts_with("SIP/2.0 401"), "{again}");
    assert!(header(&again, "WWW-Authenticate").is_some(), "{again}");
    let list = register(&mut bob, &mut call, "", "zanzibar");
    assert_eq!(header(&list, "Contact"), None, "{list}");
}

#[test]
fn a_binding_is_removed_by_expires_0_and_by_time() {
    let house = Setup::new(&[PROXY, crate::support::OPEN_REGISTER, OPEN_CALL]).start();
    let mut bob = Ua::new("bob", house.addr);
    let mut call = Call::new("bob", "bob");
    let contact = format!("Contact: <{}>;expires=1\r\n", bob.contact());
    assert!(header(&bob.register(&mut call, &contact), "Contact").unwrap().contains("expires=1"));
    let other = "Contact: <sip:bob@192.0.2.9>;expires=600\r\n";
    bob.register(&mut call, other);
    let gone = bob.register(&mut call, "Contact: <sip:bob@192.0.2.9>;expires=0\r\n");
    assert!(!gone.contains("192.0.2.9"), "{gone}");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(4);
    while header(&bob.register(&mut call, ""), "Contact").is_some() {
        assert!(std::time::Instant::now() < until, "the binding did not expire");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[test]
fn an_old_cseq_of_the_same_call_changes_nothing() {
    let house = Setup::new(&[PROXY, crate::support::OPEN_REGISTER, OPEN_CALL]).start();
    let mut bob = Ua::new("bob", house.addr);
    let mut call = Call::new("bob", "bob");
    call.cseq = 10;
    let contact = format!("Contact: <{}>;expires=600\r\n", bob.contact());
    assert!(bob.register(&mut call, &contact).starts_with("SIP/2.0 200"));
    call.cseq = 3;
    let late = bob.register(&mut call, &contact.replace("600", "0"));
    assert!(late.starts_with("SIP/2.0 4") || late.starts_with("SIP/2.0 5"), "{late}");
    let list = bob.register(&mut Call::new("bob", "bob"), "");
    assert!(list.contains(&bob.contact()), "{list}");
}
