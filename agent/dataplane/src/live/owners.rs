//! Who fills a table: rows counted by owner, in bounded room.

use std::collections::HashMap;
use std::net::IpAddr;

use weft_dataplane_abi::backend::SlotKey;
use weft_dataplane_abi::conntrack::{FLOW_TWIN, Flow, Tuple};
use weft_dataplane_abi::fragment::FragmentKey;
use weft_dataplane_abi::service::{AffinityKey, Service};
use weft_dataplane_abi::socket::SocketFlow;
use zerocopy::FromBytes as _;

/// Owners that are told apart at once. A table of more has its smallest ones forgotten, and the numbers of the others are a
/// little too low then (Misra and Gries 1982: by at most rows / owners).
const OWNERS_MAX: usize = 4_096;

/// Whose a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// Who has this address: for a flow, the end that began it.
    Address(IpAddr),
    /// The Service row of this number.
    Service(u32),
}

/// An owner's part of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Who.
    pub owner: Owner,
    /// How many rows.
    pub rows: u64,
}

/// The owner of a row; none in tables whose rows are all alike in this.
pub(super) fn owner(table: &str, key: &[u8], value: &[u8]) -> Option<Owner> {
    match table {
        "flows" => {
            let (key, flow) = (Tuple::read_from_bytes(key).ok()?, Flow::read_from_bytes(value).ok()?);
            // The answers of a flow leave to the one who began it.
            let began = if flow.flags & FLOW_TWIN == 0 { key.source } else { flow.to.destination };
            Some(Owner::Address(began.ip()))
        }
        "fragments" => Some(Owner::Address(FragmentKey::read_from_bytes(key).ok()?.source.ip())),
        "affinity" => Some(Owner::Service(AffinityKey::read_from_bytes(key).ok()?.service_id)),
        "socket_flows" => Some(Owner::Service(SocketFlow::read_from_bytes(value).ok()?.service_id)),
        "slots" => Some(Owner::Service(SlotKey::read_from_bytes(key).ok()?.service_id)),
        "services" => Some(Owner::Service(Service::read_from_bytes(value).ok()?.id)),
        _ => None,
    }
}

/// Rows by owner.
#[derive(Default)]
pub(super) struct Tally {
    rows: HashMap<Owner, u64>,
}

impl Tally {
    /// One more row of an owner.
    pub(super) fn add(&mut self, owner: Owner) {
        if let Some(rows) = self.rows.get_mut(&owner) {
            *rows += 1;
        } else if self.rows.len() < OWNERS_MAX {
            self.rows.insert(owner, 1);
        } else {
            self.rows.retain(|_, rows| {
                *rows -= 1;
                *rows > 0
            });
        }
    }

    /// All of them, the largest first.
    pub(super) fn shares(self) -> Vec<Share> {
        let mut shares: Vec<Share> =
            self.rows.into_iter().map(|(owner, rows)| Share { owner, rows }).collect();
        shares.sort_by_key(|share| (std::cmp::Reverse(share.rows), share.owner));
        shares
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_owner_is_found_among_more_than_there_is_room_for() {
        let mut tally = Tally::default();
        for number in 0..20_000 {
            tally.add(Owner::Service(number));
            tally.add(Owner::Service(7));
        }
        assert!(tally.rows.len() <= OWNERS_MAX);
        let shares = tally.shares();
        assert_eq!(shares[0].owner, Owner::Service(7));
        assert!(shares[0].rows > 10_000, "{}", shares[0].rows);
    }
}
