//! Everything that speaks to containerd's shim; outside of this module nobody knows its protocol.

pub(crate) mod cleanup;
pub(crate) mod start;
pub(crate) mod streams;
pub(crate) mod task;
