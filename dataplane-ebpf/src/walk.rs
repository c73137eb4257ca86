//! The walks: each reads downward as its list of stations. What a station does stands in the station's file.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::programs::TcContext;
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::config::Config;
use weft_dataplane_abi::conntrack::{FLOW_NODE_PORT, FLOW_TWIN, Flow, Tuple};
use weft_dataplane_abi::counter::{dropped_by, seen_by};
use weft_dataplane_abi::fragment::FragmentKey;
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::route::{ROUTE_OUTSIDE, ROUTE_TUNNEL};
use weft_dataplane_abi::service::ServiceKey;
use weft_dataplane_abi::socket::SocketKey;
use weft_dataplane_abi::station::Station;

use crate::route::Way;
use crate::verdict::{Step, Verdict, drop};
use crate::{balance, emit, fragment, icmp, maps, parse, route, track, translate};

/// What the stations of one walk tell each other, kept out of the stack.
#[repr(C)]
pub(crate) struct Scratch {
    /// The packet's ends as it arrived.
    pub(crate) tuple: Tuple,
    /// The ends it leaves with.
    pub(crate) to: Tuple,
    /// Key of the twin row.
    pub(crate) twin_key: Tuple,
    /// The first row, to be written.
    pub(crate) first: Flow,
    /// The twin row, to be written.
    pub(crate) twin: Flow,
    /// Where it goes.
    pub(crate) way: Way,
    /// Keys of look-ups.
    pub(crate) service_key: ServiceKey,
    pub(crate) fragment_key: FragmentKey,
    pub(crate) socket_key: SocketKey,
    /// What balancing chose; 0 for nothing.
    pub(crate) service_id: u32,
    pub(crate) backend_id: u32,
    pub(crate) generation: u32,
    /// `FLOW_*` of the flow that begins or was found.
    pub(crate) flags: u16,
    pub(crate) reserved: u16,
}

/// One packet on its walk.
pub(crate) struct Walk {
    pub(crate) skb: *mut __sk_buff,
    pub(crate) hook: Hook,
    pub(crate) config: &'static Config,
    pub(crate) scratch: &'static mut Scratch,
}

impl Walk {
    /// Interface the program runs on.
    #[inline(always)]
    pub(crate) fn ifindex(&self) -> u32 {
        // SAFETY: the context is valid for the whole program.
        unsafe { (*self.skb).ifindex }
    }

    /// Length of the packet with its Ethernet header, bytes.
    #[inline(always)]
    pub(crate) fn packet_bytes(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.skb).len }
    }
}

/// Runs a walk at a hook and tells its end.
#[inline(always)]
pub(crate) fn run(ctx: TcContext, hook: Hook, walk: fn(&mut Walk) -> Step<Verdict>) -> i32 {
    let (Some(config), Some(scratch)) = (maps::config(), maps::scratch()) else {
        return Verdict::Next.number();
    };
    maps::count_row(seen_by(hook));
    scratch.service_id = 0;
    scratch.backend_id = 0;
    scratch.generation = 0;
    scratch.flags = 0;
    let mut it = Walk { skb: ctx.skb.skb, hook, config, scratch };
    let verdict = match walk(&mut it) {
        Ok(verdict) | Err(verdict) => verdict,
    };
    if let Verdict::Drop(station, reason) = verdict {
        maps::count_row(dropped_by(hook));
        emit::dropped(&it, station, reason);
    }
    verdict.number()
}

/// What a Pod sends.
#[inline(always)]
pub(crate) fn from_pod(walk: &mut Walk) -> Step<Verdict> {
    let mut packet = parse::headers(walk)?;
    parse::source_is_own(walk)?;
    if packet.is_error() {
        return icmp::error(walk, &packet);
    }
    fragment::ports(walk, &mut packet)?;
    let known = track::find(walk, &packet);
    if !known {
        balance::cluster(walk)?;
        balance::node_port_inside(walk)?;
    }
    route::find(walk);
    if !known {
        route::from_pod_may(walk)?;
        route::source_for_pod(walk);
        track::begin(walk, &packet)?;
    }
    translate::apply(walk, &packet)?;
    route::leave(walk)
}

/// What the node's own stack sends to a Pod of this node.
#[inline(always)]
pub(crate) fn to_pod(walk: &mut Walk) -> Step<Verdict> {
    let mut packet = parse::headers(walk)?;
    parse::not_yet_walked(walk)?;
    if packet.is_error() {
        return Ok(Verdict::Next);
    }
    fragment::ports(walk, &mut packet)?;
    if !track::find(walk, &packet) {
        track::begin(walk, &packet)?;
    }
    translate::apply(walk, &packet)?;
    Ok(Verdict::Next)
}

