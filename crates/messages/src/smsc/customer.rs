//! A customer at run time: his binds, and the way messages go to him.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::{Mutex, RwLock};
use switchroom_wire::smpp::{Body, CommandId};

use super::accounts::{Account, Rate};
use super::centre::{Centre, Outlet};
use super::hook::Hook;
use super::message::Message;
use crate::link::LinkHandle;

/// A customer.
pub struct Customer {
    /// Name of the account.
    pub name: Arc<str>,
    /// Messages a second.
    pub rate: Rate,
    account: RwLock<Arc<Account>>,
    binds: Mutex<Vec<LinkHandle>>,
    turn: AtomicUsize,
    hook: RwLock<Option<Arc<Hook>>>,
}

impl Customer {
    /// Without binds.
    pub fn new(account: Account) -> Customer {
        let customer = Customer {
            name: account.system_id.clone(),
            rate: Rate::default(),
            account: RwLock::default(),
            binds: Mutex::default(),
            turn: AtomicUsize::new(0),
            hook: RwLock::default(),
        };
        customer.set(account);
        customer
    }

    /// The account's row changed. Binds that it does not allow any more are closed.
    pub fn set(&self, account: Account) {
        let hook = (!account.webhook.is_empty())
            .then(|| Arc::new(Hook::new(account.webhook.clone(), account.webhook_secret.clone())));
        let enabled = account.enabled;
        {
            let same = self.hook.read().as_ref().is_some_and(|h| h.is(&account));
            if !same {
                *self.hook.write() = hook;
            }
        }
        *self.account.write() = Arc::new(account);
        if !enabled {
            self.close();
        }
    }

    /// The row in force.
    pub fn account(&self) -> Arc<Account> {
        self.account.read().clone()
    }

    /// One more bind; false when there are as many as allowed.
    pub fn add(&self, link: &LinkHandle) -> bool {
        let most = self.account.read().binds;
        let mut binds = self.binds.lock();
        if binds.len() >= most {
            return false;
        }
        binds.push(link.clone());
        true
    }

    /// A bind is over.
    pub fn remove(&self, link: &LinkHandle) {
        self.binds.lock().retain(|l| !l.is(link));
    }

    /// Its binds.
    pub fn binds(&self) -> Vec<LinkHandle> {
        self.binds.lock().clone()
    }

    /// Ends all binds.
    pub fn close(&self) {
        self.binds().iter().for_each(LinkHandle::unbind);
    }

    fn room_of(&self, link: &LinkHandle, window: usize) -> usize {
        if link.mode().is_some_and(|m| m.receives()) {
            link.room().min(window.saturating_sub(link.unanswered()))
        } else {
            0
        }
    }
}

impl Outlet for Customer {
    fn room(&self) -> usize {
        let window = self.account.read().window;
        let binds = self.binds.lock();
        if binds.iter().any(|l| l.mode().is_some_and(|m| m.receives())) {
            return binds.iter().map(|l| self.room_of(l, window)).sum();
        }
        drop(binds);
        self.hook.read().as_ref().map_or(0, |h| h.room())
    }

    fn send(&self, centre: &Arc<Centre>, message: &Message) -> bool {
        let window = self.account.read().window;
        let mut tlvs = Vec::new();
        let mut wire = message.wire(&mut tlvs);
        // What the recipient is asked for: acknowledgements of people, not receipts of ours.
        wire.registered_delivery &= 0x0c;
        {
            let binds = self.binds.lock();
            let turn = self.turn.fetch_add(1, Relaxed);
            for i in 0..binds.len() {
                let link = &binds[(turn + i) % binds.len()];
                if self.room_of(link, window) > 0
                    && link.send(CommandId::DELIVER_SM, &Body::Message(wire), message.id).is_ok()
                {
                    return true;
                }
            }
            if binds.iter().any(|l| l.mode().is_some_and(|m| m.receives())) {
                return false;
            }
        }
        let hook = self.hook.read().clone();
        hook.is_some_and(|h| h.send(centre, message))
    }
}
