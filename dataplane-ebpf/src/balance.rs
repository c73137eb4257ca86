//! Station *balance*: a Service address is given a backend. Used by packets and by sockets.

use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_ktime_get_coarse_ns};
use aya_ebpf::maps::lpm_trie::Key;
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::backend::{BACKEND_READY, Backend, SlotKey};
use weft_dataplane_abi::choice;
use weft_dataplane_abi::config::{BALANCE_PACKET, Config, OUTWARD_HERE};
use weft_dataplane_abi::conntrack::FLOW_NODE_PORT;
use weft_dataplane_abi::counter::Counter;
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::order::Be16;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::route::NODE_SELF;
use weft_dataplane_abi::service::{
    Affinity, AffinityKey, SCOPE_CLUSTER, SCOPE_INSIDE, SCOPE_NODE, SCOPE_V6, SERVICE_LOCAL, SERVICE_OUTWARD,
    SERVICE_SOURCES, SOURCE_KEY_BITS, Service, ServiceKey, SourceKey, SourceRange,
};
use weft_dataplane_abi::station::Station;

use crate::before;
use crate::dry::dry;
use crate::maps::{self, AFFINITY, SERVICES, SLOTS, SOURCES};
use crate::parse::{Packet, Piece, SCTP, TCP, UDP};
use crate::verdict::{Step, Verdict, drop};
use crate::walk::Walk;
use crate::words::copy;
use crate::{fragment, origin, refuse};

/// How often a slot is drawn again when the agent is just taking it away.
const DRAWS_MAX: u32 = 3;

/// The Service under this key.
#[inline(always)]
pub(crate) fn service(key: &ServiceKey) -> Option<&'static Service> {
    // SAFETY: a reused row is a Service that came in this instant; no row has pointers.
    SERVICES.get_ptr(key).map(|row| unsafe { &*row })
}

/// Whether a Service wants backends of this node alone, and others have some.
#[inline(always)]
pub(crate) const fn is_local(service: &Service) -> bool {
    service.flags & SERVICE_LOCAL != 0
}

/// What traffic from inside gets of the Service under a key: its policy may be for the outside only.
#[inline(always)]
pub(crate) fn inside(found: &'static Service, key: &mut ServiceKey) -> &'static Service {
    if !is_local(found) {
        return found;
    }
    key.scope |= SCOPE_INSIDE;
    service(key).unwrap_or(found)
}

/// Whether a port is one of the node ports.
#[inline(always)]
pub(crate) fn is_node_port(config: &Config, port: Be16) -> bool {
    let port = port.get();
    config.node_port_first <= port && port <= config.node_port_last
}

/// Whether a flow may stay with the backend it remembers.
#[inline(always)]
pub(crate) fn still_there(backend_id: u32, generation: u32) -> bool {
    maps::backend(backend_id).is_some_and(|backend| backend.generation == generation)
}

/// Draws a backend for a client; none when the Service has no ready one. `keep`: the client is to get it again. `point`: what
/// comes from outside gets what all nodes would give it.
#[inline(always)]
pub(crate) fn draw(
    service: &Service,
    client: &Address,
    keep: bool,
    point: Option<u32>,
) -> Option<(u32, &'static Backend)> {
    if service.affinity_seconds == 0 {
        return draw_any(service, point);
    }
    let key = AffinityKey { client: *client, service_id: service.id };
    // SAFETY: reads a clock.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    if let Some(row) = before::affinity(&key) {
        // SAFETY: a reused row is another client's choice, checked below as any; no row has pointers.
        let row = unsafe { &mut *row };
        let fresh = now.wrapping_sub(row.seen_ns) < u64::from(service.affinity_seconds) * 1_000_000_000;
        if fresh && let Some(backend) = maps::backend(row.backend_id) {
            if backend.generation == row.generation && backend.flags & BACKEND_READY != 0 {
                if keep {
                    row.seen_ns = now;
                }
                return Some((row.backend_id, backend));
            }
        }
    }
    let (backend_id, backend) = draw_any(service, point)?;
    if keep {
        let row = Affinity { seen_ns: now, backend_id, generation: backend.generation };
        // Without the row the client is drawn for again, as without affinity.
        let _ = AFFINITY.insert(&key, &row, 0);
    }
    Some((backend_id, backend))
}

