//! metrics.k8s.io of a real server, with nodes whose agents' end is played: what they tell, in every form, and what becomes
//! of those that tell nothing.

#[path = "support/node.rs"]
mod node;
#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "support/server.rs"]
mod server;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use node::{connect, join, ready};
use serde_json::{Value, json};
use server::{Client, Server};
use weft_api::{proto, schema};
use weft_link::session::OpenAcceptor;

const METRICS: &str = "/apis/metrics.k8s.io/v1beta1";
const PODS: &str = "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// An agent that tells this, and how often it was asked; one that is told nothing never answers.
async fn serve_agent(mut opens: OpenAcceptor, told: Option<Value>, asked: Arc<AtomicU32>) {
    while let Some(attempt) = opens.next().await {
        let (told, asked) = (told.clone(), asked.clone());
        tokio::spawn(async move {
            let stream = attempt.accept().await.unwrap();
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let (told, asked) = (told.clone(), asked.clone());
                async move {
                    if request.uri().path() == "/agent/v1/usage" {
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                    match told {
                        Some(told) => {
                            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(told.to_string())))
                        }
                        None => std::future::pending().await,
                    }
                }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// Makes a Pod on a node; answers its UID.
async fn pod(admin: &mut Client, namespace: &str, name: &str, node: &str) -> String {
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "labels": { "app": name } },
        "spec": { "nodeName": node, "containers": [{ "name": "c", "image": "web:1" }] } });
    let (code, pod) = admin.post(&format!("/api/v1/namespaces/{namespace}/pods"), pod).await;
    assert_eq!(code, 201, "{pod}");
    pod["metadata"]["uid"].as_str().unwrap().to_owned()
}

fn usage(name: &str, uid: &str, nanocores: u64) -> Value {
    json!({ "namespace": "default", "name": name, "uid": uid, "timestamp": "2026-01-02T03:04:05.678Z",
        "windowMs": 10_250, "containers": [
            { "name": "c", "cpuNanocores": nanocores, "memoryBytes": 12_288 },
            { "name": "side", "cpuNanocores": 1_000, "memoryBytes": 1_048_576 }] })
}

/// The names in a list.
fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].as_str().unwrap()).collect()
}

/// An answer in another form.
async fn read(admin: &mut Client, path: &str, accept: &str) -> Bytes {
    let answer = admin.open(Method::GET, path, &[("accept", accept)], Vec::new()).await;
    assert_eq!(answer.status(), 200, "{path}");
    answer.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test]
