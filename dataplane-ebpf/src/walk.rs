//! The walks: each reads downward as its list of stations. What a station does stands in the station's file.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::programs::TcContext;
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::config::Config;
use weft_dataplane_abi::conntrack::{FLOW_NODE_PORT, FLOW_TWIN, Flow, Tuple};
use weft_dataplane_abi::counter::{dropped_by, seen_by};
use weft_dataplane_abi::fragment::FragmentKey;
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::route::RouteKey;
use weft_dataplane_abi::service::{ServiceKey, SourceKey};
use weft_dataplane_abi::socket::SocketKey;

use crate::context::Context;
use crate::dry::{self, dry};
use crate::parse::Packet;
use crate::track::Found;
use crate::verdict::{Step, Verdict};
use crate::words::clear;
use crate::{balance, emit, fragment, icmp, maps, native, origin, parse, route, track, translate, tunnel};

/// What the stations of one walk tell each other, kept out of the stack.
#[repr(C)]
pub(crate) struct Scratch {
    /// The packet's ends as it arrived.
    pub(crate) tuple: Tuple,
    /// The row of a flow that begins, as far as the stations have come; its `to` are the ends the packet leaves with.
    pub(crate) first: Flow,
    /// The row of the other direction, to be written.
    pub(crate) twin: Flow,
    /// The ends with which the flow left that the packet begins anew; of protocol 0 when there was none.
    pub(crate) older: Tuple,
    /// What was read of the packet besides its ends.
    pub(crate) packet: Packet,
    /// The tunnel's other end.
    pub(crate) outer: Address,
    /// The sending Pod's network namespace, once it was found to be the sender; 0 before.
    pub(crate) netns_cookie: u64,
    /// 1 while the kernel need not look after the neighbours that the packet goes by; else 0.
    pub(crate) neighbours_are_fresh: u64,
    /// Keys of look-ups.
    pub(crate) twin_key: Tuple,
    pub(crate) other_key: Tuple,
    pub(crate) fragment_key: FragmentKey,
    pub(crate) service_key: ServiceKey,
    pub(crate) source_key: SourceKey,
    pub(crate) socket_key: SocketKey,
    pub(crate) route_key: RouteKey,
    /// How many datagrams this CPU has answered with an error, and since when. Kept from walk to walk.
    pub(crate) errors_sent: u32,
    pub(crate) errors_since_ns: u64,
}

/// One packet on its walk.
pub(crate) struct Walk<C = *mut __sk_buff> {
    pub(crate) context: C,
    pub(crate) hook: Hook,
    pub(crate) config: &'static Config,
    /// [`Config::epoch`] as the walk began: what is found later is no older.
    pub(crate) epoch: u32,
    /// Who sent it, as [`Flow::origin`] has it.
    pub(crate) origin: u32,
    /// The row in force: of the table when the flow is known, else `scratch.first`.
    pub(crate) row: *mut Flow,
    pub(crate) scratch: &'static mut Scratch,
}

impl<C: Context> Walk<C> {
    /// Interface the program runs on.
    #[inline(always)]
    pub(crate) fn ifindex(&self) -> u32 {
        self.context.ifindex()
    }

    /// Length of the packet with its Ethernet header, bytes.
    #[inline(always)]
    pub(crate) fn packet_bytes(&self) -> u32 {
        self.context.bytes()
    }

    /// Whether the packet is of IPv6. Asked of the packet each time: the verifier then follows what comes after once for
    /// both families.
    #[inline(always)]
    pub(crate) fn is_v6(&self) -> bool {
        self.context.protocol() == parse::ETH_IPV6
    }

    /// The row in force.
    #[inline(always)]
    pub(crate) fn flow(&self) -> &'static mut Flow {
        // SAFETY: a row of a map: rows live as long as the program, one reused under us makes one packet meet another
        // flow's row once, and no row has pointers.
        unsafe { &mut *self.row }
    }
}

/// Runs a walk at a hook and tells its end.
#[inline(always)]
pub(crate) fn run(ctx: TcContext, hook: Hook, walk: fn(&mut Walk) -> Step<Verdict>) -> i32 {
    let (Some(config), Some(scratch)) = (maps::config(), maps::scratch()) else {
        return Verdict::Next.number();
    };
    maps::count_row(seen_by(hook));
    scratch.first.service_id = 0;
    scratch.first.backend_id = 0;
    scratch.first.generation = 0;
    scratch.first.flags = 0;
    scratch.first.way = 0;
    scratch.netns_cookie = 0;
    scratch.neighbours_are_fresh = 0;
    if dry() {
        dry::begin();
        clear(&raw mut scratch.first);
    }
    let skb = ctx.skb.skb;
    // SAFETY: the row of settings is always there. Volatile: it must be read now and not later.
    let epoch = unsafe { (&raw const config.epoch).read_volatile() };
    // SAFETY: the context is valid for the whole program.
    let origin = if matches!(hook, Hook::FromPod) { unsafe { (*skb).ifindex } } else { 0 };
    let row = &raw mut scratch.first;
    let mut it = Walk { context: skb, hook, config, epoch, origin, row, scratch };
    let verdict = match walk(&mut it) {
        Ok(verdict) | Err(verdict) => verdict,
    };
    if let Verdict::Drop(station, reason) | Verdict::Refused(station, reason) = verdict {
        maps::count_row(dropped_by(it.hook));
        emit::dropped(&it, station, reason);
    }
    if dry() {
        dry::end(&it, verdict);
    }
    verdict.number()
}

