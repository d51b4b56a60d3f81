//! URLs and options of SQLite databases.

use std::path::PathBuf;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use switchroom_kernel::ports::store::{StoreError, StoreOptions};

/// What a URL and its options ask for.
pub struct Options {
    /// The file; `None` for a database in memory.
    pub path: Option<PathBuf>,
    /// Make the file when it is missing. Off by default: a mistyped path must not become an empty database.
    create: bool,
    busy_timeout: Duration,
    synchronous: SqliteSynchronous,
    /// Whole statements, run on every connection in the order given.
    pub pragmas: Vec<String>,
    /// Connections that only read.
    pub readers: usize,
    /// Statements that may wait for the writer, and as many for the readers.
    pub queue: usize,
}

impl Options {
    /// Reads `sqlite:///absolute`, `sqlite://relative`, `sqlite:path` and `sqlite::memory:`.
    pub fn read(url: &str, options: &StoreOptions) -> Result<Options, StoreError> {
        let wrong = |why: &str| {
            StoreError::Url(format!("`{url}` {why}; use sqlite:///absolute/path or sqlite://relative/path"))
        };
        let path = url.strip_prefix("sqlite:").ok_or_else(|| wrong("does not begin with `sqlite:`"))?;
        let path = path.strip_prefix("//").unwrap_or(path);
        let path = match path {
            "" => return Err(wrong("names no file")),
            ":memory:" => None,
            path => Some(PathBuf::from(path)),
        };
        let mut read = Options {
            path,
            create: false,
            busy_timeout: Duration::from_millis(5000),
            synchronous: SqliteSynchronous::Normal,
            pragmas: Vec::new(),
            readers: 4,
            queue: 16_384,
        };
        for (name, values) in options {
            let last = values.last().map_or("", |v| v.as_str());
            match name.as_str() {
                "create" => read.create = number(name, last)? != 0,
                "busy_timeout" => read.busy_timeout = Duration::from_millis(number(name, last)?),
                "readers" => read.readers = number(name, last)?.min(64) as usize,
                "queue" => read.queue = number(name, last)?.clamp(1, 1_000_000) as usize,
                "synchronous" => {
                    read.synchronous = match last {
                        "normal" => SqliteSynchronous::Normal,
                        "full" => SqliteSynchronous::Full,
                        other => {
                            let why = format!("synchronous `{other}`: use `normal` or `full`");
                            return Err(StoreError::Url(why));
                        }
                    }
                }
                "exec_pragma" => read.pragmas.extend(values.iter().map(|v| pragma(v))),
                other => {
                    return Err(StoreError::Url(format!(
                        "option `{other}` is unknown to sqlite; it knows busy_timeout, create, exec_pragma, queue, \
                         readers, synchronous"
                    )));
                }
            }
        }
        Ok(read)
    }

    /// Settings of one connection.
    pub fn connect(&self, writer: bool) -> SqliteConnectOptions {
        let options = SqliteConnectOptions::new()
            .busy_timeout(self.busy_timeout)
            .foreign_keys(false)
            .synchronous(self.synchronous)
            .statement_cache_capacity(256);
        let options = match &self.path {
            Some(path) => options.filename(path).create_if_missing(self.create && writer),
            None => options.in_memory(true),
        };
        match writer {
            true if self.path.is_some() => options.journal_mode(SqliteJournalMode::Wal),
            true => options,
            false => options.pragma("query_only", "ON"),
        }
    }
}

fn number(name: &str, value: &str) -> Result<u64, StoreError> {
    value.parse().map_err(|_| StoreError::Url(format!("{name} `{value}`: a number is needed")))
}

fn pragma(text: &str) -> String {
    let text = text.trim();
    let given = text.get(..6).is_some_and(|word| word.eq_ignore_ascii_case("pragma"));
    if given { text.to_owned() } else { format!("PRAGMA {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str, options: &[(&str, &str)]) -> Result<Options, StoreError> {
        let options = options.iter().map(|(n, v)| ((*n).to_owned(), vec![(*v).to_owned()])).collect();
        Options::read(url, &options)
    }

    #[test]
    fn all_forms_of_the_url_name_the_file() {
        for (url, path) in [
            ("sqlite:///var/lib/x.db", Some("/var/lib/x.db")),
            ("sqlite://data/x.db", Some("data/x.db")),
            ("sqlite:/x.db", Some("/x.db")),
            ("sqlite:x.db", Some("x.db")),
            ("sqlite::memory:", None),
        ] {
            assert_eq!(read(url, &[]).unwrap().path, path.map(PathBuf::from), "{url}");
        }
        for url in ["sqlite:", "sqlite://", "mysql://h/db", "x.db"] {
            assert!(matches!(read(url, &[]), Err(StoreError::Url(_))), "{url}");
        }
    }

    #[test]
    fn wrong_options_say_what_would_be_right() {
        let message = |name, value| match read("sqlite:x", &[(name, value)]) {
            Ok(_) => panic!("{name}={value} is wrong"),
            Err(e) => e.to_string(),
        };
        assert!(message("busy_timeout", "soon").contains("number"));
        assert!(message("synchronous", "off").contains("full"));
        assert!(message("sinchronous", "full").contains("synchronous"));
        let pragmas = read("sqlite:x", &[("exec_pragma", "cache_size=100")]).unwrap().pragmas;
        assert_eq!(pragmas, ["PRAGMA cache_size=100"]);
        assert_eq!(read("sqlite:x", &[("exec_pragma", "pragma a=1")]).unwrap().pragmas, ["pragma a=1"]);
    }
}
