//! Pages that customers name with a message, to be called with its end: `dlr-url` in the manners of Kannel and of Jasmin.
//!
//! Only the end of a message is told, not that it was accepted; the answer to the request has said that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use switchroom_kernel::ports::http::{HttpCall, HttpVersion};
use switchroom_wire::smpp::{Status, receipt};

use super::centre::{Centre, Outcome, Outlet};
use super::message::Message;

/// Manner: a GET of a URL with `%` codes.
pub const KANNEL: &str = "kannel";
/// Manner: a GET with parameters.
pub const JASMIN_GET: &str = "jasmin-get";
/// Manner: a POST with parameters.
pub const JASMIN_POST: &str = "jasmin-post";

/// Calls for one account at a time.
const AT_ONCE: usize = 32;

/// The pages of one account.
#[derive(Default)]
pub struct Reports {
    under_way: Arc<AtomicUsize>,
}

impl Outlet for Reports {
    fn room(&self) -> usize {
        AT_ONCE.saturating_sub(self.under_way.load(Relaxed))
    }

    fn send(&self, centre: &Arc<Centre>, message: &Message) -> bool {
        if self.room() == 0 {
            return false;
        }
        let (centre, id) = (centre.clone(), message.id);
        let Some(call) =
            message.asked.as_ref().and_then(|a| a.page()).map(|(how, url)| call(how, url, message))
        else {
            centre.outcome(id, Outcome::Permanent(Status::SYSERR));
            return true;
        };
        self.under_way.fetch_add(1, Relaxed);
        let answer = centre.base.web.call(call);
        let under_way = self.under_way.clone();
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
                    tracing::info!("smsc: the page for message {id}: {error}");
                    Outcome::Temporary(Status::TRANSPORTERR)
                }
            };
            centre.outcome(id, outcome);
        }));
        true
    }
}

fn call(how: &str, url: &str, message: &Message) -> HttpCall {
    let said = receipt::read(&message.content.text).unwrap_or_default();
    let (mut url, mut body, mut headers) = (url.to_owned(), String::new(), Vec::new());
    match how {
        KANNEL => url = filled(&url, message, &said),
        _ => {
            let list = parameters(message, &said);
            if how == JASMIN_POST {
                headers.push(("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned()));
                body = list;
            } else {
                url.push(if url.contains('?') { '&' } else { '?' });
                url.push_str(&list);
            }
        }
    }
    HttpCall {
        method: if body.is_empty() { "GET" } else { "POST" }.into(),
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

/// Kannel's codes in a URL. The report comes from the recipient, so he is its sender.
fn filled(url: &str, m: &Message, said: &receipt::Received<'_>) -> String {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let mut out = String::with_capacity(url.len() + 32);
    let mut rest = url.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let code = rest.next();
        let value = match code {
            Some('d') => if said.stat == b"DELIVRD" { "1" } else { "2" }.to_owned(),
            Some('p') => m.source.text(),
            Some('P') => m.destination.text(),
            Some('F' | 'I') => text(said.id),
            Some('A') => text(&m.content.text),
            Some('T') => m.submitted.to_string(),
            Some('%') => "%".to_owned(),
            // An escape of the URL itself.
            Some(other) => {
                out.push('%');
                out.push(other);
                continue;
            }
            None => {
                out.push('%');
                break;
            }
        };
        escape(&value, &mut out);
    }
    out
}

fn parameters(m: &Message, said: &receipt::Received<'_>) -> String {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let moment = |unix: i64| text(&switchroom_wire::smpp::time::short(unix, 0));
    let id = text(said.id);
    let list = [
        ("id", id.clone()),
        ("id_smsc", id),
        ("level", "2".to_owned()),
        ("message_status", text(said.stat)),
        ("subdate", moment(said.submit.unwrap_or(m.submitted))),
        ("donedate", moment(m.submitted)),
        ("sub", format!("{:03}", said.submitted.unwrap_or(1))),
        ("dlvrd", format!("{:03}", said.delivered.unwrap_or(0))),
        ("err", text(said.error)),
        ("text", text(said.text)),
    ];
    let mut out = String::with_capacity(160);
    for (name, value) in list {
        if !out.is_empty() {
            out.push('&');
        }
        out.push_str(name);
        out.push('=');
        escape(&value, &mut out);
    }
    out
}

fn escape(value: &str, out: &mut String) {
    for b in value.bytes() {
        match b {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(b)),
            _ => {
                out.push('%');
                out.extend([b >> 4, b & 15].map(|d| char::from_digit(u32::from(d), 16).unwrap_or('0')));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{Nature, sample};
    use super::*;

    fn message() -> Message {
        let mut m = sample(9, "report:shop");
        m.nature = Nature::Receipt;
        m.content.text = b"id:7 sub:001 dlvrd:001 submit date:2601010000 done date:2601010001 stat:DELIVRD err:000 Text:hi & bye"
            .as_slice()
            .into();
        m
    }

    #[test]
    fn codes_of_kannel_are_filled_and_other_escapes_stay() {
        let call = call(KANNEL, "http://x/?t=%d&id=%F&from=%p&x=%20%%&end=%", &message());
        assert_eq!(call.url, "http://x/?t=1&id=7&from=Shop&x=%20%25&end=%");
        assert_eq!(call.method, "GET");
    }

    #[test]
    fn parameters_of_jasmin_go_in_the_url_or_the_body() {
        let get = call(JASMIN_GET, "http://x/dlr", &message());
        assert!(
            get.url.starts_with("http://x/dlr?id=7&id_smsc=7&level=2&message_status=DELIVRD&"),
            "{}",
            get.url
        );
        assert!(get.url.ends_with("&text=hi%20%26%20bye"), "{}", get.url);
        let post = call(JASMIN_POST, "http://x/dlr", &message());
        assert_eq!((post.method.as_str(), post.url.as_str()), ("POST", "http://x/dlr"));
        assert!(post.body.starts_with(b"id=7&"));
    }
}
