//! Station *balance*: a Service address is given a backend. Used by packets and by sockets.

use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_ktime_get_coarse_ns};
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::backend::{BACKEND_READY, Backend, SlotKey};
use weft_dataplane_abi::config::{BALANCE_PACKET, Config};
use weft_dataplane_abi::conntrack::FLOW_NODE_PORT;
use weft_dataplane_abi::counter::Counter;
use weft_dataplane_abi::order::Be16;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::service::{Affinity, AffinityKey, SCOPE_CLUSTER, SCOPE_NODE, Service, ServiceKey};
use weft_dataplane_abi::station::Station;

use crate::maps::{self, AFFINITY, SERVICES, SLOTS};
use crate::parse::{TCP, UDP};
use crate::verdict::{Step, drop};
use crate::walk::Walk;

/// How often a slot is drawn again when the agent is just taking it away.
const DRAWS_MAX: u32 = 3;

/// The Service under this key.
#[inline(always)]
pub(crate) fn service(key: &ServiceKey) -> Option<&'static Service> {
    // SAFETY: a reused row is a Service that came in this instant; no row has pointers.
    SERVICES.get_ptr(key).map(|row| unsafe { &*row })
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

/// Draws a backend for a client; none when the Service has no ready one.
#[inline(always)]
pub(crate) fn draw(service: &Service, client: &Address) -> Option<(u32, &'static Backend)> {
    if service.affinity_seconds == 0 {
        return draw_any(service);
    }
    let key = AffinityKey { client: *client, service_id: service.id };
    // SAFETY: reads a clock.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    if let Some(row) = AFFINITY.get_ptr_mut(&key) {
        // SAFETY: a reused row is another client's choice, checked below as any; no row has pointers.
        let row = unsafe { &mut *row };
        let fresh = now.wrapping_sub(row.seen_ns) < u64::from(service.affinity_seconds) * 1_000_000_000;
        if fresh && let Some(backend) = maps::backend(row.backend_id) {
            if backend.generation == row.generation && backend.flags & BACKEND_READY != 0 {
                row.seen_ns = now;
                return Some((row.backend_id, backend));
            }
        }
    }
    let (backend_id, backend) = draw_any(service)?;
    let row = Affinity { seen_ns: now, backend_id, generation: backend.generation };
    // Without the row the client is drawn for again, as without affinity.
    let _ = AFFINITY.insert(&key, &row, 0);
    Some((backend_id, backend))
}

#[inline(always)]
fn draw_any(service: &Service) -> Option<(u32, &'static Backend)> {
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

/// Looks the destination up as an address of a Service's own.
#[inline(always)]
pub(crate) fn cluster(walk: &mut Walk) -> Step<()> {
    if walk.config.flags & BALANCE_PACKET == 0 || !is_balanced(walk) {
        return Ok(());
    }
    let address = walk.scratch.tuple.destination;
    if choose(walk, address, SCOPE_CLUSTER)? {
        maps::count(Counter::BalancedPacket);
    }
    Ok(())
}

/// A Pod's packet to a node port of any node: balanced here, the other node is spared.
#[inline(always)]
pub(crate) fn node_port_inside(walk: &mut Walk) -> Step<()> {
    let wanted = walk.config.flags & BALANCE_PACKET != 0 && walk.scratch.first.service_id == 0;
    if !wanted || !is_balanced(walk) || !is_node_port(walk.config, walk.scratch.tuple.destination_port) {
        return Ok(());
    }
    if maps::node(&walk.scratch.tuple.destination).is_some() && choose(walk, Address::ZERO, SCOPE_NODE)? {
        maps::count(Counter::BalancedPacket);
    }
    Ok(())
}

/// A packet from outside to a port of this node; false when no Service has the port.
#[inline(always)]
pub(crate) fn node_port_outside(walk: &mut Walk) -> Step<bool> {
    if !is_balanced(walk) || !is_node_port(walk.config, walk.scratch.tuple.destination_port) {
        return Ok(false);
    }
    if !choose(walk, Address::ZERO, SCOPE_NODE)? {
        return Ok(false);
    }
    walk.scratch.first.flags |= FLOW_NODE_PORT;
    maps::count(Counter::BalancedNodePort);
    Ok(true)
}

#[inline(always)]
fn is_balanced(walk: &Walk) -> bool {
    matches!(walk.scratch.tuple.protocol, TCP | UDP)
}

#[inline(always)]
fn choose(walk: &mut Walk, address: Address, scope: u8) -> Step<bool> {
    let scratch = &mut *walk.scratch;
    scratch.service_key =
        ServiceKey { address, port: scratch.tuple.destination_port, protocol: scratch.tuple.protocol, scope };
    let Some(service) = service(&scratch.service_key) else {
        return Ok(false);
    };
    scratch.first.service_id = service.id;
    let Some((id, backend)) = draw(service, &scratch.tuple.source) else {
        return drop(Station::Balance, Reason::NoBackend);
    };
    scratch.first.backend_id = id;
    scratch.first.generation = backend.generation;
    scratch.first.to.destination = backend.address;
    scratch.first.to.destination_port = backend.port;
    Ok(true)
}
