//! A node's whole life with a real server, the agent's end played by `weft-link`'s own client: join, register, state,
//! reports and tokens.

#[path = "support/node.rs"]
mod node;
#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "support/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use node::{connect, join, ready, report};
use serde_json::{Value, json};
use server::Server;
use weft_link::Encoded;
use weft_link::join::Token;
use weft_link::message::closed_frame::Frame;
use weft_link::message::{Hello, PodStatus, TokenRequest, request, resource, status_frame};
use weft_link::session::{self, AgentSession, key_and_csr};

fn token(server: &Server, ttl: &str) -> Token {
    server.token(ttl).parse().unwrap()
}

/// Reads state until a committed view satisfies `holds`; answers the view.
async fn view(
    session: &mut AgentSession,
    view: &mut BTreeMap<String, resource::Body>,
    holds: impl Fn(&BTreeMap<String, resource::Body>) -> bool,
) {
    let read = async {
        loop {
            match session.state.next().await.unwrap().expect("state").frame {
                Some(Frame::Begin(_)) => view.clear(),
                Some(Frame::Put(resource)) => {
                    let resource = Encoded::new(resource).expect("a resource").read();
                    view.insert(resource.name, resource.body.expect("a body"));
                }
                Some(Frame::Remove(name)) => {
                    view.remove(&name);
                }
                Some(Frame::Commit(_)) if holds(view) => return,
                _ => {}
            }
        }
    };
    if tokio::time::timeout(Duration::from_secs(10), read).await.is_err() {
        panic!("the view never was as wanted: {:?}", view.keys().collect::<Vec<_>>());
    }
}

fn pod_object() -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web" },
        "spec": { "containers": [{ "name": "c", "image": "web:1" }] } })
}

const POD: &str = "/api/v1/namespaces/default/pods/web";

/// Brings up a node with a Pod on it that is said to run; answers the Pod.
async fn running_pod(server: &Server, session: &mut AgentSession) -> Value {
    ready(session).await;
    let mut admin = server.admin().await;
    let (code, pod) = admin.post("/api/v1/namespaces/default/pods", pod_object()).await;
    assert_eq!(code, 201, "{pod}");
    let mut known = BTreeMap::new();
    view(session, &mut known, |v| {
        v.contains_key("object/Pod/default/web")
            && v.contains_key("object/ConfigMap/default/kube-root-ca.crt")
    })
    .await;
    let bound = admin.until(POD, |_, v| v["spec"]["nodeName"] == "node-1").await;
    // Before, no address is the node's own.
    admin.until("/api/v1/nodes/node-1", |_, v| v["spec"]["podCIDR"].is_string()).await;
    let status = json!({ "phase": "Running", "podIP": "10.244.0.5", "podIPs": [{ "ip": "10.244.0.5" }],
        "conditions": [{ "type": "Ready", "status": "True" }] });
    let uid = bound["metadata"]["uid"].as_str().unwrap().to_owned();
    let told = PodStatus {
        namespace: "default".into(),
        name: "web".into(),
        uid,
        json: status.to_string().into(),
        gone: false,
    };
    report(session, status_frame::Frame::Pod(told)).await;
    admin.until(POD, |_, v| v["status"]["phase"] == "Running").await
}

