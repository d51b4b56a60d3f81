//! Scripts in, outcome out: authentication, aliases, domains and message editing through the whole house.

use crate::support::House;
use switchroom_kernel::commands;
use switchroom_kernel::open::block_on;
use switchroom_kernel::ports::store::{SqlValue, StoreError};
use switchroom_wire::sip::digest::{Algorithm, Challenge, Client, ha1};

const MODULES: &str = r#"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "signaling.so"
loadmodule "sipmsgops.so"
loadmodule "textops.so"
"#;

const AUTH: &str = r#"
loadmodule "auth.so"
loadmodule "auth_db.so"
modparam("auth_db", "load_credentials", "$avp(nick)=nickname")
route {
    $var(code) = -9;
    if (!www_authorize("", "subscriber")) {
        $var(code) = $rc;
        append_to_reply("X-Code: $var(code)\r\n");
        if ($var(code) == -5) {
            send_reply(500, "Broken");
            exit;
        }
        www_challenge("", "auth", "SHA-256,MD5");
        exit;
    }
    consume_credentials();
    append_to_reply("X-Nick: $avp(nick)\r\n");
    send_reply(200, "OK");
}
"#;

/// alice has the password "secret"; bob has no SHA-256 hash; the database does not answer for carol.
fn subscribers(sql: &str, args: &[SqlValue]) -> Result<Vec<Vec<SqlValue>>, StoreError> {
    assert!(sql.contains(", nickname FROM subscriber WHERE username = ? AND domain = ?"), "{sql}");
    let algorithm = if sql.contains("ha1_sha256") { Algorithm::Sha256 } else { Algorithm::Md5 };
    let user = args[0].to_text().unwrap();
    assert_eq!(args[1], SqlValue::from("example.org"));
    let hash = ha1(algorithm, user.as_bytes(), b"example.org", b"secret");
    let hash = SqlValue::from(hash.as_bytes());
    match (user.as_str(), algorithm) {
        ("alice", _) | ("bob", Algorithm::Md5) => Ok(vec![vec![hash, SqlValue::from("nick")]]),
        ("bob", _) => Ok(vec![vec![SqlValue::Null, SqlValue::Null]]),
        ("carol", _) => Err(StoreError::Busy("test".into())),
        _ => Ok(Vec::new()),
    }
}

fn no_database(_: &str, _: &[SqlValue]) -> Result<Vec<Vec<SqlValue>>, StoreError> {
    Err(StoreError::Unreachable("test".into()))
}

fn register(number: u32, more: &str) -> String {
    format!(
        "REGISTER sip:example.org SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK{number}\r\n\
         From: <sip:alice@example.org>;tag=1\r\nTo: <sip:alice@example.org>\r\nCall-ID: c{number}\r\n\
         CSeq: {number} REGISTER\r\nMax-Forwards: 70\r\n{more}Content-Length: 0\r\n\r\n"
    )
}

/// The value of a header of a sent message.
fn header<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    message.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": "))
}

struct Phone {
    user: &'static str,
    password: &'static str,
    algorithm: Algorithm,
}

const ALICE: Phone = Phone { user: "alice", password: "secret", algorithm: Algorithm::Sha256 };

impl Phone {
    /// The Authorization line for the challenge of its algorithm in a 401.
    fn answer(&self, unauthorized: &str, count: u32) -> String {
        let all = unauthorized.lines().filter_map(|l| l.strip_prefix("WWW-Authenticate: "));
        let mut all = all.map(|v| Challenge::parse(v.as_bytes()).unwrap());
        let challenge = all.find(|c| c.algorithm == self.algorithm).unwrap();
        let secret = ha1(self.algorithm, self.user.as_bytes(), &challenge.realm, self.password.as_bytes());
        let client = Client {
            username: self.user.as_bytes(),
            ha1: secret.as_bytes(),
            cnonce: b"x",
            nonce_count: count,
            method: b"REGISTER",
            uri: b"sip:example.org",
            body: b"",
        };
        let mut line = b"Authorization: ".to_vec();
        challenge.answer(&client, &mut line);
        line.extend_from_slice(b"\r\n");
        String::from_utf8(line).unwrap()
    }
}

#[track_caller]
fn code(reply: &str, status: &str, code: Option<&str>) {
    assert!(reply.starts_with(&format!("SIP/2.0 {status}")), "{reply}");
    assert_eq!(header(reply, "X-Code"), code, "{reply}");
}

