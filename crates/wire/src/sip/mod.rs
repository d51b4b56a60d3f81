//! SIP on the wire (RFC 3261 §7, §18.3, §19, §20, §25).
//!
//! [`Message`] keeps the received bytes and finds line and header boundaries in one pass; every header is parsed when
//! it is first read. [`Edits`] is a list of changes over those bytes, replayed once by [`serialise`]. Builders for
//! replies and requests, digest authentication and stream framing are the submodules.

mod call_id;
pub mod digest;
mod edits;
mod error;
pub mod frame;
mod header;
mod message;
mod method;
mod multipart;
mod name_addr;
mod params;
pub mod reply;
pub mod request;
pub mod scan;
mod span;
mod uri;
mod via;

pub use call_id::{call_id_hash, call_id_of};
pub use edits::{Edits, serialise};
pub use error::{Fault, FieldError, ParseError};
pub use header::{Header, HeaderId};
pub use message::{MAX_HEADERS, Message};
pub use method::Method;
pub use multipart::{Part, Parts, is_media_type};
pub use name_addr::{NameAddr, NameAddrs};
pub use params::{Param, Params};
pub use uri::{Scheme, Uri, UriBuf, UriError, uri_eq};
pub use via::{Rport, Via};
