//! The control loops, each a pure plan.
//!
//! [`world::World`] is what the loops know, [`action::Action`] all they may ask for, [`table::LOOPS`] all of them. A plan
//! reads no clock, no random source and no socket: time and a random number come in [`table::Context`].

// Tests build their objects from JSON literals, given by value.
#![cfg_attr(test, allow(clippy::needless_pass_by_value))]

pub mod action;
mod backends;
mod deployment;
mod endpoint_mirror;
mod endpoint_slice;
mod endpoints;
mod event_ttl;
mod garbage;
mod kubernetes_service;
mod load_balancer;
mod namespace_life;
mod node_cidr;
pub mod node_key;
pub mod node_life;
pub mod node_view;
mod pod_facts;
mod pod_life;
pub mod record;
mod replica_set;
mod scheduling;
pub mod service_address;
pub mod settings;
pub mod table;
pub mod world;

#[cfg(test)]
mod testing;
