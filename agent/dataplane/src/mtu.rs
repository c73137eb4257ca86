//! How long a packet may be: the one calculation, for everybody who needs an MTU. Pure: what is known of the uplink and of the
//! other nodes comes in, numbers go out. Knows no device.

/// What a VXLAN tunnel of IPv4 puts before a packet, bytes: the outer IP, UDP and VXLAN headers and the inner Ethernet header
/// (RFC 7348, section 5). The outer Ethernet header is not counted in an MTU.
pub const TUNNEL_V4_BYTES: u32 = 20 + 8 + 8 + 14;
/// The same of IPv6.
pub const TUNNEL_V6_BYTES: u32 = 40 + 8 + 8 + 14;
/// Every link of IPv6 takes packets of so many bytes (RFC 8200, section 5); the kernel takes IPv6 from a device that takes less.
pub const V6_BYTES_MIN: u32 = 1_280;
/// Every link of IPv4 takes packets of so many bytes (RFC 791).
pub const V4_BYTES_MIN: u32 = 68;

/// How packets travel to the Pods of another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Carriage {
    /// As they are, by the uplink.
    Direct,
    /// In the tunnel, with outer addresses of IPv4.
    TunnelV4,
    /// In the tunnel, with outer addresses of IPv6.
    TunnelV6,
}

impl Carriage {
    /// The tunnel of a family.
    #[must_use]
    pub const fn tunnel(v6: bool) -> Self {
        if v6 { Self::TunnelV6 } else { Self::TunnelV4 }
    }

    /// What it puts before a packet, bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        match self {
            Self::Direct => 0,
            Self::TunnelV4 => TUNNEL_V4_BYTES,
            Self::TunnelV6 => TUNNEL_V6_BYTES,
        }
    }

    /// Whether it is the tunnel's.
    #[must_use]
    pub const fn is_tunnel(self) -> bool {
        matches!(self, Self::TunnelV4 | Self::TunnelV6)
    }
}

/// What the calculation needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Road {
    /// The longest packet that the uplink takes, bytes.
    pub uplink_bytes: u32,
    /// Room that an encryption below all that is sent to other nodes takes, bytes; 0 for none.
    pub encryption_bytes: u32,
    /// How a node would be reached of which nothing is known yet.
    pub usual: Carriage,
    /// The tunnel that a node would be reached by that cannot be reached otherwise.
    pub tunnel: Carriage,
    /// Pods have addresses of IPv6.
    pub pods_v6: bool,
}

/// What comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mtu {
    /// MTU of both ends of a Pod's veth, bytes: what the longest way needs of a packet is left free on all, so that a packet which
    /// a Pod may send fits wherever it goes.
    pub pods_bytes: u32,
    /// MTU of the tunnel's device, bytes, and so of the routes through it.
    pub tunnel_bytes: u32,
    /// The uplink is too small for the smallest packet that Pods must be able to send: outer packets are cut.
    pub cut: bool,
}

/// The calculation, for the ways on which the other nodes are reached.
#[must_use]
pub fn mtu(road: &Road, others: impl IntoIterator<Item = Carriage>) -> Mtu {
    let mut pods = road.usual.bytes();
    let mut tunnel = road.tunnel.bytes();
    for carriage in others {
        pods = pods.max(carriage.bytes());
        if carriage.is_tunnel() {
            tunnel = tunnel.max(carriage.bytes());
        }
    }
    let least = if road.pods_v6 { V6_BYTES_MIN } else { V4_BYTES_MIN };
    let left = |bytes: u32| road.uplink_bytes.saturating_sub(road.encryption_bytes).saturating_sub(bytes);
    Mtu {
        pods_bytes: left(pods).max(least),
        tunnel_bytes: left(tunnel).max(least),
        cut: left(pods).min(left(tunnel)) < least,
    }
}

#[cfg(test)]
mod tests {
    use super::Carriage::{Direct, TunnelV4, TunnelV6};
    use super::*;

    /// Uplink, encryption, ways, other nodes' ways: MTU of Pods and of the tunnel.
    type Row = (u32, u32, (Carriage, Carriage), &'static [Carriage], u32, u32);

    /// WireGuard's headers behind outer ones of IPv4, and of IPv6.
    const WIREGUARD: [u32; 2] = [60, 80];

    #[test]
    fn the_longest_packet_is_what_the_way_leaves() {
        let [four, six] = WIREGUARD;
        let table: [Row; 17] = [
            (1_500, 0, (TunnelV4, TunnelV4), &[], 1_450, 1_450),
            (1_500, 0, (TunnelV4, TunnelV4), &[TunnelV4, TunnelV4], 1_450, 1_450),
            (1_500, 0, (TunnelV6, TunnelV6), &[], 1_430, 1_430),
            (1_500, 0, (TunnelV4, TunnelV4), &[TunnelV4, TunnelV6], 1_430, 1_430),
            (9_000, 0, (TunnelV4, TunnelV4), &[TunnelV4], 8_950, 8_950),
            (9_000, 0, (TunnelV6, TunnelV6), &[TunnelV6], 8_930, 8_930),
            (1_400, 0, (TunnelV4, TunnelV4), &[], 1_350, 1_350),
            (1_500, four, (TunnelV4, TunnelV4), &[TunnelV4], 1_390, 1_390),
            (1_500, six, (TunnelV4, TunnelV4), &[TunnelV4], 1_370, 1_370),
            (1_500, six, (TunnelV6, TunnelV6), &[TunnelV6], 1_350, 1_350),
            (9_000, four, (TunnelV4, TunnelV4), &[TunnelV6], 8_870, 8_870),
            (1_500, 0, (Direct, TunnelV4), &[], 1_500, 1_450),
            (1_500, 0, (Direct, TunnelV4), &[Direct, Direct], 1_500, 1_450),
            (1_500, 0, (Direct, TunnelV6), &[Direct], 1_500, 1_430),
            (1_500, 0, (Direct, TunnelV4), &[Direct, TunnelV4], 1_450, 1_450),
            (1_500, 0, (Direct, TunnelV4), &[TunnelV6, Direct], 1_430, 1_430),
            (1_500, six, (Direct, TunnelV4), &[Direct], 1_420, 1_370),
        ];
        for (uplink_bytes, encryption_bytes, (usual, tunnel), others, pods_bytes, tunnel_bytes) in table {
            let road = Road { uplink_bytes, encryption_bytes, usual, tunnel, pods_v6: true };
            let is = mtu(&road, others.iter().copied());
            assert_eq!(is, Mtu { pods_bytes, tunnel_bytes, cut: false }, "{road:?} {others:?}");
        }
    }

    #[test]
    fn an_uplink_too_small_for_the_family_has_outer_packets_cut() {
        let road = |uplink_bytes, pods_v6| {
            let (usual, tunnel) = (TunnelV4, TunnelV4);
            mtu(&Road { uplink_bytes, encryption_bytes: 0, usual, tunnel, pods_v6 }, [])
        };
        assert_eq!(road(1_330, true), Mtu { pods_bytes: 1_280, tunnel_bytes: 1_280, cut: false });
        assert_eq!(road(1_329, true), Mtu { pods_bytes: 1_280, tunnel_bytes: 1_280, cut: true });
        assert_eq!(road(1_329, false), Mtu { pods_bytes: 1_279, tunnel_bytes: 1_279, cut: false });
        assert_eq!(road(0, false), Mtu { pods_bytes: 68, tunnel_bytes: 68, cut: true });
    }
}
