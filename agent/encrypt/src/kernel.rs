//! The kernel's own WireGuard: a device for each of the two generations in use, the peers' keys on them, and which of the two
//! leads to a peer. The kernel moves the packets, whether anybody tends it or not.
//!
//! A device has one key, hence two: even generations have one, odd ones the other, each with its own UDP port, as in user
//! space. **A peer's address inside has one route, into the device of the newest generation that has a session**; without
//! the devices it has none.

mod netlink;

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute, WireguardPeer,
    WireguardPeerAttribute, WireguardPeerFlags,
};
use thiserror::Error;

use crate::engine::port_of;
use crate::wanted::{KEY_BYTES, PEERS_MAX, Peer, PeerStatus, Status, Wanted};
use netlink::{Generic, Routes};

/// A session is used for so long after its handshake (`REJECT_AFTER_TIME` of WireGuard's paper).
const SESSION_LIFE: Duration = Duration::from_secs(180);
/// How often peers are sent something where nothing else is: so there is always a session to choose by.
const KEEPALIVE_SECONDS: u16 = 25;
/// Peers told to the kernel at once: a netlink attribute has 64 KiB.
const PEERS_PER_MESSAGE_MAX: usize = 256;

/// Why the kernel's devices are not as they should be.
#[derive(Debug, Error)]
pub enum KernelError {
    /// The kernel refused.
    #[error("cannot {action} {subject}")]
    Refused {
        /// What was tried.
        action: &'static str,
        /// On what.
        subject: String,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// What the kernel said is no answer to what was asked.
    #[error("the kernel's answer about {0} is not understood")]
    Answer(String),
}

/// What a device knows of a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Held {
    endpoint: Option<SocketAddr>,
    inner: Option<Ipv4Addr>,
    handshake: Option<SystemTime>,
    sent_bytes: u64,
    received_bytes: u64,
}

type Key = [u8; KEY_BYTES];

/// The two devices of the network namespace that this was made in.
#[derive(Debug)]
pub struct Kernel {
    generic: Generic,
    routes: Routes,
    devices: [String; 2],
    port: u16,
    wanted: Wanted,
    /// Generations that the devices have the keys of.
    generations: [Option<u64>; 2],
}

/// Whether this kernel has WireGuard, or a module that it could load.
#[must_use]
pub fn is_there() -> bool {
    Generic::open().is_ok()
}

impl Kernel {
    /// Makes the devices, of even generations and of odd ones, that are not there; keys and peers of those that are stay.
    /// `port`: of even generations.
    ///
    /// # Errors
    /// The kernel has no WireGuard, or refuses.
    pub fn start(devices: [String; 2], port: u16) -> Result<Self, KernelError> {
        let generic = Generic::open()?;
        let routes = Routes::open()?;
        for (device, parity) in devices.iter().zip(0..) {
            if routes.index_of(device)?.is_none() {
                routes.make(device)?;
            }
            generic.set(device, vec![WireguardAttribute::ListenPort(port_of(port, parity))])?;
        }
        let wanted = Wanted { inner: Ipv4Addr::UNSPECIFIED, own: None, peers: Vec::new() };
        Ok(Self { generic, routes, devices, port, wanted, generations: [None; 2] })
    }

