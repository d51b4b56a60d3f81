//! Floor 0: bytes to types and back, without loss.
//!
//! Rooms: [`sip`] (messages, URIs, edits, builders, digest, stream framing), [`sdp`] (session descriptions, read only),
//! [`smpp`] (short messages between centres and applications) and [`gsm`] (their alphabets, headers and parts). Nothing here knows a clock, a socket, a task or a random source; whatever of that is needed comes in as an
//! argument. Nothing here panics on received bytes.

pub mod gsm;
pub mod sdp;
pub mod sip;
pub mod smpp;
