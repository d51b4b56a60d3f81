//! Modules of OpenSIPS that a script may name and that are not here: what does their work, or that nothing does yet.

/// What to do about a module that is not in the catalogue; `None` when the name is no module's at all.
pub fn advice(name: &str) -> Option<String> {
    if let Some((_, text)) = INSTEAD.iter().find(|(old, _)| *old == name) {
        return Some((*text).to_owned());
    }
    let today = RENAMED.iter().find(|(old, _)| *old == name).map_or(name, |(_, today)| today);
    let known = OTHERS.split_ascii_whitespace().any(|other| other == today);
    if !known {
        return None;
    }
    let renamed = if today == name { String::new() } else { format!(" (called `{today}` today)") };
    Some(format!(
        "it is a module of OpenSIPS{renamed} that is not offered here; without its line and functions the script runs"
    ))
}

/// What to do about a function that is in no module of the catalogue.
pub fn function(name: &str) -> Option<String> {
    FUNCTIONS.iter().find(|(f, _)| *f == name).map(|(_, text)| (*text).to_owned())
}

/// What to do about a management command that is not here.
pub fn command(name: &str) -> Option<&'static str> {
    match name {
        "profiling_proc" => Some("there are no processes with a memory of their own; `ps` lists the workers"),
        _ if name.starts_with("mem:") || name.starts_with("mem_") => {
            Some("memory is not divided into pools; `ps` lists the workers")
        }
        _ => None,
    }
}

/// Functions of modules that are here, which are not.
const FUNCTIONS: &[(&str, &str)] = &[
    (
        "acc_aaa_request",
        "RADIUS and Diameter are not offered; `acc_db_request()` and `acc_evi_request()` are",
    ),
    (
        "rest_init_client_tls",
        "there are no TLS domains; the parameters ssl_capath, ssl_verifypeer and ssl_verifyhost of \
                              rest_client hold for all calls",
    ),
    (
        "set_dlg_sharing_tag",
        "dialogs are not shared between servers; with db_mode another one goes on with them",
    ),
    ("sip_trace", "the module trace and `switchroom trace CALL-ID` show the time line of a call"),
    ("socket_belongs_to_bond", "there are no bonds; `$socket_in` and `$socket_out` name sockets"),
    ("t_anycast_replicate", "transactions are not shared between servers; `t_replicate()` copies a request"),
    ("trace", "the module trace and `switchroom trace CALL-ID` show the time line of a call"),
    ("trace_dialog", "the module trace and `switchroom trace CALL-ID` show the time line of a call"),
    (
        "uac_inc_cseq",
        "`dlg_inc_cseq()` of the module dialog numbers requests higher, and replies get their own number back",
    ),
];

/// Names of older releases, and today's.
const RENAMED: &[(&str, &str)] = &[
    ("auth_diameter", "auth_aaa"),
    ("auth_radius", "auth_aaa"),
    ("avp_radius", "aaa_radius"),
    ("b2b_sip_rec", "siprec"),
    ("berkeley", "db_berkeley"),
    ("cachedb_mongo", "cachedb_mongodb"),
    ("db_berkeleydb", "db_berkeley"),
    ("flatstore", "db_flatstore"),
    ("group_radius", "aaa_radius"),
    ("jabber", "xmpp"),
    ("lb", "load_balancer"),
    ("lcr", "drouting"),
    ("memcached", "cachedb_memcached"),
    ("mongodb", "cachedb_mongodb"),
    ("oracle", "db_oracle"),
    ("peering_radius", "peering"),
    ("perlvdb", "db_perlvdb"),
    ("proto_tls_mgm", "tls_mgm"),
    ("pua_xmpp_im", "pua_xmpp"),
    ("radius", "aaa_radius"),
    ("rtpproxy_ng", "rtpengine"),
    ("sipcapture_mode", "sipcapture"),
    ("sst_mod", "sst"),
    ("unixodbc", "db_unixodbc"),
    ("uri_radius", "aaa_radius"),
    ("virtual", "db_virtual"),
];

