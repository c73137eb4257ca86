//! Settings of the dataplane, with their defaults and what makes them wrong. Plain values; nothing is opened here.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use thiserror::Error;
use weft_dataplane_abi::config::{SOURCE_PORT_FIRST, SOURCE_PORT_LAST};
use weft_dataplane_abi::maps;

use crate::desired::{Node, inner_address};

/// Longest device name prefix, bytes: ten more make the name of a Pod's device, which the kernel limits to 15.
pub const DEVICE_PREFIX_BYTES_MAX: usize = 5;

/// How packets travel between the Pods of two nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RoutingMode {
    /// In the tunnel, always.
    #[default]
    Tunnel,
    /// As they are between nodes that share a network, in the tunnel between others.
    Native,
}

impl RoutingMode {
    /// Its name in settings and for people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Tunnel => "tunnel",
            Self::Native => "native",
        }
    }
}

/// Everything the dataplane of one node is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node. The first Pod range of each family gives the node its own address inside the overlay: the range's
    /// first host address, which no Pod may get.
    pub node: Node,
    /// Ranges of all Pods of the cluster.
    pub cluster_cidrs: Vec<IpNet>,
    /// Ranges of the Services' addresses.
    pub service_cidrs: Vec<IpNet>,
    /// Addresses in the Service ranges that this node answers itself, such as the DNS Service's: they are put on one of its devices.
    pub answered_here: Vec<IpAddr>,
    /// The object with the eBPF programs.
    pub object_path: PathBuf,
    /// Directory of the pins; on a bpffs, which is mounted at `/sys/fs/bpf` if the path is below it and nothing is mounted there.
    pub bpffs_dir: PathBuf,
    /// Directory, lost at a reboot, for what must be known of Pods after a restart.
    pub state_dir: PathBuf,
    /// The cgroup (version 2) whose processes are balanced at connect: Pods and the node's own.
    pub cgroup_path: PathBuf,
    /// The device towards the other nodes; `None`: the one that has the node's address, else the default route's.
    pub uplink: Option<String>,
    /// How packet programs come to devices.
    pub packet_hooks: PacketHooks,
    /// Whether the uplink's driver carries packets by itself.
    pub xdp: Xdp,
    /// How packets travel between the Pods of two nodes.
    pub routing_mode: RoutingMode,
    /// UDP port of the tunnel.
    pub vxlan_port: u16,
    /// Every packet of the tunnel goes by its device, where the host's own IPsec and firewall meet it; off: most pass it by.
    pub tunnel_by_device: bool,
    /// Room that an encryption below all that is sent to other nodes takes of a packet, bytes; 0 for none.
    pub encryption_bytes: u32,
    /// What names of this crate's devices begin with.
    pub device_prefix: String,
    /// Whether nodes encrypt: the tunnel then runs through [`Config::cipher_devices`], which must be there.
    pub encrypted: bool,
    /// The kernel encrypts: by two devices, and whoever tends them chooses by routes of his own which leads to whom.
    pub cipher_in_kernel: bool,
    /// Balance at connect; off: packets are balanced one by one.
    pub socket_lb: bool,
    /// What comes from outside for another node's Pod goes there as it came, and that node answers the client; off: this node
    /// translates both ways.
    pub direct_return: bool,
    /// First and last port number for NodePorts.
    pub node_ports: (u16, u16),
    /// First and last source port number for translated flows; outside of the range the node's own sockets use.
    pub source_ports: (u16, u16),
    /// How many rows the kernel's tables hold.
    pub capacities: Capacities,
}

/// How packet programs come to devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PacketHooks {
    /// By tcx links where the kernel has them (Linux 6.6), else as clsact classifiers.
    #[default]
    Probe,
    /// As clsact classifiers on every kernel.
    Clsact,
}

/// Whether the uplink's driver carries on by itself (XDP) what of established flows leaves again by the uplink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Xdp {
    /// Never: the stack's programs carry everything.
    #[default]
    Off,
    /// Where the driver can, but on no veth, whose other end may lose what it is sent so.
    Auto,
    /// Where the driver can.
    On,
}

impl Config {
    /// Settings with every default, for a node and the object with its programs.
    #[must_use]
    pub fn new(node: Node, object_path: PathBuf) -> Self {
        Self {
            node,
            cluster_cidrs: Vec::new(),
            service_cidrs: Vec::new(),
            answered_here: Vec::new(),
            object_path,
            bpffs_dir: PathBuf::from("/sys/fs/bpf/weft"),
            state_dir: PathBuf::from("/run/weft/dataplane"),
            cgroup_path: PathBuf::from("/sys/fs/cgroup"),
            uplink: None,
            packet_hooks: PacketHooks::default(),
            xdp: Xdp::default(),
            routing_mode: RoutingMode::default(),
            vxlan_port: 4789,
            tunnel_by_device: false,
            encryption_bytes: 0,
            device_prefix: "weft".to_owned(),
            encrypted: false,
            cipher_in_kernel: false,
            socket_lb: true,
            direct_return: false,
            node_ports: (30_000, 32_767),
            source_ports: (SOURCE_PORT_FIRST, SOURCE_PORT_LAST),
            capacities: Capacities::default(),
        }
    }

