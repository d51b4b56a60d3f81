//! The log: lines or JSON on standard error, and lines in the system's log (RFC 3164, over its local socket), with the
//! language's levels, changeable while running.
//!
//! Left out: JSON in the system's log.

use std::fmt::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use switchroom_kernel::Kernel;
use switchroom_kernel::outlets::LogOutlets;
use switchroom_kernel::settings::Settings;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{FormatEvent, Writer};
use tracing_subscriber::layer::Context;
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;

/// The level in force, shared with the kernel once that exists: -3 alert ... 4 debug.
pub static LEVEL: AtomicI64 = AtomicI64::new(2);
/// What the script says of the log; unset until it is read.
static HOUSE: OnceLock<Rules> = OnceLock::new();
/// Sockets of the system's log.
const SYSLOG: [&str; 2] = ["/dev/log", "/var/run/syslog"];

struct Rules {
    kernel: Arc<Kernel>,
    prefix: String,
    syslog: Option<Syslog>,
}

/// Start logging. Called once.
pub fn start(json: bool) {
    let filter = dynamic_filter_fn(|meta: &Metadata<'_>, _| {
        wanted(meta)
            && HOUSE.get().is_none_or(|h| h.kernel.log_outlets.stderror.takes(level_of(meta.level())))
    });
    let system = ToSyslog.with_filter(dynamic_filter_fn(|meta: &Metadata<'_>, _| {
        let takes =
            |h: &Rules| h.syslog.is_some() && h.kernel.log_outlets.syslog.takes(level_of(meta.level()));
        wanted(meta) && HOUSE.get().is_some_and(takes)
    }));
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    if json {
        let layer = tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr).with_filter(filter);
        // A second start in one process (tests) keeps the first.
        let _ = tracing_subscriber::registry().with(system).with(layer).try_init();
    } else {
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(colours)
            .with_writer(std::io::stderr)
            .event_format(Prefixed(tracing_subscriber::fmt::format()))
            .with_filter(filter);
        let _ = tracing_subscriber::registry().with(system).with(layer).try_init();
    }
}

/// Follow the kernel's level, which management commands change, and what its script says of the log.
pub fn follow(kernel: &Arc<Kernel>) {
    LEVEL.store(kernel.log_level.load(Ordering::Relaxed), Ordering::Relaxed);
    let settings = &kernel.settings;
    let prefix = settings.str("log_prefix").map(|p| format!("{p}: ")).unwrap_or_default();
    let syslog = settings.on("syslog_enabled").then(|| Syslog::open(settings)).flatten();
    stay_audible(&kernel.log_outlets, settings, syslog.is_some());
    // Another house in the same process (tests) keeps the rules of the first.
    let _ = HOUSE.set(Rules { kernel: kernel.clone(), prefix, syslog });
    kernel.every(std::time::Duration::from_millis(500), |kernel| async move {
        LEVEL.store(kernel.log_level.load(Ordering::Relaxed), Ordering::Relaxed);
    });
}

/// A log that goes nowhere helps nobody: without the system's log it stays on the standard error.
fn stay_audible(outlets: &LogOutlets, settings: &Settings, syslog: bool) {
    if settings.on("syslog_enabled") && !syslog {
        tracing::warn!("the system's log cannot be reached at {}", SYSLOG.join(" or "));
    }
    if outlets.stderror.muted.load(Ordering::Relaxed) && !syslog {
        outlets.stderror.muted.store(false, Ordering::Relaxed);
    }
}

fn wanted(meta: &Metadata<'_>) -> bool {
    // The script's own lines were filtered where they were made.
    meta.target() == "script" || {
        let log_level = LEVEL.load(Ordering::Relaxed);
        log_level >= level_of(meta.level()) || *meta.level() == Level::ERROR
    }
}

fn level_of(level: &Level) -> i64 {
    match *level {
        Level::ERROR => -1,
        Level::WARN => 1,
        Level::INFO => 3,
        Level::DEBUG | Level::TRACE => 4,
    }
}

/// Lines with `log_prefix` in front.
struct Prefixed<F>(F);

impl<S, N, F> FormatEvent<S, N> for Prefixed<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &tracing_subscriber::fmt::FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if let Some(house) = HOUSE.get() {
            writer.write_str(&house.prefix)?;
        }
        self.0.format_event(context, writer, event)
    }
}

/// The system's log.
struct Syslog {
    socket: UnixDatagram,
    facility: u8,
    /// `name[pid]: `
    tag: String,
}

impl Syslog {
    /// Never waits: what the system's log does not take at once is lost, as with `syslog(3)` over a full socket.
    fn open(settings: &Settings) -> Option<Syslog> {
        let socket = UnixDatagram::unbound().ok()?;
        SYSLOG.iter().find(|path| socket.connect(path).is_ok())?;
        socket.set_nonblocking(true).ok()?;
        let name = settings.str("syslog_name").unwrap_or("switchroom");
        let tag = format!("{name}[{}]: ", std::process::id());
        Some(Syslog { socket, facility: facility(settings.str("syslog_facility").unwrap_or_default()), tag })
    }
}

/// RFC 3164 §4.1.1.
fn facility(name: &str) -> u8 {
    let name = name.strip_prefix("LOG_").unwrap_or(name);
    match name {
        "KERN" => 0,
        "USER" => 1,
        "MAIL" => 2,
        "AUTH" => 4,
        "SYSLOG" => 5,
        "LPR" => 6,
        "NEWS" => 7,
        "UUCP" => 8,
        "CRON" => 9,
        "AUTHPRIV" => 10,
        "FTP" => 11,
        _ => match name.strip_prefix("LOCAL").and_then(|n| n.parse::<u8>().ok()) {
            Some(n @ 0..=7) => 16 + n,
            _ => 3,
        },
    }
}

struct ToSyslog;

impl<S: Subscriber> tracing_subscriber::Layer<S> for ToSyslog {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Some(house) = HOUSE.get() else { return };
        let Some(syslog) = &house.syslog else { return };
        let severity = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        let mut line = Line(format!("<{}>{}{}", syslog.facility * 8 + severity, syslog.tag, house.prefix));
        if event.metadata().target() != "script" {
            let _ = write!(line.0, "{}: ", event.metadata().target());
        }
        event.record(&mut line);
        let _ = syslog.socket.send(line.0.as_bytes());
    }
}

/// The fields of an event as text.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facilities_have_the_numbers_of_the_rfc() {
        assert_eq!(facility("LOG_DAEMON"), 3);
        assert_eq!(facility("LOG_LOCAL0"), 16);
        assert_eq!(facility("LOCAL7"), 23);
        assert_eq!(facility("LOG_LOCAL9"), 3);
    }
}
