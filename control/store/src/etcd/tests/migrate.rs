//! What an etcd holds in the format before.

use super::*;
use crate::etcd::layout::{self, Layout};
use crate::etcd::message::{
    PutRequest, RangeRequest, RangeResponse, Request, RequestOp, TxnRequest, TxnResponse,
};
use crate::etcd::wire::{self, Wire};
use crate::store::{Beginning, StoreIdentity};

const ID: [u8; 16] = [7; 16];
/// What format 1 added to etcd's revisions.
const BASE: u64 = 1_000;
const ENTRIES: usize = 150;

/// Speaks to etcd as a build of format 1 did.
struct Before {
    wire: Wire,
}

impl Before {
    fn new(server: &Server) -> Self {
        Self { wire: Wire::new(options(server.port, "a").address.endpoints, None) }
    }

    async fn put(&self, puts: Vec<(Bytes, Bytes)>) -> i64 {
        let put = |(key, value)| RequestOp { request: Some(Request::Put(PutRequest { key, value })) };
        let question = TxnRequest { success: puts.into_iter().map(put).collect(), ..TxnRequest::default() };
        let answer: TxnResponse = self.wire.call(wire::TXN, &question, WAIT).await.unwrap();
        answer.header.unwrap().revision
    }

    /// The record, and one large entry among the others; etcd's revision then.
    async fn fill(&self) -> i64 {
        let record = [&[1][..], &ID, &3_u64.to_be_bytes(), &BASE.to_be_bytes()].concat();
        self.put(vec![("/weft/a/identity".into(), record.into())]).await;
        let mut revision = 0;
        for n in 0..ENTRIES {
            revision = self.put(vec![(format!("/weft/a/k/{n:03}").into(), value(n))]).await;
        }
        revision
    }

    async fn count(&self, prefix: &str) -> i64 {
        let end = format!("{}0", prefix.strip_suffix('/').unwrap());
        let question =
            RangeRequest { key: prefix.to_owned().into(), range_end: end.into(), ..RangeRequest::default() };
        let answer: RangeResponse = self.wire.call(wire::RANGE, &question, WAIT).await.unwrap();
        answer.count
    }
}

fn value(n: usize) -> Bytes {
    let size = if n % 40 == 7 { 700 << 10 } else { n };
    vec![n as u8; size].into()
}

async fn is_as_it_was(store: &Etcd) {
    let page = store.list(ListRequest::default()).await.unwrap();
    assert_eq!(page.entries.len(), ENTRIES);
    for (n, entry) in page.entries.iter().enumerate() {
        assert_eq!((&entry.key[..], &entry.value), (format!("{n:03}").as_bytes(), &value(n)));
    }
}

#[tokio::test]
async fn what_lies_in_the_format_before_is_brought_to_this_one() {
    let mut server = Server::start();
    let before = Before::new(&server);
    let written = before.fill().await;
    let identity = StoreIdentity { id: ID, epoch: 3 };
    let begins = Some(Beginning { identity, revision: Revision(0) });
    let refused = Etcd::open(&Options { begins, ..options(server.port, "a") }).await;
    assert!(matches!(refused, Err(OpenError::Etcd(_) | OpenError::NotNew)), "{refused:?}");
    let refused = Etcd::open(&Options { expects: Some([8; 16]), ..options(server.port, "a") }).await;
    assert!(matches!(refused, Err(OpenError::Etcd(_) | OpenError::Another)), "{refused:?}");
    assert_eq!(before.count("/weft/a/k/").await, ENTRIES as i64, "nobody else moves it");
    server.back_up();

    let store = server.open("a").await;
    let moved = store.identity();
    assert!(moved.id == ID && moved.epoch > identity.epoch);
    is_as_it_was(&store).await;
    assert_eq!(before.count("/weft/a/k/").await, ENTRIES as i64, "a build of before may still look there");
    let last = Revision(BASE + written as u64);
    assert!(*store.revisions().start() > last, "what was given means nothing else now");
    let watch = store.watch(Bytes::new(), last).await;
    assert!(matches!(watch, Err(ReadError::Compacted { .. })), "{watch:?}");
    let checks = vec![Check::Unchanged(key("149"), last)];
    let stale = store.commit(Transaction { checks, ..put("149", "v") }).await;
    assert!(matches!(stale, Err(CommitError::Conflict { .. })), "{stale:?}");
    let mut watch = store.watch(Bytes::new(), *store.revisions().end()).await.unwrap();
    let written = commit(&store, put("149", "v")).await;
    assert_eq!(next_events(&mut watch).await.revision, written);
    commit(&store, Transaction { checks: vec![], writes: vec![Write::Put(key("149"), value(149))] }).await;
    drop(store);
    let again = server.open("a").await;
    assert_eq!(again.identity(), moved, "once");
    is_as_it_was(&again).await;
    assert_eq!(before.count("/weft/a/k/").await, 0, "it lies there once");
    let last = *again.revisions().end();

    // A backup of before, underneath: nothing is taken for what it is not.
    server.restore();
    in_trouble(&again, "restart weft-control").await;
    assert!(again.get(key("000"), None).await.is_err());
    drop(again);
    let third = server.open("a").await;
    is_as_it_was(&third).await;
    assert!(
        third.identity().epoch > moved.epoch && *third.revisions().start() > last,
        "nothing is given twice"
    );
}

#[tokio::test]
async fn what_was_moved_half_way_is_moved_again() {
    let server = Server::start();
    let before = Before::new(&server);
    before.fill().await;
    let next = layout::Record { identity: StoreIdentity { id: ID, epoch: 4 }, base: 1 << 30 };
    let layout = Layout::new("a");
    let moved = |n: usize| layout.key(format!("{n:03}").as_bytes());
    before
        .put(vec![
            (layout.identity(), next.encode_moving()),
            (moved(0), layout::stored(0, &value(0))),
            (moved(999), layout::stored(0, b"of another try")),
        ])
        .await;
    let store = server.open("a").await;
    assert_eq!(store.identity(), next.identity);
    assert!(store.revisions().start().0 > 1 << 30);
    is_as_it_was(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_who_move_one_comes_to_the_end_and_nothing_is_lost() {
    let server = Server::start();
    let before = Before::new(&server);
    before.fill().await;
    let opening = (0..4).map(|n| {
        let server = &server;
        async move {
            tokio::time::sleep(Duration::from_millis(15 * n)).await;
            server.open("a").await
        }
    });
    let stores = futures_util::future::join_all(opening).await;
    for store in &stores {
        assert_eq!(store.identity(), stores[0].identity());
        is_as_it_was(store).await;
    }
}
