//! The server on a real etcd: what it acknowledged is there, an etcd that is away is lived through, and one that is restored
//! from a backup is told to clients and nodes.

#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "support/server.rs"]
mod server;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use http::Method;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};
use server::{BINARY, Client, Server};
use weft_link::Receiver;
use weft_link::message::Hello;
use weft_link::session::{self, NodeIdentity, key_and_csr};
use weft_store::testetcd;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "k": "v" } })
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("a list");
    items.iter().filter_map(|item| item["metadata"]["name"].as_str()).collect()
}

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

fn start(etcd: &testetcd::Server, dir: &Path) -> Server {
    Server::start_with(dir, &["--store", &format!("etcd://127.0.0.1:{}/test", etcd.port)])
}

/// A running watch of the maps.
struct Watching {
    body: Incoming,
    read: Vec<u8>,
    _client: Client,
}

impl Watching {
    async fn begin(server: &Server, after: u64) -> Self {
        let mut client = server.admin().await;
        // A loop makes one of its own, sooner or later.
        let others = "fieldSelector=metadata.name!=kube-root-ca.crt";
        let path = format!("{MAPS}?watch=true&resourceVersion={after}&{others}");
        let body = client.open(Method::GET, &path, &[], Vec::new()).await.into_body();
        Self { body, read: Vec::new(), _client: client }
    }

