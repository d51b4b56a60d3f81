//! What the core keeps: its statistics, settings read once, and the random seed of tags and branches.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use bytes::Bytes;
use switchroom_kernel::names::FlagKind;
use switchroom_kernel::open::Opening;
use switchroom_kernel::stats::StatId;

use super::alias::ConnectionAliases;
use super::blacklist::Blacklists;
use super::connections::Connections;

/// Counters of the group `core`.
pub struct Counters {
    /// Requests that entered.
    pub rcv_requests: StatId,
    /// Replies that entered.
    pub rcv_replies: StatId,
    /// Requests sent on.
    pub fwd_requests: StatId,
    /// Replies sent on.
    pub fwd_replies: StatId,
    /// Requests dropped.
    pub drop_requests: StatId,
    /// Replies dropped.
    pub drop_replies: StatId,
    /// Requests that could not be handled.
    pub err_requests: StatId,
    /// Replies that could not be handled.
    pub err_replies: StatId,
    /// URIs that could not be read.
    pub bad_uris: StatId,
    /// Messages with broken headers.
    pub bad_msg_hdr: StatId,
    /// Requests with a method that is not known here.
    pub unsupported_methods: StatId,
    /// Requests refused because more came than could be done.
    pub overload_refused: StatId,
    /// Times that a worker got more than it could do.
    pub overload_episodes: StatId,
}

/// State of the core.
///
/// More than 15 fields: each of the settings is read for every message, and none belongs to another.
pub struct Core {
    /// `overload_control`
    pub overload_control: bool,
    /// Replies whose topmost Via is not ours are dropped (`check_via`).
    pub check_via: bool,
    /// Replies without a transaction are dropped: `disable_stateless_fwd` was asked for and nothing forwards without one.
    pub drops_strays: bool,
    /// The script forwards without state, under names that need not be sockets of ours, or asks for it
    /// (`disable_stateless_fwd=no`).
    pub forwards: bool,
    /// The system's routes decide which socket sends (`mhomed`).
    pub multihomed: bool,
    /// One place is tried for each branch (`disable_dns_failover`).
    pub no_dns_failover: bool,
    /// Branch flag that forbids opening a connection (`tcp_no_new_conn_bflag`), as a bit.
    pub no_new_conn_branch: u32,
    /// Message flag that forbids it for replies (`tcp_no_new_conn_rplflag`), as a bit.
    pub no_new_conn_reply: u32,
    /// `$C(xy)` prints something (`xlog_force_color`).
    pub colours: bool,
    /// Replies of ours have a Warning header (`sip_warning`).
    pub warning: bool,
    /// Counters.
    pub stats: Counters,
    /// `Server: ...\r\n` for replies; empty when switched off.
    pub server_header: Bytes,
    /// `User-Agent: ...\r\n` for requests of our own.
    pub user_agent_header: Bytes,
    /// Random per process: To-tags and branches of stateless work derive from it.
    pub seed: u64,
    /// Destinations not to be sent to.
    pub blacklists: Blacklists,
    /// Connections that are used again in the other direction.
    pub aliases: ConnectionAliases,
    /// Stream connections that are open.
    pub connections: Connections,
    hasher: RandomState,
}

impl Core {
    /// Read settings and register statistics.
    pub fn open(o: &Opening<'_>) -> Result<Core, String> {
        let stats = Counters {
            rcv_requests: o.stat("rcv_requests")?,
            rcv_replies: o.stat("rcv_replies")?,
            fwd_requests: o.stat("fwd_requests")?,
            fwd_replies: o.stat("fwd_replies")?,
            drop_requests: o.stat("drop_requests")?,
            drop_replies: o.stat("drop_replies")?,
            err_requests: o.stat("err_requests")?,
            err_replies: o.stat("err_replies")?,
            bad_uris: o.stat("bad_URIs_rcvd")?,
            bad_msg_hdr: o.stat("bad_msg_hdr")?,
            unsupported_methods: o.stat("unsupported_methods")?,
            overload_refused: o.stat("overload_refused")?,
            overload_episodes: o.stat("overload_episodes")?,
        };
        let settings = &o.kernel.settings;
        let default = concat!("Switchroom (", env!("CARGO_PKG_VERSION"), ")");
        let line = |name: &str, setting: Option<&str>| -> Bytes {
            let text = setting.unwrap_or(default);
            // Configurations write the whole header ("Server: x") as well as the bare value.
            let value =
                text.split_once(':').filter(|(n, _)| n.eq_ignore_ascii_case(name)).map_or(text, |(_, v)| v);
            format!("{name}: {}\r\n", value.trim()).into()
        };
        let server_header = match settings.on("server_signature") {
            true => line("Server", settings.str("server_header")),
            false => Bytes::new(),
        };
        let hasher = RandomState::new();
        let flag = |name: &str, kind: FlagKind| match settings.str(name) {
            Some(flag) => o.kernel.registry.names.flag(kind, flag).map(|bit| 1 << bit),
            None => Ok(0),
        };
        let told = settings.given("disable_stateless_fwd");
        let forbidden = told && settings.on("disable_stateless_fwd");
        let forwards = o.kernel.registry.is_called("forward") || (told && !forbidden);
        Ok(Core {
            check_via: settings.on("check_via"),
            drops_strays: forbidden && !forwards,
            forwards,
            multihomed: settings.on("mhomed"),
            no_dns_failover: settings.on("disable_dns_failover"),
            no_new_conn_branch: flag("tcp_no_new_conn_bflag", FlagKind::Branch)?,
            no_new_conn_reply: flag("tcp_no_new_conn_rplflag", FlagKind::Message)?,
            colours: settings.on("xlog_force_color"),
            warning: settings.on("sip_warning"),
            stats,
            server_header,
            user_agent_header: line("User-Agent", settings.str("user_agent_header")),
            seed: hasher.hash_one(0x5157_u64),
            blacklists: Blacklists::new(&o.kernel.blacklists)?,
            aliases: ConnectionAliases::default(),
            connections: Connections::default(),
            hasher,
            overload_control: settings.on("overload_control"),
        })
    }

    /// A keyed hash that nobody outside can predict, the same for equal input as long as the process lives.
    pub fn digest(&self, parts: &[&[u8]]) -> u64 {
        let mut h = self.hasher.build_hasher();
        for p in parts {
            h.write(p);
            h.write_u8(0xff);
        }
        h.finish()
    }
}

/// Append `n` as 16 hexadecimal digits.
pub fn push_hex(n: u64, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for shift in (0..16).rev() {
        out.push(DIGITS[(n >> (shift * 4)) as usize & 15]);
    }
}
