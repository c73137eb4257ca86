//! Programs for the bench of single packets, in an object of their own (feature `bench`): one that makes the packet anew and
//! calls the program to be measured, and walks that end after a station, whose differences are the stations' shares.

mod frame;

use aya_ebpf::bindings::{__sk_buff, bpf_tunnel_key};
use aya_ebpf::helpers::{bpf_skb_set_tunnel_key, bpf_skb_store_bytes};
use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::{Array, ProgramArray};
use aya_ebpf::programs::TcContext;
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::route::OVERLAY_VNI;

use crate::track::Found;
use crate::verdict::{Step, Verdict};
use crate::walk::{self, Walk};
use crate::{balance, fragment, origin, parse, route, track, translate};

/// What the step returns when it could not call on: no verdict of a walk.
const NOT_CALLED: i32 = 99;
/// Bytes at the packet's start that are made anew: all that a walk changes of a frame without options.
const FRAME_BYTES: u32 = 64;
/// Place of TCP's source port in a frame, in words of two bytes.
const SOURCE_PORT: usize = 17;
/// First of the ports that follow each other.
const PORT_FIRST: u32 = 10_000;

/// What the step does, written by the bench, which has the same shape by hand (`agent/dataplane/benches/packet/step.rs`).
#[repr(C)]
pub(crate) struct Plan {
    /// The packet's first bytes.
    frame: [u16; 32],
    /// Packets so far.
    packets: u32,
    /// How many source ports follow each other, a power of two; 0: the port stays.
    ports: u32,
    /// Which of the table's programs is called.
    program: u32,
    /// The node whose tunnel it comes from, host order; 0 for none.
    tunnel_from: u32,
}

#[map(name = "bench_plan")]
static PLAN: Array<Plan> = Array::with_max_entries(1, 0);
#[map(name = "bench_programs")]
static PROGRAMS: ProgramArray = ProgramArray::with_max_entries(64, 0);

/// Makes the packet anew, with another port where that is wanted, and goes over to the program.
#[classifier]
pub fn bench_step(ctx: TcContext) -> i32 {
    let Some(plan) = PLAN.get_ptr_mut(0) else { return NOT_CALLED };
    // SAFETY: a row of an array map; one test run at a time uses it.
    let plan = unsafe { &mut *plan };
    if plan.ports != 0 {
        let port = PORT_FIRST + (plan.packets & plan.ports.wrapping_sub(1));
        plan.frame[SOURCE_PORT] = (port as u16).to_be();
        plan.packets = plan.packets.wrapping_add(1);
    }
    let skb = ctx.skb.skb;
    // SAFETY: the context is valid, and the row has as many bytes as said.
    if unsafe { bpf_skb_store_bytes(skb, 0, plan.frame.as_ptr().cast(), FRAME_BYTES, 0) } != 0 {
        return NOT_CALLED;
    }
    if plan.tunnel_from != 0 && !come_from(skb, plan.tunnel_from) {
        return NOT_CALLED;
    }
    // SAFETY: does not come back, or leaves everything as it is.
    unsafe { PROGRAMS.tail_call(&ctx, plan.program) };
    NOT_CALLED
}

/// Gives the packet the key of one that came out of the tunnel: what a program sets as local is what the next reads as remote.
#[inline(always)]
fn come_from(skb: *mut __sk_buff, node: u32) -> bool {
    // SAFETY: integers only, for which zero is a value.
    let mut key: bpf_tunnel_key = unsafe { core::mem::zeroed() };
    key.tunnel_id = OVERLAY_VNI;
    key.__bindgen_anon_3.local_ipv4 = node;
    // SAFETY: the key is as long as said.
    unsafe { bpf_skb_set_tunnel_key(skb, &raw mut key, size_of::<bpf_tunnel_key>() as u32, 0) == 0 }
}

/// Called in place of a walk: what remains is the bench's own cost.
#[classifier]
pub fn bench_nothing(_ctx: TcContext) -> i32 {
    Verdict::Next.number()
}

/// Settings, room and counters only.
#[classifier]
pub fn bench_begin(ctx: TcContext) -> i32 {
    walk::run(ctx, Hook::FromPod, |_| Ok(Verdict::Next))
}

/// To the end of *parse*.
#[classifier]
pub fn bench_parse(ctx: TcContext) -> i32 {
    walk::run(ctx, Hook::FromPod, |walk| parse::headers(walk).map(|_| Verdict::Next))
}

/// To the end of *fragment*.
#[classifier]
pub fn bench_fragment(ctx: TcContext) -> i32 {
    walk::run(ctx, Hook::FromPod, |walk| {
        let packet = parse::headers(walk)?;
        fragment::ports(walk, packet)?;
        Ok(Verdict::Next)
    })
}

/// To the end of *track* as far as it looks for the flow.
#[classifier]
pub fn bench_find(ctx: TcContext) -> i32 {
    walk::run(ctx, Hook::FromPod, |walk| {
        let packet = parse::headers(walk)?;
        fragment::ports(walk, packet)?;
        match track::find(walk, packet) {
            Found::Settled | Found::Unsettled | Found::Nothing => Ok(Verdict::Next),
        }
    })
}

/// To the end of *balance*, for a new flow.
#[classifier]
pub fn bench_balance(ctx: TcContext) -> i32 {
    walk::run(ctx, Hook::FromPod, |walk| new_flow(walk, balanced))
}

/// To the end of *route* as far as it looks for the way, for a new flow.
#[classifier]
pub fn bench_route(ctx: TcContext) -> i32 {
    walk::run(ctx, Hook::FromPod, |walk| new_flow(walk, routed))
}

/// To the end of *track* as far as it writes the flow's rows, for a new flow.
#[classifier]
pub fn bench_write(ctx: TcContext) -> i32 {
    walk::run(ctx, Hook::FromPod, |walk| {
        new_flow(walk, |walk, packet| {
            routed(walk, packet)?;
            track::write(walk, packet)
        })
    })
}

/// To the end of *track*, for a new flow.
#[classifier]
pub fn bench_track(ctx: TcContext) -> i32 {
    walk::run(ctx, Hook::FromPod, |walk| new_flow(walk, tracked))
}

/// To the end of *translate*, for any flow.
#[classifier]
pub fn bench_translate(ctx: TcContext) -> i32 {
    walk::run(ctx, Hook::FromPod, |walk| {
        let packet = parse::headers(walk)?;
        fragment::ports(walk, packet)?;
        if track::find(walk, packet) == Found::Nothing {
            tracked(walk, packet)?;
        }
        translate::apply(walk, packet)?;
        Ok(Verdict::Next)
    })
}

#[inline(always)]
fn new_flow(walk: &mut Walk, stations: fn(&mut Walk, &parse::Packet) -> Step<()>) -> Step<Verdict> {
    let packet = parse::headers(walk)?;
    fragment::ports(walk, packet)?;
    if track::find(walk, packet) == Found::Nothing {
        stations(walk, packet)?;
    }
    Ok(Verdict::Next)
}

#[inline(always)]
fn balanced(walk: &mut Walk, packet: &parse::Packet) -> Step<()> {
    origin::is_true(walk)?;
    balance::from_pod(walk, packet)
}

#[inline(always)]
fn routed(walk: &mut Walk, packet: &parse::Packet) -> Step<()> {
    balanced(walk, packet)?;
    route::find(walk);
    route::from_pod_may(walk)?;
    route::source_for_pod(walk)
}

#[inline(always)]
fn tracked(walk: &mut Walk, packet: &parse::Packet) -> Step<()> {
    routed(walk, packet)?;
    track::begin(walk, packet)
}
