//! Station *socket*: balancing at connect. The Service address is replaced once, and no packet pays again.
//!
//! A connection to a Service without a ready backend is refused at once, as by a host where nobody listens: the process
//! sees `ECONNREFUSED`.

use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::{
    bpf_get_current_cgroup_id, bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_ktime_get_coarse_ns,
    bpf_set_retval,
};
use aya_ebpf::programs::SockAddrContext;
use core::ptr::{addr_of, addr_of_mut};
use weft_dataplane_abi::address::{Address, FAMILY_V4, FAMILY_V6};
use weft_dataplane_abi::backend::Backend;
use weft_dataplane_abi::config::{BALANCE_SOCKET, Config, FLOW_EVENTS};
use weft_dataplane_abi::counter::{Counter, dropped_by, seen_by};
use weft_dataplane_abi::dry::ASKING_ERRNO;
use weft_dataplane_abi::endpoint::NETNS_NODE;
use weft_dataplane_abi::event::{EVENT_AT_CONNECT, EVENT_SERVICE, Verdict};
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::order::{Be16, Be32};
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::route::NODE_SELF;
use weft_dataplane_abi::service::{SCOPE_CLUSTER, SCOPE_NODE, SCOPE_V6, Service, ServiceKey};
use weft_dataplane_abi::socket::{SOCKET_FORWARD, SOCKET_REVERSE, SocketFlow, SocketKey};
use weft_dataplane_abi::station::Station;

use crate::maps::{self, NETNS, SOCKET_FLOWS};
use crate::parse::{TCP, UDP};
use crate::words::copy;
use crate::{balance as choice, before, dry, emit};

/// The call goes on.
pub(crate) const ALLOW: i32 = 1;
/// The call fails.
const REFUSE: i32 = 0;
/// What it fails with: `ECONNREFUSED`.
const CONNECTION_REFUSED: i32 = -111;

/// The address a call is about.
#[derive(Clone, Copy)]
struct End {
    address: Address,
    port: Be16,
    protocol: u8,
}

/// `connect` and `sendmsg`: gives a Service address a backend.
#[inline(always)]
pub(crate) fn balance<const V6: bool>(ctx: &SockAddrContext, hook: Hook) -> i32 {
    let Some(config) = maps::config() else { return ALLOW };
    if config.flags & BALANCE_SOCKET == 0 {
        return ALLOW;
    }
    // SAFETY: the context is valid at these hooks.
    let netns_cookie = unsafe { bpf_get_netns_cookie(ctx.sock_addr.cast()) };
    let Some(netns) = NETNS.get_ptr(&netns_cookie) else { return ALLOW };
    let mut asked = read::<V6>(ctx.sock_addr);
    // The agent's own question: everything is done as for others, but nothing is written, counted or told.
    let question = dry::asked_protocol(ctx.sock_addr);
    match question {
        Some(protocol) => asked.protocol = protocol,
        None => maps::count_row(seen_by(hook)),
    }
    if !matches!(asked.protocol, TCP | UDP) {
        return ALLOW;
    }
    // SAFETY: the row is a number that is written once.
    let from_node = unsafe { (*netns).kind } == NETNS_NODE;
    let Some(service) = service(config, &asked, from_node) else { return ALLOW };
    // SAFETY: as above.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.sock_addr.cast()) };

    if matches!(hook, Hook::Sendmsg4 | Hook::Sendmsg6)
        && let Some((_, backend)) = chosen_before(cookie, &asked)
    {
        write::<V6>(ctx.sock_addr, backend.address, backend.port);
        return ALLOW;
    }
    let Some((backend_id, backend)) = choice::draw(service, &client(netns_cookie), question.is_none(), None)
    else {
        if question.is_some() {
            // SAFETY: sets the call's result.
            unsafe { bpf_set_retval(-(ASKING_ERRNO + why(service) as i32)) };
            return REFUSE;
        }
        maps::count_row(dropped_by(hook));
        tell(config, hook, netns_cookie, cookie, &asked, service, None);
        // SAFETY: sets the call's result. If it could not, the kernel's own would be `EPERM`.
        unsafe { bpf_set_retval(CONNECTION_REFUSED) };
        return REFUSE;
    };
    write::<V6>(ctx.sock_addr, backend.address, backend.port);
    if question.is_some() {
        return ALLOW;
    }
    remember(cookie, &asked, service, backend_id, backend);
    maps::count(Counter::BalancedSocket);
    tell(config, hook, netns_cookie, cookie, &asked, service, Some((backend_id, backend)));
    ALLOW
}

