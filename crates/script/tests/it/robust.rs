//! Whatever the bytes are, loading gives an answer, and what loads can be run.

use proptest::prelude::*;
use switchroom_script::names::RouteType;
use switchroom_script::vm::*;
use switchroom_script::{NoLoader, Value, compile, parse};

use crate::support::*;

const SCRIPT: &str = r#"
log_level=3
socket=udp:127.0.0.1:5060 as 1.2.3.4 use_workers 2
alias=udp:example.com:5060
modparam("usrloc|registrar", "db_url", "x" "y")
route {
    if (!is_myself("$rd") and $rm == "INVITE" || $si == 10.0.0.0/8) { t_relay(); exit; }
    $var(x) = "a$rU" + $ml * 2 - (3 << 1);
    while ($var(i) < 3) { $var(i) += 1; if ($var(i) == 2) break; }
    for ($var(it) in $(avp(list)[*])) xlog("L_INFO", "$var(it) $(ru{s.select,1,:}{uri.user})\n");
    switch ($rm) { case "A": echo("a"); case 2: break; default: echo('d'); }
    route(sub, $ru, 5, NULL);
    async(slow(3), sub, 5);
}
route[sub] { two("a", , $var(n)); return($var(q), 1, "x"); }
failure_route[f] { /* comment */ t_reply(500, "x"); }
timer_route[t, 60] { launch(slow(), sub, "$ru"); }
event_route[E_X] { echo("$param(a)$(hdr(X-A)[-1]{re.subst,/a(b)/\1/g})"); }
"#;

fn load_and_run(text: &[u8]) {
    let host = sample_host();
    let (ast, _) = parse("x.cfg", text, &mut NoLoader);
    switchroom_script::lint::lint(&ast);
    if let Ok(new) = switchroom_script::format::format(text) {
        assert_eq!(switchroom_script::format::format(&new).as_ref(), Ok(&new), "formatting is not stable");
    }
    let Ok((mut program, _)) = compile(&ast, &host.names) else { return };
    program.set_limits(switchroom_script::Limits { operations: 2_000, ..Default::default() });
    let program = std::sync::Arc::new(program);
    let mut host = host;
    for route in program.routes() {
        let mut frame = Frame::new(&program, route.id).with_params([s("a")]);
        for _ in 0..3 {
            match frame.run(&mut host) {
                Step::Wait(_) => frame.resume(1),
                _ => break,
            }
        }
    }
}

#[test]
fn the_sample_itself_loads() {
    let names = TestNames::default();
    assert!(program(SCRIPT, &names).find(RouteType::Request, None).is_some());
    load_and_run(SCRIPT.as_bytes());
}

#[test]
fn deep_nesting_is_refused_not_fatal() {
    for (open, close) in [("(", ")"), ("{", "}"), ("!", ""), ("if (1) ", ";"), ("[", "]"), ("$(var(", "))")] {
        let script = format!("route {{ if ({}1{}) ; }}", open.repeat(20_000), close.repeat(20_000));
        load_and_run(script.as_bytes());
        let script = format!("route {{ {}echo(\"\"){} }}", open.repeat(20_000), close.repeat(20_000));
        load_and_run(script.as_bytes());
    }
    let chain =
        format!("route {{ $var(x) = 1{}; if (1{}) ; }}", " + 1".repeat(50_000), " and 1".repeat(50_000));
    load_and_run(chain.as_bytes());
    let mixed = "($var(a) + ".repeat(90) + &"1 + ".repeat(900) + "1";
    load_and_run(format!("route {{ $var(x) = {mixed}; }}").as_bytes());
    let format = format!("route {{ echo(\"{}\"); }}", "$(var(a){s.select,$(var(".repeat(200));
    load_and_run(format.as_bytes());
}

const TRANSFORMATIONS: &str = "s.len s.int s.md5 s.crc32 s.tolower s.toupper s.reverse s.encode.hexa s.decode.hexa \
    s.hex2dec s.dec2hex s.date2unix s.escape.common s.unescape.common s.escape.user s.unescape.user s.escape.param \
    s.unescape.param s.substr,$var(n),$var(m) s.select,$var(n),$var(t) s.index,$var(t),$var(n) s.rindex,$var(t),$var(n) \
    s.fill.left,$var(t),$var(n) s.fill.right,$var(t),$var(n) s.width,$var(n) s.trim s.triml s.trimr s.b64encode \
    s.b64decode s.xor,$var(t) s.sha1 s.sha512_hmac,$var(t) s.eval uri.user uri.host uri.passwd uri.port uri.params \
    uri.param,$var(t) uri.headers uri.schema via.name via.version via.transport via.host via.port via.comment \
    via.params via.param,$var(t) param.value,$var(t) param.exist,$var(t),$var(t) param.valueat,$var(n) \
    param.name,$var(n) param.count nameaddr.name nameaddr.-1.uri nameaddr.len nameaddr.param,$var(t) \
    nameaddr.params ip.pton ip.ntop ip.isip ip.family ip.matches,$var(t) ip.isprivate csv.count csv.value,$var(n) \
    sdp.line,$var(t),$var(n) sdp.stream,$var(t) sdp.stream,$var(n) sdp.stream-delete,$var(t) re.subst,$var(t) \
    re.subst,/(a*)(b)/\\2\\1/gi";

