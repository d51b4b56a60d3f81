//! The text of a script: its files joined into one buffer, with a map back to file, line and column.
//!
//! `include_file "x"` and `import_file "x"` are line directives that are resolved here, before any lexing, to a depth
//! of 50. A path is tried as given and then relative to the including file. How a file is read is the [`Loader`]'s
//! business. Left out: the preprocessor command (`-p`), which the caller runs over the text beforehand.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::diag::{Diagnostic, Fix, Severity};

const MAX_INCLUDE_DEPTH: usize = 50;
/// Bound on the joined text, so that a file that includes itself many times cannot eat the memory.
const MAX_TEXT: usize = 64 << 20;

/// A piece of the joined text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
}

impl Span {
    pub(crate) fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, len: end.saturating_sub(start) as u32 }
    }

    /// From the start of `self` to the end of `other`.
    pub(crate) fn to(self, other: Self) -> Self {
        Self::new(self.start as usize, (other.start + other.len).max(self.start + self.len) as usize)
    }
}

/// Reads the files that a script includes.
pub trait Loader {
    /// Reads `path`, named in the file `from`; answers the name to show in messages and the text.
    fn load(&mut self, path: &str, from: &str) -> Result<(String, Vec<u8>), String>;
}

/// Reads files from disk, first as given and then relative to the including file.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskLoader;

impl Loader for DiskLoader {
    fn load(&mut self, path: &str, from: &str) -> Result<(String, Vec<u8>), String> {
        let beside = Path::new(from).parent().map(|dir| dir.join(path));
        let tries = std::iter::once(PathBuf::from(path)).chain(beside);
        let mut problem = String::new();
        for candidate in tries {
            match std::fs::read(&candidate) {
                Ok(text) => return Ok((candidate.display().to_string(), text)),
                Err(e) => problem = e.to_string(),
            }
        }
        Err(problem)
    }
}

/// Refuses every include; for a script that is one text.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLoader;

impl Loader for NoLoader {
    fn load(&mut self, _path: &str, _from: &str) -> Result<(String, Vec<u8>), String> {
        Err("includes are not available here".into())
    }
}

/// The joined text and where each part came from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<Arc<str>>,
    text: Vec<u8>,
    segments: Vec<Segment>,
    /// Starts of the lines of the joined text.
    lines: Vec<u32>,
    /// A bound was reached; nothing more is included.
    full: bool,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    start: usize,
    file: usize,
    line: u32,
}

/// A resolved place: file number, line and column from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index into [`Sources::files`].
    pub file: u16,
    /// From 1.
    pub line: u32,
    /// From 1, in bytes.
    pub column: u32,
}

impl Sources {
    /// Joins `text` with all it includes; what cannot be read becomes a diagnostic.
    pub fn join(name: &str, text: &[u8], loader: &mut dyn Loader, diags: &mut Vec<Diagnostic>) -> Self {
        let mut sources = Self::default();
        sources.add(name, text, loader, diags, 0);
        sources.index_lines();
        sources
    }

    /// File names by number.
    pub fn files(&self) -> &[Arc<str>] {
        &self.files
    }

    /// The joined text.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The bytes of a piece.
    pub fn slice(&self, span: Span) -> &[u8] {
        self.text.get(span.start as usize..(span.start + span.len) as usize).unwrap_or_default()
    }

    /// Where a piece begins.
    pub fn place(&self, span: Span) -> Place {
        let at = (span.start as usize).min(self.text.len());
        let seg = match self.segments.partition_point(|s| s.start <= at).checked_sub(1) {
            Some(i) => self.segments[i],
            None => return Place { file: 0, line: 1, column: 1 },
        };
        let line_of = |at: usize| self.lines.partition_point(|l| *l as usize <= at).saturating_sub(1);
        let here = line_of(at);
        let line = seg.line + (here - line_of(seg.start).min(here)) as u32;
        let line_start = self.lines.get(here).map_or(0, |l| *l as usize);
        Place { file: seg.file as u16, line, column: (at - line_start) as u32 + 1 }
    }

