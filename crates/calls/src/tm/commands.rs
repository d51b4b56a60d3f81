//! Management commands of transactions.

use std::rc::Rc;

use bytes::Bytes;
use serde_json::{Value as Json, json};
use switchroom_engine::transaction::Id;
use switchroom_kernel::Kernel;
use switchroom_kernel::module::{Command, CommandCall, CommandError, CommandResult};
use switchroom_script::names::RouteType;
use switchroom_wire::sip::Uri;

use super::local::{Request, request};
use super::state::Transactions;
use super::step;
use super::variables::by_name;

/// The table.
pub(super) static COMMANDS: &[Command] = &[
    Command {
        name: "tm:uac_dlg",
        old_names: &["t_uac_dlg"],
        args: "method,ruri,headers,[next_hop],[socket],[body]",
        help: "Send a request and give its final reply",
        run: |call| Box::pin(uac(call)),
    },
    Command {
        name: "tm:uac_cancel",
        old_names: &["t_uac_cancel"],
        args: "callid,cseq",
        help: "Cancel a pending INVITE",
        run: |call| Box::pin(cancel(call)),
    },
    Command {
        name: "tm:reply",
        old_names: &["t_reply"],
        args: "code,reason,trans_id,to_tag,[new_headers],[body]",
        help: "Answer a pending transaction, named as in $T_id",
        run: |call| Box::pin(reply(call)),
    },
    Command {
        name: "tm:hash",
        old_names: &["t_hash"],
        args: "",
        help: "Transactions by worker",
        run: |call| Box::pin(hash(call)),
    },
];

/// `From: ...|To: ...|Call-ID: ...`: header lines separated by line ends or `|`.
fn split_headers(text: &str) -> Vec<(String, String)> {
    let lines = text.split(['\n', '|']).map(|l| l.trim_end_matches('\r').trim());
    lines.filter_map(|l| l.split_once(':')).map(|(n, v)| (n.trim().to_owned(), v.trim().to_owned())).collect()
}

async fn uac(call: CommandCall) -> CommandResult {
    let text = |name: &str| call.text(name).filter(|t| t != ".").map(Bytes::from);
    let ruri = text("ruri").unwrap_or_default();
    if Uri::parse(&ruri).is_err() {
        return Err(CommandError::args("`ruri` is no URI"));
    }
    let mut r = Request { method: text("method").unwrap_or_default(), ruri, ..Request::default() };
    r.next_hop = text("next_hop");
    let mut rest = Vec::new();
    let mut content_type = None;
    for (name, value) in split_headers(&call.text("headers").unwrap_or_default()) {
        match name.to_ascii_lowercase().as_str() {
            "from" | "f" => r.from = value.into(),
            "to" | "t" => r.to = value.into(),
            "call-id" | "i" => r.call_id = Some(value.into()),
            "cseq" => r.cseq = value.split_whitespace().next().and_then(|n| n.parse().ok()),
            "content-type" | "c" => content_type = Some(Bytes::from(value)),
            "content-length" | "l" | "via" | "v" | "max-forwards" => {}
            _ => rest.extend_from_slice(format!("{name}: {value}\r\n").as_bytes()),
        }
    }
    if r.from.is_empty() || r.to.is_empty() {
        return Err(CommandError::args("`headers` must have From and To"));
    }
    r.headers = rest.into();
    r.body = text("body").map(|b| (content_type.unwrap_or_else(|| Bytes::from_static(b"text/plain")), b));
    if let Some(name) = call.text("socket").filter(|s| s != ".") {
        let found = call.kernel.sockets().iter().find(|s| s.name() == name || s.tag.as_ref() == Some(&name));
        r.socket = Some(found.ok_or_else(|| CommandError::args(format!("no socket \"{name}\"")))?.id);
    }
    let (answer, wait) = switchroom_kernel::oneshot::channel::<Json>();
    let posted = call.kernel.on_worker(0, move |shard| {
        let answer = std::cell::Cell::new(Some(answer));
        let on_final = move |_: &Rc<switchroom_kernel::Shard>,
                             code: u16,
                             reply: Option<&switchroom_wire::sip::Message>| {
            let text = reply.map(|m| String::from_utf8_lossy(m.raw()).into_owned());
            let reason = match reply {
                Some(m) => String::from_utf8_lossy(m.reason()).into_owned(),
                None => switchroom_wire::sip::reply::phrase(code).to_owned(),
            };
            if let Some(answer) = answer.take() {
                answer.send(json!({"Status": format!("{code} {reason}"), "Message": text}));
            }
        };
        request(shard, r, Rc::new(on_final));
    });
    if !posted {
        return Err(CommandError::new(503, "the worker is busy"));
    }
    wait.await.ok_or_else(|| CommandError::new(500, "the request was lost"))
}

