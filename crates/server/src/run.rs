//! `switchroom run`: start, say where it listens, wait for signals, end in order.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc;

use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use switchroom_kernel::load::Source;

use crate::cli::RunArgs;
use crate::house::{House, Options};
use crate::{check, default_script, logging, ready, sockets};

/// What the main thread waits for.
enum Wish {
    Stop,
    Reload,
}

/// Run until told to stop.
pub fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    logging::start(args.log_json);
    let (source, built_in) = match &args.file {
        Some(file) => (check::source(file, args.preprocessor.as_deref())?, false),
        None => (
            Source::Text("built-in".into(), default_script::prepare(&args.data_dir)?.into_bytes().into()),
            true,
        ),
    };
    let options = Options {
        listen: args.listen.iter().map(|l| sockets::parse_listen(l)).collect::<Result<_, _>>()?,
        workers: args.workers,
        arguments: args.option.iter().map(|o| split_option(o)).collect(),
    };
    let (wishes, wait) = mpsc::channel();
    let signals = wishes.clone();
    let mut hooks = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP]).context("signals")?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in hooks.forever() {
            let wish = if signal == SIGHUP { Wish::Reload } else { Wish::Stop };
            if signals.send(wish).is_err() {
                return;
            }
        }
    })?;
    let house = House::start(source, options)?;
    house.kernel.set_stop(Arc::new(move || {
        // The receiver lives as long as the server.
        let _ = wishes.send(Wish::Stop);
    }));
    check::print(&house.warnings);
    for s in house.sockets() {
        println!("listening on {}", s.name());
    }
    if built_in {
        println!("{}", default_script::what_next(&args.data_dir));
    }
    println!("ready");
    ready::notify("READY=1");
    // Everything else ends it.
    while let Ok(Wish::Reload) = wait.recv() {
        ready::notify("RELOADING=1");
        match house.kernel.reload_script() {
            Ok(()) => {
                switchroom_calls::core::events::subscribe_routes(&house.kernel);
                println!("script reloaded");
            }
            Err(e) => tracing::error!("the script was not reloaded:\n{e}"),
        }
        ready::notify("READY=1");
    }
    ready::notify("STOPPING=1");
    println!("stopping");
    house.stop();
    Ok(ExitCode::SUCCESS)
}

fn split_option(text: &str) -> (String, String) {
    match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), value.to_owned()),
        None => (text.to_owned(), "1".to_owned()),
    }
}
