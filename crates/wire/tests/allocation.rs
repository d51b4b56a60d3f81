//! Reading a usual INVITE allocates nothing.

#![allow(unsafe_code, reason = "a global allocator that counts")]

use bytes::Bytes;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use switchroom_wire::sip::{HeaderId, Message};

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|c| c.set(c.get() + 1));
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn reading_an_invite_allocates_nothing() {
    let raw = Bytes::from_static(
        b"INVITE sip:bob@biloxi.example.com SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1, SIP/2.0/UDP b\r\n\
        Route: <sip:p;lr>\r\nFrom: \"A\" <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n\
        Contact: <sip:a@1.2.3.4>\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
    );
    let before = COUNT.with(Cell::get);
    let m = Message::parse(raw).unwrap().check().unwrap();
    assert_eq!(m.from().unwrap().tag(), Some(&b"1"[..]));
    assert!(m.to().unwrap().parse_uri().is_ok() && m.via().unwrap().has_magic_cookie());
    assert_eq!(m.vias().count() + m.routes().count() + m.contacts().count(), 4);
    assert!(m.header(HeaderId::UserAgent).is_none() && m.max_forwards().is_ok());
    let allocations = COUNT.with(Cell::get) - before;
    assert_eq!(allocations, 0);
}
