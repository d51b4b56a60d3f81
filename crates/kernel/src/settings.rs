//! Core parameters: the global assignments of a script (`log_level=3`), checked and typed.

use std::collections::HashMap;

/// Type of a core parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Integer.
    Int,
    /// Truth value, written as 0/1/yes/no.
    Bool,
    /// String.
    Str,
    /// Read by the start-up code itself (`socket`, `alias` ...).
    Special,
    /// Understood and without effect here; the text says why.
    Moot(&'static str),
    /// The same, and not worth a word while it has its default value.
    MootUnlessDefault(&'static str),
}

/// One core parameter.
pub struct Global {
    /// Name.
    pub name: &'static str,
    /// Type.
    pub kind: Kind,
    /// Default as written.
    pub default: &'static str,
    /// Today's name when this is an old one.
    pub renamed_to: Option<&'static str>,
}

const fn g(name: &'static str, kind: Kind, default: &'static str) -> Global {
    Global { name, kind, default, renamed_to: None }
}
const fn old(name: &'static str, kind: Kind, today: &'static str) -> Global {
    Global { name, kind, default: "", renamed_to: Some(today) }
}

const PROCESSES: Kind = Kind::Moot("processes are not forked; one worker per core shares nothing");
const NO_LOG_EVENT: Kind = Kind::MootUnlessDefault(
    "lines of the log are no events; `syslog_enabled` and `--log-json` take them elsewhere",
);
const NO_FOLDER: Kind = Kind::Moot("relative paths count from where the program was started");
const NO_NAMES: Kind =
    Kind::MootUnlessDefault("addresses are compared and `received` is written without asking a DNS server");
const NO_LIMIT: Kind =
    Kind::MootUnlessDefault("slow steps hold up nothing here; `script_trace()` shows their times");
const NO_MULTICAST: Kind = Kind::MootUnlessDefault("sockets do not take part in multicast");
const ONE_BOUND: Kind = Kind::MootUnlessDefault("strings have one bound of some megabytes");
const SHARED_COMMITS: Kind = Kind::MootUnlessDefault("rows that wait together are written together anyway");
const MEMORY: Kind = Kind::Moot("memory is not divided into pools");

/// All core parameters, current and old.
pub static GLOBALS: &[Global] = &[
    g("abort_on_assert", Kind::Bool, "0"),
    g("advertised_address", Kind::Str, ""),
    g("advertised_port", Kind::Int, "0"),
    g("alias", Kind::Special, ""),
    g(
        "auto_aliases",
        Kind::MootUnlessDefault("names are not looked up at the start; name each with `alias`"),
        "0",
    ),
    g("auto_scaling_cycle", PROCESSES, ""),
    g("auto_scaling_profile", PROCESSES, ""),
    g("udp_workers_auto_scaling_profile", PROCESSES, ""),
    g("tcp_workers_auto_scaling_profile", PROCESSES, ""),
    g("timer_workers_auto_scaling_profile", PROCESSES, ""),
    g("check_via", Kind::Bool, "0"),
    g("chroot", Kind::Moot("let the service manager do it, for example `RootDirectory=` of systemd"), ""),
    g("db_default_url", Kind::Str, ""),
    g(
        "db_max_async_connections",
        Kind::MootUnlessDefault("the drivers know how many connections a database takes well"),
        "10",
    ),
    g("db_version_table", Kind::Str, "version"),
    g("debug_mode", Kind::Bool, "0"),
    g("disable_503_translation", Kind::Bool, "0"),
    g("disable_core_dump", Kind::Moot("the operating system decides"), ""),
    g("disable_dns_blacklist", Kind::Bool, "1"),
    g("disable_dns_failover", Kind::Bool, "0"),
    g("disable_stateless_fwd", Kind::Bool, "1"),
    g("dns", NO_NAMES, "0"),
    g("dns_retr_no", Kind::Int, "2"),
    g("dns_retr_time", Kind::Int, "2"),
    g("dns_servers_no", Kind::MootUnlessDefault("all servers of /etc/resolv.conf are used"), "0"),
    g("dns_try_ipv6", Kind::Bool, "0"),
    g("dns_try_naptr", Kind::Bool, "1"),
    g("dns_use_search_list", Kind::Bool, "1"),
    g("dst_blacklist", Kind::Special, ""),
    g("enable_asserts", Kind::Bool, "0"),
    g("event_pkg_threshold", MEMORY, ""),
    g("event_shm_threshold", MEMORY, ""),
    g("exec_dns_threshold", NO_LIMIT, "0"),
    g("exec_msg_threshold", NO_LIMIT, "0"),
    g("log_event_enabled", NO_LOG_EVENT, "0"),
    g("log_event_level_filter", NO_LOG_EVENT, "0"),
    g("log_json_buf_size", MEMORY, ""),
    g("log_level", Kind::Int, "2"),
    g("log_msg_buf_size", MEMORY, ""),
    g("log_prefix", Kind::Str, ""),
    g("log_stdout", Kind::MootUnlessDefault("nothing else writes to the standard output"), "0"),
    g("max_while_loops", Kind::Int, "10000"),
    g("maxbuffer", Kind::Int, "262144"),
    g("mcast_loopback", NO_MULTICAST, "0"),
    g("mcast_ttl", NO_MULTICAST, "0"),
    g("mem_group", MEMORY, ""),
    g("mem_dump", MEMORY, ""),
    g("memdump", MEMORY, ""),
    g("mem_log", MEMORY, ""),
    g("memlog", MEMORY, ""),
    g("mem_warming", MEMORY, ""),
    g("mem_warming_enabled", MEMORY, ""),
    g("mem_warming_pattern_file", MEMORY, ""),
    g("mem_warming_percentage", MEMORY, ""),
    g("mhomed", Kind::Bool, "0"),
    g("mpath", Kind::Str, ""),
    g(
        "open_files_limit",
        Kind::MootUnlessDefault("the limit comes with the process, for example `LimitNOFILE=` of systemd"),
        "-1",
    ),
    // Not of OpenSIPS: whether new work is refused while more comes than can be done.
    g("overload_control", Kind::Bool, "1"),
    // Not of OpenSIPS: milliseconds that messages may wait before that.
    g("overload_wait", Kind::Int, "150"),
    g("pi_framework", Kind::Moot("module mi_html has a page for management"), ""),
    g("poll_method", Kind::Moot("the best one of the system is used"), ""),
    g("tcp_poll_method", Kind::Moot("the best one of the system is used"), ""),
    g("pv_print_buf_size", ONE_BOUND, "20000"),
    g("query_buffer_size", SHARED_COMMITS, "0"),
    g("query_flush_time", SHARED_COMMITS, "0"),
    g("restart_persistency_cache_file", MEMORY, ""),
    g("restart_persistency_size", MEMORY, ""),
    g("rev_dns", NO_NAMES, "0"),
    g("server_header", Kind::Str, ""),
    g("server_signature", Kind::Bool, "1"),
    g("shm_hash_split_percentage", MEMORY, ""),
    g("shm_memlog_size", MEMORY, ""),
    g("shm_secondary_hash_size", MEMORY, ""),
    g("sip_warning", Kind::Bool, "0"),
    g("socket", Kind::Special, ""),
    g("stderror_enabled", Kind::Bool, "1"),
    g("stderror_level_filter", Kind::Int, "0"),
    g("stderror_log_format", Kind::MootUnlessDefault("start with `--log-json`"), "plain_text"),
    g("syslog_enabled", Kind::Bool, "0"),
    g("syslog_facility", Kind::Str, "LOG_DAEMON"),
    g("syslog_level_filter", Kind::Int, "0"),
    g("syslog_log_format", Kind::MootUnlessDefault("the system's log gets lines of text"), "plain_text"),
    g("syslog_name", Kind::Str, ""),
    g("tcp_accept_aliases", Kind::Bool, "0"),
    g("tcp_connect_timeout", Kind::Int, "100"),
    g("tcp_connection_lifetime", Kind::Int, "120"),
    g("tcp_keepalive", Kind::Bool, "1"),
    g("tcp_keepcount", Kind::Int, "0"),
    g("tcp_keepidle", Kind::Int, "0"),
    g("tcp_keepinterval", Kind::Int, "0"),
    g("tcp_max_connections", Kind::Int, "2048"),
    g("tcp_max_msg_time", Kind::Int, "4"),
    g("tcp_no_new_conn_bflag", Kind::Str, ""),
    g("tcp_no_new_conn_rplflag", Kind::Str, ""),
    g("tcp_socket_backlog", Kind::Int, "10"),
    g("tcp_threads", PROCESSES, ""),
    g("tcp_threshold", NO_LIMIT, "0"),
    g("tcp_workers", PROCESSES, ""),
    g("timer_workers", PROCESSES, ""),
    g("tos", Kind::Str, ""),
    g("udp_workers", Kind::Int, "8"),
    g("user_agent_header", Kind::Str, ""),
    g("wdir", NO_FOLDER, ""),
    g("workdir", NO_FOLDER, ""),
    g("worker_reactor_timeout", PROCESSES, ""),
    g("xlog_buf_size", MEMORY, ""),
    g("xlog_force_color", Kind::Bool, "0"),
    g("xlog_level", Kind::Int, "2"),
    g("xlog_print_level", Kind::Int, "2"),
    old("log_stderror", Kind::Bool, "stderror_enabled"),
    old("log_facility", Kind::Str, "syslog_facility"),
    old("log_name", Kind::Str, "syslog_name"),
    old("listen", Kind::Special, "socket"),
    old("children", Kind::Int, "udp_workers"),
    old("tcp_children", PROCESSES, "tcp_workers"),
    old("debug", Kind::Int, "log_level"),
    old("fork", Kind::Moot("the server stays in the foreground"), "debug_mode"),
    old("disable_tcp", Kind::Moot("sockets decide"), "socket"),
    old("disable_tls", Kind::Moot("sockets decide"), "socket"),
    old("port", Kind::Moot("sockets carry their port"), "socket"),
    old("tcp_parallel_read_on_workers", PROCESSES, "tcp_threads"),
    old("tcp_parallel_handling", PROCESSES, "tcp_threads"),
    old("sip_warning_header", Kind::Bool, "sip_warning"),
    old("memlog_level", MEMORY, "memlog"),
];

/// Find a core parameter.
pub fn global(name: &str) -> Option<&'static Global> {
    GLOBALS.iter().find(|g| g.name == name)
}

