//! Ports of fragmented packets: only the first fragment carries them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::address::Address;
use crate::order::{Be16, Be32};

/// Key of the map `fragments` (LRU): one fragmented packet (RFC 791, RFC 8200 section 4.5).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FragmentKey {
    /// Source address as it arrived.
    pub source: Address,
    /// Destination address as it arrived.
    pub destination: Address,
    /// Identification; IPv4's 16 bits are the lower half of the number.
    pub identification: Be32,
    /// IP protocol number.
    pub protocol: u32,
}

const _: () = assert!(size_of::<FragmentKey>() == 40);

/// Value of the map `fragments`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FragmentPorts {
    /// Source port of the first fragment.
    pub source_port: Be16,
    /// Destination port of the first fragment.
    pub destination_port: Be16,
}

const _: () = assert!(size_of::<FragmentPorts>() == 4);
