//! Revisioned key-value store with watch: bytes and revisions, no kinds.

pub mod store;
