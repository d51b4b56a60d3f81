//! Calls to customers' web servers: bounded in number and time, and what an answer means for the message.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use switchroom_kernel::ports::http::{HttpCall, HttpVersion};
use switchroom_wire::smpp::Status;

use super::centre::{Centre, Outcome};

/// Calls by one line at a time.
const AT_ONCE: usize = 32;

/// The calls that one destination has under way.
#[derive(Default)]
pub struct Calls {
    under_way: Arc<AtomicUsize>,
}

impl Calls {
    /// How many more may begin.
    pub fn room(&self) -> usize {
        AT_ONCE.saturating_sub(self.under_way.load(Relaxed))
    }

    /// Call for the message `id`, which hears of the outcome: delivered with a 2xx answer, given up where the server has
    /// understood and will not have it, else tried again.
    pub fn begin(&self, centre: &Arc<Centre>, id: u64, call: HttpCall) {
        self.under_way.fetch_add(1, Relaxed);
        let answer = centre.base.web.call(call);
        let (centre, under_way) = (centre.clone(), self.under_way.clone());
        let spawn = centre.base.spawn.clone();
        spawn.spawn(Box::pin(async move {
            let answer = answer.await;
            under_way.fetch_sub(1, Relaxed);
            let outcome = match answer {
                Ok(a) if (200..300).contains(&a.status) => Outcome::Delivered,
                Ok(a) if (400..500).contains(&a.status) && !matches!(a.status, 408 | 425 | 429) => {
                    Outcome::Permanent(Status::RX_R_APPN)
                }
                Ok(_) => Outcome::Temporary(Status::RX_T_APPN),
                Err(error) => {
                    tracing::info!("smsc: the web server for message {id}: {error}");
                    Outcome::Temporary(Status::TRANSPORTERR)
                }
            };
            centre.outcome(id, outcome);
        }));
    }
}

/// A call with the usual limits.
pub fn call(method: &str, url: String, headers: Vec<(String, String)>, body: String) -> HttpCall {
    HttpCall {
        method: method.into(),
        url,
        headers,
        body: body.into(),
        connect_timeout: Duration::from_secs(5),
        timeout: Duration::from_secs(15),
        version: HttpVersion::Auto,
        max_answer: 64 * 1024,
        tls: Arc::default(),
    }
}
