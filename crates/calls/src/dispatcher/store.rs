//! The table `dispatcher`: reading it, and writing states back.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use parking_lot::RwLock;
use switchroom_kernel::ports::net::{Proto, Resolver};
use switchroom_kernel::ports::store::{Query, Rows, SqlValue, Store, StoreError};
use switchroom_wire::sip::{Scheme, Uri};

use super::set::{Destination, Set, Sets, State, inherit};
use switchroom_wire::sip::scan::ip_literal;

/// One table in memory.
pub struct Partition {
    /// Name.
    pub name: String,
    /// Attributes for failover.
    pub avps: Avps,
    pub(super) store: Arc<dyn Store>,
    pub(super) select: Arc<str>,
    pub(super) update: Arc<str>,
    /// States are read from the table and written back.
    pub(super) persistent: bool,
    sets: RwLock<Arc<Sets>>,
}

/// Interned names of the attributes that hold the destinations still to be tried.
#[derive(Clone, Copy, Debug)]
pub struct Avps {
    /// URIs, the current one on top.
    pub dst: u32,
    /// Number of the set of each.
    pub grp: u32,
    /// How many there are.
    pub cnt: u32,
    /// Socket of each.
    pub sock: u32,
    /// Attributes of the current one.
    pub attrs: Option<u32>,
    /// Script attributes of the current one.
    pub script_attrs: Option<u32>,
}

impl Partition {
    pub(super) fn new(
        name: &str,
        avps: Avps,
        store: Arc<dyn Store>,
        sql: (String, String),
        persistent: bool,
    ) -> Partition {
        Partition {
            name: name.to_owned(),
            avps,
            store,
            select: sql.0.into(),
            update: sql.1.into(),
            persistent,
            sets: RwLock::default(),
        }
    }

    /// The sets as they are now.
    pub fn sets(&self) -> Arc<Sets> {
        self.sets.read().clone()
    }

    /// Read the table again; names are resolved once, here.
    pub async fn load(&self, resolver: &dyn Resolver, keep_states: bool) -> Result<usize, StoreError> {
        let rows = self.store.fetch(Query::new(self.select.clone(), Vec::new())).await?;
        let new = read(&rows, self.persistent, resolver).await;
        let count = new.values().map(|s| s.list.len()).sum();
        let mut sets = self.sets.write();
        if keep_states {
            inherit(&sets, &new);
        }
        *sets = Arc::new(new);
        tracing::info!("dispatcher: partition {}: {count} destinations loaded", self.name);
        Ok(count)
    }

    /// Write the states that changed.
    pub async fn save(&self) {
        if !self.persistent {
            return;
        }
        let sets = self.sets();
        let mut taken = Vec::new();
        let mut queries = Vec::new();
        for (id, set) in sets.iter() {
            for d in set.list.iter().filter(|d| d.unsaved.swap(false, Ordering::Relaxed)) {
                let args =
                    vec![SqlValue::Int(d.state() as i64), SqlValue::Int(*id), SqlValue::from(&d.uri[..])];
                queries.push(Query::new(self.update.clone(), args));
                taken.push(d.clone());
            }
        }
        if queries.is_empty() {
            return;
        }
        if let Err(e) = self.store.batch(queries).await {
            tracing::error!("dispatcher: states of partition {} are not saved: {e}; tried again", self.name);
            taken.iter().for_each(|d| d.unsaved.store(true, Ordering::Relaxed));
        }
    }
}

/// Columns: setid, destination, socket, state, probe_mode, weight, priority, attrs, description.
async fn read(rows: &Rows, persistent: bool, resolver: &dyn Resolver) -> Sets {
    let mut lists: std::collections::BTreeMap<i64, Vec<Arc<Destination>>> = Default::default();
    for row in &rows.rows {
        let text = |i: usize| row.get(i).and_then(SqlValue::to_text).filter(|t| !t.is_empty());
        let int = |i: usize| row.get(i).and_then(SqlValue::to_int);
        let uri = text(1).unwrap_or_default().trim().to_owned();
        let Some((uri, host, port)) = address(&uri) else {
            tracing::error!("dispatcher: \"{uri}\" is no SIP URI; the row is left out");
            continue;
        };
        let ips = match ip_literal(host.as_bytes()) {
            Some(ip) => vec![ip],
            None => resolver.addresses(&host).await.unwrap_or_default(),
        };
        let state = if persistent { State::from_number(int(3).unwrap_or(0)) } else { State::Active };
        let weight = text(5).and_then(|w| w.trim().parse().ok()).unwrap_or(1);
        let destination = Destination {
            ips,
            port,
            socket: text(2),
            weight,
            priority: int(6).unwrap_or(0),
            attrs: text(7).map(Bytes::from),
            description: text(8).unwrap_or_default(),
            always_probed: int(4).unwrap_or(0) > 0,
            ..Destination::new(uri, state)
        };
        lists.entry(int(0).unwrap_or(0)).or_default().push(Arc::new(destination));
    }
    lists.into_iter().map(|(id, list)| (id, Set::new(list))).collect()
}

/// The URI with its scheme, its host without brackets, and the port that it leads to.
pub fn address(text: &str) -> Option<(Bytes, String, u16)> {
    let lower = text.to_ascii_lowercase();
    let whole = match lower.starts_with("sip:") || lower.starts_with("sips:") {
        true => Bytes::from(text.to_owned()),
        false => Bytes::from(format!("sip:{text}")),
    };
    let uri = Uri::parse(&whole).ok().filter(|u| matches!(u.scheme, Scheme::Sip | Scheme::Sips))?;
    let host = std::str::from_utf8(uri.host_bare()).ok()?.to_owned();
    let named = uri.transport().and_then(|t| std::str::from_utf8(t).ok()).and_then(Proto::parse);
    let default = if uri.scheme == Scheme::Sips { Proto::Tls } else { Proto::Udp };
    let port = uri.port.unwrap_or(named.unwrap_or(default).default_port());
    Some((whole, host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_lack_its_scheme_and_gets_the_port_of_its_transport() {
        let read = |t: &str| address(t).map(|(u, h, p)| (String::from_utf8_lossy(&u).into_owned(), h, p));
        assert_eq!(read("192.0.2.1:5080"), Some(("sip:192.0.2.1:5080".into(), "192.0.2.1".into(), 5080)));
        assert_eq!(read("sip:a.org;transport=tls").map(|a| a.2), Some(5061));
        assert_eq!(read("sips:[::1]").map(|a| (a.1, a.2)), Some(("::1".into(), 5061)));
        assert_eq!(read(""), None);
        assert_eq!(read("sip:a b"), None);
    }
}
