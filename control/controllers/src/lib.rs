//! The control loops, each a pure plan.
//!
//! [`world::World`] is what the loops know, [`action::Action`] all they may ask for, [`table::LOOPS`] all of them. A plan
//! reads no clock, no random source and no socket: time and a random number come in [`table::Context`].

pub mod action;
mod deployment;
pub mod node_view;
mod pod_facts;
pub mod record;
mod replica_set;
pub mod service_address;
pub mod settings;
pub mod table;
pub mod world;

#[cfg(test)]
mod testing;
