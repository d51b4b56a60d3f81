//! Every statement and operator of the language, with its effect.

use switchroom_script::Value;
use switchroom_script::names::RouteType;
use switchroom_script::vm::*;

use crate::support::*;

/// Each condition and whether it holds for the sample request.
#[test]
fn conditions_hold_as_the_language_defines() {
    let table: &[(&str, bool)] = &[
        ("$rm == \"INVITE\"", true),
        ("$rm == \"invite\"", true),
        ("$rm != \"BYE\"", true),
        ("$rm == 'BYE'", false),
        ("$ml > 500", true),
        ("$ml >= 600 and $ml <= 600", true),
        ("$ml < 600", false),
        ("$ml == \"600\"", true),
        ("$rU =~ \"^AL\"", true),
        ("$rU =~ \"^b\"", false),
        ("$rU !~ \"bob\"", true),
        ("$ru =~ \"@example\\.com$\"", true),
        ("$var(none) == NULL", true),
        ("$var(none) != NULL", false),
        ("$rU != NULL", true),
        ("$var(none) == \"\"", false),
        ("$var(none) != \"x\"", true),
        ("$var(none) !~ \"x\"", true),
        ("$var(none) < 5", false),
        ("$si == 10.1.2.3", true),
        ("$si == 10.1.0.0/16", true),
        ("$si != 10.1.0.0/255.255.0.0", false),
        ("$si == 192.168.0.0/16", false),
        ("$rU", true),
        ("$var(none)", false),
        ("!$var(none)", true),
        ("not $rU", false),
        ("good()", true),
        ("bad()", false),
        ("!bad()", true),
        ("1", true),
        ("0", false),
        ("\"x\"", true),
        ("\"\"", false),
        ("yes", true),
        ("[ 1 + 1 ]", true),
        ("[ 4 & 3 ]", false),
        ("[ $ml & 8 ]", true),
        ("good() || bad() && bad()", false),
        ("good() or (bad() and bad())", true),
        ("bad() and good() or good()", true),
        ("$var(x) = 5", true),
        ("$rm == $var(none)", false),
        ("$rU == $rU", true),
        ("$rU =~ $var(re)", true),
        ("matches(\"abc\", \"B\")", true),
        ("matches($rU, \"^$var(re)\")", true),
        ("code(5)", true),
        ("code(-3)", false),
        ("route(well)", true),
        ("route(ill)", false),
    ];
    for (cond, expected) in table {
        let script = format!(
            "route {{ $var(re) = \"al\"; if ({cond}) echo(\"T\"); else echo(\"F\"); }}
             route[well] {{ return(2); }} route[ill] {{ return(-2); }}"
        );
        let (host, _) = run_on(&script, sample_host());
        assert_eq!(host.lines(), if *expected { "T" } else { "F" }, "{cond}");
    }
}

#[test]
fn an_error_in_a_condition_takes_the_else_branch_even_when_negated() {
    for cond in ["$rU == 5", "!($rU == 5)", "$rU == 5 or good()", "good() and $rU > 5", "!$rU == 10.0.0.1"] {
        let (host, _) = run(&format!("if ({cond}) echo(\"T\"); else echo(\"F\"); echo(\"on\");"));
        assert_eq!(host.lines(), "F on", "{cond}");
        assert_eq!(host.errors.len(), 1, "{cond}");
    }
}

#[test]
fn and_and_or_stop_as_soon_as_the_result_is_known() {
    assert_eq!(logged("if (bad() and echo(\"x\")) {} if (good() or echo(\"y\")) {}"), "");
    assert_eq!(logged("if (good() and echo(\"x\")) {}"), "x");
}

