//! The transports as modules: old scripts load and configure `proto_udp` and `proto_tcp`, which are always there.

use switchroom_kernel::module::{Module, Param};

/// SIP over UDP.
pub static UDP: Module = Module {
    name: "proto_udp",
    summary: "SIP over UDP; always there",
    params: &[Param::int("udp_port", "5060", "Port of sockets without one")],
    ..Module::EMPTY
};

/// SIP over TCP.
pub static TCP: Module = Module {
    name: "proto_tcp",
    summary: "SIP over TCP; always there",
    params: &[
        Param::int("tcp_port", "5060", "Port of sockets without one"),
        Param::int("tcp_send_timeout", "100", "Milliseconds for a blocking send; sends never block here"),
        Param::int(
            "tcp_max_msg_chunks",
            "4",
            "Reads per message; here tcp_max_msg_time bounds a slow sender",
        ),
        Param::int("tcp_crlf_pingpong", "1", "Answer CRLF keep-alives (RFC 5626)"),
        Param::int("tcp_crlf_drop", "0", "Drop CRLF keep-alives"),
        Param::int("tcp_async", "1", "Connect without blocking; always so here"),
        Param::int("tcp_async_max_postponed_chunks", "32", "Chunks waiting for a connection"),
        Param::int("tcp_async_local_connect_timeout", "100", "Milliseconds of a blocking connect"),
        Param::int("tcp_async_local_write_timeout", "10", "Milliseconds of a blocking write"),
        Param::int("tcp_parallel_handling", "0", "Messages of one connection side by side"),
        Param::unset("trace_destination", "Where to trace connections"),
        Param::int("trace_on", "0", "Trace connections"),
        Param::unset("trace_filter_route", "Route that decides what is traced"),
    ],
    ..Module::EMPTY
};
