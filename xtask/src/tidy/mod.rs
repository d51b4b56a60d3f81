//! The rules of the house as checks: what the compiler does not know, in one list with file and line.

mod docs;
mod floors;
mod sources;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs every check; the error is the list of what was found.
pub fn check(root: &Path) -> Result<(), String> {
    let tree = Tree::read(root)?;
    let mut faults = Vec::new();
    floors::check(root, &mut faults)?;
    sources::check(&tree, &mut faults);
    docs::check(&tree, &mut faults);
    if faults.is_empty() {
        println!("tidy: {} files", tree.files.len());
        return Ok(());
    }
    faults.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    let mut text: String = faults.iter().map(|f| format!("{f}\n")).collect();
    text.push_str(&format!("tidy: {} faults", faults.len()));
    Err(text)
}

/// One thing that is not as it should be.
pub struct Fault {
    path: String,
    /// From 1; 0 for the file as a whole.
    line: usize,
    text: String,
}

impl Fault {
    pub fn new(path: &str, line: usize, text: impl Into<String>) -> Fault {
        Fault { path: path.to_owned(), line, text: text.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.text),
            line => write!(f, "{}:{line}: {}", self.path, self.text),
        }
    }
}

/// All text files that git tracks or would.
pub struct Tree {
    pub root: PathBuf,
    pub files: Vec<Text>,
}

/// One text file; the path is relative to the root, with slashes.
pub struct Text {
    pub path: String,
    pub text: String,
}

impl Tree {
    fn read(root: &Path) -> Result<Tree, String> {
        let listed = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root)
            .output()
            .map_err(|e| format!("git ls-files: {e}"))?;
        if !listed.status.success() {
            return Err(format!("git ls-files: {}", String::from_utf8_lossy(&listed.stderr)));
        }
        let paths = String::from_utf8_lossy(&listed.stdout).into_owned();
        let files = paths.split_terminator('\0').filter_map(|path| {
            // Binary files, and those that were deleted but not yet committed, have nothing to read.
            let text = std::fs::read_to_string(root.join(path)).ok()?;
            Some(Text { path: path.to_owned(), text })
        });
        Ok(Tree { root: root.to_owned(), files: files.collect() })
    }
}