/// Expression and its value.
#[test]
fn arithmetic_has_two_levels_from_left_to_right() {
    let table: &[(&str, Value)] = &[
        ("1 + 2 * 3", Value::Int(9)),
        ("1 + (2 * 3)", Value::Int(7)),
        ("10 - 2 - 3", Value::Int(5)),
        ("7 / 2", Value::Int(3)),
        ("7 % 4", Value::Int(3)),
        ("1 | 6 & 4", Value::Int(4)),
        ("1 << 4", Value::Int(16)),
        ("256 >> 4", Value::Int(16)),
        ("5 ^ 1", Value::Int(4)),
        ("~0", Value::Int(-1)),
        ("-5 + 2", Value::Int(-3)),
        ("1 + 1 << 2", Value::Int(8)),
        ("0x10 + 010", Value::Int(24)),
        ("5 / 0", Value::Int(0)),
        ("5 % 0", Value::Int(0)),
        ("\"sip:\" + $rU + \"@\" + $rd", s("sip:alice@example.com")),
        ("\"n\" + 5", s("n5")),
        ("\"n\" + $var(none)", s("n")),
        ("5 + $var(none)", Value::Int(5)),
        ("5 + $rU", Value::Int(0)),
        ("\"$rU at $(rd)\"", s("alice at example.com")),
        ("'$rU'", s("alice")),
        ("\"$$5\"", s("$5")),
        ("\"a$\"", s("a$")),
        ("\"$rU.\"", s("alice.")),
        ("\"$rU.$rd\"", s("alice.example.com")),
        ("\"$var(none)\"", s("<null>")),
        ("NULL", Value::Null),
        ("yes", Value::Int(1)),
        ("$(avp(list)[1])", s("b")),
        ("$(avp(list)[-1])", s("c")),
        ("$(avp(list)[*])", s("a,b,c")),
        ("$(avp(list)[$var(one)])", s("b")),
        ("$avp($var(name))", s("a")),
        ("$(<reply>rm)", s("ACK")),
    ];
    for (expr, expected) in table {
        let (host, _) = run(&format!("$var(one) = 1; $var(name) = \"list\"; $var(r) = {expr};"));
        assert_eq!(host.var("r"), *expected, "{expr}");
    }
}

#[test]
fn assignments_compute_with_the_old_value() {
    let table: &[(&str, Value)] = &[
        ("$var(x) = 6; $var(x) += 2;", Value::Int(8)),
        ("$var(x) = 6; $var(x) -= 2;", Value::Int(4)),
        ("$var(x) = 6; $var(x) *= 2;", Value::Int(12)),
        ("$var(x) = 6; $var(x) /= 2;", Value::Int(3)),
        ("$var(x) = 6; $var(x) %= 4;", Value::Int(2)),
        ("$var(x) = 6; $var(x) &= 3;", Value::Int(2)),
        ("$var(x) = 6; $var(x) |= 1;", Value::Int(7)),
        ("$var(x) = 6; $var(x) ^= 3;", Value::Int(5)),
        ("$var(x) = \"a\"; $var(x) += \"b\";", s("ab")),
        ("$var(x) = 6; $var(x) += \"b\";", Value::Int(6)),
        ("$var(x) = 6; $var(x) /= 0;", Value::Int(6)),
        ("$var(x) = 6; $var(x) += $var(none);", Value::Int(6)),
        ("$var(x) = 6; $var(x) = NULL;", Value::Null),
        ("$var(x) := 7;", Value::Int(7)),
    ];
    for (body, expected) in table {
        assert_eq!(run(body).0.var("x"), *expected, "{body}");
    }
}

#[test]
fn a_call_may_be_assigned_and_leaves_its_code() {
    assert_eq!(logged("$var(r) = code(-3); echo(\"$var(r) $rc\");"), "-3 -3");
    assert_eq!(logged("$var(r) = code(4) + code(5); echo(\"$var(r) $rc\");"), "9 1");
    assert_eq!(logged("$var(r) = zero(); echo(\"x\");"), "");
    let script = "route { $var(r) = route(sub, 2); echo(\"$var(r)\"); } route[sub] { return($param(1)); }";
    assert_eq!(run_on(script, sample_host()).0.lines(), "2");
    let mut host = sample_host();
    let p = program("route { $var(r) = 1 + slow(); echo(\"$var(r)\"); }", &host.names);
    let mut frame = Frame::new(&p, p.find(RouteType::Request, None).unwrap());
    assert!(matches!(frame.run(&mut host), Step::Wait(_)));
    frame.resume(7);
    frame.run(&mut host);
    assert_eq!(host.lines(), "slow Plain 8");
}

