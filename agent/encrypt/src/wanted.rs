//! What a node is told about encryption, and what it tells back: keys by generation, peers, ages. Bytes, as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Length of a Curve25519 key, bytes.
pub const KEY_BYTES: usize = 32;
/// Generations of keys in use at once: the newest, and the one before while peers take the newest.
pub const GENERATIONS_MAX: usize = 2;
/// Most peers of a node.
pub const PEERS_MAX: usize = 8_192;

/// A private key. Its text form is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey(pub [u8; KEY_BYTES]);

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

/// A key of the base64 text that WireGuard's tools use; none when it is no such text.
#[must_use]
pub fn key_of(text: &str) -> Option<[u8; KEY_BYTES]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

impl Serialize for SecretKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for SecretKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        key_of(&text).map(Self).ok_or_else(|| serde::de::Error::custom("not a key"))
    }
}

/// A private key of this node, of a generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnKey {
    /// Generation: tunnels are between keys of one generation.
    pub generation: u64,
    /// The key.
    pub private: SecretKey,
}

/// A public key of a peer, of a generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKey {
    /// Generation.
    pub generation: u64,
    /// The key.
    pub key: [u8; KEY_BYTES],
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Name of its node.
    pub name: String,
    /// Its address inside the encryption: the only source that is taken from it.
    pub inner: Ipv4Addr,
    /// Its address on the underlay.
    pub address: IpAddr,
    /// Its keys.
    pub keys: Vec<PublicKey>,
}

/// All that a node is to encrypt with and for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// This node's address inside the encryption.
    pub inner: Ipv4Addr,
    /// This node's keys; none: those it has go on, for they are not known at the moment.
    pub own: Option<Vec<OwnKey>>,
    /// The other nodes.
    pub peers: Vec<Peer>,
}

/// How a peer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Name of its node.
    pub name: String,
    /// Its address on the underlay.
    pub address: IpAddr,
    /// Generation that packets to it are sent with; none: none can be sent.
    pub generation: Option<u64>,
    /// Seconds since the handshake of that generation; none: none yet.
    pub handshake_age_seconds: Option<u64>,
    /// Bytes sent to it, before encryption.
    pub sent_bytes: u64,
    /// Bytes received from it, after decryption.
    pub received_bytes: u64,
}

/// How the encryption is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the process's messages and of its build.
    pub version: String,
    /// Its process id; none of the kernel's.
    pub pid: u32,
    /// First of its two UDP ports.
    #[serde(default)]
    pub port: u16,
    /// Generations of this node's keys, newest first.
    pub generations: Vec<u64>,
    /// Peers by name.
    pub peers: Vec<PeerStatus>,
    /// Packets dropped, by reason.
    pub drops: BTreeMap<String, u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_key_is_told_but_never_shown() {
        let key = OwnKey { generation: 3, private: SecretKey([7; KEY_BYTES]) };
        let text = serde_json::to_string(&key).unwrap();
        assert_eq!(serde_json::from_str::<OwnKey>(&text).unwrap(), key);
        assert!(!format!("{key:?}").contains('7'), "{key:?}");
        assert!(!format!("{key:?}").contains(&STANDARD.encode([7; KEY_BYTES])));
    }
}