/// `tm:reply`: `.` leaves an optional argument out, and the body's type is the Content-Type among the new headers.
async fn reply(call: CommandCall) -> CommandResult {
    let code = call.int("code")?.and_then(|c| u16::try_from(c).ok()).filter(|c| (100..700).contains(c));
    let code = code.ok_or_else(|| CommandError::args("`code` must be a number from 100 to 699"))?;
    let text = |name: &str| call.text(name).filter(|t| t != ".").unwrap_or_default();
    let name = text("trans_id");
    let Some((worker, id)) = by_name(&name).filter(|(w, _)| *w < call.kernel.workers) else {
        return Err(CommandError::args("`trans_id` must be what $T_id gives, such as 0.17.3"));
    };
    let (reason, tag, body) = (text("reason"), Bytes::from(text("to_tag")), Bytes::from(text("body")));
    let mut headers = Vec::new();
    let mut content_type = Bytes::from_static(b"application/sdp");
    for (name, value) in split_headers(&text("new_headers")) {
        if name.eq_ignore_ascii_case("content-type") {
            content_type = value.into();
        } else {
            headers.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
    }
    let (answer, wait) = switchroom_kernel::oneshot::channel::<bool>();
    let posted = call.kernel.on_worker(worker, move |shard| {
        let Some(mut ctx) = super::replies::context(shard, id, RouteType::Failure) else {
            return answer.send(false);
        };
        if !tag.is_empty() {
            shard.part::<Transactions>().with(id, |t| t.to_tag = tag);
        }
        let body = (!body.is_empty()).then_some((&content_type[..], &body[..]));
        answer.send(super::api::reply(&mut ctx, code, reason.as_bytes(), &headers, body));
    });
    match wait.await.filter(|_| posted) {
        Some(true) => Ok(json!("OK")),
        Some(false) => Err(CommandError::new(404, "No such transaction, or it has its final reply")),
        None => Err(CommandError::new(503, "the worker is busy")),
    }
}

/// Run something on every worker and collect what each gives.
async fn on_all<T: Send + 'static>(
    kernel: &Kernel,
    work: impl Fn(&Rc<switchroom_kernel::Shard>) -> T + Send + Clone + 'static,
) -> Vec<T> {
    let mut waits = Vec::new();
    for worker in 0..kernel.workers {
        let (answer, wait) = switchroom_kernel::oneshot::channel::<T>();
        let work = work.clone();
        if kernel.on_worker(worker, move |shard| answer.send(work(shard))) {
            waits.push(wait);
        }
    }
    let mut all = Vec::new();
    for w in waits {
        all.extend(w.await);
    }
    all
}

async fn hash(call: CommandCall) -> CommandResult {
    let counts =
        on_all(&call.kernel, |shard| (shard.worker, shard.part::<Transactions>().table(|t| t.len()))).await;
    let rows = counts.into_iter().map(|(worker, n)| json!({"worker": worker, "transactions": n}));
    Ok(Json::Array(rows.collect()))
}

async fn cancel(call: CommandCall) -> CommandResult {
    let call_id = call.text("callid").unwrap_or_default();
    let cseq = call.int("cseq")?.unwrap_or(0);
    let done = on_all(&call.kernel, move |shard| {
        let part = shard.part::<Transactions>();
        let found: Vec<Id> = part.table(|t| {
            let fits = t.iter().filter(|(_, tx)| {
                let m = &tx.request;
                m.call_id() == call_id.as_bytes() && m.cseq().is_ok_and(|c| i64::from(c.0) == cseq)
            });
            fits.map(|(id, _)| id).collect()
        });
        for id in &found {
            step(shard, *id, |t, now, sink| {
                t.core.cancel(now, &[], sink);
            });
        }
        found.len()
    })
    .await;
    if done.iter().sum::<usize>() == 0 {
        return Err(CommandError::new(404, "No such transaction"));
    }
    Ok(json!("OK"))
}