#[test]
fn a_list_variable_takes_values_on_top_and_colon_equals_replaces_them() {
    let (host, _) = run("$avp(n) = 1; $avp(n) = 2; $avp(list) := \"z\"; $(avp(n)[1]) = 9;");
    assert_eq!(host.avps["avp(n)"], [Value::Int(2), Value::Int(9)]);
    assert_eq!(host.avps["avp(list)"], [s("z")]);
    let (host, _) = run("$avp(list) = NULL;");
    assert_eq!(host.avps["avp(list)"], [s("b"), s("c")]);
    let (host, _) = run("$avp(list) := NULL;");
    assert!(host.avps["avp(list)"].is_empty());
}

#[test]
fn a_refused_assignment_is_reported_and_the_run_goes_on() {
    let (host, _) = run("$rd = \"bad\"; echo(\"$rc\");");
    assert_eq!(host.lines(), "-1");
    assert!(host.errors[0].contains("cannot assign `$rd`: no such domain"), "{:?}", host.errors);
}

#[test]
fn while_runs_until_its_condition_fails_or_break() {
    assert_eq!(logged("$var(i)=0; while ($var(i) < 3) { echo(\"$var(i)\"); $var(i) += 1; }"), "0 1 2");
    assert_eq!(
        logged(
            "$var(i)=0; while (1) { $var(i) = $var(i) + 1; if ($var(i) > 2) break; echo(\"$var(i)\"); } echo(\"e\");"
        ),
        "1 2 e"
    );
}

#[test]
fn while_stops_after_max_while_loops() {
    let script = "max_while_loops = 5 route { $var(i)=0; while(1) { $var(i) += 1; } echo(\"$var(i)\"); }";
    let (host, _) = run_on(script, sample_host());
    assert_eq!(host.lines(), "5");
    assert_eq!(host.errors.len(), 1);
}

#[test]
fn nested_loops_count_their_own_rounds() {
    let body = "$var(i)=0; while ($var(i)<2) { $var(j)=0; while ($var(j)<2) { echo(\"$var(i)$var(j)\"); $var(j)+=1; } $var(i)+=1; }";
    assert_eq!(logged(body), "00 01 10 11");
}

#[test]
fn for_each_walks_a_list_until_there_is_no_value() {
    assert_eq!(logged("for ($var(it) in $(avp(list)[*])) echo(\"$var(it)\");"), "a b c");
    assert_eq!(
        logged("for ($var(it) in $(avp(list)[*])) { if ($var(it) == \"b\") break; echo(\"$var(it)\"); }"),
        "a"
    );
    assert_eq!(logged("for ($var(it) in $(avp(nothing)[*])) echo(\"x\"); echo(\"e\");"), "e");
}

#[test]
fn switch_compares_without_case_and_falls_through_without_break() {
    let body = |v: &str| {
        format!(
            "$var(v) = {v}; switch ($var(v)) {{ case 1: echo(\"one\"); case 2: echo(\"two\"); break; \
             case \"ABC\": echo(\"abc\"); break; default: echo(\"other\"); }} echo(\"end\");"
        )
    };
    for (v, expected) in [
        ("1", "one two end"),
        ("2", "two end"),
        ("\"abc\"", "abc end"),
        ("3", "other end"),
        ("NULL", "other end"),
        ("\"1\"", "other end"),
    ] {
        assert_eq!(logged(&body(v)), expected, "{v}");
    }
    assert_eq!(logged("switch ($rm) { case \"INVITE\": echo(\"i\"); }"), "i");
    assert_eq!(logged("switch ($rm) { case \"BYE\": echo(\"b\"); } echo(\"e\");"), "e");
    assert_eq!(logged("switch ($rm) { case \"INVITE\": echo(\"i\"); default: echo(\"d\"); }"), "i d");
}

