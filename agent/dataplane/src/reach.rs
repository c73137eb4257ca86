//! How the Pods of another node are reached from here: natively where it is a neighbour and that is wanted, else in the
//! tunnel. Pure: what addresses the uplink has comes in.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{Config, RoutingMode};
use crate::desired::{Peer, TunnelEnd};
use crate::mtu::{Carriage, Mtu, Road, mtu};

/// What this node's side of every way is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    mode: RoutingMode,
    /// Networks that the uplink is in.
    networks: Vec<IpNet>,
    /// Families of which this node has an address, IPv4 first.
    families: [bool; 2],
    /// Nothing goes to an address of the underlay.
    encrypted: bool,
    /// What outside clients ask of neighbours' Pods goes to them by the tunnel, whatever else does.
    direct_return: bool,
}

impl Default for Reach {
    /// All by the tunnel, of either family.
    fn default() -> Self {
        Self {
            mode: RoutingMode::Tunnel,
            networks: Vec::new(),
            families: [true; 2],
            encrypted: false,
            direct_return: false,
        }
    }
}

impl Reach {
    /// For a node with these settings, whose uplink has these addresses.
    #[must_use]
    pub fn new(config: &Config, networks: Vec<IpNet>) -> Self {
        if config.inner_address().is_some() {
            // All of it goes through the device that encrypts, whose addresses are of IPv4.
            return Self { families: [true, false], encrypted: true, ..Self::default() };
        }
        let families = [false, true].map(|v6| config.node_address(v6).is_some());
        // A network of one machine has no neighbours.
        let shared = |network: &IpNet| network.prefix_len() < network.max_prefix_len();
        let networks = networks.into_iter().filter(shared).collect();
        Self {
            mode: config.routing_mode,
            networks,
            families,
            encrypted: false,
            direct_return: config.direct_return,
        }
    }

    /// The way to a range of a node's Pods, and the address of the node that it leads by; none where the two have no family in
    /// common. A neighbour is one of the range's own family.
    #[must_use]
    pub fn way(&self, peer: &Peer, range: &IpNet) -> Option<(Carriage, IpAddr)> {
        match peer.end {
            TunnelEnd::Underlay if !self.encrypted => {}
            TunnelEnd::Inner(inner) => return Some((Carriage::tunnel(inner.is_ipv6()), inner)),
            TunnelEnd::Underlay | TunnelEnd::Locked => return None,
        }
        let at = |v6: bool| peer.addresses.iter().copied().find(|ip| ip.is_ipv6() == v6);
        let neighbour = at(range.addr().is_ipv6())
            .filter(|ip| self.networks.iter().any(|network| network.contains(ip)))
            .filter(|_| self.mode == RoutingMode::Native);
        if let Some(ip) = neighbour {
            return Some((Carriage::Direct, ip));
        }
        let tunnels = [false, true].into_iter().filter(|v6| self.families[usize::from(*v6)]);
        tunnels.filter_map(|v6| Some((Carriage::tunnel(v6), at(v6)?))).next()
    }

    /// The ways to all of a node's Pods, those of what outside clients ask included.
    pub fn ways<'a>(&'a self, peer: &'a Peer) -> impl Iterator<Item = Carriage> + 'a {
        let ways = peer.pod_cidrs.iter().filter_map(|range| self.way(peer, range));
        ways.map(|(carriage, by)| if self.direct_return { Carriage::tunnel(by.is_ipv6()) } else { carriage })
    }

