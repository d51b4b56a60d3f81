//! The module script_helper: dialogs without a line of script.

use crate::support::Setup;
use crate::ua::{Call, Ua};

const CALLS: &str = r#"
route {
    if (is_method("REGISTER")) { save("location"); exit; }
    if (has_totag()) xlog("L_ERR", "the request route saw $rm in a dialog\n");
    if (!lookup("location")) { sl_send_reply(404, "Not Found"); exit; }
    if (!t_relay()) sl_reply_error();
}
route[in_dialog] { xlog("L_ERR", "in dialog: $rm $DLG_status\n"); }
"#;

#[test]
fn requests_in_a_dialog_are_routed_without_the_request_route() {
    let house = Setup::new(&[CALLS])
        .params(
            "loadmodule \"dialog.so\"\nloadmodule \"script_helper.so\"\nmodparam(\"script_helper\", \"use_dialog\", 1)\n\
             modparam(\"script_helper\", \"sequential_route\", \"in_dialog\")",
        )
        .start();
    let (mut alice, mut bob) = (Ua::new("alice", house.addr), Ua::new("bob", house.addr));
    bob.register_here("");
    let (call, _) = alice.invite("bob", "");
    let asked = bob.expect("INVITE");
    assert!(asked.contains("Record-Route:"), "{asked}");
    bob.reply(&asked, "200 OK");
    let done = alice.expect_reply(200, &call);
    alice.in_dialog("ACK", &call, &done);
    bob.expect("ACK");
    alice.in_dialog("BYE", &call, &done);
    let bye = bob.expect("BYE");
    bob.reply(&bye, "200 OK");
    alice.expect_reply(200, &call);
    house.expect_log("in dialog: ACK");
    house.expect_log("in dialog: BYE");
    assert_eq!(house.count_log("the request route saw"), 0);
    // A call that is cancelled, and a request to a dialog that nobody knows.
    let (call, invite) = alice.invite("bob", "");
    let asked = bob.expect("INVITE");
    bob.reply(&asked, "180 Ringing");
    alice.expect_reply(180, &call);
    alice.cancel(&invite);
    let cancel = bob.expect("CANCEL");
    bob.reply(&cancel, "200 OK");
    bob.reply(&asked, "487 Request Terminated");
    alice.expect_reply(487, &call);
    let lost = Call { to_tag: ";tag=gone".into(), ..Call::new("alice", "bob") };
    let text = alice.request("BYE", "sip:bob@127.0.0.1", &lost, "");
    alice.send(text);
    alice.expect_reply(404, &lost);
}
