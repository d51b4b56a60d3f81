//! `recvmmsg(2)` and `sendmmsg(2)`: many datagrams with one system call. All unsafe code of this floor is here.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use socket2::SockAddr;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Datagrams per system call.
pub const BATCH: usize = 64;
/// No datagram is larger, so none is cut.
const DATAGRAM: usize = 65_536;

/// Makes the runtime watch `socket` for reading, or for writing.
pub fn register(socket: UdpSocket, interest: Interest) -> io::Result<AsyncFd<UdpSocket>> {
    // SAFETY: a UdpSocket owns its descriptor, always names the same one, and the AsyncFd owns the UdpSocket.
    let fd = unsafe { AsyncFd::register_with_interest(socket, interest) };
    Ok(fd?)
}

/// Room for one batch of received datagrams. One per worker serves all its sockets in turn.
pub struct ReceiveBatch {
    buffers: Vec<u8>,
    names: Vec<libc::sockaddr_storage>,
    /// `headers` points into this; kept only to stay alive.
    _parts: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

impl ReceiveBatch {
    pub fn new() -> ReceiveBatch {
        // Zeroed pages are not touched before the first datagram needs them.
        let mut buffers = vec![0u8; BATCH * DATAGRAM];
        // SAFETY: all three are plain C structures for which all zero bits are a valid value.
        let mut names: Vec<libc::sockaddr_storage> = vec![unsafe { mem::zeroed() }; BATCH];
        let mut parts: Vec<libc::iovec> = vec![unsafe { mem::zeroed() }; BATCH];
        let mut headers: Vec<libc::mmsghdr> = vec![unsafe { mem::zeroed() }; BATCH];
        for i in 0..BATCH {
            // None of the vectors is ever resized, so these pointers stay good as long as `self`.
            parts[i].iov_base = buffers[i * DATAGRAM..].as_mut_ptr().cast();
            parts[i].iov_len = DATAGRAM;
            let header = &mut headers[i].msg_hdr;
            header.msg_iov = &raw mut parts[i];
            header.msg_iovlen = 1;
            header.msg_name = (&raw mut names[i]).cast();
        }
        ReceiveBatch { buffers, names, _parts: parts, headers }
    }

    /// Receives what is there without waiting; gives the number of datagrams.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        for header in &mut self.headers {
            header.msg_hdr.msg_namelen = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        }
        // SAFETY: BATCH headers exist, each with a buffer and a name of the stated sizes, all owned by `self`.
        let n = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }

    /// Datagram `index` of the last batch and its sender, when that has an IP address.
    pub fn datagram(&self, index: usize) -> Option<(&[u8], SocketAddr)> {
        let length = self.headers.get(index)?.msg_len as usize;
        let start = index * DATAGRAM;
        let peer = socket_addr(self.names.get(index)?)?;
        Some((self.buffers.get(start..start + length.min(DATAGRAM))?, peer))
    }
}

/// The receive queue of a socket.
pub struct ReceiveQueue {
    /// Bytes in it, with what the kernel needs itself.
    pub bytes: u32,
    /// Bytes that it takes.
    pub limit: u32,
    /// Datagrams that found no room so far.
    pub dropped: u32,
}

/// The receive queue of a socket; `None` where the kernel does not say.
pub fn receive_queue(socket: BorrowedFd<'_>) -> Option<ReceiveQueue> {
    // From linux/sock_diag.h.
    const RMEM_ALLOC: usize = 0;
    const RCVBUF: usize = 1;
    const DROPS: usize = 8;
    let mut info = [0u32; 9];
    let mut len = mem::size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, which is the size of `info`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    (result == 0).then(|| ReceiveQueue { bytes: info[RMEM_ALLOC], limit: info[RCVBUF], dropped: info[DROPS] })
}

fn socket_addr(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that it is a sockaddr_in, which fits into a sockaddr_storage by definition.
            let v4 = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above, for sockaddr_in6.
            let v6 = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), 0, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// Room for one batch of datagrams to send.
pub struct SendBatch {
    names: Vec<SockAddr>,
    parts: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

impl SendBatch {
    pub fn new() -> SendBatch {
        SendBatch {
            names: Vec::with_capacity(BATCH),
            parts: Vec::with_capacity(BATCH),
            headers: Vec::with_capacity(BATCH),
        }
    }

    /// Sends the first [`BATCH`] of `datagrams` without waiting. Gives how many the kernel took; an error concerns the
    /// first one only.
    pub fn send<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        datagrams: impl Iterator<Item = (&'a [u8], SocketAddr)>,
    ) -> io::Result<usize> {
        self.names.clear();
        self.parts.clear();
        self.headers.clear();
        for (data, peer) in datagrams.take(BATCH) {
            self.names.push(SockAddr::from(peer));
            self.parts.push(libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() });
        }
        for (name, part) in self.names.iter().zip(&mut self.parts) {
            // SAFETY: a plain C structure for which all zero bits are a valid value.
            let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
            header.msg_hdr.msg_name = name.as_ptr().cast_mut().cast();
            header.msg_hdr.msg_namelen = name.len();
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
            self.headers.push(header);
        }
        // SAFETY: as many headers exist as are passed; their names and parts are owned by `self`, the data is borrowed
        // for longer than this call, and the kernel only reads it.
        let n = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as libc::c_uint,
                libc::MSG_DONTWAIT,
            )
        };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }
}
