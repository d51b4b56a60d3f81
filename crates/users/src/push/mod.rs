//! Wakes phones: sends the pushes that the registrar asks for, by APNs, FCM, Web Push or a webhook (RFC 8599).
//!
//! `service` is what all services have in common, `apns`, `fcm`, `webpush` and `webhook` are they, `keys` signs their
//! tokens, `queue` holds what is under way.

mod apns;
mod fcm;
mod keys;
mod queue;
mod service;
mod webhook;
mod webpush;

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use switchroom_calls::tm::api as tm;
use switchroom_kernel::Kernel;
use switchroom_kernel::context::{Call, Ctx, FALSE, Flow, TRUE};
use switchroom_kernel::events::{Event, Subscriber};
use switchroom_kernel::module::{Command, Function, Module, Param, Statistic};
use switchroom_kernel::open::Opening;
use switchroom_kernel::ports::http::ClientTls;

use queue::{Counters, Provider, Pushes};
use service::{Calls, Device, Job, Service, What};

use crate::registrar;
use crate::usrloc::contact::Contact;
use crate::usrloc::{Location, api, shared};

/// The module.
pub static MODULE: Module = Module {
    name: "push",
    summary: "Wakes phones by APNs, FCM, Web Push or a webhook",
    needs: &["usrloc", "registrar", "tm"],
    params: &[
        Param::str("apns_url", "https://api.push.apple.com", "Server of APNs"),
        Param::unset("apns_key_file", "Key for APNs, as Apple gives it out (.p8)"),
        Param::unset("apns_key_id", "Name of that key, 10 characters"),
        Param::unset("apns_team_id", "Whose it is, 10 characters"),
        Param::unset("apns_topic", "Topic for devices that name none, such as com.example.phone.voip"),
        Param::str("fcm_url", "https://fcm.googleapis.com", "Server of FCM"),
        Param::unset("fcm_account_file", "Service account for FCM, as Google gives it out (.json)"),
        Param::unset("fcm_token_url", "Where its tokens come from, if not where the file says"),
        Param::unset("webpush_key_file", "VAPID key for Web Push: P-256 in PKCS#8 (PEM)"),
        Param::unset("webpush_subject", "How services reach the operator: mailto: or https:"),
        Param::str(
            "webpush_hosts",
            "fcm.googleapis.com, push.services.mozilla.com, push.apple.com, notify.windows.com",
            "Hosts that Web Push goes to, with what is below them",
        ),
        Param::unset("webhook_url", "Web server that gets the pushes of all other services"),
        Param::unset("webhook_secret", "Secret of its signature (X-Signature, HMAC-SHA256 of the body)"),
        Param::unset("ca_file", "Further authorities for certificates: a PEM file or a folder"),
        Param::int("timeout", "5000", "Milliseconds for one call"),
        Param::int("ttl", "30", "Seconds for which a push makes sense"),
        Param::int("retries", "4", "How often a push is tried again"),
        Param::int("max_under_way", "10000", "Pushes under way at a time; more are refused"),
    ],
    functions: &[Function::new(
        "push_wake",
        &["str!,[str]"],
        "RFOBV",
        push_wake,
        "Wake the phones of an address of record",
    )],
    commands: &[Command {
        name: "push:status",
        old_names: &[],
        args: "",
        help: "What the push services did, and how fast",
        run: |call| Box::pin(async move { Ok(call.kernel.state::<Arc<Pushes>>().status(&call.kernel)) }),
    }],
    statistics: &[
        Statistic::counter("apns_sent", "Pushes that APNs took"),
        Statistic::counter("apns_failed", "Pushes that APNs did not take"),
        Statistic::counter("apns_answers", "Calls that APNs answered"),
        Statistic::counter("apns_ms", "Milliseconds of these calls"),
        Statistic::counter("fcm_sent", "Pushes that FCM took"),
        Statistic::counter("fcm_failed", "Pushes that FCM did not take"),
        Statistic::counter("fcm_answers", "Calls that FCM answered"),
        Statistic::counter("fcm_ms", "Milliseconds of these calls"),
        Statistic::counter("webpush_sent", "Pushes that Web Push services took"),
        Statistic::counter("webpush_failed", "Pushes that Web Push services did not take"),
        Statistic::counter("webpush_answers", "Calls that Web Push services answered"),
        Statistic::counter("webpush_ms", "Milliseconds of these calls"),
        Statistic::counter("webhook_sent", "Pushes that the webhook took"),
        Statistic::counter("webhook_failed", "Pushes that the webhook did not take"),
        Statistic::counter("webhook_answers", "Calls that the webhook answered"),
        Statistic::counter("webhook_ms", "Milliseconds of these calls"),
        Statistic::counter("retried", "Pushes tried again"),
        Statistic::counter("removed", "Bindings removed because their device does not exist any more"),
        Statistic::counter("coalesced", "Pushes left out because the device was being woken already"),
        Statistic::counter("refused", "Pushes refused: no such service, or too many under way"),
        Statistic::counter("dropped", "Pushes given up because they became useless"),
        Statistic::counter("cancels", "Pushes that took an earlier one back"),
    ],
    open,
    live: Some(live),
    ..Module::EMPTY
};

