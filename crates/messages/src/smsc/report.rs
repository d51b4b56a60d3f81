//! Pages that customers name with a message, to be called with its end: `dlr-url` in the manners of Kannel and of Jasmin.
//!
//! Only the end of a message is told, not that it was accepted; the answer to the request has said that.

use std::sync::Arc;

use switchroom_kernel::ports::http::HttpCall;
use switchroom_wire::smpp::{Status, receipt};

use super::centre::{Centre, Outcome, Outlet};
use super::message::Message;
use super::web::{self, Calls};

/// Manner: a GET of a URL with `%` codes.
pub const KANNEL: &str = "kannel";
/// Manner: a GET with parameters.
pub const JASMIN_GET: &str = "jasmin-get";
/// Manner: a POST with parameters.
pub const JASMIN_POST: &str = "jasmin-post";

/// The pages of one account.
#[derive(Default)]
pub struct Reports {
    calls: Calls,
}

impl Outlet for Reports {
    fn room(&self) -> usize {
        self.calls.room()
    }

    fn send(&self, centre: &Arc<Centre>, message: &Message) -> bool {
        if self.room() == 0 {
            return false;
        }
        match message.asked.as_ref().and_then(|a| a.page()) {
            Some((how, url)) => self.calls.begin(centre, message.id, call(how, url, message)),
            None => centre.outcome(message.id, Outcome::Permanent(Status::SYSERR)),
        }
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
    web::call(if body.is_empty() { "GET" } else { "POST" }, url, headers, body)
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
