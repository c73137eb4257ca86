//! Routes: where an address is, and the nodes of the cluster.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::address::Address;

/// MAC address that every node's VXLAN device has: what leaves one node is for the other's device, and no neighbour needs to be asked.
pub const OVERLAY_MAC: [u8; 6] = [0x02, 0x77, 0x65, 0x66, 0x74, 0x00];
/// Source MAC address of all that is put into the tunnel; not [`OVERLAY_MAC`], since a VXLAN device drops frames that seem to be its own.
pub const OVERLAY_SOURCE_MAC: [u8; 6] = [0x02, 0x77, 0x65, 0x66, 0x74, 0x01];
/// Source MAC address of what a program on the VXLAN device sends up into the node's own stack.
pub const OVERLAY_RETURN_MAC: [u8; 6] = [0x02, 0x77, 0x65, 0x66, 0x74, 0x02];
/// Source MAC address of what goes into the tunnel as it came from outside, to the node of its backend, which balances it and
/// answers the client itself.
pub const OVERLAY_DIRECT_MAC: [u8; 6] = [0x02, 0x77, 0x65, 0x66, 0x74, 0x03];
/// VXLAN network identifier of what carries no identity.
pub const OVERLAY_VNI: u32 = 1;

/// [`Route::kind`]: Pods of another node, through the tunnel to `tunnel`.
pub const ROUTE_TUNNEL: u32 = 1;
/// [`Route::kind`]: an address of this node (its own, the overlay's, the DNS Service's): up into its stack.
pub const ROUTE_HOST: u32 = 2;
/// [`Route::kind`]: outside of the cluster; leaves by the uplink, a Pod's source address is masqueraded. Also other nodes' own addresses.
pub const ROUTE_OUTSIDE: u32 = 3;
/// [`Route::kind`]: a Service range; what matched no Service is dropped with the reason "no service".
pub const ROUTE_SERVICE: u32 = 4;
/// [`Route::kind`]: the cluster's Pod range; what matched no Pod and no node is dropped with the reason "no such pod".
pub const ROUTE_NOWHERE: u32 = 5;
/// [`crate::conntrack::Flow::way`]: a Pod of this node. No row of `routes` has it: the map `endpoints` knows these.
pub const ROUTE_POD: u32 = 6;

/// [`Route::kind`]: Pods of another node, as they are, by the uplink to `tunnel`, which is a neighbour there and of the
/// range's own family.
pub const ROUTE_NATIVE: u32 = 7;
/// [`Route::kind`]: Pods of a node that has no key yet, where nodes encrypt; dropped with the reason "no key".
pub const ROUTE_LOCKED: u32 = 8;

/// What the programs write into a packet's `tc_index` when they send it natively: the program at the uplink knows by it what
/// has been walked already.
pub const WALKED_INDEX: u32 = 0x7766;

/// Key of the map `routes` (a longest-prefix trie).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RouteKey {
    /// Length of the prefix in bits, host order: 0 to 128, for IPv4 96 plus its own.
    pub prefix_bits: u32,
    /// The prefix, bits beyond its length zero.
    pub address: Address,
}

const _: () = assert!(size_of::<RouteKey>() == 20);

/// Value of the map `routes`. No match at all means [`ROUTE_OUTSIDE`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Route {
    /// `ROUTE_*`.
    pub kind: u32,
    /// Index of the node behind it; 0 for none.
    pub node_index: u32,
    /// The other node's address on the underlay, for [`ROUTE_TUNNEL`] and [`ROUTE_NATIVE`].
    pub tunnel: Address,
}

const _: () = assert!(size_of::<Route>() == 24);

/// [`Node::flags`]: this node itself.
pub const NODE_SELF: u32 = 1 << 0;

/// Value of the map `nodes`: an underlay address of a node, this one included. Its key is the [`Address`]. Node ports
/// are served on these addresses, and the tunnel accepts packets from them only.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Node {
    /// The node's index, never 0.
    pub index: u32,
    /// `NODE_*`.
    pub flags: u32,
}

const _: () = assert!(size_of::<Node>() == 8);