fn open(o: &mut Opening<'_>) -> Result<(), String> {
    let positive = |name: &str| match o.int(name) {
        n if n > 0 => Ok(n as u64),
        n => Err(format!("{name} is {n}; it must be positive")),
    };
    let ttl = positive("ttl")?;
    let tls = ClientTls { authorities: given(o, "ca_file").map(PathBuf::from), ..ClientTls::default() };
    let calls = Calls { timeout: Duration::from_millis(positive("timeout")?), ttl, tls: Arc::new(tls) };
    let mut providers = Vec::new();
    let mut fallback = None;
    if let Some(file) = given(o, "apns_key_file") {
        let service = apns::Apns {
            url: o.text("apns_url").trim_end_matches('/').to_owned(),
            key: keys::Key::es256(&read(&file)?).map_err(|e| format!("apns_key_file {file}: {e}"))?,
            key_id: needed(o, "apns_key_id", "apns_key_file")?,
            team_id: needed(o, "apns_team_id", "apns_key_file")?,
            topic: o.text("apns_topic"),
            token: Default::default(),
            calls: calls.clone(),
        };
        let stats = ["apns_sent", "apns_failed", "apns_answers", "apns_ms"];
        providers.push(provider(o, Arc::new(service), stats)?);
    }
    if let Some(file) = given(o, "fcm_account_file") {
        let account = fcm::Account::read(&read(&file)?, given(o, "fcm_token_url"));
        let account = account.map_err(|e| format!("fcm_account_file {file}: {e}"))?;
        let url = o.text("fcm_url").trim_end_matches('/').to_owned();
        let service = fcm::Fcm::new(url, account, calls.clone());
        providers.push(provider(o, Arc::new(service), ["fcm_sent", "fcm_failed", "fcm_answers", "fcm_ms"])?);
    }
    if let Some(file) = given(o, "webpush_key_file") {
        let hosts = o.text("webpush_hosts");
        let hosts = hosts.split(',').map(|h| h.trim().to_ascii_lowercase()).filter(|h| !h.is_empty());
        let service = webpush::WebPush {
            key: keys::Key::es256(&read(&file)?).map_err(|e| format!("webpush_key_file {file}: {e}"))?,
            subject: needed(o, "webpush_subject", "webpush_key_file")?,
            hosts: hosts.collect(),
            tokens: Default::default(),
            calls: calls.clone(),
        };
        let stats = ["webpush_sent", "webpush_failed", "webpush_answers", "webpush_ms"];
        providers.push(provider(o, Arc::new(service), stats)?);
    }
    if let Some(url) = given(o, "webhook_url") {
        let service = webhook::Webhook { url, secret: o.text("webhook_secret"), calls: calls.clone() };
        fallback = Some(providers.len());
        let stats = ["webhook_sent", "webhook_failed", "webhook_answers", "webhook_ms"];
        providers.push(provider(o, Arc::new(service), stats)?);
    }
    if providers.is_empty() {
        return Err(
            "no push service is set up; set apns_key_file, fcm_account_file, webpush_key_file or webhook_url"
                .into(),
        );
    }
    let counters = Counters {
        retried: o.stat("retried")?,
        removed: o.stat("removed")?,
        coalesced: o.stat("coalesced")?,
        refused: o.stat("refused")?,
        dropped: o.stat("dropped")?,
        cancels: o.stat("cancels")?,
    };
    let pushes = Arc::new(Pushes {
        providers,
        fallback,
        most: positive("max_under_way")? as usize,
        retries: o.int("retries").clamp(0, 20) as u32,
        worth: Duration::from_secs(ttl),
        counters,
        under_way: Default::default(),
    });
    o.provide(pushes.clone());
    o.kernel.stats.computed("push", "under_way", "Pushes under way", move || pushes.len() as i64);
    Ok(())
}