#[test]
fn a_user_of_the_table_gets_in_with_each_algorithm() {
    let house = House::start(&format!("{MODULES}{AUTH}"), subscribers);
    let first = house.one(&register(1, ""));
    code(&first, "401 Unauthorized", Some("-4"));
    let offers: Vec<&str> = first.lines().filter(|l| l.starts_with("WWW-Authenticate")).collect();
    assert!(offers.len() == 2 && offers[0].contains("SHA-256") && offers[1].contains("MD5"), "{first}");
    assert!(offers[0].contains("realm=\"example.org\"") && !first.contains("stale"));
    for (number, algorithm) in [(2, Algorithm::Sha256), (3, Algorithm::Md5)] {
        let challenge = house.one(&register(number * 10, ""));
        let phone = Phone { algorithm, ..ALICE };
        let reply = house.one(&register(number, &phone.answer(&challenge, 1)));
        code(&reply, "200 OK", None);
        assert_eq!(header(&reply, "X-Nick"), Some("nick"));
    }
}

#[test]
fn wrong_passwords_unknown_users_and_a_silent_database_have_their_codes() {
    let house = House::start(&format!("{MODULES}{AUTH}"), subscribers);
    let challenge = house.one(&register(1, ""));
    let cases = [
        (Phone { password: "guess", ..ALICE }, "401", "-2"),
        (Phone { user: "nobody", ..ALICE }, "401", "-1"),
        (Phone { user: "bob", ..ALICE }, "401", "-2"),
        (Phone { user: "carol", ..ALICE }, "500", "-5"),
    ];
    for (number, (phone, status, expected)) in cases.iter().enumerate() {
        let reply = house.one(&register(number as u32 + 2, &phone.answer(&challenge, 1)));
        code(&reply, status, Some(expected));
        assert!(!reply.contains("stale=true"));
    }
    // None of these used the nonce up.
    code(&house.one(&register(9, &ALICE.answer(&challenge, 1))), "200", None);
}

#[test]
fn an_old_nonce_is_challenged_again_as_stale() {
    let house = House::start(&format!("{MODULES}{AUTH}"), subscribers);
    let challenge = house.one(&register(1, ""));
    house.pass(31);
    let stale = house.one(&register(2, &ALICE.answer(&challenge, 1)));
    code(&stale, "401", Some("-3"));
    assert!(stale.contains("stale=true"), "{stale}");
    code(&house.one(&register(3, &ALICE.answer(&stale, 1))), "200", None);
}

#[test]
fn a_replay_is_challenged_again_and_the_next_count_is_not() {
    let house = House::start(&format!("{MODULES}{AUTH}"), subscribers);
    let challenge = house.one(&register(1, ""));
    let line = ALICE.answer(&challenge, 1);
    code(&house.one(&register(2, &line)), "200", None);
    let replayed = house.one(&register(3, &line));
    code(&replayed, "401", Some("-3"));
    assert!(replayed.contains("stale=true"));
    code(&house.one(&register(4, &ALICE.answer(&challenge, 2))), "200", None);
}

#[test]
fn a_retransmission_of_an_authenticated_request_is_no_replay() {
    let house = House::start(&format!("{MODULES}{AUTH}"), subscribers);
    let challenge = house.one(&register(1, ""));
    let request = register(2, &ALICE.answer(&challenge, 1));
    let first = house.one(&request);
    code(&first, "200", None);
    assert_eq!(house.one(&request), first);
}

#[test]
fn checked_credentials_stay_here_and_others_travel_on() {
    let script = format!(
        r#"{MODULES}
        loadmodule "auth.so"
        modparam("auth", "username_spec", "$avp(user)")
        modparam("auth", "password_spec", "$avp(password)")
        modparam("auth", "calculate_ha1", 1)
        modparam("auth", "rpid_prefix", "<")
        modparam("auth", "rpid_suffix", ">;party=calling")
        route {{
            $avp(user) = "alice";
            $avp(password) = "secret";
            $avp(rpid) = "sip:+4312345@example.org";
            if (!pv_www_authorize("example.org")) {{
                www_challenge("example.org", "auth,auth-int");
                exit;
            }}
            if (consume_credentials() && is_rpid_user_e164())
                append_rpid_hf();
            $du = "sip:127.0.0.1:5090";
            t_relay();
        }}"#
    );
    let house = House::start(&script, no_database);
    let challenge = house.one(&register(1, ""));
    assert!(challenge.contains("qop=\"auth,auth-int\""), "{challenge}");
    let phone = Phone { algorithm: Algorithm::Md5, ..ALICE };
    let foreign = phone.answer(&challenge, 1).replace("example.org\", nonce", "else.org\", nonce");
    let sent = house.one(&register(2, &(foreign.clone() + &phone.answer(&challenge, 1))));
    assert!(sent.starts_with("REGISTER ") && sent.contains(foreign.trim_end()), "{sent}");
    assert_eq!(sent.matches("Authorization").count(), 1, "{sent}");
    assert_eq!(header(&sent, "Remote-Party-ID"), Some("<sip:+4312345@example.org>;party=calling"));
}

