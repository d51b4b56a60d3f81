//! Pushes under way: one for each device at a time, tried again while it makes sense, taken back when of no use.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use switchroom_kernel::Kernel;
use switchroom_kernel::stats::StatId;

use super::service::{Device, Job, Refusal, Service, Verdict, What};
use crate::usrloc::{Location, api, shared};

/// The first pause before a push is tried again; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// A device that took a push is given so long to register before it gets another.
const WAKING: Duration = Duration::from_secs(3);

/// A service with its numbers.
pub(super) struct Provider {
    /// The service.
    pub service: Arc<dyn Service>,
    /// Pushes it took.
    pub sent: StatId,
    /// Pushes it did not take.
    pub failed: StatId,
    /// Milliseconds that the calls took that were answered.
    pub ms: StatId,
    /// Calls that were answered.
    pub answers: StatId,
    /// The longest of these calls, in microseconds.
    pub longest: AtomicU64,
}

/// Statistics of all services together.
#[derive(Clone, Copy)]
pub(super) struct Counters {
    pub retried: StatId,
    pub removed: StatId,
    pub coalesced: StatId,
    pub refused: StatId,
    pub dropped: StatId,
    pub cancels: StatId,
}

/// Where the push of a device stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// Not taken yet.
    Sending,
    /// The service took it; the device should wake up now.
    Waking,
}

struct UnderWay {
    stage: Stage,
    /// What it is for.
    call_id: String,
    /// It became useless.
    over: Option<String>,
    /// The device registered while it was sent.
    awake: bool,
    /// Tells a later push of the same device from this one.
    serial: u64,
}

/// All pushes under way.
pub(super) struct Pushes {
    /// Services by name.
    pub providers: Vec<Provider>,
    /// Service for names that have none of their own.
    pub fallback: Option<usize>,
    /// So many may be under way at a time.
    pub most: usize,
    /// How often one is tried again.
    pub retries: u32,
    /// How long it is worth trying.
    pub worth: Duration,
    /// Statistics.
    pub counters: Counters,
    /// By device.
    pub under_way: Mutex<Table>,
}

/// Pushes by device.
#[derive(Default)]
pub(super) struct Table {
    all: HashMap<Device, UnderWay>,
    serial: u64,
}

impl Pushes {
    /// How many are under way.
    pub fn len(&self) -> usize {
        self.under_way.lock().all.len()
    }

    fn provider(&self, name: &str) -> Option<&Provider> {
        let own = self.providers.iter().position(|p| p.service.name() == name);
        self.providers.get(own.or(self.fallback)?)
    }

    /// Push, unless the device is being woken already. False when nobody can, or too many are under way.
    pub fn push(self: &Arc<Self>, kernel: &Arc<Kernel>, job: Job) -> bool {
        if self.provider(&job.device.provider).is_none() {
            tracing::warn!("no push service is set up for \"{}\" of {}", job.device.provider, text(&job.aor));
            kernel.stats.add_outside(self.counters.refused, 1);
            return false;
        }
        let serial = {
            let mut table = self.under_way.lock();
            if table.all.get(&job.device).is_some_and(|u| u.over.is_none() && !u.awake) {
                kernel.stats.add_outside(self.counters.coalesced, 1);
                return true;
            }
            if table.all.len() >= self.most {
                kernel.stats.add_outside(self.counters.refused, 1);
                tracing::error!("too many pushes are under way; that for {} is given up", text(&job.aor));
                return false;
            }
            table.serial += 1;
            let serial = table.serial;
            let call_id = job.call_id.clone();
            let new = UnderWay { stage: Stage::Sending, call_id, over: None, awake: false, serial };
            table.all.insert(job.device.clone(), new);
            serial
        };
        let (pushes, house) = (self.clone(), kernel.clone());
        kernel.drivers.spawn.spawn(Box::pin(async move { pushes.carry(&house, job, serial).await }));
        true
    }

    /// What the device was woken for is over.
    pub fn cancel(self: &Arc<Self>, kernel: &Arc<Kernel>, mut job: Job) {
        let taken = {
            let mut table = self.under_way.lock();
            match table.all.get_mut(&job.device) {
                Some(u) if u.call_id != job.call_id => return,
                Some(u) if u.stage == Stage::Sending => {
                    u.over = Some(job.reason.clone());
                    return;
                }
                Some(_) => table.all.remove(&job.device).is_some(),
                // It took the push longer ago.
                None => true,
            }
        };
        if !taken || self.provider(&job.device.provider).is_none() || self.len() >= self.most {
            return;
        }
        job.what = What::Cancel;
        kernel.stats.add_outside(self.counters.cancels, 1);
        let (pushes, house) = (self.clone(), kernel.clone());
        kernel.drivers.spawn.spawn(Box::pin(async move {
            pushes.deliver(&house, &job, None).await;
        }));
    }

    /// A device has registered: the next push of it is a new one.
    pub fn awake(&self, device: &Device) {
        let mut table = self.under_way.lock();
        match table.all.get_mut(device) {
            Some(u) if u.stage == Stage::Sending => u.awake = true,
            Some(_) => drop(table.all.remove(device)),
            None => {}
        }
    }

