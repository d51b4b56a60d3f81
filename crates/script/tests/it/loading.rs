//! The tree's top level, includes, and what a program tells about itself.

use std::collections::HashMap;

use switchroom_script::names::{RouteMask, RouteType};
use switchroom_script::parse::*;
use switchroom_script::vm::{Arg as Given, Args};
use switchroom_script::{Loader, NoLoader, Template, Variable, compile, parse};

use crate::support::*;

fn tree(script: &str) -> Ast {
    let (ast, diags) = parse("test.cfg", script.as_bytes(), &mut NoLoader);
    assert!(diags.iter().all(|d| !d.is_error()), "{}", switchroom_script::diag::render(&diags));
    ast
}

#[test]
fn global_parameters_keep_their_kind() {
    let ast = tree(
        "log_level=3\nlog_stdout = no\nserver_header=\"Server: x\"\nadvertised_address=1.2.3.4\nmpath=\"/a/\"\n\
         mpath = '/b'\nsyslog_facility = LOG_LOCAL0\nmem-group = \"g\": \"tm\" \"rr\"\n\
         tcp_workers = 4 use_auto_scaling_profile P\ndns_try_naptr=on\nxlog_level=-1 /* c */ udp_workers=0x4\n",
    );
    assert_eq!(ast.global("log_level"), Some(&GlobalValue::Int(3)));
    assert_eq!(ast.global("log_stdout"), Some(&GlobalValue::Int(0)));
    assert_eq!(ast.global("server_header"), Some(&GlobalValue::Str("Server: x".into())));
    assert_eq!(ast.global("advertised_address"), Some(&GlobalValue::Str("1.2.3.4".into())));
    assert_eq!(ast.global("syslog_facility"), Some(&GlobalValue::Str("LOG_LOCAL0".into())));
    assert_eq!(ast.global("dns_try_naptr"), Some(&GlobalValue::Int(1)));
    assert_eq!(ast.global("xlog_level"), Some(&GlobalValue::Int(-1)));
    assert_eq!(ast.global("udp_workers"), Some(&GlobalValue::Int(4)));
    assert_eq!(ast.globals_named("mpath").count(), 2);
    assert_eq!(ast.global("tcp_workers"), Some(&GlobalValue::Int(4)));
    assert_eq!(ast.global("tcp_workers_auto_scaling_profile"), Some(&GlobalValue::Str("P".into())));
}

