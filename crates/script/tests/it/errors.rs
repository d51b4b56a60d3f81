//! What is said about wrong scripts: place, message, hint, and that one pass reports everything.

use switchroom_script::diag::render;

use crate::support::*;

/// Line, column, part of the message, part of the hint.
type Expected<'a> = (u32, u32, &'a str, &'a str);

fn check(script: &str, errors: &[Expected<'_>]) {
    let (program, mut diags) = load(script, &TestNames::default());
    diags.retain(|d| d.is_error());
    switchroom_script::diag::sort(&mut diags);
    let shown = render(&diags);
    assert!(program.is_none(), "{script}");
    assert_eq!(diags.len(), errors.len(), "{script}\n{shown}");
    for (d, (line, column, message, help)) in diags.iter().zip(errors) {
        assert_eq!((d.line, d.column), (*line, *column), "{script}\n{shown}");
        assert!(d.message.contains(message), "{script}\n{shown}");
        assert!(help.is_empty() || d.help.as_deref().unwrap_or("").contains(help), "{script}\n{shown}");
    }
}

#[test]
fn each_mistake_is_named_at_its_place() {
    let table: &[(&str, &[Expected<'_>])] = &[
        ("route {\n  eco(\"x\");\n}", &[(2, 3, "no function `eco()`", "did you mean `echo`?")]),
        ("route { echo(\"a\" }", &[(1, 18, "expected `,` or `)`", "")]),
        ("route { echo(\"$va(x)\"); }", &[(1, 14, "no variable `$va`", "`$var`")]),
        ("route { $vr(x) = 1; }", &[(1, 9, "no variable `$vr`", "did you mean `$var`?")]),
        ("route { $si = \"1\"; }", &[(1, 9, "`$si` can only be read", "")]),
        ("route { $var = 1; }", &[(1, 9, "`$var` needs a name", "")]),
        ("route { $ru(x) = 1; }", &[(1, 9, "takes no name", "")]),
        ("route { $var(x) = $(ru[1]); }", &[(1, 19, "has no index", "")]),
        ("route { $(var(x){s.len}) = 1; }", &[(1, 9, "no transformation", "")]),
        ("route { $var(x) = $(ru{s.lenn}); }", &[(1, 19, "did you mean `s.len`?", "")]),
        ("route { $var(x) = $(ru{s.substr}); }", &[(1, 19, "needs one more argument", "")]),
        ("route { echo(); }", &[(1, 9, "argument 1 of `echo()` is missing", "echo(string)")]),
        ("route { echo(\"a\", \"b\"); }", &[(1, 9, "at most 1 arguments, not 2", "")]),
        ("route { code(\"abc\"); }", &[(1, 14, "must be a number", "")]),
        ("route { store(5, \"x\"); }", &[(1, 15, "must be a variable", "")]),
        ("route { setflag($ru); }", &[(1, 17, "must be a fixed string", "")]),
        ("route { picky(\"bad\"); }", &[(1, 9, "`picky()`: only \"good\" is good", "")]),
        ("route { route(nowhere); }", &[(1, 15, "no `route[nowhere]`", "")]),
        ("route { route(sbu); } route[sub] {}", &[(1, 15, "no `route[sbu]`", "did you mean `sub`?")]),
        ("route { route(f); } failure_route[f] {}", &[(1, 15, "no `route[f]`", "is a failure_route")]),
        ("route {} route {}", &[(1, 10, "`route` is defined twice", "test.cfg:1")]),
        ("route[a] {} route[a] {}", &[(1, 13, "`route[a]` is defined twice", "")]),
        ("route { break; }", &[(1, 9, "`break` outside", "")]),
        ("route { switch ($ru) { default: ; case 1: ; } }", &[(1, 35, "must be the last", "")]),
        ("route { switch ($ru) { case \"A\": ; case \"a\": ; } }", &[(1, 41, "there before", "")]),
        ("route { if ($ru == ) { echo(\"x\"); } }", &[(1, 20, "expected a value to compare", "")]),
        ("route { if ($ml + 1 > 5) ; }", &[(1, 17, "arithmetic", "[ ")]),
        ("route { if (\"a\" == $ru) ; }", &[(1, 13, "left side", "")]),
        ("route { if ($ru =~ \"(\") ; }", &[(1, 20, "regular expression", "")]),
        ("route { echo($ml + 1); }", &[(1, 18, "cannot be an expression", "variable first")]),
        ("route { echo(code(1)); }", &[(1, 14, "a call cannot be an argument", "")]),
        ("route { echo(\"x\") }", &[(1, 17, "expected `;`", "")]),
        ("route { $var(x) == 1; }", &[(1, 17, "a comparison is no statement", "one `=`")]),
        ("route { x = 1; }", &[(1, 9, "`x` is no variable", "$var(x)")]),
        ("route { echo(\"x\"); ", &[(1, 7, "never closed", "")]),
        ("route { echo(\"x); }", &[(1, 14, "never closed", "")]),
        ("route { for ($var(i) in $avp(list)) ; }", &[(1, 25, "`[*]`", "$(avp(list)[*])")]),
        ("route { for ($ru in $(avp(list)[*])) ; }", &[(1, 14, "variable of a `for`", "")]),
        ("route { async(echo(\"x\"), r); } route[r] {}", &[(1, 15, "cannot be used in `async()`", "")]),
        ("route { async(slow(), r); }", &[(1, 23, "no `route[r]`", "")]),
        ("route { else echo(\"x\"); }", &[(1, 9, "`else` without", "")]),
        ("route { xlog(\"INFO\", \"x\"); xlog(L_ERR, \"x\"); }", &[(1, 14, "no log level", "L_NOTICE")]),
        ("loglevel = 3", &[(1, 1, "no global parameter `loglevel`", "did you mean `log_level`?")]),
        ("log_level = high", &[(1, 13, "takes a number", "")]),
        ("loadmodul \"tm\"", &[(1, 1, "neither a parameter", "did you mean `loadmodule`?")]),
        (
            "modparam(\"tm\", fr_timeout, 5)\nroute { eco(); }",
            &[(1, 16, "the parameter's name in quotes", ""), (2, 9, "`eco()`", "")],
        ),
        ("timer_route[t, 0] { }", &[(1, 16, "at least one second", "")]),
        ("failure_route { }", &[(1, 1, "needs a name", "")]),
        ("socket = upd:1.2.3.4:5060", &[(1, 10, "`upd` is no protocol", "did you mean `udp`?")]),
        ("socket = udp:1.2.3.4:port", &[(1, 10, "`port` is no port", "")]),
        (
            "include_file \"x.cfg\"\nroute { eco(); }",
            &[(1, 1, "cannot include \"x.cfg\"", ""), (2, 9, "eco", "")],
        ),
    ];
    for (script, errors) in table {
        check(script, errors);
    }
}

#[test]
fn all_mistakes_of_a_file_are_reported_at_once() {
    check(
        "log_levl = 2\nroute {\n  eco(\"1\");\n  if ($ru = = 1) {\n    $si = 2;\n  }\n  echo(;\n  echo(\"$nope\");\n}\nroute[x] {\n  t_repl(1, \"x\");\n}\n",
        &[
            (1, 1, "log_levl", ""),
            (3, 3, "eco", ""),
            (4, 13, "expected a value", ""),
            (5, 5, "can only be read", ""),
            (7, 8, "expected an argument", ""),
            (8, 8, "nope", ""),
            (11, 3, "t_repl", "t_reply"),
        ],
    );
}

#[test]
fn functions_are_refused_in_routes_they_do_not_work_in() {
    check(
        "onreply_route { t_relay(); }",
        &[(1, 17, "`t_relay()` cannot be used in `onreply_route`", "route, failure_route")],
    );
    check(
        "timer_route[t, 5] { route(a); }\nroute[a] { route(b); }\nroute[b] { t_relay(); }",
        &[(3, 12, "in `timer_route[t]`, from where this is called through `route[b]`", "")],
    );
    let (program, _) = load("route { route(a); } route[a] { t_relay(); }", &TestNames::default());
    assert!(program.is_some());
    let (program, _) =
        load("failure_route[f] { route(a); } route[a] { if (!t_relay()) exit; }", &TestNames::default());
    assert!(program.is_some());
}

#[test]
fn older_spellings_work_with_a_warning_that_names_todays() {
    let table = [
        ("route { append_branch(); }", "append_msg_branch"),
        ("route { setflag(1); }", "write \"1\""),
        ("route { setflag(ACC); }", "write \"ACC\""),
        ("route { echo(udp:10.0.0.1:5060); }", "write \"udp:10.0.0.1:5060\""),
        ("route { two(10.0.0.1:5060, uri:port); }", "write \"10.0.0.1:5060\""),
        ("route { code(\"404\"); }", "write 404 without quotes"),
        ("route { t_reply(\"404\", \"Not found\"); }", "write 404 without quotes"),
        ("route { store(\"$avp(x)\", \"v\"); }", "write `$avp(x)`"),
        ("route { if (uri==myself) ; }", "is_myself"),
        ("route { if (method==\"INVITE\") ; }", "write `$rm`"),
        ("route { if (method=\"INVITE\") ; }", "write `==`"),
        ("route { if (method==INVITE) ; }", "write \"INVITE\""),
        ("route { if (msg:len >= 2048) ; }", "write `$ml`"),
        ("route { if (src_ip == 10.0.0.1) ; }", "write `$si`"),
        ("route { echo(\"$pr\"); }", "$socket_in(proto)"),
        ("route { return -1; }", "return(-1)"),
        ("route { if ($ru == \"$var(x)\") ; }", "compare with the variable itself"),
        ("route { error(\"a\", \"b\"); }", "xlog"),
        ("listen = udp:127.0.0.1:5060", "socket"),
        ("children = 4", "udp_workers"),
        ("debug=3", "log_level"),
        ("fork=yes", "debug_mode"),
        ("disable_tcp=yes", "socket = tcp"),
    ];
    for (script, help) in table {
        let (program, diags) = load(script, &TestNames::default());
        assert!(program.is_some(), "{script}\n{}", render(&diags));
        assert!(
            diags.iter().any(|d| d.help.as_deref().unwrap_or("").contains(help)),
            "{script}\n{}",
            render(&diags)
        );
    }
}

#[test]
fn older_forms_have_the_effect_of_todays() {
    let (host, _) = run(
        "if (uri==myself) echo(\"me\"); if (method==INVITE && msg:len > 5) echo(\"inv\"); if (uri!=myself) echo(\"x\");",
    );
    assert_eq!(host.lines(), "myself example.com me inv myself example.com");
    let (host, _) = run_on("route { route(1); } route[1] { echo(\"one\"); }", sample_host());
    assert_eq!(host.lines(), "one");
    assert_eq!(logged("setflag(5);"), "flag 5");
}

#[test]
fn a_diagnostic_shows_the_line_with_the_place_marked() {
    let (_, diags) = load("route {\n\techo(\"x\");\n\teco(\"y\");\n}", &TestNames::default());
    assert_eq!(
        diags[0].to_string(),
        "test.cfg:3:2: error: there is no function `eco()`\n 3 |  eco(\"y\");\n   |  ^^^\n   = did you mean `echo`?\n"
    );
}
