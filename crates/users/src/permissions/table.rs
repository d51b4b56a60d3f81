//! The table of addresses in memory: single hosts by hash, networks in order of the rows.

use std::collections::HashMap;
use std::net::IpAddr;

use bytes::Bytes;
use switchroom_kernel::ports::net::Proto;
use switchroom_kernel::ports::store::{Rows, SqlValue};
use switchroom_script::glob::{self, Case};
use switchroom_script::net::Network;
use switchroom_wire::sip::scan::ip_literal;

/// Rows that make sense.
#[derive(Default)]
pub struct Addresses {
    hosts: HashMap<IpAddr, Vec<Entry>>,
    networks: Vec<Entry>,
}

/// Which transport a row or a question means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// All of them.
    Any,
    /// Never matches: the row is switched off.
    Never,
    /// One that has no sockets here (`sctp`): a row that only `any` finds.
    Other,
    /// This one.
    Only(Proto),
}

impl Transport {
    /// Reads the column or argument; `None` for a word that is no transport.
    pub fn parse(text: &str) -> Option<Transport> {
        let text = text.trim();
        match text.to_ascii_lowercase().as_str() {
            "any" | "" => Some(Transport::Any),
            "none" => Some(Transport::Never),
            "sctp" => Some(Transport::Other),
            other => Proto::parse(other).map(Transport::Only),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Transport::Any => "any",
            Transport::Never => "none",
            Transport::Other => "sctp",
            Transport::Only(p) => p.name(),
        }
    }

    fn fits(self, asked: Transport) -> bool {
        match (self, asked) {
            (Transport::Never, _) | (_, Transport::Never) => false,
            (Transport::Any, _) | (_, Transport::Any) => true,
            (own, asked) => own == asked,
        }
    }
}

/// One row.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Group.
    pub group: i64,
    /// Address and number of leading bits.
    pub network: Network,
    /// Port; 0 for any.
    pub port: u16,
    /// Transport.
    pub transport: Transport,
    /// Shell pattern for the text that the script gives.
    pub pattern: Option<Bytes>,
    /// Handed to the script.
    pub info: Option<Bytes>,
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Group; 0 for any.
    pub group: i64,
    /// Address.
    pub ip: IpAddr,
    /// Port; 0 for any.
    pub port: u16,
    /// Transport.
    pub transport: Transport,
    /// Text for the rows' patterns; a row with a pattern fits as well when there is no text.
    pub text: Option<&'a [u8]>,
}

impl Entry {
    fn fits(&self, q: &Question<'_>) -> bool {
        let pattern = match (&self.pattern, q.text) {
            (Some(pattern), Some(text)) => glob::matches(pattern, text, Case::Counts),
            _ => true,
        };
        (q.group == 0 || self.group == q.group)
            && (self.port == 0 || q.port == 0 || self.port == q.port)
            && self.transport.fits(q.transport)
            && self.network.contains(q.ip)
            && pattern
    }

    /// Name of the transport, as in the table.
    pub fn transport_name(&self) -> &'static str {
        self.transport.name()
    }

    fn is_host(&self) -> bool {
        self.network.bits == if self.network.ip.is_ipv4() { 32 } else { 128 }
    }

    /// From group, ip, mask, port, proto, pattern, context_info; the error says what makes no sense.
    fn read(row: &[SqlValue]) -> Result<Entry, String> {
        let text = |i: usize| row.get(i).and_then(SqlValue::to_text).filter(|t| !t.is_empty());
        let int = |i: usize| row.get(i).and_then(SqlValue::to_int);
        let ip_text = text(1).ok_or("it has no address")?;
        let ip =
            ip_literal(ip_text.trim().as_bytes()).ok_or_else(|| format!("\"{ip_text}\" is no address"))?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let bits = int(2).unwrap_or(most);
        if !(0..=most).contains(&bits) {
            return Err(format!("mask {bits} of {ip} is not in 0..={most}"));
        }
        let port = int(3).unwrap_or(0);
        let port = u16::try_from(port).map_err(|_| format!("{port} is no port"))?;
        let proto = text(4).unwrap_or_default();
        let transport = Transport::parse(&proto).ok_or_else(|| format!("\"{proto}\" is no transport"))?;
        Ok(Entry {
            group: int(0).unwrap_or(0),
            network: Network::new(canonical(ip), bits as u8),
            port,
            transport,
            pattern: text(5).map(Bytes::from),
            info: text(6).map(Bytes::from),
        })
    }
}

/// An IPv4 address inside an IPv6 one is meant as IPv4.
fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

