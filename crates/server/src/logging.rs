//! The log: lines or JSON on standard error, with the language's levels, changeable while running.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tracing::{Level, Metadata};
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::prelude::*;

/// The level in force, shared with the kernel once that exists: -3 alert ... 4 debug.
pub static LEVEL: AtomicI64 = AtomicI64::new(2);

/// Start logging. Called once.
pub fn start(json: bool) {
    let filter = dynamic_filter_fn(|meta: &Metadata<'_>, _| {
        // The script's own lines were filtered where they were made.
        meta.target() == "script" || wanted(meta.level(), LEVEL.load(Ordering::Relaxed))
    });
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    if json {
        let layer = tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr).with_filter(filter);
        // A second start in one process (tests) keeps the first.
        let _ = tracing_subscriber::registry().with(layer).try_init();
    } else {
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(colours)
            .with_writer(std::io::stderr)
            .with_filter(filter);
        let _ = tracing_subscriber::registry().with(layer).try_init();
    }
}

/// Follow the kernel's level, which management commands change.
pub fn follow(kernel: &Arc<switchroom_kernel::Kernel>) {
    LEVEL.store(kernel.log_level.load(Ordering::Relaxed), Ordering::Relaxed);
    kernel.every(std::time::Duration::from_millis(500), |kernel| async move {
        LEVEL.store(kernel.log_level.load(Ordering::Relaxed), Ordering::Relaxed);
    });
}

fn wanted(level: &Level, log_level: i64) -> bool {
    let needed = match *level {
        Level::ERROR => -1,
        Level::WARN => 1,
        Level::INFO => 3,
        Level::DEBUG | Level::TRACE => 4,
    };
    log_level >= needed || *level == Level::ERROR
}
