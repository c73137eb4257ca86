//! Backends: where a Service's traffic goes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::address::Address;
use crate::order::Be16;

/// Key of the map `slots`: one place in a Service's list of backends.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SlotKey {
    /// [`crate::service::Service::id`].
    pub service_id: u32,
    /// From 0 to `backend_count` - 1.
    pub index: u32,
}

const _: () = assert!(size_of::<SlotKey>() == 8);

/// Value of the map `slots`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Slot {
    /// Index into the map `backends`, never 0.
    pub backend_id: u32,
    /// A field that another build might have added.
    #[cfg(feature = "other-layout")]
    pub other: u32,
}

#[cfg(not(feature = "other-layout"))]
const _: () = assert!(size_of::<Slot>() == 4);

/// [`Backend::flags`]: the row is in use and takes new flows.
pub const BACKEND_READY: u16 = 1 << 0;

/// Value of the map `backends` (an array; the index is the backend's id, index 0 is never used). One row per
/// slot, so that a backend that leaves one Service and stays in another is gone from the first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Backend {
    /// Address of the Pod, or of a node for Pods in the host's network, or of something outside.
    pub address: Address,
    /// Port.
    pub port: Be16,
    /// `BACKEND_*`.
    pub flags: u16,
    /// Raised whenever the row stops standing for a ready backend or begins to stand for another. UDP flows that
    /// remember an older generation choose again; TCP connections stay where they are until they end.
    pub generation: u32,
    /// Index of the node it runs on; 0 when unknown or outside.
    pub node_index: u32,
    /// IP protocol number.
    pub protocol: u32,
}

const _: () = assert!(size_of::<Backend>() == 32);
