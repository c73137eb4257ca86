//! The settings that plans read.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

/// Cluster-wide settings of the loops; the defaults are those of a fresh cluster.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Service ranges, one per family, the first the default family.
    pub service_cidrs: Vec<IpNet>,
    /// Pod ranges, one per family.
    pub pod_cidrs: Vec<IpNet>,
    /// Prefix length of a node's IPv4 Pod range, bits.
    pub node_prefix_v4_bits: u8,
    /// Prefix length of a node's IPv6 Pod range, bits.
    pub node_prefix_v6_bits: u8,
    /// NodePorts.
    pub node_ports: RangeInclusive<u16>,
    /// Where the API is reached by nodes and Pods; the endpoints of the `kubernetes` Service.
    pub api_addresses: Vec<SocketAddr>,
    /// The cluster's CA, PEM, for `kube-root-ca.crt`.
    pub ca_pem: String,
    /// Cluster domain.
    pub domain: String,
    /// A node whose Lease was not renewed for so long is not Ready, seconds.
    pub node_lease_seconds: u32,
    /// Since when the loops run here: a node that could not renew its Lease before that has its time from then on.
    pub leading_since: Option<jiff::Timestamp>,
    /// How long a Pod that names no toleration bears `not-ready` and `unreachable`, seconds.
    pub eviction_seconds: u32,
    /// Events older than this are removed, seconds.
    pub event_ttl_seconds: u32,
    /// Ended Pods kept, over the whole cluster, before the oldest go.
    pub finished_pods_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            service_cidrs: vec![IpNet::new_assert(std::net::Ipv4Addr::new(10, 96, 0, 0).into(), 16)],
            pod_cidrs: vec![IpNet::new_assert(std::net::Ipv4Addr::new(10, 244, 0, 0).into(), 16)],
            node_prefix_v4_bits: 24,
            node_prefix_v6_bits: 64,
            node_ports: 30000..=32767,
            api_addresses: Vec::new(),
            ca_pem: String::new(),
            domain: "cluster.local".to_owned(),
            node_lease_seconds: 40,
            leading_since: None,
            eviction_seconds: 300,
            event_ttl_seconds: 3600,
            finished_pods_max: 12_500,
        }
    }
}

impl Settings {
    /// The address of the `kubernetes` Service in each family: the first of the range.
    pub fn api_service_addresses(&self) -> Vec<std::net::IpAddr> {
        self.service_cidrs.iter().filter_map(|net| nth_address(net, 1)).collect()
    }

    /// The address of the DNS Service in each family: the tenth of the range.
    pub fn dns_addresses(&self) -> Vec<std::net::IpAddr> {
        self.service_cidrs.iter().filter_map(|net| nth_address(net, 10)).collect()
    }
}

/// The `n`th address of a range, counted from its network address; none beyond its end.
pub(crate) fn nth_address(net: &IpNet, n: u128) -> Option<std::net::IpAddr> {
    let address: std::net::IpAddr = match net {
        IpNet::V4(net) => {
            let base = u32::from(net.network());
            std::net::Ipv4Addr::from(base.checked_add(u32::try_from(n).ok()?)?).into()
        }
        IpNet::V6(net) => std::net::Ipv6Addr::from(u128::from(net.network()).checked_add(n)?).into(),
    };
    net.contains(&address).then_some(address)
}
