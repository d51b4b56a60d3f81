//! A web server of the operator's own: a JSON object by POST, signed.

use std::sync::Arc;

use ring::hmac;
use serde_json::{Value as Json, json};
use switchroom_kernel::Kernel;
use switchroom_kernel::ports::http::{HttpAnswer, HttpCall, HttpVersion};
use switchroom_kernel::ports::net::BoxFuture;

use super::service::{Calls, Job, Refusal, Service, Verdict, common, header};

/// The service.
pub(super) struct Webhook {
    /// Where to.
    pub url: String,
    /// Secret of the signature; empty for none.
    pub secret: String,
    /// Settings of calls.
    pub calls: Calls,
}

impl Webhook {
    fn make(&self, job: &Job, now: u64) -> HttpCall {
        let mut body = job.payload();
        if let Json::Object(map) = &mut body {
            map.insert("provider".into(), json!(job.device.provider));
            map.insert("prid".into(), json!(job.device.prid));
            map.insert("param".into(), json!(job.device.param));
            map.insert("uri".into(), json!(String::from_utf8_lossy(&job.uri)));
            map.insert("time".into(), json!(now));
        }
        let body = body.to_string();
        let mut headers = vec![header("content-type", "application/json")];
        if !self.secret.is_empty() {
            let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes());
            let signature = hmac::sign(&key, body.as_bytes());
            let hex: String = signature.as_ref().iter().map(|b| format!("{b:02x}")).collect();
            headers.push(header("x-signature", format!("sha256={hex}")));
        }
        self.calls.post(self.url.clone(), headers, body.into(), HttpVersion::Auto)
    }
}

impl Service for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn call(&self, kernel: &Arc<Kernel>, job: &Job) -> BoxFuture<Result<HttpCall, Refusal>> {
        let made = self.make(job, kernel.unix());
        Box::pin(async move { Ok(made) })
    }

    fn verdict(&self, answer: &HttpAnswer) -> Verdict {
        match answer.status {
            410 => Verdict::Gone,
            _ => common(answer),
        }
    }
}