/// A value as written in the script.
#[derive(Clone, Debug, PartialEq)]
pub enum Setting {
    /// Integer or boolean.
    Int(i64),
    /// String or word.
    Str(String),
}

/// All core parameters of a running house.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    values: HashMap<&'static str, Setting>,
}

impl Settings {
    /// Take one assignment. `Ok(Some(text))` is a warning, `Err` says what would be right.
    pub fn assign(&mut self, name: &str, value: Setting) -> Result<Option<String>, String> {
        let Some(found) = global(name) else {
            return Err(format!("unknown core parameter `{name}`"));
        };
        let target = found.renamed_to.unwrap_or(found.name);
        let mut warning = found.renamed_to.map(|today| format!("`{name}` is called `{today}` today"));
        let value = match (found.kind, value) {
            (Kind::Special, _) => return Ok(warning),
            (Kind::Moot(why), _) => {
                return Ok(Some(warning.map_or(format!("`{name}` has no effect: {why}"), |w| {
                    format!("{w}, and has no effect: {why}")
                })));
            }
            (Kind::MootUnlessDefault(why), value) => {
                let written = match value {
                    Setting::Int(i) => i.to_string(),
                    Setting::Str(s) => match s.to_ascii_lowercase().as_str() {
                        "yes" | "true" | "on" => "1".into(),
                        "no" | "false" | "off" => "0".into(),
                        other => other.to_owned(),
                    },
                };
                let usual = written == found.default;
                return Ok(warning.or((!usual).then(|| format!("`{name}` has no effect: {why}"))));
            }
            (Kind::Int, Setting::Str(s)) => match s.trim().parse() {
                Ok(i) => {
                    warning.get_or_insert_with(|| {
                        format!("`{name}` takes an integer: write {i} without quotes")
                    });
                    Setting::Int(i)
                }
                Err(_) => return Err(format!("`{name}` takes an integer, not \"{s}\"")),
            },
            (Kind::Bool, Setting::Str(s)) => match s.to_ascii_lowercase().as_str() {
                "yes" | "true" | "on" | "1" => Setting::Int(1),
                "no" | "false" | "off" | "0" => Setting::Int(0),
                _ => return Err(format!("`{name}` takes yes or no, not \"{s}\"")),
            },
            (Kind::Str, Setting::Int(i)) => Setting::Str(i.to_string()),
            (_, value) => value,
        };
        if found.name == "disable_dns_blacklist" && value == Setting::Int(0) {
            warning = Some(
                "places that do not answer are not noted by themselves: name them with `dst_blacklist`, or with \
                 `add_blacklist_rule()` and an expiry"
                    .into(),
            );
        }
        self.values.insert(target_name(target), value);
        Ok(warning)
    }

