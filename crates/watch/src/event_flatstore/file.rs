//! One file of events: opened for appending, closed and begun anew by time, number of lines or size.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// When a file is full, and how files are made.
pub struct Limits {
    /// Seconds, counted from midnight UTC; 0 for none.
    pub period: u64,
    /// Lines; 0 for none.
    pub lines: u64,
    /// Bytes; 0 for none.
    pub bytes: u64,
    /// Permissions of new files.
    pub mode: u32,
    /// Added to the name.
    pub suffix: Suffix,
}

/// Text with the time of opening in it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Suffix(Vec<Part>);

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Time(String),
}

impl Suffix {
    /// From text with `$time(format)` in it.
    pub fn parse(text: &str) -> Result<Suffix, String> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some(at) = rest.find('$') {
            let wrong = || format!("suffix \"{text}\": only $time(format) can stand in it");
            let (format, after) =
                rest[at..].strip_prefix("$time(").and_then(|r| r.split_once(')')).ok_or_else(wrong)?;
            if at > 0 {
                parts.push(Part::Text(rest[..at].to_owned()));
            }
            jiff::fmt::strtime::format(format, jiff::Timestamp::UNIX_EPOCH)
                .map_err(|e| format!("suffix \"{text}\": {e}"))?;
            parts.push(Part::Time(format.to_owned()));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Suffix(parts))
    }

    fn at(&self, unix: u64) -> String {
        let local = jiff::Timestamp::from_second(unix as i64).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let local = local.to_zoned(jiff::tz::TimeZone::system());
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Time(format) => {
                    out.push_str(&jiff::fmt::strtime::format(format, &local).unwrap_or_default());
                }
            }
        }
        out
    }
}

/// A number with K, M or G behind it; 0 for `OFF`.
pub fn amount(parameter: &str, text: &str) -> Result<u64, String> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("off") || text.is_empty() {
        return Ok(0);
    }
    let (digits, factor) = match text.as_bytes()[text.len() - 1].to_ascii_uppercase() {
        b'K' => (&text[..text.len() - 1], 1 << 10),
        b'M' => (&text[..text.len() - 1], 1 << 20),
        b'G' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    let n: Option<u64> = digits.trim().parse().ok();
    n.and_then(|n| n.checked_mul(factor))
        .ok_or_else(|| format!("{parameter} \"{text}\" is no number; write for example 5000, 10M or OFF"))
}

/// A file that was ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Rotated {
    /// Seconds since the epoch.
    pub at: u64,
    /// `period`, `count` or `size`.
    pub reason: &'static str,
    /// Where lines go from now on.
    pub new: PathBuf,
    /// Where the earlier ones are.
    pub old: PathBuf,
}

/// An open file.
pub struct LogFile {
    base: PathBuf,
    path: PathBuf,
    file: File,
    lines: u64,
    bytes: u64,
    begun: u64,
}

impl LogFile {
    /// Opens or makes it.
    pub fn open(base: &Path, limits: &Limits, now: u64) -> Result<LogFile, String> {
        let mut path = base.as_os_str().to_owned();
        path.push(limits.suffix.at(now));
        let path = PathBuf::from(path);
        let file = OpenOptions::new().append(true).create(true).mode(limits.mode).open(&path);
        let file = file.map_err(|e| format!("{}: {e}", path.display()))?;
        let bytes = file.metadata().map(|m| m.len()).unwrap_or(0);
        Ok(LogFile { base: base.to_owned(), path, file, lines: 0, bytes, begun: now })
    }

    /// Append a line, in a new file if this one is full.
    pub fn write(&mut self, line: &[u8], limits: &Limits, now: u64) -> Result<Option<Rotated>, String> {
        let reason = if limits.period > 0 && now / limits.period != self.begun / limits.period {
            Some("period")
        } else if limits.lines > 0 && self.lines >= limits.lines {
            Some("count")
        } else if limits.bytes > 0 && self.bytes > 0 && self.bytes + line.len() as u64 > limits.bytes {
            Some("size")
        } else {
            None
        };
        let rotated = reason.map(|r| self.rotate(r, limits, now)).transpose()?;
        self.file.write_all(line).map_err(|e| format!("{}: {e}", self.path.display()))?;
        self.lines += 1;
        self.bytes += line.len() as u64;
        Ok(rotated)
    }

    /// End a file whose time is over and that has lines.
    pub fn by_time(&mut self, limits: &Limits, now: u64) -> Result<Option<Rotated>, String> {
        let over = limits.period > 0 && now / limits.period != self.begun / limits.period;
        if !over || self.bytes == 0 {
            return Ok(None);
        }
        self.rotate("period", limits, now).map(Some)
    }

    fn rotate(&mut self, reason: &'static str, limits: &Limits, now: u64) -> Result<Rotated, String> {
        let mut next = self.base.as_os_str().to_owned();
        next.push(limits.suffix.at(now));
        let mut old = self.path.clone();
        if Path::new(&next) == self.path {
            // The name does not change by itself, so the old file gets one that nobody has.
            old = free_name(&self.path, now);
            std::fs::rename(&self.path, &old).map_err(|e| format!("{}: {e}", self.path.display()))?;
        }
        *self = LogFile::open(&self.base, limits, now)?;
        Ok(Rotated { at: now, reason, new: self.path.clone(), old })
    }
}

fn free_name(path: &Path, now: u64) -> PathBuf {
    let named = |n: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(if n == 0 { format!(".{now}") } else { format!(".{now}.{n}") });
        PathBuf::from(name)
    };
    (0..1000).map(named).find(|p| !p.exists()).unwrap_or_else(|| named(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { period: 0, lines: 0, bytes: 0, mode: 0o644, suffix: Suffix::default() }
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut all: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(|f| f.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        all.sort();
        all
    }

    #[test]
    fn a_full_file_gets_the_time_at_the_end_of_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("log");
        let limits = Limits { lines: 2, ..limits() };
        let mut file = LogFile::open(&base, &limits, 100).unwrap();
        let all: Vec<_> = (0..5).map(|_| file.write(b"x\n", &limits, 100).unwrap()).collect();
        assert_eq!(all.iter().flatten().count(), 2);
        assert_eq!(all[2].as_ref().unwrap().reason, "count");
        assert_eq!(names(dir.path()), ["log", "log.100", "log.100.1"]);
    }

    #[test]
    fn size_and_time_end_a_file_and_the_suffix_names_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("log");
        let limits =
            Limits { bytes: 4, period: 60, suffix: Suffix::parse("-$time(%s)").unwrap(), ..limits() };
        let mut file = LogFile::open(&base, &limits, 120).unwrap();
        assert_eq!(file.write(b"abcdefgh\n", &limits, 120), Ok(None));
        assert_eq!(file.write(b"x\n", &limits, 121).unwrap().unwrap().reason, "size");
        assert_eq!(file.by_time(&limits, 179), Ok(None));
        assert_eq!(file.by_time(&limits, 180).unwrap().unwrap().reason, "period");
        assert_eq!(file.by_time(&limits, 240), Ok(None), "an empty file stays");
        assert_eq!(names(dir.path()), ["log-120", "log-121", "log-180"]);
    }

    #[test]
    fn amounts_and_suffixes_are_checked() {
        assert_eq!(amount("p", "OFF"), Ok(0));
        assert_eq!(amount("p", "10k"), Ok(10_240));
        assert_eq!(amount("p", "3M"), Ok(3 << 20));
        assert!(amount("p", "much").is_err() && amount("p", "99999999999G").is_err());
        assert!(Suffix::parse("$ru").is_err() && Suffix::parse("$time(%F").is_err());
    }
}