#[tokio::test]
async fn a_node_joins_takes_a_pod_and_gives_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let identity = join(&server, "node-1").await;
    let mut session = connect(&server, &identity, "node-1").await;
    let cluster = session.welcome.cluster.clone().unwrap();
    assert_eq!(cluster.dns_ips, ["10.96.0.10"]);
    let pod = running_pod(&server, &mut session).await;
    let conditions = pod["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().any(|c| c["type"] == "PodScheduled"), "the scheduler's condition stays");
    let mut admin = server.admin().await;
    let node = admin.until("/api/v1/nodes/node-1", |_, v| v["spec"]["podCIDR"].is_string()).await;
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "node-1");
    admin
        .until("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-1", |c, _| c == 200)
        .await;

    let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
    let asked = TokenRequest {
        namespace: "default".into(),
        service_account: "default".into(),
        pod: "web".into(),
        pod_uid: uid.clone(),
        ..TokenRequest::default()
    };
    let answer = session.requester.request(request::Body::Token(asked.clone())).await.unwrap();
    let mut in_pod = server.client(None, Some(answer.text)).await;
    assert_eq!(in_pod.get("/api").await.0, 200);
    let other = TokenRequest { service_account: "robot".into(), ..asked };
    assert!(session.requester.request(request::Body::Token(other)).await.is_err());

    let (code, deleted) = admin.call(Method::DELETE, POD, None).await;
    assert_eq!(code, 200);
    assert_eq!(deleted["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(admin.get(POD).await.0, 200, "until the agent says that nothing is left");
    let gone =
        PodStatus { namespace: "default".into(), name: "web".into(), uid, json: Bytes::new(), gone: true };
    report(&mut session, status_frame::Frame::Pod(gone)).await;
    admin.until(POD, |code, _| code == 404).await;
    assert_eq!(in_pod.get("/api").await.0, 401, "the token ends with its Pod");
}

#[tokio::test]
async fn a_broken_link_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let identity = join(&server, "node-1").await;
    let mut session = connect(&server, &identity, "node-1").await;
    ready(&mut session).await;
    let mut known = BTreeMap::new();
    view(&mut session, &mut known, |v| v.contains_key("service/default/kubernetes")).await;
    let position = session.welcome.position.clone();
    session.link.close("gone for a moment");
    let mut admin = server.admin().await;
    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "new" },
        "spec": { "ports": [{ "port": 80 }] } });
    assert_eq!(admin.post("/api/v1/namespaces/default/services", service).await.0, 201);
    // What the node has seen by now is at least what a later, unresumed session begins with.
    let fresh = connect(&server, &identity, "node-1").await;
    let newer = fresh.welcome.position.clone();
    fresh.link.close("again");
    assert!(newer.as_ref().unwrap().revision >= position.unwrap().revision);
    let hello = Hello { node: "node-1".into(), resume: newer, ..Hello::default() };
    let resumed = session::connect(server.link, &identity, hello).await.unwrap();
    assert!(resumed.welcome.resumed);
}

#[tokio::test]
async fn what_a_node_says_beyond_its_own_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let identity = join(&server, "node-1").await;
    let hello = Hello { node: "node-1".into(), node_json: "[1]".into(), ..Hello::default() };
    let refused = session::connect(server.link, &identity, hello).await.unwrap_err();
    assert!(refused.to_string().contains("cannot be registered"), "{refused}");
    let mut session = connect(&server, &identity, "node-1").await;
    let pod = running_pod(&server, &mut session).await;
    assert_eq!(pod["status"]["podIP"], "10.244.0.5");
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let told = |json: Value| {
        status_frame::Frame::Pod(PodStatus {
            namespace: "default".into(),
            name: "web".into(),
            uid: uid.to_owned(),
            json: json.to_string().into(),
            gone: false,
        })
    };
    report(&mut session, status_frame::Frame::Node("{\"conditions\":[1]}".into())).await;
    report(&mut session, told(json!({ "conditions": [true] }))).await;
    let foreign = json!({ "phase": "Running", "reason": "Told", "podIP": "10.244.7.5",
        "podIPs": [{ "ip": "10.244.7.5" }, { "ip": "10.244.0.6" }] });
    report(&mut session, told(foreign)).await;
    let mut admin = server.admin().await;
    let now = admin.until(POD, |_, v| v["status"]["reason"] == "Told").await;
    assert_eq!(
        (&now["status"]["podIP"], &now["status"]["podIPs"]),
        (&Value::Null, &json!([{ "ip": "10.244.0.6" }]))
    );
}

#[tokio::test]
async fn who_has_no_good_token_stays_outside() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let key = key_and_csr("node-1").unwrap();
    let good = token(&server, "1h");
    let unknown = Token { secret: [0; 16], ..good.clone() };
    let refused = session::join(server.link, &unknown, "node-1", &key.csr_pem).await.unwrap_err();
    assert!(refused.to_string().contains("not known"), "{refused}");
    let short = token(&server, "1s");
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let refused = session::join(server.link, &short, "node-1", &key.csr_pem).await.unwrap_err();
    assert!(refused.to_string().contains("expired"), "{refused}");
    let foreign = Token { ca_sha256: [0; 32], ..good.clone() };
    assert!(session::join(server.link, &foreign, "node-1", &key.csr_pem).await.is_err());
    assert!(session::join(server.link, &good, "node 1", &key.csr_pem).await.is_err());
    // A node's certificate is no admin's.
    let mut admin = server.admin().await;
    let answer = session::join(server.link, &good, "node-1", &key.csr_pem).await.unwrap();
    use rustls_pki_types::pem::PemObject;
    let certificate =
        rustls_pki_types::CertificateDer::from_pem_slice(answer.certificate_pem.as_bytes()).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::from_pem_slice(key.key_pem.as_bytes()).unwrap();
    let mut node = server.client(Some((certificate, key)), None).await;
    assert_eq!(node.get("/api/v1/secrets").await.0, 403);
    assert_eq!(node.get("/api/v1/nodes/node-2").await.0, 403);
    assert_eq!(admin.get("/api/v1/nodes/node-1").await.0, 404, "joined, not yet connected");
}