/// A script that applies every transformation to `$var(x)`.
fn all_transformations() -> String {
    let lines = TRANSFORMATIONS.split_whitespace().map(|t| format!("$var(r) = $(var(x){{{t}}});\n"));
    format!("route {{\n{}}}", lines.collect::<String>())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(text in proptest::collection::vec(any::<u8>(), 0..400)) {
        load_and_run(&text);
    }

    #[test]
    fn random_tokens_never_panic(
        words in proptest::collection::vec(
            proptest::sample::select(vec![
                "route", "{", "}", "(", ")", ";", "if", "else", "while", "switch", "case", "default", ":", "$var(x)",
                "$(avp(a)[*])", "\"s $ru\"", "5", "==", "=", "+", "and", "!", "[", "]", ",", "echo", "for", "in",
                "return", "break", "exit", "async", "NULL", "10.0.0.1", "=~", "~", "-", "\"", "'", "$(", "/*", "\n",
                "socket", "udp:*:5", "modparam", "alias", "log_level", "timer_route", "failure_route[f]", "drop",
            ]),
            0..80,
        ),
    ) {
        load_and_run(words.join(" ").as_bytes());
        load_and_run(format!("route {{ {} }}", words.join(" ")).as_bytes());
    }

    #[test]
    fn mutated_scripts_never_panic(
        edits in proptest::collection::vec((0..SCRIPT.len(), any::<u8>(), 0..4u8), 1..6),
    ) {
        let mut text = SCRIPT.as_bytes().to_vec();
        for (at, byte, kind) in edits {
            let Some(last) = text.len().checked_sub(1) else { break };
            let at = at.min(last);
            match kind {
                0 => text[at] = byte,
                1 => { text.remove(at); }
                2 => text.insert(at, byte),
                _ => text.truncate(at.max(1)),
            }
        }
        load_and_run(&text);
    }

    #[test]
    fn transformations_take_any_bytes(
        x in proptest::collection::vec(
            prop_oneof![any::<u8>(), proptest::sample::select(b"<>\"\\;,:@/=[]()%m a\r\n0".to_vec())],
            0..40,
        ),
        t in proptest::collection::vec(any::<u8>(), 0..4),
        n in any::<i64>(),
        m in -5i64..5,
    ) {
        let mut host = sample_host();
        let p = program(&all_transformations(), &host.names);
        for (name, value) in [
            ("var(x)", Value::Str(x.into())),
            ("var(t)", Value::Str(t.into())),
            ("var(n)", Value::Int(if n % 2 == 0 { n } else { n % 9 })),
            ("var(m)", Value::Int(m)),
        ] {
            host.values.insert(name.into(), value);
        }
        let mut frame = Frame::new(&p, p.find(RouteType::Request, None).unwrap());
        prop_assert!(matches!(frame.run(&mut host), Step::Done(_)));
    }
}

/// Scripts that mostly load: statements of the grammar, nested at random.
fn statement() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "$var(i) += 1;",
        "$var(x) = \"a$var(x)\";",
        "$avp(list) = $var(i) * 3 - 1;",
        "$var(x) = NULL;",
        "echo(\"$(avp(list)[*]{s.select,1,:})\");",
        "two(\"a\", , $var(n));",
        "xlog(\"L_INFO\", \"$var(i) $rU\\n\");",
        "route(sub, $var(x), 5);",
        "route(self);",
        "return(1, $var(i));",
        "return(0);",
        "exit;",
        "drop;",
        "slow(1);",
        "async(slow(3), sub, 5);",
        "launch(slow(), sub);",
        ";",
    ])
    .prop_map(str::to_owned);
    let test = prop::sample::select(vec![
        "1",
        "$var(i) < 3",
        "$var(x) == NULL",
        "!$rU or $rm =~ \"^I\" and slow(1)",
        "[ $var(i) & 1 ]",
        "route(sub)",
        "$var(i) == \"a\"",
        "$si == 10.0.0.0/8",
    ]);
    leaf.prop_recursive(5, 60, 4, move |inner| {
        let block = prop::collection::vec(inner, 0..4).prop_map(|v| v.join("\n"));
        (0..6, test.clone(), block.clone(), block).prop_map(|(kind, test, a, b)| match kind {
            0 => format!("if ({test}) {{ {a} }} else {{ {b} }}"),
            1 => format!("while ({test}) {{ {a} }}"),
            2 => format!("for ($var(it) in $(avp(list)[*])) {{ {a} break; }}"),
            3 => format!("switch ($var(i)) {{ case 1: {a} case \"b\": {b} break; default: {a} }}"),
            4 => format!("{{ {a} {b} }}"),
            _ => format!("if ({test}) {a} ;"),
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn no_script_of_the_grammar_panics_hangs_or_exceeds_its_budget(
        main in prop::collection::vec(statement(), 0..8),
        sub in prop::collection::vec(statement(), 0..4),
    ) {
        let script = format!(
            "max_while_loops=50\nroute {{\n{}\n}}\nroute[sub] {{\n{}\n}}\nroute[self] {{ route(self); }}\n",
            main.join("\n"),
            sub.join("\n"),
        );
        load_and_run(script.as_bytes());
    }
}
