//! Nothing counts before its commit, and nothing of another store counts at all.

use super::{Change, Encoded, ReceiveError, Receiver};
use bytes::Bytes;
use prost::Message as _;

use crate::message::{
    Begin, ClosedFrame, Position, Resource, StateFrame, Welcome, closed_frame, state_frame::Frame,
};
use crate::position::StoreIdentity;

const OURS: StoreIdentity = StoreIdentity { id: [1; 16], epoch: 3 };
const FOREIGN: StoreIdentity = StoreIdentity { id: [2; 16], epoch: 3 };

/// As the control plane writes it, and the agent reads it.
fn closed(frame: Frame) -> ClosedFrame {
    ClosedFrame::decode(&StateFrame { frame: Some(frame) }.encode_to_vec()[..]).unwrap()
}

fn begin() -> ClosedFrame {
    closed(Frame::Begin(Begin {}))
}

fn put(name: &str) -> ClosedFrame {
    closed(Frame::Put(Resource { name: name.into(), body: None }))
}

fn remove(name: &str) -> ClosedFrame {
    closed(Frame::Remove(name.into()))
}

fn commit(position: Position) -> ClosedFrame {
    closed(Frame::Commit(position))
}

fn welcome(position: Position, resumed: bool) -> Welcome {
    Welcome { position: Some(position), resumed, ..Welcome::default() }
}

/// All frames; the last one's answer.
fn feed(
    receiver: &mut Receiver,
    frames: impl IntoIterator<Item = ClosedFrame>,
) -> Result<Option<Change>, ReceiveError> {
    let mut last = None;
    for frame in frames {
        last = receiver.frame(frame)?;
    }
    Ok(last)
}

fn names(change: &Change) -> (Vec<&str>, Vec<&str>) {
    let puts = change.puts.iter().map(Encoded::name).collect();
    (puts, change.removes.iter().map(String::as_str).collect())
}

/// A receiver of our store that holds `a` and `b` at revision 10.
fn holding() -> Receiver {
    let mut receiver = Receiver::new(Some(OURS), []);
    receiver.welcome(&welcome(OURS.at(10), false)).unwrap();
    let change = feed(&mut receiver, [begin(), put("a"), put("b"), commit(OURS.at(10))]).unwrap().unwrap();
    assert_eq!(names(&change), (vec!["a", "b"], vec![]));
    receiver
}

#[test]
fn a_full_list_removes_what_it_does_not_name() {
    let mut receiver = Receiver::new(Some(OURS), ["old".to_owned(), "a".to_owned()]);
    receiver.welcome(&welcome(OURS.at(10), false)).unwrap();
    assert_eq!(receiver.resume(), None, "what is from disk is no base for changes");
    let change = feed(&mut receiver, [begin(), put("a"), put("b"), commit(OURS.at(10))]).unwrap().unwrap();
    assert!(change.full);
    assert_eq!(names(&change), (vec!["a", "b"], vec!["old"]));
    assert_eq!(receiver.resume(), Some(OURS.at(10)));
}

#[test]
fn changes_follow_and_count_at_their_commit() {
    let mut receiver = holding();
    assert_eq!(feed(&mut receiver, [put("c"), remove("a"), remove("unknown")]), Ok(None));
    assert_eq!(receiver.resume(), Some(OURS.at(10)));
    let change = receiver.frame(commit(OURS.at(12))).unwrap().unwrap();
    assert_eq!(names(&change), (vec!["c"], vec!["a"]));
    assert!(!change.full);
}

#[test]
fn a_broken_session_leaves_nothing_behind() {
    let mut receiver = holding();
    feed(&mut receiver, [begin(), put("x")]).unwrap();
    receiver.welcome(&welcome(OURS.at(11), true)).unwrap();
    let change = feed(&mut receiver, [put("c"), commit(OURS.at(11))]).unwrap().unwrap();
    assert_eq!(names(&change), (vec!["c"], vec![]), "the half list is forgotten, and removes nothing");
}

