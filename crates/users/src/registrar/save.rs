//! `save()`: a REGISTER changes the bindings of its address of record, or asks for them (RFC 3261 §10.3).

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use switchroom_calls::tm::api as tm;
use switchroom_kernel::Kernel;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE, wait};
use switchroom_kernel::ports::net::SocketId;
use switchroom_kernel::ports::store::StoreError;
use switchroom_script::Value;
use switchroom_script::vm::VarAccess;
use switchroom_wire::sip::{HeaderId, Message, NameAddr, Uri, scan, uri_eq};

use super::answer::{Refusal, Shown, accept, print_contacts, refuse};
use super::flags::{PathMode, SaveFlags};
use super::pn::{self, Kind, NotSupported, Push};
use super::{Registrar, aor};
use crate::usrloc::api::Changed;
use crate::usrloc::contact::{Contact, Field, PUSH, Texts};
use crate::usrloc::table::{Contacts, Table, order};
use crate::usrloc::{Location, api, shared};

/// One Contact of the REGISTER.
struct Wanted {
    uri: Bytes,
    expires: u64,
    q: i16,
    instance: Bytes,
    /// What it is to push.
    push: Kind,
}

/// What the REGISTER asks for.
enum Request {
    /// No Contact: show the bindings.
    Fetch,
    /// `Contact: *` with `Expires: 0`.
    RemoveAll,
    /// Add, refresh and remove.
    Update(Vec<Wanted>),
}

/// What is common to all contacts of one REGISTER.
struct Common {
    call_id: Bytes,
    cseq: u32,
    user_agent: Bytes,
    received: Bytes,
    path: Bytes,
    attr: Bytes,
    methods: u32,
}

/// `save("location"[, flags[, aor[, owner]]])`
pub(super) fn save(c: &mut Call<'_>) -> Flow {
    let mut flags = SaveFlags::parse(&c.text(1));
    // In a reply route the REGISTER has its answer: the reply that is on its way.
    flags.no_reply |= !c.ctx.msg.is_request();
    let table = c.text(0);
    let own_aor = c.str(2).cloned();
    let ctx = &mut *c.ctx;
    let job = match Job::new(ctx, &flags, own_aor) {
        Ok(job) => job,
        Err(refusal) => return refused(ctx, &flags, &refusal),
    };
    let table = api::table(ctx.shard.kernel.state::<Location>(), &table);
    let key = job.key.clone();
    if matches!(job.request, Request::Fetch) {
        return shared::read(
            ctx,
            &table,
            &key,
            move |list| job.show(list),
            move |ctx, list| match list {
                Ok(list) => {
                    accept(ctx, &flags, &list);
                    TRUE
                }
                Err(e) => broken(ctx, &flags, &e),
            },
        );
    }
    let place = table.clone();
    let work = move |contacts: &mut Contacts| job.apply(contacts);
    shared::change(ctx, &table, &key.clone(), work, move |ctx, changed| match changed {
        Ok(changed) => saved(ctx, flags, &place, &key, changed),
        Err(e) => broken(ctx, &flags, &e),
    })
}

/// The bindings have changed, or not.
fn saved(
    ctx: &mut Ctx,
    flags: SaveFlags,
    table: &Arc<Table>,
    key: &[u8],
    changed: Changed<Result<Saved, Refusal>>,
) -> Flow {
    let shard = ctx.shard.clone();
    let location = shard.kernel.state::<Location>();
    let saved = match changed.value {
        Ok(saved) => saved,
        Err(refusal) => return refused(ctx, &flags, &refusal),
    };
    for (id, expires) in saved.devices {
        location.sleepers.note(id, table, key, expires);
    }
    if changed.queries.is_empty() || (flags.memory_only && !location.is_shared()) {
        accept(ctx, &flags, &saved.list);
        return TRUE;
    }
    // The 200 leaves when the database has it, so a crash loses nothing that was acknowledged.
    wait(api::write(&shard.kernel, changed.queries), move |ctx, written| match written {
        Ok(()) => {
            accept(ctx, &flags, &saved.list);
            TRUE
        }
        Err(e) => broken(ctx, &flags, &e),
    })
}

fn broken(ctx: &mut Ctx, flags: &SaveFlags, error: &StoreError) -> Flow {
    tracing::error!("a registration could not be read or written: {error}");
    refuse(ctx, flags, &Refusal::new(500, "The database did not take it"));
    FALSE
}

