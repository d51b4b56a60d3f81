//! The allocator, and how long it keeps memory that is free.
//!
//! Transactions linger for seconds after their last reply (RFC 3261 §17), so the memory of a busy minute comes and goes in
//! waves. Giving a page back and having the kernel clear another one a moment later costs more than all allocations of
//! a call together; memory that stays unused for a minute goes back.

#![allow(unsafe_code, reason = "an option of the C library")]

use std::ffi::c_long;

use libmimalloc_sys::{mi_option_set, mi_option_t};

/// Messages live on one thread, mostly; this allocator is made for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay`, which the binding does not name.
const PURGE_DELAY: mi_option_t = 15;
const KEPT_MS: c_long = 60_000;
/// What an operator sets instead.
const VARIABLE: &str = "MIMALLOC_PURGE_DELAY";

/// Set how long free memory is kept. To be called before there are threads.
pub fn configure() {
    if std::env::var_os(VARIABLE).is_none() {
        // SAFETY: sets an integer option; the number is that of the header file of the version which is linked.
        unsafe { mi_option_set(PURGE_DELAY, KEPT_MS) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_that_of_the_purge_delay() {
        // Its default is one second, which no other option near it has.
        // SAFETY: reads an integer option.
        let before = unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert!(before == 1000 || before == KEPT_MS, "{before}");
        configure();
        // SAFETY: reads an integer option.
        assert_eq!(unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) }, KEPT_MS);
    }
}
