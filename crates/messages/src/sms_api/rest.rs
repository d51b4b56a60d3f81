//! The JSON API: `/sms/v1/messages`, `/sms/v1/webhooks`, `/sms/v1/balance`, `/sms/v1/openapi.json`.

use std::sync::Arc;

use serde_json::{Value as Json, json};
use switchroom_kernel::Kernel;
use switchroom_kernel::ports::http::{HttpRequest, HttpResponse};
use switchroom_kernel::ports::net::BoxFuture;
use switchroom_money::credit::api::Credit;
use switchroom_money::credit::money;
use switchroom_wire::smpp::receipt;

use super::requests::{self, Known};
use super::{Api, centre, httpd, now, parameters};
use crate::smsc::accounts::hash_key;
use crate::smsc::centre::Centre;
use crate::smsc::customer::Customer;
use crate::smsc::text::{Refused, Wish, send};

/// Answers one request.
pub fn answer(kernel: Arc<Kernel>, request: HttpRequest) -> BoxFuture<HttpResponse> {
    let parts: Vec<&str> = request.path.trim_matches('/').split('/').skip(1).collect();
    if let ["v1", "openapi.json"] = parts[..] {
        return now(json(200, &openapi(&kernel.state::<Api>().root)));
    }
    let centre = centre(&kernel);
    let Some(customer) = authenticate(&centre, &request) else {
        return now(problem(
            401,
            "the header X-Api-Key, or Authorization: Bearer, must have a key of an account",
        ));
    };
    match (request.method.as_str(), &parts[..]) {
        ("POST", ["v1", "messages"]) => {
            Box::pin(async move { post(&kernel, &centre, &customer, &request).await })
        }
        ("GET", ["v1", "messages", id]) => match id.parse() {
            Ok(id) => Box::pin(async move { state(&centre, &customer, id).await }),
            Err(_) => now(problem(404, "a message id is a number")),
        },
        ("DELETE", ["v1", "messages", id]) => {
            let done = id.parse().is_ok_and(|id| centre.cancel(&customer.name, id));
            now(match done {
                true => json(200, &json!({"id": id, "state": "DELETED"})),
                false => problem(409, "no message of this id waits"),
            })
        }
        ("GET", ["v1", "webhooks"]) => {
            let failed = parameters(&request).get("state").is_some_and(|s| s == "failed");
            Box::pin(async move {
                match centre.posts(&customer.name, failed, 100).await {
                    Ok(posts) => json(200, &json!({"webhooks": posts})),
                    Err(e) => {
                        tracing::error!("sms_api: webhooks: {e}");
                        problem(503, "not now")
                    }
                }
            })
        }
        ("GET", ["v1", "balance"]) => now(balance(&kernel, &customer)),
        (_, ["v1", "messages" | "balance" | "webhooks", ..]) => now(problem(405, "GET, POST or DELETE")),
        _ => now(problem(404, "there are v1/messages, v1/webhooks, v1/balance and v1/openapi.json")),
    }
}

fn authenticate(centre: &Centre, request: &HttpRequest) -> Option<Arc<Customer>> {
    let header = |name: &str| request.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.trim());
    let bearer = header("authorization").and_then(|v| v.strip_prefix("Bearer "));
    let hash = hash_key(header("x-api-key").or(bearer)?.trim());
    centre.customers().into_iter().find(|c| {
        let account = c.account();
        // Hashes of random keys: comparing them tells nothing about a key.
        account.enabled && account.api_key == hash && account.admits(request.peer.ip())
    })
}

async fn post(
    kernel: &Arc<Kernel>,
    centre: &Arc<Centre>,
    customer: &Arc<Customer>,
    request: &HttpRequest,
) -> HttpResponse {
    let key = request.headers.iter().find(|(n, _)| n == "idempotency-key").map(|(_, v)| v.clone());
    match key.filter(|k| !k.is_empty() && k.len() <= 255) {
        Some(key) => once(kernel, centre, customer, request, &key).await,
        None => {
            let (status, body) = submit(kernel, centre, customer, request).await;
            httpd::answer(status, JSON, body.to_string())
        }
    }
}