#[test]
fn a_foreign_store_changes_nothing() {
    let mut receiver = holding();
    let error = receiver.welcome(&welcome(FOREIGN.at(1), false)).unwrap_err();
    assert_eq!(error, ReceiveError::ForeignStore { pinned: OURS, found: FOREIGN });
    assert!(error.to_string().contains("nothing is changed"));
    // Even if it goes on talking.
    let error = feed(&mut receiver, [begin(), commit(FOREIGN.at(2))]);
    assert!(matches!(error, Err(ReceiveError::ForeignStore { .. })));
    assert_eq!(receiver.pinned(), Some(OURS));
    assert_eq!(receiver.resume(), Some(OURS.at(10)));
    // After a restart of the agent it is still foreign.
    let mut receiver = Receiver::new(Some(OURS), ["a".to_owned()]);
    assert!(matches!(
        receiver.welcome(&welcome(FOREIGN.at(1), false)),
        Err(ReceiveError::ForeignStore { .. })
    ));
}

#[test]
fn a_node_without_a_store_takes_the_first() {
    let mut receiver = Receiver::new(None, []);
    receiver.welcome(&welcome(FOREIGN.at(1), false)).unwrap();
    assert_eq!(receiver.pinned(), None, "not before its first complete view");
    feed(&mut receiver, [begin(), commit(FOREIGN.at(1))]).unwrap();
    assert_eq!(receiver.pinned(), Some(FOREIGN));
}

#[test]
fn a_restored_store_is_ours_and_the_one_before_is_not() {
    let mut receiver = holding();
    let restored = StoreIdentity { epoch: 4, ..OURS };
    receiver.welcome(&welcome(restored.at(2), false)).unwrap();
    let change = feed(&mut receiver, [begin(), put("a"), commit(restored.at(2))]).unwrap().unwrap();
    assert_eq!(names(&change), (vec!["a"], vec!["b"]), "a lower revision of a later epoch");
    assert_eq!(receiver.pinned(), Some(restored));
    let error = receiver.welcome(&welcome(OURS.at(20), false));
    assert!(matches!(error, Err(ReceiveError::OldEpoch { .. })));
}

#[test]
fn changes_of_another_epoch_need_a_full_list() {
    let mut receiver = holding();
    let restored = StoreIdentity { epoch: 4, ..OURS };
    let error = feed(&mut receiver, [put("a"), commit(restored.at(11))]);
    assert_eq!(error, Err(ReceiveError::NoBase));
}

#[test]
fn time_does_not_go_back() {
    let mut receiver = holding();
    let error = receiver.welcome(&welcome(OURS.at(9), false));
    assert_eq!(error, Err(ReceiveError::Backwards { held: 10, found: 9 }));
    assert!(matches!(receiver.frame(commit(OURS.at(9))), Err(ReceiveError::Backwards { .. })));
}

#[test]
fn changes_without_a_base_and_nonsense_are_errors() {
    let mut receiver = Receiver::new(Some(OURS), ["a".to_owned()]);
    assert_eq!(receiver.frame(put("x")), Err(ReceiveError::NoBase));
    assert_eq!(receiver.frame(commit(OURS.at(1))), Err(ReceiveError::NoBase));
    assert_eq!(receiver.welcome(&welcome(OURS.at(1), true)), Err(ReceiveError::NoBase));
    assert!(matches!(receiver.welcome(&Welcome::default()), Err(ReceiveError::Protocol { .. })));
    assert_eq!(receiver.frame(ClosedFrame { frame: None }), Ok(None), "later versions may say more");
}

#[test]
fn what_is_no_resource_is_found_before_it_counts() {
    let mut receiver = holding();
    let broken = |bytes: &'static [u8]| ClosedFrame {
        frame: Some(closed_frame::Frame::Put(Bytes::from_static(bytes))),
    };
    // A name that is cut off, and a Service within that is.
    for bytes in [&[0x0a, 9, b'a'][..], &[0x0a, 1, b'a', 0x12, 2, 0x0a, 7]] {
        assert!(matches!(receiver.frame(broken(bytes)), Err(ReceiveError::Malformed(_))));
    }
    assert_eq!(receiver.resume(), Some(OURS.at(10)));
}

#[test]
fn a_resource_holds_nothing_of_what_it_came_in() {
    let body = crate::message::resource::Body::Peer(crate::message::Peer {
        addresses: vec![Bytes::from_static(&[10, 0, 0, 1])],
        ..Default::default()
    });
    let resource = Resource { name: "peer/a".into(), body: Some(body) };
    let encoded = Encoded::from(resource.clone());
    let read = encoded.read();
    assert_eq!(read, resource);
    let Some(crate::message::resource::Body::Peer(peer)) = read.body else { panic!("no peer") };
    assert!(!encoded.bytes().as_ptr_range().contains(&peer.addresses[0].as_ptr()));
}