    async fn carry(self: Arc<Self>, kernel: &Arc<Kernel>, job: Job, serial: u64) {
        let sent = self.deliver(kernel, &job, Some(serial)).await;
        let over = {
            let mut table = self.under_way.lock();
            let Some(mine) = table.all.get_mut(&job.device).filter(|u| u.serial == serial) else { return };
            match (sent && !mine.awake, mine.over.take()) {
                (true, None) => {
                    mine.stage = Stage::Waking;
                    None
                }
                (asleep, over) => {
                    table.all.remove(&job.device);
                    over.filter(|_| asleep)
                }
            }
        };
        if let Some(reason) = over {
            self.cancel(kernel, Job { reason, ..job });
            return;
        }
        if sent {
            kernel.drivers.clock.sleep(WAKING).await;
            let mut table = self.under_way.lock();
            if table.all.get(&job.device).is_some_and(|u| u.serial == serial) {
                table.all.remove(&job.device);
            }
        }
    }

    fn is_over(&self, job: &Job, serial: Option<u64>) -> bool {
        let Some(serial) = serial else { return false };
        let table = self.under_way.lock();
        table.all.get(&job.device).is_none_or(|u| u.serial != serial || u.over.is_some() || u.awake)
    }

    /// Try until it is taken, refused, useless, or too late. True when it was taken.
    async fn deliver(&self, kernel: &Arc<Kernel>, job: &Job, serial: Option<u64>) -> bool {
        let Some(provider) = self.provider(&job.device.provider) else { return false };
        let clock = &kernel.drivers.clock;
        let end = clock.now() + self.worth;
        let mut renewed = false;
        let mut tries = 0;
        loop {
            if self.is_over(job, serial) {
                kernel.stats.add_outside(self.counters.dropped, 1);
                return false;
            }
            let why;
            let pause = match self.attempt(kernel, provider, job).await {
                Ok(Verdict::Sent) => {
                    kernel.stats.add_outside(provider.sent, 1);
                    return true;
                }
                Ok(Verdict::Gone) => {
                    kernel.stats.add_outside(provider.failed, 1);
                    kernel.stats.add_outside(self.counters.removed, 1);
                    tracing::info!("the device of {} does not exist any more", text(&job.aor));
                    forget(kernel, job).await;
                    return false;
                }
                Ok(Verdict::Renew) if !renewed => {
                    renewed = true;
                    provider.service.renew();
                    continue;
                }
                Ok(Verdict::Later(after)) => {
                    why = "the service is busy".to_owned();
                    after
                }
                Err(Refusal::Later(error)) => {
                    why = error;
                    None
                }
                Ok(Verdict::Renew) => return self.give_up(kernel, provider, job, "the token is refused"),
                Ok(Verdict::Refused(why)) | Err(Refusal::Never(why)) => {
                    return self.give_up(kernel, provider, job, &why);
                }
            };
            tries += 1;
            let own = FIRST_PAUSE.saturating_mul(1 << (tries - 1).min(8));
            // Spread, so that what failed together does not come again together.
            let spread = Duration::from_millis(kernel.drivers.clock.unix().subsec_micros() as u64 % 100);
            let pause = pause.unwrap_or(own) + spread;
            if tries > self.retries || clock.now() + pause >= end {
                return self.give_up(kernel, provider, job, &why);
            }
            kernel.stats.add_outside(self.counters.retried, 1);
            clock.sleep(pause).await;
        }
    }

    async fn attempt(&self, kernel: &Arc<Kernel>, p: &Provider, job: &Job) -> Result<Verdict, Refusal> {
        let call = p.service.call(kernel, job).await?;
        let start = kernel.drivers.clock.now();
        let answer = kernel.drivers.web.call(call).await.map_err(|e| Refusal::Later(e.to_string()))?;
        let took = kernel.drivers.clock.now().saturating_duration_since(start);
        kernel.stats.add_outside(p.ms, took.as_millis() as i64);
        kernel.stats.add_outside(p.answers, 1);
        p.longest.fetch_max(took.as_micros() as u64, Relaxed);
        kernel.note_call(None, job.call_id.as_bytes(), "push", || {
            let what = if job.what == What::Wake { "wake" } else { "cancel" };
            format!("{what} by {}: {} after {} ms", p.service.name(), answer.status, took.as_millis())
        });
        Ok(p.service.verdict(&answer))
    }

    fn give_up(&self, kernel: &Kernel, p: &Provider, job: &Job, why: &str) -> bool {
        kernel.stats.add_outside(p.failed, 1);
        tracing::warn!("a push by {} for {} failed: {why}", p.service.name(), text(&job.aor));
        let note = || format!("by {} failed: {why}", p.service.name());
        kernel.note_call(None, job.call_id.as_bytes(), "push", note);
        false
    }

    /// For the command.
    pub fn status(&self, kernel: &Kernel) -> Json {
        let services: Vec<Json> = self
            .providers
            .iter()
            .map(|p| {
                let read = |id| kernel.stats.read(id);
                let answers = read(p.answers);
                json!({
                    "service": p.service.name(),
                    "sent": read(p.sent),
                    "failed": read(p.failed),
                    "average_ms": if answers > 0 { read(p.ms) as f64 / answers as f64 } else { 0.0 },
                    "longest_ms": p.longest.load(Relaxed) as f64 / 1000.0,
                })
            })
            .collect();
        json!({"under_way": self.len(), "most": self.most, "services": services})
    }
}

/// Remove the binding of a device that does not exist any more.
async fn forget(kernel: &Arc<Kernel>, job: &Job) {
    let Some(table) = api::find(kernel.state::<Location>(), &job.table) else { return };
    let change = shared::change_now(kernel, &table, &job.aor, |contacts| {
        contacts.retain(|c| Device::of(c.uri()).as_ref() != Some(&job.device));
    });
    if let Err(e) = change.await {
        tracing::error!("a binding could not be removed: {e}");
    }
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
