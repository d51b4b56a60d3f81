//! The global parameters: today's, the renamed ones and those without effect.

/// A known global parameter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spec {
    pub kind: Kind,
    pub today: Today,
}

/// What values it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    Str,
    Any,
    Socket,
    Alias,
    Scaling,
    Blacklist,
}

/// What became of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Today {
    Same,
    Renamed(&'static str),
    Gone(&'static str),
}

const INTS: &str = "abort_on_assert advertised_port auto_aliases auto_scaling_cycle check_via \
    db_max_async_connections debug_mode disable_503_translation disable_core_dump disable_dns_blacklist \
    disable_dns_failover disable_stateless_fwd dns dns_retr_no dns_retr_time dns_servers_no dns_try_ipv6 \
    dns_try_naptr dns_use_search_list enable_asserts event_pkg_threshold event_shm_threshold exec_dns_threshold \
    exec_msg_threshold log_event_enabled log_event_level_filter log_json_buf_size log_level log_msg_buf_size \
    log_stdout max_while_loops maxbuffer mcast_loopback mcast_ttl mem_dump memdump mem_log memlog mem_warming \
    mem_warming_enabled mem_warming_percentage mhomed open_files_limit pv_print_buf_size query_buffer_size \
    query_flush_time restart_persistency_size rev_dns server_signature shm_hash_split_percentage shm_memlog_size \
    shm_secondary_hash_size sip_warning stderror_enabled stderror_level_filter syslog_enabled syslog_level_filter \
    tcp_accept_aliases tcp_connect_timeout tcp_connection_lifetime tcp_keepalive tcp_keepcount tcp_keepidle \
    tcp_keepinterval tcp_max_connections tcp_max_msg_time tcp_socket_backlog tcp_threads tcp_threshold tcp_workers \
    timer_workers udp_workers worker_reactor_timeout xlog_buf_size xlog_force_color xlog_level xlog_print_level";

const STRINGS: &str = "advertised_address chroot db_default_url db_version_table log_prefix mem_warming_pattern_file \
    mpath pi_framework poll_method tcp_poll_method restart_persistency_cache_file server_header stderror_log_format \
    syslog_facility syslog_log_format syslog_name user_agent_header wdir workdir";

const ANY: &str = "tcp_no_new_conn_bflag tcp_no_new_conn_rplflag tos";

const RENAMED: [(&str, &str); 7] = [
    ("log_stderror", "stderror_enabled"),
    ("log_facility", "syslog_facility"),
    ("log_name", "syslog_name"),
    ("listen", "socket"),
    ("children", "udp_workers"),
    ("tcp_children", "tcp_workers"),
    ("debug", "log_level"),
];

const GONE: [(&str, &str); 28] = [
    ("fork", "leave it out; `debug_mode` keeps the server in the foreground"),
    ("disable_tcp", "leave it out; TCP is on when a `socket = tcp:...` is given"),
    ("disable_tls", "leave it out; TLS is on when a `socket = tls:...` is given"),
    ("port", "give the port in `socket = udp:address:port`"),
    ("user", "set the user when starting the server"),
    ("group", "set the group when starting the server"),
    ("uid", "set the user when starting the server"),
    ("gid", "set the group when starting the server"),
    ("tcp_async", "leave it out; TCP never blocks"),
    ("tcp_send_timeout", "use `tcp_connect_timeout`"),
    ("tcp_parallel_handling", "leave it out"),
    ("tcp_parallel_read_on_workers", "leave it out"),
    ("tcp_listen_backlog", "use `tcp_socket_backlog`"),
    ("tcp_max_msg_chunks", "leave it out"),
    ("tcp_crlf_pingpong", "set it with the proto_tcp module"),
    ("tcp_crlf_drop", "set it with the proto_tcp module"),
    ("max_buffer", "use `maxbuffer`"),
    ("disable_dns", "use `dns`"),
    ("avp_aliases", "leave it out"),
    ("reply_to_via", "leave it out"),
    ("tls_ca_list", "set it with the tls_mgm module"),
    ("tls_certificate", "set it with the tls_mgm module"),
    ("tls_private_key", "set it with the tls_mgm module"),
    ("tls_method", "set it with the tls_mgm module"),
    ("tls_verify_client", "set it with the tls_mgm module"),
    ("tls_verify_server", "set it with the tls_mgm module"),
    ("tls_require_client_certificate", "set it with the tls_mgm module"),
    ("tls_handshake_timeout", "set it with the tls_mgm module"),
];

pub(super) fn find(name: &str) -> Option<Spec> {
    let same = |kind| Some(Spec { kind, today: Today::Same });
    match name {
        "socket" => return same(Kind::Socket),
        "alias" => return same(Kind::Alias),
        "auto_scaling_profile" => return same(Kind::Scaling),
        "dst_blacklist" => return same(Kind::Blacklist),
        _ => {}
    }
    let listed = |list: &str| list.split_whitespace().any(|w| w == name);
    if listed(INTS) {
        return same(Kind::Int);
    }
    if listed(STRINGS) {
        return same(Kind::Str);
    }
    if listed(ANY) {
        return same(Kind::Any);
    }
    if let Some((_, new)) = RENAMED.iter().find(|(old, _)| *old == name) {
        return Some(Spec { kind: find(new)?.kind, today: Today::Renamed(new) });
    }
    if let Some((_, instead)) = GONE.iter().find(|(old, _)| *old == name) {
        return Some(Spec { kind: Kind::Any, today: Today::Gone(instead) });
    }
    name.starts_with("tls_")
        .then_some(Spec { kind: Kind::Any, today: Today::Gone("set it with the tls_mgm module") })
}

/// Today's names, for suggestions.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    ["socket", "alias", "auto_scaling_profile", "dst_blacklist"]
        .into_iter()
        .chain(INTS.split_whitespace())
        .chain(STRINGS.split_whitespace())
        .chain(ANY.split_whitespace())
}
