//! The parameters of Kannel's `sendsms` and of Jasmin's HTTP API, so that customers move without changing code.

use std::collections::HashMap;
use std::sync::Arc;

use switchroom_kernel::Kernel;
use switchroom_kernel::oneshot;
use switchroom_kernel::ports::http::{HttpRequest, HttpResponse};
use switchroom_kernel::ports::net::BoxFuture;
use switchroom_money::credit::api::Credit;
use switchroom_money::credit::money;
use switchroom_wire::smpp::Status;

use super::{centre, httpd, now, parameters};
use crate::imdn::Asked;
use crate::smsc::centre::Centre;
use crate::smsc::customer::Customer;
use crate::smsc::report;
use crate::smsc::text::{Refused, Wish, send};

type Parameters = HashMap<String, String>;

/// `/cgi-bin/sendsms`
pub fn kannel(kernel: Arc<Kernel>, request: HttpRequest) -> BoxFuture<HttpResponse> {
    if !request.path.trim_end_matches('/').ends_with("/sendsms") {
        return now(httpd::plain(404, "Not found"));
    }
    let p = parameters(&request);
    Box::pin(async move {
        let centre = centre(&kernel);
        let (user, password) = (either(&p, "username", "user"), either(&p, "password", "pass"));
        let Some(customer) = login(&centre, &user, &password, &request).await else {
            return httpd::plain(403, "Authorization failed for sendsms");
        };
        let minutes = |name: &str| get(&p, name).parse::<i64>().ok().map(|m| centre.now() + m * 60);
        let class = get(&p, "mclass").parse().ok().filter(|c| *c <= 3);
        let wish = Wish {
            from: get(&p, "from"),
            text: get(&p, "text"),
            ucs2: get(&p, "coding") == "2",
            class,
            priority: get(&p, "priority").parse().unwrap_or(0).min(3),
            // Success 1, failure 2; what lies between is not said in receipts.
            receipts: match get(&p, "dlr-mask").parse().unwrap_or(0) & 3 {
                0 => 0,
                1 => 3,
                2 => 2,
                _ => 1,
            },
            schedule: minutes("deferred"),
            validity: minutes("validity"),
            asked: None,
        };
        let to = get(&p, "to");
        if to.trim().is_empty() {
            return httpd::plain(400, "Missing receiver and/or from number");
        }
        let mut failed = None;
        let recipients: Vec<&str> = to.split_whitespace().collect();
        for to in &recipients {
            // Each recipient's message ends by itself.
            let asked = page(&customer, &centre, &get(&p, "dlr-url"), report::KANNEL);
            if let Err(e) = send(&centre, &customer, to, &Wish { asked, ..wish.clone() }).await {
                failed = Some(e);
            }
        }
        match failed {
            None => httpd::plain(202, "0: Accepted for delivery"),
            Some(Refused::Status(s)) if s == Status::MSGQFUL || s.is_temporary() => {
                httpd::plain(503, format!("3: {}", s.text()))
            }
            Some(e) => httpd::plain(403, format!("4: {e}")),
        }
    })
}

