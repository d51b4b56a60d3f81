//! Settings of the workers. Values come from the script's global parameters; nothing here reads a file.

use std::time::Duration;

/// How the workers are to be run.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// Number of worker threads (shards), at least 1.
    pub workers: usize,
    /// The shard that owns a raw message, given the number of workers. `None` (no Call-ID) stays where it arrived.
    pub shard_of: fn(&[u8], usize) -> Option<usize>,
    /// Largest receive buffer in bytes to ask of the kernel per socket (`maxbuffer`).
    pub receive_buffer: usize,
    /// Letters that may wait in one worker's mailbox; more are dropped and counted.
    pub mailbox: usize,
    /// Messages that may wait for one UDP socket to become writable.
    pub udp_queue: usize,
    /// How long datagrams may wait in the sockets before new work is refused.
    pub overload_wait: Duration,
    /// How long a worker goes on after [`switchroom_kernel::ports::net::Mail::Drain`] while timers are still pending.
    pub drain: Duration,
    /// Stream transports.
    pub tcp: TcpConfig,
}

impl Default for NetConfig {
    fn default() -> Self {
        NetConfig {
            workers: 1,
            shard_of: |_, _| None,
            receive_buffer: 262_144,
            mailbox: 16_384,
            udp_queue: 8_192,
            overload_wait: Duration::from_millis(150),
            drain: Duration::from_secs(5),
            tcp: TcpConfig::default(),
        }
    }
}

/// Limits of stream connections. The defaults are those of the routing language's `tcp_*` parameters.
#[derive(Clone, Debug)]
pub struct TcpConfig {
    /// Open connections of all workers together (`tcp_max_connections`).
    pub max_connections: usize,
    /// Time for opening a connection (`tcp_connect_timeout`).
    pub connect_timeout: Duration,
    /// A connection without traffic for that long is closed (`tcp_connection_lifetime`).
    pub lifetime: Duration,
    /// A message must be complete within this time of its first byte (`tcp_max_msg_time`).
    pub max_message_time: Duration,
    /// Largest message in bytes, headers included.
    pub max_message: usize,
    /// Bytes that may wait for one connection to take them.
    pub queue_bytes: usize,
    /// Connections that may wait to be accepted on one socket (`tcp_socket_backlog`).
    pub backlog: i32,
    /// Whether the system looks after idle connections (`tcp_keepalive`), and how.
    pub keepalive: Option<Keepalive>,
}

/// How the system looks after idle connections; what is `None` is as the system has it.
#[derive(Clone, Debug, Default)]
pub struct Keepalive {
    /// Time without traffic before it begins (`tcp_keepidle`).
    pub idle: Option<Duration>,
    /// Time between probes (`tcp_keepinterval`).
    pub interval: Option<Duration>,
    /// Probes without an answer before the connection is given up (`tcp_keepcount`).
    pub count: Option<u32>,
}

impl Keepalive {
    /// Ask for it on one connection.
    pub fn apply(&self, socket: &socket2::SockRef<'_>) -> std::io::Result<()> {
        let mut options = socket2::TcpKeepalive::new();
        if let Some(idle) = self.idle {
            options = options.with_time(idle);
        }
        if let Some(interval) = self.interval {
            options = options.with_interval(interval);
        }
        if let Some(count) = self.count {
            options = options.with_retries(count);
        }
        socket.set_tcp_keepalive(&options)
    }
}

impl Default for TcpConfig {
    fn default() -> Self {
        TcpConfig {
            max_connections: 2048,
            connect_timeout: Duration::from_millis(100),
            lifetime: Duration::from_secs(120),
            max_message_time: Duration::from_secs(4),
            max_message: 65_535,
            queue_bytes: 262_144,
            backlog: 1024,
            keepalive: Some(Keepalive::default()),
        }
    }
}