/// `recvmsg` and `getpeername`: the process sees the address it asked for, not the backend's.
#[inline(always)]
pub(crate) fn restore<const V6: bool>(ctx: &SockAddrContext, hook: Hook) {
    if maps::config().is_none() {
        return;
    }
    let got = read::<V6>(ctx.sock_addr);
    // SAFETY: the context is valid at these hooks.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.sock_addr.cast()) };
    let key = key(cookie, &got, SOCKET_REVERSE);
    if let Some(row) = before::socket_flow(&key) {
        maps::count_row(seen_by(hook));
        // SAFETY: a row reused under us gives another flow's address in this one answer; no row has pointers.
        let (address, port) = unsafe { ((*row).address, (*row).port) };
        write::<V6>(ctx.sock_addr, address, port);
    }
}

/// The Service behind an address: its own, or a node port on a node's address, or on the node's own loopback.
#[inline(always)]
fn service(config: &Config, asked: &End, from_node: bool) -> Option<&'static Service> {
    // A host port is on the node's loopback, too; everybody else's is his own.
    if !from_node && is_loopback(&asked.address) {
        return None;
    }
    let mut key = ServiceKey {
        address: asked.address,
        port: asked.port,
        protocol: asked.protocol,
        scope: SCOPE_CLUSTER,
    };
    if let Some(service) = choice::service(&key) {
        return Some(choice::inside(service, &mut key));
    }
    if !choice::is_node_port(config, asked.port) {
        return None;
    }
    let here = match maps::node(&asked.address) {
        Some(node) => node.flags & NODE_SELF != 0,
        None if from_node && is_loopback(&asked.address) => true,
        None => return None,
    };
    copy(&mut key.address, &Address::ZERO);
    key.scope = if asked.address.is_v4() { SCOPE_NODE } else { SCOPE_NODE | SCOPE_V6 };
    let service = choice::service(&key)?;
    if here {
        return Some(choice::inside(service, &mut key));
    }
    // Only that node knows which of its own backends are ready.
    (!choice::is_local(service)).then_some(service)
}

#[inline(always)]
fn is_loopback(address: &Address) -> bool {
    if address.is_v4() {
        return address.words[3].get() >> 24 == 127;
    }
    (address.words[0].wire() | address.words[1].wire() | address.words[2].wire()) == 0
        && address.words[3].get() == 1
}

/// The backend this socket already has for this address, while it is there.
#[inline(always)]
fn chosen_before(cookie: u64, asked: &End) -> Option<(u32, &'static Backend)> {
    let key = key(cookie, asked, SOCKET_FORWARD);
    // SAFETY: a row reused under us is checked against its backend's generation; no row has pointers.
    let (backend_id, generation) =
        before::socket_flow(&key).map(|row| unsafe { ((*row).backend_id, (*row).generation) })?;
    let backend = maps::backend(backend_id)?;
    (backend.generation == generation).then_some((backend_id, backend))
}

/// Writes both rows of the choice. Without them only names are lost: `getpeername` tells the backend.
#[inline(always)]
fn remember(cookie: u64, asked: &End, service: &Service, backend_id: u32, backend: &Backend) {
    // SAFETY: reads a clock.
    let chosen_ns = unsafe { bpf_ktime_get_coarse_ns() };
    let mut row = SocketFlow {
        chosen_ns,
        address: asked.address,
        port: asked.port,
        reserved: 0,
        service_id: service.id,
        backend_id,
        generation: backend.generation,
        #[cfg(feature = "other-layout")]
        other: 0,
    };
    let got = End { address: backend.address, port: backend.port, protocol: asked.protocol };
    let _ = SOCKET_FLOWS.insert(&key(cookie, &got, SOCKET_REVERSE), &row, 0);
    if asked.protocol == UDP {
        row.address = backend.address;
        row.port = backend.port;
        let _ = SOCKET_FLOWS.insert(&key(cookie, asked, SOCKET_FORWARD), &row, 0);
    }
}

