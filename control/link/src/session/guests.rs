//! How many places each address holds at a listener, so that one stranger cannot hold them all. It knows no listener.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Who is there. Clones are the same. Bounded by the places the listener has in all.
#[derive(Clone, Debug)]
pub struct Guests {
    present: Arc<Mutex<HashMap<IpAddr, usize>>>,
    each_max: usize,
}

/// One place; given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    guests: Guests,
    address: IpAddr,
}

impl Guests {
    /// So many places for each address.
    #[must_use]
    pub fn new(each_max: usize) -> Self {
        Self { present: Arc::default(), each_max }
    }

    /// A place for who comes from this address; none when it holds as many as it may.
    #[must_use]
    pub fn enter(&self, address: IpAddr) -> Option<Place> {
        let address = neighbourhood(address);
        self.change(|present| {
            let held = present.entry(address).or_default();
            let free = *held < self.each_max;
            *held += usize::from(free);
            free
        })
        .then(|| Place { guests: self.clone(), address })
    }

    fn change<T>(&self, change: impl FnOnce(&mut HashMap<IpAddr, usize>) -> T) -> T {
        change(&mut self.present.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.guests.change(|present| {
            if let Some(held) = present.get_mut(&self.address) {
                *held = held.saturating_sub(1);
                if *held == 0 {
                    present.remove(&self.address);
                }
            }
        });
    }
}

/// One machine has a whole /64 of IPv6 addresses at its will.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_places_and_gives_them_back() {
        let guests = Guests::new(2);
        let enter = |address: &str| guests.enter(address.parse().unwrap());
        let held = [enter("192.0.2.1"), enter("::ffff:192.0.2.1")];
        assert!(held.iter().all(Option::is_some));
        assert!(enter("192.0.2.1").is_none());
        assert!(enter("192.0.2.2").is_some(), "others are not kept out");
        let six = [enter("2001:db8::1"), enter("2001:db8::2")];
        assert!(enter("2001:db8::3").is_none() && enter("2001:db8:0:1::3").is_some());
        drop((held, six));
        assert!(enter("192.0.2.1").is_some());
        assert!(guests.change(|present| present.is_empty()), "who has gone is forgotten");
    }
}
