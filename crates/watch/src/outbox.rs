//! A bounded queue before a way on which events leave the house, and one task that empties it in order.
//!
//! What raises an event only queues it. When the queue is full the event is counted as dropped.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use parking_lot::Mutex;
use serde_json::{Map, Value as Json, json};
use switchroom_kernel::events::{Event, Subscriber};
use switchroom_kernel::module::Statistic;
use switchroom_kernel::oneshot;
use switchroom_kernel::open::Opening;
use switchroom_kernel::ports::net::{BoxFuture, Spawn};
use switchroom_kernel::stats::{StatId, Stats};
use switchroom_script::Value;

/// Events that wait for one subscriber at most.
const MAX_WAITING: usize = 5_000;

/// How events reach one subscriber.
pub trait Way: Send + 'static {
    /// Tell it of one event.
    fn send(&mut self, event: &Arc<Event>) -> impl Future<Output = Result<(), String>> + Send;
}

/// The statistics of every transport.
pub const STATISTICS: &[Statistic] = &[
    Statistic::counter("sent", "Events that left"),
    Statistic::counter("failed", "Events that could not be delivered"),
    Statistic::counter("dropped", "Events that found a full queue"),
];

/// Counters of [`STATISTICS`].
#[derive(Clone)]
pub struct Counters {
    stats: Arc<Stats>,
    sent: StatId,
    failed: StatId,
    dropped: StatId,
}

impl Counters {
    /// For a module that declares [`STATISTICS`].
    pub fn new(o: &Opening<'_>) -> Result<Counters, String> {
        let stats = o.kernel.stats.clone();
        Ok(Counters { stats, sent: o.stat("sent")?, failed: o.stat("failed")?, dropped: o.stat("dropped")? })
    }

    /// One event has left, or not.
    pub fn done(&self, good: bool) {
        self.stats.add_outside(if good { self.sent } else { self.failed }, 1);
    }

    /// One event found no room.
    pub fn dropped(&self) {
        self.stats.add_outside(self.dropped, 1);
    }
}

/// A subscriber behind a queue. Dropping it ends its task.
pub struct Outbox {
    name: String,
    queue: Arc<Queue>,
    counters: Counters,
}

impl Outbox {
    /// Starts the task. `name` is `transport:address`.
    pub fn start(name: String, mut way: impl Way, spawn: &dyn Spawn, counters: &Counters) -> Arc<Outbox> {
        let queue = Arc::new(Queue::default());
        let outbox = Outbox { name: name.clone(), queue: queue.clone(), counters: counters.clone() };
        let counters = counters.clone();
        spawn.spawn(Box::pin(async move {
            // The same failure again and again is said once.
            let mut said = String::new();
            while let Some(job) = queue.next().await {
                let sent = way.send(&job.event).await;
                counters.done(sent.is_ok());
                match &sent {
                    Ok(()) => said.clear(),
                    Err(e) if *e != said => {
                        tracing::warn!("event {} for {name}: {e}", job.event.name);
                        said.clone_from(e);
                    }
                    Err(_) => {}
                }
                if let Some(answer) = job.answer {
                    answer.send(sent);
                }
            }
        }));
        Arc::new(outbox)
    }

    fn push(&self, job: Job) {
        if !self.queue.push(job) {
            self.counters.dropped();
        }
    }
}

impl Subscriber for Outbox {
    fn event(&self, event: &Arc<Event>, _: Option<usize>) {
        self.push(Job { event: event.clone(), answer: None });
    }
    fn describe(&self) -> String {
        self.name.clone()
    }
    fn deliver(self: Arc<Self>, event: &Arc<Event>) -> BoxFuture<Result<(), String>> {
        let (answer, sent) = oneshot::channel();
        self.push(Job { event: event.clone(), answer: Some(answer) });
        Box::pin(async move {
            // The queue lives at least until the answer is here.
            let _outbox = self;
            sent.await.unwrap_or_else(|| Err("too many events wait for it".to_owned()))
        })
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.queue.close();
    }
}

struct Job {
    event: Arc<Event>,
    answer: Option<oneshot::Sender<Result<(), String>>>,
}

