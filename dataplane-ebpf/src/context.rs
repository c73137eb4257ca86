//! What a packet program is given: a packet of the stack's (`__sk_buff`), or a frame that the driver still holds (`xdp_md`).
//! Stations that ask for bytes alone are the same for both; what only one of them has stays with that one.

use core::ffi::c_void;

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::{bpf_csum_update, bpf_get_socket_cookie};

use crate::outer::OUTER_BYTES;
use crate::parse::{self, Packet};
use crate::translate;
use crate::verdict::Step;
use crate::walk::Walk;

/// A packet's place.
pub(crate) trait Context: Copy {
    /// What the kernel calls it.
    fn raw(self) -> *mut c_void;
    /// Addresses of its first byte and of the one after the last that can be read.
    fn bounds(self) -> (usize, usize);
    /// Its length with its Ethernet header, bytes.
    fn bytes(self) -> u32;
    /// Its EtherType as it stands in memory.
    fn protocol(self) -> u32;
    /// Interface that it has come by.
    fn ifindex(self) -> u32;
    /// The sender's socket, when it is on this machine; 0 when there is none.
    fn socket_cookie(self) -> u64;
    /// Makes so many of its first bytes readable, or as many as it has; false when that fails.
    fn pull(self, bytes: usize) -> bool;
}

/// One that can be given new ends.
pub(crate) trait Editable: Context {
    /// Has its transport checksum follow the addresses' difference and the ports.
    fn checksum(walk: &Walk<Self>, packet: &Packet, addresses: u32, old: u32, new: u32) -> Step<()>;
    /// Tells whoever holds a sum over the whole packet what became of it.
    fn sum_changed(self, difference: u32);
}

impl Context for *mut __sk_buff {
    #[inline(always)]
    fn raw(self) -> *mut c_void {
        self.cast()
    }

    #[inline(always)]
    fn bounds(self) -> (usize, usize) {
        // SAFETY: the context is valid for the whole program.
        unsafe { ((*self).data as usize, (*self).data_end as usize) }
    }

    #[inline(always)]
    fn bytes(self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self).len }
    }

    #[inline(always)]
    fn protocol(self) -> u32 {
        // SAFETY: as above.
        unsafe { (&raw const (*self).protocol).read_volatile() }
    }

    #[inline(always)]
    fn ifindex(self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self).ifindex }
    }

    #[inline(always)]
    fn socket_cookie(self) -> u64 {
        // SAFETY: reads from the packet's socket, if there is one.
        unsafe { bpf_get_socket_cookie(self.cast()) }
    }

    #[inline(always)]
    fn pull(self, bytes: usize) -> bool {
        parse::linear_of(self, bytes).is_ok()
    }
}

impl Editable for *mut __sk_buff {
    #[inline(always)]
    fn checksum(walk: &Walk<Self>, packet: &Packet, addresses: u32, old: u32, new: u32) -> Step<()> {
        translate::checksum(walk, packet, addresses, old, new)
    }

    #[inline(always)]
    fn sum_changed(self, difference: u32) {
        // SAFETY: changes a number; where there is none, it says so.
        let _ = unsafe { bpf_csum_update(self, difference) };
    }
}

impl Context for *mut xdp_md {
    #[inline(always)]
    fn raw(self) -> *mut c_void {
        self.cast()
    }

    #[inline(always)]
    fn bounds(self) -> (usize, usize) {
        // SAFETY: the context is valid for the whole program.
        unsafe { ((*self).data as usize, (*self).data_end as usize) }
    }

    #[inline(always)]
    fn bytes(self) -> u32 {
        let (data, end) = self.bounds();
        (end - data) as u32
    }

    #[inline(always)]
    fn protocol(self) -> u32 {
        ether_type(self)
    }

    #[inline(always)]
    fn ifindex(self) -> u32 {
        // SAFETY: the context is valid for the whole program.
        unsafe { (*self).ingress_ifindex }
    }

    /// It has none yet.
    #[inline(always)]
    fn socket_cookie(self) -> u64 {
        0
    }

    /// All of it is there.
    #[inline(always)]
    fn pull(self, _bytes: usize) -> bool {
        true
    }
}

impl Editable for *mut xdp_md {
    #[inline(always)]
    fn checksum(walk: &Walk<Self>, packet: &Packet, addresses: u32, old: u32, new: u32) -> Step<()> {
        translate::whole_checksum(walk, packet, addresses, old, new)
    }

    /// There is none yet.
    #[inline(always)]
    fn sum_changed(self, _difference: u32) {}
}

/// The frame inside a packet of the tunnel that still bears its outer one. It can be read only.
#[derive(Clone, Copy)]
pub(crate) struct Inside(pub(crate) *mut __sk_buff);

impl Context for Inside {
    #[inline(always)]
    fn raw(self) -> *mut c_void {
        self.0.cast()
    }

    #[inline(always)]
    fn bounds(self) -> (usize, usize) {
        let (data, end) = self.0.bounds();
        (data + OUTER_BYTES, end)
    }

    #[inline(always)]
    fn bytes(self) -> u32 {
        self.0.bytes().saturating_sub(OUTER_BYTES as u32)
    }

    #[inline(always)]
    fn protocol(self) -> u32 {
        ether_type(self)
    }

    #[inline(always)]
    fn ifindex(self) -> u32 {
        self.0.ifindex()
    }

    /// Its sender's is another machine's.
    #[inline(always)]
    fn socket_cookie(self) -> u64 {
        0
    }

    #[inline(always)]
    fn pull(self, bytes: usize) -> bool {
        self.0.pull(OUTER_BYTES + bytes)
    }
}

/// The EtherType by the frame itself; 0 when it is too short for one.
#[inline(always)]
fn ether_type(context: impl Context) -> u32 {
    match parse::at_of::<u16>(context, parse::L3 - 2) {
        // SAFETY: within the frame; frames are aligned to two bytes.
        Some(protocol) => u32::from(unsafe { protocol.read_volatile() }),
        None => 0,
    }
}
