//! `switchroom check`: everything that is wrong with a script, at once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context;
use serde_json::json;
use switchroom_kernel::load::{Source, lint, load};
use switchroom_script::{Diagnostic, diag};

use crate::catalogue;
use crate::cli::CheckArgs;

/// Check and report.
pub fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    if args.fix {
        anyhow::ensure!(
            args.file != "-" && args.preprocessor.is_none(),
            "only a file that is read as it is can be rewritten"
        );
        let fixed = fix(&args.file)?;
        println!("{}: {fixed} older spellings rewritten", args.file);
    }
    let source = source(&args.file, args.preprocessor.as_deref())?;
    let (found, ok) = examine(&source);
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

/// Everything there is to say about a script, and whether it can be used.
pub fn examine(source: &Source) -> (Vec<Diagnostic>, bool) {
    let (mut found, ok) = match load(source, &catalogue::modules(), catalogue::ALWAYS) {
        Ok(loaded) => (loaded.warnings, true),
        Err(found) => (found, false),
    };
    let mut hints = lint(source);
    // What follows from an error would only hide it.
    if !ok {
        hints.retain(Diagnostic::is_error);
    }
    let ok = ok && !hints.iter().any(Diagnostic::is_error);
    found.extend(hints);
    diag::sort(&mut found);
    (found, ok)
}

/// Rewrite the older spellings in a file and what it includes. Nothing is written when the result would not mean the same.
pub fn fix(file: &str) -> anyhow::Result<usize> {
    let mut texts: BTreeMap<String, (Vec<u8>, Vec<u8>)> = BTreeMap::new();
    let undo = |texts: &BTreeMap<String, (Vec<u8>, Vec<u8>)>| {
        texts.iter().try_for_each(|(name, (before, _))| std::fs::write(name, before))
    };
    let before = load(&Source::File(file.to_owned()), &catalogue::modules(), catalogue::ALWAYS);
    let meaning = before.as_ref().ok().map(|l| l.program.fingerprint());
    let mut found = before.map_or_else(|all| all, |l| l.warnings);
    let mut total = 0;
    // What overlaps is left for the next round; each round sets at least one place right.
    for _ in 0..1000 {
        let names: BTreeSet<String> =
            found.iter().filter(|d| d.fix.is_some()).map(|d| d.file.to_string()).collect();
        let mut done = 0;
        for name in names {
            let text = std::fs::read(&name).with_context(|| format!("cannot read \"{name}\""))?;
            let (new, n) = diag::apply_fixes(&name, &text, &found);
            if n > 0 {
                std::fs::write(&name, &new).with_context(|| format!("cannot write \"{name}\""))?;
                texts.entry(name).or_insert_with(|| (text, Vec::new())).1 = new;
                done += n;
            }
        }
        if done == 0 {
            break;
        }
        total += done;
        let after = load(&Source::File(file.to_owned()), &catalogue::modules(), catalogue::ALWAYS);
        let now = after.as_ref().ok().map(|l| l.program.fingerprint());
        if meaning.is_some() && meaning != now {
            undo(&texts).context("the file was changed and could not be put back")?;
            anyhow::bail!("{file}: rewriting would change what the script does; it was left as it is");
        }
        found = after.map_or_else(|all| all, |l| l.warnings);
    }
    Ok(total)
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
        "fix": d.fix.as_ref().map(|f| {
            json!({"line": f.line, "column": f.column, "length": f.length, "text": f.text})
        }),
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
