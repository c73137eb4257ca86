//! Integers in network byte order, with the alignment of their native kin: byte-aligned ones cost the programs a load
//! per byte.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A 16-bit integer in network byte order.
#[repr(transparent)]
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
pub struct Be16(u16);

impl Be16 {
    /// From host order.
    #[inline(always)]
    #[must_use]
    pub const fn new(host: u16) -> Self {
        Self(host.to_be())
    }

    /// From the memory of a packet, taken as it stands.
    #[inline(always)]
    #[must_use]
    pub const fn from_wire(raw: u16) -> Self {
        Self(raw)
    }

    /// In host order.
    #[inline(always)]
    #[must_use]
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }

    /// As it stands in a packet's memory.
    #[inline(always)]
    #[must_use]
    pub const fn wire(self) -> u16 {
        self.0
    }
}

/// A 32-bit integer in network byte order.
#[repr(transparent)]
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
pub struct Be32(u32);

impl Be32 {
    /// From host order.
    #[inline(always)]
    #[must_use]
    pub const fn new(host: u32) -> Self {
        Self(host.to_be())
    }

    /// From the memory of a packet, taken as it stands.
    #[inline(always)]
    #[must_use]
    pub const fn from_wire(raw: u32) -> Self {
        Self(raw)
    }

    /// In host order.
    #[inline(always)]
    #[must_use]
    pub const fn get(self) -> u32 {
        u32::from_be(self.0)
    }

    /// As it stands in a packet's memory.
    #[inline(always)]
    #[must_use]
    pub const fn wire(self) -> u32 {
        self.0
    }
}