#[test]
fn break_and_return_leave_only_what_is_around_them() {
    let body = "$var(i) = 0; while ($var(i) < 3) { $var(i) += 1; \
                switch ($var(i)) { case 2: break; default: echo(\"$var(i)\"); } } echo(\"e\");";
    assert_eq!(logged(body), "1 3 e");
    let script = "route { $var(i) = 0; while ($var(i) < 2) { $var(i) += 1; route(sub); } echo(\"e\"); }
        route[sub] { for ($var(it) in $(avp(list)[*])) { while (1) { echo(\"$var(it)\"); return; } } }";
    assert_eq!(run_on(script, sample_host()).0.lines(), "a a e");
}

#[test]
fn if_and_else_nest_with_the_nearest_if() {
    assert_eq!(logged("if (bad()) if (good()) echo(\"a\"); else echo(\"b\"); echo(\"e\");"), "e");
    assert_eq!(logged("if (bad()) echo(\"a\"); else if (good()) echo(\"b\"); else echo(\"c\");"), "b");
    assert_eq!(logged("if (good()) {} else { echo(\"x\"); } ; { echo(\"y\"); }"), "y");
}

#[test]
fn a_result_of_zero_ends_the_script_wherever_it_appears() {
    for body in ["zero(); echo(\"x\");", "if (zero()) echo(\"x\"); echo(\"y\");", "route(z); echo(\"x\");"] {
        let (host, outcome) =
            run_on(&format!("route {{ {body} }} route[z] {{ return(0); echo(\"n\"); }}"), sample_host());
        assert_eq!((host.lines().as_str(), outcome), ("", Outcome { code: 0, how: How::Exit }), "{body}");
    }
}

#[test]
fn exit_and_drop_end_the_whole_run() {
    for (body, how, log) in [
        ("exit;", How::Exit, ""),
        ("exit();", How::Exit, ""),
        ("drop;", How::Drop, ""),
        ("drop();", How::Drop, ""),
        ("quit();", How::Exit, ""),
        ("lose();", How::Drop, ""),
        ("if (quit()) {}", How::Exit, ""),
        ("return;", How::End, "top"),
        ("", How::End, "sub top"),
    ] {
        let script = format!("route {{ route(sub); echo(\"top\"); }} route[sub] {{ {body} echo(\"sub\"); }}");
        let (host, outcome) = run_on(&script, sample_host());
        assert_eq!((outcome.how, host.lines().as_str()), (how, log), "{body}");
    }
}

#[test]
fn return_codes_reach_the_caller() {
    let table = [
        ("return;", "1"),
        ("return();", "1"),
        ("return(5);", "5"),
        ("return(-7);", "-7"),
        ("$var(x) = 3; return($var(x));", "3"),
        ("return($var(none));", "-1"),
        ("return($rU);", "1"),
        ("bad();", "-1"),
        ("code(4);", "4"),
        ("if (code(9)) {}", "9"),
        ("return(, 1);", "1"),
    ];
    for (body, expected) in table {
        let script =
            format!("route {{ route(sub); echo(\"$rc\"); echo(\"$retcode\"); }} route[sub] {{ {body} }}");
        let (host, _) = run_on(&script, sample_host());
        assert_eq!(host.log[0], expected, "{body}");
        assert_eq!(host.log[1], "1");
    }
}

#[test]
fn return_may_carry_values() {
    let script = "route { route(sub); echo(\"$return(0) $return(1) $return(2)\"); }
                  route[sub] { return(1, \"a-$rU\", $ml); }";
    assert_eq!(run_on(script, sample_host()).0.lines(), "a-alice 600 <null>");
}

#[test]
fn routes_take_arguments_and_see_only_their_own() {
    let script = "route { route(a, $rU, 5, \"x-$rm\"); echo(\"$param(1)\"); }
        route[a] { route(b, NULL, \"in\"); echo(\"$param(1)/$param(2)/$param(3)/$param(4)\"); }
        route[b] { echo(\"$param(1)/$param(2)\"); $var(i) = 2; echo(\"$param($var(i))\"); }";
    assert_eq!(run_on(script, sample_host()).0.lines(), "<null>/in in alice/5/x-INVITE/<null> <null>");
}

#[test]
fn a_route_may_be_called_by_a_computed_name() {
    let script =
        "route { $var(n) = \"b\"; route($var(n)); route(\"a$var(n)\"); route(\"no$var(n)\"); echo(\"$rc\"); }
        route[b] { echo(\"b\"); } route[ab] { echo(\"ab\"); }";
    let (host, _) = run_on(script, sample_host());
    assert_eq!(host.lines(), "b ab -1");
    assert_eq!(host.errors.len(), 1);
}

#[test]
fn route_variables_tell_where_the_run_is() {
    let script = "route { route(a); }\nroute[a] { route(b); }\n\nroute[b] {\n\
        echo(\"$route|$route.name|$route.type|$(route.name[1])|$(route[-1])|$(route[*])|$cfg_line|$cfg_file\"); }";
    assert_eq!(
        run_on(script, sample_host()).0.lines(),
        "route[b]|b|route|a|route|route > route[a] > route[b]|5|test.cfg"
    );
}

#[test]
fn arguments_are_converted_to_what_the_function_takes() {
    let table = [
        ("echo($ml);", "600"),
        ("echo(\"$rU@$rd\");", "alice@example.com"),
        ("two(\"a\", , 5);", "a/-/Some(5)"),
        ("two(\"a\");", "a/-/None"),
        ("two(\"a\", $var(none), $var(none));", "a/-/None"),
        ("$var(n) = \"12\"; two(\"a\", \"b\", $var(n));", "a/b/Some(12)"),
        ("raw(\"$rU\");", "$rU"),
        ("setflag(\"X\");", "flag X"),
        ("picky(\"good\");", "picky Some(42)"),
        ("picky($rU);", "picky None"),
        ("over(5); over(\"5\");", "Some(5) None None Some(b\"5\")"),
        ("store($var(a), \"v\"); echo($var(a));", "v"),
        ("$var(k)=\"n\"; store($avp($var(k)), \"v\"); echo($avp(n));", "v"),
    ];
    for (body, expected) in table {
        assert_eq!(logged(body), expected, "{body}");
    }
}

#[test]
fn nothing_as_a_mandatory_argument_makes_the_call_fail() {
    for body in
        ["echo($var(none)); echo(\"$rc\");", "code($var(none)); echo(\"$rc\");", "code($rU); echo(\"$rc\");"]
    {
        let (host, _) = run(body);
        assert_eq!(host.lines(), "-1", "{body}");
        assert_eq!(host.errors.len(), 1);
    }
}

#[test]
fn log_statements_carry_their_level() {
    let table = [
        ("xlog(\"hi $rU\\n\");", "hi alice\n"),
        ("code(-3); xlog(\"$rc\"); xlog(\"$rc\");", "-3 1"),
        ("xlog(\"L_INFO\", \"hi\");", "3:hi"),
        ("xlog(\"L_DBG\", \"a\" \"b\");", "4:ab"),
        ("$var(l) = \"L_WARN\"; xlog($var(l), \"hi\");", "1:hi"),
        ("$var(l) = 2; xlog($var(l), \"hi\");", "2:hi"),
        ("xdbg(\"d $rm\");", "4:d INVITE"),
        ("log(1, \"plain $rm\");", "1:plain $rm"),
        ("log(\"plain\");", "4:plain"),
    ];
    for (body, expected) in table {
        assert_eq!(logged(body), expected, "{body}");
    }
    let host = TestHost { level: Some(2), ..sample_host() };
    assert_eq!(run_on("route { xlog(\"L_INFO\", \"no\"); xlog(\"yes\"); }", host).0.lines(), "yes");
}

#[test]
fn assert_is_checked_only_when_enabled() {
    let body =
        "route { assert($rm == \"BYE\", \"not a BYE\"); echo(\"on\"); } error_route { echo(\"err\"); }";
    assert_eq!(run_on(body, sample_host()).0.lines(), "on");
    let (host, _) = run_on(&format!("enable_asserts = yes\n{body}"), sample_host());
    assert_eq!(host.lines(), "err");
    assert!(host.errors[0].contains("not a BYE"));
    let (host, outcome) = run_on("enable_asserts=1 route { assert(0); echo(\"on\"); }", sample_host());
    assert_eq!((host.lines().as_str(), outcome.how), ("", How::Exit));
    let mut host = sample_host();
    let p = program("enable_asserts=1 abort_on_assert=1 route { assert(0, \"x\"); }", &host.names);
    let step = Frame::new(&p, p.find(RouteType::Request, None).unwrap()).run(&mut host);
    assert!(matches!(step, Step::Failed(ScriptError::Assert { .. })));
}

#[test]
fn a_wait_resumes_in_the_middle_of_a_condition() {
    let mut host = sample_host();
    let p = program(
        "route { route(sub, \"keep\"); echo(\"after $rc\"); }
         route[sub] { $var(i) = 0; while ($var(i) < 1) { $var(i) += 1;
           if (good() and !slow() or bad()) echo(\"T $param(1)\"); else echo(\"F $param(1)\"); } return(7); }",
        &host.names,
    );
    for (code, expected) in [(1, "F keep"), (-1, "T keep")] {
        host.log.clear();
        let mut frame = Frame::new(&p, p.find(RouteType::Request, None).unwrap());
        assert!(matches!(frame.run(&mut host), Step::Wait("slow")));
        frame.resume(code);
        let Step::Done(outcome) = frame.run(&mut host) else { panic!() };
        assert_eq!(host.lines(), format!("slow Plain {expected} after 7"));
        assert_eq!(outcome.how, How::End);
    }
    let mut frame = Frame::new(&p, p.find(RouteType::Request, None).unwrap());
    assert!(matches!(frame.run(&mut host), Step::Wait("slow")));
    frame.resume(Finished::Drop);
    assert!(matches!(frame.run(&mut host), Step::Done(Outcome { how: How::Drop, .. })));
}

#[test]
fn a_frame_can_be_kept_anywhere() {
    fn send<T: Send + 'static>(_: T) {}
    let host = sample_host();
    let p = program("route { }", &host.names);
    send(Frame::new(&p, p.find(RouteType::Request, None).unwrap()));
}

#[test]
fn async_ends_the_run_and_names_its_resume_route() {
    let mut host = sample_host();
    let p = program(
        "route { async(slow(1), back, 5); echo(\"never\"); } route[back] { echo(\"back $rc\"); }",
        &host.names,
    );
    let main = p.find(RouteType::Request, None).unwrap();
    let Step::Async { wait: "slow", resume, timeout: Some(5) } = Frame::new(&p, main).run(&mut host) else {
        panic!()
    };
    Frame::new(&p, resume).with_code(-2).run(&mut host);
    assert_eq!(host.lines(), "slow Async(Some(5)) back -2");
    host.log.clear();
    host.fast = Some(3);
    assert!(matches!(Frame::new(&p, main).run(&mut host), Step::Done(_)));
    assert_eq!(host.lines(), "slow Async(Some(5)) back 3");
}

#[test]
fn launch_goes_on_at_once_and_evaluates_its_parameter_now() {
    let script = "route { launch(slow(1), done, \"p-$rU\"); launch(slow()); echo(\"on\"); } route[done] { }";
    let (host, _) = run_on(script, sample_host());
    assert_eq!(host.lines(), "slow Launch slow Launch on");
    let done = program(script, &host.names).find(RouteType::Request, Some("done"));
    assert_eq!(host.launched, [(done, Some(s("p-alice")), true), (None, None, true)]);
}

#[test]
fn an_event_route_reads_its_attributes_by_name_and_position() {
    let mut host = sample_host();
    let p = program("event_route[E_X] { echo(\"$param(aor) $param(2) $param(none)\"); }", &host.names);
    let route = p.find(RouteType::Event, Some("E_X")).unwrap();
    let params = [("domain".into(), s("location")), ("AOR".into(), s("alice"))];
    Frame::new(&p, route).with_named_params(params).run(&mut host);
    assert_eq!(host.lines(), "alice alice <null>");
}

#[test]
fn a_run_without_end_is_stopped() {
    let mut host = sample_host();
    let p = program("route { route(r); } route[r] { route(r); }", &host.names);
    let main = p.find(RouteType::Request, None).unwrap();
    let step = Frame::new(&p, main).run(&mut host);
    assert!(matches!(step, Step::Failed(ScriptError::Depth { depth: 100, line: 1, .. })), "{step:?}");
    let p = program(
        "max_while_loops = 100000000 route { $var(s) = \"ab\"; while (1) { $var(s) = $var(s) + $var(s); } }",
        &host.names,
    );
    let step = Frame::new(&p, p.find(RouteType::Request, None).unwrap()).run(&mut host);
    assert!(matches!(step, Step::Failed(ScriptError::Budget { .. })), "{step:?}");
}

#[test]
fn a_finished_frame_stays_finished() {
    let mut host = sample_host();
    let p = program("route { echo(\"x\"); exit; }", &host.names);
    let mut frame = Frame::new(&p, p.find(RouteType::Request, None).unwrap());
    frame.run(&mut host);
    assert!(matches!(frame.run(&mut host), Step::Done(Outcome { how: How::Exit, .. })));
    assert_eq!(host.lines(), "x");
}
