//! Where the log goes: each outlet with a level of its own and a switch, both changeable while running. The outlets
//! themselves are the binary's.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};

use crate::settings::Settings;

/// One outlet.
pub struct Outlet {
    /// Name in commands.
    pub name: &'static str,
    /// Highest level that passes, after `log_level`; 0 for all.
    pub level: AtomicI64,
    /// Nothing passes.
    pub muted: AtomicBool,
}

/// All outlets.
pub struct LogOutlets {
    /// The standard error.
    pub stderror: Outlet,
    /// The system's log.
    pub syslog: Outlet,
}

impl LogOutlets {
    /// As the core parameters say.
    pub fn new(settings: &Settings) -> LogOutlets {
        let outlet = |name, level, enabled| Outlet {
            name,
            level: AtomicI64::new(settings.int(level)),
            muted: AtomicBool::new(!settings.on(enabled)),
        };
        LogOutlets {
            stderror: outlet("stderror", "stderror_level_filter", "stderror_enabled"),
            syslog: outlet("syslog", "syslog_level_filter", "syslog_enabled"),
        }
    }

    /// An outlet by name.
    pub fn find(&self, name: &str) -> Option<&Outlet> {
        [&self.stderror, &self.syslog].into_iter().find(|o| o.name == name)
    }
}

impl Outlet {
    /// Whether a line of this level (-3 alert ... 4 debug) passes.
    pub fn takes(&self, level: i64) -> bool {
        let highest = self.level.load(Relaxed);
        !self.muted.load(Relaxed) && (highest == 0 || level <= highest)
    }
}
