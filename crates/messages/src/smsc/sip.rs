//! SIP users as destinations: a MESSAGE (RFC 3428) to where they are registered; while they are not, messages wait.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use switchroom_calls::core::send::first_path_uri;
use switchroom_calls::tm::api::{Request, request};
use switchroom_kernel::Kernel;
use switchroom_kernel::events::{Event, Subscriber};
use switchroom_users::usrloc::contact::{Contact, Field};
use switchroom_users::usrloc::table::Table;
use switchroom_users::usrloc::{Location, api, shared};
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

    /// Where the user is registered, and under which key.
    fn place<'a>(&'a self, kernel: &Kernel) -> Option<(Arc<Table>, &'a [u8])> {
        let location = kernel.find::<Location>()?;
        let table = api::find(location, "location")?;
        let key = if location.use_domain { &*self.aor } else { self.aor.split('@').next()? };
        Some((table, key.as_bytes()))
    }

    /// The request without its body, towards the contact that is preferred.
    fn towards(&self, kernel: &Kernel) -> Option<Request> {
        let (table, key) = self.place(kernel)?;
        let now = kernel.unix();
        table.read(key, |record| to_first(&record?.contacts, now))
    }
}

fn to_first(contacts: &[Contact], now: u64) -> Option<Request> {
    let contact = contacts.iter().find(|c| c.is_live(now))?;
    let some = |field| Some(contact.text(field)).filter(|t| !t.is_empty());
    let path = some(Field::Path);
    let mut headers = Vec::new();
    if let Some(path) = path {
        headers.extend_from_slice(b"Route: ");
        headers.extend_from_slice(path);
        headers.extend_from_slice(b"\r\n");
    }
    let first = path.and_then(first_path_uri);
    Some(Request {
        method: Bytes::from_static(b"MESSAGE"),
        ruri: Bytes::copy_from_slice(contact.uri()),
        next_hop: first.or(some(Field::Received)).map(Bytes::copy_from_slice),
        headers: headers.into(),
        socket: contact.socket,
        ..Request::default()
    })
}

impl Outlet for SipUser {
    fn room(&self) -> usize {
        let Some(kernel) = self.kernel.upgrade() else { return 0 };
        // Where only the database knows who is there, sending finds out.
        let asks = kernel.find::<Location>().is_some_and(Location::is_shared);
        if asks || self.towards(&kernel).is_some() { AT_ONCE } else { 0 }
    }

    fn send(&self, centre: &Arc<Centre>, message: &Message) -> bool {
        let Some(kernel) = self.kernel.upgrade() else { return false };
        let domain = self.aor.split_once('@').map_or("localhost", |(_, d)| d);
        let uri = |user: &[u8]| {
            let mut uri = b"<sip:".to_vec();
            escape_user(user, &mut uri);
            uri.push(b'@');
            uri.extend_from_slice(domain.as_bytes());
            uri.push(b'>');
            Bytes::from(uri)
        };
        let kind = Bytes::from_static(b"text/plain;charset=utf-8");
        let about = Request {
            from: uri(&message.source.addr),
            to: uri(&message.destination.addr),
            body: Some((kind, text(&message.content).into())),
            ..Request::default()
        };
        let made = move |way: Request| Request { from: about.from, to: about.to, body: about.body, ..way };
        let (centre, id) = (centre.clone(), message.id);
        if !kernel.find::<Location>().is_some_and(Location::is_shared) {
            return self.towards(&kernel).is_some_and(|way| leave(&kernel, centre, id, made(way)));
        }
        let Some((table, key)) = self.place(&kernel) else { return false };
        let (house, key) = (kernel.clone(), key.to_vec());
        kernel.drivers.spawn.spawn(Box::pin(async move {
            let found = shared::contacts(&house, &table, &key).await;
            let way = found.ok().and_then(|list| to_first(&list, house.unix()));
            let sent = way.is_some_and(|way| leave(&house, centre.clone(), id, made(way)));
            if !sent {
                centre.outcome(id, Outcome::Temporary(Status::RX_T_APPN));
            }
        }));
        true
    }
}

/// Let a worker send it; what comes back is the message's outcome.
fn leave(kernel: &Arc<Kernel>, centre: Arc<Centre>, id: u64, made: Request) -> bool {
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
