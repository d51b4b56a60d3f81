//! Whatever the bytes are, loading gives an answer, and what loads can be run.

use proptest::prelude::*;
use switchroom_script::names::RouteType;
use switchroom_script::vm::*;
use switchroom_script::{NoLoader, compile, parse};

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
}