    /// How long packets may be on an uplink with this MTU, for these other nodes.
    #[must_use]
    pub fn mtu<'a>(&self, config: &Config, uplink_bytes: u32, peers: impl Iterator<Item = &'a Peer>) -> Mtu {
        let tunnel = Carriage::tunnel(!self.families[0] && self.families[1]);
        let is_plain = self.mode == RoutingMode::Native && !self.direct_return;
        let usual = if is_plain { Carriage::Direct } else { tunnel };
        let pods_v6 = config.node.pod_cidrs.iter().any(|range| range.addr().is_ipv6());
        let road = Road { uplink_bytes, encryption_bytes: config.encryption_bytes, usual, tunnel, pods_v6 };
        mtu(&road, peers.flat_map(|peer| self.ways(peer).collect::<Vec<_>>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Node;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn node(addresses: &[&str], number: u8) -> Node {
        Node {
            name: format!("node-{number}"),
            addresses: addresses.iter().map(|text| ip(text)).collect(),
            pod_cidrs: [format!("10.244.{number}.0/24"), format!("fd00:244:0:{number}::/64")]
                .map(|range| range.parse().expect("a range"))
                .to_vec(),
            end: TunnelEnd::Underlay,
        }
    }

    fn reach(mode: RoutingMode, own: &[&str], networks: &[&str]) -> (Config, Reach) {
        let mut config = Config::new(node(own, 1), "object".into());
        config.routing_mode = mode;
        let networks = networks.iter().map(|text| text.parse().expect("a network")).collect();
        let reach = Reach::new(&config, networks);
        (config, reach)
    }

    fn ways(reach: &Reach, peer: &Node) -> Vec<Option<(Carriage, IpAddr)>> {
        peer.pod_cidrs.iter().map(|range| reach.way(peer, range)).collect()
    }

    const BOTH: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
    const NETWORKS: [&str; 3] = ["192.0.2.1/24", "2001:db8::1/64", "fe80::1/64"];

    #[test]
    fn neighbours_are_reached_as_they_are_and_others_by_the_tunnel() {
        use Carriage::{Direct, TunnelV4};
        let (config, reach) = reach(RoutingMode::Native, &BOTH, &NETWORKS);
        let near = node(&["192.0.2.2", "2001:db8::2"], 2);
        assert_eq!(ways(&reach, &near), [Some((Direct, ip("192.0.2.2"))), Some((Direct, ip("2001:db8::2")))]);
        let far = node(&["198.51.100.2", "2001:db8:1::2"], 3);
        assert_eq!(ways(&reach, &far), [Some((TunnelV4, ip("198.51.100.2"))); 2]);
        // A next hop is of its range's family: the other range goes by the tunnel.
        let four = node(&["192.0.2.4"], 4);
        assert_eq!(ways(&reach, &four), [Some((Direct, ip("192.0.2.4"))), Some((TunnelV4, ip("192.0.2.4")))]);
        let mtu = |peers: &[&Node]| reach.mtu(&config, 1_500, peers.iter().copied()).pods_bytes;
        assert_eq!(
            (mtu(&[]), mtu(&[&near]), mtu(&[&near, &far]), mtu(&[&four])),
            (1_500, 1_500, 1_450, 1_450)
        );
    }

    #[test]
    fn with_direct_return_pods_leave_room_for_the_tunnel_to_neighbours() {
        let near = node(&["192.0.2.2", "2001:db8::2"], 2);
        let four = node(&["192.0.2.4"], 4);
        let mtu = |own: &[&str], peers: &[&Node]| {
            let (mut config, _) = reach(RoutingMode::Native, own, &NETWORKS);
            config.direct_return = true;
            let networks = NETWORKS.map(|text| text.parse().expect("a network")).to_vec();
            let reach = Reach::new(&config, networks);
            if let [first, ..] = peers {
                assert_eq!(reach.way(first, &first.pod_cidrs[0]).map(|way| way.0), Some(Carriage::Direct));
            }
            let mtu = reach.mtu(&config, 1_500, peers.iter().copied());
            (mtu.pods_bytes, mtu.tunnel_bytes)
        };
        assert_eq!(mtu(&BOTH, &[]), (1_450, 1_450));
        // A neighbour is one of its range's family, and so is the tunnel to it.
        assert_eq!(mtu(&BOTH, &[&near]), (1_430, 1_430));
        assert_eq!(mtu(&BOTH, &[&four]), (1_450, 1_450));
        assert_eq!(mtu(&["192.0.2.1"], &[&four]), (1_450, 1_450));
    }

    #[test]
    fn a_network_of_one_machine_has_no_neighbours() {
        let (_, reach) = reach(RoutingMode::Native, &BOTH, &["192.0.2.1/32", "2001:db8::1/128"]);
        let peer = node(&["192.0.2.1", "2001:db8::1"], 2);
        assert!(ways(&reach, &peer).iter().all(|way| matches!(way, Some((Carriage::TunnelV4, _)))));
    }

    #[test]
    fn the_tunnel_is_one_of_ipv4_where_both_have_it_and_else_of_ipv6() {
        let (config, both) = reach(RoutingMode::Tunnel, &BOTH, &NETWORKS);
        let (alone_config, alone) = reach(RoutingMode::Tunnel, &["2001:db8::1"], &NETWORKS);
        let (_, four) = reach(RoutingMode::Tunnel, &["192.0.2.1"], &NETWORKS);
        let (dual, six) = (node(&["2001:db8::2", "192.0.2.2"], 2), node(&["2001:db8::3"], 3));
        let (v4, v6) = (Carriage::TunnelV4, Carriage::TunnelV6);
        assert_eq!(ways(&both, &dual), [Some((v4, ip("192.0.2.2"))); 2]);
        assert_eq!(ways(&both, &six), [Some((v6, ip("2001:db8::3"))); 2]);
        assert_eq!(ways(&alone, &dual), [Some((v6, ip("2001:db8::2"))); 2]);
        assert_eq!(ways(&four, &six), [None; 2]);
        let mtu = |reach: &Reach, config: &Config, peers: &[&Node]| {
            reach.mtu(config, 1_500, peers.iter().copied()).pods_bytes
        };
        assert_eq!(mtu(&both, &config, &[&dual]), 1_450);
        assert_eq!(mtu(&both, &config, &[&dual, &six]), 1_430);
        assert_eq!(mtu(&alone, &alone_config, &[]), 1_430);
    }

    #[test]
    fn where_nodes_encrypt_all_ways_lead_inside() {
        let mut config = Config::new(node(&BOTH, 1), "object".into());
        (config.routing_mode, config.encrypted, config.encryption_bytes) = (RoutingMode::Native, true, 60);
        let reach = Reach::new(&config, NETWORKS.map(|text| text.parse().expect("a network")).to_vec());
        let near = |end| Node { end, ..node(&["192.0.2.2", "2001:db8::2"], 2) };
        let inner = ip("10.244.2.0");
        assert_eq!(ways(&reach, &near(TunnelEnd::Inner(inner))), [Some((Carriage::TunnelV4, inner)); 2]);
        for end in [TunnelEnd::Locked, TunnelEnd::Underlay] {
            assert_eq!(ways(&reach, &near(end)), [None; 2], "{end:?}");
        }
        assert_eq!(reach.mtu(&config, 1_500, [].into_iter()).pods_bytes, 1_390);
    }
}
