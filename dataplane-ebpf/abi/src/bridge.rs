//! What the programs of one layout know of the tables of another while an agent with another layout takes over.
//!
//! The rule: **keys never change; values only grow, at their end; zero in a field that was added means that it is not
//! known.** So every row is read by any build, as far as both know it, on the way up and on the way down. A layout that must
//! break the rule brings its own conversion, or begins with empty tables.

use crate::conntrack::{Flow, Tuple};
use crate::maps::{AFFINITY, MapSpec, SOCKET_FLOWS};
use crate::service::{Affinity, AffinityKey};
use crate::socket::{SocketFlow, SocketKey};

/// Name of the programs' constant, a `u32`: not 0 in programs that read and write the other layout's tables, too.
pub const BRIDGE: &str = "BRIDGE";

/// Name of the program that brings over the other layout's flows, [`SWEEP_ROWS`] at a time. It is attached nowhere: the agent runs
/// it (`BPF_PROG_TEST_RUN`), with the number of the first row as the packet's mark. Its answer is how many rows it wrote, and
/// [`SWEEP_HELD`] for each that it could not, since somebody had a bucket's lock: those are there at another run.
pub const SWEEP: &str = "sweep";
/// Rows that one run looks at, whole buckets.
pub const SWEEP_ROWS: u32 = 8 * crate::flow_table::WAYS as u32;

/// What a row counts that is left.
pub const SWEEP_HELD: i32 = 1 << 16;

/// Longest value of a bridged table in any layout, bytes.
pub const VALUE_BYTES_MAX: u32 = 256;

/// A table that the programs fill: its rows go over while packets do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// The table in this layout.
    pub table: MapSpec,
    /// Name in the object of the other layout's table.
    pub name: &'static str,
    /// Bytes of a value that all layouts share.
    pub shared_bytes: u32,
}

/// Name in the object of the other layout's table of flows, which is of another kind than the rest: its buckets are a head
/// that never changes, and rows of a key and a value that grows at its end.
pub const FLOWS_BEFORE: &str = "flows_before";
/// Bytes of a flow's row that all layouts share.
pub const FLOW_BYTES_SHARED: usize = 104;
/// What was decided at connect.
pub const SOCKETS_BRIDGE: Bridge = Bridge { table: SOCKET_FLOWS, name: "sockets_before", shared_bytes: 40 };
/// Which backend a client had.
pub const AFFINITY_BRIDGE: Bridge = Bridge { table: AFFINITY, name: "affinity_before", shared_bytes: 16 };

/// All but the flows. Fragments are left out: their rows live for the moment that a datagram is under way.
pub const BRIDGES: [Bridge; 2] = [SOCKETS_BRIDGE, AFFINITY_BRIDGE];

const _: () = {
    assert!(size_of::<Tuple>() == 40 && size_of::<SocketKey>() == 32 && size_of::<AffinityKey>() == 20);
    assert!(FLOW_BYTES_SHARED <= size_of::<Flow>() && size_of::<Flow>().is_multiple_of(8));
    assert!(holds(&SOCKETS_BRIDGE, size_of::<SocketFlow>()));
    assert!(holds(&AFFINITY_BRIDGE, size_of::<Affinity>()));
};

const fn holds(bridge: &Bridge, value_bytes: usize) -> bool {
    bridge.shared_bytes as usize <= value_bytes
        && value_bytes <= VALUE_BYTES_MAX as usize
        && bridge.shared_bytes.is_multiple_of(8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    /// What stands where since layout 2, and for ever.
    #[test]
    fn fields_that_layouts_share_stay_where_they_are() {
        let flow = [
            offset_of!(Flow, to),
            offset_of!(Flow, seen_ns),
            offset_of!(Flow, packets),
            offset_of!(Flow, bytes),
            offset_of!(Flow, service_id),
            offset_of!(Flow, backend_id),
            offset_of!(Flow, generation),
            offset_of!(Flow, origin),
            offset_of!(Flow, epoch),
            offset_of!(Flow, flags),
            offset_of!(Flow, tcp_seen),
            offset_of!(Flow, way),
            offset_of!(Flow, way_words),
        ];
        assert_eq!(flow, [0, 40, 48, 56, 64, 68, 72, 76, 80, 84, 86, 87, 88]);
        let socket = [
            offset_of!(SocketFlow, chosen_ns),
            offset_of!(SocketFlow, address),
            offset_of!(SocketFlow, port),
            offset_of!(SocketFlow, service_id),
            offset_of!(SocketFlow, backend_id),
            offset_of!(SocketFlow, generation),
        ];
        assert_eq!(socket, [0, 8, 24, 28, 32, 36]);
        let affinity = [
            offset_of!(Affinity, seen_ns),
            offset_of!(Affinity, backend_id),
            offset_of!(Affinity, generation),
        ];
        assert_eq!(affinity, [0, 8, 12]);
    }

    #[test]
    fn names_fit_the_kernel() {
        assert!(BRIDGES.iter().all(|bridge| bridge.name.len() <= 15) && FLOWS_BEFORE.len() <= 15);
    }
}
