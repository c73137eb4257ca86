//! Which address a Pod gets: pure, from the node's ranges and what is taken.

use std::collections::BTreeMap;
use std::net::IpAddr;

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
        let taken: std::collections::BTreeSet<IpAddr> = self.by_uid.values().flatten().copied().collect();
        let after = self.last.get(&range).copied();
        // The first host address is the node's own inside the overlay.
        let hosts = || range.hosts().skip(1);
        // Twice round: first what lies behind the last address given, then from the start of the range.
        let behind = hosts().skip_while(|a| after.is_some_and(|last| *a <= last));
        behind
            .chain(hosts())
            .take(ADDRESSES_TRIED_MAX)
            .find(|address| !taken.contains(address))
            .ok_or(AddressError::Exhausted { range, taken: taken.len() })
    }
}

/// How many addresses of a range are looked at; an IPv6 range is endless.
const ADDRESSES_TRIED_MAX: usize = 1 << 17;

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
        let both = leases.take("a", &[range("10.0.0.0/24"), range("fd00::/64")]).unwrap();
        assert!(both[0].is_ipv4() && both[1].is_ipv6());
    }
}
