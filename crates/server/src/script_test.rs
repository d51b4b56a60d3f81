//! `switchroom test`: unit tests of a routing script. A request goes in, the expected outcome is stated; time is virtual
//! and there are no sockets, so a test of a two-hour call takes no time.
//!
//! A file of tests is lines of commands; what belongs to a command stands below it, indented:
//!
//! ```text
//! script residential.cfg
//! rows FROM subscriber
//!     secret | 1
//!
//! test an unknown user is not found
//! request from 192.0.2.10:5060
//!     INVITE sip:nobody@example.org
//! expect reply 404
//! expect nothing
//! ```
//!
//! Commands: `script FILE`, `option NAME=VALUE`, `rows TEXT` (rows for statements that contain the text), `test NAME`,
//! `request [from ADDRESS]`, `reply [from ADDRESS]` (to the last request that went there), `advance 5s`, `expect reply
//! CODE`, `expect relay [to ADDRESS]` and `expect nothing`. Lines below `expect` must all be found in the message.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use switchroom_kernel::load::Source;
use switchroom_kernel::ports::net::Proto;
use switchroom_kernel::ports::store::SqlValue;
use switchroom_rehearsal::{Rehearsal, Sent};

use crate::cli::TestArgs;
use crate::rehearse::{self, Rows, stage};

