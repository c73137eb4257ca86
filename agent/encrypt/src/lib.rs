//! Encryption between nodes by WireGuard: the kernel's where it has one, otherwise in user space over a TUN device, in a process
//! that outlives the agent.
//!
//! [`wanted`] names what a node is told; [`engine`] decides what becomes of a packet and does no I/O; [`device`] moves
//! packets; [`helper`] is the process, [`client`] the agent's end of it. [`kernel`] has the kernel do it. Nothing here knows the cluster, or maps.

pub mod client;
pub mod device;
pub mod helper;
pub mod kernel;
pub mod wanted;

mod engine;
mod sys;

pub use client::{Client, ClientError};
pub use wanted::{OwnKey, Peer, PeerStatus, PublicKey, SecretKey, Status, Wanted};