fn refused(ctx: &mut Ctx, flags: &SaveFlags, refusal: &Refusal) -> Flow {
    let shard = ctx.shard.clone();
    shard.count(shard.kernel.state::<Registrar>().rejected, 1);
    refuse(ctx, flags, refusal);
    FALSE
}

/// A REGISTER, read and ready to change bindings.
struct Job {
    kernel: Arc<Kernel>,
    msg: Rc<Message>,
    /// Address of record.
    key: Vec<u8>,
    request: Request,
    common: Common,
    upstream: Vec<String>,
    socket: SocketId,
    cflags: u32,
    now: u64,
    max: usize,
    force: bool,
    only_request_contacts: bool,
    mode: i64,
    /// A device is known by its push parameters alone.
    by_device: bool,
}

/// What came of it.
#[derive(Default)]
struct Saved {
    /// Headers of the answer.
    list: Vec<u8>,
    /// Push contacts: key and expiry.
    devices: Vec<(u64, u64)>,
}

impl Job {
    fn new(ctx: &mut Ctx, flags: &SaveFlags, own_aor: Option<Bytes>) -> Result<Job, Refusal> {
        let shard = ctx.shard.clone();
        let kernel = &shard.kernel;
        let registrar = kernel.state::<Registrar>();
        let location = kernel.state::<Location>();
        let msg = ctx.request().cloned().ok_or_else(|| Refusal::new(500, "There is no request"))?;
        let key = match own_aor {
            Some(uri) => aor(ctx, &uri),
            None => match msg.to() {
                Ok(to) => aor(ctx, to.uri),
                Err(_) => Err("To cannot be read"),
            },
        };
        let key = key.map_err(|e| {
            tracing::info!("REGISTER refused: {e}");
            Refusal::new(400, "The address of record cannot be read")
        })?;
        let upstream = if registrar.push.is_some() { pn::announced(&msg) } else { Vec::new() };
        let mut request = read_contacts(&msg, registrar, flags, &upstream)?;
        if let Request::Update(list) = &mut request {
            take_granted(ctx, registrar, list);
            keep_connection(ctx, registrar, list);
        }
        let common = read_common(ctx, &msg, flags)?;
        let came_in = tm::request_received(ctx).socket;
        let socket = match flags.socket_header {
            true => super::query::socket_from_header(ctx).unwrap_or(came_in),
            false => came_in,
        };
        Ok(Job {
            key,
            request,
            common,
            upstream,
            socket,
            cflags: ctx.target.flags,
            now: kernel.unix(),
            max: flags.max_contacts.unwrap_or(registrar.max_contacts),
            force: flags.force,
            only_request_contacts: flags.only_request_contacts,
            mode: flags.matching_mode.unwrap_or(location.matching_mode),
            // Unless the script says how to match.
            by_device: flags.matching_mode.is_none(),
            kernel: kernel.clone(),
            msg,
        })
    }

    /// Contact headers for these bindings.
    fn show(&self, contacts: &[Contact]) -> Vec<u8> {
        let registrar = self.kernel.state::<Registrar>();
        let gruu = registrar.gruu.as_ref().filter(|_| supports(&self.msg, b"gruu"));
        let to = self.msg.to().map(|t| t.uri).unwrap_or_default();
        let address = if gruu.is_some() { gruu_address(to) } else { Vec::new() };
        let shown = Shown { received_param: &registrar.received_param, aor: &address, gruu };
        print_contacts(contacts, self.now, &shown)
    }

