//! Services: what an address and port stand for.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::address::Address;
use crate::order::Be16;

/// [`ServiceKey::scope`]: an address of the Service's own (ClusterIP, LoadBalancer); `address` is that address.
pub const SCOPE_CLUSTER: u8 = 0;
/// [`ServiceKey::scope`]: a port on every IPv4 address of every node; `address` is zero.
pub const SCOPE_NODE: u8 = 1;
/// [`ServiceKey::scope`], added to one of the others: what traffic from inside the cluster gets there, when the policy
/// `Local` is for the outside only. Such a row is there beside one with [`SERVICE_LOCAL`], and has all backends.
pub const SCOPE_INSIDE: u8 = 2;
/// [`ServiceKey::scope`], added to [`SCOPE_NODE`]: the port on the nodes' IPv6 addresses, whose backends are of IPv6.
pub const SCOPE_V6: u8 = 4;

/// [`Service::flags`]: only backends of this node are in the slots (`internalTrafficPolicy` or `externalTrafficPolicy`
/// `Local`), and there are some on other nodes: an empty Service says "no local backend".
pub const SERVICE_LOCAL: u32 = 1 << 0;
/// [`Service::flags`], in [`SCOPE_CLUSTER`]: the address is one that the outside knows (LoadBalancer, external): what comes
/// for it by the uplink is balanced. Cluster addresses are not reached that way.
pub const SERVICE_OUTWARD: u32 = 1 << 1;

/// [`Service::flags`]: of the outside only sources in the map `sources` are let in; none are where it has no row.
pub const SERVICE_SOURCES: u32 = 1 << 2;

/// [`Service::flags`]: what comes from outside gets the backend that the map `choices` has for it.
pub const SERVICE_CHOICES: u32 = 1 << 3;
/// [`Service::flags`], beside [`SERVICE_CHOICES`]: the map is `choices_many`.
pub const SERVICE_CHOICES_MANY: u32 = 1 << 4;

/// Key of the map `services`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ServiceKey {
    /// The Service's address; zero in [`SCOPE_NODE`].
    pub address: Address,
    /// The Service's port, or the node port.
    pub port: Be16,
    /// IP protocol number: 6, 17.
    pub protocol: u8,
    /// [`SCOPE_CLUSTER`] or [`SCOPE_NODE`], and [`SCOPE_INSIDE`] and [`SCOPE_V6`] where they apply.
    pub scope: u8,
}

const _: () = assert!(size_of::<ServiceKey>() == 20);

/// Value of the map `services`: one port of one Service in one scope.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Service {
    /// Number of this row, never 0; names its slots. Rows with the same backends may share one.
    pub id: u32,
    /// How many slots it has; 0: connections are refused with the reason "no backend". Slots are written before the
    /// count grows and removed after it shrank.
    pub backend_count: u32,
    /// `SERVICE_*`.
    pub flags: u32,
    /// Session affinity by client address, seconds; 0 for none.
    pub affinity_seconds: u32,
}

const _: () = assert!(size_of::<Service>() == 16);

/// Bits of a [`SourceKey`] before the address.
pub const SOURCE_KEY_BITS: u32 = 32;

/// Key of the map `sources` (a longest-prefix trie): a range of clients that a Service row lets in.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SourceKey {
    /// Length of the prefix in bits, host order: [`SOURCE_KEY_BITS`], and 0 to 128 of the address, for IPv4 96 plus its own.
    pub prefix_bits: u32,
    /// Whose range of what.
    pub range: SourceRange,
}

const _: () = assert!(size_of::<SourceKey>() == 24);

/// What a [`SourceKey`] has its prefix of.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SourceRange {
    /// [`Service::id`].
    pub service_id: u32,
    /// The range, bits beyond its length zero.
    pub address: Address,
}

const _: () = assert!(size_of::<SourceRange>() == 20);

/// Value of the map `sources`: that the row is there is what counts.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Source {
    /// 1.
    pub allowed: u32,
}

const _: () = assert!(size_of::<Source>() == 4);

/// Key of the map `affinity` (LRU): which backend a client had.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct AffinityKey {
    /// The client's address; for connections balanced at connect the client's netns cookie, which is the same for all
    /// processes of one Pod and known before the source address is: first word zero, then one, then the cookie.
    pub client: Address,
    /// [`Service::id`].
    pub service_id: u32,
}

const _: () = assert!(size_of::<AffinityKey>() == 20);

/// Value of the map `affinity`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Affinity {
    /// When it was used last, nanoseconds of `CLOCK_MONOTONIC`.
    pub seen_ns: u64,
    /// Its backend.
    pub backend_id: u32,
    /// [`crate::backend::Backend::generation`] at that time.
    pub generation: u32,
}

const _: () = assert!(size_of::<Affinity>() == 16);
