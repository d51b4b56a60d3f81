//! The events of user location.

use bytes::Bytes;
use switchroom_kernel::Kernel;
use switchroom_kernel::events::{Event, EventId};
use switchroom_kernel::module::EventDecl;
use switchroom_script::Value;

use super::contact::{Contact, Field, Texts};

const CONTACT: &[&str] = &[
    "domain",
    "aor",
    "uri",
    "received",
    "path",
    "qval",
    "user_agent",
    "socket",
    "bflags",
    "expires",
    "callid",
    "cseq",
    "attr",
    "latency",
    "shtag",
];

/// The table.
pub(super) static EVENTS: &[EventDecl] = &[
    EventDecl {
        name: "E_UL_AOR_INSERT",
        attrs: &["domain", "aor"],
        help: "The first contact of an address came",
    },
    EventDecl {
        name: "E_UL_AOR_DELETE",
        attrs: &["domain", "aor"],
        help: "The last contact of an address went",
    },
    EventDecl { name: "E_UL_CONTACT_INSERT", attrs: CONTACT, help: "A contact was added" },
    EventDecl { name: "E_UL_CONTACT_UPDATE", attrs: CONTACT, help: "A contact was registered again" },
    EventDecl { name: "E_UL_CONTACT_DELETE", attrs: CONTACT, help: "A contact went or expired" },
    EventDecl {
        name: "E_UL_LATENCY_UPDATE",
        attrs: CONTACT,
        help: "A ping was answered, and its time passes the filters",
    },
    EventDecl {
        name: "E_UL_CONTACT_REFRESH",
        attrs: &[
            "domain",
            "aor",
            "uri",
            "received",
            "user_agent",
            "socket",
            "bflags",
            "expires",
            "callid",
            "attr",
            "shtag",
            "reason",
            "req_callid",
        ],
        help: "A push contact must be woken: its binding ends soon, or a request waits for it",
    },
];

/// Their numbers.
#[derive(Clone, Copy)]
pub struct Ids {
    aor_insert: EventId,
    aor_delete: EventId,
    insert: EventId,
    update: EventId,
    delete: EventId,
    latency: EventId,
    refresh: EventId,
}

/// What happened to a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Added.
    Insert,
    /// Registered again.
    Update,
    /// Removed or expired.
    Delete,
    /// Answered a ping.
    Latency,
}

impl Ids {
    pub(super) fn find(kernel: &Kernel) -> Ids {
        let id = |name| kernel.events.publish(name, &[]);
        Ids {
            aor_insert: id("E_UL_AOR_INSERT"),
            aor_delete: id("E_UL_AOR_DELETE"),
            insert: id("E_UL_CONTACT_INSERT"),
            update: id("E_UL_CONTACT_UPDATE"),
            delete: id("E_UL_CONTACT_DELETE"),
            latency: id("E_UL_LATENCY_UPDATE"),
            refresh: id("E_UL_CONTACT_REFRESH"),
        }
    }

    /// Whether anybody wants to know of contacts.
    pub(super) fn heard(&self, kernel: &Kernel) -> bool {
        [self.insert, self.update, self.delete].into_iter().any(|id| kernel.events.heard(id))
    }

    /// Whether anybody wants to know how fast pings are answered.
    pub(super) fn latency_heard(&self, kernel: &Kernel) -> bool {
        kernel.events.heard(self.latency)
    }

    /// Whether anybody wants to know of addresses of record that lose their last contact.
    pub(super) fn went_heard(&self, kernel: &Kernel) -> bool {
        kernel.events.heard(self.aor_delete)
    }

    /// Tell of a contact.
    pub(super) fn contact(
        &self,
        kernel: &Kernel,
        worker: Option<usize>,
        change: Change,
        table: &str,
        aor: &[u8],
        c: &Contact,
    ) {
        let id = match change {
            Change::Insert => self.insert,
            Change::Update => self.update,
            Change::Delete => self.delete,
            Change::Latency => self.latency,
        };
        if !kernel.events.heard(id) {
            return;
        }
        let text = |t: &[u8]| Value::Str(Bytes::copy_from_slice(t));
        let socket = c.socket.and_then(|s| kernel.socket(s)).map(|s| s.name()).unwrap_or_default();
        let values = vec![
            text(table.as_bytes()),
            text(aor),
            text(c.uri()),
            text(c.text(Field::Received)),
            text(c.text(Field::Path)),
            Value::Int(i64::from(c.q.max(-1))),
            text(c.text(Field::UserAgent)),
            Value::Str(socket.into()),
            Value::Int(i64::from(c.cflags)),
            Value::Int(c.expires as i64),
            text(c.text(Field::CallId)),
            Value::Int(i64::from(c.cseq)),
            text(c.text(Field::Attr)),
            Value::Int(i64::from(c.latency)),
            Value::Str(Bytes::new()),
        ];
        kernel.events.raise(id, values, worker);
    }

    /// Tell of an address of record that came or went.
    pub(super) fn aor(&self, kernel: &Kernel, worker: Option<usize>, came: bool, table: &str, aor: &[u8]) {
        let id = if came { self.aor_insert } else { self.aor_delete };
        if kernel.events.heard(id) {
            let text = |t: &[u8]| Value::Str(Bytes::copy_from_slice(t));
            kernel.events.raise(id, vec![text(table.as_bytes()), text(aor)], worker);
        }
    }

    /// Tell that a push contact must be woken.
    pub(super) fn refresh(
        &self,
        kernel: &Kernel,
        worker: Option<usize>,
        table: &str,
        aor: &[u8],
        c: &Contact,
        reason: &str,
        call_id: &[u8],
    ) {
        if !kernel.events.heard(self.refresh) {
            return;
        }
        let text = |t: &[u8]| Value::Str(Bytes::copy_from_slice(t));
        let socket = c.socket.and_then(|s| kernel.socket(s)).map(|s| s.name()).unwrap_or_default();
        let values = vec![
            text(table.as_bytes()),
            text(aor),
            text(c.uri()),
            text(c.text(Field::Received)),
            text(c.text(Field::UserAgent)),
            Value::Str(socket.into()),
            Value::Int(i64::from(c.cflags)),
            Value::Int(c.expires as i64),
            text(c.text(Field::CallId)),
            text(c.text(Field::Attr)),
            Value::Str(Bytes::new()),
            text(reason.as_bytes()),
            text(call_id),
        ];
        kernel.events.raise(self.refresh, values, worker);
    }
}

/// The contact that an event of this module told of, as far as it leads somewhere.
pub(crate) fn told_contact(kernel: &Kernel, event: &Event) -> Contact {
    let text = |i: usize| event.attrs.get(i).and_then(|(_, v)| v.to_bytes()).unwrap_or_default();
    let int = |i: usize| event.attrs.get(i).and_then(|(_, v)| v.to_int()).unwrap_or_default();
    let mut contact = Contact::new(&Texts {
        uri: &text(2),
        received: &text(3),
        path: &text(4),
        user_agent: &text(6),
        call_id: &text(10),
        attr: &text(12),
        ..Texts::default()
    });
    contact.q = int(5) as i16;
    let socket = text(7);
    contact.socket = kernel.sockets().iter().find(|s| s.name().as_bytes() == &socket[..]).map(|s| s.id);
    contact.cflags = int(8) as u32;
    contact.expires = int(9).max(0) as u64;
    contact.cseq = int(11) as u32;
    contact
}
