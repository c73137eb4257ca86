//! What the programs must know about their node: one row, so that a setting changes without loading anything anew.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::address::Address;

/// [`Config::flags`]: balance at connect. Off: Services are served by the per-packet path alone.
pub const BALANCE_SOCKET: u32 = 1 << 0;
/// [`Config::flags`]: balance packets that still carry a Service address.
pub const BALANCE_PACKET: u32 = 1 << 1;
/// [`Config::flags`]: an event for every new flow (drops are always told).
pub const FLOW_EVENTS: u32 = 1 << 2;
/// [`Config::flags`]: rows with [`crate::service::SERVICE_OUTWARD`] stand at this node's own address (host ports, external
/// addresses): what comes from outside for the host itself is looked for there.
pub const OUTWARD_HERE: u32 = 1 << 3;
/// [`Config::flags`]: what comes from outside for a backend of another node goes there as it is, and is answered from there.
pub const DIRECT_RETURN: u32 = 1 << 4;

/// [`Config::flags`]: nodes encrypt: the tunnel takes only what comes out of the device that decrypts.
pub const ENCRYPTED: u32 = 1 << 5;
/// [`Config::flags`]: every packet of the tunnel goes by its device, and so by the host's own rules about it.
pub const TUNNEL_BY_DEVICE: u32 = 1 << 6;
/// Packet mark of what the device that decrypts gave: nothing that comes from outside bears one.
pub const CIPHER_MARK: u32 = 0x0077_6566;

/// The only row of the map `config` (an array). While [`Config::layout`] is not [`crate::LAYOUT`], programs let pass all
/// they see.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Config {
    /// [`crate::LAYOUT`]; 0 before the row is written.
    pub layout: u32,
    /// The switches above.
    pub flags: u32,
    /// This node's address on the underlay, IPv4: source of masqueraded flows.
    pub node_v4: Address,
    /// The same for IPv6; zero for none.
    pub node_v6: Address,
    /// This node's address in its own Pod range, IPv4: source of what the node itself sends to other nodes' Pods, of node port
    /// flows to backends on other nodes, and of hairpins. The node must have it (on its VXLAN device).
    pub overlay_v4: Address,
    /// The same for IPv6; zero for none.
    pub overlay_v6: Address,
    /// This node's index.
    pub node_index: u32,
    /// Interface index of the VXLAN device.
    pub overlay_ifindex: u32,
    /// Interface index of the uplink.
    pub uplink_ifindex: u32,
    /// First NodePort, host order.
    pub node_port_first: u16,
    /// Last NodePort, host order.
    pub node_port_last: u16,
    /// First source port that translation may take, host order; outside of `net.ipv4.ip_local_port_range`.
    pub source_port_first: u16,
    /// Last source port that translation may take, host order.
    pub source_port_last: u16,
    /// UDP port of the VXLAN tunnel, host order: Pods may not send to it on a node.
    pub overlay_port: u16,
    /// Length of this node's own Pod range of IPv4, which `overlay_v4` is in, bits of an [`Address`] (96 and its own); 0 while
    /// it is not known: what other nodes' Pods send to the range by the uplink is the host's own then.
    pub pod_bits_v4: u8,
    /// The same for IPv6 and `overlay_v6`.
    pub pod_bits_v6: u8,
    /// Raised after every change to Pods, routes and nodes, never 0: a flow whose way was found in another epoch finds
    /// it again.
    pub epoch: u32,
}

const _: () = assert!(size_of::<Config>() == 100);

/// Default of [`Config::source_port_first`]: just above Linux's default local port range (32768 to 60999).
pub const SOURCE_PORT_FIRST: u16 = 61_000;
/// Default of [`Config::source_port_last`].
pub const SOURCE_PORT_LAST: u16 = 65_535;
