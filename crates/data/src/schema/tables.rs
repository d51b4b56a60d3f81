//! The standard tables, as OpenSIPS's database documentation describes them.

use super::{Column, Index, Kind, Literal, Table};

const fn serial(name: &'static str) -> Column {
    Column { name, kind: Kind::Serial, null: false, default: None }
}

/// Text that is never NULL and empty by default.
const fn text(name: &'static str, size: u16) -> Column {
    Column { name, kind: Kind::Text(size), null: false, default: Some(Literal::Text("")) }
}

const fn text_or_null(name: &'static str, size: u16) -> Column {
    Column { name, kind: Kind::Text(size), null: true, default: None }
}

const fn int(name: &'static str, default: i64) -> Column {
    Column { name, kind: Kind::Int, null: false, default: Some(Literal::Int(default)) }
}

const fn big(name: &'static str) -> Column {
    Column { name, kind: Kind::BigInt, null: false, default: Some(Literal::Int(0)) }
}

const fn small(name: &'static str, default: i64) -> Column {
    Column { name, kind: Kind::SmallInt, null: false, default: Some(Literal::Int(default)) }
}

const fn time(name: &'static str) -> Column {
    Column { name, kind: Kind::DateTime, null: false, default: None }
}

const fn time_or_long_ago(name: &'static str) -> Column {
    Column { name, kind: Kind::DateTime, null: false, default: Some(Literal::Text("1900-01-01 00:00:01")) }
}