    /// The next event; none at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = tokio::time::timeout(Duration::from_secs(30), self.body.frame()).await;
            let frame = frame.expect("an event in time")?.expect("the stream goes on");
            self.read.extend_from_slice(&frame.into_data().unwrap_or_default());
        }
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_in_etcd_and_one_server_has_the_data_directory() {
    let (etcd, dir) = (testetcd::Server::start(), tempfile::tempdir().unwrap());
    let mut server = start(&etcd, dir.path());
    let mut admin = server.admin().await;
    let (code, made) = admin.post(MAPS, map("first")).await;
    assert_eq!(code, 201, "{made}");
    // One that is let in would not end by itself.
    let second = Command::new("timeout")
        .args(["20", BINARY, "serve", "--listen", "127.0.0.1:0", "--link", "127.0.0.1:0", "--data-dir"])
        .arg(dir.path())
        .args(["--store", &format!("etcd://127.0.0.1:{}/test", etcd.port)])
        .output()
        .unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("lock"), "{said}");
    server.kill();
    assert!(!dir.path().join("store.redb").exists());
    let server = start(&etcd, dir.path());
    let mut admin = server.admin().await;
    let (_, found) = admin.get(&format!("{MAPS}/first")).await;
    assert_eq!(found["metadata"], made["metadata"]);
    let mut watching = Watching::begin(&server, revision(&made)).await;
    let (_, next) = admin.post(MAPS, map("second")).await;
    assert!(revision(&next) > revision(&made));
    assert_eq!(watching.next().await.unwrap()["object"]["metadata"]["name"], "second");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_is_away_is_told_by_readyz_and_lived_through() {
    let (mut etcd, dir) = (testetcd::Server::start(), tempfile::tempdir().unwrap());
    let server = start(&etcd, dir.path());
    let mut admin = server.admin().await;
    let (_, made) = admin.post(MAPS, map("before")).await;
    let mut watching = Watching::begin(&server, revision(&made)).await;
    for round in 0..2 {
        etcd.kill();
        // The cache may be red before the store is, for what it has not heard of.
        let red = |said: &Value| said.as_str().is_some_and(|said| said.contains("[-]store failed: "));
        admin.until("/readyz", |code, said| code == 500 && red(said)).await;
        let (code, answer) = admin.post(MAPS, map("refused")).await;
        assert_eq!((code, &answer["reason"]), (503, &json!("ServiceUnavailable")), "{answer}");
        let (code, list) = admin.get(MAPS).await;
        assert_eq!((code, names(&list).contains(&"before")), (200, true), "what is there is served");
        assert_eq!(admin.get("/livez").await.0, 200);
        etcd.run();
        admin.until("/readyz", |code, _| code == 200).await;
        let name = format!("after-{round}");
        let (code, answer) = admin.post(MAPS, map(&name)).await;
        assert_eq!(code, 201, "{answer}");
        assert_eq!(watching.next().await.unwrap()["object"]["metadata"]["name"], json!(name));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_starts_on_a_full_etcd_and_takes_removals() {
    let etcd = testetcd::Server::start_with(&["--quota-backend-bytes=8388608"]);
    let dir = tempfile::tempdir().unwrap();
    let mut server = start(&etcd, dir.path());
    let mut admin = server.admin().await;
    let large = |name: &str| {
        let mut map = map(name);
        map["data"]["k"] = json!("x".repeat(400 << 10));
        map
    };
    assert_eq!(admin.post(MAPS, large("first")).await.0, 201);
    let mut number = 0;
    while admin.post(MAPS, large(&format!("more-{number}"))).await.0 == 201 {
        number += 1;
        assert!(number < 100, "etcd must be full at some time");
    }
    server.kill();
    // As a build of before them has left it.
    let classes = etcd.ctl(&["del", "--prefix", "/weft/test/e/o/scheduling.k8s.io/priorityclasses/"]);
    assert_eq!(classes.trim(), "2");
    let server = start(&etcd, dir.path());
    let mut admin = server.admin().await;
    assert_eq!(admin.get(&format!("{MAPS}/first")).await.0, 200);
    let (code, answer) = admin.post(MAPS, map("refused")).await;
    assert_eq!(code, 503, "{answer}");
    let (code, answer) = admin.call(Method::DELETE, &format!("{MAPS}/first"), None).await;
    assert_eq!(code, 200, "{answer}");
    assert_eq!(admin.get(&format!("{MAPS}/first")).await.0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_etcd_is_told_to_watches_by_410_and_to_nodes_by_the_epoch() {
    let (mut etcd, dir) = (testetcd::Server::start(), tempfile::tempdir().unwrap());
    let server = start(&etcd, dir.path());
    let mut admin = server.admin().await;
    let key = key_and_csr("node-1").unwrap();
    let token = server.token("1h").parse().unwrap();
    let answer = session::join(server.link, &token, "node-1", &key.csr_pem).await.unwrap();
    let node = NodeIdentity::from_pem(&answer.certificate_pem, &key.key_pem, &answer.ca_pem).unwrap();
    let hello = |resume| Hello { node: "node-1".into(), resume, ..Hello::default() };
    let mut linked = session::connect(server.link, &node, hello(None)).await.unwrap();
    let mut receiver = Receiver::new(None, []);
    receiver.welcome(&linked.welcome).unwrap();
    while receiver.frame(linked.state.next().await.unwrap().unwrap()).unwrap().is_none() {}
    let before = linked.welcome.position.clone().unwrap();

    admin.post(MAPS, map("kept")).await;
    etcd.back_up();
    let (_, lost) = admin.post(MAPS, map("lost")).await;
    let mut watching = Watching::begin(&server, revision(&lost)).await;
    etcd.restore();
    let told = watching.next().await.expect("the watch tells why it ends");
    assert_eq!((&told["type"], &told["object"]["code"]), (&json!("ERROR"), &json!(410)), "{told}");
    assert_eq!(watching.next().await, None);
    admin.until("/readyz", |code, _| code == 200).await;
    let list = admin.until(MAPS, |_, list| !names(list).contains(&"lost")).await;
    assert!(names(&list).contains(&"kept"), "{list}");
    assert!(revision(&list) > revision(&lost), "no revision goes back");
    let mut again = Watching::begin(&server, revision(&lost)).await;
    let told = again.next().await.unwrap();
    assert_eq!(told["object"]["code"], 410, "what was read of the lost history is too old: {told}");

    // The node's session ends, and the next one is of the other history, with all of it.
    let ended = async { while let Ok(Some(_)) = linked.state.next().await {} };
    tokio::time::timeout(Duration::from_secs(20), ended).await.expect("the session ends");
    let held = receiver.resume();
    assert!(held.is_some());
    let mut linked = session::connect(server.link, &node, hello(held)).await.unwrap();
    let after = linked.welcome.position.clone().unwrap();
    assert_eq!((&after.store_id, after.epoch), (&before.store_id, before.epoch + 1));
    assert!(after.revision > revision(&lost) && !linked.welcome.resumed);
    receiver.welcome(&linked.welcome).expect("the node obeys it");
    while receiver.frame(linked.state.next().await.unwrap().unwrap()).unwrap().is_none() {}

    let mut watching = Watching::begin(&server, revision(&list)).await;
    let (code, next) = admin.post(MAPS, map("next")).await;
    assert_eq!(code, 201, "{next}");
    assert_eq!(watching.next().await.unwrap()["object"]["metadata"]["name"], "next");
}
