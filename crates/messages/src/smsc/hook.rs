//! Web servers as destinations: a message or receipt is posted as JSON, signed, and counts as delivered with a 2xx answer.

use std::sync::Arc;

use serde_json::json;
use switchroom_kernel::ports::http::HttpCall;
use switchroom_wire::smpp::receipt;

use super::accounts::Account;
use super::centre::{Centre, Outlet, text};
use super::message::{Message, Nature};
use super::web::{self, Calls};

/// One web server.
pub struct Hook {
    url: String,
    secret: String,
    calls: Calls,
}

impl Hook {
    /// With the secret of its signature; empty for none.
    pub fn new(url: String, secret: String) -> Hook {
        Hook { url, secret, calls: Calls::default() }
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
        web::call("POST", self.url.clone(), headers, body)
    }
}

impl Outlet for Hook {
    fn room(&self) -> usize {
        self.calls.room()
    }

    fn send(&self, centre: &Arc<Centre>, message: &Message) -> bool {
        if self.room() == 0 {
            return false;
        }
        self.calls.begin(centre, message.id, self.call(message));
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