    /// Change the bindings.
    fn apply(&self, contacts: &mut Contacts) -> Result<Saved, Refusal> {
        let registrar = self.kernel.state::<Registrar>();
        let location = self.kernel.state::<Location>();
        let by_device = registrar.push.as_ref().filter(|_| self.by_device);
        let (common, now) = (&self.common, self.now);
        let mut saved = Saved::default();
        let mut announcement = Vec::new();
        match &self.request {
            Request::Fetch => {}
            Request::RemoveAll => {
                check_order(contacts.iter(), common, now, location, registrar)?;
                contacts.clear();
            }
            Request::Update(list) => {
                for wanted in list {
                    let found = position(contacts, wanted, common, self.mode, by_device);
                    if let Some(at) = found
                        && !check_order(std::iter::once(&contacts[at]), common, now, location, registrar)?
                    {
                        continue;
                    }
                    let at = match (found, wanted.expires) {
                        (Some(at), 0) => {
                            contacts.remove(at);
                            continue;
                        }
                        (None, 0) => continue,
                        (Some(at), _) => {
                            contacts[at].set_texts(&texts(wanted, common));
                            at
                        }
                        (None, _) => {
                            let live = contacts.iter().filter(|c| c.is_live(now)).count();
                            if self.max > 0 && live >= self.max {
                                if !self.force {
                                    return Err(Refusal::new(503, "Too many registered contacts"));
                                }
                                remove_oldest(contacts);
                            }
                            let mut c = Contact::new(&texts(wanted, common));
                            c.id = api::new_id(location);
                            contacts.push(c);
                            contacts.len() - 1
                        }
                    };
                    let c = &mut contacts[at];
                    fill(c, wanted, common, now, wanted.expires);
                    c.socket = Some(self.socket);
                    c.cflags = self.cflags;
                    c.touch();
                    if c.flags & PUSH != 0 {
                        saved.devices.push((c.id, c.expires));
                    }
                    announce(registrar, &mut announcement, wanted, c.id, &self.upstream);
                }
            }
        }
        order(contacts, location.newest_first);
        saved.list = match (self.only_request_contacts, &self.request) {
            (true, Request::Update(list)) => {
                let mine = contacts.iter().filter(|c| list.iter().any(|w| w.uri[..] == *c.uri()));
                self.show(&mine.cloned().collect::<Contacts>())
            }
            (true, _) => Vec::new(),
            (false, _) => self.show(contacts),
        };
        saved.list.extend_from_slice(&announcement);
        Ok(saved)
    }
}

fn announce(registrar: &Registrar, out: &mut Vec<u8>, wanted: &Wanted, id: u64, upstream: &[String]) {
    if let Some(push) = &registrar.push {
        push.announce(&wanted.push, id, upstream, out);
    }
}

/// Call-ID and CSeq of a binding: a request that is older than what we have is refused; `Ok(false)` is a retransmission
/// that changes nothing.
fn check_order<'a>(
    contacts: impl Iterator<Item = &'a Contact>,
    common: &Common,
    now: u64,
    location: &Location,
    registrar: &Registrar,
) -> Result<bool, Refusal> {
    for c in contacts {
        if c.text(Field::CallId) != &common.call_id[..] {
            continue;
        }
        if common.cseq < c.cseq {
            return Err(Refusal::new(400, "Invalid CSeq number"));
        }
        if common.cseq == c.cseq {
            if now < c.modified + location.cseq_delay && c.modified != now {
                return Ok(false);
            }
            if !registrar.allow_dup_cseq {
                return Err(Refusal::new(400, "Invalid CSeq number"));
            }
        }
    }
    Ok(true)
}

fn position(
    contacts: &Contacts,
    wanted: &Wanted,
    common: &Common,
    mode: i64,
    by_device: Option<&Push>,
) -> Option<usize> {
    if let (Some(push), Some(key)) = (by_device, wanted.push.key()) {
        let parsed =
            |c: &Contact| Uri::parse(c.uri()).ok().map(|u| (u.param("pn-provider").is_some(), push.key(&u)));
        let same = |c: &Contact| parsed(c).and_then(|(_, k)| k).is_some_and(|k| k == key);
        // What the same phone left here when it only asked which services there are.
        let asked = |c: &Contact| {
            matches!(parsed(c), Some((true, None))) && push.strip(c.uri()) == push.strip(&wanted.uri)
        };
        let found = contacts.iter().position(same);
        return found.or_else(|| contacts.iter().position(asked));
    }
    let same_uri = |c: &Contact| {
        c.uri() == &wanted.uri[..]
            || match (Uri::parse(c.uri()), Uri::parse(&wanted.uri)) {
                (Ok(a), Ok(b)) => uri_eq(&a, &b),
                _ => false,
            }
    };
    contacts.iter().position(|c| same_uri(c) && (mode == 0 || c.text(Field::CallId) == &common.call_id[..]))
}

fn remove_oldest(contacts: &mut Contacts) {
    if let Some(at) = (0..contacts.len()).min_by_key(|i| contacts[*i].modified) {
        contacts.remove(at);
    }
}

fn texts<'a>(wanted: &'a Wanted, common: &'a Common) -> Texts<'a> {
    Texts {
        uri: &wanted.uri,
        received: &common.received,
        path: &common.path,
        user_agent: &common.user_agent,
        call_id: &common.call_id,
        instance: &wanted.instance,
        attr: &common.attr,
    }
}