#[inline(always)]
fn key(cookie: u64, end: &End, direction: u8) -> SocketKey {
    SocketKey { cookie, address: end.address, port: end.port, protocol: end.protocol, direction, reserved: 0 }
}

/// Who asks, for session affinity: all processes of one network namespace are one client.
#[inline(always)]
const fn client(netns_cookie: u64) -> Address {
    Address {
        words: [
            Be32::new(0),
            Be32::new(1),
            Be32::from_wire(netns_cookie as u32),
            Be32::from_wire((netns_cookie >> 32) as u32),
        ],
    }
}

#[inline(always)]
fn tell(
    config: &Config,
    hook: Hook,
    netns_cookie: u64,
    cookie: u64,
    asked: &End,
    service: &Service,
    chosen: Option<(u32, &Backend)>,
) {
    if chosen.is_some() && config.flags & FLOW_EVENTS == 0 {
        return;
    }
    let Some(mut entry) = emit::room() else { return };
    // SAFETY: the room is a valid event.
    let event = unsafe { &mut *entry.as_mut_ptr() };
    event.netns_cookie = netns_cookie;
    event.socket_cookie = cookie;
    // SAFETY: reads the current task's cgroup.
    event.cgroup_id = unsafe { bpf_get_current_cgroup_id() };
    copy(&mut event.destination, &asked.address);
    event.destination_port = asked.port;
    copy(&mut event.service, &asked.address);
    event.service_port = asked.port;
    event.service_id = service.id;
    event.flags = EVENT_SERVICE | EVENT_AT_CONNECT;
    event.hook = hook as u8;
    event.station = Station::Socket as u8;
    event.family = if asked.address.is_v4() { FAMILY_V4 } else { FAMILY_V6 };
    event.protocol = asked.protocol;
    match chosen {
        Some((id, backend)) => {
            event.verdict = Verdict::Forwarded as u8;
            copy(&mut event.backend, &backend.address);
            event.backend_port = backend.port;
            event.backend_id = id;
        }
        None => {
            event.verdict = Verdict::Dropped as u8;
            event.reason = why(service) as u8;
        }
    }
    entry.submit(0);
}

/// Why a Service has no backend to give.
#[inline(always)]
const fn why(service: &Service) -> Reason {
    if choice::is_local(service) { Reason::NoLocalBackend } else { Reason::NoBackend }
}

/// The context's fields are read and written one by one, as the verifier wants them.
#[inline(always)]
fn read<const V6: bool>(ctx: *mut bpf_sock_addr) -> End {
    // SAFETY: the context is valid, and the fields of this family are readable at these hooks.
    unsafe {
        let address = if V6 {
            let words = addr_of!((*ctx).user_ip6).cast::<u32>();
            Address {
                words: [
                    Be32::from_wire(words.read_volatile()),
                    Be32::from_wire(words.add(1).read_volatile()),
                    Be32::from_wire(words.add(2).read_volatile()),
                    Be32::from_wire(words.add(3).read_volatile()),
                ],
            }
        } else {
            Address::from_v4_wire(addr_of!((*ctx).user_ip4).read_volatile())
        };
        End {
            address,
            port: Be16::from_wire(addr_of!((*ctx).user_port).read_volatile() as u16),
            protocol: addr_of!((*ctx).protocol).read_volatile() as u8,
        }
    }
}

#[inline(always)]
fn write<const V6: bool>(ctx: *mut bpf_sock_addr, address: Address, port: Be16) {
    // SAFETY: as for reading; these are the fields that may be written.
    unsafe {
        if V6 {
            let words = addr_of_mut!((*ctx).user_ip6).cast::<u32>();
            words.write_volatile(address.words[0].wire());
            words.add(1).write_volatile(address.words[1].wire());
            words.add(2).write_volatile(address.words[2].wire());
            words.add(3).write_volatile(address.words[3].wire());
        } else {
            addr_of_mut!((*ctx).user_ip4).write_volatile(address.v4_wire());
        }
        addr_of_mut!((*ctx).user_port).write_volatile(u32::from(port.wire()));
    }
}
