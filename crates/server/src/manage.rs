//! `switchroom mi`: a management command on a running server, over mi_http or mi_fifo.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};

use crate::cli::{MiArgs, TraceArgs};

/// Run one command and print its result.
pub fn manage(args: &MiArgs) -> anyhow::Result<ExitCode> {
    match ask(&args.url, args.fifo.as_deref(), &args.command, params(&args.args)?)? {
        Ok(Value::String(s)) => println!("{s}"),
        Ok(other) => println!("{}", serde_json::to_string_pretty(&other)?),
        Err(error) => {
            eprintln!("{error}");
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Print the time line of a call.
pub fn trace(args: &TraceArgs) -> anyhow::Result<ExitCode> {
    let params = json!({"callid": args.call_id});
    let told = match ask(&args.url, args.fifo.as_deref(), "trace:call", params)? {
        Ok(told) => told,
        Err(error) => {
            eprintln!("{error}");
            return Ok(ExitCode::FAILURE);
        }
    };
    println!("{:>10}  {:<11} call {}", "ms", "", args.call_id);
    for note in told["notes"].as_array().into_iter().flatten() {
        let text = |name: &str| note[name].as_str().unwrap_or_default().to_owned();
        println!("{:>10.3}  {:<11} {}", note["ms"].as_f64().unwrap_or(0.0), text("kind"), text("text"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The result of a command, or the error that the server gave.
fn ask(
    url: &str,
    fifo: Option<&Path>,
    command: &str,
    params: Value,
) -> anyhow::Result<Result<Value, String>> {
    let request = json!({"jsonrpc": "2.0", "method": command, "params": params, "id": 1});
    let answer = match fifo {
        Some(fifo) => over_fifo(fifo, &request)?,
        None => over_http(url, &request)?,
    };
    let answer: Value = serde_json::from_slice(&answer).context("the answer is no JSON")?;
    if let Some(error) = answer.get("error") {
        return Ok(Err(error.get("message").and_then(Value::as_str).unwrap_or("failed").to_owned()));
    }
    match answer.get("result") {
        Some(result) => Ok(Ok(result.clone())),
        None => bail!("the answer has neither result nor error"),
    }
}

/// All by position, or all as name=value.
fn params(args: &[String]) -> anyhow::Result<Value> {
    let value = |text: &str| match text.parse::<i64>() {
        Ok(n) if n.to_string() == text => json!(n),
        _ => json!(text),
    };
    let named: Vec<_> = args.iter().filter_map(|a| a.split_once('=')).collect();
    let is_name = |n: &str| n.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !args.is_empty() && named.len() == args.len() && named.iter().all(|(n, _)| is_name(n)) {
        let map: Map<String, Value> = named.into_iter().map(|(n, v)| (n.to_owned(), value(v))).collect();
        return Ok(Value::Object(map));
    }
    Ok(Value::Array(args.iter().map(|a| value(a)).collect()))
}

fn over_http(url: &str, request: &Value) -> anyhow::Result<Vec<u8>> {
    let rest = url.strip_prefix("http://").with_context(|| format!("\"{url}\" is no http:// address"))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let mut stream = TcpStream::connect(&address)
        .with_context(|| format!("no server answers at {address}; is mi_http loaded there?"))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let body = serde_json::to_vec(request)?;
    write!(
        stream,
        "POST /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").context("the answer is no HTTP")?;
    let status =
        String::from_utf8_lossy(&answer[..answer.iter().position(|b| *b == b'\r').unwrap_or(0)]).into_owned();
    if !status.contains(" 200") {
        bail!("{address} answers {status}");
    }
    Ok(answer.split_off(end + 4))
}

fn over_fifo(fifo: &Path, request: &Value) -> anyhow::Result<Vec<u8>> {
    let name = format!("switchroom_reply_{}", std::process::id());
    let reply = Path::new("/tmp").join(&name);
    let made = std::process::Command::new("mkfifo").arg(&reply).status().context("mkfifo")?;
    anyhow::ensure!(made.success(), "cannot make {}", reply.display());
    let result = (|| {
        let mut to = std::fs::OpenOptions::new()
            .write(true)
            .open(fifo)
            .with_context(|| format!("cannot open {}", fifo.display()))?;
        to.write_all(format!(":{name}:{request}\n").as_bytes())?;
        drop(to);
        std::fs::read(&reply).context("the reply FIFO")
    })();
    // The FIFO was ours; a leftover would only litter.
    let _ = std::fs::remove_file(&reply);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_go_by_position_or_by_name() {
        let p = |a: &[&str]| params(&a.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()).unwrap();
        assert_eq!(p(&["location", "5"]), json!(["location", 5]));
        assert_eq!(p(&["table_name=location", "aor=a@b"]), json!({"table_name": "location", "aor": "a@b"}));
        assert_eq!(p(&["sip:a@b;x=1"]), json!(["sip:a@b;x=1"]));
    }
}
