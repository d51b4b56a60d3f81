//! What a proxy does in the caller's place: other addresses in From and To, and answers to challenges.
//!
//! Replies get the addresses back that their request came with; requests of the same dialog are changed alike from a
//! parameter of our Record-Route. Left out: raising CSeq with the answer to a challenge, since later requests of the dialog
//! would have to be raised as well.

mod auth;
mod replace;

use switchroom_kernel::module::{Function, Hook, Module, Param};

/// The module.
pub static MODULE: Module = Module {
    name: "uac",
    summary: "Other addresses in From and To, answers to challenges",
    needs: &["tm"],
    params: &[
        Param::str("rr_from_store_param", "vsf", "Parameter of Record-Route for From"),
        Param::str("rr_to_store_param", "vst", "Parameter of Record-Route for To"),
        Param::str("restore_mode", "auto", "none, manual or auto"),
        Param::str("restore_passwd", "", "Kept for old scripts; the parameter is not encrypted"),
        Param::int("force_dialog", "0", "Kept for old scripts; dialogs are not needed"),
    ],
    functions: &[
        Function::new(
            "uac_replace_from",
            &["str", "[str],str"],
            "RFB",
            replace::replace_from,
            "Another display name and URI in From",
        ),
        Function::new("uac_restore_from", &[""], "RFB", replace::restore_from, "Restore From in a dialog"),
        Function::new(
            "uac_replace_to",
            &["str", "[str],str"],
            "RFB",
            replace::replace_to,
            "Another display name and URI in To",
        ),
        Function::new("uac_restore_to", &[""], "RFB", replace::restore_to, "Restore To in a dialog"),
        Function::new("uac_auth", &["[str]"], "F", auth::uac_auth, "Answer the challenge that came back"),
    ],
    hooks: &[Hook::Routed(replace::routed)],
    open: |o| {
        let mode = match o.text("restore_mode").to_ascii_lowercase().as_str() {
            "none" => Mode::None,
            "manual" => Mode::Manual,
            "auto" => Mode::Auto,
            other => return Err(format!("restore_mode is \"{other}\"; it must be none, manual or auto")),
        };
        if o.given("restore_passwd") {
            tracing::warn!("uac: restore_passwd has no effect in this version");
        }
        let uac =
            Uac { mode, from_param: o.text("rr_from_store_param"), to_param: o.text("rr_to_store_param") };
        o.provide(uac);
        Ok(())
    },
    ..Module::EMPTY
};

/// What is restored by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    None,
    Manual,
    Auto,
}

struct Uac {
    mode: Mode,
    from_param: String,
    to_param: String,
}