    /// Takes in what is wanted. Sessions of keys that are the same go on.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set(&mut self, wanted: Wanted) -> Result<(), KernelError> {
        for parity in 0..2 {
            let own = wanted.own.as_ref().map(|own| {
                own.iter().filter(|key| of(key.generation, parity)).max_by_key(|key| key.generation)
            });
            let mut attributes = Vec::new();
            match own {
                Some(Some(key)) => {
                    attributes.push(WireguardAttribute::PrivateKey(key.private.0));
                    self.generations[parity] = Some(key.generation);
                }
                Some(None) => {
                    // All zeroes take a key away.
                    attributes.push(WireguardAttribute::PrivateKey([0; KEY_BYTES]));
                    self.generations[parity] = None;
                }
                // Not known at the moment: what the device has goes on.
                None => {}
            }
            let known = own.is_some();
            if !known {
                // Nobody says which that is: the one that peers have, for those of one turn go together.
                let all = wanted.peers.iter().flat_map(|peer| &peer.keys).map(|key| key.generation);
                self.generations[parity] = all.filter(|generation| of(*generation, parity)).max();
            }
            let generation = self.generations[parity];
            let peers = wanted.peers.iter().filter(|peer| peer.inner != wanted.inner).take(PEERS_MAX);
            let peers: HashMap<Key, &Peer> = peers
                .filter_map(|peer| {
                    let mut keys = peer.keys.iter().filter(|key| of(key.generation, parity));
                    let key = keys.find(|key| !known || generation == Some(key.generation))?;
                    Some((key.key, peer))
                })
                .collect();
            self.device(parity, attributes, &peers)?;
        }
        self.wanted = wanted;
        Ok(())
    }

    /// Brings a device to its key and peers.
    fn device(
        &self,
        parity: usize,
        mut attributes: Vec<WireguardAttribute>,
        peers: &HashMap<Key, &Peer>,
    ) -> Result<(), KernelError> {
        let device = &self.devices[parity];
        let held = self.held(parity)?;
        let port = port_of(self.port, parity as u64);
        let gone = held.keys().filter(|key| !peers.contains_key(*key)).map(|key| {
            WireguardPeer(vec![
                WireguardPeerAttribute::PublicKey(*key),
                WireguardPeerAttribute::Flags(WireguardPeerFlags::RemoveMe),
            ])
        });
        let changed = peers.iter().filter_map(|(key, peer)| {
            let endpoint = SocketAddr::new(peer.address, port);
            let same =
                held.get(key).is_some_and(|it| it.endpoint == Some(endpoint) && it.inner == Some(peer.inner));
            (!same).then(|| told(*key, peer.inner, endpoint))
        });
        let all: Vec<WireguardPeer> = gone.chain(changed).collect();
        // The key with the first of them: a peer that is greeted is greeted with it.
        for some in all.chunks(PEERS_PER_MESSAGE_MAX) {
            attributes.push(WireguardAttribute::Peers(some.to_vec()));
            self.generic.set(device, std::mem::take(&mut attributes))?;
        }
        if attributes.is_empty() { Ok(()) } else { self.generic.set(device, attributes) }
    }

    fn held(&self, parity: usize) -> Result<HashMap<Key, Held>, KernelError> {
        let device = &self.devices[parity];
        let mut held: HashMap<Key, Held> = HashMap::new();
        for peer in self.generic.peers(device)? {
            let key = peer.iter().find_map(|it| match it {
                WireguardPeerAttribute::PublicKey(key) => Some(*key),
                _ => None,
            });
            let key = key.ok_or_else(|| KernelError::Answer(device.clone()))?;
            let entry = held.entry(key).or_default();
            peer.iter().for_each(|attribute| note(entry, attribute));
        }
        Ok(held)
    }

    /// Leads to each peer by the newest generation that has a session, and to nobody else. To be called about once a second:
    /// sessions begin by themselves.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn tend(&self) -> Result<(), KernelError> {
        let held = [self.held(0)?, self.held(1)?];
        let mut indices = [0; 2];
        for (index, device) in indices.iter_mut().zip(&self.devices) {
            *index = self.routes.index_of(device)?.ok_or_else(|| KernelError::Answer(device.clone()))?;
        }
        let mut there: BTreeMap<Ipv4Addr, u32> = self.routes.own()?;
        let now = SystemTime::now();
        for peer in &self.wanted.peers {
            let Some((parity, _)) = serving(peer, &held, now) else { continue };
            if there.remove(&peer.inner) != Some(indices[parity]) {
                self.routes.lead(peer.inner, indices[parity], self.wanted.inner)?;
            }
        }
        for (inner, index) in there {
            self.routes.remove(inner, index)?;
        }
        Ok(())
    }

    /// How it is.
    ///
    /// # Errors
    /// The kernel refuses to tell.
    pub fn status(&self) -> Result<Status, KernelError> {
        let held = [self.held(0)?, self.held(1)?];
        let now = SystemTime::now();
        let mut peers: Vec<PeerStatus> =
            self.wanted.peers.iter().map(|peer| status(peer, &held, now)).collect();
        peers.sort_by(|a, b| a.name.cmp(&b.name));
        let mut generations: Vec<u64> = self.generations.iter().flatten().copied().collect();
        generations.sort_by_key(|generation| std::cmp::Reverse(*generation));
        Ok(Status { port: self.port, generations, peers, ..Status::default() })
    }
}

fn of(generation: u64, parity: usize) -> bool {
    generation % 2 == parity as u64
}

fn told(key: Key, inner: Ipv4Addr, endpoint: SocketAddr) -> WireguardPeer {
    WireguardPeer(vec![
        WireguardPeerAttribute::PublicKey(key),
        WireguardPeerAttribute::Flags(WireguardPeerFlags::ReplaceAllowedIps),
        WireguardPeerAttribute::Endpoint(endpoint),
        WireguardPeerAttribute::PersistentKeepalive(KEEPALIVE_SECONDS),
        WireguardPeerAttribute::AllowedIps(vec![WireguardAllowedIp(vec![
            WireguardAllowedIpAttr::Family(WireguardAddressFamily::Ipv4),
            WireguardAllowedIpAttr::IpAddr(inner.into()),
            WireguardAllowedIpAttr::Cidr(32),
        ])]),
    ])
}

