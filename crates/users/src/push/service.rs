//! What a push service is: something that makes an HTTP call of a wish to wake a device, and understands the answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ring::digest::{SHA256, digest};
use serde_json::{Value as Json, json};
use switchroom_kernel::Kernel;
use switchroom_kernel::ports::http::{ClientTls, HttpAnswer, HttpCall, HttpVersion};
use switchroom_kernel::ports::net::BoxFuture;
use switchroom_wire::sip::{Uri, scan};

use super::keys::base64url;

/// A device as its Contact names it (RFC 8599 §4).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Device {
    /// `pn-provider`, in lower case.
    pub provider: String,
    /// `pn-prid`: the token, or for Web Push the address.
    pub prid: String,
    /// `pn-param`.
    pub param: String,
}

impl Device {
    /// From a Contact URI; `None` when it names none, or one that no service can have given out.
    pub fn of(uri: &[u8]) -> Option<Device> {
        let uri = Uri::parse(uri).ok()?;
        let text = |name: &str| {
            let value = uri.param(name).unwrap_or_default();
            let value = String::from_utf8(scan::percent_decode(value).into_owned()).ok()?;
            // It goes into URLs and headers.
            value.bytes().all(|b| b.is_ascii_graphic()).then_some(value)
        };
        let (provider, prid, param) = (text("pn-provider")?, text("pn-prid")?, text("pn-param")?);
        let fits = !provider.is_empty() && !prid.is_empty() && prid.len() <= 2048;
        fits.then(|| Device { provider: provider.to_ascii_lowercase(), prid, param })
    }
}

/// What the device is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Wake up and register.
    Wake,
    /// Stop ringing: what it was woken for is over.
    Cancel,
}

/// A wish to push.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// Whom.
    pub device: Device,
    /// What for.
    pub what: What,
    /// Location table of its binding.
    pub table: String,
    /// Address of record of its binding.
    pub aor: Bytes,
    /// Contact URI of its binding.
    pub uri: Bytes,
    /// `ini-INVITE`, `reg-refresh`, or how it was over.
    pub reason: String,
    /// Call-ID of the request that waits; empty for a refresh.
    pub call_id: String,
}

impl Job {
    /// What the device is told.
    pub fn payload(&self) -> Json {
        json!({
            "event": match self.what { What::Wake => "wake", What::Cancel => "cancel" },
            "aor": String::from_utf8_lossy(&self.aor),
            "reason": self.reason,
            "call_id": self.call_id,
        })
    }

    /// The same for all pushes of one call: the later takes the place of the earlier. 32 characters.
    pub fn collapse(&self) -> String {
        let about: &[u8] = if self.call_id.is_empty() { &self.aor } else { self.call_id.as_bytes() };
        let mut text = base64url(digest(&SHA256, about).as_ref());
        text.truncate(32);
        text
    }
}

/// Settings of all calls.
#[derive(Clone)]
pub(super) struct Calls {
    /// How long one call may take.
    pub timeout: Duration,
    /// How long the service may keep a push that it cannot deliver, in seconds.
    pub ttl: u64,
    /// What certificates count.
    pub tls: Arc<ClientTls>,
}

impl Calls {
    /// A POST.
    pub fn post(
        &self,
        url: String,
        headers: Vec<(String, String)>,
        body: Bytes,
        version: HttpVersion,
    ) -> HttpCall {
        HttpCall {
            method: "POST".into(),
            url,
            headers,
            body,
            connect_timeout: self.timeout,
            timeout: self.timeout,
            version,
            max_answer: 64 << 10,
            tls: self.tls.clone(),
        }
    }
}

/// What the service said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It took the push.
    Sent,
    /// The device does not exist any more.
    Gone,
    /// Later, and when.
    Later(Option<Duration>),
    /// Our token is too old: with a new one.
    Renew,
    /// It refuses, and always will.
    Refused(String),
}

/// A push service.
pub(super) trait Service: Send + Sync {
    /// Its name in statistics.
    fn name(&self) -> &'static str;
    /// The call that pushes.
    fn call(&self, kernel: &Arc<Kernel>, job: &Job) -> BoxFuture<Result<HttpCall, Refusal>>;
    /// What its answer means.
    fn verdict(&self, answer: &HttpAnswer) -> Verdict;
    /// Forget the token that was refused.
    fn renew(&self) {}
}

/// Why there is no call.
#[derive(Clone, Debug)]
pub(super) enum Refusal {
    /// It may work later.
    Later(String),
    /// It will never work.
    Never(String),
}

/// Verdict on codes that mean the same everywhere.
pub(super) fn common(answer: &HttpAnswer) -> Verdict {
    match answer.status {
        200..=299 => Verdict::Sent,
        408 | 429 | 500 | 502 | 503 | 504 => Verdict::Later(retry_after(answer)),
        code => {
            let text = String::from_utf8_lossy(&answer.body);
            let text: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
            Verdict::Refused(format!("{code} {text}"))
        }
    }
}

/// Seconds of Retry-After; a date there is left out, since no push service sends one.
fn retry_after(answer: &HttpAnswer) -> Option<Duration> {
    answer.header("retry-after")?.trim().parse().ok().map(Duration::from_secs)
}

/// A name and value of a header.
pub(super) fn header(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_read_from_its_contact() {
        let d = Device::of(b"sip:a@h;pn-provider=APNS;pn-prid=to%2Fken;pn-param=T.app").unwrap();
        assert_eq!((&*d.provider, &*d.prid, &*d.param), ("apns", "to/ken", "T.app"));
        assert!(Device::of(b"sip:a@h;pn-provider=apns").is_none());
        assert!(Device::of(b"sip:a@h;pn-provider=apns;pn-prid=a%0d%0aX:y;pn-param=b").is_none());
    }

    #[test]
    fn answers_say_whether_to_try_again() {
        let answer = |status, headers: &[(&str, &str)]| HttpAnswer {
            status,
            headers: headers.iter().map(|(n, v)| header(n, *v)).collect(),
            body: Bytes::from_static(b"why"),
        };
        assert_eq!(common(&answer(201, &[])), Verdict::Sent);
        assert_eq!(
            common(&answer(503, &[("retry-after", "7")])),
            Verdict::Later(Some(Duration::from_secs(7)))
        );
        assert_eq!(common(&answer(429, &[])), Verdict::Later(None));
        assert_eq!(common(&answer(403, &[])), Verdict::Refused("403 why".into()));
    }
}