/// Modules whose work is done by another one, or in another way.
const INSTEAD: &[(&str, &str)] = &[
    (
        "cachedb_memcached",
        "cachedb_redis and cachedb_local keep values the same way: change the URL in cachedb_url",
    ),
    (
        "cachedb_mongodb",
        "cachedb_redis and cachedb_sql keep values the same way: change the URL in cachedb_url",
    ),
    ("db_http", "write what the database is: db_mysql, db_postgres or db_sqlite"),
    ("db_virtual", "write one database: db_mysql, db_postgres and db_sqlite reconnect by themselves"),
    ("db_unixodbc", "write what the database is: db_mysql, db_postgres or db_sqlite"),
    ("event_rabbitmq", "event_stream sends events as JSON-RPC over TCP, event_datagram as text over UDP"),
    ("event_kafka", "event_stream sends events as JSON-RPC over TCP, event_datagram as text over UDP"),
    ("event_sqs", "event_stream sends events as JSON-RPC over TCP, event_datagram as text over UDP"),
    ("event_xmlrpc", "event_stream sends events as JSON-RPC over TCP, event_datagram as text over UDP"),
    ("localcache", "cachedb_local is its name today"),
    ("mediaproxy", "OpenSIPS dropped it for rtpengine and rtpproxy"),
    ("mi_xmlrpc", "mi_http takes the same commands as JSON-RPC"),
    ("mi_xmlrpc_ng", "mi_http takes the same commands as JSON-RPC"),
    ("pi_http", "`switchroom db` and SQL change the tables; mi_http has their reload commands"),
    (
        "siptrace",
        "it is called tracer today; the module trace and `switchroom trace CALL-ID` show the time line of a call",
    ),
    ("tracer", "the module trace and `switchroom trace CALL-ID` show the time line of a call"),
    ("sipcapture", "the module trace and `switchroom trace CALL-ID` show the time line of a call"),
    ("snmpstats", "get_statistics over mi_http has the same figures"),
    ("tcp_mgm", "global parameters (tcp_connect_timeout and others) hold for all TCP connections"),
    ("uri_db", "it is called uri today"),
];

/// All other modules of OpenSIPS, whether or not the catalogue has them.
const OTHERS: &str = "aaa_diameter aaa_radius aka_av_diameter alias_db auth auth_aaa auth_aka auth_db auth_jwt auth_web3 \
    b2b_entities b2b_logic b2b_sca b2b_sdp_demux cachedb_cassandra cachedb_couchbase cachedb_dynamodb cachedb_memcached \
    cachedb_mongodb call_center call_control callops carrierroute cgrates clusterer compression config cpl_c db_berkeley \
    db_cachedb db_flatstore db_oracle db_perlvdb db_unixodbc db_virtual dialog dispatcher diversion dns_cache domain \
    domainpolicy drouting emergency enum fraud_detection freeswitch freeswitch_scripting h350 http2d identity imc janus \
    jsonrpc launch_darkly ldap load_balancer lua mangler mediaproxy media_exchange mi_script mid_registrar mmgeoip mqueue \
    msilo msrp_gateway msrp_relay msrp_ua nat_traversal opentelemetry osp peering perl permissions pike presence \
    presence_callinfo presence_dfks presence_dialoginfo presence_mwi presence_reginfo presence_xcapdiff presence_xml \
    prometheus proto_bin proto_bins proto_hep proto_ipsec proto_msrp proto_sctp proto_smpp proto_tls proto_ws proto_wss \
    pua pua_bla pua_dialoginfo pua_mi pua_reginfo pua_usrloc pua_xmpp python qos qrouting rabbitmq_consumer rate_cacher \
    ratelimit rls rtp.io rtp_relay rtpengine rtpproxy seas sip_i siprec sms sngtc sockets_mgm speeddial sst \
    stir_shaken stun tls_mgm tls_openssl tls_wolfssl topology_hiding trie uac_redirect uac_registrant userblacklist xcap \
    xcap_client xml xmpp";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_is_not_here_is_told_from_a_misspelt_one() {
        assert!(advice("siptrace").unwrap().contains("switchroom trace"));
        assert!(advice("rtpengine").unwrap().contains("not offered"));
        assert!(advice("lb").unwrap().contains("`load_balancer` today"));
        assert_eq!(advice("dailog"), None);
    }
}
