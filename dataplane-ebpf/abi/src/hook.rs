//! The hooks: where in the kernel a program sits, and the name it has in the object.

use crate::numbered::numbered;

numbered! {
    /// A hook. The text is the name of the program.
    Hook {
        /// `connect(2)` to an IPv4 address.
        Connect4 = 1, "connect4";
        /// `sendmsg(2)` with an IPv4 address on a datagram socket.
        Sendmsg4 = 2, "sendmsg4";
        /// `recvmsg(2)` on a datagram socket, IPv4.
        Recvmsg4 = 3, "recvmsg4";
        /// `getpeername(2)`, IPv4.
        Getpeername4 = 4, "getpeername4";
        /// `connect(2)` to an IPv6 address.
        Connect6 = 5, "connect6";
        /// `sendmsg(2)` with an IPv6 address on a datagram socket.
        Sendmsg6 = 6, "sendmsg6";
        /// `recvmsg(2)` on a datagram socket, IPv6.
        Recvmsg6 = 7, "recvmsg6";
        /// `getpeername(2)`, IPv6.
        Getpeername6 = 8, "getpeername6";
        /// tcx ingress of the host's end of a Pod's veth.
        FromPod = 9, "from_pod";
        /// tcx egress of the host's end of a Pod's veth.
        ToPod = 10, "to_pod";
        /// tcx ingress of the VXLAN device.
        FromOverlay = 11, "from_overlay";
        /// tcx egress of the VXLAN device.
        ToOverlay = 12, "to_overlay";
        /// tcx ingress of the uplink.
        FromUplink = 13, "from_uplink";
        /// tcx egress of the uplink.
        ToUplink = 14, "to_uplink";
        /// tcx ingress of the device that decrypts.
        FromCipher = 15, "from_cipher";
    }
}

/// Name of the program at the uplink's driver. It is no hook of its own: what it does not carry meets [`Hook::FromUplink`], and
/// what it carries has met that one's stations.
pub const XDP_UPLINK: &str = "xdp_uplink";

impl Hook {
    /// Whether the program is a socket program that chooses a backend; the others only tell what was chosen.
    #[must_use]
    pub const fn decides(self) -> bool {
        matches!(self, Self::Connect4 | Self::Sendmsg4 | Self::Connect6 | Self::Sendmsg6)
    }

    /// Whether the program is one of the cgroup's socket programs, and not a packet program.
    #[must_use]
    pub const fn is_socket(self) -> bool {
        (self as u8) <= Self::Getpeername6 as u8
    }
}
