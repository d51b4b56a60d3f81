//! Core variables: the table. What reads the message stands in `message_vars`, URIs in `uri_vars`, storage, network and
//! time in `process_vars`.

use switchroom_kernel::module::{Named, Variable};

use super::{branches, message_vars as m, process_vars as p, sdp_vars as s, uri_vars as u};

/// A variable with an inner name, interned.
const fn named(mut v: Variable) -> Variable {
    v.named = Named::Yes;
    v
}

const fn maybe(mut v: Variable) -> Variable {
    v.named = Named::Optional;
    v
}

/// The table.
pub static VARIABLES: &[Variable] = &[
    // Request-URI and next hop
    Variable::rw("ru", u::ruri, u::set_ruri, "Request-URI").also(&["ruri"]),
    Variable::rw("rU", u::ruri_user, u::set_ruri_user, "User of the Request-URI").also(&["ruri.user"]),
    Variable::rw("rd", u::ruri_host, u::set_ruri_host, "Host of the Request-URI").also(&["ruri.domain"]),
    Variable::rw("rp", u::ruri_port, u::set_ruri_port, "Port of the Request-URI"),
    Variable::ro("rP", u::ruri_proto, "Transport of the Request-URI"),
    Variable::rw("ru_q", u::ruri_q, u::set_ruri_q, "Quality of the Request-URI"),
    Variable::ro("ou", u::orig_uri, "Received Request-URI").also(&["ouri"]),
    Variable::ro("oU", u::orig_user, "User of the received Request-URI"),
    Variable::ro("od", u::orig_host, "Host of the received Request-URI"),
    Variable::ro("op", u::orig_port, "Port of the received Request-URI"),
    Variable::ro("oP", u::orig_proto, "Transport of the received Request-URI"),
    Variable::rw("du", u::dst_uri, u::set_dst_uri, "Next hop").also(&["duri"]),
    Variable::rw("dd", u::dst_host, u::set_dst_host, "Host of the next hop"),
    Variable::rw("dp", u::dst_port, u::set_dst_port, "Port of the next hop"),
    Variable::ro("dP", u::dst_proto, "Transport of the next hop"),
    Variable::ro("ds", u::dst_set, "All destinations of the request"),
    Variable::ro("path", u::path, "Path of branch 0"),
    // From and To
    Variable::ro("fu", u::from_uri, "URI of From").also(&["from"]),
    Variable::ro("fU", u::from_user, "User of From").also(&["from.user"]),
    Variable::ro("fd", u::from_host, "Domain of From").also(&["from.domain"]),
    Variable::ro("fn", u::from_name, "Display name of From"),
    Variable::ro("ft", u::from_tag, "Tag of From"),
    Variable::ro("tu", u::to_uri, "URI of To").also(&["to"]),
    Variable::ro("tU", u::to_user, "User of To").also(&["to.user"]),
    Variable::ro("td", u::to_host, "Domain of To").also(&["to.domain"]),
    Variable::ro("tn", u::to_name, "Display name of To"),
    Variable::ro("tt", u::to_tag, "Tag of To"),
    // The message
    Variable::ro("rm", m::method, "Method"),
    Variable::ro("rs", m::status, "Status code"),
    Variable::ro("rr", m::reason, "Reason phrase"),
    Variable::ro("ci", m::call_id, "Call-ID"),
    Variable::ro("cs", m::cseq, "CSeq number"),
    Variable::ro("ct", m::contact, "Contact").indexed(),
    named(Variable::ro("ct.fields", m::contact_field, "Fields of a Contact")).indexed(),
    Variable::ro("cT", m::content_type, "Content-Type").indexed(),
    Variable::ro("cl", m::content_length, "Content-Length"),
    Variable::ro("ua", m::user_agent, "User-Agent"),
    maybe(Variable::ro("rb", m::body, "Body, or the part of a type")).indexed(),
    Variable::ro("mb", m::message, "The whole message"),
    Variable::ro("ml", m::length, "Length of the message"),
    Variable::ro("mi", m::serial, "Serial number of the message"),
    Variable::ro("rt", m::refer_to, "URI of Refer-To"),
    Variable::ro("di", m::diversion_uri, "URI of Diversion"),
    Variable::ro("dir", m::diversion_reason, "Reason of Diversion"),
    Variable::ro("dip", m::diversion_privacy, "Privacy of Diversion"),
    Variable::ro("ai", m::asserted, "URI of P-Asserted-Identity"),
    Variable::ro("pu", m::preferred, "URI of P-Preferred-Identity"),
    Variable::ro("pU", m::preferred_user, "User of P-Preferred-Identity"),
    Variable::ro("pd", m::preferred_host, "Domain of P-Preferred-Identity"),
    Variable::ro("pn", m::preferred_name, "Display name of P-Preferred-Identity"),
    Variable::ro("re", m::remote_party, "URI of Remote-Party-ID"),
    named(Variable::ro("hdr", m::header, "Value of a header")).indexed(),
    Variable::ro("hdr_name", m::header_name, "Name of a header by position").indexed(),
    named(Variable::ro("hdrcnt", m::header_count, "How often a header occurs")),
    Variable::ro("msg.is_request", m::is_request, "1 for a request"),
    Variable::ro("msg.type", m::message_type, "request or reply"),
    // Session description
    maybe(Variable::rw("sdp", s::sdp, s::set_sdp, "The session description")).indexed(),
    named(Variable::rw("sdp.line", s::line, s::set_line, "A line or token of the session description"))
        .indexed(),
    named(Variable::rw("sdp.session", s::session, s::set_session, "The same before the first stream"))
        .indexed(),
    named(Variable::rw("sdp.stream", s::stream, s::set_stream, "A stream, or a line or token of one"))
        .indexed(),
    named(Variable::ro("sdp.stream.idx", s::stream_index, "Number of the stream that has a line or token")),
    // Flags and branches
    Variable::ro("mf", m::flags, "Names of the message flags that are set"),
    Variable::ro("bf", m::branch_flags, "Names of the branch flags of branch 0"),
    named(Variable::rw("msg.flag", m::flag, m::set_flag, "A message flag")),
    Variable::rw("msg.branch", branches::get_uri, branches::append_var, "Assigning appends a branch")
        .indexed(),
    Variable::rw("msg.branch.uri", branches::get_uri, branches::set_uri, "URI of a branch").indexed(),
    Variable::rw("msg.branch.duri", branches::get_duri, branches::set_duri, "Next hop of a branch").indexed(),
    Variable::rw("msg.branch.path", branches::get_path, branches::set_path, "Path of a branch").indexed(),
    Variable::rw("msg.branch.q", branches::get_q, branches::set_q, "Quality of a branch").indexed(),
    Variable::rw("msg.branch.socket", branches::get_socket, branches::set_socket, "Socket of a branch")
        .indexed(),
    Variable::ro("msg.branch.flags", branches::get_flags, "Flags of a branch").indexed(),
    named(Variable::rw("msg.branch.attr", branches::get_attr, branches::set_attr, "Attribute of a branch"))
        .indexed(),
    named(Variable::rw("msg.branch.flag", branches::get_flag, branches::set_flag, "Flag of a branch"))
        .indexed(),
    Variable::ro("msg.branch.last_idx", branches::last_index, "Index of the last branch"),
    maybe(Variable::rw("branch", branches::get_branch, branches::set_branch, "Appended branches")).indexed(),
    named(Variable::rw("branch.flag", branches::get_old_flag, branches::set_old_flag, "Flag of a branch"))
        .indexed(),
    // Authentication
    Variable::ro("au", m::auth_user, "User of the credentials, without domain"),
    Variable::ro("aU", m::auth_full_user, "Whole user name of the credentials"),
    Variable::ro("ar", m::auth_realm, "Realm of the credentials"),
    Variable::ro("ad", m::auth_domain, "Domain in the user name of the credentials"),
    Variable::ro("adu", m::auth_uri, "URI of the credentials"),
    Variable::ro("an", m::auth_nonce, "Nonce of the credentials").also(&["auth.nonce"]),
    Variable::ro("auth.resp", m::auth_response, "Response of the credentials"),
    Variable::ro("auth.cnonce", m::auth_cnonce, "Client nonce of the credentials"),
    Variable::ro("auth.opaque", m::auth_opaque, "Opaque of the credentials"),
    Variable::ro("auth.alg", m::auth_algorithm, "Algorithm of the credentials"),
    Variable::ro("auth.qop", m::auth_qop, "Quality of protection of the credentials"),
    Variable::ro("auth.nc", m::auth_nc, "Nonce count of the credentials"),
    Variable::ro("Au", m::accounting_user, "user@realm of the credentials, else From"),
    Variable::ro("challenge.algorithm", m::challenge_algorithm, "Algorithm of a challenge").indexed(),
    Variable::ro("challenge.realm", m::challenge_realm, "Realm of a challenge").indexed(),
    Variable::ro("challenge.nonce", m::challenge_nonce, "Nonce of a challenge").indexed(),
    Variable::ro("challenge.opaque", m::challenge_opaque, "Opaque of a challenge").indexed(),
    Variable::ro("challenge.qop", m::challenge_qop, "Quality of protection of a challenge").indexed(),
    // Network
    Variable::ro("si", p::source_ip, "Source address").also(&["src_ip"]),
    Variable::ro("sp", p::source_port, "Source port"),
    maybe(Variable::ro("socket_in", p::socket_in, "Socket the message came in on")),
    maybe(Variable::rw("socket_out", p::socket_out, p::set_socket_out, "Socket to send from")),
    // Errors
    Variable::ro("err.class", p::error_class, "Class of the parsing error"),
    Variable::ro("err.level", p::error_level, "Level of the parsing error"),
    Variable::ro("err.info", p::error_info, "What was wrong"),
    Variable::ro("err.rcode", p::error_code, "Proposed reply code"),
    Variable::ro("err.rreason", p::error_reason, "Proposed reply reason"),
    // Storage
    named(Variable::rw(
        "var",
        p::var,
        p::set_var,
        "Variable of the worker; keeps its value between messages",
    )),
    named(Variable::rw("avp", p::avp, p::set_avp, "Attribute of the message and its transaction")).indexed(),
    Variable::rw("log_level", p::log_level, p::set_log_level, "Log level for this message"),
    Variable::rw("xlog_level", p::xlog_level, p::set_xlog_level, "Level of xlog() for this message"),
    named(Variable::ro("argv", p::argv, "Value given on the command line")),
    named(Variable::ro("C", p::colour, "Terminal colours")),
    // Time and process
    Variable::ro("Ts", p::unix, "Seconds since the epoch, the same during one message"),
    Variable::ro("Tsm", p::micros, "Microseconds within the second"),
    Variable::ro("TS", p::startup, "Time of start"),
    Variable::ro("Tf", p::time_text, "Time as text"),
    named(Variable::ro("time", p::time_format, "Time in a strftime format")),
    Variable::ro("pp", p::pid, "Process number"),
];
