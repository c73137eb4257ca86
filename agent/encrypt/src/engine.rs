//! What becomes of a packet: which tunnel it goes through, and who may send it. Moves no packets itself.
//!
//! A tunnel is between two keys of one generation. Packets leave by the newest generation that has a session, so a rotation
//! loses none: the new tunnel is greeted beside the old one, and takes over when it has answered. **A packet whose peer has
//! no key is dropped and counted; nothing leaves in clear.**

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, Tunn, TunnResult};
use boringtun::x25519;

use crate::wanted::{GENERATIONS_MAX, KEY_BYTES, PEERS_MAX, Peer, PeerStatus, Status, Wanted};

/// Handshakes taken a second and generation before senders have to prove their address. Each is looked at twice.
const HANDSHAKES_PER_SECOND_MAX: u64 = 2 * 500;
/// Handshakes begun at one tick.
const GREETINGS_PER_TICK_MAX: usize = 128;
/// Ticks after which a tunnel that did not answer is greeted again while an older one serves.
const GREET_AGAIN_TICKS: u32 = 20;
/// Tunnels are numbered by what is left of 32 bits when a tunnel has numbered its sessions.
const INDEX_MAX: u32 = (1 << 24) - 1;
/// Smallest room for what is written: a handshake.
const IPV4_HEADER_BYTES: usize = 20;

/// Where packets go.
pub(crate) trait Outlet {
    /// Room for one datagram, to be written from its beginning.
    fn room(&mut self) -> &mut [u8];
    /// Sends what was written into the room.
    fn send(&mut self, bytes: usize, to: SocketAddr, generation: u64);
    /// Gives a packet to the node.
    fn deliver(&mut self, packet: &[u8]);
}

/// Packets dropped, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Drops {
    /// The node had something to send to an address that is no peer's.
    pub(crate) no_peer: u64,
    /// The peer and this node have no keys of one generation.
    pub(crate) no_key: u64,
    /// Something arrived that is no peer's: another key, or a session that is over.
    pub(crate) unknown: u64,
    /// Something arrived that could not be deciphered, or came twice.
    pub(crate) refused: u64,
    /// A peer sent with another address than its own, or to another than this node's.
    pub(crate) foreign: u64,
}

struct Own {
    generation: u64,
    private: x25519::StaticSecret,
    public: x25519::PublicKey,
    limiter: Arc<RateLimiter>,
}

struct Tunnel {
    generation: u64,
    /// The peer's key, and this node's.
    key: [u8; KEY_BYTES],
    own: x25519::PublicKey,
    index: u32,
    tunn: Tunn,
    /// It has a session to send with.
    usable: bool,
    /// Ticks since it was greeted.
    waited_ticks: u32,
}

struct Known {
    name: String,
    address: IpAddr,
    /// Newest first.
    tunnels: Vec<Tunnel>,
}

/// The state of all tunnels.
pub(crate) struct Engine {
    inner: Ipv4Addr,
    /// Newest first.
    own: Vec<Own>,
    peers: HashMap<Ipv4Addr, Known>,
    by_index: HashMap<u32, Ipv4Addr>,
    by_key: HashMap<(u64, [u8; KEY_BYTES]), Ipv4Addr>,
    next_index: u32,
    greet: VecDeque<u32>,
    /// UDP port of even generations, the next one is of odd ones.
    port: u16,
    pub(crate) drops: Drops,
    scratch: Vec<u8>,
}

/// UDP port of a generation: the two in use have different ones, as the kernel's devices, which have one key each, need.
pub(crate) const fn port_of(port: u16, generation: u64) -> u16 {
    port.wrapping_add((generation % 2) as u16)
}

impl Engine {
    /// Knows nobody yet. `packet_bytes_max`: longest datagram.
    pub(crate) fn new(port: u16, packet_bytes_max: usize, first_index: u32) -> Self {
        Self {
            inner: Ipv4Addr::UNSPECIFIED,
            own: Vec::new(),
            peers: HashMap::new(),
            by_index: HashMap::new(),
            by_key: HashMap::new(),
            next_index: first_index & INDEX_MAX,
            greet: VecDeque::new(),
            port,
            drops: Drops::default(),
            scratch: vec![0; packet_bytes_max],
        }
    }

