//! The tables by which every node gives a flow from outside the same backend (Maglev, see the abi's `choice.rs`). Pure.

use std::sync::Arc;

use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::backend::Backend;
use weft_dataplane_abi::choice::{BACKENDS_FEW_MAX, PLACES, PLACES_MANY, preference};
use weft_dataplane_abi::service::{SERVICE_CHOICES, SERVICE_CHOICES_MANY};

/// The flags of a Service row that has a table, with so many backends; none for one where there is nothing to choose.
#[must_use]
pub(crate) const fn flags(backends: usize) -> u32 {
    match backends {
        0 | 1 => 0,
        2..=BACKENDS_FEW_MAX => SERVICE_CHOICES,
        _ => SERVICE_CHOICES | SERVICE_CHOICES_MANY,
    }
}

/// How many places the table of a Service row with these flags has; 0 when it has none.
#[must_use]
pub(crate) const fn places(flags: u32) -> usize {
    match flags & (SERVICE_CHOICES | SERVICE_CHOICES_MANY) {
        0 => 0,
        SERVICE_CHOICES => PLACES,
        _ => PLACES_MANY,
    }
}

/// A turn of filling: whose it is, and where it looks next.
struct Taker {
    id: u32,
    next: usize,
    step: usize,
}

/// Fills a table of a prime number of places with ids of backends. Which backend has which place depends on their addresses and
/// ports alone, not on their ids nor their order. `weight`: how many places one takes in its turn.
#[must_use]
pub(crate) fn table(
    backends: impl Iterator<Item = (u32, Backend)>,
    weight: impl Fn(&Backend) -> usize,
    places: usize,
) -> Arc<[u32]> {
    let mut sorted: Vec<(u32, Backend)> = backends.collect();
    sorted.sort_by_key(|(_, row)| (row.address.halves(), row.port.get()));
    sorted.truncate(places);
    let mut takers: Vec<(Taker, usize)> = sorted
        .iter()
        .map(|(id, row)| (taker(*id, row.address, row.port.get(), places), weight(row).max(1)))
        .collect();
    let mut table = vec![0; places];
    let mut left = if takers.is_empty() { 0 } else { places };
    while left > 0 {
        for (taker, weight) in &mut takers {
            for _ in 0..(*weight).min(left) {
                // The step and the number of places have no divisor in common, so it comes by all of them.
                while table[taker.next] != 0 {
                    taker.next = (taker.next + taker.step) % places;
                }
                table[taker.next] = taker.id;
                left -= 1;
            }
        }
    }
    table.into()
}

fn taker(id: u32, address: Address, port: u16, places: usize) -> Taker {
    let [offset, skip] = preference(address.halves(), port);
    // Less than the number of places, which is a usize.
    let below = |number: u64, bound: usize| (number % bound as u64) as usize;
    Taker { id, next: below(offset, places), step: below(skip, places - 1) + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::net::Ipv4Addr;
    use weft_dataplane_abi::order::Be16;

    fn backend(n: u32) -> Backend {
        Backend {
            address: Address::v4(Ipv4Addr::from(0x0af4_0000 + n)),
            port: Be16::new(8080),
            ..Backend::default()
        }
    }

    fn of(numbers: impl Iterator<Item = u32>, places: usize) -> Arc<[u32]> {
        table(numbers.map(|n| (n, backend(n))), |_| 1, places)
    }

    fn shares(table: &[u32]) -> HashMap<u32, usize> {
        table.iter().fold(HashMap::new(), |mut shares, id| {
            *shares.entry(*id).or_default() += 1;
            shares
        })
    }

    #[test]
    fn every_backend_has_its_share() {
        for (backends, places) in [(1, PLACES), (3, PLACES), (100, PLACES), (1_000, PLACES_MANY)] {
            let shares = shares(&of(1..=backends, places));
            assert_eq!(shares.len(), backends as usize);
            let (least, most) = (shares.values().min(), shares.values().max());
            assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "{shares:?}");
        }
    }

    #[test]
    fn neither_ids_nor_order_matter() {
        let one = of(1..=20, PLACES);
        let other = table((1..=20).rev().map(|n| (n + 500, backend(n))), |_| 1, PLACES);
        assert!(one.iter().zip(other.iter()).all(|(one, other)| one + 500 == *other));
    }

    #[test]
    fn few_places_change_hands_when_a_backend_goes() {
        let before = of(1..=20, PLACES);
        let after = of((1..=20).filter(|n| *n != 7), PLACES);
        let moved = before.iter().zip(after.iter()).filter(|(old, new)| **old != 7 && old != new).count();
        assert!(moved * 10 < PLACES, "{moved} of {PLACES}");
        assert!(!after.contains(&7));
    }

    #[test]
    fn a_weight_is_a_share() {
        let weight = |row: &Backend| if row.address == backend(1).address { 3 } else { 1 };
        let shares = shares(&table((1..=3).map(|n| (n, backend(n))), weight, PLACES));
        assert!((600..=607).contains(&shares[&1]), "{shares:?}");
    }

    #[test]
    fn where_nothing_is_to_choose_is_no_table() {
        assert_eq!([0, 1].map(flags), [0, 0]);
        assert_eq!([2, 100, 101].map(|n| places(flags(n))), [PLACES, PLACES, PLACES_MANY]);
        assert!(of(std::iter::empty(), PLACES).iter().all(|id| *id == 0));
    }
}
