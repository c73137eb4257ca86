//! SPDY/3.1 (draft-mbelshe-httpbis-spdy-00 and what 3.1 adds) as kubectl speaks it, both ends, without sockets.
//!
//! A [`Connection`] takes bytes as they come and gives [`Event`]s, takes what is to be sent and gives bytes. It waits for
//! nothing, reads no clock, and holds no more than its [`Limits`] say, whatever the peer sends.
//!
//! Windows are not kept, in either direction: moby/spdystream, which kubectl and Kubernetes use, sends no `WINDOW_UPDATE`
//! and heeds none, so who waited for one would stop for ever after 64 KiB. What is read from the transport is bounded by
//! whoever drives the connection.

mod connection;
mod dictionary;
mod frame;
mod headers;

pub use connection::{Connection, Error, Event, Limits, OpenError, Role};
pub use frame::ResetStatus;
pub use headers::{HeaderError, Headers};
