//! The object model: what a Kubernetes object is to Weft, and every rule about it that needs nothing but the object.
//!
//! This crate knows kinds, fields, selectors, quantities, patches, defaults and validation. It must not know storage,
//! HTTP, clocks or nodes: time, names and random parts are arguments.

pub mod channel;
pub mod decode;
pub mod default;
pub mod discovery;
pub mod key;
pub mod kind;
pub mod meta;
pub mod object;
pub mod openapi;
pub mod patch;
pub mod proto;
pub mod quantity;
pub mod review;
pub mod schedule;
pub mod schema;
pub mod selector;
pub mod status;
pub mod table;
pub mod time;
pub mod usage;
pub mod validate;
pub mod view;
pub mod warn;
