//! Names to addresses: A, AAAA, SRV (RFC 2782) and NAPTR (RFC 3403) records through the hickory resolver.
//!
//! Lookups run on the control thread, so a slow server never holds a worker. The resolver caches by TTL, also that a name
//! does not exist. How a SIP URI becomes a list of targets (RFC 3263) is the caller's.

mod order;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{Resolver as Hickory, TokioResolver};
use switchroom_kernel::ports::net::{BoxFuture, NaptrRecord, ResolveError, Resolver, SrvRecord};

use crate::timers::ControlHandle;

/// Settings of the resolver (the script's `dns_*` parameters).
#[derive(Clone, Debug)]
pub struct DnsConfig {
    /// Name servers to ask; empty takes those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// Time for one attempt (`dns_retr_time`).
    pub timeout: Duration,
    /// Attempts per server (`dns_retr_no`).
    pub attempts: usize,
    /// Whether AAAA records are asked for as well (`dns_try_ipv6`).
    pub ipv6: bool,
    /// Whether short names are completed with the search list (`dns_use_search_list`).
    pub search: bool,
    /// Answers kept in the cache.
    pub cache: u64,
}

impl Default for DnsConfig {
    fn default() -> Self {
        DnsConfig {
            servers: Vec::new(),
            timeout: Duration::from_secs(2),
            attempts: 2,
            ipv6: false,
            search: true,
            cache: 4096,
        }
    }
}

/// Makes a resolver whose work is done on the control thread.
pub fn resolver(config: DnsConfig, control: &ControlHandle) -> io::Result<Arc<dyn Resolver>> {
    let _inside = control.tokio().enter();
    let mut builder = if config.servers.is_empty() {
        TokioResolver::builder_tokio().map_err(io::Error::other)?
    } else {
        let servers = config.servers.iter().map(|addr| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut c| {
                c.port = addr.port();
                c
            });
            NameServerConfig::new(addr.ip(), true, connections.into())
        });
        let config = ResolverConfig::from_name_servers(servers.collect());
        Hickory::builder_with_config(config, TokioRuntimeProvider::default())
    };
    set_options(builder.options_mut(), &config);
    let hickory = Arc::new(builder.build().map_err(io::Error::other)?);
    Ok(Arc::new(Dns { hickory, control: control.clone(), search: config.search }))
}

fn set_options(options: &mut ResolverOpts, config: &DnsConfig) {
    options.timeout = config.timeout;
    options.attempts = config.attempts;
    options.cache_size = config.cache;
    options.use_hosts_file = ResolveHosts::Always;
    options.ip_strategy =
        if config.ipv6 { LookupIpStrategy::Ipv4AndIpv6 } else { LookupIpStrategy::Ipv4Only };
    // SRV answers with many targets do not fit into 512 bytes.
    options.edns0 = true;
}

struct Dns {
    hickory: Arc<TokioResolver>,
    control: ControlHandle,
    search: bool,
}

impl Dns {
    /// Looks up on the control thread and gives the answer anywhere.
    fn records<T: Send + 'static>(
        &self,
        name: String,
        kind: RecordType,
        pick: fn(&RData) -> Option<T>,
    ) -> BoxFuture<Result<Vec<T>, ResolveError>> {
        let hickory = self.hickory.clone();
        let answer = self.control.run(async move {
            let lookup = hickory.lookup(name, kind).await.map_err(|e| reason(&e))?;
            let found: Vec<T> = lookup.answers().iter().filter_map(|r| pick(&r.data)).collect();
            if found.is_empty() { Err(ResolveError::NotFound) } else { Ok(found) }
        });
        Box::pin(async move { answer.await.unwrap_or(Err(ResolveError::Failed)) })
    }
}

impl Resolver for Dns {
    fn addresses(&self, host: &str) -> BoxFuture<Result<Vec<IpAddr>, ResolveError>> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = host.parse() {
            return Box::pin(async move { Ok(vec![ip]) });
        }
        let (hickory, name) = (self.hickory.clone(), absolute(host, self.search));
        let answer = self.control.run(async move {
            let found: Vec<IpAddr> = hickory.lookup_ip(name).await.map_err(|e| reason(&e))?.iter().collect();
            if found.is_empty() { Err(ResolveError::NotFound) } else { Ok(found) }
        });
        Box::pin(async move { answer.await.unwrap_or(Err(ResolveError::Failed)) })
    }

    fn srv(&self, name: &str) -> BoxFuture<Result<Vec<SrvRecord>, ResolveError>> {
        let found = self.records(absolute(name, false), RecordType::SRV, |data| match data {
            RData::SRV(srv) => Some(SrvRecord {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: plain(&srv.target.to_utf8()),
            }),
            _ => None,
        });
        Box::pin(async move {
            let mut records = found.await?;
            // A single target "." says that the service is not offered.
            records.retain(|r| !r.target.is_empty());
            if records.is_empty() {
                return Err(ResolveError::NotFound);
            }
            Ok(order::by_priority_and_weight(records, &mut order::Dice::new()))
        })
    }

    fn naptr(&self, name: &str) -> BoxFuture<Result<Vec<NaptrRecord>, ResolveError>> {
        let found = self.records(absolute(name, false), RecordType::NAPTR, |data| match data {
            RData::NAPTR(naptr) => Some(NaptrRecord {
                order: naptr.order,
                preference: naptr.preference,
                flags: String::from_utf8_lossy(&naptr.flags).into_owned(),
                service: String::from_utf8_lossy(&naptr.services).into_owned(),
                replacement: plain(&naptr.replacement.to_utf8()),
            }),
            _ => None,
        });
        Box::pin(async move {
            let mut records = found.await?;
            records.sort_by_key(|r| (r.order, r.preference));
            Ok(records)
        })
    }
}

/// A name the search list is not applied to.
fn absolute(name: &str, search: bool) -> String {
    let mut name = name.to_owned();
    if !search && !name.ends_with('.') {
        name.push('.');
    }
    name
}

fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_owned()
}

fn reason(error: &NetError) -> ResolveError {
    match error {
        NetError::Timeout | NetError::NoConnections | NetError::Io(_) => ResolveError::Timeout,
        NetError::Dns(DnsError::NoRecordsFound(none))
            if matches!(none.response_code, ResponseCode::NoError | ResponseCode::NXDomain) =>
        {
            ResolveError::NotFound
        }
        // The name cannot even be asked for.
        NetError::Proto(_) => ResolveError::NotFound,
        _ => ResolveError::Failed,
    }
}