    /// Takes in what is wanted. Tunnels whose keys are the same go on.
    pub(crate) fn set(&mut self, wanted: &Wanted) {
        self.inner = wanted.inner;
        if let Some(keys) = &wanted.own {
            let mut keys: Vec<_> = keys.iter().collect();
            keys.sort_by_key(|key| std::cmp::Reverse(key.generation));
            keys.truncate(GENERATIONS_MAX);
            let before = std::mem::take(&mut self.own);
            self.own = keys.iter().map(|key| own(key.generation, key.private.0, &before)).collect();
        }
        let mut before = std::mem::take(&mut self.peers);
        self.by_key.clear();
        for peer in wanted.peers.iter().filter(|peer| peer.inner != wanted.inner).take(PEERS_MAX) {
            let old = before.remove(&peer.inner).map(|known| known.tunnels).unwrap_or_default();
            let tunnels = self.tunnels(peer, old);
            for tunnel in &tunnels {
                self.by_key.insert((tunnel.generation, tunnel.key), peer.inner);
            }
            let known = Known { name: peer.name.clone(), address: peer.address, tunnels };
            self.peers.insert(peer.inner, known);
        }
        self.by_index = self
            .peers
            .iter()
            .flat_map(|(inner, known)| known.tunnels.iter().map(|tunnel| (tunnel.index, *inner)))
            .collect();
        self.greet.retain(|index| self.by_index.contains_key(index));
    }

    /// The tunnels to a peer: one for each generation that both have, those that were there kept.
    fn tunnels(&mut self, peer: &Peer, mut before: Vec<Tunnel>) -> Vec<Tunnel> {
        let mut tunnels = Vec::with_capacity(GENERATIONS_MAX);
        for own in &self.own {
            let Some(key) = peer.keys.iter().find(|key| key.generation == own.generation) else { continue };
            let kept = before.iter().position(|tunnel| {
                tunnel.generation == own.generation && tunnel.key == key.key && tunnel.own == own.public
            });
            if let Some(at) = kept {
                tunnels.push(before.swap_remove(at));
                continue;
            }
            let index = self.next_index;
            self.next_index = (self.next_index + 1) & INDEX_MAX;
            let public = x25519::PublicKey::from(key.key);
            let limiter = Some(own.limiter.clone());
            let tunn = Tunn::new(own.private.clone(), public, None, None, index, limiter);
            let generation = own.generation;
            tunnels.push(Tunnel {
                generation,
                key: key.key,
                own: own.public,
                index,
                tunn,
                usable: false,
                waited_ticks: 0,
            });
            self.greet.push_back(index);
        }
        tunnels
    }

    /// A packet that the node sends.
    pub(crate) fn outgoing(&mut self, packet: &[u8], outlet: &mut impl Outlet) {
        let Some(IpAddr::V4(to)) = Tunn::dst_address(packet) else {
            // Neighbour discovery and the like; nothing of it leaves.
            self.drops.no_peer += 1;
            return;
        };
        let Some(known) = self.peers.get_mut(&to) else {
            self.drops.no_peer += 1;
            return;
        };
        let port = self.port;
        let address = known.address;
        let newest = known.tunnels.iter().position(|tunnel| tunnel.usable).unwrap_or(0);
        let Some(tunnel) = known.tunnels.get_mut(newest) else {
            self.drops.no_key += 1;
            return;
        };
        let usable = tunnel.usable;
        match tunnel.tunn.encapsulate(packet, outlet.room()) {
            TunnResult::WriteToNetwork(datagram) => {
                let bytes = datagram.len();
                outlet.send(bytes, endpoint(address, port, tunnel.generation), tunnel.generation);
            }
            // It waits for the handshake that is under way, or that has just begun.
            TunnResult::Done => {}
            _ => self.drops.refused += 1,
        }
        if usable {
            return;
        }
        // The peer may not have heard of the newest key.
        for tunnel in known.tunnels.iter_mut().skip(1) {
            let to = endpoint(address, port, tunnel.generation);
            if let TunnResult::WriteToNetwork(datagram) =
                tunnel.tunn.format_handshake_initiation(&mut self.scratch, false)
            {
                pass(datagram, to, tunnel.generation, outlet);
            }
        }
    }

