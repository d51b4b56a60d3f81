//! Firebase Cloud Messaging, HTTP v1: a service account's signed assertion (RFC 7523) is changed into an access token,
//! which the pushes carry.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use switchroom_kernel::Kernel;
use switchroom_kernel::ports::http::{HttpAnswer, HttpCall, HttpVersion};
use switchroom_kernel::ports::net::BoxFuture;

use super::keys::Key;
use super::service::{Calls, Job, Refusal, Service, Verdict, common, header};

const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";

/// The service.
pub(super) struct Fcm(Arc<Inner>);

struct Inner {
    url: String,
    account: Account,
    /// Access token and until when it is used.
    token: Mutex<Option<(String, u64)>>,
    calls: Calls,
}

/// A service account as Google's file gives it.
pub(super) struct Account {
    email: String,
    key_id: String,
    project: String,
    token_url: String,
    key: Key,
}

impl Account {
    /// From the text of the JSON file. `token_url` takes the place of the one in it.
    pub fn read(text: &str, token_url: Option<String>) -> Result<Account, String> {
        let file: Json = serde_json::from_str(text).map_err(|e| format!("it is no JSON: {e}"))?;
        let field = |name: &str| {
            file[name]
                .as_str()
                .map(str::to_owned)
                .ok_or_else(|| format!("it has no \"{name}\"; is it a service account?"))
        };
        Ok(Account {
            email: field("client_email")?,
            key_id: field("private_key_id")?,
            project: field("project_id")?,
            token_url: match token_url {
                Some(url) => url,
                None => field("token_uri")?,
            },
            key: Key::rs256(&field("private_key")?).map_err(|e| format!("\"private_key\": {e}"))?,
        })
    }
}

impl Fcm {
    /// With an account.
    pub fn new(url: String, account: Account, calls: Calls) -> Fcm {
        Fcm(Arc::new(Inner { url, account, token: Mutex::default(), calls }))
    }
}

impl Inner {
    async fn token(&self, kernel: &Kernel) -> Result<String, Refusal> {
        let now = kernel.unix();
        let known = self.token.lock().as_ref().filter(|(_, until)| now < *until).map(|(t, _)| t.clone());
        if let Some(token) = known {
            return Ok(token);
        }
        let account = &self.account;
        let claims = json!({
            "iss": account.email, "scope": SCOPE, "aud": account.token_url, "iat": now, "exp": now + 3600,
        });
        let assertion = account.key.token(Some(&account.key_id), &claims).map_err(Refusal::Never)?;
        let body =
            format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}");
        let headers = vec![header("content-type", "application/x-www-form-urlencoded")];
        let call = self.calls.post(account.token_url.clone(), headers, body.into(), HttpVersion::Auto);
        let answer = kernel.drivers.web.call(call).await.map_err(|e| Refusal::Later(e.to_string()))?;
        let body: Json = serde_json::from_slice(&answer.body).unwrap_or_default();
        let token = match (common(&answer), body["access_token"].as_str()) {
            (Verdict::Sent, Some(token)) => token.to_owned(),
            (Verdict::Refused(why), _) => return Err(Refusal::Never(format!("no access token: {why}"))),
            _ => return Err(Refusal::Later(format!("no access token: {}", answer.status))),
        };
        let lasts = body["expires_in"].as_u64().unwrap_or(3600).saturating_sub(60);
        *self.token.lock() = Some((token.clone(), now + lasts));
        Ok(token)
    }

    async fn call(&self, kernel: &Kernel, job: &Job) -> Result<HttpCall, Refusal> {
        let token = self.token(kernel).await?;
        // `pn-param` is the project (RFC 8599 §10.2).
        let project = if job.device.param.is_empty() { &self.account.project } else { &job.device.param };
        if !project.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':' | b'_')) {
            return Err(Refusal::Never(format!("\"{project}\" is no project of FCM")));
        }
        // Values of `data` are strings.
        let body = json!({"message": {
            "token": job.device.prid,
            "data": job.payload(),
            "android": {
                "priority": "HIGH",
                "ttl": format!("{}s", self.calls.ttl),
                "collapse_key": job.collapse(),
            },
        }});
        let url = format!("{}/v1/projects/{project}/messages:send", self.url);
        let headers = vec![
            header("authorization", format!("Bearer {token}")),
            header("content-type", "application/json; charset=UTF-8"),
        ];
        Ok(self.calls.post(url, headers, body.to_string().into(), HttpVersion::Auto))
    }
}

impl Service for Fcm {
    fn name(&self) -> &'static str {
        "fcm"
    }

    fn call(&self, kernel: &Arc<Kernel>, job: &Job) -> BoxFuture<Result<HttpCall, Refusal>> {
        let (inner, kernel, job) = (self.0.clone(), kernel.clone(), job.clone());
        Box::pin(async move { inner.call(&kernel, &job).await })
    }

    fn verdict(&self, answer: &HttpAnswer) -> Verdict {
        let body: Json = serde_json::from_slice(&answer.body).unwrap_or_default();
        let details = body["error"]["details"].as_array().cloned().unwrap_or_default();
        let unregistered = details.iter().any(|d| d["errorCode"] == "UNREGISTERED");
        match answer.status {
            401 => Verdict::Renew,
            404 | 410 if unregistered || answer.status == 410 => Verdict::Gone,
            _ => common(answer),
        }
    }

    fn renew(&self) {
        *self.0.token.lock() = None;
    }
}