    /// The node's first underlay address of a family.
    #[must_use]
    pub fn node_address(&self, v6: bool) -> Option<IpAddr> {
        self.node.addresses.iter().copied().find(|ip| ip.is_ipv6() == v6)
    }

    /// The node's own address inside the overlay: the first host address of its first Pod range of that family. Of IPv6 that is
    /// the second: the first one is every router's (RFC 4291, section 2.6.1).
    #[must_use]
    pub fn overlay_address(&self, v6: bool) -> Option<IpAddr> {
        let range = self.node.pod_cidrs.iter().find(|range| range.addr().is_ipv6() == v6)?;
        range.trunc().hosts().nth(usize::from(v6))
    }

    /// Length of the range that [`Self::overlay_address`] is in, bits of an address in the kernel's tables (for IPv4 96 and its
    /// own); 0 for none.
    #[must_use]
    pub fn pod_bits(&self, v6: bool) -> u8 {
        let range = self.node.pod_cidrs.iter().find(|range| range.addr().is_ipv6() == v6);
        range.map_or(0, |range| range.prefix_len() + if v6 { 0 } else { 96 })
    }

    /// Name of the VXLAN device.
    #[must_use]
    pub fn vxlan_device(&self) -> String {
        format!("{}-vxlan", self.device_prefix)
    }

    /// Name of the device that encrypts, where the kernel does not.
    #[must_use]
    pub fn cipher_device(&self) -> String {
        format!("{}-cipher", self.device_prefix)
    }

    /// Names of the devices that encrypt; none where nodes do not.
    #[must_use]
    pub fn cipher_devices(&self) -> Vec<String> {
        match self.every_cipher_device() {
            _ if !self.encrypted => Vec::new(),
            [_, even, odd] if self.cipher_in_kernel => vec![even, odd],
            [one, ..] => vec![one],
        }
    }

    /// Names of all devices that may ever have encrypted here.
    pub(crate) fn every_cipher_device(&self) -> [String; 3] {
        ["", "0", "1"].map(|which| format!("{}{which}", self.cipher_device()))
    }

    /// The node's own address inside the encryption; none where nodes do not encrypt.
    #[must_use]
    pub fn inner_address(&self) -> Option<IpAddr> {
        self.encrypted.then(|| inner_address(&self.node.pod_cidrs)).flatten()
    }

    /// Looks for values that cannot work.
    ///
    /// # Errors
    /// The first wrong value found, by name.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.node.name.is_empty() {
            return Err(ConfigError::NoNodeName);
        }
        if self.node.addresses.is_empty() {
            return Err(ConfigError::NoNodeAddress);
        }
        if self.encrypted && self.inner_address().is_none() {
            return Err(ConfigError::NoInnerAddress);
        }
        if self.device_prefix.is_empty() || self.device_prefix.len() > DEVICE_PREFIX_BYTES_MAX {
            return Err(ConfigError::DevicePrefix(self.device_prefix.clone()));
        }
        for (name, (first, last)) in [("node_ports", self.node_ports), ("source_ports", self.source_ports)] {
            if first == 0 || first > last {
                return Err(ConfigError::PortRange { name, first, last });
            }
        }
        if self.source_ports.0 <= self.node_ports.1 && self.node_ports.0 <= self.source_ports.1 {
            return Err(ConfigError::PortsOverlap);
        }
        Ok(())
    }
}

/// What is wrong with the settings.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// No name.
    #[error("the node has no name")]
    NoNodeName,
    /// No address.
    #[error("the node has no address")]
    NoNodeAddress,
    /// The tunnel would have no end.
    #[error("nodes encrypt, and this one has no IPv4 Pod range to take its address inside from")]
    NoInnerAddress,
    /// The prefix does not fit into device names.
    #[error("device name prefix {0:?} is not 1 to {DEVICE_PREFIX_BYTES_MAX} bytes long")]
    DevicePrefix(String),
    /// A port range is none.
    #[error("{name}: {first} to {last} is not a port range")]
    PortRange {
        /// Which setting.
        name: &'static str,
        /// Its first port.
        first: u16,
        /// Its last port.
        last: u16,
    },
    /// Translated flows would take NodePorts.
    #[error("source ports for translation overlap the NodePorts")]
    PortsOverlap,
}