    /// A datagram from the underlay.
    pub(crate) fn incoming(&mut self, datagram: &[u8], from: SocketAddr, outlet: &mut impl Outlet) {
        let number = |at: usize| {
            let bytes = datagram.get(at..at + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?))
        };
        let index = match number(0) {
            Some(1) => self.initiator(datagram, from, outlet),
            Some(2) => number(8).map(|receiver| receiver >> 8),
            Some(3 | 4) => number(4).map(|receiver| receiver >> 8),
            _ => None,
        };
        let inner = index.and_then(|index| self.by_index.get(&index).copied());
        let (Some(index), Some(inner)) = (index, inner) else {
            self.drops.unknown += 1;
            return;
        };
        let Some(known) = self.peers.get_mut(&inner) else { return };
        let address = known.address;
        let Some(tunnel) = known.tunnels.iter_mut().find(|tunnel| tunnel.index == index) else { return };
        let to = endpoint(address, self.port, tunnel.generation);
        match tunnel.tunn.decapsulate(Some(from.ip()), datagram, &mut self.scratch) {
            TunnResult::WriteToNetwork(answer) => {
                pass(answer, to, tunnel.generation, outlet);
                // What waited for the handshake.
                while let TunnResult::WriteToNetwork(next) =
                    tunnel.tunn.decapsulate(None, &[], &mut self.scratch)
                {
                    pass(next, to, tunnel.generation, outlet);
                }
            }
            TunnResult::WriteToTunnelV4(packet, source) => {
                if source == inner && destination(packet) == Some(self.inner) {
                    outlet.deliver(packet);
                } else {
                    self.drops.foreign += 1;
                }
            }
            TunnResult::WriteToTunnelV6(..) => self.drops.foreign += 1,
            TunnResult::Done => {}
            // The peer greets with an older time than before: its clock was put back and its process does not know. It
            // takes a greeting, though; whoever only repeats what the peer once said gains nothing by one.
            TunnResult::Err(WireGuardError::WrongTai64nTimestamp) => {
                self.drops.refused += 1;
                if tunnel.waited_ticks >= GREET_AGAIN_TICKS {
                    tunnel.waited_ticks = 0;
                    if let TunnResult::WriteToNetwork(greeting) =
                        tunnel.tunn.format_handshake_initiation(&mut self.scratch, false)
                    {
                        pass(greeting, to, tunnel.generation, outlet);
                    }
                }
            }
            TunnResult::Err(_) => self.drops.refused += 1,
        }
        tunnel.usable = tunnel.tunn.time_since_last_handshake().is_some();
    }

    /// The tunnel that a greeting is for: the key that it was made for, and the peer's that made it.
    fn initiator(&mut self, datagram: &[u8], from: SocketAddr, outlet: &mut impl Outlet) -> Option<u32> {
        for own in &self.own {
            let mut cookie = [0; 64];
            match own.limiter.verify_packet(Some(from.ip()), datagram, &mut cookie) {
                Ok(Packet::HandshakeInit(greeting)) => {
                    let half = parse_handshake_anon(&own.private, &own.public, &greeting).ok()?;
                    let inner = self.by_key.get(&(own.generation, half.peer_static_public))?;
                    let tunnels = &self.peers.get(inner)?.tunnels;
                    return tunnels
                        .iter()
                        .find(|tunnel| tunnel.generation == own.generation)
                        .map(|tunnel| tunnel.index);
                }
                Err(TunnResult::WriteToNetwork(cookie)) => {
                    pass(cookie, from, own.generation, outlet);
                    return None;
                }
                // Made for a key of another generation.
                Err(TunnResult::Err(WireGuardError::InvalidMac)) => {}
                _ => return None,
            }
        }
        None
    }

    /// Time passes: handshakes that are due. To be called some ten times a second.
    pub(crate) fn tick(&mut self, outlet: &mut impl Outlet) {
        for own in &self.own {
            own.limiter.reset_count();
        }
        for known in self.peers.values_mut() {
            let mut served = false;
            for tunnel in known.tunnels.iter_mut().rev() {
                let to = endpoint(known.address, self.port, tunnel.generation);
                if let TunnResult::WriteToNetwork(datagram) = tunnel.tunn.update_timers(&mut self.scratch) {
                    pass(datagram, to, tunnel.generation, outlet);
                }
                tunnel.usable = tunnel.tunn.time_since_last_handshake().is_some();
                tunnel.waited_ticks = tunnel.waited_ticks.saturating_add(1);
                if served && !tunnel.usable && tunnel.waited_ticks >= GREET_AGAIN_TICKS {
                    tunnel.waited_ticks = 0;
                    self.greet.push_back(tunnel.index);
                }
                served |= tunnel.usable;
            }
        }
        for _ in 0..GREETINGS_PER_TICK_MAX {
            let Some(index) = self.greet.pop_front() else { break };
            self.greet(index, outlet);
        }
    }

    fn greet(&mut self, index: u32, outlet: &mut impl Outlet) {
        let Some(inner) = self.by_index.get(&index) else { return };
        let Some(known) = self.peers.get_mut(inner) else { return };
        let address = known.address;
        let Some(tunnel) = known.tunnels.iter_mut().find(|tunnel| tunnel.index == index) else { return };
        tunnel.waited_ticks = 0;
        if tunnel.usable {
            return;
        }
        if let TunnResult::WriteToNetwork(datagram) =
            tunnel.tunn.format_handshake_initiation(&mut self.scratch, false)
        {
            pass(datagram, endpoint(address, self.port, tunnel.generation), tunnel.generation, outlet);
        }
    }

    /// How all peers are.
    pub(crate) fn status(&self) -> Status {
        let mut peers: Vec<PeerStatus> = self.peers.values().map(peer_status).collect();
        peers.sort_by(|a, b| a.name.cmp(&b.name));
        let drops = &self.drops;
        let counted = [
            ("no peer at the address", drops.no_peer),
            ("no key of the peer", drops.no_key),
            ("from nobody known", drops.unknown),
            ("not deciphered", drops.refused),
            ("address is not the peer's", drops.foreign),
        ];
        Status {
            generations: self.own.iter().map(|own| own.generation).collect(),
            peers,
            drops: BTreeMap::from(counted.map(|(reason, count)| (reason.to_owned(), count))),
            ..Status::default()
        }
    }
}

