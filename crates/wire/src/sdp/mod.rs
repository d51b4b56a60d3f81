//! Session descriptions (RFC 8866), read only.
