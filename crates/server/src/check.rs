//! `switchroom check`: everything that is wrong with a script, at once.

use std::io::Read;
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context;
use serde_json::json;
use switchroom_kernel::load::{Source, load};
use switchroom_script::Diagnostic;

use crate::catalogue;
use crate::cli::CheckArgs;

/// Check and report.
pub fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let source = source(&args.file, args.preprocessor.as_deref())?;
    let (found, ok) = match load(&source, &catalogue::modules(), catalogue::ALWAYS) {
        Ok(loaded) => (loaded.warnings, true),
        Err(found) => (found, false),
    };
    if args.json {
        let rows: Vec<_> = found.iter().map(as_json).collect();
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        print(&found);
        let errors = found.iter().filter(|d| d.is_error()).count();
        let warnings = found.len() - errors;
        match ok {
            true => println!("{}: fine ({warnings} warnings)", args.file),
            false => println!("{}: {errors} errors, {warnings} warnings", args.file),
        }
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Print findings for people.
pub fn print(found: &[Diagnostic]) {
    if !found.is_empty() {
        eprintln!("{}", switchroom_script::diag::render(found));
    }
}

fn as_json(d: &Diagnostic) -> serde_json::Value {
    json!({
        "severity": if d.is_error() { "error" } else { "warning" },
        "file": &*d.file,
        "line": d.line,
        "column": d.column,
        "length": d.length,
        "message": d.message,
        "help": d.help,
    })
}

/// Where a script comes from: a file, standard input (`-`), either through a preprocessor.
pub fn source(file: &str, preprocessor: Option<&str>) -> anyhow::Result<Source> {
    if file != "-" && preprocessor.is_none() {
        return Ok(Source::File(file.to_owned()));
    }
    let text = if file == "-" {
        let mut text = Vec::new();
        std::io::stdin().read_to_end(&mut text).context("standard input")?;
        text
    } else {
        std::fs::read(file).with_context(|| format!("cannot read \"{file}\""))?
    };
    let text = match preprocessor {
        Some(command) => preprocess(command, text)?,
        None => text,
    };
    Ok(Source::Text(file.to_owned(), text.into()))
}

fn preprocess(command: &str, text: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    use std::io::Write;
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("preprocessor `{command}`"))?;
    let mut input = child.stdin.take().context("the preprocessor has no input")?;
    let writer = std::thread::spawn(move || input.write_all(&text));
    let output = child.wait_with_output().with_context(|| format!("preprocessor `{command}`"))?;
    // A preprocessor that does not read all of its input is its own affair; its exit code decides.
    let _ = writer.join();
    anyhow::ensure!(output.status.success(), "preprocessor `{command}` ended with {}", output.status);
    Ok(output.stdout)
}
