//! What other modules may ask of contacts that are woken by push (RFC 8599).

use switchroom_kernel::Kernel;

use super::Registrar;
use crate::usrloc::contact::{Contact, PUSH};

/// Where a request to this contact goes now: its URI, of a phone that has just been woken without the parameters of its
/// push service. `None` while the phone sleeps; [`crate::usrloc::api::ask_refresh`] wakes it.
#[must_use]
pub fn reachable(kernel: &Kernel, contact: &Contact) -> Option<Vec<u8>> {
    let push = kernel.find::<Registrar>().and_then(|r| r.push.as_ref());
    match push.filter(|_| contact.flags & PUSH != 0) {
        None => Some(contact.uri().to_vec()),
        Some(push) => {
            let awake = push.skip_interval.max(push.refresh_timeout.as_secs());
            (kernel.unix() < contact.modified + awake).then(|| push.strip(contact.uri()))
        }
    }
}
