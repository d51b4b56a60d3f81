//! SIP users as destinations: a MESSAGE (RFC 3428) to where they are registered; while they are not, messages wait. A phone that
//! sleeps is woken by push (RFC 8599), and gets them when it has registered.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use switchroom_calls::core::send::first_path_uri;
use switchroom_calls::tm::api::{Request, request};
use switchroom_kernel::events::{Event, Subscriber};
use switchroom_kernel::{Kernel, Shard};
use switchroom_users::registrar::api::reachable;
use switchroom_users::usrloc::contact::{Contact, Field, PUSH};
use switchroom_users::usrloc::table::Table;
use switchroom_users::usrloc::{Location, api, shared};
use switchroom_wire::smpp::{MessageState, Status, Tlvs, tag};

use super::centre::{Centre, Outcome, Outlet};
use super::message::{Addr, Message, Nature};
use crate::imdn;
use crate::proto_smpp::api::{Verdict, escape_user};

/// Messages to one user under way at a time: the next leaves when the one before has its answer, so they keep their order.
const AT_ONCE: usize = 1;

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
        table.read(key, |record| to_first(kernel, &record?.contacts))
    }

    /// What is said, by whom and to whom; and the plain body, where the phone is asked for more than that.
    fn about(&self, centre: &Centre, message: &Message) -> Letter {
        let domain = self.aor.split_once('@').map_or("localhost", |(_, d)| d);
        let uri = |user: &Addr| {
            let mut uri = b"sip:".to_vec();
            escape_user(user.text().as_bytes(), &mut uri);
            uri.push(b'@');
            uri.extend_from_slice(domain.as_bytes());
            String::from_utf8_lossy(&uri).into_owned()
        };
        let from = uri(&message.source);
        let to = match &message.asked {
            Some(asked) if message.nature == Nature::Receipt => asked.user.to_string(),
            _ => uri(&message.destination),
        };
        let name = format!("sms-{}", message.id);
        let moment = imdn::moment(centre.now());
        let cpim = |text: String| (Bytes::from_static(imdn::CPIM.as_bytes()), Bytes::from(text));
        let (body, plain) = match (&message.asked, message.nature) {
            (Some(asked), Nature::Receipt) => {
                let tlvs = Tlvs::read(&message.content.tlvs, false).unwrap_or_default();
                let state = tlvs.number(tag::MESSAGE_STATE).unwrap_or(0);
                let delivered = [MessageState::Delivered, MessageState::Accepted].map(|s| s as u32);
                let told = imdn::Notification {
                    message_id: asked.message_id.to_string(),
                    delivered: delivered.contains(&state),
                };
                let sent = if asked.moment.is_empty() { &moment } else { &*asked.moment };
                (cpim(imdn::notify(&asked.recipient, &asked.user, sent, &name, &told)), None)
            }
            _ => {
                let text = centre.whole_text(message);
                let plain = (Bytes::from_static(b"text/plain;charset=utf-8"), Bytes::from(text.clone()));
                let asks = centre.settings.imdn && message.content.registered_delivery & 0x03 != 0;
                if asks && message.nature == Nature::Message {
                    (cpim(imdn::wrap(&from, &to, &moment, &name, &text)), Some(plain))
                } else {
                    (plain, None)
                }
            }
        };
        Letter { from: format!("<{from}>").into(), to: format!("<{to}>").into(), body, plain, name }
    }
}

/// What is sent to a phone.
struct Letter {
    from: Bytes,
    to: Bytes,
    body: (Bytes, Bytes),
    plain: Option<(Bytes, Bytes)>,
    /// Its name in notifications.
    name: String,
}

fn to_first(kernel: &Kernel, contacts: &[Contact]) -> Option<Request> {
    let now = kernel.unix();
    let live = contacts.iter().filter(|c| c.is_live(now));
    let (contact, uri) = live.filter_map(|c| Some((c, reachable(kernel, c)?))).next()?;
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
        ruri: uri.into(),
        next_hop: first.or(some(Field::Received)).map(Bytes::copy_from_slice),
        headers: headers.into(),
        socket: contact.socket,
        ..Request::default()
    })
}

fn wake_all(kernel: &Kernel, table: &Table, key: &[u8], contacts: &[Contact]) {
    let now = kernel.unix();
    for contact in contacts.iter().filter(|c| c.flags & PUSH != 0 && c.is_live(now)) {
        api::ask_refresh(kernel, None, table, key, contact, "ini-MESSAGE", b"");
    }
}

impl Outlet for SipUser {
    fn room(&self) -> usize {
        let Some(kernel) = self.kernel.upgrade() else { return 0 };
        // Where only the database knows who is there, sending finds out.
        let asks = kernel.find::<Location>().is_some_and(Location::is_shared);
        if asks || self.towards(&kernel).is_some() { AT_ONCE } else { 0 }
    }

    fn wake(&self) {
        let Some(kernel) = self.kernel.upgrade() else { return };
        let Some((table, key)) = self.place(&kernel) else { return };
        let contacts = table.read(key, |r| r.map_or_else(Vec::new, |r| r.contacts.to_vec()));
        wake_all(&kernel, &table, key, &contacts);
    }

