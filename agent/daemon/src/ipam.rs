//! Which address a Pod gets: pure, from the node's ranges and what is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Addresses given to Pods of this node, by Pod UID.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leases {
    by_uid: BTreeMap<String, Vec<IpAddr>>,
    /// The last address given out of each range, so that one that was just given back rests a while.
    last: BTreeMap<IpNet, IpAddr>,
}

/// Why a Pod gets no address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    #[error("the node has no Pod range yet")]
    NoRange,
    #[error("every address of {range} is taken ({taken} Pods); delete Pods or give nodes larger ranges")]
    Exhausted { range: IpNet, taken: usize },
}

impl Leases {
    /// The addresses of a Pod, one per range: those it has, or new ones.
    ///
    /// # Errors
    /// There is no range, or a range has no free address; nothing is taken then.
    pub(crate) fn take(&mut self, uid: &str, ranges: &[IpNet]) -> Result<Vec<IpAddr>, AddressError> {
        if let Some(held) = self.by_uid.get(uid)
            && !held.is_empty()
        {
            return Ok(held.clone());
        }
        if ranges.is_empty() {
            return Err(AddressError::NoRange);
        }
        let chosen = ranges.iter().map(|range| self.free(*range)).collect::<Result<Vec<_>, _>>()?;
        for (range, address) in ranges.iter().zip(&chosen) {
            self.last.insert(*range, *address);
        }
        self.by_uid.insert(uid.to_owned(), chosen.clone());
        Ok(chosen)
    }

    /// Gives a Pod's addresses back.
    pub(crate) fn release(&mut self, uid: &str) -> Vec<IpAddr> {
        self.by_uid.remove(uid).unwrap_or_default()
    }

    fn free(&self, range: IpNet) -> Result<IpAddr, AddressError> {
        let taken: BTreeSet<IpAddr> = self.by_uid.values().flatten().copied().collect();
        let exhausted = AddressError::Exhausted { range, taken: taken.len() };
        let (network, last) = (number(range.network()), number(range.broadcast()));
        // The network's own address is nobody's, the one after it the node's inside the overlay; IPv4's last one is the
        // broadcast address.
        let first = network.saturating_add(2);
        let last = if range.addr().is_ipv4() { last.saturating_sub(1) } else { last };
        let Some(count) = last.checked_sub(first).map(|span| span.saturating_add(1)) else {
            return Err(exhausted);
        };
        // Round the range from behind the last address given: one that was just given back rests a while.
        let given = self.last.get(&range).map_or(first - 1, |last| number(*last));
        let start = given.saturating_add(1).saturating_sub(first);
        // Of one more than are taken, one is free.
        let tries = count.min(taken.len() as u128 + 1);
        (0..tries)
            .map(|step| first + start.saturating_add(step) % count)
            .map(|number| address(number, range.addr().is_ipv4()))
            .find(|address| !taken.contains(address))
            .ok_or(exhausted)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn address(number: u128, v4: bool) -> IpAddr {
    match u32::try_from(number) {
        Ok(number) if v4 => Ipv4Addr::from_bits(number).into(),
        _ => Ipv6Addr::from_bits(number).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn a_pod_keeps_its_address() {
        let mut leases = Leases::default();
        let first = leases.take("a", &[range("10.244.1.0/24")]).unwrap();
        assert_eq!(first, ["10.244.1.2".parse::<IpAddr>().unwrap()]);
        assert_eq!(leases.take("a", &[range("10.244.1.0/24")]).unwrap(), first);
    }

    #[test]
    fn a_released_address_rests_until_the_range_is_through() {
        let mut leases = Leases::default();
        let range = range("10.244.1.0/29");
        leases.take("a", &[range]).unwrap();
        leases.release("a");
        let next = leases.take("b", &[range]).unwrap();
        assert_eq!(next[0].to_string(), "10.244.1.3");
        for uid in ["c", "d", "e"] {
            leases.take(uid, &[range]).unwrap();
        }
        assert_eq!(leases.take("g", &[range]).unwrap()[0].to_string(), "10.244.1.2");
    }

    #[test]
    fn a_full_range_says_so() {
        let mut leases = Leases::default();
        let range = range("10.0.0.0/30");
        leases.take("a", &[range]).unwrap();
        let error = leases.take("c", &[range]).unwrap_err();
        assert_eq!(error, AddressError::Exhausted { range, taken: 1 });
        assert_eq!(leases.take("d", &[]).unwrap_err(), AddressError::NoRange);
    }

    #[test]
    fn both_families_come_together() {
        let mut leases = Leases::default();
        let ranges = [range("fd00::/64"), range("10.0.0.0/24")];
        let text = |ips: Vec<IpAddr>| ips.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            text(leases.take("a", &ranges).unwrap()),
            ["fd00::2", "10.0.0.2"],
            "the node has the first"
        );
        assert_eq!(text(leases.take("b", &ranges).unwrap()), ["fd00::3", "10.0.0.3"]);
        leases.release("a");
        assert_eq!(text(leases.take("c", &ranges).unwrap()), ["fd00::4", "10.0.0.4"]);
    }

    #[test]
    fn a_family_that_is_full_takes_nothing_of_the_other() {
        let mut leases = Leases::default();
        let ranges = [range("10.0.0.0/30"), range("fd00::/64")];
        leases.take("a", &ranges).unwrap();
        let before = leases.clone();
        assert_eq!(
            leases.take("b", &ranges).unwrap_err(),
            AddressError::Exhausted { range: ranges[0], taken: 2 }
        );
        assert_eq!(leases, before);
    }

    #[test]
    fn a_range_without_end_is_not_walked_through() {
        let mut leases = Leases::default();
        let range = range("fd00::/64");
        leases.last.insert(range, "fd00::7fff:ffff:ffff:ffff".parse().unwrap());
        assert_eq!(leases.take("a", &[range]).unwrap()[0].to_string(), "fd00::8000:0:0:0");
        leases.last.insert(range, "fd00::ffff:ffff:ffff:ffff".parse().unwrap());
        assert_eq!(leases.take("b", &[range]).unwrap()[0].to_string(), "fd00::2", "and from the start again");
    }

    #[test]
    fn a_pod_from_before_the_second_family_keeps_what_it_has() {
        let mut leases = Leases::default();
        let old = leases.take("a", &[range("10.0.0.0/24")]).unwrap();
        assert_eq!(leases.take("a", &[range("10.0.0.0/24"), range("fd00::/64")]).unwrap(), old);
    }
}
