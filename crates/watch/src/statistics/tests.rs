//! Scripts in, statistics out.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use switchroom_kernel::context::{Ctx, Flow, Received};
use switchroom_kernel::ports::net::{ConnId, Net, Outgoing, SocketId};
use switchroom_kernel::run::run_within;
use switchroom_kernel::{Kernel, Shard};
use switchroom_script::names::RouteType;
use switchroom_script::vm::Frame;
use switchroom_wire::sip::Message;

use super::MODULE;
use crate::testing::house;

struct NoNet;

impl Net for NoNet {
    fn send(&self, _: Outgoing) {}
    fn close(&self, _: ConnId) {}
    fn now(&self) -> Instant {
        Instant::now()
    }
}

/// Run the request route of a script on some message; gives the house and how the route ended.
fn run(params: &str, body: &str) -> Result<(Arc<Kernel>, i64), String> {
    let script = format!("loadmodule \"statistics.so\"\n{params}\nroute {{ {body} }}\n");
    let core: Vec<_> = switchroom_calls::MODULES.iter().copied().chain([&MODULE]).collect();
    let (kernel, _) = house(&format!("loadmodule \"core.so\"\n{script}"), &core)?;
    let shard = Shard::new(kernel.clone(), 0, Rc::new(NoNet));
    let text = "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
                To: <sip:a@b>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";
    let msg = Rc::new(Message::parse(text.as_bytes().to_vec().into()).unwrap());
    let received = Received { socket: SocketId(0), peer: ([127, 0, 0, 1], 5060).into(), conn: None };
    let mut ctx = Ctx::new(shard, msg, received, RouteType::Request);
    let program = kernel.program.load_full();
    let route = program.find(RouteType::Request, None).unwrap();
    let flow = run_within(&mut ctx, Frame::new(&program, route), |_, outcome| Flow::Value(outcome.code));
    let Flow::Value(code) = flow else { return Err("the script waits".into()) };
    Ok((kernel, code))
}

#[test]
fn counters_are_made_updated_and_reset() {
    let params = "modparam(\"statistics\", \"variable\", \"calls\")\n\
                  modparam(\"statistics\", \"variable\", \"active/no_reset\")\n\
                  modparam(\"statistics\", \"stat_groups\", \"method, other\")";
    let body = "update_stat(\"calls\", 5); update_stat(\"active\", 2); update_stat(\"active\", -1); \
                update_stat(\"method:$rm\", 3); $stat(new) = 7; $stat(calls) = $stat(calls) + 1; \
                update_stat(\"gone\", 4); reset_stat(\"gone\"); $stat(zero) = 9; $stat(zero) = 0; \
                if (reset_stat(\"active\")) { update_stat(\"wrong\", 1); } \
                if (update_stat(\"unknown:x\", 1)) { update_stat(\"wrong\", 1); }";
    let (kernel, _) = run(params, body).unwrap();
    let get = |name: &str| kernel.stats.get(name);
    assert_eq!(get("dynamic:calls"), Some(6));
    assert_eq!(get("active"), Some(1));
    assert_eq!(get("method:OPTIONS"), Some(3));
    assert_eq!(get("dynamic:new"), Some(7));
    assert_eq!((get("gone"), get("zero"), get("wrong")), (Some(0), Some(0), None));
}

#[test]
fn a_group_is_gone_through_one_by_one() {
    let params = "modparam(\"statistics\", \"stat_groups\", \"packet\")";
    let body = "update_stat(\"packet:a\", 1); update_stat(\"packet:b\", 2); update_stat(\"else\", 50); \
                stat_iter_init(\"packet\", \"i\"); \
                while (stat_iter_next($var(name), $var(value), \"i\")) { \
                  update_stat(\"sum\", $var(value)); update_stat(\"seen_$var(name)\", 1); reset_stat(\"packet:$var(name)\"); }";
    let (kernel, _) = run(params, body).unwrap();
    let get = |name: &str| kernel.stats.get(name);
    assert_eq!((get("sum"), get("seen_a"), get("seen_b")), (Some(3), Some(1), Some(1)));
    assert_eq!((get("packet:a"), get("packet:b"), get("else")), (Some(0), Some(0), Some(50)));
}

#[test]
fn series_are_read_like_statistics() {
    let params = "modparam(\"statistics\", \"stat_series_profile\", \"avg: algorithm=average\")\n\
                  modparam(\"statistics\", \"stat_series_profile\", \"asr: algorithm=percentage group=quality\")";
    let body = "update_stat_series(\"avg\", \"PDD\", 100); update_stat_series(\"avg\", \"PDD\", 200); \
                update_stat_series(\"asr\", \"ASR\", 1); update_stat_series(\"asr\", \"ASR\", -1); \
                update_stat(\"seen\", $stat(PDD));";
    let (kernel, _) = run(params, body).unwrap();
    assert_eq!(kernel.stats.get("avg:PDD"), Some(150));
    assert_eq!(kernel.stats.get("quality:ASR"), Some(50));
    assert_eq!(kernel.stats.get("seen"), Some(150));
}

#[test]
fn parameters_that_mean_nothing_are_refused() {
    let error = |params: &str, body: &str| run(params, body).err().unwrap();
    assert!(error("modparam(\"statistics\", \"variable\", \"x/forever\")", "exit;").contains("no_reset"));
    assert!(error("modparam(\"statistics\", \"variable\", \"g:x\")", "exit;").contains("stat_groups"));
    assert!(error("", "update_stat_series(\"nix\", \"a\", 1);").contains("nix"));
}