const fn index(name: &'static str, columns: &'static [&'static str]) -> Index {
    Index { name, unique: false, columns }
}

const fn unique(name: &'static str, columns: &'static [&'static str]) -> Index {
    Index { name, unique: true, columns }
}

/// Every standard table, `version` first because the others are noted in it.
pub const TABLES: &[Table] = &[
    Table {
        name: "version",
        version: None,
        columns: &[
            Column { name: "table_name", kind: Kind::Text(32), null: false, default: None },
            int("table_version", 0),
        ],
        indexes: &[unique("t_name_idx", &["table_name"])],
    },
    Table {
        name: "subscriber",
        version: Some(8),
        columns: &[
            serial("id"),
            text("username", 64),
            text("domain", 64),
            text("password", 25),
            text("ha1", 64),
            text("ha1_sha256", 64),
            text("ha1_sha512t256", 64),
        ],
        indexes: &[unique("account_idx", &["username", "domain"]), index("username_idx", &["username"])],
    },
    Table {
        name: "location",
        version: Some(1013),
        columns: &[
            Column { name: "contact_id", kind: Kind::BigKey, null: false, default: None },
            text("username", 64),
            text_or_null("domain", 64),
            Column { name: "contact", kind: Kind::LongText, null: false, default: Some(Literal::Text("")) },
            text_or_null("received", 255),
            text_or_null("path", 255),
            Column { name: "expires", kind: Kind::Int, null: false, default: Some(Literal::Int(0)) },
            Column { name: "q", kind: Kind::Real, null: false, default: Some(Literal::Real(1.0)) },
            Column {
                name: "callid",
                kind: Kind::Text(255),
                null: false,
                default: Some(Literal::Text("Default-Call-ID")),
            },
            int("cseq", 13),
            time_or_long_ago("last_modified"),
            int("flags", 0),
            text_or_null("cflags", 255),
            text("user_agent", 255),
            text_or_null("socket", 64),
            Column { name: "methods", kind: Kind::Int, null: true, default: None },
            text_or_null("sip_instance", 255),
            Column { name: "kv_store", kind: Kind::LongText, null: true, default: None },
            text_or_null("attr", 255),
        ],
        indexes: &[],
    },
    Table {
        name: "dbaliases",
        version: Some(2),
        columns: &[
            serial("id"),
            text("alias_username", 64),
            text("alias_domain", 64),
            text("username", 64),
            text("domain", 64),
        ],
        indexes: &[
            unique("alias_idx", &["alias_username", "alias_domain"]),
            index("target_idx", &["username", "domain"]),
        ],
    },
    Table {
        name: "domain",
        version: Some(4),
        columns: &[
            serial("id"),
            text("domain", 64),
            text_or_null("attrs", 255),
            int("accept_subdomain", 0),
            time_or_long_ago("last_modified"),
        ],
        indexes: &[unique("domain_idx", &["domain"])],
    },
    Table {
        name: "uri",
        version: Some(2),
        columns: &[
            serial("id"),
            text("username", 64),
            text("domain", 64),
            text("uri_user", 64),
            time_or_long_ago("last_modified"),
        ],
        indexes: &[unique("account_idx", &["username", "domain", "uri_user"])],
    },
    Table {
        name: "grp",
        version: Some(3),
        columns: &[
            serial("id"),
            text("username", 64),
            text("domain", 64),
            text("grp", 64),
            time_or_long_ago("last_modified"),
        ],
        indexes: &[unique("account_group_idx", &["username", "domain", "grp"])],
    },
    Table {
        name: "re_grp",
        version: Some(2),
        columns: &[serial("id"), text("reg_exp", 128), int("group_id", 0)],
        indexes: &[index("group_idx", &["group_id"])],
    },
    Table {
        name: "acc",
        version: Some(7),
        columns: &[
            serial("id"),
            text("method", 16),
            text("from_tag", 64),
            text("to_tag", 64),
            text("callid", 64),
            text("sip_code", 3),
            text("sip_reason", 32),
            time("time"),
            int("duration", 0),
            int("ms_duration", 0),
            int("setuptime", 0),
            Column { name: "created", kind: Kind::DateTime, null: true, default: None },
        ],
        indexes: &[index("callid_idx", &["callid"])],
    },
    Table {
        name: "missed_calls",
        version: Some(5),
        columns: &[
            serial("id"),
            text("method", 16),
            text("from_tag", 64),
            text("to_tag", 64),
            text("callid", 64),
            text("sip_code", 3),
            text("sip_reason", 32),
            time("time"),
            int("setuptime", 0),
            Column { name: "created", kind: Kind::DateTime, null: true, default: None },
        ],
        indexes: &[index("callid_idx", &["callid"])],
    },
    Table {
        name: "address",
        version: Some(5),
        columns: &[
            serial("id"),
            small("grp", 0),
            text("ip", 50),
            small("mask", 32),
            small("port", 0),
            Column { name: "proto", kind: Kind::Text(4), null: false, default: Some(Literal::Text("any")) },
            text_or_null("pattern", 64),
            text_or_null("context_info", 32),
        ],
        indexes: &[],
    },
    Table {
        name: "dialog",
        version: Some(12),
        columns: &[
            Column { name: "dlg_id", kind: Kind::BigKey, null: false, default: None },
            text("callid", 255),
            text("from_uri", 255),
            text("from_tag", 64),
            text("to_uri", 255),
            text("to_tag", 64),
            text_or_null("mangled_from_uri", 255),
            text_or_null("mangled_to_uri", 255),
            text("caller_cseq", 11),
            text("callee_cseq", 11),
            int("caller_ping_cseq", 0),
            int("callee_ping_cseq", 0),
            Column { name: "caller_route_set", kind: Kind::LongText, null: true, default: None },
            Column { name: "callee_route_set", kind: Kind::LongText, null: true, default: None },
            text_or_null("caller_contact", 255),
            text_or_null("callee_contact", 255),
            text("caller_sock", 64),
            text("callee_sock", 64),
            int("state", 0),
            int("start_time", 0),
            int("timeout", 0),
            Column { name: "vars", kind: Kind::LongText, null: true, default: None },
            Column { name: "profiles", kind: Kind::LongText, null: true, default: None },
            text_or_null("script_flags", 255),
            int("module_flags", 0),
            int("flags", 0),
            text_or_null("rt_on_answer", 64),
            text_or_null("rt_on_timeout", 64),
            text_or_null("rt_on_hangup", 64),
        ],
        indexes: &[],
    },
    Table {
        name: "dispatcher",
        version: Some(9),
        columns: &[
            serial("id"),
            int("setid", 0),
            text("destination", 192),
            text_or_null("socket", 128),
            int("state", 0),
            int("probe_mode", 0),
            Column { name: "weight", kind: Kind::Text(64), null: false, default: Some(Literal::Text("1")) },
            int("priority", 0),
            text_or_null("attrs", 128),
            text("description", 64),
        ],
        indexes: &[],
    },
    Table {
        name: "dialplan",
        version: Some(5),
        columns: &[
            serial("id"),
            int("dpid", 0),
            int("pr", 0),
            int("match_op", 0),
            text("match_exp", 64),
            int("match_flags", 0),
            text_or_null("subst_exp", 64),
            text_or_null("repl_exp", 64),
            text_or_null("timerec", 255),
            int("disabled", 0),
            text_or_null("attrs", 255),
        ],
        indexes: &[],
    },
    Table {
        name: "usr_preferences",
        version: Some(3),
        columns: &[
            serial("id"),
            text("uuid", 64),
            Column { name: "username", kind: Kind::Text(64), null: false, default: Some(Literal::Text("0")) },
            text("domain", 64),
            text("attribute", 32),
            int("type", 0),
            text("value", 128),
            time_or_long_ago("last_modified"),
        ],
        indexes: &[
            index("ua_idx", &["uuid", "attribute"]),
            index("uda_idx", &["username", "domain", "attribute"]),
            index("value_idx", &["value"]),
        ],
    },
    Table {
        name: "speed_dial",
        version: Some(3),
        columns: &[
            serial("id"),
            text("username", 64),
            text("domain", 64),
            text("sd_username", 64),
            text("sd_domain", 64),
            text("new_uri", 255),
            text("fname", 64),
            text("lname", 64),
            text("description", 64),
        ],
        indexes: &[unique("speed_dial_idx", &["username", "domain", "sd_domain", "sd_username"])],
    },
    Table {
        name: "cachedb",
        version: Some(2),
        columns: &[
            Column { name: "keyname", kind: Kind::Text(255), null: false, default: None },
            Column { name: "value", kind: Kind::LongText, null: false, default: Some(Literal::Text("")) },
            int("counter", 0),
            int("expires", 0),
        ],
        indexes: &[unique("keyname_idx", &["keyname"])],
    },
    Table {
        name: "smpp",
        version: Some(1),
        columns: &[
            serial("id"),
            text("name", 255),
            text("ip", 50),
            int("port", 2775),
            text("system_id", 16),
            text("password", 64),
            text("system_type", 13),
            int("src_ton", 0),
            int("src_npi", 0),
            int("dst_ton", 0),
            int("dst_npi", 0),
            int("session_type", 1),
        ],
        indexes: &[unique("unique_name", &["name"])],
    },
    Table {
        name: "credit_account",
        version: Some(1),
        columns: &[
            serial("id"),
            text("name", 64),
            big("balance"),
            big("reserved"),
            big("credit_limit"),
            text("tariff", 64),
            text("currency", 8),
            small("enabled", 1),
        ],
        indexes: &[unique("name_idx", &["name"])],
    },
    Table {
        name: "credit_tariff",
        version: Some(1),
        columns: &[
            serial("id"),
            text("tariff", 64),
            text("prefix", 32),
            big("price_part"),
            big("price_message"),
        ],
        indexes: &[unique("prefix_idx", &["tariff", "prefix"])],
    },
    Table {
        name: "credit_ledger",
        version: Some(1),
        columns: &[
            Column { name: "id", kind: Kind::BigKey, null: false, default: None },
            text("account", 64),
            big("moment"),
            text("kind", 16),
            big("amount"),
            big("balance"),
            big("reserved"),
            text("reference", 128),
        ],
        indexes: &[index("account_idx", &["account", "id"])],
    },
    Table {
        name: "sms_message",
        version: Some(1),
        columns: &[
            Column { name: "id", kind: Kind::BigKey, null: false, default: None },
            small("nature", 0),
            text("account", 64),
            text("target", 128),
            small("state", 1),
            small("under_way", 0),
            big("submitted"),
            big("due"),
            big("expires"),
            big("done"),
            big("price"),
            int("attempts", 0),
            big("error"),
            text("source", 64),
            text("destination", 64),
            text_or_null("remote_id", 65),
            Column { name: "content", kind: Kind::Blob, null: true, default: None },
        ],
        indexes: &[index("done_idx", &["done"])],
    },
    Table {
        name: "sms_account",
        version: Some(1),
        columns: &[
            serial("id"),
            text("system_id", 16),
            text("password", 128),
            text("addresses", 255),
            text("bind_types", 16),
            int("binds", 4),
            int("rate", 0),
            int("max_window", 100),
            text("senders", 255),
            text("default_sender", 21),
            text("credit", 64),
            text("api_key", 128),
            text("webhook", 255),
            text("webhook_secret", 64),
            small("strict", 0),
            small("enabled", 1),
        ],
        indexes: &[unique("system_id_idx", &["system_id"])],
    },
    Table {
        name: "sms_route",
        version: Some(1),
        columns: &[
            serial("id"),
            int("priority", 0),
            text("account", 64),
            text("sender", 64),
            text("prefix", 32),
            text("network", 16),
            text("content", 128),
            text("target", 128),
            int("weight", 1),
            big("cost"),
            text("retry", 128),
            small("enabled", 1),
        ],
        indexes: &[],
    },
    Table {
        name: "sms_network",
        version: Some(1),
        columns: &[serial("id"), text("prefix", 32), text("mccmnc", 16), text("name", 64)],
        indexes: &[unique("prefix_idx", &["prefix"])],
    },
    Table {
        name: "sms_policy",
        version: Some(1),
        columns: &[
            serial("id"),
            text("account", 64),
            text("kind", 16),
            text("value", 255),
            small("enabled", 1),
        ],
        indexes: &[],
    },
    Table {
        name: "smpp_part",
        version: Some(1),
        columns: &[
            serial("id"),
            text("connection", 255),
            text("source", 64),
            text("destination", 64),
            int("reference", 0),
            small("total", 0),
            small("wide", 0),
            small("part", 0),
            big("moment"),
            Column { name: "content", kind: Kind::Blob, null: true, default: None },
        ],
        indexes: &[index("message_idx", &["connection", "destination", "reference"])],
    },
    Table {
        name: "smpp_report",
        version: Some(1),
        columns: &[
            serial("id"),
            small("kind", 0),
            text("connection", 255),
            text("name", 128),
            big("letter"),
            small("state", 0),
            big("moment"),
            Column { name: "content", kind: Kind::Blob, null: true, default: None },
        ],
        indexes: &[index("name_idx", &["name"]), index("letter_idx", &["letter"])],
    },
    Table {
        name: "sms_list",
        version: Some(1),
        columns: &[serial("id"), text("account", 64), text("name", 21), text("address", 32)],
        indexes: &[unique("list_idx", &["account", "name", "address"])],
    },
    Table {
        name: "sms_request",
        version: Some(1),
        columns: &[
            serial("id"),
            text("account", 64),
            text("request_key", 255),
            int("status", 0),
            big("moment"),
            Column { name: "body", kind: Kind::Blob, null: true, default: None },
        ],
        indexes: &[unique("key_idx", &["account", "request_key"]), index("moment_idx", &["moment"])],
    },
    Table {
        name: "silo",
        version: Some(6),
        columns: &[
            serial("id"),
            text("src_addr", 255),
            text("dst_addr", 255),
            text("username", 64),
            text("domain", 64),
            int("inc_time", 0),
            int("exp_time", 0),
            int("snd_time", 0),
            text("ctype", 32),
            Column { name: "body", kind: Kind::Blob, null: true, default: None },
        ],
        indexes: &[index("account_idx", &["username", "domain"])],
    },
];