fn fill(c: &mut Contact, wanted: &Wanted, common: &Common, now: u64, expires: u64) {
    c.expires = now + expires;
    c.modified = now;
    c.cseq = common.cseq;
    c.methods = common.methods;
    c.q = wanted.q;
    // Whoever registers is there, whatever became of pings.
    c.unanswered = 0;
    c.flags = match wanted.push {
        Kind::Device(_) => c.flags | PUSH,
        _ => c.flags & !PUSH,
    };
}

// Reading the request -------------------------------------------------------------------------------------------------

fn read_contacts(
    msg: &Message,
    r: &Registrar,
    flags: &SaveFlags,
    upstream: &[String],
) -> Result<Request, Refusal> {
    let default = match msg.header(HeaderId::Expires) {
        Some(_) => msg.expires().map_or(r.default_expires, u64::from),
        None => r.default_expires,
    };
    let mut list = Vec::new();
    let mut star = false;
    for contact in msg.contacts() {
        let Ok(n) = contact else { return Err(Refusal::new(400, "A Contact cannot be read")) };
        if n.is_star() {
            star = true;
            continue;
        }
        list.push(read_contact(msg, &n, default, r, flags, upstream)?);
        if list.len() > 64 {
            return Err(Refusal::new(400, "Too many Contacts"));
        }
    }
    match (star, list.is_empty()) {
        (true, true) if default == 0 && msg.header(HeaderId::Expires).is_some() => Ok(Request::RemoveAll),
        (true, _) => Err(Refusal::new(400, "Contact * needs Expires 0 and no other Contact")),
        (false, true) => Ok(Request::Fetch),
        (false, false) => Ok(Request::Update(list)),
    }
}

fn read_contact(
    msg: &Message,
    n: &NameAddr<'_>,
    default: u64,
    r: &Registrar,
    flags: &SaveFlags,
    upstream: &[String],
) -> Result<Wanted, Refusal> {
    if n.uri.len() > r.max_contact_len {
        return Err(Refusal::new(400, "A Contact URI is too long"));
    }
    if Uri::parse(n.uri).is_err() {
        return Err(Refusal::new(400, "A Contact URI cannot be read"));
    }
    let expires = match n.param("expires") {
        Some(_) => n.expires().map_or(r.default_expires, u64::from),
        None => default,
    };
    let min = flags.min_expires.unwrap_or(r.min_expires);
    let max = flags.max_expires.unwrap_or(r.max_expires);
    let expires = match expires {
        0 => 0,
        e if e < min => min,
        e if max > 0 && e > max => max,
        e => e,
    };
    // Spread by a value that stays the same for one contact, so that a phone sees no jumps.
    let spread = match r.max_deviation {
        0 => 0,
        d => n.uri.iter().fold(7u64, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(*b))) % (d + 1),
    };
    let push = match &r.push {
        Some(p) => p
            .kind(n.uri, upstream)
            .map_err(|NotSupported| Refusal::new(555, "The push service is not known here"))?,
        None => Kind::Plain,
    };
    Ok(Wanted {
        push,
        uri: msg.slice(n.uri),
        expires: if expires > spread { expires - spread } else { expires },
        q: match n.param("q") {
            Some(_) => n.q().map_or(r.default_q, |q| q as i16),
            None => r.default_q,
        },
        instance: msg.slice(n.param("+sip.instance").unwrap_or_default()),
    })
}

fn read_common(ctx: &mut Ctx, msg: &Message, flags: &SaveFlags) -> Result<Common, Refusal> {
    let shard = ctx.shard.clone();
    let r = shard.kernel.state::<Registrar>();
    let cseq = msg.cseq().map_err(|_| Refusal::new(400, "CSeq cannot be read"))?;
    let value = |id| msg.header(id).map(|h| msg.slice(h.value)).unwrap_or_default();
    let path = read_path(msg, flags)?;
    let mut received = text_of(ctx, r.received_avp.as_ref());
    if received.is_empty() && flags.path_received {
        received = path_received(&path);
    }
    Ok(Common {
        call_id: msg.slice(msg.call_id()),
        cseq: cseq.0,
        user_agent: value(HeaderId::UserAgent),
        received,
        path,
        attr: text_of(ctx, r.attr_avp.as_ref()),
        methods: allowed_methods(msg),
    })
}

fn text_of(ctx: &mut Ctx, var: Option<&VarAccess>) -> Bytes {
    match var.map(|v| ctx.get_var(v)) {
        Some(Value::Str(s)) => s,
        Some(Value::Int(i)) => i.to_string().into(),
        _ => Bytes::new(),
    }
}

