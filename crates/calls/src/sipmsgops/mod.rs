//! Message work at the level of SIP: headers, bodies, codecs and streams, method tests, validation.
//!
//! Tests of headers see the message as received; tests of bodies see the changes made so far.

mod bodies;
mod codecs;
mod headers;
mod message;
mod validate;

use switchroom_kernel::context::{FALSE, Flow, TRUE};
use switchroom_kernel::module::{Function, Module};

pub use message::is_e164;

const ALL: &str = "RFOBL";

/// The module.
pub static MODULE: Module = Module {
    name: "sipmsgops",
    summary: "Headers, bodies, codecs, streams, methods, validation",
    functions: &[
        Function::new("is_method", &["str"], ALL, message::is_method, "Test the method against a list")
            .prepared(message::prepare_methods),
        Function::new("has_totag", &[""], ALL, message::has_totag, "Test for a tag in To")
            .formerly(&["uri_has_totag"]),
        Function::new(
            "append_hf",
            &["str,[str]"],
            ALL,
            headers::append_hf,
            "Add a header at the end or after another",
        ),
        Function::new(
            "insert_hf",
            &["str,[str]"],
            ALL,
            headers::insert_hf,
            "Add a header on top or before another",
        ),
        Function::new(
            "append_urihf",
            &["str,str"],
            "RFB",
            headers::append_urihf,
            "Add a header with the received Request-URI",
        ),
        Function::new(
            "append_to_reply",
            &["str"],
            "RFBE",
            headers::append_to_reply,
            "Add a header to replies of our own",
        ),
        Function::new(
            "append_body_to_reply",
            &["str"],
            "RFBE",
            headers::append_body_to_reply,
            "Give replies of our own a body",
        ),
        Function::new("append_time", &[""], "RFBL", headers::append_time, "Add Date to replies of our own"),
        Function::new("remove_hf", &["str,[str]"], ALL, headers::remove_hf, "Remove all headers of a name"),
        Function::new(
            "remove_hf_re",
            &["regex"],
            ALL,
            headers::remove_hf_re,
            "Remove headers by regular expression",
        ),
        Function::new(
            "remove_hf_glob",
            &["str"],
            ALL,
            headers::remove_hf_glob,
            "Remove headers by shell pattern",
        ),
        Function::new("is_present_hf", &["str"], ALL, headers::is_present_hf, "Test for a header"),
        Function::new(
            "get_glob_headers_values",
            &["str,var,var"],
            ALL,
            headers::get_glob_headers_values,
            "Names and values of headers by shell pattern",
        ),
        Function::new("is_privacy", &["str"], ALL, headers::is_privacy, "Test for a value of Privacy"),
        Function::new(
            "change_reply_status",
            &["int,str"],
            "O",
            headers::change_reply_status,
            "Change code and reason of a reply",
        ),
        Function::new(
            "list_hdr_has_option",
            &["str,str"],
            ALL,
            headers::list_hdr_has_option,
            "Test for an option in a list header",
        ),
        Function::new(
            "list_hdr_add_option",
            &["str,str"],
            ALL,
            headers::list_hdr_add_option,
            "Add an option to a list header",
        ),
        Function::new(
            "list_hdr_remove_option",
            &["str,str"],
            ALL,
            headers::list_hdr_remove_option,
            "Take an option out of a list header",
        ),
        Function::new("has_body", &["[str]"], ALL, bodies::has_body, "Test for a body, of a type"),
        Function::new(
            "has_body_part",
            &["[str]"],
            ALL,
            bodies::has_body,
            "Test for a part of a body, of a type",
        ),
        Function::new(
            "remove_body_part",
            &["[str],[str]"],
            ALL,
            bodies::remove_body_part,
            "Remove parts of the body",
        )
        .formerly(&["strip_body"]),
        Function::new(
            "add_body_part",
            &["str,str,[str]"],
            ALL,
            bodies::add_body_part,
            "Add a part to the body",
        ),
        Function::new(
            "get_updated_body_part",
            &["[str],var"],
            ALL,
            bodies::get_updated_body_part,
            "The body or a part, with the changes so far",
        ),
        Function::new("codec_exists", &["str,[str]"], ALL, codecs::exists, "Test for a codec"),
        Function::new(
            "codec_exists_re",
            &["regex"],
            ALL,
            codecs::exists_re,
            "Test for a codec by regular expression",
        ),
        Function::new("codec_delete", &["str,[str]"], ALL, codecs::delete, "Remove a codec"),
        Function::new(
            "codec_delete_re",
            &["regex"],
            ALL,
            codecs::delete_re,
            "Remove codecs by regular expression",
        ),
        Function::new(
            "codec_delete_except_re",
            &["regex"],
            ALL,
            codecs::delete_except_re,
            "Remove all other codecs",
        ),
        Function::new("codec_move_up", &["str,[str]"], ALL, codecs::up, "Move a codec to the front"),
        Function::new("codec_move_up_re", &["regex"], ALL, codecs::up_re, "Move codecs to the front"),
        Function::new("codec_move_down", &["str,[str]"], ALL, codecs::down, "Move a codec to the end"),
        Function::new("codec_move_down_re", &["regex"], ALL, codecs::down_re, "Move codecs to the end"),
        Function::new(
            "is_audio_on_hold",
            &[""],
            ALL,
            codecs::is_audio_on_hold,
            "1 null address, 2 sendonly or inactive",
        ),
        Function::new(
            "stream_exists",
            &["regex,[regex]"],
            ALL,
            codecs::stream_exists,
            "Test for a stream by media and protocol",
        ),
        Function::new(
            "stream_delete",
            &["regex,[regex]"],
            ALL,
            codecs::stream_delete,
            "Remove streams by media and protocol",
        ),
        Function::new(
            "ruri_has_param",
            &["str,[str]"],
            "RFBL",
            message::ruri_has_param,
            "Test for a parameter of the Request-URI",
        )
        .formerly(&["uri_param"]),
        Function::new(
            "ruri_add_param",
            &["str"],
            "RFBL",
            message::ruri_add_param,
            "Add a parameter to the Request-URI",
        )
        .formerly(&["add_uri_param"]),
        Function::new(
            "ruri_del_param",
            &["str"],
            "RFBL",
            message::ruri_del_param,
            "Remove a parameter of the Request-URI",
        )
        .formerly(&["del_uri_param"]),
        Function::new(
            "ruri_tel2sip",
            &[""],
            "RFBL",
            message::ruri_tel2sip,
            "Make a SIP URI of a tel Request-URI",
        )
        .formerly(&["tel2sip"]),
        Function::new(
            "is_uri_user_e164",
            &["str"],
            "RFL",
            message::is_uri_user_e164,
            "Test for an E.164 number",
        )
        .formerly(&["is_user_e164"]),
        Function::new("sip_to_json", &["var"], ALL, message::sip_to_json, "The message as JSON"),
        Function::new(
            "sipmsg_validate",
            &["[str],[var]"],
            "RFOB",
            validate::sipmsg_validate,
            "Test the message against RFC 3261",
        ),
    ],
    ..Module::EMPTY
};

fn truth(yes: bool) -> Flow {
    if yes { TRUE } else { FALSE }
}