/// A request with a key, which is done once.
async fn once(
    kernel: &Arc<Kernel>,
    centre: &Arc<Centre>,
    customer: &Arc<Customer>,
    request: &HttpRequest,
    key: &str,
) -> HttpResponse {
    let store = &*centre.base.store;
    match requests::begin(store, &customer.name, key, centre.now()).await {
        Ok(Known::New) => {}
        Ok(Known::Answered(status, body)) => return httpd::answer(status, JSON, body),
        Ok(Known::Open) => {
            let text = "a request with this key is being answered, or the server ended before it was";
            return problem(409, text);
        }
        Err(e) => {
            tracing::error!("sms_api: a request with a key cannot be noted: {e}");
            return problem(503, "the key cannot be noted now; nothing was done");
        }
    }
    let (status, body) = submit(kernel, centre, customer, request).await;
    let body = body.to_string();
    if let Err(e) = requests::end(store, &customer.name, key, status, &body).await {
        tracing::error!("sms_api: the answer to a request with a key is not kept: {e}");
    }
    httpd::answer(status, JSON, body)
}

async fn submit(
    kernel: &Arc<Kernel>,
    centre: &Arc<Centre>,
    customer: &Arc<Customer>,
    request: &HttpRequest,
) -> (u16, Json) {
    let wrong = |text: &str| (400, json!({"error": text}));
    let Ok(body) = serde_json::from_slice::<Json>(&request.body) else {
        return wrong("the body must be JSON, such as {\"to\": \"+49...\", \"text\": \"...\"}");
    };
    let recipients: Vec<(String, Json)> = match &body["to"] {
        Json::String(to) => vec![(to.clone(), Json::Null)],
        Json::Array(list) => list
            .iter()
            .map(|one| match one {
                Json::String(to) => (to.clone(), Json::Null),
                other => (other["to"].as_str().unwrap_or_default().to_owned(), other["data"].clone()),
            })
            .collect(),
        _ => return wrong("\"to\" must be a number, or a list of numbers or of {\"to\", \"data\"}"),
    };
    let most = kernel.state::<Api>().max_bulk;
    if recipients.is_empty() || recipients.len() > most {
        return wrong(&format!("there must be 1 to {most} recipients"));
    }
    let Some(text) = body["text"].as_str() else { return wrong("\"text\" must be a string") };
    let moment = |name: &str| match &body[name] {
        Json::Null => Ok(None),
        value => value.as_i64().map(Some).ok_or(()),
    };
    let (Ok(schedule), Ok(validity)) = (moment("schedule"), moment("validity")) else {
        return wrong("\"schedule\" is in unix seconds, \"validity\" in seconds");
    };
    let wish = Wish {
        from: body["from"].as_str().unwrap_or_default().to_owned(),
        text: String::new(),
        ucs2: body["coding"] == "ucs2",
        class: body["flash"].as_bool().filter(|f| *f).map(|_| 0),
        priority: body["priority"].as_u64().unwrap_or(0).min(3) as u8,
        receipts: u8::from(body["receipt"].as_bool().unwrap_or(true)),
        schedule,
        validity: validity.map(|v| schedule.unwrap_or(0).max(centre.now()).saturating_add(v)),
        ..Wish::default()
    };
    let mut results = Vec::with_capacity(recipients.len());
    let mut accepted = 0;
    for (to, data) in recipients {
        let wish = Wish { text: fill(text, &data), ..wish.clone() };
        results.push(match send(centre, customer, &to, &wish).await {
            Ok(ids) => {
                accepted += 1;
                let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
                json!({"to": to, "id": ids.first(), "ids": ids, "parts": ids.len()})
            }
            Err(Refused::Status(s)) => {
                json!({"to": to, "error": s.text(), "code": format!("0x{:04X}", s.0)})
            }
            Err(error) => json!({"to": to, "error": error.to_string()}),
        });
    }
    let status = if accepted > 0 { 202 } else { 422 };
    (status, json!({"accepted": accepted, "messages": results}))
}

