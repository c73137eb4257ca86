//! The node protocol between control plane and agent: messages, framing, resume.
//!
//! Everything but `session` is without sockets, clocks and tasks; `session` (feature `session`) is the one place that
//! knows QUIC.

pub mod frame;
pub mod hello;
pub mod join;
pub mod message;
pub mod position;
pub mod receiver;
pub mod sender;
#[cfg(feature = "session")]
pub mod session;

pub use position::StoreIdentity;
pub use receiver::{Change, Encoded, ReceiveError, Receiver};
pub use sender::{Item, Part, Sender, Start};
