//! Errors and warnings about a script, each with its place and the source line marked.

use std::fmt;
use std::sync::Arc;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The script cannot be used.
    Error,
    /// The script works; something in it deserves a look.
    Warning,
}

/// A change of the text that sets a warning right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fix {
    /// Line of the file, from 1.
    pub line: u32,
    /// Column in bytes, from 1.
    pub column: u32,
    /// Bytes to replace; 0 to insert. They may reach over the end of the line.
    pub length: u32,
    /// What to write there.
    pub text: String,
}

/// One error or warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// File as it was loaded.
    pub file: Arc<str>,
    /// From 1.
    pub line: u32,
    /// From 1, in bytes.
    pub column: u32,
    /// Bytes to mark, at least 1.
    pub length: u32,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
    /// The line it is about.
    pub source_line: String,
    /// How to set it right without thinking; only where the meaning stays the same.
    pub fix: Option<Fix>,
}

impl Diagnostic {
    /// The same with a hint.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }

    /// The same with a change that sets it right.
    #[must_use]
    pub fn fixed_by(mut self, fix: Fix) -> Self {
        self.fix = Some(fix);
        self
    }

    /// True when the script cannot be used because of it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Plain text, several lines: place and message, the source line, a marker, the hint.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        writeln!(f, "{}:{}:{}: {word}: {}", self.file, self.line, self.column, self.message)?;
        let number = self.line.to_string();
        writeln!(f, " {number} | {}", self.source_line.replace('\t', " "))?;
        let indent = self.source_line.get(..self.column as usize - 1).map_or(0, |s| s.chars().count());
        let marked = self
            .source_line
            .get(self.column as usize - 1..)
            .map_or(1, |s| s.chars().count().min(self.length as usize).max(1));
        writeln!(f, " {:w$} | {:indent$}{}", "", "", "^".repeat(marked), w = number.len())?;
        if let Some(help) = &self.help {
            writeln!(f, " {:w$} = {help}", "", w = number.len())?;
        }
        Ok(())
    }
}

/// Puts diagnostics in the order of the text and drops repeats.
pub fn sort(diags: &mut Vec<Diagnostic>) {
    diags.sort_by(|a, b| {
        (&a.file, a.line, a.column, a.severity).cmp(&(&b.file, b.line, b.column, b.severity))
    });
    diags.dedup();
}

/// Applies the fixes of `diags` for the file `name` to its text; what overlaps waits for the next time. Answers the new
/// text and how many were applied.
pub fn apply_fixes(name: &str, text: &[u8], diags: &[Diagnostic]) -> (Vec<u8>, usize) {
    let starts: Vec<usize> =
        std::iter::once(0).chain(memchr::memchr_iter(b'\n', text).map(|i| i + 1)).collect();
    let mut edits: Vec<(usize, usize, &str)> = diags
        .iter()
        .filter(|d| &*d.file == name)
        .filter_map(|d| d.fix.as_ref())
        .filter_map(|f| {
            let start = starts.get(f.line as usize - 1)? + f.column as usize - 1;
            let end = start + f.length as usize;
            (end <= text.len()).then_some((start, end, f.text.as_str()))
        })
        .collect();
    edits.sort();
    edits.dedup();
    let (mut out, mut at, mut done) = (Vec::with_capacity(text.len()), 0, 0);
    for (start, end, new) in edits {
        if start < at {
            continue;
        }
        out.extend_from_slice(&text[at..start]);
        out.extend_from_slice(new.as_bytes());
        at = end;
        done += 1;
    }
    out.extend_from_slice(&text[at..]);
    (out, done)
}

/// All diagnostics as plain text.
pub fn render(diags: &[Diagnostic]) -> String {
    diags.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n")
}

/// A hint naming the known word nearest to `word`, when one is near enough to be what was meant.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(word, known).map(|k| format!("did you mean `{k}`?"))
}

/// The known word nearest to `word`.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.len() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(word, k), k))
        .filter(|(d, _)| *d <= limit)
        .min_by_key(|(d, k)| {
            let first = k.as_bytes().first() != word.as_bytes().first();
            (*d, first, k.len().abs_diff(word.len()), *k)
        })
        .map(|(_, k)| k)
}
