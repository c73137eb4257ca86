//! The server over kills, restarts and time: what it acknowledged, what it grants nodes that could not speak to it, and
//! certificates that end.

#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "support/server.rs"]
mod server;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use server::Server;
use weft_link::Receiver;
use weft_link::message::{Heartbeat, Hello, StatusFrame, status_frame::Frame};
use weft_link::session::{self, NodeIdentity, key_and_csr};
use weft_store::Embedded;
use weft_store::store::{Store, Transaction, Write};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "k": name.repeat(40) } })
}

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

/// 1,000 creates over eight connections; the server is killed in their midst five times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_create_is_there_after_kills() {
    const CLIENTS: usize = 8;
    const CREATES: usize = 1_000;
    const KILLS: usize = 5;
    let dir = tempfile::tempdir().unwrap();
    let acknowledged: Arc<Mutex<HashMap<String, Value>>> = Arc::default();
    let count = || acknowledged.lock().unwrap().len();
    for kill in 1..=KILLS {
        let mut server = Server::start(dir.path());
        let mut writers = Vec::new();
        for client in 0..CLIENTS {
            let mut admin = server.admin().await;
            let acknowledged = acknowledged.clone();
            writers.push(tokio::spawn(async move {
                for n in (client..CREATES).step_by(CLIENTS) {
                    let name = format!("c{n}");
                    if acknowledged.lock().unwrap().contains_key(&name) {
                        continue;
                    }
                    // The connection breaks off with the server, and this task with it.
                    let (code, made) = admin.post(MAPS, map(&name)).await;
                    // A create whose answer a kill took away may have happened all the same.
                    assert!(code == 201 || made["reason"] == "AlreadyExists", "{made}");
                    if code == 201 {
                        acknowledged.lock().unwrap().insert(name, made);
                    }
                }
            }));
        }
        let enough = kill * CREATES / (KILLS + 1);
        while count() < enough && !writers.iter().all(tokio::task::JoinHandle::is_finished) {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        assert!(writers.iter().any(|writer| !writer.is_finished()), "killed in the midst of creates");
        server.kill();
        for writer in writers {
            let _ = writer.await;
        }
    }
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let (_, list) = admin.get(MAPS).await;
    let there: HashMap<&str, &Value> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["metadata"]["name"].as_str().unwrap(), item))
        .collect();
    let newest = {
        let acknowledged = acknowledged.lock().unwrap();
        assert!(acknowledged.len() >= KILLS * CREATES / (KILLS + 1));
        for (name, made) in acknowledged.iter() {
            let now = there.get(name.as_str()).unwrap_or_else(|| panic!("{name} is lost"));
            assert_eq!((&now["metadata"], &now["data"]), (&made["metadata"], &made["data"]));
        }
        acknowledged.values().map(revision).max().unwrap()
    };
    let (_, next) = admin.post(MAPS, map("next")).await;
    assert!(revision(&next) > newest, "no revision is given twice");
}

async fn join(server: &Server, node: &str) -> NodeIdentity {
    let key = key_and_csr(node).unwrap();
    let token = server.token("1h").parse().unwrap();
    let answer = session::join(server.link, &token, node, &key.csr_pem).await.unwrap();
    NodeIdentity::from_pem(&answer.certificate_pem, &key.key_pem, &answer.ca_pem).unwrap()
}

/// Changes a stored object while no server has the store.
async fn age(dir: &Path, key: &'static str, change: impl Fn(&mut Value)) {
    let store = Embedded::open(dir.join("store.redb")).unwrap();
    let entry = store.get(Bytes::from_static(key.as_bytes()), None).await.unwrap().expect(key);
    let mut object: Value = serde_json::from_slice(&entry.value).unwrap();
    change(&mut object);
    let writes = vec![Write::Put(entry.key, object.to_string().into())];
    store.commit(Transaction { checks: Vec::new(), writes }).await.unwrap();
}

