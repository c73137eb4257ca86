//! What a sender tells, and that a receiver who heard any part of it ends with the sender's view.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;

use super::{Item, Part, REMOVALS_MAX, Sender, Start};
use crate::frame::Decoder;
use crate::message::{
    ClosedFrame, Peer, Position, Resource, StateFrame, Welcome, resource::Body, state_frame::Frame,
};
use crate::position::StoreIdentity;
use crate::receiver::Receiver;

const STORE: StoreIdentity = StoreIdentity { id: [1; 16], epoch: 1 };

fn item(name: &str, content: u64) -> Item {
    let body = Body::Peer(Peer { node: content.to_string(), ..Peer::default() });
    Item::new(Resource { name: name.into(), body: Some(body) }).unwrap()
}

/// As the agent reads it.
fn closed(frame: &StateFrame) -> ClosedFrame {
    ClosedFrame::decode(&frame.encode_to_vec()[..]).unwrap()
}

fn frames(encoded: &[Bytes]) -> Vec<StateFrame> {
    let mut decoder = Decoder::new();
    encoded.iter().for_each(|bytes| decoder.push(bytes));
    let mut frames = Vec::new();
    while let Some(frame) = decoder.take().unwrap() {
        frames.push(frame);
    }
    decoder.end().unwrap();
    frames
}

/// `begin`, `+name`, `-name`, `@revision`.
fn told(encoded: &[Bytes]) -> Vec<String> {
    let text = |frame: StateFrame| match frame.frame.unwrap() {
        Frame::Begin(_) => "begin".into(),
        Frame::Put(resource) => format!("+{}", resource.name),
        Frame::Remove(name) => format!("-{name}"),
        Frame::Commit(position) => format!("@{}", position.revision),
    };
    frames(encoded).into_iter().map(text).collect()
}

/// One node beside a shared part; names in capitals are shared.
struct Node {
    revision: u64,
    shared: Part,
    sender: Sender,
}

impl Node {
    fn new(revision: u64, view: Vec<Item>) -> Self {
        let (shared, own): (Vec<Item>, Vec<Item>) = view.into_iter().partition(is_shared);
        Self { revision, shared: Part::new(0, shared), sender: Sender::new(STORE, revision, own) }
    }

    fn replace(&mut self, revision: u64, view: Vec<Item>) -> Vec<Bytes> {
        self.revision = revision;
        let (shared, own): (Vec<Item>, Vec<Item>) = view.into_iter().partition(is_shared);
        let shared = self.shared.replace(revision, shared);
        let own = self.sender.own().replace(revision, own);
        self.sender.commit(revision, &shared, own)
    }

    fn change(&mut self, revision: u64, puts: Vec<Item>, removes: &[&str]) -> Vec<Bytes> {
        self.revision = revision;
        let (shared, own): (Vec<Item>, Vec<Item>) = puts.into_iter().partition(is_shared);
        let shared = self.shared.change(revision, shared, removes.iter().copied());
        let own = self.sender.own().change(revision, own, removes.iter().copied());
        self.sender.commit(revision, &shared, own)
    }

    fn start(&mut self, resume: Option<&Position>) -> Start {
        self.sender.start(resume, self.revision, &self.shared)
    }
}

fn is_shared(item: &Item) -> bool {
    item.name().starts_with(|c: char| c.is_ascii_uppercase())
}

#[test]
fn changes_tell_only_what_changed() {
    let mut node = Node::new(5, vec![item("a", 1), item("B", 1)]);
    let Start::Full(full) = node.start(None) else { panic!() };
    assert_eq!(told(&full), ["begin", "+B", "+a", "@5"]);
    let view = || vec![item("a", 1), item("B", 2), item("c", 1)];
    assert_eq!(told(&node.replace(6, view())), ["+c", "+B", "@6"]);
    assert!(node.replace(7, view()).is_empty(), "nothing changed");
    assert_eq!(told(&node.change(8, vec![item("a", 9)], &["c", "unknown"])), ["-c", "+a", "@8"]);
    assert_eq!(told(&node.change(9, vec![], &["B"])), ["-B", "@9"]);
    assert_eq!((node.sender.own().len(), node.shared.is_empty()), (1, true));
}

