//! The binary `switchroom`: the command line, and where ports meet drivers.

mod allocator;
mod catalogue;
mod check;
mod cli;
#[cfg(test)]
mod corpus;
mod database;
mod default_script;
mod demo;
mod doc;
mod fmt;
mod house;
mod logging;
mod lsp;
mod manage;
mod manual;
mod ready;
mod rehearse;
mod run;
mod script_test;
mod smpp;
mod sockets;
mod trace_script;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    allocator::configure();
    // Calls come and go in small pieces; clearing two megabytes for the first of them stalls a worker for nothing gained.
    if let Err(e) = rustix::thread::disable_transparent_huge_pages(true) {
        eprintln!("switchroom: huge pages stay on: {e}");
    }
    let cli = cli::Cli::parse();
    let result = match cli.command {
        cli::Command::Run(args) => run::run(args),
        cli::Command::Check(args) => check::check(&args),
        cli::Command::Mi(args) => manage::manage(&args),
        cli::Command::Trace(args) => manage::trace(&args),
        cli::Command::Db(args) => database::db(&args),
        cli::Command::User(args) => database::user(&args),
        cli::Command::Init(args) => default_script::init(&args),
        cli::Command::Demo(args) => demo::demo(&args),
        cli::Command::Completions(args) => cli::completions(&args),
        cli::Command::Fmt(args) => fmt::fmt(&args),
        cli::Command::Lsp => lsp::lsp(),
        cli::Command::Test(args) => script_test::test(&args),
        cli::Command::TraceScript(args) => trace_script::trace(&args),
        cli::Command::Smpp(args) => smpp::smpp(args),
        cli::Command::Doc(args) => doc::doc(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("switchroom: {error:#}");
            ExitCode::FAILURE
        }
    }
}