    /// An integer or boolean; the documented default when the script sets none.
    pub fn int(&self, name: &str) -> i64 {
        match self.values.get(name) {
            Some(Setting::Int(i)) => *i,
            _ => global(name).and_then(|g| g.default.parse().ok()).unwrap_or(0),
        }
    }

    /// A boolean.
    pub fn on(&self, name: &str) -> bool {
        self.int(name) != 0
    }

    /// A string; `None` when unset and without default.
    pub fn str(&self, name: &str) -> Option<&str> {
        match self.values.get(name) {
            Some(Setting::Str(s)) => Some(s.as_str()),
            _ => global(name).map(|g| g.default).filter(|d| !d.is_empty()),
        }
    }

    /// Whether the script set it.
    pub fn given(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }
}

fn target_name(name: &str) -> &'static str {
    global(name).map_or("", |g| g.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_names_set_todays_parameter_with_a_warning() {
        let mut s = Settings::default();
        let w = s.assign("children", Setting::Int(4)).unwrap().unwrap();
        assert!(w.contains("udp_workers"), "{w}");
        assert_eq!(s.int("udp_workers"), 4);
        assert_eq!(s.int("log_level"), 2);
        assert!(s.assign("log_level", Setting::Str("high".into())).unwrap_err().contains("integer"));
        assert!(s.assign("lgo_level", Setting::Int(1)).is_err());
    }
}
