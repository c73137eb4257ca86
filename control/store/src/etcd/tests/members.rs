//! An etcd of several members, of which one is away, hangs, or is cut off from the others.

use super::super::message::{WatchCreate, WatchRequest, WatchResponse};
use super::super::wire::{WATCH, Wire, WireError, dial};
use super::*;
use crate::testetcd::options_of;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_member_that_is_away_or_hangs_is_done_without() {
    let mut members = Server::start_members::<3>();
    let ports = members.each_ref().map(|member| member.port);
    let store = Etcd::open(&options_of(&ports, "a")).await.unwrap();
    let start = *store.revisions().end();
    let mut watch = store.watch(Bytes::new(), start).await.unwrap();
    let mut acknowledged = Vec::new();
    for (which, member) in members.iter_mut().enumerate() {
        for n in 0..10 {
            acknowledged.push(commit_at_last(&store, "k", &format!("{which}-{n}")).await);
        }
        // First the one that is spoken to.
        if which == 0 {
            member.stop();
        } else {
            member.kill();
        }
        acknowledged.push(commit_at_last(&store, "k", &format!("without {which}")).await);
        let last = *acknowledged.last().unwrap();
        until("the watch comes to it", async || store.link.hub.newest() >= last).await;
        if which == 0 {
            member.go_on();
        } else {
            member.run();
        }
        // It must be one of them again before another goes.
        member.open("b").await;
    }
    let (mut told, mut before) = (vec![start], None);
    while told.last() != acknowledged.last() {
        let batch = next_events(&mut watch).await;
        assert!(batch.revision > *told.last().unwrap(), "in order, and none twice");
        let [Event::Put { entry, previous }] = &batch.events[..] else { panic!("{batch:?}") };
        assert_eq!(*previous, before, "none missed");
        before = Some(entry.clone());
        told.push(batch.revision);
    }
    assert!(acknowledged.iter().all(|revision| told.contains(revision)), "none lost");
}

#[tokio::test]
async fn a_member_that_is_cut_off_from_the_others_ends_its_watches() {
    let mut members = Server::start_members::<2>();
    members[0].open("a").await;
    let endpoint = Endpoint { host: "127.0.0.1".into(), port: members[0].port };
    let wire = Wire::new(vec![endpoint], None);
    let create = WatchCreate { key: key("k"), ..WatchCreate::default() };
    let mut answers = wire.stream(WATCH, &WatchRequest { create: Some(create) }).await.unwrap();
    let first: WatchResponse = answers.message().await.unwrap();
    assert!(!first.canceled);
    members[1].kill();
    let end = tokio::time::timeout(WAIT, answers.message::<WatchResponse>()).await;
    let end = end.expect("it does not wait for what cannot come");
    assert!(
        matches!(&end, Err(WireError::Refused { message, .. }) if message.contains("no leader")),
        "{end:?}"
    );
}

/// As a machine that is off: nobody answers there, and nobody says so.
fn hole() -> (u16, tokio::net::TcpListener, std::net::TcpStream) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    // One connection waits to be taken; who comes behind it is not heard.
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let first = std::net::TcpStream::connect(address).unwrap();
    (address.port(), listener, first)
}

#[tokio::test]
async fn members_that_do_not_answer_are_passed_by() {
    let server = Server::start();
    let holes = [hole(), hole()];
    let silent = std::net::SocketAddr::from(([127, 0, 0, 1], holes[0].0));
    let heard = std::net::TcpStream::connect_timeout(&silent, Duration::from_millis(300));
    assert_eq!(heard.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    let store = Etcd::open(&options_of(&[holes[0].0, holes[1].0, server.port], "a")).await.unwrap();
    let first = commit(&store, put("k", "1")).await;
    let mut watch = store.watch(Bytes::new(), first).await.unwrap();
    let second = commit(&store, put("k", "2")).await;
    assert_eq!(next_events(&mut watch).await.revision, second);
}

#[tokio::test]
async fn a_watch_that_is_alive_and_tells_nothing_is_begun_at_another_member() {
    let server = Server::start();
    let [deaf, well] =
        [Proxy::start(server.port, Duration::ZERO).await, Proxy::start(server.port, Duration::ZERO).await];
    let store = Etcd::open(&options_of(&[deaf.port, well.port], "a")).await.unwrap();
    let first = commit(&store, put("k", "1")).await;
    let mut watch = store.watch(Bytes::new(), Revision(first.0 - 1)).await.unwrap();
    assert_eq!(next_events(&mut watch).await.revision, first);
    deaf.silence_watches(true);
    let second = commit(&store, put("k", "2")).await;
    let begun = Instant::now();
    while store.link.hub.newest() < second {
        assert!(store.trouble().is_none(), "who asks is answered");
        assert!(begun.elapsed() < 3 * WAIT, "the watch goes on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(next_events(&mut watch).await.revision, second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_cut_off_from_the_others_tells_the_past() {
    let mut members = Server::start_members::<2>();
    let store = Etcd::open(&options_of(&[members[0].port], "a")).await.unwrap();
    let first = commit(&store, put("k", "1")).await;
    let second = commit(&store, put("k", "2")).await;
    until("it is there", async || *store.revisions().end() >= second).await;
    members[1].kill();
    in_trouble(&store, "").await;
    assert_eq!(store.get(key("k"), Some(first)).await.unwrap().unwrap().value, "1");
    assert!(store.get(key("k"), None).await.is_err(), "what is newest it does not know");
}

#[tokio::test]
async fn a_name_whose_first_addresses_do_not_answer_is_connected_to() {
    let server = Server::start();
    let holes = [hole(), hole()];
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let addresses = |ports: &[u16]| {
        let ports = ports.to_vec();
        ports.into_iter().map(|port| std::net::SocketAddr::from(([127, 0, 0, 1], port)))
    };
    let ports = [holes[0].0, nobody, holes[1].0, server.port];
    // The kernel would try the first for two minutes.
    let dialled = tokio::time::timeout(WAIT, dial(addresses(&ports))).await.expect("in time").unwrap();
    assert_eq!(dialled.peer_addr().unwrap().port(), server.port);
    let refused = dial(addresses(&[nobody, nobody])).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(dial(addresses(&[])).await.is_err());
}

#[tokio::test]
async fn watches_that_end_as_soon_as_they_have_begun_are_not_begun_at_once() {
    let server = Server::start();
    let proxy = Proxy::start(server.port, Duration::ZERO).await;
    let store = Etcd::open(&options(proxy.port, "a")).await.unwrap();
    let first = commit(&store, put("k", "1")).await;
    until("the watch has begun", async || store.link.hub.newest() >= first).await;
    let before = proxy.watches();
    proxy.end_watches(true);
    tokio::time::sleep(Duration::from_secs(4)).await;
    // Waits of 0.1, 0.2, 0.4, 0.8, 1.6 s; a slow machine only makes fewer of them.
    let begun = proxy.watches() - before;
    assert!((1..=7).contains(&begun), "{begun}");
    proxy.end_watches(false);
    let second = commit(&store, put("k", "2")).await;
    until("the watch goes on", async || store.link.hub.newest() >= second).await;
}
