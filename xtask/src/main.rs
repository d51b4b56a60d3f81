//! Tasks of the house: `cargo xtask tidy | test | bench | coverage`.
//!
//! It knows nothing of the program itself; it only runs cargo, installs what tests need and reads the tree.

mod coverage;
mod packages;
mod run;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask COMMAND

  tidy    check the rules of the house that the compiler does not know
  test    install what the tests need, then check formatting, lints and rules, and run every test
  bench   run the benchmarks, then compare with Kamailio where it is installed
  coverage   what is there of the functions, parameters and variables of OpenSIPS
";

fn main() -> ExitCode {
    let root = root();
    let done = match std::env::args().nth(1).as_deref() {
        Some("tidy") => tidy::check(&root),
        Some("test") => run::test(&root),
        Some("coverage") => coverage::report(&root),
        Some("bench") => run::bench(&root),
        Some("help" | "--help" | "-h") => {
            print!("{HELP}");
            Ok(())
        }
        _ => Err(HELP.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{}", why.trim_end());
            ExitCode::FAILURE
        }
    }
}

/// The workspace's folder: the parent of this crate's.
fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}
