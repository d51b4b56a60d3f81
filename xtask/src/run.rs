//! Running cargo: everything a change has to pass, in the order in which a failure shows soonest.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::{packages, tidy};

/// One line of the closing table.
struct Step {
    name: &'static str,
    passed: bool,
    time: Duration,
}

/// `cargo xtask test`. Goes on after a failed step, so that one run shows all that is wrong.
pub fn test(root: &Path) -> Result<(), String> {
    let left_out = packages::install()?;
    let mut steps = Vec::new();
    let mut step = |name: &'static str, work: &mut dyn FnMut() -> Result<(), String>| {
        println!("==> {name}");
        let started = Instant::now();
        let done = work();
        if let Err(why) = &done {
            eprintln!("{}", why.trim_end());
        }
        steps.push(Step { name, passed: done.is_ok(), time: started.elapsed() });
    };
    step("format", &mut || cargo(root, &["fmt", "--all", "--check"]));
    step("tidy", &mut || tidy::check(root));
    step("lint", &mut || {
        cargo(root, &["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"])
    });
    // Tests that start the program look for it here.
    step("build", &mut || cargo(root, &["build", "--locked", "--workspace", "--bins"]));
    let chosen = left_out.iter().fold("all()".to_owned(), |chosen, test| format!("{chosen} - {test}"));
    let run = ["nextest", "run", "--locked", "--workspace", "--no-fail-fast", "--filterset", &chosen];
    step("test", &mut || cargo(root, &run));
    step("doctest", &mut || cargo(root, &["test", "--locked", "--workspace", "--doc", "--quiet"]));
    summary(&steps)
}

/// `cargo xtask bench`.
pub fn bench(root: &Path) -> Result<(), String> {
    cargo(root, &["bench", "--locked", "--workspace", "--benches"])
}

fn summary(steps: &[Step]) -> Result<(), String> {
    println!();
    for step in steps {
        let verdict = if step.passed { "passed" } else { "FAILED" };
        println!("{:<8} {verdict}  {:>6.1} s", step.name, step.time.as_secs_f64());
    }
    let failed: Vec<&str> = steps.iter().filter(|s| !s.passed).map(|s| s.name).collect();
    println!("\nsteps: {} passed, {} failed", steps.len() - failed.len(), failed.len());
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
}

/// Runs cargo in the workspace, with its output on ours.
pub fn cargo(root: &Path, args: &[&str]) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo).args(args).current_dir(root).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("cargo {}: {status}", args.join(" "))),
        Err(e) => Err(format!("cargo {}: {e}", args.join(" "))),
    }
}