/// `/send`, `/balance`, `/ping`
pub fn jasmin(kernel: Arc<Kernel>, request: HttpRequest) -> BoxFuture<HttpResponse> {
    let path = request.path.trim_matches('/').to_owned();
    if path == "ping" {
        return now(httpd::plain(200, "Jasmin/PONG"));
    }
    let p = parameters(&request);
    Box::pin(async move {
        let centre = centre(&kernel);
        let (user, password) = (get(&p, "username"), get(&p, "password"));
        let Some(customer) = login(&centre, &user, &password, &request).await else {
            return httpd::plain(403, format!("Error \"Authentication failure for username:{user}\""));
        };
        if path == "balance" {
            let shown = kernel.find::<Arc<Credit>>().and_then(|c| c.show(&customer.account().credit).ok());
            let balance = shown.map_or_else(|| "\"ND\"".into(), |s| money::format(s.balance));
            let body = format!("{{\"balance\": {balance}, \"sms_count\": \"ND\"}}");
            return httpd::answer(200, "application/json", body);
        }
        let to = get(&p, "to");
        if to.is_empty() {
            return httpd::plain(400, "Error \"Mandatory argument [to] is not found.\"");
        }
        let text = match p.get("hex-content") {
            Some(hex) => match hex_text(hex) {
                Some(text) => text,
                None => return httpd::plain(400, "Error \"Argument [hex-content] has an invalid value.\""),
            },
            None => get(&p, "content"),
        };
        let coding = get(&p, "coding");
        let wish = Wish {
            from: get(&p, "from"),
            text,
            ucs2: coding == "8",
            priority: get(&p, "priority").parse().unwrap_or(0).min(3),
            receipts: match (get(&p, "dlr").as_str(), get(&p, "dlr-level").as_str()) {
                ("yes", _) => 1,
                _ => 0,
            },
            validity: get(&p, "validity-period").parse::<i64>().ok().map(|m| centre.now() + m * 60),
            // Level 1 asks for no more than the answer to this request says.
            asked: match (get(&p, "dlr").as_str(), get(&p, "dlr-level").as_str()) {
                ("yes", level) if level != "1" => {
                    let post = !get(&p, "dlr-method").eq_ignore_ascii_case("get");
                    let how = if post { report::JASMIN_POST } else { report::JASMIN_GET };
                    page(&customer, &centre, &get(&p, "dlr-url"), how)
                }
                _ => None,
            },
            ..Wish::default()
        };
        match send(&centre, &customer, &to, &wish).await {
            Ok(ids) => {
                let id = ids.first().map(u64::to_string).unwrap_or_default();
                httpd::plain(200, format!("Success \"{id}\""))
            }
            Err(Refused::Status(Status::NOROUTE)) => httpd::plain(412, "Error \"No route found\""),
            Err(Refused::Status(Status::THROTTLED)) => {
                httpd::plain(403, "Error \"User throughput exceeded\"")
            }
            Err(Refused::Status(Status::NOFUNDS | Status::NOTARIFF)) => {
                httpd::plain(403, "Error \"Cannot charge submit_sm, check RouterPB log file for details\"")
            }
            Err(e) => httpd::plain(500, format!("Error \"{e}\"")),
        }
    })
}

/// The page that is to be called with the end of a message; without one the account is told.
fn page(customer: &Customer, centre: &Centre, url: &str, how: &str) -> Option<Asked> {
    let is_page = url.starts_with("http://") || url.starts_with("https://");
    (is_page && url.len() <= 2000)
        .then(|| Asked::by_page(&customer.name, format!("page {}", centre.next_id()), how, url))
}

/// Hexadecimal octets, UTF-16 in network order.
fn hex_text(hex: &str) -> Option<String> {
    let digits: Option<Vec<u8>> = hex.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
    let digits = digits.filter(|d| d.len() % 4 == 0)?;
    let units: Vec<u16> =
        digits.chunks_exact(4).map(|c| c.iter().fold(0, |n, d| n << 4 | u16::from(*d))).collect();
    String::from_utf16(&units).ok()
}

async fn login(
    centre: &Arc<Centre>,
    user: &str,
    password: &str,
    request: &HttpRequest,
) -> Option<Arc<Customer>> {
    let customer = centre.customer(user)?;
    let account = customer.account();
    if !account.enabled || !account.admits(request.peer.ip()) {
        return None;
    }
    let (tell, told) = oneshot::channel();
    let checked = Box::new(move |right| tell.send(right));
    if !centre.verifier.check(account.password.clone(), password.as_bytes().to_vec(), checked) {
        return None;
    }
    told.await.unwrap_or(false).then_some(customer)
}

fn get(p: &Parameters, name: &str) -> String {
    p.get(name).cloned().unwrap_or_default()
}

fn either(p: &Parameters, name: &str, other: &str) -> String {
    p.get(name).or_else(|| p.get(other)).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_content_is_utf_16() {
        assert_eq!(hex_text("041F0440").unwrap(), "Пр");
        assert_eq!(hex_text("041"), None);
        assert_eq!(hex_text("D83D"), None);
    }
}
