//! Rules for source files: length, opening, words that have no place on a floor, paths of one machine.

use super::{Fault, Text, Tree};

/// Longest file, in lines.
const LINES: usize = 1200;
/// Crates without clock, socket, thread and chance.
const PURE: &[&str] = &["crates/wire/", "crates/engine/", "crates/script/"];
/// What they must not contain, and the reason.
const IMPURE: &[(&str, &str)] = &[
    ("tokio", "no runtime below the kernel"),
    ("Instant::now", "time comes in as an argument"),
    ("SystemTime::now", "time comes in as an argument"),
    ("std::thread", "no threads below the kernel"),
    ("thread::spawn", "no threads below the kernel"),
    ("UdpSocket", "no sockets below the net floor"),
    ("TcpStream", "no sockets below the net floor"),
    ("TcpListener", "no sockets below the net floor"),
    ("RandomState", "chance comes in as an argument"),
    ("getrandom", "chance comes in as an argument"),
    ("thread_rng", "chance comes in as an argument"),
];

/// Checks every file of the tree.
pub fn check(tree: &Tree, faults: &mut Vec<Fault>) {
    for file in &tree.files {
        if file.path.ends_with(".rs") {
            length(file, faults);
            opening(file, faults);
            purity(file, faults);
        }
        if file.path.starts_with("crates/") && file.path.ends_with("/Cargo.toml") {
            manifest(file, faults);
        }
        machine_paths(file, faults);
    }
}

fn length(file: &Text, faults: &mut Vec<Fault>) {
    let lines = file.text.lines().count();
    if lines > LINES && !is_test(&file.path) && !file.path.contains("table") {
        faults.push(Fault::new(&file.path, 0, format!("{lines} lines; {LINES} are the most, 600 the aim")));
    }
}

fn opening(file: &Text, faults: &mut Vec<Fault>) {
    if !file.text.starts_with("//!") {
        faults.push(Fault::new(
            &file.path,
            1,
            "must open with `//!`: what it is for, and what it leaves out",
        ));
    }
}

fn purity(file: &Text, faults: &mut Vec<Fault>) {
    let pure =
        PURE.iter().any(|floor| file.path.strip_prefix(floor).is_some_and(|rest| rest.starts_with("src/")));
    if !pure || is_test(&file.path) {
        return;
    }
    for (number, line) in code(&file.text) {
        for (word, why) in IMPURE.iter().filter(|(word, _)| line.contains(word)) {
            faults.push(Fault::new(&file.path, number, format!("`{word}`: {why}")));
        }
    }
}

fn manifest(file: &Text, faults: &mut Vec<Fault>) {
    if !file.text.contains("[lints]\nworkspace = true") {
        faults.push(Fault::new(&file.path, 0, "needs `[lints] workspace = true`"));
    }
}

fn machine_paths(file: &Text, faults: &mut Vec<Fault>) {
    // Put together, so that this file does not find itself.
    let roots = ["work", "home", "root"].map(|name| format!("/{name}/"));
    for (number, line) in file.text.lines().enumerate() {
        for root in roots.iter().filter(|root| names_path(line, root)) {
            faults.push(Fault::new(&file.path, number + 1, format!("a path of one machine (`{root}`)")));
        }
    }
}

/// Whether `root` stands at the beginning of a path, not inside of one.
fn names_path(line: &str, root: &str) -> bool {
    line.match_indices(root).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '~' | '}' | ':'))
    })
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.contains("/benches/") || path.ends_with("/tests.rs")
}

/// Lines of code with their numbers: no comments, and nothing after the unit tests begin.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| line.trim_end() != "#[cfg(test)]")
        .map(|(number, line)| (number + 1, line.split("//").next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let file = Text { path: path.to_owned(), text: text.to_owned() };
        let mut faults = Vec::new();
        check(&Tree { root: Default::default(), files: vec![file] }, &mut faults);
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_file_without_its_opening_or_too_long_is_found() {
        assert_eq!(found("crates/net/src/a.rs", "//! For tests.\n").len(), 0);
        assert_eq!(found("crates/net/src/a.rs", "use std::io;\n").len(), 1);
        let long = format!("//! Long.\n{}", "\n".repeat(LINES));
        assert_eq!(found("crates/net/src/a.rs", &long).len(), 1);
        assert_eq!(found("crates/net/tests/a.rs", &long).len(), 0);
    }

    #[test]
    fn pure_floors_have_no_clock_outside_their_tests() {
        let text = "//! Why no tokio.\n// Instant::now\nlet a = Instant::now();\n#[cfg(test)]\nlet b = Instant::now();\n";
        assert_eq!(
            found("crates/engine/src/a.rs", text),
            ["crates/engine/src/a.rs:3: `Instant::now`: time comes in as an argument"]
        );
        assert!(found("crates/net/src/a.rs", text).is_empty());
        assert!(found("crates/wire/benches/a.rs", text).is_empty());
    }

    #[test]
    fn paths_of_one_machine_are_found_wherever_they_stand() {
        let path = ["", "home", "me", "x.db"].join("/");
        assert_eq!(found("README.md", &format!("open `{path}`")).len(), 1);
        assert_eq!(found("README.md", &format!("open /var{path} or http://host{path}")).len(), 0);
    }
}