    /// A diagnostic at a piece of this text.
    pub fn diag(&self, severity: Severity, span: Span, message: impl Into<String>) -> Diagnostic {
        let place = self.place(span);
        let line_start = span.start as usize - (place.column as usize - 1).min(span.start as usize);
        let rest = &self.text[line_start.min(self.text.len())..];
        let line = &rest[..memchr::memchr(b'\n', rest).unwrap_or(rest.len())];
        let room = (line.len() as u32 + 1).saturating_sub(place.column);
        Diagnostic {
            severity,
            file: self.files.get(place.file as usize).cloned().unwrap_or_else(|| "".into()),
            line: place.line,
            column: place.column,
            length: span.len.clamp(1, room.max(1)),
            message: message.into(),
            help: None,
            source_line: String::from_utf8_lossy(line).trim_end().into(),
            fix: None,
        }
    }

    /// The change that replaces a piece of the text.
    pub fn fix(&self, span: Span, text: impl Into<String>) -> Fix {
        let place = self.place(span);
        Fix { line: place.line, column: place.column, length: span.len, text: text.into() }
    }

    fn index_lines(&mut self) {
        self.lines =
            std::iter::once(0).chain(memchr::memchr_iter(b'\n', &self.text).map(|i| i as u32 + 1)).collect();
    }

    fn add(
        &mut self,
        name: &str,
        text: &[u8],
        loader: &mut dyn Loader,
        diags: &mut Vec<Diagnostic>,
        depth: usize,
    ) {
        let file = self.files.len();
        if file > usize::from(u16::MAX) || self.text.len() + text.len() > MAX_TEXT {
            self.full = true;
            self.index_lines();
            diags.push(self.diag(
                Severity::Error,
                Span::default(),
                "the script with its includes is too large",
            ));
            return;
        }
        self.files.push(name.into());
        self.segments.push(Segment { start: self.text.len(), file, line: 1 });
        for (i, line) in text.split_inclusive(|&b| b == b'\n').enumerate() {
            let start = self.text.len();
            if self.full {
                return;
            }
            let Some(path) = include_path(line) else {
                self.text.extend_from_slice(line);
                continue;
            };
            // The directive itself stays out of the text; a bare newline keeps its line countable.
            let loaded = if depth >= MAX_INCLUDE_DEPTH {
                Err(format!("more than {MAX_INCLUDE_DEPTH} files inside one another"))
            } else {
                loader.load(&path, name)
            };
            match loaded {
                Ok((included, body)) => {
                    self.add(&included, &body, loader, diags, depth + 1);
                    self.text.push(b'\n');
                }
                Err(why) => {
                    self.index_lines();
                    let mut d = self.diag(Severity::Error, Span::new(start, start), "");
                    d.message = format!("cannot include \"{path}\": {why}");
                    d.source_line = String::from_utf8_lossy(line).trim_end().into();
                    d.length = d.source_line.len().max(1) as u32;
                    diags.push(d);
                    self.text.push(b'\n');
                }
            }
            self.segments.push(Segment { start: self.text.len(), file, line: i as u32 + 2 });
        }
        if !self.text.ends_with(b"\n") {
            self.text.push(b'\n');
        }
    }
}

/// The path of an include directive line.
fn include_path(line: &[u8]) -> Option<String> {
    let line = line.trim_ascii();
    let rest = line.strip_prefix(b"include_file").or_else(|| line.strip_prefix(b"import_file"))?;
    let rest = rest.trim_ascii_start();
    let quote = *rest.first().filter(|b| matches!(b, b'"' | b'\''))?;
    let rest = &rest[1..];
    let end = memchr::memchr(quote, rest)?;
    Some(String::from_utf8_lossy(&rest[..end]).into_owned())
}
