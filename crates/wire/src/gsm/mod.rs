//! What short messages carry (3GPP TS 23.038, TS 23.040): alphabets, the data coding octet, user data headers, and the parts of
//! a long message.

mod alphabet;
mod coding;
mod pack;
mod parts;
mod udh;

pub use alphabet::{Language, NotRepresentable, Shifts, decode_gsm7, encode_gsm7, septets};
pub use coding::{Alphabet, Coding, decode, encode};
pub use pack::{pack, unpack};
pub use parts::{Chosen, Concat, Limits, choose, split};
pub use udh::{Udh, concat_header, ports_header};
