//! A cluster for a test: started by `cargo xtask up` under a name of its own, removed when the test ends, also when it
//! fails. Everything a test does to it goes the way a user's commands go. Or a control plane alone, for tests of clients.

pub mod cluster;
pub mod run;
pub mod server;
pub mod tables;

pub use cluster::Cluster;
pub use run::{Output, Run, Running, until};
pub use server::Server;
