//! What `BPF_PROG_TEST_RUN` of a packet program is given beside the packet.

/// Bytes of a `__sk_buff`.
const CONTEXT_BYTES: usize = 192;
/// Place of its mark, bytes.
const MARK_AT: usize = 8;
/// Place of its device's index, bytes.
const IFINDEX_AT: usize = 40;

/// A packet of nothing, as long as a frame at least is: some kernels take no shorter one.
pub(crate) const LEAST: [u8; 60] = [0; 60];

/// The context of a packet that came by a device, with a mark.
pub(crate) fn context(ifindex: u32, mark: u32) -> [u8; CONTEXT_BYTES] {
    let mut context = [0; CONTEXT_BYTES];
    context[MARK_AT..MARK_AT + 4].copy_from_slice(&mark.to_ne_bytes());
    context[IFINDEX_AT..IFINDEX_AT + 4].copy_from_slice(&ifindex.to_ne_bytes());
    context
}