fn given(o: &Opening<'_>, name: &str) -> Option<String> {
    o.str(name).filter(|v| !v.is_empty())
}

fn needed(o: &Opening<'_>, name: &str, with: &str) -> Result<String, String> {
    given(o, name).ok_or_else(|| format!("{with} is set, so {name} must be set as well"))
}

fn read(file: &str) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|e| format!("{file} cannot be read: {e}"))
}

fn provider(
    o: &Opening<'_>,
    service: Arc<dyn Service>,
    stats: [&'static str; 4],
) -> Result<Provider, String> {
    let [sent, failed, answers, ms] = stats.map(|name| o.stat(name));
    Ok(Provider {
        service,
        sent: sent?,
        failed: failed?,
        answers: answers?,
        ms: ms?,
        longest: AtomicU64::new(0),
    })
}

fn live(kernel: &Arc<Kernel>) {
    let told = [
        ("E_UL_CONTACT_REFRESH", Tells::Refresh),
        ("E_PN_OVER", Tells::Over),
        ("E_UL_CONTACT_INSERT", Tells::Registered),
        ("E_UL_CONTACT_UPDATE", Tells::Registered),
    ];
    for (name, tells) in told {
        let event = kernel.events.publish(name, &[]);
        kernel.events.subscribe(event, Arc::new(Ear { kernel: Arc::downgrade(kernel), tells }));
    }
}

/// What an event tells.
#[derive(Clone, Copy)]
enum Tells {
    /// A device must be woken.
    Refresh,
    /// What a device was woken for is over.
    Over,
    /// A device is awake.
    Registered,
}

struct Ear {
    kernel: Weak<Kernel>,
    tells: Tells,
}

impl Subscriber for Ear {
    fn event(&self, event: &Arc<Event>, _: Option<usize>) {
        let Some(kernel) = self.kernel.upgrade() else { return };
        let bytes = |name: &str| {
            let found = event.attrs.iter().find(|(n, _)| **n == *name);
            let value = found.and_then(|(_, v)| v.to_bytes()).unwrap_or_default();
            Bytes::copy_from_slice(&value)
        };
        let text = |name: &str| String::from_utf8_lossy(&bytes(name)).into_owned();
        let uri = bytes("uri");
        let Some(device) = Device::of(&uri) else { return };
        let pushes = kernel.state::<Arc<Pushes>>();
        if matches!(self.tells, Tells::Registered) {
            return pushes.awake(&device);
        }
        let job = Job {
            device,
            what: What::Wake,
            table: text("domain"),
            aor: bytes("aor"),
            uri,
            reason: text("reason"),
            call_id: text("req_callid"),
        };
        match self.tells {
            Tells::Refresh => {
                pushes.push(&kernel, job);
            }
            // A phone that does not wake up has nothing to be taken back.
            Tells::Over if job.reason != "timeout" => pushes.cancel(&kernel, job),
            Tells::Over | Tells::Registered => {}
        }
    }

    fn describe(&self) -> String {
        "push:".into()
    }
}

/// Takes a push back when the request it was for has ended.
struct EndsWith {
    job: Job,
    /// When it was pushed, seconds since the epoch.
    at: u64,
    /// A call that is cancelled ends with a reply as well; once is enough.
    done: Cell<bool>,
}

impl EndsWith {
    /// Take the push back, unless the device has registered since: then it knows from SIP how the request went.
    fn take_back(&self, kernel: &Arc<Kernel>, reason: &str) {
        let location = kernel.state::<Location>();
        let job = Job { reason: reason.into(), ..self.job.clone() };
        let Some(table) = api::find(location, &job.table) else { return };
        let (house, at) = (kernel.clone(), self.at);
        let work = async move {
            let found = shared::contacts(&house, &table, &job.aor).await;
            let awake = |c: &Contact| c.modified >= at && Device::of(c.uri()).as_ref() == Some(&job.device);
            if !found.is_ok_and(|list| list.iter().any(awake)) {
                house.state::<Arc<Pushes>>().cancel(&house, job);
            }
        };
        kernel.drivers.spawn.spawn(Box::pin(work));
    }
}

impl tm::Watch for EndsWith {
    fn event(&self, ctx: &mut Ctx, event: &tm::TxEvent<'_>) {
        let reason = match event {
            tm::TxEvent::Sending { code: 200..=299, .. } => "answered",
            tm::TxEvent::Sending { code, .. } if *code >= 300 => "failed",
            tm::TxEvent::Cancelled => "cancelled",
            _ => return,
        };
        if !self.done.replace(true) {
            self.take_back(&ctx.shard.kernel, reason);
        }
    }
}

/// `push_wake("location"[, uri])`: wake the phones of the user of `uri`, or of the Request-URI. 1, or -1 when there is
/// none that a push could wake.
fn push_wake(c: &mut Call<'_>) -> Flow {
    let table = c.text(0);
    let uri = c.str(1).cloned();
    let ctx = &mut *c.ctx;
    let uri = uri.unwrap_or_else(|| ctx.ruri());
    let Ok(aor) = registrar::aor(ctx, &uri) else { return FALSE };
    let shard = ctx.shard.clone();
    let kernel = &shard.kernel;
    let Some(place) = api::find(kernel.state::<Location>(), &table) else { return FALSE };
    let now = kernel.unix();
    let select = move |list: &[Contact]| -> Vec<(Device, Bytes)> {
        let live = list.iter().filter(|c| c.is_live(now));
        live.filter_map(|c| Some((Device::of(c.uri())?, Bytes::copy_from_slice(c.uri())))).collect()
    };
    shared::read(ctx, &place, &aor.clone(), select, move |ctx, found| match found {
        Ok(found) => wake_all(ctx, &table, &aor, now, found),
        Err(e) => {
            tracing::error!("push_wake(): {e}");
            FALSE
        }
    })
}

fn wake_all(ctx: &mut Ctx, table: &str, aor: &[u8], now: u64, found: Vec<(Device, Bytes)>) -> Flow {
    let shard = ctx.shard.clone();
    let kernel = &shard.kernel;
    let request = ctx.request().filter(|_| !ctx.dummy);
    let method = request.map_or_else(String::new, |r| String::from_utf8_lossy(r.method_name()).into_owned());
    let call_id = request.map_or_else(String::new, |r| String::from_utf8_lossy(r.call_id()).into_owned());
    let mut any = false;
    for (device, uri) in found {
        let job = Job {
            device,
            what: What::Wake,
            table: table.to_owned(),
            aor: Bytes::copy_from_slice(aor),
            uri,
            reason: format!("ini-{method}"),
            call_id: call_id.clone(),
        };
        if kernel.state::<Arc<Pushes>>().push(kernel, job.clone()) {
            any = true;
            if !job.call_id.is_empty() {
                tm::follow(ctx, Rc::new(EndsWith { job, at: now, done: Cell::new(false) }));
            }
        }
    }
    if any { TRUE } else { FALSE }
}
