//! Answers: written to a FIFO that the asker made and, it is hoped, reads.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

/// How long an asker may take to open its FIFO.
const OPEN_TIME: Duration = Duration::from_secs(2);
/// How long it may stop reading in the middle of an answer.
const WRITE_TIME: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);

/// Write an answer to `name` in `dir`. Never waits longer than a few seconds, and never creates a file.
pub fn send(dir: &Path, name: &str, text: &[u8]) -> Result<(), String> {
    if name.contains('/') || name.contains('\0') || matches!(name, "." | "..") {
        return Err(format!("the reply FIFO \"{name}\" must be a plain name in {}", dir.display()));
    }
    let path = dir.join(name);
    let shown = path.display();
    let mut file = open(&path)?;
    let mut rest = text;
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(n) => rest = &rest[n..],
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                if !is_writable(&file) {
                    return Err(format!("{shown} is not read; its answer was given up"));
                }
            }
            Err(e) => return Err(format!("{shown}: {e}")),
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<File, String> {
    let shown = path.display();
    let give_up = Instant::now() + OPEN_TIME;
    // Links are not followed and only FIFOs are written to: the folder is often one that anybody may write.
    let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits() as i32;
    loop {
        match OpenOptions::new().write(true).custom_flags(flags).open(path) {
            Ok(file) => {
                let meta = file.metadata().map_err(|e| format!("{shown}: {e}"))?;
                if !meta.file_type().is_fifo() || meta.nlink() > 1 {
                    return Err(format!("{shown} is not a FIFO; no answer is written to it"));
                }
                return Ok(file);
            }
            // No reader yet, or not even made yet.
            Err(e) if Instant::now() < give_up && is_early(&e) => std::thread::sleep(PAUSE),
            Err(e) if is_early(&e) => return Err(format!("nobody reads {shown}; its answer was given up")),
            Err(e) => return Err(format!("{shown}: {e}")),
        }
    }
}

fn is_early(e: &std::io::Error) -> bool {
    let no_reader = rustix::io::Errno::from_io_error(e) == Some(rustix::io::Errno::NXIO);
    no_reader || e.kind() == ErrorKind::NotFound
}

fn is_writable(file: &File) -> bool {
    let limit = Timespec { tv_sec: WRITE_TIME.as_secs() as i64, tv_nsec: 0 };
    let mut fds = [PollFd::new(file, PollFlags::OUT)];
    matches!(poll(&mut fds, Some(&limit)), Ok(n) if n > 0)
}