/// Rows of the kernel's tables; memory for them is taken at the start. What happens when one is full stands with each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacities {
    /// Service ports, each address of a Service and each NodePort counted: full refuses the Service.
    pub services_max: u32,
    /// Places in the Services' lists of endpoints: full refuses the Service.
    pub slots_max: u32,
    /// Ranges of sources that Services let in: full refuses the Service.
    pub sources_max: u32,
    /// Distinct endpoints: full refuses the Service.
    pub backends_max: u32,
    /// Clients with session affinity: full forgets the oldest.
    pub affinity_max: u32,
    /// Rows of tracked flows, two a flow, a multiple of 8: full forgets those idle for longest.
    pub flows_max: u32,
    /// Local Pod addresses: full refuses the Pod.
    pub endpoints_max: u32,
    /// Ranges and addresses in the routing table: full refuses the peer.
    pub routes_max: u32,
    /// Addresses of nodes: full refuses the peer.
    pub nodes_max: u32,
    /// Network namespaces balanced at connect: full refuses the Pod.
    pub namespaces_max: u32,
    /// Sockets balanced at connect whose Service is remembered: full forgets the oldest.
    pub socket_flows_max: u32,
    /// Fragmented packets on their way: full forgets the oldest.
    pub fragments_max: u32,
    /// Bytes of the ring of events, a power of two: full loses events and counts them.
    pub events_bytes: u32,
}

/// Rows that one index of the table of flows stands for.
const FLOWS: u32 = weft_dataplane_abi::flow_table::ROWS as u32;

impl Default for Capacities {
    fn default() -> Self {
        Self {
            services_max: maps::SERVICES.capacity,
            slots_max: maps::SLOTS.capacity,
            sources_max: maps::SOURCES.capacity,
            backends_max: maps::BACKENDS.capacity,
            affinity_max: maps::AFFINITY.capacity,
            flows_max: maps::FLOWS.capacity * FLOWS,
            endpoints_max: maps::ENDPOINTS.capacity,
            routes_max: maps::ROUTES.capacity,
            nodes_max: maps::NODES.capacity,
            namespaces_max: maps::NETNS.capacity,
            socket_flows_max: maps::SOCKET_FLOWS.capacity,
            fragments_max: maps::FRAGMENTS.capacity,
            events_bytes: maps::EVENTS.capacity,
        }
    }
}

impl Capacities {
    /// Capacity wanted of the map of that name; `fixed` for maps whose capacity is no setting.
    #[must_use]
    pub fn of_map(&self, name: &str, fixed: u32) -> u32 {
        match name {
            // No more rows than Services, and memory for those alone that the outside asks.
            "services" | "choices" | "choices_many" => self.services_max,
            "slots" => self.slots_max,
            "sources" => self.sources_max,
            "backends" => self.backends_max,
            "affinity" => self.affinity_max,
            "flows" => self.flows_max.div_ceil(FLOWS).max(1),
            "endpoints" => self.endpoints_max,
            "routes" => self.routes_max,
            "nodes" => self.nodes_max,
            "netns" => self.namespaces_max,
            "socket_flows" => self.socket_flows_max,
            "fragments" => self.fragments_max,
            "events" => self.events_bytes,
            _ => fixed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let node = Node {
            name: "node-1".into(),
            addresses: vec!["192.168.0.1".parse().expect("an address")],
            pod_cidrs: vec!["10.244.3.0/24".parse().expect("a range")],
            ..Node::default()
        };
        Config::new(node, PathBuf::from("weft-bpf"))
    }

    #[test]
    fn defaults_are_accepted_and_every_default_fits_the_table_of_maps() {
        assert_eq!(config().check(), Ok(()));
        for spec in maps::MAPS {
            assert_eq!(
                Capacities::default().of_map(spec.name, spec.capacity),
                spec.capacity,
                "{}",
                spec.name
            );
        }
    }

    #[test]
    fn the_overlay_address_is_the_first_of_the_range() {
        assert_eq!(config().overlay_address(false), Some("10.244.3.1".parse().expect("an address")));
        assert_eq!(config().overlay_address(true), None);
        let mut both = config();
        both.node.pod_cidrs.push("fd00:244:0:3::/64".parse().expect("a range"));
        assert_eq!(both.overlay_address(true), Some("fd00:244:0:3::1".parse().expect("an address")));
    }

    #[test]
    fn wrong_values_are_named() {
        let mut wrong = config();
        wrong.device_prefix = "weft-a-long-one".into();
        assert!(matches!(wrong.check(), Err(ConfigError::DevicePrefix(_))));
        let mut wrong = config();
        wrong.source_ports = (32_000, 40_000);
        assert_eq!(wrong.check(), Err(ConfigError::PortsOverlap));
        let mut wrong = config();
        wrong.node.addresses.clear();
        assert_eq!(wrong.check(), Err(ConfigError::NoNodeAddress));
    }
}