#[inline(always)]
fn draw_any(service: &Service, point: Option<u32>) -> Option<(u32, &'static Backend)> {
    if let Some(point) = point {
        let id = maps::choice(service, point);
        // Where it is just being taken away, one is drawn.
        if id != 0
            && let Some(backend) = maps::backend(id)
            && backend.flags & BACKEND_READY != 0
        {
            return Some((id, backend));
        }
    }
    for draw in 0..DRAWS_MAX {
        // SAFETY: draws a number.
        let random = unsafe { bpf_get_prandom_u32() };
        // The upper half of the product is even over the range, without a division.
        let index = ((u64::from(random) * u64::from(service.backend_count)) >> 32) as u32;
        // While the list shrinks, its first slot is the last to go.
        let index = if draw + 1 == DRAWS_MAX { 0 } else { index };
        let key = SlotKey { service_id: service.id, index };
        if let Some(slot) = SLOTS.get_ptr(&key) {
            // SAFETY: a reused row is another Service's slot for this instant; it is checked as any.
            let backend_id = unsafe { (*slot).backend_id };
            if let Some(backend) = maps::backend(backend_id) {
                if backend.flags & BACKEND_READY != 0 {
                    return Some((backend_id, backend));
                }
            }
        }
    }
    None
}

/// What a Pod sends to a Service's own address, or to a node port of any node: balanced here, the other node is spared.
#[inline(always)]
pub(crate) fn from_pod(walk: &mut Walk, packet: &Packet) -> Step<()> {
    if walk.config.flags & BALANCE_PACKET == 0 {
        return Ok(());
    }
    let found = match of_cluster(walk) {
        Some(service) => Some(inside(service, &mut walk.scratch.service_key)),
        None => match maps::node(&walk.scratch.tuple.destination) {
            Some(node) if node.flags & NODE_SELF != 0 => {
                of_node(walk).map(|service| inside(service, &mut walk.scratch.service_key))
            }
            // Only that node knows which of its own backends are ready.
            Some(_) => of_node(walk).filter(|service| !is_local(service)),
            None => None,
        },
    };
    match found {
        Some(service) => give(walk, packet, service, None, Counter::BalancedPacket),
        None => Ok(()),
    }
}

/// What the node itself sends to a Service's own address.
#[inline(always)]
pub(crate) fn from_node(walk: &mut Walk, packet: &Packet) -> Step<()> {
    if walk.config.flags & BALANCE_PACKET == 0 {
        return Ok(());
    }
    match of_cluster(walk) {
        Some(service) => {
            let service = inside(service, &mut walk.scratch.service_key);
            give(walk, packet, service, None, Counter::BalancedPacket)
        }
        None => Ok(()),
    }
}

/// The Service at an address that is not this node's own, when the outside may know it there. This is the one look-up
/// that a packet pays which is nobody's here; of a fragment nothing is remembered before.
#[inline(always)]
pub(crate) fn outward(walk: &mut Walk, packet: &mut Packet) -> Option<&'static Service> {
    if packet.piece == Piece::Later {
        fragment::ports(walk, packet).ok()?;
    }
    let service = given(walk)?;
    if packet.piece == Piece::First {
        fragment::ports(walk, packet).ok()?;
    }
    Some(service)
}

/// The Service at an address that the outside may know.
#[inline(always)]
pub(crate) fn given<C>(walk: &mut Walk<C>) -> Option<&'static Service> {
    of_cluster(walk).filter(|service| service.flags & SERVICE_OUTWARD != 0)
}

/// The Service at a port of this node's own address: a host port, mostly. What stands there is for the outside, too. Where
/// the node has none, its own packets pay no look-up.
#[inline(always)]
pub(crate) fn outward_here<C>(walk: &mut Walk<C>) -> Option<&'static Service> {
    if walk.config.flags & OUTWARD_HERE == 0 {
        return None;
    }
    of_cluster(walk)
}

/// What comes from outside to a Service.
#[inline(always)]
pub(crate) fn from_outside(walk: &mut Walk, packet: &Packet, service: &Service) -> Step<()> {
    if service.flags & SERVICE_SOURCES != 0 && !lets_in(walk, service) {
        walk.scratch.first.service_id = service.id;
        return drop(Station::Balance, Reason::SourceNotAllowed);
    }
    walk.scratch.first.flags |= FLOW_NODE_PORT;
    let point = point(walk, service);
    let sent_on = walk.hook == Hook::FromOverlay;
    let counter = if sent_on { Counter::DirectTaken } else { Counter::BalancedNodePort };
    give(walk, packet, service, Some(point), counter)
}

