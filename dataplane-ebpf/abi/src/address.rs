//! The one form of an address in every row.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::order::Be32;

/// IPv4's number in [`crate::event::FlowEvent::family`] (the kernel's `AF_INET`).
pub const FAMILY_V4: u8 = 2;
/// IPv6's number (the kernel's `AF_INET6`).
pub const FAMILY_V6: u8 = 10;

/// An IPv6 address, or an IPv4 address mapped to `::ffff:a.b.c.d`; network byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Address {
    /// The address, most significant word first.
    pub words: [Be32; 4],
}

const _: () = assert!(size_of::<Address>() == 16);

/// Word by word: a derived comparison becomes a loop over bytes in the programs.
impl PartialEq for Address {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (&self.words, &other.words);
        (a[0].wire() ^ b[0].wire())
            | (a[1].wire() ^ b[1].wire())
            | (a[2].wire() ^ b[2].wire())
            | (a[3].wire() ^ b[3].wire())
            == 0
    }
}

impl core::hash::Hash for Address {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        self.words.hash(state);
    }
}

impl Address {
    /// No address; also the address of services that listen on every address of the node.
    pub const ZERO: Self = Self { words: [Be32::new(0); 4] };

    /// From the four bytes of an IPv4 address as they stand in a packet's memory.
    #[inline(always)]
    #[must_use]
    pub const fn from_v4_wire(raw: u32) -> Self {
        Self { words: [Be32::new(0), Be32::new(0), Be32::new(0xffff), Be32::from_wire(raw)] }
    }

    /// From an IPv4 address.
    #[must_use]
    pub const fn v4(address: Ipv4Addr) -> Self {
        Self::from_v4_wire(u32::from_ne_bytes(address.octets()))
    }

    /// From an IPv6 address.
    #[must_use]
    pub const fn v6(address: Ipv6Addr) -> Self {
        let o = address.octets();
        Self {
            words: [
                Be32::from_wire(u32::from_ne_bytes([o[0], o[1], o[2], o[3]])),
                Be32::from_wire(u32::from_ne_bytes([o[4], o[5], o[6], o[7]])),
                Be32::from_wire(u32::from_ne_bytes([o[8], o[9], o[10], o[11]])),
                Be32::from_wire(u32::from_ne_bytes([o[12], o[13], o[14], o[15]])),
            ],
        }
    }

    /// The IPv4 address as it stands in a packet's memory; meaningless for an IPv6 address.
    #[inline(always)]
    #[must_use]
    pub const fn v4_wire(self) -> u32 {
        self.words[3].wire()
    }

    /// Whether this is a mapped IPv4 address.
    #[inline(always)]
    #[must_use]
    pub const fn is_v4(self) -> bool {
        self.words[0].wire() == 0 && self.words[1].wire() == 0 && self.words[2].get() == 0xffff
    }

    /// Its two halves as numbers.
    #[inline(always)]
    #[must_use]
    pub const fn halves(self) -> [u64; 2] {
        let w = &self.words;
        [(w[0].get() as u64) << 32 | w[1].get() as u64, (w[2].get() as u64) << 32 | w[3].get() as u64]
    }

    /// Whether this is [`Address::ZERO`].
    #[inline(always)]
    #[must_use]
    pub const fn is_zero(self) -> bool {
        (self.words[0].wire() | self.words[1].wire() | self.words[2].wire() | self.words[3].wire()) == 0
    }

    /// The address as Rust has it, IPv4 for a mapped one.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        let v6 = Ipv6Addr::from(
            self.words.map(Be32::get).into_iter().fold(0u128, |all, w| all << 32 | u128::from(w)),
        );
        match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6(v6),
        }
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::v4(v4),
            IpAddr::V6(v6) => Self::v6(v6),
        }
    }
}

impl From<Ipv4Addr> for Address {
    fn from(address: Ipv4Addr) -> Self {
        Self::v4(address)
    }
}

impl From<Ipv6Addr> for Address {
    fn from(address: Ipv6Addr) -> Self {
        Self::v6(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v4_is_mapped_and_comes_back() {
        let address = Address::from(Ipv4Addr::new(10, 96, 0, 1));
        assert!(address.is_v4());
        assert_eq!(address.as_bytes(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 96, 0, 1]);
        assert_eq!(address.ip(), IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)));
    }

    #[test]
    fn v6_keeps_its_bytes() {
        let v6: Ipv6Addr = "fd00:96::17".parse().expect("an address");
        let address = Address::from(v6);
        assert!(!address.is_v4());
        assert_eq!(address.as_bytes(), v6.octets());
        assert_eq!(address.ip(), IpAddr::V6(v6));
    }
}
