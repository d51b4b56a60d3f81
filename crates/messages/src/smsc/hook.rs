//! Web servers as destinations: a message or receipt is posted as JSON, signed, and counts as delivered with a 2xx answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use serde_json::json;
use switchroom_kernel::ports::http::{HttpCall, HttpVersion};
use switchroom_wire::smpp::{Status, receipt};

use super::accounts::Account;
use super::centre::{Centre, Outcome, Outlet, text};
use super::message::{Message, Nature};

/// Calls to one server at a time.
const AT_ONCE: usize = 32;

/// One web server.
pub struct Hook {
    url: String,
    secret: String,
    under_way: Arc<AtomicUsize>,
}

impl Hook {
    /// With the secret of its signature; empty for none.
    pub fn new(url: String, secret: String) -> Hook {
        Hook { url, secret, under_way: Arc::default() }
    }

    /// Whether it is the account's.
    pub fn is(&self, account: &Account) -> bool {
        self.url == account.webhook && self.secret == account.webhook_secret
    }

    fn call(&self, message: &Message) -> HttpCall {
        let body = body(message).to_string();
        let mut headers = vec![
            ("content-type".to_owned(), "application/json; charset=utf-8".to_owned()),
            ("x-message-id".to_owned(), message.id.to_string()),
        ];
        if !self.secret.is_empty() {
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, self.secret.as_bytes());
            let sum = ring::hmac::sign(&key, body.as_bytes());
            let hex: String = sum.as_ref().iter().map(|b| format!("{b:02x}")).collect();
            headers.push(("x-signature".to_owned(), format!("sha256={hex}")));
        }
        HttpCall {
            method: "POST".into(),
            url: self.url.clone(),
            headers,
            body: body.into(),
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(15),
            version: HttpVersion::Auto,
            max_answer: 64 * 1024,
            tls: Arc::default(),
        }
    }
}

impl Outlet for Hook {
    fn room(&self) -> usize {
        AT_ONCE.saturating_sub(self.under_way.load(Relaxed))
    }

    fn send(&self, centre: &Arc<Centre>, message: &Message) -> bool {
        if self.room() == 0 {
            return false;
        }
        self.under_way.fetch_add(1, Relaxed);
        let answer = centre.base.web.call(self.call(message));
        let (centre, id, under_way) = (centre.clone(), message.id, self.under_way.clone());
        let spawn = centre.base.spawn.clone();
        spawn.spawn(Box::pin(async move {
            let answer = answer.await;
            under_way.fetch_sub(1, Relaxed);
            let outcome = match answer {
                Ok(a) if (200..300).contains(&a.status) => Outcome::Delivered,
                // The server has understood and will not have it.
                Ok(a) if (400..500).contains(&a.status) && !matches!(a.status, 408 | 425 | 429) => {
                    Outcome::Permanent(Status::RX_R_APPN)
                }
                Ok(_) => Outcome::Temporary(Status::RX_T_APPN),
                Err(error) => {
                    tracing::info!("smsc: message {id}: {error}");
                    Outcome::Temporary(Status::TRANSPORTERR)
                }
            };
            centre.outcome(id, outcome);
        }));
        true
    }
}

/// What is posted.
pub fn body(m: &Message) -> serde_json::Value {
    let text = text(&m.content);
    match m.nature {
        Nature::Message => json!({
            "type": "message", "id": m.id.to_string(), "from": m.source.text(), "to": m.destination.text(),
            "text": text, "data_coding": m.content.data_coding, "submitted": m.submitted,
        }),
        Nature::Receipt => {
            let read = receipt::read(&m.content.text);
            let lossy = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
            json!({
                "type": "receipt", "id": read.map(|r| lossy(r.id)), "state": read.map(|r| lossy(r.stat)),
                "error": read.map(|r| lossy(r.error)), "from": m.source.text(), "to": m.destination.text(),
                "done": m.submitted, "text": text,
            })
        }
    }
}