#[test]
fn sockets_are_read_with_all_their_options() {
    let ast = tree(
        "socket=udp:10.0.0.1:5060 as 1.2.3.4:5070 use_workers 5 tag \"lan\" reuse_port\n\
         socket = tcp:[2001:db8::1]:5060,5070-5072\n  use_auto_scaling_profile P anycast\n\
         socket=udp:*:5060\nsocket= ws:eth0\nsocket=bond:b1 {\"udp:a:1\",\"tcp:a:1\"}\nlog_level=2\n",
    );
    let sockets: Vec<&SocketDef> = ast
        .globals_named("socket")
        .map(|g| match &g.value {
            GlobalValue::Socket(s) => s,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(sockets.len(), 5);
    let first = sockets[0];
    assert_eq!(
        (first.proto.as_deref(), first.host.as_str(), &first.ports[..]),
        (Some("udp"), "10.0.0.1", &[(5060, 5060)][..])
    );
    assert_eq!(first.advertise, Some(("1.2.3.4".into(), Some(5070))));
    assert_eq!((first.workers, first.tag.as_deref(), first.reuse_port), (Some(5), Some("lan"), true));
    assert_eq!(
        (sockets[1].host.as_str(), &sockets[1].ports[..]),
        ("2001:db8::1", &[(5060, 5060), (5070, 5072)][..])
    );
    assert_eq!((sockets[1].scaling.as_deref(), sockets[1].anycast), (Some("P"), true));
    assert_eq!(sockets[2].host, "*");
    assert_eq!((sockets[3].host.as_str(), sockets[3].ports.len()), ("eth0", 0));
    assert_eq!(sockets[4].bond, ["udp:a:1", "tcp:a:1"]);
    assert_eq!(ast.global("log_level"), Some(&GlobalValue::Int(2)));
}

#[test]
fn aliases_profiles_and_blacklists_are_structured() {
    let ast = tree(
        "alias=udp:example.com:5060 other.org accept_subdomain \"tcp:third.net\"\nalias = any:x.y\n\
         auto_scaling_profile = P scale up to 6 on 70% for 4 cycles within 5 scale down to 2 on 18% for 10 cycles\n\
         dst_blacklist = net/read-only,default : { (udp, 10.0.0.0/8, 0, \"\"), !(any, 1.2.3.4, 5060, \"x*\") }\n",
    );
    let lists: Vec<_> = ast.globals_named("alias").map(|g| &g.value).collect();
    let GlobalValue::Alias(list) = lists[0] else { panic!() };
    assert_eq!(list.len(), 3);
    assert_eq!(
        (list[0].proto.as_deref(), list[0].host.as_str(), list[0].port),
        (Some("udp"), "example.com", Some(5060))
    );
    assert!(list[1].accept_subdomain && list[1].proto.is_none());
    assert_eq!(list[2].host, "third.net");
    let Some(GlobalValue::Scaling(p)) = ast.global("auto_scaling_profile") else { panic!() };
    assert_eq!((p.up_to, p.up_load, p.up_cycles, p.within, p.down), (6, 70, 4, Some(5), Some((2, 18, 10))));
    let Some(GlobalValue::Blacklist(b)) = ast.global("dst_blacklist") else { panic!() };
    assert_eq!((b.name.as_str(), b.options.len(), b.rules.len()), ("net", 2, 2));
    assert!(b.rules[1].negated && b.rules[1].port == 5060 && b.rules[1].proto.is_none());
}

#[test]
fn modules_and_their_parameters_are_listed() {
    let ast = tree(
        "loadmodule \"tm.so\"\nloadmodule \"/usr/lib/rr.so\";\nmodparam(\"tm\", \"fr_timeout\", 5)\n\
         modparam(\"auth_db|usrloc\", \"db_url\",\n   \"mysql:\" \"//x\")\nmodparam('rr', 'enable', -1)\n",
    );
    let names: Vec<_> = ast.modules.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(names, ["tm", "rr"]);
    assert_eq!(ast.params[0].value, ParamValue::Int(5));
    assert_eq!(ast.params[1].value, ParamValue::Str("mysql://x".into()));
    assert_eq!(ast.params[2].value, ParamValue::Int(-1));
    assert!(
        ast.params[1].is_for("usrloc") && ast.params[1].is_for("auth_db") && !ast.params[1].is_for("auth")
    );
}

struct Files(HashMap<&'static str, &'static str>);

impl Loader for Files {
    fn load(&mut self, path: &str, _from: &str) -> Result<(String, Vec<u8>), String> {
        self.0
            .get(path)
            .map(|t| (path.to_string(), t.as_bytes().to_vec()))
            .ok_or_else(|| "no such file".into())
    }
}

#[test]
fn includes_are_read_in_place_and_keep_their_lines() {
    let mut files = Files(HashMap::from([
        ("a.cfg", "route[a] {\n  echo(\"a\");\n  include_file 'b.cfg'\n}\n"),
        ("b.cfg", "echo(\"b\");\neco();"),
        ("loop.cfg", "import_file \"loop.cfg\"\n"),
    ]));
    let text = b"log_level=2\n  import_file \"a.cfg\"\nroute { route(a); eco2(); }\n";
    let (ast, diags) = parse("main.cfg", text, &mut files);
    assert!(diags.is_empty(), "{diags:?}");
    let names = TestNames::default();
    let errors = compile(&ast, &names).unwrap_err();
    let places: Vec<_> = errors.iter().map(|d| (d.file.as_ref(), d.line, d.column)).collect();
    assert_eq!(places, [("b.cfg", 2, 1), ("main.cfg", 3, 19)]);
    let (_, diags) = parse("x.cfg", b"import_file \"loop.cfg\"", &mut files);
    assert!(diags[0].message.contains("more than 50 files"), "{diags:?}");
}

#[test]
fn a_program_tells_its_routes_and_functions() {
    let names = TestNames::default();
    let p = program(
        "route { echo(\"x\"); append_branch(); }\nroute[sub] {}\nonreply_route {}\nonreply_route[nat] {}\n\
         timer_route[t, 60] {}\nstartup_route {}\nevent_route[E_X] {}\nroute[0x] {}\n",
        &names,
    );
    assert!(p.find(RouteType::Request, None).is_some());
    assert_eq!(p.find(RouteType::Request, Some("0")), p.find(RouteType::Request, None));
    assert!(p.find(RouteType::Onreply, None).is_some() && p.find(RouteType::Onreply, Some("nat")).is_some());
    assert!(p.find(RouteType::Request, Some("nat")).is_none());
    let timer = p.routes().find(|r| r.kind == RouteType::Timer).unwrap();
    assert_eq!((timer.name.as_deref(), timer.interval, timer.line), (Some("t"), 60, 5));
    assert!(
        p.uses_function("echo") && p.uses_function("append_branch") && p.uses_function("append_msg_branch")
    );
    assert!(!p.uses_function("slow"));
}

#[test]
fn templates_and_variables_work_outside_of_a_script() {
    let mut host = sample_host();
    let t = Template::compile(b"<$rU@$(rd{s.toupper})>", &host.names).unwrap();
    assert_eq!(&t.expand(&mut host)[..], b"<alice@EXAMPLE.COM>");
    assert_eq!(t.fixed(), None);
    assert_eq!(Template::compile(b"plain", &host.names).unwrap().fixed(), Some("plain".into()));
    let number = Template::compile(b"$ml", &host.names).unwrap();
    assert_eq!(number.value(&mut host), 600.into());
    assert!(Template::compile(b"$nope", &host.names).unwrap_err().contains("no variable `$nope`"));
    let v = Variable::compile("$avp(list)", &host.names).unwrap();
    assert!(v.writable() && v.access().is_some());
    assert_eq!(v.value(&mut host), s("a"));
    assert!(Variable::compile("avp", &host.names).is_err());
}

#[test]
fn route_masks_are_read_from_their_letters() {
    const MASK: RouteMask = RouteMask::of("RFV");
    assert!(
        MASK.allows(RouteType::Request) && MASK.allows(RouteType::Event) && !MASK.allows(RouteType::Onreply)
    );
    assert!(RouteType::ALL.into_iter().all(|t| RouteMask::of("*").allows(t)));
}

#[test]
fn arguments_are_absent_behind_the_last() {
    let args = Args(&[]);
    assert!(args.is_empty() && matches!(args.get(3), Given::Absent) && args.str(0).is_none());
}

#[test]
fn a_program_lists_its_calls_with_their_fixed_arguments() {
    use switchroom_script::names::StaticArg;
    let names = TestNames::default();
    let p = program("route {\n  two(\"a\", $ru);\n  code(5);\n}", &names);
    let calls: Vec<_> = p.calls().collect();
    assert_eq!((calls[0].name, calls[0].position.line), ("two", 2));
    assert_eq!(calls[0].args, [StaticArg::Str("a".into()), StaticArg::Dynamic]);
    assert_eq!(calls[1].args, [StaticArg::Int(5)]);
}
