//! The dry run: a second instance of the programs that walks made-up packets over the live tables and changes none of them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::conntrack::{Flow, Tuple};
use crate::maps::{MapKind, MapSpec};
use crate::numbered::numbered;

/// Name of the programs' constant, a `u32`: not 0 in programs that only look.
pub const DRY: &str = "DRY";

/// Tables that a dry run has for itself: what is counted and told in them is nobody else's.
pub const OWN: [&str; 2] = ["counters", "events"];

numbered! {
    /// How a walk ended.
    End {
        /// On to the host's stack, or out of the device.
        Next = 1, "next";
        /// A redirect took it.
        Redirect = 2, "redirect";
        /// Dropped.
        Drop = 3, "drop";
        /// Dropped, and answered.
        Refused = 4, "refused";
    }
}

numbered! {
    /// What was known of the packet's flow.
    Known {
        /// The walk ended before anybody looked.
        NotAsked = 0, "not asked";
        /// Nothing: it begins.
        New = 1, "new flow";
        /// A row that is left over from an earlier flow with the same ends: it begins.
        Anew = 2, "left over from an earlier flow; begins anew";
        /// Its way is to be found again.
        Unsettled = 3, "known flow, its way is found again";
        /// Everything.
        Settled = 4, "known flow";
    }
}

/// The only row of the table `walked` of a dry run: what the last walk found.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Walked {
    /// The packet's ends as it arrived.
    pub tuple: Tuple,
    /// The row in force; for a flow that begins, the one that would have been written.
    pub flow: Flow,
    /// [`crate::hook::Hook`].
    pub hook: u8,
    /// [`End`].
    pub end: u8,
    /// [`crate::station::Station`] that dropped it; 0 when it goes on.
    pub station: u8,
    /// [`crate::reason::Reason`].
    pub reason: u8,
    /// [`Known`].
    pub known: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

#[cfg(not(feature = "other-layout"))]
const _: () = assert!(size_of::<Walked>() == 152);

/// Its table, each instance's own and never pinned.
pub const WALKED: MapSpec = MapSpec {
    name: "walked",
    kind: MapKind::Array,
    key_bytes: 4,
    value_bytes: size_of::<Walked>() as u32,
    capacity: 1,
    sized_by_setting: false,
    grows: false,
    pinned: false,
};

/// The only row of the map `asking`: the socket by which the agent asks the live socket hooks what they would do. They do
/// it, but write, count and tell nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Asking {
    /// The socket's cookie; 0 while nobody asks.
    pub cookie: u64,
    /// IP protocol number that is asked about, whatever the socket's own is: a datagram socket connects without a packet.
    pub protocol: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Asking>() == 16);

/// What the asking socket's `connect` fails with where a connection would be refused: this and the
/// [`crate::reason::Reason`]. No error number of the kernel's is as large.
pub const ASKING_ERRNO: i32 = 3_000;