/// As after an outage that was longer than a Lease lasts.
#[tokio::test]
async fn a_node_that_could_not_speak_during_an_outage_has_its_time_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path());
    let identity = join(&server, "node-1").await;
    let hello = Hello { node: "node-1".into(), ..Hello::default() };
    let mut session = session::connect(server.link, &identity, hello).await.unwrap();
    let status = json!({ "conditions": [{ "type": "Ready", "status": "True", "reason": "AgentReady" }] });
    for frame in [Frame::Node(status.to_string().into()), Frame::Heartbeat(Heartbeat {})] {
        session.status.send(&StatusFrame { frame: Some(frame) }).await.unwrap();
    }
    let mut admin = server.admin().await;
    let is_ready = |v: &Value| v["status"]["conditions"][0]["status"] == "True";
    let node = "/api/v1/nodes/node-1";
    admin.until(node, |_, v| is_ready(v) && v["spec"]["taints"].as_array().is_none_or(Vec::is_empty)).await;
    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-1";
    admin.until(lease, |code, _| code == 200).await;
    session.link.close("the outage");
    server.kill();
    drop(server);
    let long_ago = "2026-01-01T00:00:00Z";
    age(dir.path(), "o/core/nodes//node-1", |node| node["metadata"]["creationTimestamp"] = long_ago.into())
        .await;
    let lease = "o/coordination.k8s.io/leases/kube-node-lease/node-1";
    age(dir.path(), lease, |lease| lease["spec"]["renewTime"] = "2026-01-01T00:00:00.000000Z".into()).await;
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        let (_, now) = admin.get(node).await;
        assert!(is_ready(&now), "{}", now["status"]["conditions"]);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The agent's own rule, on what a real server sends it: by the store's id, and before that by the CA.
#[tokio::test]
async fn an_empty_control_plane_at_the_same_address_is_not_obeyed() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path());
    let identity = join(&server, "node-1").await;
    let hello = || Hello { node: "node-1".into(), ..Hello::default() };
    let mut session = session::connect(server.link, &identity, hello()).await.unwrap();
    let mut receiver = Receiver::new(None, []);
    receiver.welcome(&session.welcome).unwrap();
    while receiver.frame(session.state.next().await.unwrap().unwrap()).unwrap().is_none() {}
    session.link.close("the outage");
    server.kill();
    drop(server);
    std::fs::remove_file(dir.path().join("store.redb")).unwrap();
    // Whoever begins a new cluster with the old keys says so.
    std::fs::remove_file(dir.path().join("pki/store-id")).unwrap();
    let mut server = Server::start(dir.path());
    let session = session::connect(server.link, &identity, hello()).await.unwrap();
    let refused = receiver.welcome(&session.welcome).unwrap_err();
    assert!(refused.to_string().contains("this node belongs to store"), "{refused}");
    server.kill();
    drop(server);
    std::fs::remove_dir_all(dir.path()).unwrap();
    let server = Server::start(dir.path());
    let refused = session::connect(server.link, &identity, hello()).await.unwrap_err();
    assert!(refused.to_string().contains("do not trust each other"), "{refused}");
}

/// Handshakes verify certificates by the clock: had the first ones stayed, these would fail.
#[tokio::test]
async fn certificates_are_renewed_while_the_server_runs() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(dir.path(), &["--certificate-life", "10s"]);
    let began = Instant::now();
    let first = std::fs::read(dir.path().join("pki/server.crt")).unwrap();
    let mut early = server.admin().await;
    assert_eq!(early.get("/livez").await.0, 200);
    tokio::time::sleep(Duration::from_secs(12).saturating_sub(began.elapsed())).await;
    assert_ne!(std::fs::read(dir.path().join("pki/server.crt")).unwrap(), first);
    assert_eq!(server.admin().await.get("/api/v1/nodes").await.0, 200, "API, and the admin's certificate");
    join(&server, "node-1").await;
}

/// The store's own tests look at it more closely.
#[tokio::test]
async fn a_store_of_the_format_before_is_served_and_stays_served() {
    let dir = tempfile::tempdir().unwrap();
    let before = include_bytes!("../../store/fixtures/format-1.redb.gz");
    let mut file = std::fs::File::create(dir.path().join("store.redb")).unwrap();
    std::io::copy(&mut flate2::read::GzDecoder::new(&before[..]), &mut file).unwrap();
    drop(file);
    for _ in 0..2 {
        let server = Server::start(dir.path());
        let mut admin = server.admin().await;
        let (code, map) = admin.get("/api/v1/namespaces/default/configmaps/changed").await;
        assert_eq!((code, &map["data"]["k"]), (200, &json!("2")), "{map}");
        let (code, service) = admin.get("/api/v1/namespaces/shop/services/web").await;
        assert_eq!((code, &service["spec"]["clusterIP"]), (200, &json!("10.96.14.86")), "{service}");
        assert_eq!(admin.get("/api/v1/namespaces/default/configmaps/gone").await.0, 404);
    }
}
