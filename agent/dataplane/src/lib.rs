//! Desired Services, Pods and policies to map rows; loading, attaching, pinning.
//!
//! [`desired`] says what the node's kernel should know; [`rows`], [`plan`] and [`diff`] turn it into writes without
//! touching anything; the rest does the writing: [`Dataplane`] is what the agent holds.

pub mod config;
pub mod desired;
pub mod diff;
pub mod netns;
pub mod plan;
pub mod rows;

mod netlink;

pub use config::{Capacities, Config, ConfigError};
