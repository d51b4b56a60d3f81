//! SIP users as destinations: a MESSAGE (RFC 3428) to where they are registered; while they are not, messages wait.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use switchroom_calls::tm::api::{Request, request};
use switchroom_kernel::Kernel;
use switchroom_kernel::events::{Event, Subscriber};
use switchroom_users::usrloc::contact::Field;
use switchroom_users::usrloc::{Location, api};
use switchroom_wire::smpp::Status;

use super::centre::{Centre, Outcome, Outlet, text};
use super::message::Message;
use crate::proto_smpp::api::{Verdict, escape_user};

/// Messages to one user under way at a time.
const AT_ONCE: usize = 8;

/// One user.
pub struct SipUser {
    kernel: Weak<Kernel>,
    /// `user@domain`
    aor: String,
}

impl SipUser {
    /// By the address of record.
    pub fn new(kernel: &Arc<Kernel>, aor: &str) -> SipUser {
        SipUser { kernel: Arc::downgrade(kernel), aor: aor.to_owned() }
    }

    /// The request without its body, towards the contact that is preferred.
    fn towards(&self, kernel: &Kernel) -> Option<Request> {
        let location = kernel.find::<Location>()?;
        let table = api::find(location, "location")?;
        let key = if location.use_domain { &self.aor } else { self.aor.split('@').next()? };
        let now = kernel.unix();
        table.read(key.as_bytes(), |record| {
            let contact = record?.contacts.iter().find(|c| c.is_live(now))?;
            let some = |field| Some(contact.text(field)).filter(|t| !t.is_empty());
            let path = some(Field::Path);
            let mut headers = Vec::new();
            if let Some(path) = path {
                headers.extend_from_slice(b"Route: ");
                headers.extend_from_slice(path);
                headers.extend_from_slice(b"\r\n");
            }
            let first = path.and_then(|p| {
                let begin = p.iter().position(|b| *b == b'<')? + 1;
                let length = p[begin..].iter().position(|b| *b == b'>')?;
                Some(&p[begin..begin + length])
            });
            Some(Request {
                method: Bytes::from_static(b"MESSAGE"),
                ruri: Bytes::copy_from_slice(contact.uri()),
                next_hop: first.or(some(Field::Received)).map(Bytes::copy_from_slice),
                headers: headers.into(),
                socket: contact.socket,
                ..Request::default()
            })
        })
    }
}

impl Outlet for SipUser {
    fn room(&self) -> usize {
        let there = self.kernel.upgrade().is_some_and(|k| self.towards(&k).is_some());
        if there { AT_ONCE } else { 0 }
    }

    fn send(&self, centre: &Arc<Centre>, message: &Message) -> bool {
        let Some(kernel) = self.kernel.upgrade() else { return false };
        let Some(mut made) = self.towards(&kernel) else { return false };
        let domain = self.aor.split_once('@').map_or("localhost", |(_, d)| d);
        let uri = |user: &[u8]| {
            let mut uri = b"<sip:".to_vec();
            escape_user(user, &mut uri);
            uri.push(b'@');
            uri.extend_from_slice(domain.as_bytes());
            uri.push(b'>');
            Bytes::from(uri)
        };
        made.from = uri(&message.source.addr);
        made.to = uri(&message.destination.addr);
        let kind = Bytes::from_static(b"text/plain;charset=utf-8");
        made.body = Some((kind, text(&message.content).into()));
        let (centre, id) = (centre.clone(), message.id);
        let worker = (id % kernel.workers.max(1) as u64) as usize;
        kernel.on_worker(worker, move |shard| {
            let told = Cell::new(false);
            let done = move |code: u16| {
                if told.replace(true) {
                    return;
                }
                let outcome = match Verdict::of_reply(code) {
                    Verdict::Taken => Outcome::Delivered,
                    Verdict::Later => Outcome::Temporary(Status::RX_T_APPN),
                    Verdict::Never | Verdict::Status(_) => Outcome::Permanent(Status::RX_R_APPN),
                };
                centre.outcome(id, outcome);
            };
            request(shard, made, Rc::new(move |_, code, _| done(code)));
        })
    }
}

/// Hears who registers, so that what waits for them leaves at once.
pub struct Registrations(pub Weak<Centre>);

impl Subscriber for Registrations {
    fn event(&self, event: &Arc<Event>, _: Option<usize>) {
        let Some(centre) = self.0.upgrade() else { return };
        let aor = event.attrs.iter().find(|(n, _)| &**n == "aor").and_then(|(_, v)| v.to_bytes());
        let Some(aor) = aor else { return };
        centre.dispatch(&format!("sip:{}", String::from_utf8_lossy(&aor)).into());
    }

    fn describe(&self) -> String {
        "smsc:".into()
    }
}
