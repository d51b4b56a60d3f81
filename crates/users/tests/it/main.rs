//! The floor of users through the whole house: pages, scripts, registrations, and calls that wait for them.

mod dtmf;
mod pages;
mod permissions;
mod pings;
mod routing;
mod scripts;
mod support;
mod waiting;
