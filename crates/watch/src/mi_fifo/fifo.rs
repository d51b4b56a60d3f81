//! The FIFO that requests come in on: made, read, made again when somebody removed it, and removed at the end.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

use crate::owner;

/// Seconds after which a FIFO that was removed is made again.
const CHECK: u64 = 30;
/// Seconds an unfinished request may wait for its rest.
const REST: u64 = 2;

/// Owner and group of the FIFO; `None` keeps the process's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    user: Option<u32>,
    group: Option<u32>,
}

impl Owner {
    /// From names or numbers. Names are looked up in `/etc/passwd` and `/etc/group`.
    pub fn new(user: Option<&str>, group: Option<&str>) -> Result<Owner, String> {
        let user = owner::number(user, "fifo_user", "/etc/passwd")?;
        let group = owner::number(group, "fifo_group", "/etc/group")?;
        Ok(Owner { user, group })
    }
}

/// What came of a read.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// Some bytes.
    Bytes(Vec<u8>),
    /// Nothing for so long that an unfinished request will not be finished.
    Quiet,
    /// Nothing; look again.
    Again,
}

/// The FIFO.
pub struct Fifo {
    path: PathBuf,
    mode: u32,
    owner: Owner,
    file: File,
    checked: Instant,
}

impl Fifo {
    /// Make it. One that is left from an earlier run is replaced; anything else at that path is an error.
    pub fn create(path: &Path, mode: u32, owner: Owner) -> Result<Fifo, String> {
        let file = make(path, mode, owner).map_err(|e| format!("fifo_name \"{}\": {e}", path.display()))?;
        Ok(Fifo { path: path.to_owned(), mode, owner, file, checked: Instant::now() })
    }

    /// Wait for bytes. `unfinished` says that the rest of a request is awaited.
    pub fn read(&mut self, unfinished: bool) -> Read {
        let seconds = if unfinished { REST } else { CHECK };
        let limit = Timespec { tv_sec: seconds as i64, tv_nsec: 0 };
        let mut fds = [PollFd::new(&self.file, PollFlags::IN)];
        let ready = poll(&mut fds, Some(&limit));
        if self.checked.elapsed().as_secs() >= CHECK {
            self.checked = Instant::now();
            self.keep();
        }
        match ready {
            Ok(0) => return Read::Quiet,
            Ok(_) => {}
            Err(_) => return Read::Again,
        }
        let mut buffer = vec![0; 16 * 1024];
        match self.file.read(&mut buffer) {
            Ok(0) => Read::Again,
            Ok(n) => {
                buffer.truncate(n);
                Read::Bytes(buffer)
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Read::Again,
            Err(e) => {
                tracing::error!("mi_fifo: {}: {e}", self.path.display());
                // An error that stays must not make a busy loop.
                std::thread::sleep(std::time::Duration::from_secs(1));
                Read::Again
            }
        }
    }

    /// Make it again when it was removed or replaced.
    fn keep(&mut self) {
        let own = self.file.metadata().map(|m| (m.dev(), m.ino())).ok();
        let there = fs::symlink_metadata(&self.path).map(|m| (m.dev(), m.ino())).ok();
        if own == there {
            return;
        }
        match make(&self.path, self.mode, self.owner) {
            Ok(file) => {
                tracing::warn!("mi_fifo: {} was gone and has been made again", self.path.display());
                self.file = file;
            }
            Err(e) => tracing::error!("mi_fifo: {}: {e}", self.path.display()),
        }
    }

    /// Remove it, unless somebody else's is there by now.
    pub fn remove(self) {
        let own = self.file.metadata().map(|m| (m.dev(), m.ino())).ok();
        let there = fs::symlink_metadata(&self.path).map(|m| (m.dev(), m.ino())).ok();
        if own.is_some() && own == there {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Make the reading thread look up.
pub fn wake(path: &Path) {
    let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits() as i32;
    if let Ok(mut fifo) = OpenOptions::new().write(true).custom_flags(flags).open(path)
        && fifo.metadata().is_ok_and(|m| m.file_type().is_fifo())
    {
        let _ = fifo.write_all(b"\n");
    }
}

fn make(path: &Path, mode: u32, owner: Owner) -> Result<File, String> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_fifo() => {
            fs::remove_file(path)
                .map_err(|e| format!("the FIFO of an earlier run cannot be replaced: {e}"))?;
        }
        Ok(_) => return Err("there is something that is not a FIFO; remove it or choose another path".into()),
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(e.to_string()),
    }
    // Private until owner and permissions are right.
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
        .map_err(|e| format!("the FIFO cannot be made: {e}"))?;
    let set = || -> std::io::Result<File> {
        if owner != Owner::default() {
            chown(path, owner.user, owner.group)?;
        }
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        // Open for both, so that the end of one writer is not the end of the file.
        let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits() as i32;
        OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
    };
    set().map_err(|e| {
        let _ = fs::remove_file(path);
        e.to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regular_file_is_never_served_or_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "precious").unwrap();
        assert!(Fifo::create(&path, 0o600, Owner::default()).err().unwrap().contains("not a FIFO"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn one_of_an_earlier_run_is_replaced_and_removed_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let first = Fifo::create(&path, 0o600, Owner::default()).unwrap();
        let second = Fifo::create(&path, 0o640, Owner::default()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        first.remove();
        assert!(path.exists(), "it belongs to the second by now");
        second.remove();
        assert!(!path.exists());
    }

    #[test]
    fn one_that_was_removed_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut fifo = Fifo::create(&path, 0o600, Owner::default()).unwrap();
        fs::remove_file(&path).unwrap();
        fifo.keep();
        assert!(path.exists());
        wake(&path);
        assert_eq!(fifo.read(false), Read::Bytes(b"\n".to_vec()));
    }

    #[test]
    fn owners_are_names_or_numbers() {
        assert_eq!(Owner::new(Some("12"), None).unwrap().user, Some(12));
        assert_eq!(Owner::new(Some("root"), Some("root")).unwrap(), Owner { user: Some(0), group: Some(0) });
        assert!(Owner::new(None, Some("no such group")).unwrap_err().contains("/etc/group"));
    }
}
