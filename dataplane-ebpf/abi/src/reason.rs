//! Why a packet or a connection was dropped. A number is stable for ever.

use crate::numbered::numbered;

numbered! {
    /// A reason; [`Reason::None`] stands in events of flows that pass.
    Reason {
        /// Not dropped.
        None = 0, "none";
        /// A header is shorter than it says.
        Malformed = 1, "malformed packet";
        /// The source address is not the one of the Pod behind this interface.
        ForeignSource = 2, "source address is not the pod's";
        /// A later fragment came without its first.
        FragmentUnknown = 3, "first fragment not seen";
        /// The flow table has no room: of layouts before 3, since which the flow that was silent for longest goes.
        FlowTableFull = 4, "flow table full";
        /// No source port is free towards this destination.
        SourcePortsExhausted = 5, "source ports exhausted";
        /// The Service has no ready backend.
        NoBackend = 6, "service has no ready backend";
        /// The address is in the Service range and no Service has this address, port and protocol.
        NoService = 7, "no service at this address and port";
        /// The address is in the Pod range and belongs to no Pod and no node.
        NoSuchPod = 8, "no pod at this address";
        /// A tunnelled packet came from an address that is no node's.
        UnknownTunnelSource = 9, "tunnel source is not a node";
        /// A Pod sent to the tunnel's port of a node.
        PodToTunnel = 10, "pod may not send to the tunnel port";
        /// The kernel refused to change the packet.
        RewriteFailed = 11, "packet could not be rewritten";
        /// The kernel refused the tunnel's key.
        TunnelKeyFailed = 12, "tunnel key could not be set";
        /// A packet in the tunnel is for an address that is not on this node.
        NotHere = 13, "destination is not on this node";
        /// The flow was to leave with an address of the node, which has none of this family.
        FamilyUnsupported = 14, "node has no address of this family";
        /// An ICMP error from a Pod to the outside, about a flow nobody knows.
        ErrorAboutNothing = 15, "icmp error about no known flow";
        /// A Service led the node's own packet back to the node itself, whose answer no program would see: only the
        /// socket hook serves that.
        NodeToItself = 16, "service leads the node to itself; the socket hook is off or elsewhere";
        /// The Service's traffic policy is `Local` and all its ready backends are on other nodes.
        NoLocalBackend = 17, "service has no ready backend on this node";
        /// The packet may not be cut, and is longer than a device on its way takes: that device drops it, or the sender's own
        /// stack, and a program what comes from outside for a tunnel of IPv6.
        TooLarge = 18, "packet larger than the way takes";
        /// The client's address is in none of the Service's ranges (`loadBalancerSourceRanges`).
        SourceNotAllowed = 19, "source address is in none of the service's ranges";
        /// A row of the flow table could not be written, for somebody else was writing beside it.
        FlowTableBusy = 20, "flow table busy";
        /// The extension headers of an IPv6 packet are more or longer than are read, cut off, or hold a route that is not used up.
        HeadersUnread = 21, "extension headers cannot be read";
        /// A backend of SCTP has another port than was asked: ports of SCTP are not replaced.
        PortsMustBeEqual = 22, "port of the backend is another, and sctp ports are not replaced";
        /// Nodes encrypt, and this came into the tunnel without.
        InClear = 23, "sent in clear, and nodes encrypt";
        /// Nodes encrypt, and the other node has no key yet.
        NoKey = 24, "node has no key, and nodes encrypt";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_once_given() {
        let known: [(u8, &str); 4] = [
            (0, "none"),
            (2, "source address is not the pod's"),
            (6, "service has no ready backend"),
            (9, "tunnel source is not a node"),
        ];
        for (number, text) in known {
            assert_eq!(Reason::try_from(number).map(Reason::text), Ok(text));
        }
        assert_eq!(Reason::try_from(200), Err(200));
    }
}