#[test]
fn a_resume_tells_what_was_missed() {
    for [a, b, c] in [["a", "b", "c"], ["A", "B", "C"], ["a", "B", "c"], ["A", "b", "C"]] {
        let mut node = Node::new(5, vec![item(a, 1), item(b, 1)]);
        let _ = node.replace(6, vec![item(a, 1), item(c, 1)]);
        let _ = node.replace(7, vec![item(a, 2), item(c, 1), item(b, 3)]);
        let _ = node.replace(8, vec![item(a, 2), item(b, 3)]);
        let mut resumed = |revision| match node.start(Some(&STORE.at(revision))) {
            Start::Resumed(frames) => {
                let mut told = told(&frames);
                assert_eq!(told.pop(), Some("@8".into()));
                told.into_iter().collect::<std::collections::BTreeSet<_>>()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(resumed(6), [format!("+{a}"), format!("+{b}"), format!("-{c}")].into());
        assert_eq!(resumed(7), [format!("-{c}")].into());
        assert_eq!(resumed(8), [].into());
        assert!(matches!(node.start(Some(&STORE.at(9))), Start::Behind { revision: 9 }));
    }
}

#[test]
fn what_a_sender_never_sent_it_does_not_resume() {
    let is_full = |position: Option<Position>| {
        let mut node = Node::new(5, vec![item("a", 1), item("B", 1)]);
        matches!(node.start(position.as_ref()), Start::Full(_))
    };
    assert!(is_full(None));
    assert!(is_full(Some(STORE.at(5))));
    assert!(is_full(Some(STORE.at(4))));
    assert!(is_full(Some(StoreIdentity { epoch: 2, ..STORE }.at(5))), "another epoch");
    assert!(is_full(Some(StoreIdentity { id: [2; 16], epoch: 1 }.at(5))), "another store");
    assert!(is_full(Some(Position { store_id: Bytes::new(), epoch: 1, revision: 5 })));
}

#[test]
fn the_memory_of_removals_is_bounded() {
    for letter in ["r", "R"] {
        let many: Vec<Item> = (0..=REMOVALS_MAX).map(|n| item(&format!("{letter}{n}"), 0)).collect();
        let mut node = Node::new(1, many.clone());
        let _ = node.change(2, vec![], &[many[0].name()]);
        assert!(matches!(node.start(None), Start::Full(_)));
        assert!(matches!(node.start(Some(&STORE.at(1))), Start::Resumed(_)));
        let _ = node.change(3, vec![], &many[1..].iter().map(Item::name).collect::<Vec<_>>());
        assert!(matches!(node.start(Some(&STORE.at(1))), Start::Full(_)), "the removal at 2 is forgotten");
        assert!(
            matches!(node.start(Some(&STORE.at(2))), Start::Resumed(_)),
            "who saw it needs no word of it"
        );
        assert!(matches!(node.start(Some(&STORE.at(3))), Start::Resumed(_)));
    }
}

#[test]
fn too_large_a_resource_is_an_error() {
    let name = "x".repeat(crate::message::MESSAGE_BYTES_MAX);
    assert!(Item::new(Resource { name, body: None }).is_err());
}

#[test]
fn a_quiet_node_resumes_from_its_full_list() {
    let mut node = Node::new(5, vec![item("a", 1)]);
    assert!(matches!(node.start(None), Start::Full(_)));
    let Start::Resumed(frames) = node.start(Some(&STORE.at(5))) else { panic!() };
    assert_eq!(told(&frames), ["@5"]);
}

/// A node that loses its connection at any frame, again and again, ends with the sender's view.
#[test]
fn a_receiver_converges_through_any_breaks() {
    for seed in 0..300u64 {
        let mut random = seed;
        let mut below = move |bound: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % bound
        };
        let mut wanted: BTreeMap<String, u64> = BTreeMap::new();
        let mut sender = Node::new(1, vec![]);
        let mut receiver = Receiver::new(None, ["left-from-before".to_owned()]);
        let mut held: BTreeMap<String, Resource> = BTreeMap::new();
        held.insert("left-from-before".into(), Resource::default());
        for revision in 2..30 {
            let live = below(3) > 0;
            // A session; it breaks after some frames.
            let mut stream = Vec::new();
            let start = sender.start(receiver.resume().as_ref());
            let resumed = matches!(start, Start::Resumed(_));
            match start {
                Start::Resumed(frames) | Start::Full(frames) => stream.extend(frames),
                Start::Behind { .. } => panic!("the sender is never behind here"),
            }
            let name = format!("{}{}", if below(2) == 0 { "n" } else { "N" }, below(4));
            if below(3) == 0 {
                wanted.remove(&name);
                stream.extend(sender.change(revision, vec![], &[name.as_str()]));
            } else {
                wanted.insert(name.clone(), revision);
                stream.extend(sender.change(revision, vec![item(&name, revision)], &[]));
            }
            let stream = frames(&stream);
            let heard = if live { stream.len() } else { below(stream.len() as u64 + 1) as usize };
            receiver
                .welcome(&Welcome {
                    position: Some(STORE.at(sender.revision)),
                    resumed,
                    ..Welcome::default()
                })
                .unwrap();
            for frame in stream.into_iter().take(heard) {
                if let Some(change) = receiver.frame(closed(&frame)).unwrap() {
                    change.removes.iter().for_each(|name| assert!(held.remove(name).is_some(), "{name}"));
                    held.extend(change.puts.iter().map(|r| (r.name().to_owned(), r.read())));
                }
            }
            if live {
                let names: Vec<_> = held.keys().collect();
                assert_eq!(names, wanted.keys().collect::<Vec<_>>(), "seed {seed} revision {revision}");
                for (name, content) in &wanted {
                    let Some(Body::Peer(peer)) = &held[name].body else { panic!() };
                    assert_eq!(peer.node, content.to_string());
                }
            }
        }
    }
}
