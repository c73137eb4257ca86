//! Counters: rows of the map `counters`, a per-CPU array of `u64` in host order.

use crate::hook::Hook;
use crate::numbered::numbered;

numbered! {
    /// A counter; the number is its row. The text is its name in metrics.
    Counter {
        /// Events that found the ring buffer full.
        EventsLost = 0, "events_lost";
        /// Connections balanced at connect.
        BalancedSocket = 1, "balanced_socket";
        /// Flows balanced by the per-packet path, from Pods and from the node.
        BalancedPacket = 2, "balanced_packet";
        /// Flows balanced as node ports, from outside.
        BalancedNodePort = 3, "balanced_node_port";
        /// Flows masqueraded to the node's address.
        Masqueraded = 4, "masqueraded";
        /// Flows begun.
        FlowsBegun = 5, "flows_begun";
        /// Source ports tried that were taken.
        SourcePortConflicts = 6, "source_port_conflicts";
        /// Flows whose stale rows were replaced by a new connection.
        FlowsReplaced = 7, "flows_replaced";
        /// Flows that chose again because their backend was gone.
        BackendsReplaced = 8, "backends_replaced";
        /// Later fragments that found their first.
        FragmentsJoined = 9, "fragments_joined";
        /// Packets whose addresses or ports were replaced.
        PacketsTranslated = 10, "packets_translated";
        /// ICMP errors whose inner packet was translated back.
        ErrorsTranslated = 11, "errors_translated";
        /// Rows of flows whose other row was gone and was written again.
        FlowsMended = 12, "flows_mended";
        /// Flows from outside that go to the node of their backend as they came.
        DirectSent = 13, "direct_sent";
        /// Flows that another node has sent on as they came from outside, balanced here.
        DirectTaken = 14, "direct_taken";
        /// Packets that the uplink's driver sent on by the program there, past the stack.
        XdpCarried = 15, "xdp_carried";
        /// Packets that were put into the tunnel past its device.
        Encapsulated = 16, "encapsulated";
        /// Packets that were taken out of the tunnel before its device.
        Decapsulated = 17, "decapsulated";
    }
}

/// Row of the packets (or calls) a hook has seen: 32 + 2 × the hook's number.
#[inline(always)]
#[must_use]
pub const fn seen_by(hook: Hook) -> u32 {
    32 + 2 * hook as u32
}

/// Row of the packets (or calls) a hook has dropped: 33 + 2 × the hook's number.
#[inline(always)]
#[must_use]
pub const fn dropped_by(hook: Hook) -> u32 {
    33 + 2 * hook as u32
}

/// How many rows the map has.
pub const COUNTERS: u32 = 64;

const _: () = assert!(dropped_by(Hook::FromCipher) < COUNTERS);