/// Run all files and report.
pub fn test(args: &TestArgs) -> anyhow::Result<ExitCode> {
    let (mut passed, mut failed) = (0, 0);
    for file in &args.files {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let suite = Suite::read(&text, file).map_err(|e| anyhow::anyhow!("{}:{e}", file.display()))?;
        for case in &suite.tests {
            match suite.run(case) {
                Ok(()) => {
                    passed += 1;
                    println!("ok      {}", case.name);
                }
                Err(why) => {
                    failed += 1;
                    println!("FAILED  {}\n{}:{why}", case.name, file.display());
                }
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

const PEER: ([u8; 4], u16) = ([192, 0, 2, 10], 5060);

#[derive(Default)]
struct Suite {
    script: PathBuf,
    options: Vec<(String, String)>,
    rows: Rows,
    tests: Vec<Case>,
}

struct Case {
    name: String,
    steps: Vec<(usize, Step)>,
}

enum Step {
    Request(SocketAddr, String),
    Reply(Option<SocketAddr>, String),
    Advance(Duration),
    ExpectReply(String, Vec<String>),
    ExpectRelay(Option<SocketAddr>, Vec<String>),
    ExpectNothing,
}

impl Suite {
    fn read(text: &str, file: &Path) -> Result<Suite, String> {
        let mut suite = Suite::default();
        let lines: Vec<&str> = text.lines().collect();
        let mut i = 0;
        while i < lines.len() {
            let (number, line) = (i + 1, lines[i].trim_end());
            i += 1;
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut below: Vec<&str> = Vec::new();
            while let Some(next) = lines.get(i).filter(|l| l.starts_with([' ', '\t']) || l.trim().is_empty())
            {
                below.push(next.trim());
                i += 1;
            }
            while below.last().is_some_and(|l| l.is_empty()) {
                below.pop();
            }
            suite.line(line, &below, file).map_err(|e| format!("{number}: {e}")).map(|step| {
                if let (Some(step), Some(case)) = (step, suite.tests.last_mut()) {
                    case.steps.push((number, step));
                }
            })?;
        }
        if suite.script.as_os_str().is_empty() {
            return Err("1: `script FILE` is missing".into());
        }
        Ok(suite)
    }

    fn line(&mut self, line: &str, below: &[&str], file: &Path) -> Result<Option<Step>, String> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim();
        let lines = || below.iter().filter(|l| !l.is_empty()).map(ToString::to_string).collect::<Vec<_>>();
        match word {
            "script" => self.script = file.parent().unwrap_or(Path::new(".")).join(rest),
            "option" => {
                let (name, value) = rest.split_once('=').ok_or("write: option name=value")?;
                self.options.push((name.trim().to_owned(), value.trim().to_owned()));
            }
            "rows" => {
                let rows = lines().iter().map(|l| l.split('|').map(|v| value(v.trim())).collect()).collect();
                self.rows.push((rest.to_owned(), rows));
            }
            "test" => self.tests.push(Case { name: rest.to_owned(), steps: Vec::new() }),
            _ if self.tests.is_empty() => {
                return Err(format!("`{word}` stands before the first `test NAME`, or is no command"));
            }
            "request" => {
                let from = address(rest.strip_prefix("from"))?.unwrap_or_else(|| PEER.into());
                return Ok(Some(Step::Request(from, below.join("\n"))));
            }
            "reply" => return Ok(Some(Step::Reply(address(rest.strip_prefix("from"))?, below.join("\n")))),
            "advance" => return Ok(Some(Step::Advance(duration(rest)?))),
            "expect" => {
                let (what, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                return match what {
                    "reply" => Ok(Some(Step::ExpectReply(rest.trim().to_owned(), lines()))),
                    "relay" => Ok(Some(Step::ExpectRelay(address(rest.strip_prefix("to"))?, lines()))),
                    "nothing" => Ok(Some(Step::ExpectNothing)),
                    _ => Err(format!("`expect {what}`: there are `reply`, `relay` and `nothing`")),
                };
            }
            _ => {
                return Err(format!(
                    "`{word}` is no command; there are script, option, rows, test, request, reply, advance, expect"
                ));
            }
        }
        Ok(None)
    }

    fn run(&self, case: &Case) -> Result<(), String> {
        let source = Source::File(self.script.display().to_string());
        let house = stage(source, self.rows.clone(), self.options.clone()).map_err(|e| format!("1: {e}"))?;
        let mut play = Play { house, waiting: Vec::new(), seen: Vec::new(), number: 0 };
        for (line, step) in &case.steps {
            play.step(step).map_err(|e| format!("{line}: {e}"))?;
        }
        Ok(())
    }
}

/// One test under way.
struct Play {
    house: Rehearsal,
    /// Sent and not yet expected.
    waiting: Vec<Sent>,
    /// Requests that were sent, for the replies to them.
    seen: Vec<Sent>,
    number: usize,
}

impl Play {
    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Request(from, text) => {
                self.number += 1;
                self.house.receive(*from, Proto::Udp, rehearse::request(text, *from, self.number));
                self.collect();
            }
            Step::Reply(from, text) => {
                let to = self.seen.iter().rev().find(|s| from.is_none_or(|f| f == s.to));
                let to = to.ok_or("no request went there, so nothing can be answered")?.clone();
                self.number += 1;
                self.house.receive(to.to, Proto::Udp, rehearse::reply(text, &to.text, self.number));
                self.collect();
            }
            Step::Advance(time) => {
                self.house.advance(*time);
                self.collect();
            }
            Step::ExpectReply(code, lines) => {
                let is =
                    |s: &Sent| s.text.strip_prefix("SIP/2.0 ").is_some_and(|t| t.starts_with(code.as_str()));
                self.expect(&format!("a reply {code}"), is, lines)?;
            }
            Step::ExpectRelay(to, lines) => {
                let is = |s: &Sent| !s.text.starts_with("SIP/2.0 ") && to.is_none_or(|t| t == s.to);
                let what = to.map_or("a request".to_owned(), |t| format!("a request to {t}"));
                self.expect(&what, is, lines)?;
            }
            Step::ExpectNothing => {
                if let Some(first) = self.waiting.iter().find(|s| !is_trying(s)) {
                    return Err(format!("expected nothing, but this was sent:\n{}", show(first)));
                }
            }
        }
        Ok(())
    }

    fn collect(&mut self) {
        for sent in self.house.sent() {
            if !sent.text.starts_with("SIP/2.0 ") {
                self.seen.push(sent.clone());
            }
            self.waiting.push(sent);
        }
    }

    /// Take the first message that fits and check its lines.
    fn expect(&mut self, what: &str, is: impl Fn(&Sent) -> bool, lines: &[String]) -> Result<(), String> {
        let Some(at) = self.waiting.iter().position(is) else {
            let others: Vec<String> = self.waiting.iter().filter(|s| !is_trying(s)).map(show).collect();
            let others = if others.is_empty() { "nothing".into() } else { others.join("\n") };
            return Err(format!("expected {what}, but there was only:\n{others}"));
        };
        let found = self.waiting.remove(at);
        for line in lines {
            if !found.text.contains(line.as_str()) {
                return Err(format!("expected `{line}` in {what}, which is:\n{}", show(&found)));
            }
        }
        Ok(())
    }
}

fn is_trying(s: &Sent) -> bool {
    s.text.starts_with("SIP/2.0 100 ")
}

fn show(s: &Sent) -> String {
    let lines: Vec<String> = s.text.trim_end().lines().map(|l| format!("        {l}")).collect();
    format!("    to {}\n{}", s.to, lines.join("\n"))
}

fn address(text: Option<&str>) -> Result<Option<SocketAddr>, String> {
    let Some(text) = text.map(str::trim) else { return Ok(None) };
    let whole = text.parse().or_else(|_| text.parse().map(|ip: std::net::IpAddr| SocketAddr::new(ip, 5060)));
    whole.map(Some).map_err(|_| format!("`{text}` is no address such as 192.0.2.1:5060"))
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time such as 5s, 200ms or 2m");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.trim().parse().map_err(|_| wrong())?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number)),
        "" | "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        "h" => Ok(Duration::from_secs(number * 3600)),
        _ => Err(wrong()),
    }
}

fn value(text: &str) -> SqlValue {
    match text.parse() {
        Ok(n) => SqlValue::Int(n),
        Err(_) if text == "NULL" => SqlValue::Null,
        Err(_) => SqlValue::from(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(tests: &str) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        let script = "socket=udp:127.0.0.1:5060\nloadmodule \"sl.so\"\nloadmodule \"tm.so\"\n\
            modparam(\"tm\", \"fr_inv_timeout\", 30)\nloadmodule \"sqlops.so\"\n\
            modparam(\"sqlops\", \"db_url\", \"mysql://u:p@h/d\")\n\
            route {\n if ($rU == \"nobody\") { sl_send_reply(404, \"Not here\"); exit; }\n\
            sql_query(\"select gw from gws\", \"$avp(gw)\");\n if ($avp(gw) != NULL) $rd = $avp(gw);\n\
            t_on_failure(\"late\"); t_relay(); }\n\
            failure_route[late] { if (t_check_status(\"408\")) t_reply(480, \"Not now\"); }\n";
        std::fs::write(dir.path().join("a.cfg"), script).unwrap();
        let suite = Suite::read(&format!("script a.cfg\n{tests}"), &dir.path().join("a.test"))?;
        suite.tests.iter().try_for_each(|t| suite.run(t))
    }

    #[test]
    fn replies_relays_and_timeouts_are_expected() {
        let tests = "rows from gws\n    198.51.100.7\n\n\
            test nobody\nrequest\n    INVITE sip:nobody@example.org\nexpect reply 404 Not here\nexpect nothing\n\n\
            test a call\nrequest from 10.0.0.1:5070\n    INVITE sip:bob@example.org\n    X-Test: 1\n\
            expect relay to 198.51.100.7:5060\n    INVITE sip:bob@198.51.100.7\n    X-Test: 1\n\
            reply from 198.51.100.7:5060\n    180 Ringing\nexpect reply 180\n\
            reply\n    200 OK\nexpect reply 200\n\n\
            test nobody answers\nrequest\n    INVITE sip:bob@example.org\nexpect relay\n\
            reply\n    180 Ringing\nexpect reply 180\nadvance 31s\nexpect reply 480\n    Not now\n";
        run(tests).unwrap_or_else(|e| panic!("{e}"));
    }

    #[test]
    fn the_example_of_the_readme_passes() {
        let readme = include_str!("../../../README.md");
        let block = |fence: &str| {
            let from = readme.split(fence).nth(1).unwrap();
            from.split("```").next().unwrap().to_owned()
        };
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("first.cfg"), block("```opensips\n")).unwrap();
        let suite = Suite::read(&block("```text\n"), &dir.path().join("first.test")).unwrap();
        assert_eq!(suite.tests.len(), 2);
        for case in &suite.tests {
            suite.run(case).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        }
    }

    #[test]
    fn what_differs_is_shown_with_its_line() {
        let why = run("test x\nrequest\n    INVITE sip:nobody@example.org\nexpect reply 200\n").unwrap_err();
        assert!(why.starts_with("5: expected a reply 200") && why.contains("SIP/2.0 404 Not here"), "{why}");
        let why = run("test x\nexpect miracle\n").unwrap_err();
        assert!(why.starts_with("3: `expect miracle`"), "{why}");
        assert!(run("test x\nadvance soon\n").unwrap_err().contains("200ms"));
    }
}
