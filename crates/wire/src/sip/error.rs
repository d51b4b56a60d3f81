//! What is wrong with a message, and what to do about it (RFC 3261 §8.2, §16.3, §18.3; RFC 4475).

use super::{HeaderId, Message, UriError};

/// Why [`Message::parse`] refused a message, as the action the receiver owes.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// A request that can still be answered: send `code` `reason` built from what is usable in `message`.
    #[error("{code} {reason}: {fault}")]
    Reject {
        /// Status code of the answer, 400 or 505.
        code: u16,
        /// Reason phrase of the answer.
        reason: &'static str,
        /// What was wrong.
        fault: Fault,
        /// The headers found so far; its Via, From, To, Call-ID and CSeq lines are used as they are.
        message: Box<Message>,
    },
    /// Nothing can or may be answered: a reply, an ACK, a request without Via, bytes that are not SIP.
    #[error("dropped: {0}")]
    Drop(Fault),
    /// The stream has lost its framing or is not SIP: close the connection.
    #[error("connection to be closed: {0}")]
    Close(Fault),
}

/// A fault in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nothing but line ends: a keep-alive.
    #[error("no message, only line ends")]
    KeepAlive,
    /// The first line is neither a request line nor a status line.
    #[error("the first line is neither a request line nor a status line")]
    StartLine,
    /// A SIP version other than 2.0.
    #[error("the SIP version is not 2.0")]
    Version,
    /// The empty line after the headers is missing.
    #[error("the empty line after the headers is missing")]
    Truncated,
    /// More headers than [`super::MAX_HEADERS`].
    #[error("more headers than the limit")]
    TooManyHeaders,
    /// More bytes than the limit of the transport.
    #[error("more bytes than the limit")]
    TooLong,
    /// A header line without name or colon.
    #[error("a header line has no name and colon")]
    HeaderLine,
    /// The body is shorter than Content-Length says.
    #[error("the body is shorter than Content-Length says")]
    BodyTooShort,
    /// A header that may occur once occurs several times.
    #[error("{0} occurs more than once")]
    Repeated(HeaderId),
    /// A mandatory header is missing or a header cannot be read.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// CSeq names another method than the request line.
    #[error("CSeq names another method than the request line")]
    MethodMismatch,
    /// The request URI cannot be read.
    #[error("request URI: {0}")]
    RequestUri(UriError),
}

/// A header that is missing or cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The header is not there.
    #[error("{0} is missing")]
    Missing(HeaderId),
    /// The header's value breaks its grammar.
    #[error("{0} is malformed: {1}")]
    Malformed(HeaderId, &'static str),
}

impl Fault {
    /// The reason phrase of a 400 for this fault.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Fault::Version => "Version Not Supported",
            Fault::Truncated => "Bad Request - Truncated Headers",
            Fault::TooManyHeaders => "Bad Request - Too Many Headers",
            Fault::HeaderLine => "Bad Request - Malformed Header",
            Fault::BodyTooShort => "Bad Request - Body Shorter Than Content-Length",
            Fault::Repeated(_) => "Bad Request - Repeated Header",
            Fault::MethodMismatch => "Bad Request - CSeq Method Mismatch",
            Fault::RequestUri(_) => "Bad Request - Invalid Request-URI",
            Fault::Field(FieldError::Missing(id)) => match id {
                HeaderId::From => "Bad Request - Missing From",
                HeaderId::To => "Bad Request - Missing To",
                HeaderId::CallId => "Bad Request - Missing Call-ID",
                HeaderId::CSeq => "Bad Request - Missing CSeq",
                _ => "Bad Request - Missing Header",
            },
            Fault::Field(FieldError::Malformed(id, _)) => match id {
                HeaderId::Via => "Bad Request - Malformed Via",
                HeaderId::From => "Bad Request - Malformed From",
                HeaderId::To => "Bad Request - Malformed To",
                HeaderId::CSeq => "Bad Request - Malformed CSeq",
                HeaderId::ContentLength => "Bad Request - Malformed Content-Length",
                HeaderId::MaxForwards => "Bad Request - Malformed Max-Forwards",
                _ => "Bad Request - Malformed Header",
            },
            Fault::KeepAlive | Fault::StartLine | Fault::TooLong => "Bad Request",
        }
    }
}
