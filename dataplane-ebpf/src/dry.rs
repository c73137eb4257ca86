//! The dry run: programs loaded with this constant set look, and write nothing that others read. What is in its way elsewhere are a
//! few questions, which the verifier answers for the normal programs once and for all.

use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::bpf_get_socket_cookie;
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use weft_dataplane_abi::dry::{Asking, End, Known, Walked};
use weft_dataplane_abi::maps as table;
use weft_dataplane_abi::reason::Reason;

use crate::constant::Constant;
use crate::verdict::Verdict;
use crate::walk::Walk;
use crate::words::{clear, copy};

/// Set by the agent before it loads the programs.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata.set")]
static DRY: Constant<u32> = Constant::new(0);

#[map(name = "walked")]
static WALKED: Array<Walked> = Array::with_max_entries(1, 0);
#[map(name = "asking")]
static ASKING: Array<Asking> = Array::with_max_entries(table::ASKING.capacity, 0);

/// Whether these programs only look.
#[inline(always)]
pub(crate) fn dry() -> bool {
    DRY.get() != 0
}

/// Begins to tell of a walk.
#[inline(always)]
pub(crate) fn begin() {
    if let Some(row) = WALKED.get_ptr_mut(0) {
        clear(row);
    }
}

/// Tells what was known of the flow.
#[inline(always)]
pub(crate) fn knows(known: Known) {
    if let Some(row) = WALKED.get_ptr_mut(0) {
        // SAFETY: one walk at a time uses the row.
        unsafe { (*row).known = known as u8 };
    }
}

/// Tells how the walk ended.
#[inline(always)]
pub(crate) fn end(walk: &Walk, verdict: Verdict) {
    let Some(row) = WALKED.get_ptr_mut(0) else { return };
    // SAFETY: as above.
    let row = unsafe { &mut *row };
    copy(&mut row.tuple, &walk.scratch.tuple);
    copy(&mut row.flow, walk.flow());
    let (end, station, reason) = match verdict {
        Verdict::Next => (End::Next, 0u8, Reason::None),
        Verdict::Redirect => (End::Redirect, 0, Reason::None),
        Verdict::Drop(station, reason) => (End::Drop, station as u8, reason),
        Verdict::Refused(station, reason) => (End::Refused, station as u8, reason),
    };
    row.hook = walk.hook as u8;
    row.end = end as u8;
    row.station = station;
    row.reason = reason as u8;
}

/// What the agent's asking socket asks about; none for every other socket.
#[inline(always)]
pub(crate) fn asked_protocol(ctx: *mut bpf_sock_addr) -> Option<u8> {
    let row = ASKING.get_ptr(0)?;
    // SAFETY: a row of an array map; it is read at once, and what is read of a row under way asks for no socket that is there.
    let (cookie, protocol) = unsafe { ((*row).cookie, (*row).protocol) };
    // SAFETY: the context is valid at these hooks.
    (cookie != 0 && cookie == unsafe { bpf_get_socket_cookie(ctx.cast()) }).then_some(protocol as u8)
}
