//! Reading messages: forms that must be understood, and faults with the action they ask for (RFC 3261 §7, §8.1.1,
//! §18.3, §20).

use bytes::Bytes;
use switchroom_wire::sip::{Fault, FieldError, HeaderId, Message, Method, ParseError, Scheme};

fn parse(text: &str) -> Result<Message, ParseError> {
    Message::parse(Bytes::copy_from_slice(text.as_bytes()))
}

const HEADERS: &str = "Via: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\n\
                       Call-ID: c@h\r\nCSeq: 1 OPTIONS\r\n";

fn options(more: &str) -> String {
    format!("OPTIONS sip:b@h SIP/2.0\r\n{HEADERS}{more}\r\n")
}

#[test]
fn compact_names_folds_and_comma_lists_are_understood() {
    let m = parse(
        "INVITE sip:vivekg@chair.example.com;unknownparam SIP/2.0\r\n\
         TO :\r\n sip:vivekg@chair.example.com ;   tag    = 1918181833n\r\n\
         from   : \"J Rosenberg \\\\\\\"\"       <sip:jdrosen@example.com>\r\n  ;\r\n  tag = 98asjd8\r\n\
         MaX-fOrWaRdS: 0068\r\n\
         i: well.0ha0isndaksdj@192.0.2.1\r\n\
         cseq: 8\r\n  INVITE\r\n\
         v:  SIP  / 2.0  / UDP 192.0.2.2;branch=390skdjuw, SIP/2.0/TCP [::1]:5070;branch=z9hG4bK30239\r\n\
         Via: SIP/2.0/WSS x.invalid;branch=z9hG4bKq\r\n\
         s :\r\n\
         NewFangledHeader:   newfangled value\r\n continued newfangled value\r\n\
         Route: <sip:services.example.com;lr;x=\"a,b\">, <sip:edge.example.com;lr>\r\n\
         m:\"Quoted string \\\"\\\"\" <sip:jdrosen@example.com> ; newparam = newvalue;q=0.33\r\n\
         l: 0\r\n\r\n",
    )
    .unwrap();
    assert_eq!(m.method(), Method::Invite);
    assert_eq!(m.to().unwrap().tag(), Some(&b"1918181833n"[..]));
    assert_eq!(m.from().unwrap().tag(), Some(&b"98asjd8"[..]));
    assert_eq!(m.from().unwrap().uri, b"sip:jdrosen@example.com");
    assert_eq!(m.max_forwards(), Ok(Some(68)));
    assert_eq!(m.cseq(), Ok((8, Method::Invite)));
    assert_eq!(m.call_id(), b"well.0ha0isndaksdj@192.0.2.1");
    let hosts: Vec<_> = m.vias().map(|v| v.unwrap().host).collect();
    assert_eq!(hosts, [&b"192.0.2.2"[..], b"[::1]", b"x.invalid"]);
    assert_eq!(m.via().unwrap().branch, Some(&b"390skdjuw"[..]));
    let routes: Vec<_> = m.routes().map(|r| r.unwrap().uri).collect();
    assert_eq!(routes, [&b"sip:services.example.com;lr;x=\"a,b\""[..], b"sip:edge.example.com;lr"]);
    let contact = m.contacts().next().unwrap().unwrap();
    assert_eq!((contact.q(), contact.param("newparam")), (Some(330), Some(&b"newvalue"[..])));
    assert_eq!(m.header(HeaderId::Subject).unwrap().value, b"");
    let new = m.headers_by_name(b"newfangledheader").next().unwrap();
    assert_eq!(&*new.unfolded(), b"newfangled value continued newfangled value");
    assert_eq!(m.headers_by_name(b"VIA").count(), 2);
}

#[test]
fn unknown_methods_schemes_and_utf8_are_kept() {
    let m = parse(
        "!interesting-Method0123456789_*+`.%indeed'~ nobodyKnowsThisScheme:totallyopaque SIP/2.0\r\n\
         Via: SIP/2.0/TCP h;branch=z9hG4bK-.!%66*_+`'~\r\n\
         To: \"BEL:\\\x07 Ünïcode\" <sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com>\r\n\
         From: <sip:a@h>;tag=_token~1'+`*%!-.\r\n\
         Call-ID: intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{\r\n\
         CSeq: 139122385 !interesting-Method0123456789_*+`.%indeed'~\r\nContent-Length: 0\r\n\r\n",
    )
    .unwrap();
    assert_eq!(m.method(), Method::Other);
    assert_eq!(m.method_name(), b"!interesting-Method0123456789_*+`.%indeed'~");
    assert_eq!(m.ruri().unwrap().scheme, Scheme::Other);
    assert_eq!(m.to().unwrap().parse_uri().unwrap().host, b"example.com");
    assert!(m.check().is_ok());
}

#[test]
fn replies_without_or_with_utf8_reason_are_read() {
    let m = parse(&format!("SIP/2.0 200 = 2**3 * 5**2 но сто\r\n{HEADERS}\r\n")).unwrap();
    assert_eq!((m.status(), m.method()), (200, Method::Options));
    assert_eq!(m.reason(), "= 2**3 * 5**2 но сто".as_bytes());
    assert_eq!(parse(&format!("SIP/2.0 100 \r\n{HEADERS}\r\n")).unwrap().reason(), b"");
    assert_eq!(parse(&format!("SIP/2.0 100\r\n{HEADERS}\r\n")).unwrap().status(), 100);
}