    fn send(&self, centre: &Arc<Centre>, message: &Message) -> bool {
        let Some(kernel) = self.kernel.upgrade() else { return false };
        let letter = self.about(centre, message);
        let (centre, id) = (centre.clone(), message.id);
        // Everything to one user by one worker, so that it leaves in its order.
        let worker = self.aor.bytes().fold(7usize, |n, b| n.wrapping_mul(31).wrapping_add(usize::from(b)));
        let worker = worker % kernel.workers.max(1);
        if !kernel.find::<Location>().is_some_and(Location::is_shared) {
            return self.towards(&kernel).is_some_and(|way| leave(&kernel, worker, centre, id, way, letter));
        }
        let Some((table, key)) = self.place(&kernel) else { return false };
        let (house, key) = (kernel.clone(), key.to_vec());
        kernel.drivers.spawn.spawn(Box::pin(async move {
            let found = shared::contacts(&house, &table, &key).await.ok();
            let way = found.as_ref().and_then(|list| to_first(&house, list));
            if let (Some(list), None) = (&found, &way) {
                wake_all(&house, &table, &key, list);
            }
            let sent = way.is_some_and(|way| leave(&house, worker, centre.clone(), id, way, letter));
            if !sent {
                centre.outcome(id, Outcome::Temporary(Status::RX_T_APPN));
            }
        }));
        true
    }
}

/// Let a worker send it; what comes back is the message's outcome.
fn leave(
    kernel: &Arc<Kernel>,
    worker: usize,
    centre: Arc<Centre>,
    id: u64,
    way: Request,
    letter: Letter,
) -> bool {
    let Letter { from, to, body, plain, name } = letter;
    let made = Request { from, to, body: Some(body), ..way };
    kernel.on_worker(worker, move |shard| {
        let done = move |code: u16, asked: bool| {
            let outcome = match Verdict::of_reply(code) {
                Verdict::Taken if asked => Outcome::Taken(name.clone()),
                Verdict::Taken => Outcome::Delivered,
                Verdict::Later => Outcome::Temporary(Status::RX_T_APPN),
                Verdict::Never | Verdict::Status(_) => Outcome::Permanent(Status::RX_R_APPN),
            };
            centre.outcome(id, outcome);
        };
        ask(shard, made, plain, Rc::new(done));
    })
}

/// Sends it; where the phone does not know the wrapper, the plain body. `done` hears the final code, and whether the
/// recipient was asked to say more.
fn ask(shard: &Rc<Shard>, made: Request, plain: Option<(Bytes, Bytes)>, done: Rc<dyn Fn(u16, bool)>) {
    let told = Cell::new(false);
    let again = plain.map(|body| Request { body: Some(body), ..made.clone() });
    let on_final = move |shard: &Rc<Shard>, code: u16| {
        if told.replace(true) {
            return;
        }
        match &again {
            Some(again) if matches!(code, 406 | 415 | 488) => ask(shard, again.clone(), None, done.clone()),
            again => done(code, again.is_some()),
        }
    };
    request(shard, made, Rc::new(move |shard, code, _| on_final(shard, code)));
}

/// Hears who registers, so that what waits for them leaves at once.
pub struct Registrations {
    /// Where messages wait.
    pub centre: Weak<Centre>,
    /// Knows whether other servers share the location.
    pub kernel: Weak<Kernel>,
    /// Looks at a shared location that are under way.
    pub looks: Arc<AtomicUsize>,
}

/// So many looks at a time; who is not looked for is found by the round among all.
const LOOKS: usize = 1000;

/// Where servers share the location an event comes before the row is durable: a look at the table may need some patience.
const PATIENCE: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
];

impl Subscriber for Registrations {
    fn event(&self, event: &Arc<Event>, _: Option<usize>) {
        let (Some(centre), Some(kernel)) = (self.centre.upgrade(), self.kernel.upgrade()) else { return };
        let aor = event.attrs.iter().find(|(n, _)| &**n == "aor").and_then(|(_, v)| v.to_bytes());
        let Some(aor) = aor else { return };
        // Without `use_domain` it is the user alone, whatever his domain.
        let targets = centre.waiting_for(&String::from_utf8_lossy(&aor));
        if targets.is_empty() {
            return;
        }
        if !kernel.find::<Location>().is_some_and(Location::is_shared) {
            return targets.iter().for_each(|target| centre.arrived(target));
        }
        let looks = self.looks.clone();
        if looks.fetch_add(1, Relaxed) >= LOOKS {
            looks.fetch_sub(1, Relaxed);
            return;
        }
        let house = kernel.clone();
        kernel.drivers.spawn.spawn(Box::pin(async move {
            for target in targets {
                if is_there(&house, target.trim_start_matches("sip:")).await {
                    centre.arrived(&target);
                }
            }
            looks.fetch_sub(1, Relaxed);
        }));
    }

    fn describe(&self) -> String {
        "smsc:".into()
    }
}

/// Whether the shared location has a contact of this user, now or soon.
async fn is_there(kernel: &Arc<Kernel>, aor: &str) -> bool {
    let user = SipUser::new(kernel, aor);
    let Some((table, key)) = user.place(kernel) else { return false };
    for pause in PATIENCE {
        kernel.drivers.clock.sleep(pause).await;
        let found = shared::contacts(kernel, &table, key).await;
        if found.is_ok_and(|list| to_first(kernel, &list).is_some()) {
            return true;
        }
    }
    false
}
