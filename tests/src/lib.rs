//! A cluster for a test: started by `cargo xtask up` under a name of its own, removed when the test ends, also when it
//! fails. Everything a test does to it goes the way a user's commands go.

pub mod cluster;
pub mod run;
pub mod tables;

pub use cluster::Cluster;
pub use run::{Output, Run, Running, until};
