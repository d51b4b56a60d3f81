//! SIP users as destinations: a MESSAGE (RFC 3428) to where they are registered; while they are not, messages wait. A phone that
//! sleeps is woken by push (RFC 8599), and gets them when it has registered.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use switchroom_calls::tm::api::{Request, request};
use switchroom_kernel::events::{Event, Subscriber};
use switchroom_kernel::{Kernel, Shard};
use switchroom_users::registrar::api::reachable;
use switchroom_users::usrloc::contact::{Contact, Field, PUSH};
use switchroom_users::usrloc::table::Table;
use switchroom_users::usrloc::{Location, api};
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

    fn table(&self, kernel: &Kernel) -> Option<(Arc<Table>, &str)> {
        let location = kernel.find::<Location>()?;
        let key = if location.use_domain { &self.aor } else { self.aor.split('@').next()? };
        Some((api::find(location, "location")?, key))
    }

    /// The request without its body, towards the contact that is preferred.
    fn towards(&self, kernel: &Kernel) -> Option<Request> {
        let (table, key) = self.table(kernel)?;
        let now = kernel.unix();
        table.read(key.as_bytes(), |record| {
            let live = record?.contacts.iter().filter(|c| c.is_live(now));
            let (contact, uri) = live.filter_map(|c| Some((c, reachable(kernel, c)?))).next()?;
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
                ruri: uri.into(),
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

    fn wake(&self) {
        let Some(kernel) = self.kernel.upgrade() else { return };
        let Some((table, key)) = self.table(&kernel) else { return };
        let now = kernel.unix();
        let sleeping: Vec<Contact> = table.read(key.as_bytes(), |record| {
            let contacts = record.map_or(&[][..], |r| &r.contacts[..]);
            contacts.iter().filter(|c| c.flags & PUSH != 0 && c.is_live(now)).cloned().collect()
        });
        for contact in sleeping {
            api::ask_refresh(&kernel, None, &table, key.as_bytes(), &contact, "ini-MESSAGE", b"");
        }
    }

    fn send(&self, centre: &Arc<Centre>, message: &Message) -> bool {
        let Some(kernel) = self.kernel.upgrade() else { return false };
        let Some(mut made) = self.towards(&kernel) else { return false };
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
        made.from = format!("<{from}>").into();
        made.to = format!("<{to}>").into();
        let name = format!("sms-{}", message.id);
        let moment = imdn::moment(centre.now());
        let cpim = |text: String| Some((Bytes::from_static(imdn::CPIM.as_bytes()), Bytes::from(text)));
        let mut plain = None;
        match (&message.asked, message.nature) {
            (Some(asked), Nature::Receipt) => {
                let tlvs = Tlvs::read(&message.content.tlvs, false).unwrap_or_default();
                let state = tlvs.number(tag::MESSAGE_STATE).unwrap_or(0);
                let delivered = [MessageState::Delivered, MessageState::Accepted].map(|s| s as u32);
                let told = imdn::Notification {
                    message_id: &asked.message_id,
                    delivered: delivered.contains(&state),
                };
                let sent = if asked.moment.is_empty() { &moment } else { &*asked.moment };
                made.body = cpim(imdn::notify(&asked.recipient, &asked.user, sent, &name, &told));
            }
            _ => {
                let text = centre.whole_text(message);
                let kind = Bytes::from_static(b"text/plain;charset=utf-8");
                made.body = Some((kind, text.clone().into()));
                let asks = centre.settings.imdn && message.content.registered_delivery & 0x03 != 0;
                if asks && message.nature == Nature::Message {
                    plain = made.body.take();
                    made.body = cpim(imdn::wrap(&from, &to, &moment, &name, &text));
                }
            }
        }
        let (centre, id) = (centre.clone(), message.id);
        // Everything to one user by one worker, so that it leaves in its order.
        let worker = self.aor.bytes().fold(7usize, |n, b| n.wrapping_mul(31).wrapping_add(usize::from(b)))
            % kernel.workers.max(1);
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
}

/// Sends it; where the phone does not know the wrapper, the plain body. `done` hears the final code, and whether the
/// recipient was asked to say more.
fn ask(shard: &Rc<Shard>, made: Request, plain: Option<(Bytes, Bytes)>, done: Rc<dyn Fn(u16, bool)>) {
    let told = Cell::new(false);
    let again = plain.clone().map(|body| Request { body: Some(body), ..made.clone() });
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
pub struct Registrations(pub Weak<Centre>);

impl Subscriber for Registrations {
    fn event(&self, event: &Arc<Event>, _: Option<usize>) {
        let Some(centre) = self.0.upgrade() else { return };
        let aor = event.attrs.iter().find(|(n, _)| &**n == "aor").and_then(|(_, v)| v.to_bytes());
        let Some(aor) = aor else { return };
        let target: Arc<str> = format!("sip:{}", String::from_utf8_lossy(&aor)).into();
        centre.reachable(&target);
        centre.dispatch(&target);
    }

    fn describe(&self) -> String {
        "smsc:".into()
    }
}
