//! Which addresses of this machine are the node's: the one that leads to the control plane, and beside it one of the other
//! family on the same device.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

/// The kernel's list of IPv6 addresses; it is not there when IPv6 is switched off.
const IF_INET6: &str = "/proc/net/if_inet6";
/// Flags of an address, `linux/if_addr.h`: made for privacy and gone in a day, another machine has it, to be given up.
const IFA_F_TEMPORARY: u32 = 0x01;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_DEPRECATED: u32 = 0x20;

/// Whether this kernel speaks IPv6.
pub(crate) fn kernel_has_v6() -> bool {
    std::path::Path::new(IF_INET6).exists()
}

/// The address of the other family that is the node's beside `first`; none if its device has none that lasts.
pub(crate) fn beside(first: IpAddr) -> Option<IpAddr> {
    let all = nix::ifaddrs::getifaddrs().ok()?;
    let all: Vec<(String, IpAddr)> = all
        .filter_map(|found| {
            let address = found.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            let ip = v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))?;
            Some((found.interface_name, ip))
        })
        .collect();
    choose(first, &all, &fleeting(&std::fs::read_to_string(IF_INET6).unwrap_or_default()))
}

fn choose(first: IpAddr, all: &[(String, IpAddr)], fleeting: &HashSet<Ipv6Addr>) -> Option<IpAddr> {
    let (device, _) = all.iter().find(|(_, ip)| *ip == first)?;
    let fit = |ip: &IpAddr| match ip {
        IpAddr::V4(v4) => !v4.is_link_local() && !v4.is_loopback(),
        IpAddr::V6(v6) => !v6.is_unicast_link_local() && !v6.is_loopback() && !fleeting.contains(v6),
    };
    let other = all.iter().filter(|(name, ip)| name == device && ip.is_ipv4() != first.is_ipv4());
    other.map(|(_, ip)| *ip).find(fit)
}

/// The addresses in the kernel's list that are not to be relied on.
fn fleeting(text: &str) -> HashSet<Ipv6Addr> {
    let line = |line: &str| {
        // Address, index, prefix length, scope, flags, device.
        let mut words = line.split_whitespace();
        let address = u128::from_str_radix(words.next()?, 16).ok()?;
        let flags = u32::from_str_radix(words.nth(3)?, 16).ok()?;
        let bad = flags & (IFA_F_TEMPORARY | IFA_F_DADFAILED | IFA_F_DEPRECATED) != 0;
        bad.then(|| Ipv6Addr::from(address))
    };
    text.lines().filter_map(line).collect()
}

/// Those of the families that the cluster has, its first family first; all of them if that would leave none.
pub(crate) fn of_cluster(found: Vec<IpAddr>, cluster: &[IpNet]) -> Vec<IpAddr> {
    let of = |range: &IpNet| found.iter().copied().find(|ip| ip.is_ipv4() == range.addr().is_ipv4());
    let kept: Vec<IpAddr> = cluster.iter().filter_map(of).collect();
    if kept.is_empty() { found } else { kept }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_other_family_is_found_on_the_same_device() {
        let all: Vec<(String, IpAddr)> = [
            ("lo", "127.0.0.1"),
            ("lo", "::1"),
            ("eth1", "fd00:1::5"),
            ("eth0", "192.0.2.5"),
            ("eth0", "fe80::1"),
            ("eth0", "fd00::aaaa"),
            ("eth0", "fd00::5"),
        ]
        .map(|(device, text)| (device.to_owned(), ip(text)))
        .into();
        let list = "fd00000000000000000000000000aaaa 03 40 00 01     eth0\n\
                    fd000000000000000000000000000005 03 40 00 80     eth0\nwhat is this\n";
        let fleeting = fleeting(list);
        assert_eq!(fleeting.len(), 1);
        assert_eq!(choose(ip("192.0.2.5"), &all, &fleeting), Some(ip("fd00::5")));
        assert_eq!(choose(ip("fd00::5"), &all, &fleeting), Some(ip("192.0.2.5")));
        assert_eq!(choose(ip("fd00:1::5"), &all, &fleeting), None);
        assert_eq!(choose(ip("198.51.100.1"), &all, &fleeting), None, "no device has it");
    }

    #[test]
    fn the_cluster_says_which_families_count_and_which_is_first() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let both = || vec![ip("192.0.2.5"), ip("fd00::5")];
        assert_eq!(of_cluster(both(), &[net("10.0.0.0/8")]), [ip("192.0.2.5")]);
        assert_eq!(
            of_cluster(both(), &[net("fd01::/48"), net("10.0.0.0/8")]),
            [ip("fd00::5"), ip("192.0.2.5")]
        );
        assert_eq!(of_cluster(vec![ip("192.0.2.5")], &[net("fd01::/48")]), [ip("192.0.2.5")]);
    }
}
