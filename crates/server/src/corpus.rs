//! The corpus: scripts of our own in the styles of the releases. The good ones load, are rewritten and formatted without
//! changing what they do; each wrong one gives the message that its snapshot shows (`UPDATE_SNAPSHOTS=1` writes it anew).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use switchroom_kernel::load::{Source, load};
use switchroom_script::Diagnostic;
use switchroom_script::format::format;

use crate::{catalogue, check};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// Name and text of each script of a folder, sorted.
fn scripts(kind: &str) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = std::fs::read_dir(folder().join(kind))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "cfg"))
        .map(|p| {
            let name = p.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&p).unwrap())
        })
        .collect();
    all.sort();
    all
}

fn source(name: &str, text: &[u8]) -> Source {
    Source::Text(name.to_owned(), Arc::from(text))
}

fn fingerprint(name: &str, text: &[u8]) -> Vec<String> {
    match load(&source(name, text), &catalogue::modules(), catalogue::ALWAYS) {
        Ok(loaded) => loaded.program.fingerprint(),
        Err(errors) => panic!("{name}:\n{}", switchroom_script::diag::render(&errors)),
    }
}

#[test]
fn every_good_script_loads() {
    let all = scripts("good");
    assert!(all.len() >= 60, "{}", all.len());
    for (name, text) in all {
        let (found, ok) = check::examine(&source(&name, text.as_bytes()));
        assert!(ok, "{}", switchroom_script::diag::render(&found));
    }
}

#[test]
fn older_spellings_are_rewritten_and_mean_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut rewritten = 0;
    for (name, text) in scripts("good") {
        let file = dir.path().join(&name);
        std::fs::write(&file, &text).unwrap();
        let path = file.display().to_string();
        rewritten += check::fix(&path).unwrap_or_else(|e| panic!("{name}: {e:#}"));
        let (found, ok) = check::examine(&Source::File(path));
        assert!(ok, "{}", switchroom_script::diag::render(&found));
        let left: Vec<&Diagnostic> = found.iter().filter(|d| d.fix.is_some()).collect();
        assert!(left.is_empty(), "{left:#?}");
        let new = std::fs::read(&file).unwrap();
        assert_eq!(fingerprint(&name, text.as_bytes()), fingerprint(&name, &new), "{name}");
    }
    assert!(rewritten > 30, "{rewritten}");
}

#[test]
fn formatting_changes_no_meaning_and_is_stable() {
    let mut all = scripts("good");
    let default = include_str!("default.cfg").replace("@MI_PORT@", "8888");
    all.push(("default.cfg".into(), default));
    for (name, text) in all {
        let once = format(text.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(format(&once).unwrap(), once, "{name} changes when it is formatted again");
        assert_eq!(fingerprint(&name, text.as_bytes()), fingerprint(&name, &once), "{name}");
        let comments = |t: &[u8]| String::from_utf8_lossy(t).matches('#').count();
        assert_eq!(comments(text.as_bytes()), comments(&once), "{name}");
    }
}

#[test]
fn every_wrong_script_says_where_and_what_would_be_right() {
    let all = scripts("wrong");
    assert!(all.len() >= 80, "{}", all.len());
    let mut shown = String::new();
    for (name, text) in all {
        let (found, ok) = check::examine(&source(&name, text.as_bytes()));
        assert!(!ok, "{name} is accepted");
        assert!(found.iter().any(|d| d.is_error() && d.line > 0), "{name}");
        shown.push_str(&switchroom_script::diag::render(&found));
        shown.push('\n');
    }
    let path = folder().join("wrong.snapshot");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, &shown).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    for (got, want) in shown.lines().zip(wanted.lines()) {
        assert_eq!(got, want);
    }
    assert_eq!(shown.lines().count(), wanted.lines().count());
}
