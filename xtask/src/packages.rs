//! What the tests need and cargo does not bring: programs from Debian packages, and nextest.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::run::cargo;

/// A Debian package and what it is there for.
const PACKAGES: &[(&str, &str)] = &[
    ("sip-tester", "sipp, which plays call flows against the running program"),
    ("baresip-core", "a real phone"),
    ("kannel", "an SMS gateway that binds to us"),
    ("kannel-extras", "Kannel's own SMS centre for tests, drive_smpp"),
    ("python3-pip", "what the SMPP client in Python comes with"),
    ("mariadb-server", "a database server"),
    ("postgresql", "another database server"),
    ("redis-server", "a key-value server"),
    ("openssl", "keys of push services"),
    ("sqlite3", "reading databases beside the program"),
];

/// Python packages, installed into this folder of the workspace and nowhere else.
const PYTHON: (&str, &[&str]) = ("target/python", &["smpplib==2.2.4"]);

/// Packages of Node.js, installed into this folder of the workspace and nowhere else. Node.js brings npm with it, except
/// Debian's, where it is a package of its own.
const NODE: (&str, &[&str]) = ("target/node", &["smpp@0.5.1"]);

/// Installs what is missing, and says so. Gives the tests (as nextest names them) that must be left out, because what they need
/// cannot be had.
pub fn install() -> Result<Vec<&'static str>, String> {
    let missing: Vec<_> = PACKAGES.iter().filter(|(name, _)| !is_installed(name)).collect();
    if !missing.is_empty() {
        for (name, purpose) in &missing {
            println!("installing the Debian package {name}: {purpose}");
        }
        let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
        apt(&["update", "-qq"])?;
        apt(&[&["install", "-qq", "-y", "--no-install-recommends"], &names[..]].concat())?;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (folder, wanted) = PYTHON;
    if !root.join(folder).join("smpplib").exists() {
        println!("installing into {folder}: {}, SMPP clients that are not ours", wanted.join(", "));
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--target", folder]).args(wanted).current_dir(&root);
        match pip.status() {
            Ok(status) if status.success() => {}
            failed => return Err(format!("pip install {}: {failed:?}", wanted.join(" "))),
        }
    }
    let mut left_out = Vec::new();
    if let Err(why) = install_node(&root) {
        println!("{why}\nWITHOUT the tests against SMPP peers in Node.js: their package cannot be had here");
        left_out.push("test(/::node_smpp/)");
    }
    let mut nextest = Command::new("cargo");
    nextest.args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    if !nextest.status().is_ok_and(|status| status.success()) {
        println!("installing cargo-nextest, which runs the tests");
        cargo(Path::new("/"), &["install", "--locked", "cargo-nextest"])?;
    }
    Ok(left_out)
}

/// From a registry that not every place reaches.
fn install_node(root: &Path) -> Result<(), String> {
    let (folder, wanted) = NODE;
    if root.join(folder).join("node_modules/smpp").exists() {
        return Ok(());
    }
    if Command::new("npm").arg("--version").output().is_err() {
        println!(
            "installing the Debian packages nodejs and npm: what another SMPP client and server comes with"
        );
        apt(&["update", "-qq"])?;
        apt(&["install", "-qq", "-y", "--no-install-recommends", "nodejs", "npm"])?;
    }
    println!("installing into {folder}: {}, an SMPP client and server that is not ours", wanted.join(", "));
    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", folder]);
    match npm.args(wanted).current_dir(root).status() {
        Ok(status) if status.success() => Ok(()),
        failed => Err(format!("npm install {}: {failed:?}", wanted.join(" "))),
    }
}

fn is_installed(package: &str) -> bool {
    let asked = Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]).output();
    asked.is_ok_and(|answer| answer.stdout == b"installed")
}

fn apt(args: &[&str]) -> Result<(), String> {
    let mut command = Command::new("apt-get");
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            Err(format!("apt-get {}: {status}; run it as root once, then again this task", args.join(" ")))
        }
        Err(e) => Err(format!("apt-get {}: {e}; install the packages named above by hand", args.join(" "))),
    }
}
