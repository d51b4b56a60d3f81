//! `switchroom trace-script`: each step of a script for one request, with line, what was done, result and time.

use std::cell::RefCell;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, anyhow};
use switchroom_kernel::context::{Ctx, Tracer};
use switchroom_kernel::load::Source;
use switchroom_kernel::ports::net::Proto;
use switchroom_script::vm::{StepKind, TraceStep};

use crate::cli::TraceScriptArgs;
use crate::rehearse::{request, stage};

/// Run one request and print what happened.
pub fn trace(args: &TraceScriptArgs) -> anyhow::Result<ExitCode> {
    let text = match &args.request {
        Some(file) => {
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?
        }
        None => "INVITE sip:bob@example.org".to_owned(),
    };
    let options = args.option.iter().map(|o| o.split_once('=').unwrap_or((o, "")));
    let options = options.map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    for line in run(Source::File(args.file.clone()), options, &text, args.from).map_err(|e| anyhow!(e))? {
        println!("{line}");
    }
    Ok(ExitCode::SUCCESS)
}

fn run(
    source: Source,
    options: Vec<(String, String)>,
    text: &str,
    from: std::net::SocketAddr,
) -> Result<Vec<String>, String> {
    let house = stage(source, Vec::new(), options)?;
    house.sent();
    let recorder = Rc::new(Recorder { lines: RefCell::default(), last: RefCell::new(Instant::now()) });
    *house.shard.tracer.borrow_mut() = Some(recorder.clone());
    recorder.last.replace(Instant::now());
    house.receive(from, Proto::Udp, request(&text.replace("\r\n", "\n"), from, 1));
    let mut lines = recorder.lines.take();
    for sent in house.sent() {
        let first = sent.text.lines().next().unwrap_or_default().to_owned();
        lines.push(format!("sent to {}: {first}", sent.to));
    }
    Ok(lines)
}

struct Recorder {
    lines: RefCell<Vec<String>>,
    /// When the last step was done.
    last: RefCell<Instant>,
}

impl Tracer for Recorder {
    fn step(&self, _: &mut Ctx, step: &TraceStep<'_>) {
        let now = Instant::now();
        let took = now.duration_since(self.last.replace(now));
        let name = match step.kind {
            StepKind::Call => format!("{}()", step.name),
            StepKind::Route => format!("route({})", step.name),
            StepKind::Test => format!("test {}", step.name),
            StepKind::Assign => format!("{} = ...", step.name),
            StepKind::Log | StepKind::Return | StepKind::Exit | StepKind::Drop => step.kind.word().to_owned(),
        };
        let result = match (step.kind, step.result) {
            (StepKind::Test, 1) => "true".to_owned(),
            (StepKind::Test, _) => "false".to_owned(),
            (StepKind::Route | StepKind::Exit | StepKind::Drop, _) => String::new(),
            (_, code) => code.to_string(),
        };
        let indent = "  ".repeat(step.depth);
        let line = format!(
            "{:>5}  {:<50} {:>6}  {:>6} us",
            step.at.line,
            format!("{indent}{name}"),
            result,
            took.as_micros()
        );
        self.lines.borrow_mut().push(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_is_shown_with_its_line_and_result() {
        let script = "socket=udp:127.0.0.1:5060\nloadmodule \"sl.so\"\nroute {\n    $var(x) = 1;\n    route(a);\n}\n\
            route[a] {\n    if ($rU == \"bob\")\n        sl_send_reply(404, \"No\");\n    exit;\n}\n";
        let source = Source::Text("t.cfg".into(), script.as_bytes().into());
        let from = ([192, 0, 2, 1], 5060).into();
        let lines = run(source, Vec::new(), "INVITE sip:bob@example.org", from).unwrap();
        let words: Vec<Vec<&str>> = lines.iter().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(words[0][..4], ["4", "$var(x)", "=", "..."]);
        assert_eq!(words[1][..2], ["5", "route(a)"]);
        assert_eq!(words[2][..4], ["8", "test", "$rU", "true"]);
        assert_eq!(words[3][..3], ["9", "sl_send_reply()", "1"]);
        assert_eq!(words[4][..2], ["10", "exit"]);
        assert!(lines[5].ends_with("SIP/2.0 404 No"), "{lines:#?}");
    }
}
