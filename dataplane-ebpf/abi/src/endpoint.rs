//! This node's Pods, and whose network namespaces the socket hooks serve.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Value of the map `endpoints`: a Pod of this node that has its own network. Its key is the Pod's
/// [`crate::address::Address`]; a Pod of two families has two rows.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Endpoint {
    /// Cookie of its network namespace.
    pub netns_cookie: u64,
    /// The host's end of its veth pair. Only packets from there may carry its address as their source.
    pub ifindex: u32,
    /// Its identity for policy; 0 before it is known.
    pub identity: u32,
    /// MAC address of the Pod's end.
    pub mac: [u8; 6],
    /// MAC address of the host's end: the Pod's gateway.
    pub gateway_mac: [u8; 6],
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Endpoint>() == 32);

/// [`Netns::kind`]: the node's own namespace.
pub const NETNS_NODE: u32 = 1;
/// [`Netns::kind`]: a Pod's.
pub const NETNS_POD: u32 = 2;

/// Value of the map `netns`: a network namespace whose sockets are balanced at connect. Its key is the namespace's
/// cookie (`SO_NETNS_COOKIE`), a `u64` in host order. Sockets of other namespaces pass untouched.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Netns {
    /// `NETNS_*`.
    pub kind: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Netns>() == 8);