/// `{name}` in a template becomes the recipient's own word.
fn fill(template: &str, data: &Json) -> String {
    let Json::Object(words) = data else { return template.to_owned() };
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        match after.split_once('}').and_then(|(name, later)| Some((words.get(name)?, later))) {
            Some((word, later)) => {
                match word {
                    Json::String(s) => out.push_str(s),
                    other => out.push_str(&other.to_string()),
                }
                rest = later;
            }
            None => {
                out.push('{');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

async fn state(centre: &Arc<Centre>, customer: &Customer, id: u64) -> HttpResponse {
    match centre.query(&customer.name, id).await {
        Some((state, done, error)) => {
            let body =
                json!({"id": id.to_string(), "state": receipt::word(state), "done": done, "error": error});
            json(200, &body)
        }
        None => problem(404, "there is no message of this id"),
    }
}

fn balance(kernel: &Kernel, customer: &Customer) -> HttpResponse {
    let account = customer.account();
    let shown = kernel.find::<Arc<Credit>>().and_then(|c| c.show(&account.credit).ok());
    match shown {
        Some(s) => json(
            200,
            &json!({
                "balance": money::format(s.balance), "reserved": money::format(s.reserved),
                "currency": s.settings.currency,
            }),
        ),
        None => json(200, &json!({"balance": null, "reserved": null, "currency": null})),
    }
}

const JSON: &str = "application/json; charset=utf-8";

fn json(status: u16, body: &Json) -> HttpResponse {
    httpd::answer(status, JSON, body.to_string())
}

fn problem(status: u16, text: &str) -> HttpResponse {
    json(status, &json!({"error": text}))
}

fn openapi(root: &str) -> Json {
    let answer = |text: &str| json!({"description": text});
    let id = json!([{"name": "id", "in": "path", "required": true, "schema": {"type": "string"}}]);
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Switchroom messages", "version": env!("CARGO_PKG_VERSION")},
        "components": {
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"}},
            "schemas": {"Message": {
                "type": "object",
                "required": ["to", "text"],
                "properties": {
                    "from": {"type": "string", "description": "Sender; the account's when it is missing"},
                    "to": {
                        "description": "A number, or a list of numbers or of recipients with words for the template",
                        "oneOf": [
                            {"type": "string"},
                            {"type": "array", "items": {"oneOf": [
                                {"type": "string"},
                                {"type": "object", "properties": {"to": {"type": "string"}, "data": {"type": "object"}}},
                            ]}},
                        ],
                    },
                    "text": {"type": "string", "description": "Text, or a template with {words}"},
                    "schedule": {"type": "integer", "description": "Unix seconds"},
                    "validity": {"type": "integer", "description": "Seconds"},
                    "priority": {"type": "integer", "minimum": 0, "maximum": 3},
                    "flash": {"type": "boolean"},
                    "coding": {"type": "string", "enum": ["ucs2"]},
                    "receipt": {"type": "boolean", "default": true},
                },
            }},
        },
        "security": [{"key": []}],
        "paths": {
            format!("/{root}/v1/messages"): {"post": {
                "summary": "Send to one or many, now or later",
                "parameters": [{"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "maxLength": 255}}],
                "requestBody": {"required": true, "content": {"application/json": {
                    "schema": {"$ref": "#/components/schemas/Message"},
                }}},
                "responses": {
                    "202": answer("At least one recipient was accepted"), "400": answer("The request is wrong"),
                    "401": answer("No such key"), "409": answer("The same key is being answered, or was never answered"),
                    "422": answer("No recipient was accepted"),
                },
            }},
            format!("/{root}/v1/messages/{{id}}"): {
                "parameters": id,
                "get": {"summary": "State of a message", "responses": {"200": answer("State"), "404": answer("Unknown")}},
                "delete": {"summary": "Cancel a message that waits", "responses": {
                    "200": answer("Cancelled"), "409": answer("It does not wait any more"),
                }},
            },
            format!("/{root}/v1/webhooks"): {"get": {
                "summary": "Messages and receipts that the webhook has not taken",
                "parameters": [{"name": "state", "in": "query", "schema": {"type": "string", "enum": ["pending", "failed"]}}],
                "responses": {"200": answer("The newest hundred")},
            }},
            format!("/{root}/v1/balance"): {"get": {"summary": "Money of the account", "responses": {"200": answer("Balance")}}},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_take_the_recipients_words() {
        let data = json!({"name": "Ana", "n": 3});
        assert_eq!(fill("Hi {name}, {n} new {x} {", &data), "Hi Ana, 3 new {x} {");
        assert_eq!(fill("Hi {name}", &Json::Null), "Hi {name}");
    }

    #[test]
    fn the_description_names_every_path() {
        let paths = openapi("sms")["paths"].clone();
        assert!(paths["/sms/v1/messages"]["post"].is_object());
        assert!(paths["/sms/v1/messages/{id}"]["delete"].is_object());
        assert!(paths["/sms/v1/balance"]["get"].is_object());
    }
}
