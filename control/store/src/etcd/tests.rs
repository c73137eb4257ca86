//! The etcd backend against a real etcd: the contract, and an etcd that is stopped, killed, slow, full, compacted, restored
//! from a backup or emptied underneath a running store.

mod group;
mod members;
mod migrate;
mod proxy;
mod restored;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::proxy::Proxy;
use super::address::{Address, Endpoint, Pem};
use super::{Etcd, OpenError, Options};
use crate::contract::{keeps_contract, writers_and_watchers_at_once};
use crate::store::{
    Batch, Check, CommitError, Event, ListRequest, ReadError, Revision, Store, Transaction, Watch, WatchEnd,
    Write,
};
use crate::testetcd::{Server, options};

/// How long what must come may take.
const WAIT: Duration = Duration::from_secs(30);

fn put(key: &str, value: &str) -> Transaction {
    let write = Write::Put(Bytes::from(key.to_owned()), Bytes::from(value.to_owned()));
    Transaction { checks: vec![], writes: vec![write] }
}

fn key(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn commit(store: &Etcd, transaction: Transaction) -> Revision {
    store.commit(transaction).await.expect("a plain write is carried out")
}

/// Waits until something holds.
async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < WAIT, "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Tries until it is written.
async fn commit_at_last(store: &Etcd, key: &str, value: &str) -> Revision {
    let begun = Instant::now();
    loop {
        match store.commit(put(key, value)).await {
            Ok(revision) => return revision,
            Err(CommitError::Unavailable(_) | CommitError::Uncertain(_)) => {
                assert!(begun.elapsed() < WAIT, "it takes writes again");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

async fn out_of_trouble(store: &Etcd) {
    until("the store takes writes again", async || store.trouble().is_none()).await;
}

async fn in_trouble(store: &Etcd, word: &str) {
    let tells = async || store.trouble().is_some_and(|why| why.contains(word));
    until("the store tells of its trouble", tells).await;
}

async fn next(watch: &mut Watch) -> Result<Batch, WatchEnd> {
    let batch = tokio::time::timeout(WAIT, watch.batches.recv()).await;
    batch.expect("a batch comes in time").expect("a watch says why it ends")
}

async fn next_events(watch: &mut Watch) -> Batch {
    loop {
        let batch = next(watch).await.expect("the watch goes on");
        if !batch.events.is_empty() {
            return batch;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract() {
    let server = Server::start();
    let count = std::cell::Cell::new(0);
    keeps_contract(async || {
        count.set(count.get() + 1);
        server.open(&format!("contract-{}", count.get())).await
    })
    .await;
}

#[tokio::test]
async fn a_second_opening_finds_the_same_history() {
    let server = Server::start();
    let store = server.open("a").await;
    let identity = store.identity();
    let first = commit(&store, put("k", "1")).await;
    let second = commit(&store, put("k", "2")).await;
    store.compact(first).await.unwrap();
    let mut watch = store.watch(Bytes::new(), second).await.unwrap();
    drop(store);
    loop {
        match next(&mut watch).await {
            Ok(batch) => assert!(batch.events.is_empty()),
            Err(end) => break assert_eq!(end, WatchEnd::Closed),
        }
    }
    let store = server.open("a").await;
    assert_eq!(store.identity(), identity);
    assert_eq!(*store.revisions().start(), first, "what was compacted is known");
    assert_eq!(store.get(key("k"), Some(first)).await.unwrap().unwrap().value, "1");
    let mut watch = store.watch(Bytes::new(), first).await.unwrap();
    let batch = next_events(&mut watch).await;
    assert_eq!(batch.revision, second, "history from before the opening is told");

    let other = server.open("b").await;
    assert_ne!(other.identity().id, identity.id);
    assert!(other.list(ListRequest::default()).await.unwrap().entries.is_empty(), "each sees its own");
}

#[tokio::test]
async fn what_others_write_raises_the_revision_and_the_watch_comes_after() {
    let server = Server::start();
    let store = server.open("a").await;
    let first = commit(&store, put("k", "1")).await;
    let mut watch = store.watch(Bytes::new(), first).await.unwrap();
    for round in 0..20 {
        server.ctl(&["put", "foreign", &round.to_string()]);
    }
    // A commit that changes nothing answers a revision that watches come to.
    let remove = Transaction { checks: vec![], writes: vec![Write::Delete(key("none"))] };
    let answered = commit(&store, remove).await;
    assert!(answered.0 >= first.0 + 20 * 64, "{answered}");
    let marked = server.ctl(&["get", "/weft/a/mark", "--write-out=fields"]);
    let marked = marked.lines().find_map(|line| line.strip_prefix("\"ModRevision\" : "));
    let marked = store.link.record().last(marked.unwrap().parse().unwrap());
    assert!(marked >= answered, "a commit of its own is there");
    let mut reached = first;
    while reached < answered {
        let batch = next(&mut watch).await.unwrap();
        assert!(batch.events.is_empty(), "nothing of this store's happened");
        reached = batch.revision;
    }
    // And so it does when nobody writes here at all.
    server.ctl(&["put", "foreign", "again"]);
    let newest = store.list(ListRequest::default()).await.unwrap().revision;
    assert!(newest > reached);
    while reached < newest {
        reached = next(&mut watch).await.unwrap().revision;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_is_killed_loses_nothing_and_watchers_go_on() {
    let mut server = Server::start();
    let store = server.open("a").await;
    let start = *store.revisions().end();
    let mut watch = store.watch(Bytes::new(), start).await.unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        for n in 0..50 {
            let value = format!("{round}-{n}");
            acknowledged.push((commit(&store, put("k", &value)).await, value));
        }
        server.kill();
        in_trouble(&store, "").await;
        let begun = Instant::now();
        let error = store.commit(put("k", "lost")).await.unwrap_err();
        assert!(matches!(error, CommitError::Unavailable(_)), "{error:?}");
        assert!(begun.elapsed() < Duration::from_secs(1), "who cannot be helped is told at once");
        let read = store.get(key("k"), None).await;
        assert!(matches!(read, Err(ReadError::Engine(_))), "{read:?}");
        server.run();
        out_of_trouble(&store).await;
    }
    acknowledged.push((commit(&store, put("k", "last")).await, "last".to_owned()));
    for (revision, value) in acknowledged {
        let batch = next_events(&mut watch).await;
        let Event::Put { entry, .. } = &batch.events[0] else { panic!("{batch:?}") };
        assert_eq!((batch.revision, &entry.value[..]), (revision, value.as_bytes()));
    }
}

/// Each commit is seen by everybody once, in order, with what was there before; who was answered is among them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_and_watchers_go_on_while_etcd_is_killed_again_and_again() {
    const KILLS: usize = 4;
    let mut server = Server::start();
    let stores = [server.open("a").await, server.open("a").await];
    let start = (*stores[0].revisions().end()).max(*stores[1].revisions().end());
    let running = AtomicBool::new(true);
    let acknowledged = Mutex::new(Vec::new());
    let writer = async |number: usize| {
        let (store, mut round) = (&stores[number % 2], 0);
        while running.load(Ordering::Relaxed) {
            round += 1;
            let transaction = put(&format!("k{}", round % 4), &format!("{number}-{round}"));
            match store.commit(transaction).await {
                Ok(revision) => acknowledged.lock().unwrap().push(revision),
                Err(CommitError::Unavailable(_) | CommitError::Uncertain(_)) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    let mut watches = Vec::new();
    for store in &stores {
        watches.push(store.watch(Bytes::new(), start).await.unwrap());
    }
    let killer = async {
        for kills in 1..=KILLS {
            let enough = async || acknowledged.lock().unwrap().len() >= kills * 40;
            until("writers go on", enough).await;
            server.kill();
            tokio::time::sleep(Duration::from_millis(300 * (kills as u64 % 2))).await;
            server.run();
        }
        until("writers go on", async || acknowledged.lock().unwrap().len() >= (KILLS + 1) * 40).await;
        running.store(false, Ordering::Relaxed);
    };
    tokio::join!(writer(0), writer(1), writer(2), killer);
    let last = commit(&stores[0], put("last", "")).await;
    acknowledged.lock().unwrap().push(last);
    let mut tales = Vec::new();
    for watch in &mut watches {
        let (mut tale, mut state) = (Vec::new(), BTreeMap::new());
        while tale.last() != Some(&last) {
            let batch = next_events(watch).await;
            assert!(tale.last().is_none_or(|before| batch.revision > *before), "in order, and none twice");
            let [Event::Put { entry, previous }] = &batch.events[..] else { panic!("{batch:?}") };
            assert_eq!(state.insert(entry.key.clone(), entry.clone()), *previous, "none missed");
            tale.push(batch.revision);
        }
        tales.push(tale);
    }
    assert_eq!(tales[0], tales[1]);
    assert!(acknowledged.lock().unwrap().iter().all(|revision| tales[0].contains(revision)), "none lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_a_stopped_etcd_did_not_answer_is_uncertain() {
    let server = Server::start();
    let store = server.open("a").await;
    let first = commit(&store, put("k", "1")).await;
    let mut watch = store.watch(Bytes::new(), first).await.unwrap();
    server.stop();
    let begun = Instant::now();
    let waiting = store.commit(put("k", "2"));
    let told = in_trouble(&store, "did not answer");
    let (answer, ()) = tokio::join!(waiting, told);
    assert!(matches!(answer, Err(CommitError::Uncertain(_))), "{answer:?}");
    assert!(begun.elapsed() < Duration::from_secs(15));
    let error = store.commit(put("k", "3")).await.unwrap_err();
    assert!(matches!(error, CommitError::Unavailable(_)), "{error:?}");
    server.go_on();
    out_of_trouble(&store).await;
    let last = commit(&store, put("k", "4")).await;
    // Whatever became of the second, the watch tells it as it is.
    let mut previous = "1".to_owned();
    loop {
        let batch = next_events(&mut watch).await;
        let Event::Put { entry, previous: Some(before) } = &batch.events[0] else { panic!("{batch:?}") };
        assert_eq!(before.value, previous);
        previous = String::from_utf8(entry.value.to_vec()).unwrap();
        assert_ne!(previous, "3", "what was refused is not there");
        if batch.revision == last {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_slow_way_that_breaks_nothing_is_missed() {
    let server = Server::start();
    let proxy = Proxy::start(server.port, Duration::from_millis(5)).await;
    let store = Etcd::open(&options(proxy.port, "slow")).await.unwrap();
    writers_and_watchers_at_once(&store).await;

    // Every connection breaks again and again: watches go on by themselves, and what was answered is there.
    let start = *store.revisions().end();
    let mut watch = store.watch(Bytes::new(), start).await.unwrap();
    let mut acknowledged = Vec::new();
    let begun = Instant::now();
    let mut breaks = 0;
    while breaks < 8 {
        assert!(begun.elapsed() < WAIT, "{} writes in time", acknowledged.len());
        if let Ok(revision) = store.commit(put("k", &acknowledged.len().to_string())).await {
            acknowledged.push(revision);
        }
        if acknowledged.len() > breaks * 20 {
            proxy.break_all();
            breaks += 1;
        }
    }
    // The last break may take an answer with it.
    while acknowledged.len() <= breaks * 20 {
        assert!(begun.elapsed() < 2 * WAIT, "writes go on");
        acknowledged.extend(store.commit(put("k", "last")).await);
    }
    let mut told = vec![start];
    while told.last() != acknowledged.last() {
        let batch = next_events(&mut watch).await;
        assert!(batch.revision > *told.last().unwrap(), "in order, and none twice");
        told.push(batch.revision);
    }
    assert!(acknowledged.iter().all(|revision| told.contains(revision)), "none missed");
}

/// Large entries, over a way of one megabyte in about a second: as many at once as there may be would come too late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_slow_way_large_entries_are_listed() {
    const ENTRIES: usize = 64;
    let server = Server::start();
    let direct = server.open("a").await;
    let value = "x".repeat(256 << 10);
    for n in 0..ENTRIES {
        commit(&direct, put(&format!("large/{n:02}"), &value)).await;
    }
    let proxy = Proxy::start(server.port, Duration::from_millis(75)).await;
    let store = Etcd::open(&options(proxy.port, "a")).await.unwrap();
    let page = store.list(ListRequest::default()).await.unwrap();
    let keys: Vec<String> =
        page.entries.iter().map(|entry| String::from_utf8(entry.key.to_vec()).unwrap()).collect();
    assert_eq!(keys, (0..ENTRIES).map(|n| format!("large/{n:02}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn nothing_is_compacted_that_the_watch_has_not_told_yet() {
    let server = Server::start();
    let proxy = Proxy::start(server.port, Duration::ZERO).await;
    let store = Etcd::open(&options(proxy.port, "a")).await.unwrap();
    // The store's own watch, which wants a connection of its own, has not begun.
    proxy.refuse(true);
    let first = commit(&store, put("k", "1")).await;
    let second = commit(&store, put("k", "2")).await;
    let mut watch = store.watch(Bytes::new(), first).await.unwrap();
    let record = store.link.record();
    let all = record.last(record.etcd(second).unwrap());
    let mut compacting = std::pin::pin!(store.compact(all));
    let early = tokio::time::timeout(Duration::from_millis(300), &mut compacting).await;
    assert!(early.is_err(), "{early:?}");
    proxy.refuse(false);
    compacting.await.unwrap();
    assert_eq!(*store.revisions().start(), second);
    assert_eq!(next_events(&mut watch).await.revision, second);
}

#[tokio::test]
async fn an_etcd_that_others_compact_tells_the_past_as_far_as_it_goes() {
    let server = Server::start();
    let proxy = Proxy::start(server.port, Duration::ZERO).await;
    let store = Etcd::open(&options(proxy.port, "a")).await.unwrap();
    let mut revisions = Vec::new();
    for n in 0..30 {
        revisions.push(commit(&store, put("k", &n.to_string())).await);
    }
    let mut watch = store.watch(Bytes::new(), revisions[29]).await.unwrap();
    let etcds = store.link.record().etcd(revisions[20]).unwrap();
    server.ctl(&["compact", &etcds.to_string()]);
    let early = store.get(key("k"), Some(revisions[10])).await;
    let Err(ReadError::Compacted { oldest, .. }) = early else { panic!("{early:?}") };
    assert_eq!(oldest, revisions[20]);
    assert_eq!(*store.revisions().start(), revisions[20]);
    let early = store.watch(Bytes::new(), revisions[10]).await;
    assert!(matches!(early, Err(ReadError::Compacted { .. })), "{early:?}");
    assert_eq!(store.get(key("k"), Some(revisions[20])).await.unwrap().unwrap().value, "20");
    let last = commit(&store, put("k", "live")).await;
    assert_eq!(next_events(&mut watch).await.revision, last, "who is live has missed nothing");

    // Compacted past where the watch is, while the way to etcd is broken: there is nothing to go on from.
    proxy.refuse(true);
    proxy.break_all();
    in_trouble(&store, "").await;
    let direct = server.open("a").await;
    commit(&direct, put("k", "unseen")).await;
    let behind = commit(&direct, put("k", "seen")).await;
    direct.compact(behind).await.unwrap();
    proxy.refuse(false);
    out_of_trouble(&store).await;
    let end = loop {
        match next(&mut watch).await {
            Ok(batch) => assert!(batch.events.is_empty(), "{batch:?}"),
            Err(end) => break end,
        }
    };
    assert!(matches!(end, WatchEnd::TooSlow { .. }), "{end:?}");
    let again = store.watch(Bytes::new(), last).await;
    assert!(matches!(again, Err(ReadError::Compacted { .. })), "{again:?}");
    assert_eq!(store.get(key("k"), None).await.unwrap().unwrap().value, "seen");
    let newest = *store.revisions().end();
    let mut watch = store.watch(Bytes::new(), newest).await.unwrap();
    let live = commit(&store, put("k", "x")).await;
    assert_eq!(next_events(&mut watch).await.revision, live);
}

#[tokio::test]
async fn a_full_etcd_refuses_writes_takes_removals_and_recovers() {
    let server = Server::start_with(&["--quota-backend-bytes=8388608"]);
    let store = server.open("a").await;
    let written = fill(&store).await;
    in_trouble(&store, "no space").await;
    let page = store.list(ListRequest::default()).await.expect("reads go on");
    assert_eq!(page.entries.len(), written);
    for n in 0..written {
        let remove = Write::Delete(Bytes::from(format!("fill/{n}")));
        commit(&store, Transaction { checks: vec![], writes: vec![remove] }).await;
    }
    assert!(matches!(store.commit(put("k", "v")).await, Err(CommitError::Full(_))), "until it is told so");
    store.compact(*store.revisions().end()).await.unwrap();
    server.ctl(&["defrag"]);
    server.ctl(&["alarm", "disarm"]);
    out_of_trouble(&store).await;
    commit(&store, put("k", "v")).await;
}

/// Writes `fill/0`, `fill/1` and so on until there is no space; how many are there.
async fn fill(store: &Etcd) -> usize {
    let value = "x".repeat(256 << 10);
    for written in 0..1000 {
        let name = format!("fill/{written}");
        match store.commit(put(&name, &value)).await {
            Ok(_) => {}
            Err(CommitError::Full(_)) => return written,
            // The last that there is space for, or the first that there is not.
            Err(CommitError::Uncertain(_)) => {
                if store.get(Bytes::from(name), None).await.unwrap().is_none() {
                    return written;
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("etcd must be full at some time");
}

async fn remove(store: &Etcd, key: &'static str) -> Revision {
    let writes = vec![Write::Delete(Bytes::from_static(key.as_bytes()))];
    commit(store, Transaction { checks: vec![], writes }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_opens_on_a_full_etcd_and_on_one_that_was_restored_full() {
    let mut server = Server::start_with(&["--quota-backend-bytes=8388608"]);
    let store = server.open("a").await;
    let (identity, written) = (store.identity(), fill(&store).await);
    in_trouble(&store, "no space").await;
    drop(store);
    for (gone, key) in [(1, "fill/0"), (2, "fill/1")] {
        let store = server.open("a").await;
        assert_eq!(store.identity(), identity);
        let mut watch = store.watch(Bytes::new(), *store.revisions().end()).await.unwrap();
        let removed = remove(&store, key).await;
        assert_eq!(next_events(&mut watch).await.revision, removed);
        assert_eq!(store.list(ListRequest::default()).await.unwrap().entries.len(), written - gone);
        drop(store);
        server.back_up();
        server.restore();
    }
    // Restored underneath: it is told what to do, and goes on when that is done.
    let store = server.open("a").await;
    let lost = remove(&store, "fill/2").await;
    server.restore();
    in_trouble(&store, "was restored from a backup and has no space left").await;
    let direct = server.open("a").await;
    for n in 2..written {
        let writes = vec![Write::Delete(Bytes::from(format!("fill/{n}")))];
        commit(&direct, Transaction { checks: vec![], writes }).await;
    }
    direct.compact(*direct.revisions().end()).await.unwrap();
    server.ctl(&["defrag"]);
    server.ctl(&["alarm", "disarm"]);
    out_of_trouble(&store).await;
    assert_eq!(store.identity().epoch, identity.epoch + 1);
    assert!(commit(&store, put("k", "v")).await > lost);
}

/// The writers that are at it when it becomes full pass etcd's first look for space together; the second finds none, and they
/// are written and refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_at_an_etcd_that_becomes_full_are_told_what_is_there() {
    const WRITERS: usize = 16;
    let server = Server::start_with(&["--quota-backend-bytes=16777216"]);
    let store = server.open("a").await;
    let (value, surely) = ("x".repeat(128 << 10), Mutex::new(BTreeMap::new()));
    let writer = async |number: usize| {
        for round in 0..1000 {
            let key = format!("{number}/{round}");
            let answer = store.commit(put(&key, &value)).await;
            let (there, goes_on) = match &answer {
                Ok(_) => (Some(true), true),
                Err(CommitError::Uncertain(_)) => (None, true),
                Err(CommitError::Full(_)) => (Some(false), false),
                Err(error) => panic!("{error}"),
            };
            surely.lock().unwrap().insert(Bytes::from(key), there);
            if !goes_on {
                return;
            }
        }
        panic!("etcd must be full at some time");
    };
    futures_util::future::join_all((0..WRITERS).map(writer)).await;
    let page = store.list(ListRequest::default()).await.unwrap();
    let there: Vec<Bytes> = page.entries.into_iter().map(|entry| entry.key).collect();
    for (key, told) in surely.into_inner().unwrap() {
        assert!(
            told.is_none_or(|told| told == there.contains(&key)),
            "{key:?} is told to be there: {told:?}"
        );
    }
}

#[tokio::test]
async fn tls_is_spoken_with_a_certificate_of_its_own() {
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);
    let certificate = |names: &[&str], usages: &[ExtendedKeyUsagePurpose]| {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = usages.to_vec();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    };
    let both = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let (server_pem, server_key) = certificate(&["127.0.0.1"], &both);
    let (client_pem, client_key) = certificate(&["weft"], &both[1..]);
    let server = Server::start_with_tls(|directory| {
        for (name, text) in
            [("ca.pem", &authority_pem), ("server.pem", &server_pem), ("server.key", &server_key)]
        {
            std::fs::write(directory.join(name), text).unwrap();
        }
    });
    let authorities = authority_pem.into_bytes();
    let identity = Some((client_pem.into_bytes(), client_key.into_bytes()));
    let store = server.open_with_tls(Pem { authorities: authorities.clone(), identity: identity.clone() });
    let store = store.await.expect("the store opens");
    let first = commit(&store, put("k", "1")).await;
    let mut watch = store.watch(Bytes::new(), first).await.unwrap();
    let second = commit(&store, put("k", "2")).await;
    assert_eq!(next_events(&mut watch).await.revision, second);

    let another = KeyPair::generate().unwrap();
    let self_signed = CertificateParams::default().self_signed(&another).unwrap().pem();
    let open = |authorities: &[u8], identity: Option<_>, host: &str| {
        let endpoints = vec![Endpoint { host: host.to_owned(), port: server.port }];
        let tls = Some(Pem { authorities: authorities.to_vec(), identity });
        let options = Options {
            address: Address { endpoints, name: "tls".to_owned() },
            tls,
            begins: None,
            expects: None,
        };
        async move { Etcd::open(&options).await }
    };
    let (nobody, distrusted, elsewhere) = tokio::join!(
        open(&authorities, None, "127.0.0.1"),
        open(self_signed.as_bytes(), identity.clone(), "127.0.0.1"),
        open(&authorities, identity.clone(), "localhost"),
    );
    assert!(matches!(nobody, Err(OpenError::Etcd(_))), "{nobody:?}");
    for (refused, word) in [(distrusted, "invalid peer certificate"), (elsewhere, "not valid for name")] {
        let Err(OpenError::Etcd(why)) = refused else { panic!("{refused:?}") };
        assert!(why.to_string().contains(word), "{why}");
    }
}
