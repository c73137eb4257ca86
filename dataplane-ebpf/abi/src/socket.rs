//! What was decided at connect, by socket.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::address::Address;
use crate::order::Be16;

/// [`SocketKey::direction`]: the key holds the address the process asked for, the row what it got.
pub const SOCKET_FORWARD: u8 = 0;
/// [`SocketKey::direction`]: the key holds the backend, the row the address the process asked for.
pub const SOCKET_REVERSE: u8 = 1;

/// Key of the map `socket_flows` (LRU).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SocketKey {
    /// The socket's cookie.
    pub cookie: u64,
    /// See `direction`.
    pub address: Address,
    /// See `direction`.
    pub port: Be16,
    /// IP protocol number.
    pub protocol: u8,
    /// `SOCKET_*`.
    pub direction: u8,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<SocketKey>() == 32);

/// Value of the map `socket_flows`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SocketFlow {
    /// When it was chosen, nanoseconds of `CLOCK_MONOTONIC`.
    pub chosen_ns: u64,
    /// Forward: the backend. Reverse: the address the process asked for.
    pub address: Address,
    /// Its port.
    pub port: Be16,
    /// Zero.
    pub reserved: u16,
    /// [`crate::service::Service::id`].
    pub service_id: u32,
    /// The backend.
    pub backend_id: u32,
    /// [`crate::backend::Backend::generation`] when it was chosen.
    pub generation: u32,
    /// A field that another build might have added.
    #[cfg(feature = "other-layout")]
    pub other: u64,
}

#[cfg(not(feature = "other-layout"))]
const _: () = assert!(size_of::<SocketFlow>() == 40);
