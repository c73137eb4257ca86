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
use http::Method;
use http_body_util::BodyExt as _;
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

/// Objects of before a rule, a default or a setting: each goes on to be labelled, changed where it is right, and deleted.
#[tokio::test]
async fn what_was_stored_before_a_rule_is_still_changed_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let finalizers = ["a.example/held"];
    let pod = json!({ "metadata": { "name": "old", "finalizers": finalizers },
        "spec": { "containers": [{ "name": "c", "image": "i:1" }] } });
    assert_eq!(admin.post("/api/v1/namespaces/default/pods", pod).await.0, 201);
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let definition = json!({ "metadata": { "name": "xs.a.k8s.io", "finalizers": finalizers,
            "annotations": { "api-approved.kubernetes.io": "unapproved" } },
        "spec": { "group": "a.k8s.io", "scope": "Cluster", "names": { "plural": "xs", "kind": "X" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": { "type": "object" } } }] } });
    let (code, made) = admin.post(definitions, definition).await;
    assert_eq!(code, 201, "{made}");
    let ports = json!([{ "port": 80, "nodePort": 30_007 }]);
    let service = json!({ "metadata": { "name": "old" }, "spec": { "type": "NodePort", "ports": ports } });
    assert_eq!(admin.post("/api/v1/namespaces/default/services", service).await.0, 201);
    server.stop();
    age(dir.path(), "o/core/pods/default/old", |pod| {
        pod["spec"]["containers"][0]["name"] = "Old".into();
        pod["spec"].as_object_mut().unwrap().remove("dnsPolicy");
    })
    .await;
    age(dir.path(), "o/apiextensions.k8s.io/customresourcedefinitions//xs.a.k8s.io", |definition| {
        definition["metadata"]["annotations"] = json!({});
        definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["type"] = "string".into();
    })
    .await;

    let server = Server::start_with(dir.path(), &["--node-ports", "31000-31100"]);
    let mut admin = server.admin().await;
    let labels = json!({ "metadata": { "labels": { "a": "b" } } });
    let service = "/api/v1/namespaces/default/services/old";
    let (code, changed) = admin.call(Method::PATCH, service, Some(labels.clone())).await;
    assert_eq!((code, &changed["spec"]["ports"][0]["nodePort"]), (200, &json!(30_007)), "{changed}");
    let other = json!({ "spec": { "ports": [{ "port": 80, "nodePort": 30_008 }] } });
    assert_eq!(admin.call(Method::PATCH, service, Some(other)).await.0, 422);

    let pod = "/api/v1/namespaces/default/pods/old";
    let (code, mut now) = admin.call(Method::PATCH, pod, Some(labels.clone())).await;
    assert_eq!(code, 200, "{now}");
    for (field, value, code) in [("image", "i:2", 200), ("name", "Other", 422)] {
        now["spec"]["containers"][0][field] = value.into();
        now["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        let (is, said) = admin.call(Method::PUT, pod, Some(now.clone())).await;
        assert_eq!(is, code, "{said}");
    }
    let status = json!({ "apiVersion": "v1", "kind": "Pod", "status": { "message": "m" } }).to_string();
    let definition = format!("{definitions}/xs.a.k8s.io");
    let (code, said) = admin.call(Method::PATCH, &definition, Some(labels)).await;
    assert_eq!(code, 200, "{said}");
    let wrong = json!({ "metadata": { "labels": { "a": "b c" } } });
    for path in [pod, &definition] {
        assert_eq!(admin.call(Method::PATCH, path, Some(wrong.clone())).await.0, 422, "{path}");
    }
    let applied = [("content-type", "application/apply-patch+yaml")];
    let path = format!("{pod}/status?fieldManager=me");
    let answer = admin.open(Method::PATCH, &path, &applied, status.into_bytes()).await;
    assert_eq!(answer.status(), 200);
    drop(answer.into_body().collect().await.unwrap());
    for path in [pod, &definition] {
        let (code, said) = admin.call(Method::DELETE, path, None).await;
        assert_eq!(code, 200, "{said}");
        let free = json!({ "metadata": { "finalizers": null } });
        let (code, said) = admin.call(Method::PATCH, path, Some(free)).await;
        assert_eq!(code, 200, "{said}");
        assert_eq!(admin.get(path).await.0, 404, "{path}");
    }
}
