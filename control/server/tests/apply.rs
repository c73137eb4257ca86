//! Patches and server-side apply over the API of a real server: what a write owns, and what it may not do.

#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "support/server.rs"]
mod server;

use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use server::{Client, Server};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const APPLY: &str = "application/apply-patch+yaml";
const JSON_PATCH: &str = "application/json-patch+json";

fn map(name: &str, data: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": data })
}

async fn patch(client: &mut Client, path: &str, type_: &str, body: &Value) -> (u16, Value) {
    let body = body.to_string().into_bytes();
    let response = client.open(Method::PATCH, path, &[("content-type", type_)], body).await;
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    (code, serde_json::from_slice(&bytes).expect("JSON"))
}

#[tokio::test]
async fn a_json_patch_hands_ownership_over() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let path = format!("{MAPS}/a");
    let (_, made) =
        admin.post(&format!("{MAPS}?fieldManager=kubectl-create"), map("a", &json!({"k": "1"}))).await;
    let mut entry = made["metadata"]["managedFields"][0].clone();
    entry["manager"] = "kubectl".into();
    entry["operation"] = "Apply".into();
    let handed = json!([{"op": "replace", "path": "/metadata/managedFields", "value": [entry]}]);
    let (code, new) = patch(&mut admin, &path, JSON_PATCH, &handed).await;
    assert_eq!(code, 200, "{new}");
    assert_eq!(new["metadata"]["managedFields"], json!([entry]));
    let (code, new) =
        patch(&mut admin, &format!("{path}?fieldManager=kubectl"), APPLY, &map("a", &json!({"l": "2"})))
            .await;
    assert_eq!((code, &new["data"]), (200, &json!({"l": "2"})), "{new}");
    let reset = json!([{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}]);
    let (code, new) = patch(&mut admin, &path, JSON_PATCH, &reset).await;
    assert_eq!(code, 200, "{new}");
    assert!(new["metadata"].get("managedFields").is_none(), "{new}");
}

#[tokio::test]
async fn applying_the_same_again_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let path = format!("{MAPS}/a?fieldManager=m");
    let config = map("a", &json!({"k": "1"}));
    let (code, made) = patch(&mut admin, &path, APPLY, &config).await;
    assert_eq!(code, 201, "{made}");
    // An entry's time has a resolution of a second.
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    let (code, again) = patch(&mut admin, &path, APPLY, &config).await;
    assert_eq!((code, &again), (200, &made));
    let (_, stored) = admin.get(&format!("{MAPS}/a")).await;
    assert_eq!(stored["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    // The same field, owned by one more, is something to write.
    let (code, more) = patch(&mut admin, &format!("{MAPS}/a?fieldManager=n"), APPLY, &config).await;
    assert_eq!((code, more["metadata"]["managedFields"].as_array().unwrap().len()), (200, 2));
}

#[tokio::test]
async fn of_many_applies_at_once_one_creates_and_all_count() {
    const APPLIERS: usize = 12;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut clients = Vec::new();
    for _ in 0..APPLIERS {
        clients.push(server.admin().await);
    }
    let start = std::sync::Arc::new(tokio::sync::Barrier::new(APPLIERS));
    let appliers: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(at, mut client)| {
            let start = start.clone();
            tokio::spawn(async move {
                start.wait().await;
                let path = format!("{MAPS}/race?fieldManager=m{at}");
                let key = format!("k{at}");
                patch(&mut client, &path, APPLY, &map("race", &json!({ key: "1" }))).await
            })
        })
        .collect();
    let mut codes = Vec::new();
    for applier in appliers {
        let (code, answer) = applier.await.unwrap();
        assert!(code < 300, "{answer}");
        codes.push(code);
    }
    assert_eq!(codes.iter().filter(|c| **c == 201).count(), 1, "{codes:?}");
    let (_, made) = server.admin().await.get(&format!("{MAPS}/race")).await;
    assert_eq!(made["data"].as_object().unwrap().len(), APPLIERS);
}

#[tokio::test]
async fn a_configuration_speaks_of_the_object_that_the_url_names() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let path = format!("{MAPS}/a?fieldManager=m");
    let good = map("a", &json!({"k": "1"}));
    let with = |pointer: &str, value: Value| {
        let mut config = good.clone();
        *config.pointer_mut(pointer).unwrap() = value;
        config
    };
    let elsewhere = json!({ "name": "a", "namespace": "kube-system" });
    let refused = [
        (with("/kind", json!("Secret")), "invalid object type: /v1, Kind=Secret"),
        (with("/apiVersion", json!("apps/v1")), "invalid object type: apps/v1, Kind=ConfigMap"),
        (json!({ "data": {} }), "invalid object type: /, Kind="),
        (
            with("/metadata/name", json!("b")),
            "the name of the object (b) does not match the name on the URL (a)",
        ),
        (
            with("/metadata", elsewhere),
            "the namespace of the object (kube-system) does not match the namespace on the request (default)",
        ),
    ];
    // Before the object is there, and after.
    for expected in [201, 200] {
        for (config, message) in &refused {
            let (code, status) = patch(&mut admin, &path, APPLY, config).await;
            assert_eq!((code, status["message"].as_str()), (400, Some(*message)), "{status}");
        }
        assert_eq!(patch(&mut admin, &path, APPLY, &good).await.0, expected);
    }
    // A name that is left out is the URL's.
    assert_eq!(patch(&mut admin, &path, APPLY, &with("/metadata", json!({}))).await.0, 200);
}
