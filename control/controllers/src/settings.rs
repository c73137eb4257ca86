//! The settings that plans read.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
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
    /// Addresses for LoadBalancer Services, given from the first range on; none: such Services stay without.
    pub load_balancer_pool: Vec<AddressRange>,
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
    /// Whether nodes encrypt what they send each other: then each has keys.
    pub encryption: bool,
    /// How long a generation of keys is the newest, seconds.
    pub key_life_seconds: u32,
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
            load_balancer_pool: Vec::new(),
            api_addresses: Vec::new(),
            ca_pem: String::new(),
            domain: "cluster.local".to_owned(),
            node_lease_seconds: 40,
            leading_since: None,
            eviction_seconds: 300,
            event_ttl_seconds: 3600,
            encryption: false,
            key_life_seconds: 86_400,
            finished_pods_max: 12_500,
        }
    }
}

/// Addresses of one family, from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

impl AddressRange {
    /// Reads `192.0.2.16/28` (every address of it) or `192.0.2.16-192.0.2.31`; none when it is neither, or mixes families,
    /// or ends before it begins.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(net) = text.parse::<IpNet>() {
            let net = net.trunc();
            return Some(Self { first: net.network(), last: net.broadcast() });
        }
        let (first, last) = text.split_once('-')?;
        let (first, last): (IpAddr, IpAddr) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(Self { first, last })
    }

    /// Whether the address is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.is_ipv4() == address.is_ipv4() && (self.first..=self.last).contains(&address)
    }

    /// Whether they have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }

    /// Whether it is of IPv4 addresses.
    pub fn is_ipv4(&self) -> bool {
        self.first.is_ipv4()
    }

    /// The addresses, in order.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let (first, last) = (number(self.first), number(self.last));
        let v4 = self.is_ipv4();
        (first..=last).map(move |n| match u32::try_from(n) {
            Ok(n) if v4 => Ipv4Addr::from(n).into(),
            _ => Ipv6Addr::from(n).into(),
        })
    }
}

impl From<IpNet> for AddressRange {
    fn from(net: IpNet) -> Self {
        Self { first: net.network(), last: net.broadcast() }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_addresses_are_read_in_both_forms() {
        let range = AddressRange::parse("192.0.2.16/30").unwrap();
        assert_eq!(range.to_string(), "192.0.2.16-192.0.2.19");
        assert_eq!(range, AddressRange::parse("192.0.2.16-192.0.2.19").unwrap());
        let all: Vec<String> = range.addresses().map(|a| a.to_string()).collect();
        assert_eq!(all, ["192.0.2.16", "192.0.2.17", "192.0.2.18", "192.0.2.19"]);
        let six = AddressRange::parse("fd00::a-fd00::b").unwrap();
        assert_eq!(six.addresses().last(), Some("fd00::b".parse().unwrap()));
        assert!(
            !range.contains("192.0.2.20".parse().unwrap()) && !range.contains("fd00::a".parse().unwrap())
        );
        assert!(range.overlaps(&AddressRange::parse("192.0.2.0/24").unwrap()) && !range.overlaps(&six));
        for wrong in ["", "192.0.2.1", "192.0.2.9-192.0.2.1", "192.0.2.1-fd00::1", "a-b", "192.0.2.0/33"] {
            assert_eq!(AddressRange::parse(wrong), None, "{wrong}");
        }
    }
}
