//! Two engines with a wire of memory between them.

use super::*;
use crate::wanted::{OwnKey, PublicKey, SecretKey};

const PORT: u16 = 51_820;

/// What an engine sent and delivered.
#[derive(Default)]
struct Desk {
    room: Vec<u8>,
    sent: Vec<(Vec<u8>, SocketAddr)>,
    delivered: Vec<Vec<u8>>,
}

impl Outlet for Desk {
    fn room(&mut self) -> &mut [u8] {
        self.room.resize(2_048, 0);
        &mut self.room
    }
    fn send(&mut self, bytes: usize, to: SocketAddr, _: u64) {
        self.sent.push((self.room[..bytes].to_vec(), to));
    }
    fn deliver(&mut self, packet: &[u8]) {
        self.delivered.push(packet.to_vec());
    }
}

fn secret(node: u8, generation: u64) -> [u8; 32] {
    [node * 16 + generation as u8; 32]
}

fn inner(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, node, 0)
}

fn public(node: u8, generation: u64) -> [u8; 32] {
    *x25519::PublicKey::from(&x25519::StaticSecret::from(secret(node, generation))).as_bytes()
}

fn wanted(node: u8, own: &[u64], peer: u8, theirs: &[u64]) -> Wanted {
    let own = own
        .iter()
        .map(|generation| OwnKey { generation: *generation, private: SecretKey(secret(node, *generation)) })
        .collect();
    let keys = theirs
        .iter()
        .map(|generation| PublicKey { generation: *generation, key: public(peer, *generation) })
        .collect();
    let peer =
        Peer { name: format!("node-{peer}"), inner: inner(peer), address: [172, 31, 0, peer].into(), keys };
    Wanted { inner: inner(node), own: Some(own), peers: vec![peer] }
}

/// An IPv4 packet with some payload.
fn packet(from: Ipv4Addr, to: Ipv4Addr, mark: u8) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend([mark; 8]);
    packet
}

struct Pair {
    engines: [Engine; 2],
    desks: [Desk; 2],
}

impl Pair {
    fn new(first: &Wanted, second: &Wanted) -> Self {
        let engines = [first, second].map(|wanted| {
            let mut engine = Engine::new(PORT, 2_048, 0x00ab_cdef);
            engine.set(wanted);
            engine
        });
        Self { engines, desks: [Desk::default(), Desk::default()] }
    }

    /// Carries datagrams to and fro until nobody has anything to say.
    fn carry(&mut self) {
        loop {
            let mut idle = true;
            for side in 0..2 {
                for (datagram, _) in std::mem::take(&mut self.desks[side].sent) {
                    idle = false;
                    let from = SocketAddr::from(([172, 31, 0, 1 + side as u8], PORT));
                    self.engines[1 - side].incoming(&datagram, from, &mut self.desks[1 - side]);
                }
            }
            if idle {
                return;
            }
        }
    }

    fn tick(&mut self) {
        for side in 0..2 {
            self.engines[side].tick(&mut self.desks[side]);
        }
        self.carry();
    }

    /// Sends one packet from a side; whether it arrived.
    fn arrives(&mut self, side: usize, mark: u8) -> bool {
        let (from, to) = (inner(1 + side as u8), inner(2 - side as u8));
        let sent = packet(from, to, mark);
        self.engines[side].outgoing(&sent, &mut self.desks[side]);
        self.carry();
        std::mem::take(&mut self.desks[1 - side].delivered).contains(&sent)
    }

    fn generation(&self, side: usize) -> Option<u64> {
        self.engines[side].status().peers[0].generation
    }
}

#[test]
fn a_first_packet_waits_for_the_handshake_and_arrives() {
    let mut pair = Pair::new(&wanted(1, &[1], 2, &[1]), &wanted(2, &[1], 1, &[1]));
    assert!(pair.arrives(0, 7));
    assert!(pair.arrives(1, 8));
    assert_eq!(pair.generation(0), Some(1));
    assert!(pair.engines[0].status().peers[0].handshake_age_seconds.is_some());
}

