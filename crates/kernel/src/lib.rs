//! The kernel: what every module agrees on.
//!
//! It names no module, no protocol setting and no tenant.

pub mod ports;