/// What came from outside to another node, and is here as it came: to a Service's address that the outside knows, or to a
/// port of that node's.
#[inline(always)]
pub(crate) fn sent_on(walk: &mut Walk, packet: &Packet) -> Step<()> {
    let front = match given(walk) {
        None if origin::is_senders(walk, &walk.scratch.tuple.destination) => of_node(walk),
        front => front,
    };
    match front {
        Some(service) => from_outside(walk, packet, service),
        None => drop(Station::Balance, Reason::NoService),
    }
}

/// Where a flow from outside stands in its Service's table. With affinity all flows of a client stand in one place.
#[inline(always)]
fn point(walk: &Walk, service: &Service) -> u32 {
    let tuple = &walk.scratch.tuple;
    let ports = u32::from(tuple.source_port.get()) << 16 | u32::from(tuple.destination_port.get());
    choice::point(tuple.source.halves(), if service.affinity_seconds == 0 { ports } else { 0 })
}

/// Whether the packet's source is in one of the Service's ranges.
#[inline(always)]
fn lets_in(walk: &mut Walk, service: &Service) -> bool {
    let scratch = &mut *walk.scratch;
    let key = &mut scratch.source_key;
    key.prefix_bits = SOURCE_KEY_BITS + 128;
    key.range.service_id = service.id;
    copy(&mut key.range.address, &scratch.tuple.source);
    // SAFETY: the two are laid out alike; aya's own is packed, which makes it a copy of bytes.
    let key = unsafe { &*core::ptr::from_ref::<SourceKey>(key).cast::<Key<SourceRange>>() };
    SOURCES.get(key).is_some()
}

/// The Service whose own address the packet has.
#[inline(always)]
fn of_cluster<C>(walk: &mut Walk<C>) -> Option<&'static Service> {
    let scratch = &mut *walk.scratch;
    copy(&mut scratch.service_key.address, &scratch.tuple.destination);
    by_port(walk, SCOPE_CLUSTER)
}

/// The Service whose node port the packet has.
#[inline(always)]
pub(crate) fn of_node(walk: &mut Walk) -> Option<&'static Service> {
    if !is_node_port(walk.config, walk.scratch.tuple.destination_port) {
        return None;
    }
    copy(&mut walk.scratch.service_key.address, &Address::ZERO);
    by_port(walk, if walk.is_v6() { SCOPE_NODE | SCOPE_V6 } else { SCOPE_NODE })
}

#[inline(always)]
fn by_port<C>(walk: &mut Walk<C>, scope: u8) -> Option<&'static Service> {
    let scratch = &mut *walk.scratch;
    if !matches!(scratch.tuple.protocol, TCP | UDP | SCTP) {
        return None;
    }
    scratch.service_key.port = scratch.tuple.destination_port;
    scratch.service_key.protocol = scratch.tuple.protocol;
    scratch.service_key.scope = scope;
    service(&scratch.service_key)
}

/// Gives the flow that begins one of the Service's backends.
#[inline(always)]
fn give(
    walk: &mut Walk,
    packet: &Packet,
    service: &Service,
    point: Option<u32>,
    counter: Counter,
) -> Step<()> {
    let scratch = &mut *walk.scratch;
    scratch.first.service_id = service.id;
    let Some((id, backend)) = draw(service, &scratch.tuple.source, !dry(), point) else {
        return Err(if is_local(service) {
            Verdict::Drop(Station::Balance, Reason::NoLocalBackend)
        } else {
            refuse::at_once(walk, packet, Reason::NoBackend)
        });
    };
    if backend.port != walk.scratch.tuple.destination_port && !packet.ports_may_change() {
        return drop(Station::Balance, Reason::PortsMustBeEqual);
    }
    let scratch = &mut *walk.scratch;
    scratch.first.backend_id = id;
    scratch.first.generation = backend.generation;
    copy(&mut scratch.first.to.destination, &backend.address);
    scratch.first.to.destination_port = backend.port;
    maps::count(counter);
    Ok(())
}