#[derive(Default)]
struct Queue(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    waker: Option<Waker>,
    closed: bool,
}

impl Queue {
    fn push(&self, job: Job) -> bool {
        let waker = {
            let mut waiting = self.0.lock();
            if waiting.jobs.len() >= MAX_WAITING {
                return false;
            }
            waiting.jobs.push_back(job);
            waiting.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    fn close(&self) {
        let waker = {
            let mut waiting = self.0.lock();
            waiting.closed = true;
            waiting.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The next; `None` when nobody can put in any more and all are done.
    async fn next(&self) -> Option<Job> {
        poll_fn(|cx| {
            let mut waiting = self.0.lock();
            match waiting.jobs.pop_front() {
                Some(job) => Poll::Ready(Some(job)),
                None if waiting.closed => Poll::Ready(None),
                None => {
                    waiting.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

/// An attribute's value as JSON.
pub fn json(value: &Value) -> Json {
    match value {
        Value::Int(i) => json!(i),
        Value::Str(s) => Json::String(String::from_utf8_lossy(s).into_owned()),
        Value::Null => Json::Null,
    }
}

/// An event as a JSON-RPC 2.0 call, without `id` as a notification. Named attributes make an object, others an array;
/// `event_param` names the member of the parameters that holds the name of the event.
pub fn request(event: &Event, method: Option<&str>, event_param: Option<&str>, id: Option<u64>) -> Json {
    let name = Json::String(event.name.to_string());
    let named = event.attrs.iter().any(|(n, _)| !n.is_empty());
    let params = if named || (event.attrs.is_empty() && event_param.is_some()) {
        let mut all = Map::new();
        if let Some(param) = event_param {
            all.insert(param.to_owned(), name);
        }
        for (i, (n, v)) in event.attrs.iter().enumerate() {
            let key = if n.is_empty() { (i + 1).to_string() } else { n.to_string() };
            all.insert(key, json(v));
        }
        Json::Object(all)
    } else {
        let first = event_param.map(|_| name).into_iter();
        Json::Array(first.chain(event.attrs.iter().map(|(_, v)| json(v))).collect())
    };
    let method = method.unwrap_or(&event.name);
    let mut all = json!({"jsonrpc": "2.0", "method": method, "params": params});
    if let (Some(id), Some(map)) = (id, all.as_object_mut()) {
        map.insert("id".into(), json!(id));
    }
    all
}

/// `host:port`, IPv6 in brackets.
pub fn host_port(text: &str) -> Result<(String, u16), String> {
    let wrong = || format!("\"{text}\" is no host:port");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    if host.is_empty() || (bare.is_none() && host.contains(':')) {
        return Err(wrong());
    }
    let port: u16 = port.parse().ok().filter(|p| *p != 0).ok_or_else(wrong)?;
    Ok((bare.unwrap_or(host).to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchroom_kernel::events::EventId;

    #[test]
    fn addresses_need_a_host_and_a_port() {
        assert_eq!(host_port("example.org:8080"), Ok(("example.org".into(), 8080)));
        assert_eq!(host_port("[::1]:9"), Ok(("::1".into(), 9)));
        for wrong in ["example.org", ":5", "h:", "h:0", "h:99999", "::1:5"] {
            assert!(host_port(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_make_an_object_and_values_alone_an_array() {
        let mut event = Event {
            id: EventId(0),
            name: "E_X".into(),
            attrs: vec![("ip".into(), Value::Str("192.0.2.1".into())), ("n".into(), Value::Int(3))],
        };
        assert_eq!(
            request(&event, Some("block"), Some("event"), Some(7)),
            json!({"jsonrpc": "2.0", "method": "block", "id": 7, "params": {"event": "E_X", "ip": "192.0.2.1", "n": 3}})
        );
        event.attrs = vec![("".into(), Value::Int(3)), ("".into(), Value::Int(5))];
        assert_eq!(
            request(&event, None, None, None),
            json!({"jsonrpc": "2.0", "method": "E_X", "params": [3, 5]})
        );
        assert_eq!(request(&event, None, Some("event"), None)["params"], json!(["E_X", 3, 5]));
    }
}
