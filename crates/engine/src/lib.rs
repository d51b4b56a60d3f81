//! Floor 1: machines without I/O.
//!
//! Rooms: [`transaction`] (the four state machines of RFC 3261 §17, matching, the table), [`proxy`] (a request, its
//! branches and the choice of the reply), [`smpp_session`] and [`wheel`] (timers). A machine is told the time and what happened, and says
//! what is to be done as values; it has one deadline. Nothing here knows a socket, a task, a clock or a random source.

pub mod proxy;
pub mod smpp_session;
pub mod transaction;
pub mod wheel;