async fn what_agents_measure_is_read_as_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let mut sessions = Vec::new();
    for name in ["node-1", "node-2"] {
        let identity = join(&server, name).await;
        let mut session = connect(&server, &identity, name).await;
        ready(&mut session).await;
        sessions.push(session);
    }
    let away = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "away" } });
    assert_eq!(admin.post("/api/v1/nodes", away).await.0, 201);
    let web = pod(&mut admin, "default", "web", "node-1").await;
    let other = pod(&mut admin, "kube-system", "other", "node-1").await;
    let new = pod(&mut admin, "default", "new", "node-1").await;
    let silent = pod(&mut admin, "default", "silent", "node-2").await;
    pod(&mut admin, "default", "gone", "away").await;
    // A node speaks for its own Pods alone, and for a Pod by its UID; `new` is not measured yet.
    let told = json!({
        "node": { "timestamp": "2026-01-02T03:04:05Z", "windowMs": 10_000, "cpuNanocores": 250_000_000,
            "memoryBytes": 3_221_225_472_u64 },
        "pods": [usage("web", &web, 123_456_789), usage("other", &other, 1), usage("silent", &silent, 5),
            usage("new", "another", 5)] });
    let asked = [(); 2].map(|()| Arc::new(AtomicU32::new(0)));
    let mut kept = Vec::new();
    for (session, (told, asked)) in sessions.into_iter().zip([Some(told), None].into_iter().zip(&asked)) {
        tokio::spawn(serve_agent(session.opens, told, asked.clone()));
        kept.push((session.state, session.status, session.requester, session.link));
    }
    assert!(new != "another" && asked.iter().all(|asked| asked.load(Ordering::Relaxed) == 0));

    // Lists: what is not known is left out.
    let (code, list) = admin.get(PODS).await;
    assert_eq!((code, &list["kind"], &list["metadata"]), (200, &json!("PodMetricsList"), &json!({})));
    assert_eq!(names(&list), ["web"]);
    let metrics = &list["items"][0];
    assert_eq!(metrics["metadata"]["labels"], json!({ "app": "web" }));
    assert!(metrics["metadata"]["creationTimestamp"].is_string() && metrics["metadata"].get("uid").is_none());
    assert_eq!(
        (&metrics["timestamp"], &metrics["window"]),
        (&json!("2026-01-02T03:04:05Z"), &json!("10.25s"))
    );
    let containers = json!([
        { "name": "c", "usage": { "cpu": "123456789n", "memory": "12Ki" } },
        { "name": "side", "usage": { "cpu": "1u", "memory": "1Mi" } }]);
    assert_eq!(metrics["containers"], containers);
    let (_, all) = admin.get(&format!("{METRICS}/pods")).await;
    assert_eq!(names(&all), ["web", "other"]);
    for (selector, wanted) in [
        ("labelSelector=app%3Dother", vec!["other"]),
        ("labelSelector=app!%3Dother", vec!["web"]),
        ("fieldSelector=metadata.name%3Dweb", vec!["web"]),
        ("fieldSelector=metadata.namespace%3Dkube-system", vec!["other"]),
    ] {
        let (_, list) = admin.get(&format!("{METRICS}/pods?{selector}")).await;
        assert_eq!(names(&list), wanted, "{selector}");
    }
    assert_eq!(admin.get(&format!("{PODS}?labelSelector=a%3D%3D%3D")).await.0, 400);
    assert_eq!(admin.get(&format!("{PODS}?fieldSelector=spec.nodeName%3Da")).await.0, 400);
    let (_, nodes) = admin.get(&format!("{METRICS}/nodes?labelSelector=a%3Db")).await;
    assert_eq!(names(&nodes), ["node-1"]);
    assert_eq!(nodes["items"][0]["usage"], json!({ "cpu": "250m", "memory": "3Gi" }));
    assert_eq!(nodes["items"][0]["metadata"]["labels"]["a"], "b");

    // One by its name, and why there is none.
    let (code, one) = admin.get(&format!("{PODS}/web")).await;
    assert_eq!((code, &one["containers"]), (200, &containers));
    for (path, message) in [
        ("namespaces/default/pods/nobody", "pods \"nobody\" not found"),
        (
            "namespaces/default/pods/new",
            "podmetrics.metrics.k8s.io \"default/new\" not found: it has not been",
        ),
        (
            "namespaces/default/pods/silent",
            "podmetrics.metrics.k8s.io \"default/silent\" not found: node \"node-2\" does",
        ),
        (
            "namespaces/default/pods/gone",
            "podmetrics.metrics.k8s.io \"default/gone\" not found: node \"away\" is not",
        ),
        ("nodes/nobody", "nodes \"nobody\" not found"),
        ("nodes/node-2", "nodemetrics.metrics.k8s.io \"node-2\" not found: node \"node-2\" does not answer"),
        ("nodes/away", "nodemetrics.metrics.k8s.io \"away\" not found: node \"away\" is not connected"),
    ] {
        let (code, status) = admin.get(&format!("{METRICS}/{path}")).await;
        assert_eq!((code, &status["reason"]), (404, &json!("NotFound")), "{path}");
        assert!(status["message"].as_str().unwrap().starts_with(message), "{path}: {status}");
    }

    // The other forms.
    let definition = schema::by_api_version("metrics.k8s.io/v1beta1", "PodMetrics").unwrap();
    let bytes = read(&mut admin, &format!("{PODS}/web"), proto::MEDIA_TYPE).await;
    let mut decoded = proto::decode(&bytes, definition).unwrap();
    decoded["metadata"]["creationTimestamp"] = one["metadata"]["creationTimestamp"].clone();
    assert_eq!(decoded, one);
    let bytes = read(&mut admin, PODS, proto::MEDIA_TYPE).await;
    assert_eq!(
        proto::type_meta(&bytes).unwrap(),
        ("metrics.k8s.io/v1beta1".to_owned(), "PodMetricsList".to_owned())
    );
    for (path, cells) in [
        (PODS.to_owned(), json!(["web", "123457789n", "1036Ki", "10.25s"])),
        (format!("{PODS}/web"), json!(["web", "123457789n", "1036Ki", "10.25s"])),
        (format!("{METRICS}/nodes"), json!(["node-1", "250m", "3Gi", "10s"])),
    ] {
        let table: Value = serde_json::from_slice(&read(&mut admin, &path, TABLE).await).unwrap();
        let columns: Vec<&str> = table["columnDefinitions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["name"].as_str().unwrap())
            .collect();
        assert_eq!((&table["kind"], columns), (&json!("Table"), vec!["Name", "cpu", "memory", "Window"]));
        assert_eq!(
            (table["rows"].as_array().unwrap().len(), &table["rows"][0]["cells"]),
            (1, &cells),
            "{path}"
        );
    }
    assert!(asked[0].load(Ordering::Relaxed) > 0);
}

#[tokio::test]
async fn metrics_are_read_and_nothing_else_by_who_may() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    for (method, path) in [
        (Method::POST, PODS.to_owned()),
        (Method::DELETE, PODS.to_owned()),
        (Method::PUT, format!("{PODS}/web")),
        (Method::PATCH, format!("{PODS}/web")),
        (Method::DELETE, format!("{METRICS}/nodes/node-1")),
        (Method::GET, format!("{METRICS}/nodes?watch=true")),
    ] {
        let (code, status) = admin.call(method.clone(), &path, Some(json!({}))).await;
        assert_eq!((code, &status["reason"]), (405, &json!("MethodNotAllowed")), "{method} {path}");
    }
    assert_eq!(admin.get(&format!("{PODS}/web/status")).await.0, 404);
    let (code, status) = server.client(None, None).await.get(&format!("{METRICS}/nodes")).await;
    assert_eq!(code, 403);
    let message = status["message"].as_str().unwrap();
    assert!(message.contains("cannot list resource \"nodes\" in API group \"metrics.k8s.io\""), "{message}");

    let (code, resources) = admin.get(METRICS).await;
    assert_eq!((code, &resources["groupVersion"]), (200, &json!("metrics.k8s.io/v1beta1")));
    let served = json!([
        { "name": "nodes", "singularName": "", "namespaced": false, "kind": "NodeMetrics", "verbs": ["get", "list"] },
        { "name": "pods", "singularName": "", "namespaced": true, "kind": "PodMetrics", "verbs": ["get", "list"] }]);
    assert_eq!(resources["resources"], served);
    let (code, list) = admin.get(&format!("{METRICS}/pods")).await;
    assert_eq!((code, &list["items"]), (200, &json!([])));
}