#[test]
fn a_nonce_of_another_server_is_stale() {
    let house = House::start(&format!("{MODULES}{AUTH}"), subscribers);
    let other = House::start(&format!("{MODULES}{AUTH}"), subscribers);
    let challenge = other.one(&register(1, ""));
    code(&house.one(&register(2, &ALICE.answer(&challenge, 1))), "401", Some("-3"));
}

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\n\
    m=audio 4000 RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=sendonly\r\n\
    m=video 4002 RTP/AVP 115\r\n";

fn invite(uri: &str, more: &str) -> String {
    format!(
        "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK1\r\n\
         From: \"A\" <sip:alice@a.org>;tag=1\r\nTo: <sip:bob@b.org>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\n\
         Contact: <sip:alice@127.0.0.1:5070>\r\nSupported: 100rel, path, timer\r\n{more}Content-Type: application/sdp\r\n\
         Content-Length: {}\r\n\r\n{SDP}",
        SDP.len()
    )
}

/// What an INVITE looks like behind `statements`.
#[track_caller]
fn relayed(statements: &str) -> String {
    let script = format!("{MODULES}route {{ {statements}\n $du = \"sip:127.0.0.1:5090\"; t_relay(); }}");
    House::start(&script, no_database).one(&invite("sip:0049123@b.org", "X-A: 1\r\nX-B: 2\r\n"))
}

#[test]
fn changes_of_the_body_by_several_modules_compose() {
    let sent = relayed(
        r#"codec_delete("PCMA"); codec_move_up("telephone-event"); stream_delete("video");
           replace_body_all("sendonly", "sendrecv"); subst_body('/^o=([^ ]*) /o=$fU /');
           $sdp.line(m=audio/[1]) = "5000";"#,
    );
    let (head, body) = sent.split_once("\r\n\r\n").unwrap();
    assert!(body.contains("m=audio 5000 RTP/AVP 101 0\r\n"), "{body}");
    assert!(
        body.contains("a=sendrecv\r\n") && body.contains("o=alice 1 1 IN") && !body.contains("video"),
        "{body}"
    );
    assert_eq!(header(head, "Content-Length"), Some(body.len().to_string().as_str()));
}

#[test]
fn headers_are_added_removed_and_listed() {
    let sent = relayed(
        r#"remove_hf_glob("x-*"); append_hf("P-Hint: $si\r\n", "Call-ID"); insert_hf("X-Top: 1\r\n");
           list_hdr_remove_option("Supported", "path"); list_hdr_add_option("Supported", "gruu");
           if (is_present_hf("m") && !is_present_hf("Subject") && is_method("BYE|INVITE") && !has_totag())
               append_hf("X-Tests: yes\r\n");"#,
    );
    assert!(!sent.contains("X-A:") && !sent.contains("X-B:"));
    assert!(sent.contains("Call-ID: c\r\nP-Hint: 127.0.0.1\r\nCSeq"), "{sent}");
    assert_eq!(header(&sent, "Supported"), Some("100rel, timer, gruu"));
    assert!(header(&sent, "X-Top").is_some() && header(&sent, "X-Tests").is_some());
}

