//! Short messages: SMPP connections, the gateway between SIP MESSAGE and SMPP, the SMS centre.
//!
//! Adding a module is one folder and one line in [`MODULES`].

pub mod imdn;
pub mod link;
pub mod msilo;
pub mod proto_smpp;
pub mod sms_api;
pub mod smsc;

use switchroom_kernel::Module;

/// The modules of this floor.
pub static MODULES: &[&Module] = &[&msilo::MODULE, &proto_smpp::MODULE, &sms_api::MODULE, &smsc::MODULE];
