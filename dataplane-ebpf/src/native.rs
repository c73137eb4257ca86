//! Native routing: packets between the Pods of nodes that share a network, as they are. What comes by the uplink from another
//! node's Pods walks as what comes out of the tunnel does.

use aya_ebpf::bindings::bpf_redir_neigh;
use aya_ebpf::helpers::bpf_redirect_neigh;
use weft_dataplane_abi::address::{Address, FAMILY_V4, FAMILY_V6};
use weft_dataplane_abi::config::ENCRYPTED;
use weft_dataplane_abi::conntrack::ORIGIN_UPLINK;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::route::{ROUTE_LOCKED, ROUTE_NATIVE, ROUTE_TUNNEL, Route, WALKED_INDEX};
use weft_dataplane_abi::station::Station;

use crate::context::Context;
use crate::parse::Packet;
use crate::track::Found;
use crate::verdict::{Step, Verdict, drop};
use crate::walk::Walk;
use crate::{fragment, origin, route, track, translate};

/// This node's address in its own Pod range of the packet's family, and that range's length in bits; 0 while that is not
/// known.
#[inline(always)]
fn own_range<C: Context>(walk: &Walk<C>) -> (&'static Address, u32) {
    let config = walk.config;
    if walk.is_v6() {
        (&config.overlay_v6, u32::from(config.pod_bits_v6))
    } else {
        (&config.overlay_v4, u32::from(config.pod_bits_v4))
    }
}

/// Whether a packet is for this node's own Pod range. Costs no look-up.
#[inline(always)]
pub(crate) fn is_for_us<C: Context>(walk: &Walk<C>) -> bool {
    let (own, bits) = own_range(walk);
    if bits == 0 {
        return false;
    }
    let to = &walk.scratch.tuple.destination;
    let differ = |word: usize| {
        let differ = u32::from_be(own.words[word].wire() ^ to.words[word].wire());
        let counted = bits.saturating_sub(32 * word as u32);
        // Of a word that is in the range only in part, the rest does not count.
        if counted >= 32 { differ } else { differ & !(u32::MAX >> counted) }
    };
    differ(0) | differ(1) | differ(2) | differ(3) == 0
}

/// Whether the source is another node's Pod, or that node in its Pod range: all other packets by the uplink are the host's own.
/// How this node would answer does not matter: the other one's mode may be another for a while.
#[inline(always)]
pub(crate) fn is_peers(walk: &mut Walk) -> bool {
    let scratch = &mut *walk.scratch;
    leads_to_node(route::of(&mut scratch.route_key, &scratch.tuple.source))
}

/// Whether an error by the uplink is about what was sent from this node's Pod range to another node's: the network between the
/// two has seen it, and may complain.
#[inline(always)]
pub(crate) fn has_seen(walk: &mut Walk) -> bool {
    if !is_for_us(walk) {
        return false;
    }
    let scratch = &mut *walk.scratch;
    leads_to_node(route::of(&mut scratch.route_key, &scratch.twin_key.source))
}

#[inline(always)]
fn leads_to_node(route: Option<&Route>) -> bool {
    route.is_some_and(|route| matches!(route.kind, ROUTE_NATIVE | ROUTE_TUNNEL | ROUTE_LOCKED))
}

/// What comes by the uplink for this node's Pod range.
#[inline(always)]
pub(crate) fn arrive(walk: &mut Walk, packet: &mut Packet) -> Step<Verdict> {
    walk.origin = ORIGIN_UPLINK;
    if walk.config.flags & ENCRYPTED != 0 {
        // Whose it says it is does not send in clear; what is nobody's of the cluster is the host's own.
        origin::is_true(walk)?;
        return drop(Station::Parse, Reason::InClear);
    }
    fragment::ports(walk, packet)?;
    match track::find(walk, packet) {
        Found::Settled => {}
        Found::Unsettled => {
            origin::is_true(walk)?;
            route::find(walk);
            track::settle(walk);
        }
        Found::Nothing => {
            origin::is_true(walk)?;
            route::find(walk);
            route::must_be_here(walk)?;
            track::begin(walk, packet)?;
        }
    }
    translate::apply(walk, packet)?;
    route::leave(walk)
}

/// Whether the node's own stack sends this with its address in the Pod range; what one of our programs put there bears a mark.
#[inline(always)]
pub(crate) fn is_from_us(walk: &Walk) -> bool {
    let (own, bits) = own_range(walk);
    // SAFETY: the context is valid for the whole program.
    bits != 0 && *own == walk.scratch.tuple.source && unsafe { (*walk.context).tc_index } != WALKED_INDEX
}

/// What the node's own stack sends to another node's Pods. The kernel's routes take it there.
#[inline(always)]
pub(crate) fn from_node(walk: &mut Walk, packet: &mut Packet) -> Step<Verdict> {
    fragment::ports(walk, packet)?;
    match track::find(walk, packet) {
        Found::Settled => {}
        Found::Unsettled => {
            route::find(walk);
            track::settle(walk);
        }
        Found::Nothing => {
            route::find(walk);
            if u32::from(walk.scratch.first.way) != ROUTE_NATIVE {
                return Ok(Verdict::Next);
            }
            track::begin(walk, packet)?;
        }
    }
    translate::apply(walk, packet)?;
    Ok(Verdict::Next)
}

/// Sends the packet to the node whose address the row in force holds, which is a neighbour on the uplink and of the packet's
/// own family.
#[inline(always)]
pub(crate) fn send(walk: &Walk) -> Verdict {
    let words = &walk.flow().way_words;
    let mut to = if walk.is_v6() {
        NextHop { family: u32::from(FAMILY_V6), address: [words[0], words[1], words[2], words[3]] }
    } else {
        NextHop { family: u32::from(FAMILY_V4), address: [words[3], 0, 0, 0] }
    };
    let bytes = size_of::<NextHop>() as i32;
    // SAFETY: the context is valid; the helper reads the parameters within their size.
    unsafe {
        (*walk.context).tc_index = WALKED_INDEX;
        let to = (&raw mut to).cast::<bpf_redir_neigh>();
        Verdict::redirected(bpf_redirect_neigh(walk.config.uplink_ifindex, to, bytes, 0))
    }
}

/// `bpf_redir_neigh`: a neighbour, IPv4 in the first word.
#[repr(C)]
struct NextHop {
    family: u32,
    address: [u32; 4],
}

const _: () = assert!(size_of::<NextHop>() == size_of::<bpf_redir_neigh>());