#[test]
fn nothing_of_a_packet_is_on_the_wire() {
    let mut pair = Pair::new(&wanted(1, &[1], 2, &[1]), &wanted(2, &[1], 1, &[1]));
    assert!(pair.arrives(0, 7));
    let secret = packet(inner(1), inner(2), 0x5a);
    pair.engines[0].outgoing(&secret, &mut pair.desks[0]);
    let (datagram, to) = pair.desks[0].sent.pop().unwrap();
    assert_eq!(to, SocketAddr::from(([172, 31, 0, 2], PORT + 1)), "odd generations have the other port");
    assert!(!datagram.windows(8).any(|window| window == [0x5a; 8]));
}

#[test]
fn a_rotation_loses_nothing_in_whatever_order_keys_arrive() {
    let mut pair = Pair::new(&wanted(1, &[1], 2, &[1]), &wanted(2, &[1], 1, &[1]));
    assert!(pair.arrives(0, 1));
    let both = |pair: &mut Pair| assert!(pair.arrives(0, 2) && pair.arrives(1, 3));
    // One has its new key, then the other's, then the second all of it.
    pair.engines[0].set(&wanted(1, &[1, 2], 2, &[1]));
    both(&mut pair);
    pair.engines[0].set(&wanted(1, &[1, 2], 2, &[1, 2]));
    both(&mut pair);
    pair.tick();
    both(&mut pair);
    assert_eq!((pair.generation(0), pair.generation(1)), (Some(1), Some(1)), "the second cannot yet");
    pair.engines[1].set(&wanted(2, &[1, 2], 1, &[1, 2]));
    both(&mut pair);
    pair.tick();
    both(&mut pair);
    assert_eq!((pair.generation(0), pair.generation(1)), (Some(2), Some(2)));
    // The third generation takes the first one's place.
    for side in 0..2 {
        let node = 1 + side as u8;
        pair.engines[side].set(&wanted(node, &[2, 3], 3 - node, &[2, 3]));
        both(&mut pair);
    }
    pair.tick();
    both(&mut pair);
    assert_eq!((pair.generation(0), pair.generation(1)), (Some(3), Some(3)));
    let drops = pair.engines.each_ref().map(|engine| (engine.drops.no_key, engine.drops.refused));
    assert_eq!(drops, [(0, 0), (0, 0)]);
}

#[test]
fn a_peer_that_has_not_heard_of_the_newest_key_is_reached_by_the_one_before() {
    let mut pair = Pair::new(&wanted(1, &[1, 2], 2, &[1, 2]), &wanted(2, &[1], 1, &[1]));
    // The first of all waits for the newest.
    let _waits = pair.arrives(0, 1);
    assert!(pair.arrives(0, 2) && pair.arrives(1, 3));
    assert_eq!((pair.generation(0), pair.generation(1)), (Some(1), Some(1)));
}

#[test]
fn a_generation_that_is_made_anew_is_another() {
    let mut pair = Pair::new(&wanted(1, &[1], 2, &[1]), &wanted(2, &[1], 1, &[1]));
    assert!(pair.arrives(0, 1));
    let mut other = wanted(1, &[1], 2, &[1]);
    other.own = Some(vec![OwnKey { generation: 1, private: SecretKey([99; 32]) }]);
    pair.engines[0].set(&other);
    assert!(!pair.arrives(0, 2), "the second knows the first one's old key alone");
}

#[test]
fn a_peer_without_a_key_gets_nothing() {
    let mut pair = Pair::new(&wanted(1, &[2], 2, &[1]), &wanted(2, &[1], 1, &[2]));
    assert!(!pair.arrives(0, 1));
    pair.tick();
    assert!(pair.desks.iter().all(|desk| desk.sent.is_empty()));
    assert_eq!(pair.engines[0].drops.no_key, 1);
    pair.engines[0].outgoing(&packet(inner(1), inner(9), 1), &mut pair.desks[0]);
    assert_eq!(pair.engines[0].drops.no_peer, 1);
    assert!(pair.desks[0].sent.is_empty());
}

