//! The same for the program at the uplink's driver: a program of its own type makes the frame anew and calls it.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::{bpf_xdp_adjust_head, bpf_xdp_store_bytes};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, ProgramArray};
use aya_ebpf::programs::XdpContext;

use crate::context::Context as _;

/// What the step returns when it could not call on: no end of such a program.
const NOT_CALLED: u32 = 99;
/// A frame's length, bytes, at most.
const FRAME_BYTES_MAX: usize = 128;

/// What the step does, written by the bench, which has the same shape by hand (`agent/dataplane/benches/packet/frames.rs`).
#[repr(C)]
pub(crate) struct Plan {
    frame: [u8; FRAME_BYTES_MAX],
    /// The frame's length, bytes.
    bytes: u32,
    /// Which of the table's programs is called.
    program: u32,
}

#[map(name = "bench_frame")]
static PLAN: Array<Plan> = Array::with_max_entries(1, 0);
#[map(name = "bench_frame_programs")]
static PROGRAMS: ProgramArray = ProgramArray::with_max_entries(2, 0);

/// Makes the frame anew, with its beginning where it was, and goes over to the program.
#[xdp]
pub fn bench_frame_step(ctx: XdpContext) -> u32 {
    let Some(plan) = PLAN.get_ptr(0) else { return NOT_CALLED };
    // SAFETY: a row of an array map, written between runs only.
    let plan = unsafe { &*plan };
    let frame: *mut xdp_md = ctx.ctx;
    // The verifier takes no sums of pointers, which the compiler would make.
    let there = core::hint::black_box(frame.bytes());
    let moved = there as i32 - plan.bytes as i32;
    // SAFETY: the helper checks the bounds; no pointer into the frame is held.
    if moved != 0 && unsafe { bpf_xdp_adjust_head(frame, moved) } != 0 {
        return NOT_CALLED;
    }
    let bytes = core::hint::black_box(plan.bytes);
    if bytes == 0 || bytes > FRAME_BYTES_MAX as u32 {
        return NOT_CALLED;
    }
    // SAFETY: the row has as many bytes, and the helper checks the frame's.
    if unsafe { bpf_xdp_store_bytes(frame, 0, plan.frame.as_ptr().cast_mut().cast(), bytes) } != 0 {
        return NOT_CALLED;
    }
    // SAFETY: does not come back, or leaves everything as it is.
    unsafe { PROGRAMS.tail_call(&ctx, plan.program) };
    NOT_CALLED
}

/// Called in place of the program: what remains is the bench's own cost.
#[xdp]
pub fn bench_frame_nothing(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}
