//! The rows both sides of the kernel border read: keys and values of every map, drop reasons, stations, the flow event.
//!
//! Shapes only: nothing here decides, reads a clock or does I/O, and nothing here knows aya. Every row is `repr(C)`
//! without padding, derives zerocopy's `FromBytes` and `IntoBytes`, and asserts its size at compile time. Addresses are
//! always 16 bytes, IPv4 in its mapped form `::ffff:a.b.c.d`, so that IPv6 is a family and not another map.
#![no_std]

pub mod address;
pub mod backend;
pub mod bridge;
pub mod choice;
pub mod config;
pub mod conntrack;
pub mod counter;
pub mod dry;
pub mod endpoint;
pub mod event;
pub mod flow_table;
pub mod fragment;
pub mod hook;
pub mod maps;
pub mod order;
pub mod reason;
pub mod route;
pub mod service;
pub mod sip;
pub mod socket;
pub mod station;

mod numbered;

/// Version of the layout of all rows together. Raised by every change to a row that is kept across an upgrade. Such changes
/// keep to the rule in [`bridge`], so that the rows go over from any layout to any other.
pub const LAYOUT: u32 = if cfg!(feature = "other-layout") { 6 } else { 5 };
