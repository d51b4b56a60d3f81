//! Apple Push Notification service: HTTP/2 with token authentication.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use switchroom_kernel::Kernel;
use switchroom_kernel::ports::http::{HttpAnswer, HttpCall, HttpVersion};
use switchroom_kernel::ports::net::BoxFuture;

use super::keys::Key;
use super::service::{Calls, Job, Refusal, Service, Verdict, What, common, header};

/// Apple refuses tokens older than an hour, and new ones more often than every 20 minutes.
const TOKEN_SECONDS: u64 = 45 * 60;

/// The service.
pub(super) struct Apns {
    /// `https://api.push.apple.com`
    pub url: String,
    /// Key that signs tokens.
    pub key: Key,
    /// Its name.
    pub key_id: String,
    /// Whose it is.
    pub team_id: String,
    /// Topic where the device names none.
    pub topic: String,
    /// Token in use and when it was made.
    pub token: Mutex<Option<(String, u64)>>,
    /// Settings of calls.
    pub calls: Calls,
}

impl Apns {
    fn token(&self, now: u64) -> Result<String, Refusal> {
        let mut token = self.token.lock();
        if let Some((text, made)) = token.as_ref().filter(|(_, made)| now < made + TOKEN_SECONDS) {
            let _ = made;
            return Ok(text.clone());
        }
        let claims = json!({"iss": self.team_id, "iat": now});
        let text = self.key.token(Some(&self.key_id), &claims).map_err(Refusal::Never)?;
        *token = Some((text.clone(), now));
        Ok(text)
    }

    /// Topic of a device: `pn-param` without the team before it (RFC 8599 §10.1).
    fn topic(&self, param: &str) -> String {
        let is_team =
            |t: &str| t.len() == 10 && t.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        match param.split_once('.') {
            Some((team, topic)) if team == self.team_id || is_team(team) => topic.to_owned(),
            _ if !param.is_empty() => param.to_owned(),
            _ => self.topic.clone(),
        }
    }

    fn make(&self, job: &Job, now: u64) -> Result<HttpCall, Refusal> {
        let topic = self.topic(&job.device.param);
        if topic.is_empty() {
            return Err(Refusal::Never("the device names no topic, and apns_topic is not set".into()));
        }
        if !job.device.prid.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(Refusal::Never("a device token of APNs has only hexadecimal digits".into()));
        }
        let voip = topic.ends_with(".voip");
        let expiration = match job.what {
            What::Wake => now + self.calls.ttl,
            What::Cancel => 0,
        };
        let headers = vec![
            header("authorization", format!("bearer {}", self.token(now)?)),
            header("apns-topic", topic),
            header("apns-push-type", if voip { "voip" } else { "background" }),
            header("apns-priority", if voip { "10" } else { "5" }),
            header("apns-expiration", expiration.to_string()),
            header("apns-collapse-id", job.collapse()),
            header("content-type", "application/json"),
        ];
        let mut body = job.payload();
        if let Json::Object(map) = &mut body {
            map.insert("aps".into(), if voip { json!({}) } else { json!({"content-available": 1}) });
        }
        let url = format!("{}/3/device/{}", self.url, job.device.prid);
        Ok(self.calls.post(url, headers, body.to_string().into(), HttpVersion::Http2))
    }
}

impl Service for Apns {
    fn name(&self) -> &'static str {
        "apns"
    }

    fn call(&self, kernel: &Arc<Kernel>, job: &Job) -> BoxFuture<Result<HttpCall, Refusal>> {
        let made = self.make(job, kernel.unix());
        Box::pin(async move { made })
    }

    fn verdict(&self, answer: &HttpAnswer) -> Verdict {
        let body: Json = serde_json::from_slice(&answer.body).unwrap_or_default();
        match (answer.status, body["reason"].as_str().unwrap_or_default()) {
            (410, _) | (400, "BadDeviceToken" | "Unregistered") => Verdict::Gone,
            (403, "ExpiredProviderToken") => Verdict::Renew,
            _ => common(answer),
        }
    }

    fn renew(&self) {
        *self.token.lock() = None;
    }
}