/// What a Pod sends.
#[inline(always)]
pub(crate) fn from_pod(walk: &mut Walk) -> Step<Verdict> {
    let packet = parse::headers(walk)?;
    if packet.is_error() {
        return icmp::error(walk, packet);
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
            balance::from_pod(walk, packet)?;
            route::find(walk);
            route::from_pod_may(walk)?;
            route::source_for_pod(walk)?;
            track::begin(walk, packet)?;
        }
    }
    translate::apply(walk, packet)?;
    route::leave(walk)
}

/// What the node's own stack sends to a Pod of this node.
#[inline(always)]
pub(crate) fn to_pod(walk: &mut Walk) -> Step<Verdict> {
    let packet = parse::headers(walk)?;
    origin::not_yet_walked(walk)?;
    if packet.is_error() {
        return icmp::error(walk, packet);
    }
    fragment::ports(walk, packet)?;
    if track::find(walk, packet) == Found::Nothing {
        track::begin(walk, packet)?;
    }
    translate::apply(walk, packet)?;
    Ok(Verdict::Next)
}

/// What comes out of the tunnel.
#[inline(always)]
pub(crate) fn from_overlay(walk: &mut Walk) -> Step<Verdict> {
    let packet = parse::headers(walk)?;
    origin::of_tunnel(walk)?;
    if packet.is_error() {
        return icmp::error(walk, packet);
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
            if origin::is_direct(walk) {
                balance::sent_on(walk, packet)?;
                route::find(walk);
                route::must_lead_on(walk)?;
                route::source_for_client(walk)?;
            } else {
                route::find(walk);
                route::must_be_here(walk)?;
            }
            track::begin(walk, packet)?;
        }
    }
    translate::apply(walk, packet)?;
    route::leave(walk)
}

/// What the node's own stack sends into the tunnel, or to a Service range whose route leads here.
#[inline(always)]
pub(crate) fn to_overlay(walk: &mut Walk) -> Step<Verdict> {
    let packet = parse::headers(walk)?;
    origin::not_yet_walked(walk)?;
    if packet.is_error() {
        return icmp::error(walk, packet);
    }
    fragment::ports(walk, packet)?;
    match track::find(walk, packet) {
        Found::Settled => {}
        Found::Unsettled => {
            route::find(walk);
            track::settle(walk);
        }
        Found::Nothing => {
            balance::from_node(walk, packet)?;
            route::find(walk);
            route::from_node_may(walk)?;
            route::source_for_node(walk)?;
            track::begin(walk, packet)?;
        }
    }
    translate::apply(walk, packet)?;
    route::leave(walk)
}

/// What comes from outside, and natively from other nodes' Pods. All that is neither for a node port or an outward address of
/// a Service, nor an answer to a translated flow, is the host's own.
#[inline(always)]
pub(crate) fn from_uplink(walk: &mut Walk) -> Step<Verdict> {
    origin::not_overheard(walk)?;
    let packet = parse::headers(walk)?;
    if tunnel::arrives(walk) {
        return tunnel::arrive(walk);
    }
    if packet.is_error() {
        return icmp::error(walk, packet);
    }
    if native::is_for_us(walk) {
        return native::arrive(walk, packet);
    }
    let front = if is_this_node(walk.config, &walk.scratch.tuple.destination) {
        if fragment::ports(walk, packet).is_err() {
            return Ok(Verdict::Next);
        }
        let front = balance::outward_here(walk);
        if front.is_none() && !route::may_be_ours(walk, packet) {
            return Ok(Verdict::Next);
        }
        front
    } else {
        let front = balance::outward(walk, packet);
        if front.is_none() {
            return Ok(Verdict::Next);
        }
        front
    };
    match track::find(walk, packet) {
        Found::Settled => {}
        Found::Unsettled => {
            route::find(walk);
            route::still_direct(walk)?;
            track::settle(walk);
        }
        Found::Nothing => {
            let Some(service) = front.or_else(|| balance::of_node(walk)) else {
                return Ok(Verdict::Next);
            };
            balance::from_outside(walk, packet, service)?;
            route::find(walk);
            route::must_lead_on(walk)?;
            route::source_for_client(walk)?;
            track::begin(walk, packet)?;
        }
    }
    route::must_fit(walk, packet)?;
    translate::apply(walk, packet)?;
    route::leave(walk)
}

/// What leaves to the outside: answers of Services that the host's own network serves get the address and port back that
/// the client asked. What the host's own network sends natively to other nodes' Pods is tracked.
#[inline(always)]
pub(crate) fn to_uplink(walk: &mut Walk) -> Step<Verdict> {
    let packet = parse::headers(walk)?;
    if tunnel::leaves(walk) {
        return Ok(Verdict::Next);
    }
    if !packet.is_error() && native::is_from_us(walk) {
        return native::from_node(walk, packet);
    }
    if packet.is_error() || !packet.has_ports || !is_this_node(walk.config, &walk.scratch.tuple.source) {
        return Ok(Verdict::Next);
    }
    if !track::find_as(walk, packet, FLOW_TWIN | FLOW_NODE_PORT) {
        return Ok(Verdict::Next);
    }
    translate::apply(walk, packet)?;
    Ok(Verdict::Next)
}

#[inline(always)]
pub(crate) fn is_this_node(config: &Config, address: &Address) -> bool {
    *address == config.node_v4 || *address == config.node_v6
}
