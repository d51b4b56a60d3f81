//! Cost of scripts: loading one of 2,000 lines, and running the residential script for an INVITE with functions that answer
//! at once and do nothing, so that what is measured is the machine itself.

#![allow(missing_docs)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use switchroom_kernel::Module;
use switchroom_kernel::load::{Source, load};
use switchroom_kernel::registry::Registry;
use switchroom_script::names::{Prepared, RouteType};
use switchroom_script::vm::{
    Args, AssignOp, CallMode, Flow, Frame, Host, LaunchJob, Position, Step, VarAccess,
};
use switchroom_script::{RouteId, Value};

const RESIDENTIAL: &str = include_str!("../src/default.cfg");

fn modules() -> Vec<&'static Module> {
    let floors = [
        switchroom_data::MODULES,
        switchroom_calls::MODULES,
        switchroom_users::MODULES,
        switchroom_money::MODULES,
        switchroom_tools::MODULES,
        switchroom_watch::MODULES,
    ];
    floors.into_iter().flatten().copied().collect()
}

/// An INVITE by somebody who is known to somebody who is registered.
struct Invite<'a> {
    registry: &'a Registry,
    user: Bytes,
}

impl Host for Invite<'_> {
    type Wait = ();

    fn call(&mut self, func: u32, args: Args<'_>, _: Option<&Prepared>, _: CallMode) -> Flow<()> {
        let name = self.registry.function_at(func).map_or("", |f| f.name);
        let yes = match name {
            "has_totag" | "t_check_trans" | "loose_route" => false,
            "is_method" => args.str(0).is_some_and(|m| m.windows(6).any(|w| w == b"INVITE")),
            _ => true,
        };
        Flow::Value(if yes { 1 } else { -1 })
    }
    fn get(&mut self, _: &VarAccess) -> Value {
        Value::Str(self.user.clone())
    }
    fn set(&mut self, _: &VarAccess, _: AssignOp, _: Value) -> Result<(), String> {
        Ok(())
    }
    fn log(&mut self, _: i32, text: &[u8], _: Position<'_>) {
        black_box(text);
    }
    fn launch(&mut self, _: LaunchJob<()>, _: Option<RouteId>, _: Option<Value>) {}
    fn error(&mut self, at: Position<'_>, text: &str) {
        panic!("{at}: {text}");
    }
}

fn main() {
    let text = RESIDENTIAL.replace("@MI_PORT@", "8888");
    let (head, routes) = text.split_once("####### Routes").expect("the script has its parts");
    let mut long = head.to_owned();
    long.push_str(routes);
    let copy = routes.trim_start();
    for i in 0.. {
        if long.lines().count() >= 2000 {
            break;
        }
        // The routes again under other names, as a script of that length would have them.
        let again = copy.replacen("route {", &format!("route[copy{i}] {{"), 1);
        let again =
            ["branch_route[", "onreply_route[", "failure_route[", "\nroute["].iter().fold(again, |t, k| {
                t.replace(&format!("\n{}", k.trim_start()), &format!("\n{}c{i}_", k.trim_start()))
            });
        long.push_str(&again.replace(&format!("route[c{i}_copy{i}]"), &format!("route[copy{i}]")));
    }
    let all = modules();
    let source = Source::Text("long.cfg".into(), long.as_bytes().into());
    let mut best = f64::MAX;
    for _ in 0..20 {
        let started = Instant::now();
        let loaded = load(&source, &all, &["core", "cache"]);
        best = best.min(started.elapsed().as_secs_f64());
        if let Err(errors) = loaded {
            panic!("{}", switchroom_script::diag::render(&errors));
        }
    }
    println!("load a script of {} lines: {:.2} ms", long.lines().count(), best * 1e3);

    let source = Source::Text("residential.cfg".into(), text.as_bytes().into());
    let loaded = load(&source, &all, &["core", "cache"])
        .unwrap_or_else(|e| panic!("{}", switchroom_script::diag::render(&e)));
    let program = Arc::new(loaded.program);
    let route = program.find(RouteType::Request, None).expect("the main route");
    let mut host = Invite { registry: &loaded.registry, user: Bytes::from_static(b"bob") };
    let mut run = || {
        let step = Frame::new(&program, route).run(&mut host);
        assert!(matches!(step, Step::Done(_)));
    };
    const ROUNDS: u32 = 200_000;
    (0..ROUNDS / 10).for_each(|_| run());
    let mut best = f64::MAX;
    for _ in 0..5 {
        let started = Instant::now();
        (0..ROUNDS).for_each(|_| run());
        best = best.min(started.elapsed().as_secs_f64() / f64::from(ROUNDS));
    }
    println!("residential INVITE through the machine: {:.3} us", best * 1e6);
}
