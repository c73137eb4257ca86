//! Commits that shared a transaction of etcd.

use super::*;

/// Who goes on within a transaction of etcd that holds several commits, at a store that knows nothing of it but what etcd tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_shared_a_transaction_are_told_one_by_one_by_a_store_that_was_just_opened() {
    const COMMITS: usize = 64;
    let server = Server::start();
    let store = server.open("a").await;
    let first = commit(&store, put("k", "v")).await;
    let commits = (0..COMMITS).map(|n| commit(&store, put(&format!("k/{n}"), "v"))).collect::<Vec<_>>();
    let mut revisions = futures_util::future::join_all(commits).await;
    revisions.sort();
    let record = store.link.record();
    let mut etcds: Vec<_> = revisions.iter().map(|revision| record.etcd(*revision)).collect();
    etcds.dedup();
    assert!(etcds.len() < COMMITS / 4, "{} transactions", etcds.len());
    let nothing = commit(&store, Transaction::default()).await;
    assert!(nothing >= revisions[COMMITS - 1], "what was acknowledged is there");
    drop(store);
    let store = server.open("a").await;
    for told in (0..COMMITS).step_by(9) {
        let after = if told == 0 { first } else { revisions[told - 1] };
        let mut watch = store.watch(Bytes::new(), after).await.unwrap();
        for revision in &revisions[told..] {
            assert_eq!(next_events(&mut watch).await.revision, *revision);
        }
    }
}
