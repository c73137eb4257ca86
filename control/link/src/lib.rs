//! The node protocol between control plane and agent: messages, framing, resume.
//!
//! Everything but `session` is without sockets, clocks and tasks; `session` (feature `session`) is the one place that
//! knows QUIC.

pub mod message;