impl Addresses {
    /// From the rows of the table; one that makes no sense is logged and left out.
    pub fn read(rows: &Rows) -> Addresses {
        let mut all = Addresses::default();
        for row in &rows.rows {
            match Entry::read(row) {
                Ok(entry) if entry.is_host() => all.hosts.entry(entry.network.ip).or_default().push(entry),
                Ok(entry) => all.networks.push(entry),
                Err(e) => tracing::error!("permissions: a row of the address table is left out: {e}"),
            }
        }
        all
    }

    /// The first row that fits; hosts before networks.
    pub fn find(&self, q: &Question<'_>) -> Option<&Entry> {
        let q = Question { ip: canonical(q.ip), ..*q };
        let host = self.hosts.get(&q.ip).and_then(|list| list.iter().find(|e| e.fits(&q)));
        host.or_else(|| self.networks.iter().find(|e| e.fits(&q)))
    }

    /// Rows for single hosts, by group and address.
    pub fn hosts(&self) -> Vec<&Entry> {
        let mut list: Vec<&Entry> = self.hosts.values().flatten().collect();
        list.sort_by_key(|e| (e.group, e.network.ip, e.port));
        list
    }

    /// Rows for networks, in order.
    pub fn networks(&self) -> &[Entry] {
        &self.networks
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.hosts.values().map(Vec::len).sum::<usize>() + self.networks.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(
        group: i64,
        ip: &str,
        mask: i64,
        port: i64,
        proto: &str,
        pattern: &str,
        info: &str,
    ) -> Vec<SqlValue> {
        let or_null = |t: &str| if t.is_empty() { SqlValue::Null } else { SqlValue::from(t) };
        vec![
            SqlValue::Int(group),
            SqlValue::from(ip),
            SqlValue::Int(mask),
            SqlValue::Int(port),
            SqlValue::from(proto),
            or_null(pattern),
            or_null(info),
        ]
    }

    fn table() -> Addresses {
        Addresses::read(&Rows {
            columns: Vec::new(),
            rows: vec![
                row(1, "192.0.2.1", 32, 0, "any", "", "first"),
                row(2, "192.0.2.1", 32, 5070, "UDP", "", "second"),
                row(3, "10.0.0.0", 8, 0, "tcp", "sip:*@a.org", "net"),
                row(4, "2001:db8::", 32, 0, "any", "", ""),
                row(5, "203.0.113.9", 32, 0, "none", "", ""),
                row(6, "not an address", 32, 0, "any", "", ""),
                row(7, "203.0.113.1", 33, 0, "any", "", ""),
                row(8, "203.0.113.1", 32, 70000, "any", "", ""),
            ],
        })
    }

    fn ask(group: i64, ip: &str, port: u16, proto: &str, text: Option<&str>) -> Option<i64> {
        let q = Question {
            group,
            ip: ip.parse().unwrap(),
            port,
            transport: Transport::parse(proto).unwrap(),
            text: text.map(str::as_bytes),
        };
        table().find(&q).map(|e| e.group)
    }

    #[test]
    fn group_port_and_transport_must_fit_and_zero_and_any_always_do() {
        assert_eq!(ask(0, "192.0.2.1", 5060, "udp", None), Some(1));
        assert_eq!(ask(2, "192.0.2.1", 5070, "udp", None), Some(2));
        assert_eq!(ask(2, "192.0.2.1", 0, "any", None), Some(2));
        assert_eq!(ask(2, "192.0.2.1", 5060, "udp", None), None);
        assert_eq!(ask(2, "192.0.2.1", 5070, "tcp", None), None);
        assert_eq!(ask(3, "192.0.2.1", 5070, "udp", None), None);
        assert_eq!(ask(0, "203.0.113.9", 0, "any", None), None);
    }

    #[test]
    fn networks_match_by_their_leading_bits_and_patterns_by_shell_rules() {
        assert_eq!(ask(0, "10.200.0.1", 1, "tcp", None), Some(3));
        assert_eq!(ask(0, "10.200.0.1", 1, "tcp", Some("sip:bob@a.org")), Some(3));
        assert_eq!(ask(0, "10.200.0.1", 1, "tcp", Some("sip:bob@b.org")), None);
        assert_eq!(ask(4, "2001:db8:1::1", 1, "udp", None), Some(4));
        assert_eq!(ask(0, "::ffff:192.0.2.1", 1, "udp", None), Some(1));
    }

    #[test]
    fn rows_that_make_no_sense_are_left_out() {
        assert_eq!(table().len(), 5);
        assert_eq!(table().hosts().len(), 3);
        assert_eq!(table().networks().len(), 2);
    }
}