#[test]
fn a_body_without_its_only_part_leaves_no_type_behind() {
    let sent =
        relayed(r#"remove_body_part("application/sdp"); if (!has_body()) append_hf("X-Empty: 1\r\n");"#);
    assert!(header(&sent, "Content-Type").is_none() && header(&sent, "X-Empty").is_some(), "{sent}");
    assert_eq!(header(&sent, "Content-Length"), Some("0"));
    let sent = relayed(r#"add_body_part("hello", "text/plain");"#);
    assert!(header(&sent, "Content-Type").unwrap().starts_with("multipart/mixed;boundary="));
    assert!(sent.contains("Content-Type: text/plain\r\n\r\nhello\r\n--"), "{sent}");
}

#[test]
fn the_request_uri_is_substituted() {
    let sent = relayed(r#"subst_user('/^00([1-9].*)$/+\1/'); ruri_add_param("x=1");"#);
    assert!(sent.starts_with("INVITE sip:+49123@b.org;x=1 SIP/2.0\r\n"), "{sent}");
    let sent = relayed(r#"$var(p) = "9"; subst_uri('/^sip:00(.*)$/sip:$var(p)\1/');"#);
    assert!(sent.starts_with("INVITE sip:949123@b.org SIP/2.0\r\n"), "{sent}");
    let sent = relayed(r#"subst('/^X-([AB]): (.)/Y-\1: \2$ci/ig'); replace("127.0.0.1:5070>", "x.org>");"#);
    assert!(sent.contains("Y-A: 1c\r\nY-B: 2c\r\n") && sent.contains("Contact: <sip:alice@x.org>"), "{sent}");
}

#[test]
fn an_alias_becomes_its_user_and_further_users_become_branches() {
    fn aliases(sql: &str, args: &[SqlValue]) -> Result<Vec<Vec<SqlValue>>, StoreError> {
        let row = |u: &str| vec![SqlValue::from(u), SqlValue::from("b.org")];
        match (sql.contains("WHERE alias_username = ?"), args) {
            (true, [user, domain])
                if *user == SqlValue::from("0049123") && *domain == SqlValue::from("b.org") =>
            {
                Ok(vec![row("bob"), row("carol")])
            }
            (false, [user]) if *user == SqlValue::from("alice") => Ok(vec![row("4711")]),
            _ => Ok(Vec::new()),
        }
    }
    let script = format!(
        r#"{MODULES}
        loadmodule "alias_db.so"
        modparam("alias_db", "append_branches", 1)
        route {{
            if (alias_db_lookup("dbaliases") && alias_db_find("dbaliases", "$fu", $avp(a), "rd")
                    && !alias_db_find("dbaliases", "sip:none@b.org", $avp(b)))
                send_reply(480, "$ru $avp(a) $(msg.branch.uri[1])");
        }}"#
    );
    let reply = House::start(&script, aliases).one(&invite("sip:0049123@b.org", ""));
    assert!(reply.starts_with("SIP/2.0 480 sip:bob@b.org sip:4711@b.org sip:carol@b.org\r\n"), "{reply}");
}

#[test]
fn domains_are_asked_for_or_kept() {
    fn domains(_: &str, args: &[SqlValue]) -> Result<Vec<Vec<SqlValue>>, StoreError> {
        let row = |d: &str, a: &str, s: i64| vec![SqlValue::from(d), SqlValue::from(a), SqlValue::Int(s)];
        let all = vec![row("A.org", "gold", 0), row("wild.org", "w", 1)];
        let wanted =
            |r: &Vec<SqlValue>| args.contains(&SqlValue::from(r[0].to_text().unwrap().to_lowercase()));
        Ok(all.into_iter().filter(|r| args.is_empty() || wanted(r)).collect())
    }
    for mode in [0, 1] {
        let script = format!(
            r#"{MODULES}
            loadmodule "domain.so"
            modparam("domain", "db_mode", {mode})
            route {{
                if (is_from_local($avp(attrs)) && !is_uri_host_local() && is_domain_local("x.wild.org") && !is_domain_local("x.a.org"))
                    send_reply(480, "$avp(attrs)");
            }}"#
        );
        let house = House::start(&script, domains);
        let reply = house.one(&invite("sip:bob@b.org", ""));
        assert!(reply.starts_with("SIP/2.0 480 gold\r\n"), "{reply}");
        let reload = block_on(commands::run(&house.kernel, "domain:reload", serde_json::Value::Null));
        assert_eq!(reload.is_ok(), mode == 1);
        let dump = block_on(commands::run(&house.kernel, "domain_dump", serde_json::Value::Null));
        assert_eq!(
            dump.ok().map(|d| d["Domains"][1]["name"].clone()),
            (mode == 1).then(|| "wild.org".into())
        );
    }
}

#[test]
fn replies_are_changed_on_their_way_back() {
    let script = format!(
        r#"{MODULES}
        route {{
            append_to_reply("X-Late: 1\r\n");
            t_on_reply("r");
            t_on_failure("f");
            $du = "sip:127.0.0.1:5090";
            t_relay();
        }}
        onreply_route[r] {{
            if ($rs == 183) {{
                change_reply_status(180, "Ringing");
                if ($(<request>sdp) != NULL && !has_body())
                    append_hf("X-Seen: $(<request>sdp.line(m=audio/[1]))\r\n");
            }}
        }}
        failure_route[f] {{
            t_reply(480, "Gone");
        }}"#
    );
    let house = House::start(&script, no_database);
    let request = house.one(&invite("sip:bob@b.org", ""));
    let reply = |status: &str| {
        let kept = ["Via", "From", "To", "Call-ID", "CSeq"];
        let lines = request.lines().filter(|l| kept.iter().any(|k| l.starts_with(&format!("{k}:"))));
        let head: String = lines.map(|l| format!("{l}\r\n")).collect();
        format!(
            "SIP/2.0 {status}\r\n{}Content-Length: 0\r\n\r\n",
            head.replace("<sip:bob@b.org>", "<sip:bob@b.org>;tag=2")
        )
    };
    let ringing = house.one(&reply("183 Progress"));
    assert!(ringing.starts_with("SIP/2.0 180 Ringing\r\n"), "{ringing}");
    assert_eq!(header(&ringing, "X-Seen"), Some("4000"));
    assert!(header(&ringing, "X-Late").is_none());
    let all = house.take(&reply("486 Busy"));
    let last = all.iter().find(|m| m.starts_with("SIP/2.0 480 Gone")).unwrap_or_else(|| panic!("{all:#?}"));
    assert_eq!(header(last, "X-Late"), Some("1"), "{last}");
}

#[test]
fn call_sites_that_cannot_work_are_found_at_load() {
    use switchroom_kernel::load::{Source, load};
    let catalogue: Vec<_> =
        switchroom_calls::MODULES.iter().chain(switchroom_users::MODULES).copied().collect();
    for (call, says) in [
        (r#"is_method("");"#, "method"),
        (r#"search("(");"#, "expression"),
        (r#"subst("/a/b");"#, "/expression/replacement/flags"),
        (r#"subst("/(/b/");"#, "group"),
        (r#"www_challenge();"#, "www_challenge"),
    ] {
        let script =
            format!("socket=udp:127.0.0.1:5060\n{MODULES}loadmodule \"auth.so\"\nroute {{ {call} }}");
        let source = Source::Text("test.cfg".into(), script.as_bytes().into());
        let Err(errors) = load(&source, &catalogue, &["core"]) else { panic!("{call} was accepted") };
        let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert!(text.join("\n").contains(says), "{call}: {text:?}");
    }
}

#[test]
fn a_script_of_an_older_release_loads_and_works() {
    fn table(sql: &str, args: &[SqlValue]) -> Result<Vec<Vec<SqlValue>>, StoreError> {
        assert_eq!(sql, "SELECT username, domain FROM subscriber WHERE username = ? AND domain = ?");
        let found = args[0] == SqlValue::from("bob");
        Ok(if found { vec![vec![args[0].clone(), args[1].clone()]] } else { Vec::new() })
    }
    let script = format!(
        r#"{MODULES}
        loadmodule "auth.so"
        loadmodule "auth_db.so"
        loadmodule "uri.so"
        modparam("uri", "use_uri_table", 0)
        modparam("auth_db", "calculate_ha1", yes)
        modparam("auth_db", "password_column", "password")
        route {{
            remove_hf("X-*", "g");
            if (is_method("REGISTER") && !db_check_to()) {{
                www_challenge("", "0");
                exit;
            }}
            if (db_does_uri_exist())
                sl_send_reply("480", "Offline");
            else
                sl_send_reply("404", "Not found");
        }}"#
    );
    let house = House::start(&script, table);
    assert!(house.one(&invite("sip:bob@b.org", "")).starts_with("SIP/2.0 480 "));
    assert!(house.one(&invite("sip:none@b.org", "")).starts_with("SIP/2.0 404 "));
    let challenge = house.one(&register(1, ""));
    assert!(challenge.starts_with("SIP/2.0 401 ") && !challenge.contains("qop"), "{challenge}");
}
