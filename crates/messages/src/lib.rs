//! Short messages: SMPP connections, the gateway between SIP MESSAGE and SMPP, the SMS centre.
//!
//! Adding a module is one folder and one line in [`MODULES`].

pub mod link;
<<<<<<< HEAD
pub mod proto_smpp;
=======
pub mod smsc;
>>>>>>> h2

use switchroom_kernel::Module;

/// The modules of this floor.
<<<<<<< HEAD
pub static MODULES: &[&Module] = &[&proto_smpp::MODULE];
=======
pub static MODULES: &[&Module] = &[&smsc::MODULE];
>>>>>>> h2