/// A key, with what was counted of the handshakes for it.
fn own(generation: u64, private: [u8; KEY_BYTES], before: &[Own]) -> Own {
    let private = x25519::StaticSecret::from(private);
    let public = x25519::PublicKey::from(&private);
    let limiter = before.iter().find(|own| own.generation == generation && own.public == public).map_or_else(
        || Arc::new(RateLimiter::new(&public, HANDSHAKES_PER_SECOND_MAX)),
        |own| own.limiter.clone(),
    );
    Own { generation, private, public, limiter }
}

fn peer_status(known: &Known) -> PeerStatus {
    let serving = known.tunnels.iter().find(|tunnel| tunnel.usable);
    let (mut sent_bytes, mut received_bytes) = (0, 0);
    for tunnel in &known.tunnels {
        let (_, sent, received, ..) = tunnel.tunn.stats();
        sent_bytes += sent as u64;
        received_bytes += received as u64;
    }
    PeerStatus {
        name: known.name.clone(),
        address: known.address,
        generation: serving.map(|tunnel| tunnel.generation),
        handshake_age_seconds: serving
            .and_then(|tunnel| Some(tunnel.tunn.time_since_last_handshake()?.as_secs())),
        sent_bytes,
        received_bytes,
    }
}

fn endpoint(address: IpAddr, port: u16, generation: u64) -> SocketAddr {
    SocketAddr::new(address, port_of(port, generation))
}

fn pass(datagram: &[u8], to: SocketAddr, generation: u64, outlet: &mut impl Outlet) {
    let room = outlet.room();
    if let Some(room) = room.get_mut(..datagram.len()) {
        room.copy_from_slice(datagram);
        outlet.send(datagram.len(), to, generation);
    }
}

fn destination(packet: &[u8]) -> Option<Ipv4Addr> {
    let header = packet.get(..IPV4_HEADER_BYTES)?;
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(&header[16..20]).ok()?))
}

#[cfg(test)]
mod tests;
