//! Dependencies between crates run downward only.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::Fault;

/// Every floor with its height. On the fourth floor `calls` is the base on which the other rooms stand, and `messages` uses
/// its neighbours: locations, money, HTTP.
const FLOORS: &[(&str, u32)] = &[
    ("wire", 0),
    ("engine", 10),
    ("script", 10),
    ("kernel", 20),
    ("net", 30),
    ("data", 30),
    ("media", 30),
    ("rehearsal", 30),
    ("calls", 40),
    ("users", 41),
    ("messages", 42),
    ("money", 41),
    ("tools", 41),
    ("watch", 41),
    ("portal", 41),
    ("server", 50),
];
/// Only for tests, so nobody may need it to run.
const TESTKIT: &str = "testkit";
/// Not part of the house.
const OUTSIDE: &[&str] = &["xtask", "switchroom-fuzz"];

/// Checks the edges between the workspace's crates.
pub fn check(root: &Path, faults: &mut Vec<Fault>) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root)
        .output()
        .map_err(|e| format!("cargo metadata: {e}"))?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let metadata: Value =
        serde_json::from_slice(&output.stdout).map_err(|e| format!("cargo metadata: {e}"))?;
    edges(&metadata, faults);
    Ok(())
}

fn edges(metadata: &Value, faults: &mut Vec<Fault>) {
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        if OUTSIDE.contains(&name) {
            continue;
        }
        let manifest = format!("crates/{}/Cargo.toml", floor_name(name));
        let mut fault = |text: String| faults.push(Fault::new(&manifest, 0, text));
        let Some(height) = height(name) else {
            fault(format!("crate `{name}` is on no floor; the floors stand in xtask/src/tidy/floors.rs"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            // A path says that it belongs to the workspace.
            if dependency["path"].is_null() {
                continue;
            }
            let below = dependency["name"].as_str().unwrap_or_default();
            let for_tests = dependency["kind"] == "dev";
            let fine = match self::height(below) {
                _ if floor_name(below) == TESTKIT => for_tests,
                Some(below) => below < height,
                None => false,
            };
            if !fine {
                fault(format!("`{name}` must not use `{below}`: dependencies run downward only"));
            }
        }
    }
}

fn height(package: &str) -> Option<u32> {
    match floor_name(package) {
        // It drives the program from outside and may use all of it but that.
        TESTKIT => Some(50),
        name => FLOORS.iter().find(|(floor, _)| *floor == name).map(|(_, height)| *height),
    }
}

/// The binary's package may be named after the program.
fn floor_name(package: &str) -> &str {
    match package {
        "switchroom" => "server",
        package => package.strip_prefix("switchroom-").unwrap_or(package),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(name: &str, uses: &str, kind: Option<&str>) -> usize {
        let metadata = serde_json::json!({"packages": [
            {"name": name, "dependencies": [{"name": uses, "kind": kind, "path": "/x"}, {"name": "bytes"}]}
        ]});
        let mut faults = Vec::new();
        edges(&metadata, &mut faults);
        faults.len()
    }

    #[test]
    fn only_downward_edges_pass() {
        for (name, uses, kind, expected) in [
            ("switchroom-kernel", "switchroom-wire", None, 0),
            ("switchroom-users", "switchroom-calls", None, 0),
            ("switchroom", "switchroom-watch", None, 0),
            ("switchroom-net", "switchroom-testkit", Some("dev"), 0),
            ("switchroom-net", "switchroom-testkit", None, 1),
            ("switchroom-wire", "switchroom-engine", None, 1),
            ("switchroom-engine", "switchroom-script", None, 1),
            ("switchroom-money", "switchroom-watch", Some("dev"), 1),
            ("switchroom-calls", "switchroom-users", None, 1),
            ("switchroom-common", "switchroom-wire", None, 1),
        ] {
            assert_eq!(faults(name, uses, kind), expected, "{name} -> {uses}");
        }
    }
}
