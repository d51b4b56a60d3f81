//! UDP: one socket per worker and listening address, read and written in batches (RFC 3261 §18).
//!
//! Keep-alives (RFC 5626 §3.5.1: line ends) and datagrams too short to be SIP are counted and dropped here.

mod sys;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::task::{Context, Poll};

use bytes::Bytes;
use switchroom_kernel::ports::net::{Outgoing, SendError, SocketId};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::counters::{WorkerCounters, add};

use sys::{BATCH, ReceiveBatch, ReceiveQueue};

pub(crate) use sys::SendBatch;

/// One listening address of one worker.
pub(crate) struct UdpPort {
    pub id: SocketId,
    /// Watched for reading only: each send would wake a worker that waits for room to write as well.
    fd: AsyncFd<UdpSocket>,
    /// The same socket watched for writing, while it is full.
    full: RefCell<Option<AsyncFd<UdpSocket>>>,
    ipv6: bool,
    queue: RefCell<VecDeque<Outgoing>>,
    queue_limit: usize,
}

impl UdpPort {
    /// Must be called inside the worker's runtime.
    pub fn new(id: SocketId, socket: UdpSocket, queue_limit: usize) -> io::Result<UdpPort> {
        let ipv6 = socket.local_addr()?.is_ipv6();
        let fd = sys::register(socket, Interest::READABLE)?;
        Ok(UdpPort { id, fd, full: RefCell::default(), ipv6, queue: RefCell::default(), queue_limit })
    }

    /// Receives at most one batch and gives each datagram to `take`. True when more may be there; false registers `cx`
    /// for the next datagram.
    pub fn receive(
        &self,
        cx: &mut Context<'_>,
        room: &mut Room,
        counters: &WorkerCounters,
        mut take: impl FnMut(Bytes, SocketAddr),
    ) -> bool {
        loop {
            let mut ready = match self.fd.poll_read_ready(cx) {
                Poll::Ready(Ok(ready)) => ready,
                // The runtime is going down.
                Poll::Ready(Err(_)) | Poll::Pending => return false,
            };
            match ready.try_io(|fd| room.batch.receive(fd.get_ref().as_fd())) {
                Ok(Ok(n)) => {
                    for index in 0..n {
                        let Some((data, peer)) = room.batch.datagram(index) else { continue };
                        add(&counters.udp_received, 1);
                        add(&counters.udp_bytes_received, data.len() as u64);
                        if is_noise(data) {
                            add(&counters.udp_ignored, 1);
                            continue;
                        }
                        // Each datagram on its own: a transaction that keeps one must not keep its neighbours.
                        take(Bytes::copy_from_slice(data), peer);
                    }
                    if n == BATCH {
                        return true;
                    }
                    // The queue was read to its end: what comes now raises a new event, so no call is spent on hearing
                    // that there is nothing.
                    ready.clear_ready();
                    return match self.fd.poll_read_ready(cx) {
                        Poll::Ready(Ok(_)) => true,
                        Poll::Ready(Err(_)) | Poll::Pending => false,
                    };
                }
                // A pending ICMP error or a signal: it says nothing about what can still be read. The caller's budget
                // bounds how often this is tried again.
                Ok(Err(_)) => return true,
                // Readiness was cleared: ask again, which registers the waker.
                Err(_would_block) => {}
            }
        }
    }

    /// The kernel's receive queue; `None` where it does not say.
    pub fn receive_queue(&self) -> Option<ReceiveQueue> {
        sys::receive_queue(self.fd.get_ref().as_fd())
    }

    /// Queues a message, or says why it cannot be sent.
    pub fn queue(&self, out: Outgoing) -> Result<(), (u64, SendError)> {
        if out.peer.is_ipv6() != self.ipv6 || out.data.len() > 65_507 || out.peer.port() == 0 {
            return Err((out.token, SendError::Unsendable));
        }
        let mut queue = self.queue.borrow_mut();
        if queue.len() >= self.queue_limit {
            return Err((out.token, SendError::QueueFull));
        }
        queue.push_back(out);
        Ok(())
    }

    /// Hands the queue to the kernel, as far as it takes it; registers `cx` when it is full.
    pub fn flush(
        &self,
        cx: &mut Context<'_>,
        batch: &mut SendBatch,
        counters: &WorkerCounters,
        mut failed: impl FnMut(u64, SendError),
    ) {
        let mut queue = self.queue.borrow_mut();
        while !queue.is_empty() {
            let sent =
                batch.send(self.fd.get_ref().as_fd(), queue.iter().map(|out| (&out.data[..], out.peer)));
            match sent {
                Ok(n) => {
                    let bytes: usize = queue.drain(..n).map(|out| out.data.len()).sum();
                    add(&counters.udp_sent, n as u64);
                    add(&counters.udp_bytes_sent, bytes as u64);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if self.poll_room(cx).is_pending() {
                        return;
                    }
                }
                Err(e) => {
                    add(&counters.udp_send_errors, 1);
                    if let Some(out) = queue.pop_front() {
                        failed(out.token, send_error(&e));
                    }
                }
            }
        }
        drop(self.full.take());
    }

    /// Whether the socket may have room again; otherwise `cx` is woken when it has.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut full = self.full.borrow_mut();
        let fd = match &mut *full {
            Some(fd) => fd,
            None => {
                let again = self.fd.get_ref().try_clone();
                match again.and_then(|socket| sys::register(socket, Interest::WRITABLE)) {
                    Ok(fd) => full.insert(fd),
                    // Out of descriptors: tried again in the next round.
                    Err(_) => {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
            }
        };
        match fd.poll_write_ready(cx) {
            Poll::Ready(Ok(mut ready)) => {
                ready.clear_ready();
                Poll::Ready(())
            }
            // The runtime is going down, or there is no room.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }

    /// Whether something waits to be sent.
    pub fn is_idle(&self) -> bool {
        self.queue.borrow().is_empty()
    }
}

fn send_error(error: &io::Error) -> SendError {
    match error.raw_os_error() {
        Some(libc::EMSGSIZE | libc::EINVAL | libc::EAFNOSUPPORT | libc::EACCES) => SendError::Unsendable,
        Some(libc::ENOBUFS | libc::ENOMEM) => SendError::QueueFull,
        _ => SendError::Refused,
    }
}

fn is_noise(data: &[u8]) -> bool {
    data.len() <= 4 || data.iter().all(|b| matches!(b, b'\r' | b'\n' | b' ' | b'\t' | 0))
}

/// What one worker needs to receive; shared by its sockets.
pub(crate) struct Room {
    batch: ReceiveBatch,
}

impl Room {
    pub fn new() -> Room {
        Room { batch: ReceiveBatch::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keep_alives_and_short_datagrams_are_noise() {
        for noise in
            [&b""[..], b"\r\n", b"\r\n\r\n", b"\0\0\0\0", b"hi", b"\r\n\r\n\r\n", b"\0\0\0\0\0\0\0\0"]
        {
            assert!(is_noise(noise), "{noise:?}");
        }
        assert!(!is_noise(b"OPTIONS"));
    }
}