/// What comes out of the tunnel.
#[inline(always)]
pub(crate) fn from_overlay(walk: &mut Walk) -> Step<Verdict> {
    let mut packet = parse::headers(walk)?;
    route::tunnel_source_is_node(walk)?;
    if packet.is_error() {
        return icmp::error(walk, &packet);
    }
    fragment::ports(walk, &mut packet)?;
    let known = track::find(walk, &packet);
    route::find(walk);
    if !known {
        if walk.scratch.way.kind == ROUTE_TUNNEL || walk.scratch.way.kind == ROUTE_OUTSIDE {
            return drop(Station::Route, Reason::NotHere);
        }
        route::must_lead_on(walk)?;
        track::begin(walk, &packet)?;
    }
    translate::apply(walk, &packet)?;
    route::leave(walk)
}

/// What the node's own stack sends into the tunnel, or to a Service range whose route leads here.
#[inline(always)]
pub(crate) fn to_overlay(walk: &mut Walk) -> Step<Verdict> {
    let mut packet = parse::headers(walk)?;
    parse::not_yet_walked(walk)?;
    fragment::ports(walk, &mut packet)?;
    let known = track::find(walk, &packet);
    if !known {
        balance::cluster(walk)?;
    }
    route::find(walk);
    if !known {
        route::must_lead_on(walk)?;
        route::source_for_node(walk);
        track::begin(walk, &packet)?;
    }
    translate::apply(walk, &packet)?;
    route::leave(walk)
}

/// What comes from outside. All that is neither a node port nor an answer to a translated flow is the host's own.
#[inline(always)]
pub(crate) fn from_uplink(walk: &mut Walk) -> Step<Verdict> {
    let mut packet = parse::headers(walk)?;
    if !is_this_node(walk.config, &walk.scratch.tuple.destination) {
        return Ok(Verdict::Next);
    }
    if packet.is_error() {
        return icmp::error(walk, &packet);
    }
    if fragment::ports(walk, &mut packet).is_err() || !route::may_be_ours(walk, &packet) {
        return Ok(Verdict::Next);
    }
    let known = track::find(walk, &packet);
    if !known {
        if !balance::node_port_outside(walk)? {
            return Ok(Verdict::Next);
        }
    }
    route::find(walk);
    if !known {
        route::must_lead_on(walk)?;
        route::source_for_client(walk);
        track::begin(walk, &packet)?;
    }
    translate::apply(walk, &packet)?;
    route::leave(walk)
}

/// What leaves to the outside: answers of node ports that the host's own network serves get the node port back.
#[inline(always)]
pub(crate) fn to_uplink(walk: &mut Walk) -> Step<Verdict> {
    let packet = parse::headers(walk)?;
    if packet.is_error() || !packet.has_ports || !is_this_node(walk.config, &walk.scratch.tuple.source) {
        return Ok(Verdict::Next);
    }
    if !track::is_known_as(walk, FLOW_TWIN | FLOW_NODE_PORT) || !track::find(walk, &packet) {
        return Ok(Verdict::Next);
    }
    translate::apply(walk, &packet)?;
    Ok(Verdict::Next)
}

#[inline(always)]
fn is_this_node(config: &Config, address: &Address) -> bool {
    *address == config.node_v4 || *address == config.node_v6
}

/// Copies a tuple word by word: the compiler's own copy is a loop over bytes here, ten times as long.
#[inline(always)]
pub(crate) fn copy(to: &mut Tuple, from: &Tuple) {
    let (to, from) = (core::ptr::from_mut(to).cast::<u32>(), core::ptr::from_ref(from).cast::<u32>());
    let mut i = 0;
    while i < TUPLE_WORDS {
        // SAFETY: a tuple is so many aligned words, any of which may have any value.
        unsafe { to.add(i).write_volatile(from.add(i).read_volatile()) };
        i += 1;
    }
}

/// Makes a tuple all zero, for the same reason.
#[inline(always)]
pub(crate) fn clear(tuple: &mut Tuple) {
    let tuple = core::ptr::from_mut(tuple).cast::<u32>();
    let mut i = 0;
    while i < TUPLE_WORDS {
        // SAFETY: as above.
        unsafe { tuple.add(i).write_volatile(0) };
        i += 1;
    }
}

const TUPLE_WORDS: usize = size_of::<Tuple>() / size_of::<u32>();
