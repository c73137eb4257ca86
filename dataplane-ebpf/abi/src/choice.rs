//! Which backend a flow from outside gets: the same one on whichever node it comes in.
//!
//! Consistent hashing with a table of backends for each Service row (Eisenbud et al., "Maglev", NSDI 2016): a flow's place in it is
//! a hash of the client's end and the port it asks, and every node fills the table alike. When a backend comes or goes, few
//! places change hands.

use crate::sip::Sip;

/// Places of a table, a prime.
pub const PLACES: usize = 1_009;
/// Places of the table of a Service row with more than [`BACKENDS_FEW_MAX`] backends, a prime.
pub const PLACES_MANY: usize = 16_381;
/// So many backends have a table of [`PLACES`]: each has ten of them or more.
pub const BACKENDS_FEW_MAX: usize = 100;

/// Value of the map `choices`: ids of backends.
pub type Choices = [u32; PLACES];
/// Value of the map `choices_many`: ids of backends.
pub type ChoicesMany = [u32; PLACES_MANY];

/// Every node has this seed: nodes must agree.
const SEED: [u64; 2] = [0x7765_6674_2063_686f, 0x6963_6573_2076_3031];

/// Where a flow stands among all: to be scaled to the places of a table by [`place`].
///
/// `client` is the client's address as two numbers, `ports` its port and the Service's; of a Service with affinity zero.
#[inline(always)]
#[must_use]
pub fn point(client: [u64; 2], ports: u32) -> u32 {
    let mut sip = Sip::new(SEED);
    sip.word(client[0]);
    sip.word(client[1]);
    sip.word(u64::from(ports));
    (sip.finish() >> 32) as u32
}

/// The place of a point in a table of so many, less than `places`.
#[inline(always)]
#[must_use]
pub const fn place(point: u32, places: usize) -> usize {
    ((point as u64 * places as u64) >> 32) as usize
}

/// The two numbers that a backend's order of places is made of, by its address as two numbers and its port.
#[must_use]
pub fn preference(address: [u64; 2], port: u16) -> [u64; 2] {
    [0, 1].map(|number: u64| {
        let mut sip = Sip::new(SEED);
        sip.word(address[0]);
        sip.word(address[1]);
        sip.word(u64::from(port) << 32 | number);
        sip.finish()
    })
}
