//! The eBPF programs of the dataplane: hooks only. What a packet meets at each stands in `walk.rs`, what a socket meets
//! in `socket.rs`.
#![feature(core_intrinsics)]
#![allow(internal_features)]
#![no_std]
#![no_main]
// The kernel is on the other side of every line here.
#![allow(unsafe_code)]
// The macros make public functions of the hooks and repeat them inside.
#![allow(missing_docs, unreachable_pub)]

mod balance;
mod before;
#[cfg(feature = "bench")]
mod bench;
mod constant;
mod context;
mod dry;
mod emit;
mod fragment;
mod icmp;
mod ipv6;
mod maps;
mod native;
mod origin;
mod outer;
mod parse;
mod refuse;
mod route;
mod socket;
mod table;
mod track;
mod translate;
mod tunnel;
mod verdict;
mod walk;
mod words;
mod xdp;

use aya_ebpf::macros::{cgroup_sock_addr, classifier, xdp};
use aya_ebpf::programs::{SockAddrContext, TcContext, XdpContext};
use weft_dataplane_abi::hook::Hook;

use crate::verdict::Verdict;

/// tcx ingress of the host's end of a Pod's veth.
#[classifier]
pub fn from_pod(ctx: TcContext) -> i32 {
    walk::run(ctx, Hook::FromPod, walk::from_pod)
}

/// tcx egress of the host's end of a Pod's veth.
#[classifier]
pub fn to_pod(ctx: TcContext) -> i32 {
    walk::run(ctx, Hook::ToPod, walk::to_pod)
}

/// tcx ingress of the VXLAN device.
#[classifier]
pub fn from_overlay(ctx: TcContext) -> i32 {
    walk::run(ctx, Hook::FromOverlay, walk::from_overlay)
}

/// tcx egress of the VXLAN device.
#[classifier]
pub fn to_overlay(ctx: TcContext) -> i32 {
    walk::run(ctx, Hook::ToOverlay, walk::to_overlay)
}

/// tcx ingress of the uplink.
#[classifier]
pub fn from_uplink(ctx: TcContext) -> i32 {
    walk::run(ctx, Hook::FromUplink, walk::from_uplink)
}

/// tcx egress of the uplink.
#[classifier]
pub fn to_uplink(ctx: TcContext) -> i32 {
    walk::run(ctx, Hook::ToUplink, walk::to_uplink)
}

/// tcx ingress of the device that decrypts: what comes out of it says so to the tunnel.
#[classifier]
pub fn from_cipher(ctx: TcContext) -> i32 {
    origin::mark(&ctx);
    Verdict::Next.number()
}

/// Attached nowhere: run by the agent, to bring over flows of the other layout.
#[classifier]
pub fn sweep(ctx: TcContext) -> i32 {
    // SAFETY: the context is valid.
    before::sweep(unsafe { (*ctx.skb.skb).mark })
}

/// The uplink's driver, before there is a packet of the stack's.
#[xdp]
pub fn xdp_uplink(ctx: XdpContext) -> u32 {
    xdp::run(ctx.ctx)
}

/// `connect(2)`, IPv4.
#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    socket::balance::<false>(&ctx, Hook::Connect4)
}

/// `connect(2)`, IPv6.
#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    socket::balance::<true>(&ctx, Hook::Connect6)
}

/// `sendmsg(2)` with an address, IPv4.
#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    socket::balance::<false>(&ctx, Hook::Sendmsg4)
}

/// `sendmsg(2)` with an address, IPv6.
#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    socket::balance::<true>(&ctx, Hook::Sendmsg6)
}

/// `recvmsg(2)`, IPv4.
#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(ctx: SockAddrContext) -> i32 {
    socket::restore::<false>(&ctx, Hook::Recvmsg4);
    socket::ALLOW
}

/// `recvmsg(2)`, IPv6.
#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(ctx: SockAddrContext) -> i32 {
    socket::restore::<true>(&ctx, Hook::Recvmsg6);
    socket::ALLOW
}

/// `getpeername(2)`, IPv4.
#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    socket::restore::<false>(&ctx, Hook::Getpeername4);
    socket::ALLOW
}

/// `getpeername(2)`, IPv6.
#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    socket::restore::<true>(&ctx, Hook::Getpeername6);
    socket::ALLOW
}

/// Never reached: the verifier refuses programs that could.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Some helpers are for programs under this licence only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