fn read_path(msg: &Message, flags: &SaveFlags) -> Result<Bytes, Refusal> {
    if flags.path == PathMode::Ignore || msg.header(HeaderId::Path).is_none() {
        return Ok(Bytes::new());
    }
    if flags.path == PathMode::Strict && !supports(msg, b"path") {
        let mut headers = b"Unsupported: path\r\n".to_vec();
        for h in msg.headers_of(HeaderId::Path) {
            headers.extend_from_slice(h.line);
        }
        return Err(Refusal(420, "Path without support for it", headers));
    }
    let mut out = Vec::new();
    for h in msg.headers_of(HeaderId::Path) {
        if !out.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(&h.unfolded());
    }
    Ok(out.into())
}

/// `user@domain` of a URI.
fn gruu_address(uri: &[u8]) -> Vec<u8> {
    let Ok(uri) = Uri::parse(uri) else { return Vec::new() };
    match uri.user {
        Some(user) => [user, b"@", uri.host].concat(),
        None => uri.host.to_vec(),
    }
}

/// Whether Supported lists this option.
pub(super) fn supports(msg: &Message, option: &[u8]) -> bool {
    let mut options = msg.headers_of(HeaderId::Supported).flat_map(|h| scan::commas(h.value));
    options.any(|o| o.eq_ignore_ascii_case(option))
}

/// `received` of the topmost Path URI, as a SIP URI.
fn path_received(path: &Bytes) -> Bytes {
    let first = scan::commas(path).next().and_then(|p| NameAddr::parse(p).ok());
    let uri = first.and_then(|n| Uri::parse(n.uri).ok());
    let value = uri.and_then(|u| u.param("received")).unwrap_or_default();
    Bytes::from(scan::percent_decode(value).into_owned())
}

/// Bits of the methods in Allow; all when the phone does not say.
pub(super) fn allowed_methods(msg: &Message) -> u32 {
    let mut mask = 0;
    let mut said = false;
    for h in msg.headers_of(HeaderId::Allow) {
        said = true;
        for m in scan::commas(h.value) {
            mask |= method_bit(m);
        }
    }
    if said { mask } else { u32::MAX }
}

/// Bit of a method in the `methods` column.
pub(super) fn method_bit(name: &[u8]) -> u32 {
    const METHODS: [&str; 14] = [
        "INVITE",
        "CANCEL",
        "ACK",
        "BYE",
        "INFO",
        "REGISTER",
        "SUBSCRIBE",
        "NOTIFY",
        "MESSAGE",
        "OPTIONS",
        "PRACK",
        "UPDATE",
        "REFER",
        "PUBLISH",
    ];
    let known = METHODS.iter().position(|m| m.as_bytes() == name);
    known.map_or(1 << 31, |bit| 1 << bit)
}

/// In a reply route the registrar behind us has the last word: a contact holds as long as the reply says. `mcontact_avp`
/// names the Contact that left here when the script changed it.
fn take_granted(ctx: &mut Ctx, registrar: &Registrar, list: &mut [Wanted]) {
    if ctx.msg.is_request() {
        return;
    }
    let reply = ctx.msg.clone();
    let left_as = text_of(ctx, registrar.mcontact_avp.as_ref());
    for wanted in list.iter_mut() {
        let name: &[u8] = if left_as.is_empty() { &wanted.uri } else { &left_as };
        let own = Uri::parse(name).ok();
        let granted = reply.contacts().flatten().find(|c| {
            c.uri == name
                || own.as_ref().is_some_and(|own| Uri::parse(c.uri).is_ok_and(|other| uri_eq(own, &other)))
        });
        if let Some(contact) = granted
            && let Some(expires) = contact.expires().or_else(|| reply.expires())
        {
            wanted.expires = u64::from(expires);
        }
    }
}

/// With `tcp_persistent_flag` the connection a phone registered over stays as long as its binding.
fn keep_connection(ctx: &Ctx, registrar: &Registrar, list: &[Wanted]) {
    /// For the refresh that comes in the last moment.
    const SPARE: u64 = 10;
    if ctx.flags & registrar.tcp_flag == 0 {
        return;
    }
    if let (Some(conn), Some(longest)) =
        (tm::request_received(ctx).conn, list.iter().map(|w| w.expires).max())
    {
        ctx.shard.net.keep(conn, std::time::Duration::from_secs(longest.min(30 * 86_400) + SPARE));
    }
}