#[test]
fn a_wrong_key_gets_nothing_through() {
    // The second one's private key is not the one the first was told of.
    let mut other = wanted(2, &[1], 1, &[1]);
    other.own = Some(vec![OwnKey { generation: 1, private: SecretKey([99; 32]) }]);
    let mut pair = Pair::new(&wanted(1, &[1], 2, &[1]), &other);
    assert!(!pair.arrives(0, 1) && !pair.arrives(1, 2));
    pair.tick();
    assert!(pair.engines[0].drops.unknown > 0, "{:?}", pair.engines[0].drops);
    assert_eq!(pair.generation(0), None);
}

#[test]
fn a_peer_sends_with_its_own_address_only() {
    let mut pair = Pair::new(&wanted(1, &[1], 2, &[1]), &wanted(2, &[1], 1, &[1]));
    assert!(pair.arrives(0, 1));
    pair.engines[0].outgoing(&packet(inner(3), inner(2), 1), &mut pair.desks[0]);
    pair.carry();
    assert!(pair.desks[1].delivered.is_empty());
    assert_eq!(pair.engines[1].drops.foreign, 1);
}

#[test]
fn keys_that_are_not_known_at_the_moment_go_on() {
    let mut pair = Pair::new(&wanted(1, &[1], 2, &[1]), &wanted(2, &[1], 1, &[1]));
    assert!(pair.arrives(0, 1));
    pair.engines[0].set(&Wanted { own: None, ..wanted(1, &[], 2, &[1]) });
    assert!(pair.arrives(0, 2) && pair.arrives(1, 3));
    pair.engines[0].set(&wanted(1, &[], 2, &[1]));
    assert!(!pair.arrives(0, 4), "none at all is none");
}

#[test]
fn one_that_begins_anew_greets_those_that_still_think_they_know_it() {
    let mut pair = Pair::new(&wanted(1, &[1], 2, &[1]), &wanted(2, &[1], 1, &[1]));
    assert!(pair.arrives(0, 1));
    pair.engines[0] = Engine::new(PORT, 2_048, 0x0000_1111);
    pair.engines[0].set(&wanted(1, &[1], 2, &[1]));
    assert!(!pair.arrives(1, 2), "a session that is over");
    pair.tick();
    assert!(pair.arrives(1, 3));
}

#[test]
fn one_whose_clock_was_put_back_is_greeted_instead() {
    let mut pair = Pair::new(&wanted(1, &[1], 2, &[1]), &wanted(2, &[1], 1, &[1]));
    let greet = |pair: &mut Pair| {
        pair.engines[0].tick(&mut pair.desks[0]);
        std::mem::take(&mut pair.desks[0].sent)
    };
    let earlier = greet(&mut pair);
    // The same node's next process, which greets later.
    pair.engines[0] = Engine::new(PORT, 2_048, 0x0000_1111);
    pair.engines[0].set(&wanted(1, &[1], 2, &[1]));
    pair.desks[0].sent = greet(&mut pair);
    pair.carry();
    assert!(pair.arrives(0, 1) && pair.arrives(1, 2));
    // And one that greets with the earlier time.
    pair.engines[0] = Engine::new(PORT, 2_048, 0x0000_2222);
    pair.engines[0].set(&wanted(1, &[1], 2, &[1]));
    let from = SocketAddr::from(([172, 31, 0, 1], PORT));
    for _ in 0..=GREET_AGAIN_TICKS {
        let (engines, desks) = (&mut pair.engines, &mut pair.desks);
        engines[1].tick(&mut desks[1]);
    }
    pair.desks[1].sent.clear();
    for round in 0..3 {
        pair.engines[1].incoming(&earlier[0].0, from, &mut pair.desks[1]);
        assert_eq!(pair.desks[1].sent.len(), 1, "one greeting in two seconds, at round {round}");
    }
    pair.carry();
    assert!(pair.arrives(0, 3) && pair.arrives(1, 4));
}