fn note(held: &mut Held, attribute: &WireguardPeerAttribute) {
    match attribute {
        WireguardPeerAttribute::Endpoint(endpoint) => held.endpoint = Some(*endpoint),
        WireguardPeerAttribute::RxBytes(bytes) => held.received_bytes = *bytes,
        WireguardPeerAttribute::TxBytes(bytes) => held.sent_bytes = *bytes,
        // Zero: there was none.
        WireguardPeerAttribute::LastHandshake(at) if at.seconds > 0 => {
            let since = Duration::new(at.seconds.unsigned_abs(), at.nano_seconds.unsigned_abs() as u32);
            held.handshake = SystemTime::UNIX_EPOCH.checked_add(since);
        }
        WireguardPeerAttribute::AllowedIps(ranges) => {
            held.inner = ranges.iter().flat_map(|range| range.iter()).find_map(|it| match it {
                WireguardAllowedIpAttr::IpAddr(std::net::IpAddr::V4(inner)) => Some(*inner),
                _ => None,
            });
        }
        _ => {}
    }
}

/// The device that leads to a peer, and the age of its session; the newest key's, where there is no session; none where there is
/// no key.
fn serving(
    peer: &Peer,
    held: &[HashMap<Key, Held>; 2],
    now: SystemTime,
) -> Option<(usize, Option<(u64, Duration)>)> {
    let mut keys: Vec<_> = peer.keys.iter().collect();
    keys.sort_by_key(|key| std::cmp::Reverse(key.generation));
    let on_device = |generation: u64, key: &Key| {
        let parity = usize::from(generation % 2 == 1);
        held[parity].get(key).map(|held| (parity, held))
    };
    let mut first = None;
    for key in keys {
        let Some((parity, held)) = on_device(key.generation, &key.key) else { continue };
        first = first.or(Some((parity, None)));
        // A handshake of a time to come was before the clock was put back.
        let age = held.handshake.map(|at| now.duration_since(at).unwrap_or_default());
        if let Some(age) = age.filter(|age| *age < SESSION_LIFE) {
            return Some((parity, Some((key.generation, age))));
        }
    }
    first
}

fn status(peer: &Peer, held: &[HashMap<Key, Held>; 2], now: SystemTime) -> PeerStatus {
    let session = serving(peer, held, now).and_then(|(_, session)| session);
    let own = peer.keys.iter().filter_map(|key| held.iter().find_map(|held| held.get(&key.key)));
    let (sent_bytes, received_bytes) =
        own.fold((0, 0), |(sent, received), held| (sent + held.sent_bytes, received + held.received_bytes));
    PeerStatus {
        name: peer.name.clone(),
        address: peer.address,
        generation: session.map(|(generation, _)| generation),
        handshake_age_seconds: session.map(|(_, age)| age.as_secs()),
        sent_bytes,
        received_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wanted::PublicKey;

    #[test]
    fn the_newest_generation_that_has_a_session_serves() {
        let key = |generation: u64| PublicKey { generation, key: [generation as u8; KEY_BYTES] };
        let peer = Peer {
            name: "node-2".into(),
            inner: Ipv4Addr::new(10, 244, 2, 0),
            address: [192, 0, 2, 2].into(),
            keys: vec![key(3), key(4)],
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let ago =
            |seconds: u64| Held { handshake: Some(now - Duration::from_secs(seconds)), ..Held::default() };
        let by = |even: Option<Held>, odd: Option<Held>| {
            let of = |generation: u8, held: Option<Held>| -> HashMap<Key, Held> {
                held.into_iter().map(|held| ([generation; KEY_BYTES], held)).collect()
            };
            serving(&peer, &[of(4, even), of(3, odd)], now)
        };
        let seconds = Duration::from_secs;
        assert_eq!(by(None, None), None, "no key");
        assert_eq!(by(Some(Held::default()), Some(Held::default())), Some((0, None)), "no session yet");
        assert_eq!(by(Some(Held::default()), Some(ago(7))), Some((1, Some((3, seconds(7))))));
        assert_eq!(by(Some(ago(1)), Some(ago(7))), Some((0, Some((4, seconds(1))))));
        assert_eq!(by(Some(ago(181)), Some(ago(7))), Some((1, Some((3, seconds(7))))), "one that is over");
        let later = Held { handshake: Some(now + seconds(9)), ..Held::default() };
        assert_eq!(by(Some(later), None), Some((0, Some((4, seconds(0))))), "the clock was put back");
    }
}