#[test]
fn body_ends_at_content_length_and_binary_is_kept() {
    let mut raw = options("Content-Type: multipart/mixed;boundary=x\r\nContent-Length: 4\r\n").into_bytes();
    raw.extend_from_slice(&[0, 255, b'\r', b'\n', b'j', b'u', b'n', b'k']);
    let m = Message::parse(raw.into()).unwrap();
    assert_eq!(m.body(), [0, 255, b'\r', b'\n']);
    assert!(m.raw().ends_with(&[0, 255, b'\r', b'\n']));
    assert_eq!(m.content_type(), Some(&b"multipart/mixed;boundary=x"[..]));
    assert_eq!(parse(&(options("") + "all of it")).unwrap().body(), b"all of it");
}

#[test]
fn line_ends_before_the_start_line_are_skipped_and_bare_newlines_read() {
    let m = parse(&format!("\r\n\r\n{}", options(""))).unwrap();
    assert!(m.raw().starts_with(b"OPTIONS"));
    let m = parse(&options("Subject: x\r\n").replace("\r\n", "\n")).unwrap();
    assert_eq!(m.header(HeaderId::Subject).unwrap().value, b"x");
    assert!(matches!(parse("\r\n\r\n"), Err(ParseError::Drop(Fault::KeepAlive))));
}

#[test]
fn more_headers_than_inline_are_found() {
    let more: String = (0..100).map(|i| format!("X-{i}: {i}\r\n")).collect();
    let m = parse(&options(&more)).unwrap();
    assert_eq!(m.header_count(), 105);
    assert_eq!(m.headers_by_name(b"x-99").next().unwrap().value, b"99");
    let more: String = (0..600).map(|i| format!("X-{i}: {i}\r\n")).collect();
    assert!(matches!(parse(&options(&more)), Err(ParseError::Reject { fault: Fault::TooManyHeaders, .. })));
}

#[test]
fn faults_of_requests_are_answered_with_400() {
    let reject = |text: &str, expect: Fault| match parse(text).and_then(Message::check) {
        Err(ParseError::Reject { code: 400, fault, message, .. }) => {
            assert_eq!(fault, expect, "{text}");
            assert_eq!(
                message.via().is_ok(),
                !matches!(fault, Fault::Field(FieldError::Malformed(HeaderId::Via, _)))
            );
        }
        other => panic!("{text}: {other:?}"),
    };
    let base = options("");
    let missing = |id| Fault::Field(FieldError::Missing(id));
    reject(&base.replace("To: <sip:b@h>\r\n", ""), missing(HeaderId::To));
    reject(&base.replace("From: <sip:a@h>;tag=1\r\n", ""), missing(HeaderId::From));
    reject(&base.replace("Call-ID: c@h\r\n", ""), missing(HeaderId::CallId));
    reject(&base.replace("CSeq: 1 OPTIONS\r\n", ""), missing(HeaderId::CSeq));
    reject(&base.replace("1 OPTIONS", "1 INVITE"), Fault::MethodMismatch);
    reject(
        &base.replace("<sip:b@h>\r\n", "\"Mr <sip:b@h>\r\n"),
        Fault::Field(FieldError::Malformed(HeaderId::To, "unclosed quote in the display name")),
    );
    reject(&options("CSeq: 2 OPTIONS\r\n"), Fault::Repeated(HeaderId::CSeq));
    reject(&options("Content-Length: 9\r\n"), Fault::BodyTooShort);
    reject(&options("no colon here\r\n"), Fault::HeaderLine);
    reject(base.strip_suffix("\r\n").unwrap(), Fault::Truncated);
    for bad in ["2147483648 OPTIONS", "36893488147419103232 OPTIONS", "x OPTIONS", "1", "1OPTIONS", ""] {
        let text = base.replace("1 OPTIONS", bad);
        assert!(matches!(parse(&text), Err(ParseError::Reject { fault: Fault::Field(_), .. })), "{bad}");
    }
    for more in ["Content-Length: -1\r\n", "Content-Length: 1x\r\n", "Max-Forwards: x\r\n"] {
        let refused = parse(&options(more)).and_then(Message::check);
        assert!(matches!(refused, Err(ParseError::Reject { code: 400, .. })), "{more}");
    }
    for uri in ["<sip:b@h>", "sip:b@h; lr", "sip:b@", "b"] {
        let refused = parse(&base.replacen("sip:b@h SIP", &format!("{uri} SIP"), 1)).and_then(Message::check);
        assert!(matches!(refused, Err(ParseError::Reject { fault: Fault::RequestUri(_), .. })), "{uri}");
    }
}

#[test]
fn another_sip_version_is_answered_with_505() {
    let text = options("").replacen("SIP/2.0", "SIP/7.0", 1);
    assert!(matches!(parse(&text), Err(ParseError::Reject { code: 505, .. })));
}

#[test]
fn what_cannot_be_answered_is_dropped() {
    let base = options("");
    for text in [
        base.replace("OPTIONS", "ACK").replace("To: <sip:b@h>\r\n", ""),
        base.replace("Via: SIP/2.0/UDP h;branch=z9hG4bK1\r\n", ""),
        format!("SIP/2.0 200 OK\r\n{HEADERS}Content-Length: 5\r\n\r\n"),
        format!("SIP/2.0 4294967301 better not break the receiver\r\n{HEADERS}\r\n"),
        format!("SIP/2.0 700 X\r\n{HEADERS}\r\n"),
        "GET / HTTP/1.1\r\n\r\n".into(),
        "\0\0\0\0".into(),
        "x".into(),
    ] {
        assert!(matches!(parse(&text), Err(ParseError::Drop(_))), "{text}");
    }
}

#[test]
fn slices_share_the_received_bytes() {
    let m = parse(&options("")).unwrap();
    let id = m.slice(m.call_id());
    assert_eq!(id.as_ptr(), m.call_id().as_ptr());
    assert_eq!(&m.slice(b"elsewhere")[..], b"elsewhere");
}
