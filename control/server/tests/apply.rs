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

/// A write with these headers beside the type of its body.
async fn send(
    client: &mut Client,
    method: Method,
    path: &str,
    agent: Option<&str>,
    body: &Value,
) -> (u16, Value) {
    let type_ = if method == Method::PATCH { JSON_PATCH } else { "application/json" };
    let mut headers = vec![("content-type", type_)];
    headers.extend(agent.map(|agent| ("user-agent", agent)));
    let response = client.open(method, path, &headers, body.to_string().into_bytes()).await;
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    (code, serde_json::from_slice(&bytes).expect("JSON"))
}

#[tokio::test]
async fn managers_that_a_new_object_names_keep_what_it_has_not() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let entry = |manager: &str, fields: Value| {
        json!({ "manager": manager, "operation": "Apply", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": { "f:data": fields } })
    };
    let made = |name: &str, manager: &str| {
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": { "a": "1" }, "metadata": { "name": name,
            "managedFields": [entry(manager, json!({ "f:a": {}, "f:b": {} }))] } })
    };
    let path = "/api/v1/namespaces/default/configmaps";
    let (code, map) = admin.post(&format!("{path}?fieldManager=maker"), made("m", "other")).await;
    assert_eq!(code, 201, "{map}");
    assert_eq!(map["metadata"]["managedFields"][0], entry("other", json!({ "f:b": {} })));
    let own = &map["metadata"]["managedFields"][1];
    assert_eq!((&own["manager"], &own["fieldsV1"]["f:data"]["f:a"]), (&json!("maker"), &json!({})), "{map}");
    let (code, refused) = admin.post(path, made("n", "a\u{1}b")).await;
    assert_eq!((code, &refused["reason"]), (422, &json!("Invalid")), "{refused}");
}

#[tokio::test]
async fn a_client_is_never_the_server_itself() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    for (name, agent, manager) in [
        ("a", None, "unknown"),
        ("b", Some(""), "unknown"),
        ("c", Some("/1"), "unknown"),
        ("d", Some("x/1"), "x"),
    ] {
        let (code, made) = send(&mut admin, Method::POST, MAPS, agent, &map(name, &json!({"k": "1"}))).await;
        assert_eq!(
            (code, &made["metadata"]["managedFields"][0]["manager"]),
            (201, &json!(manager)),
            "{made}"
        );
        // And what it changes is noted.
        let path = format!("{MAPS}/{name}");
        let change = json!([{"op": "add", "path": "/data/l", "value": "2"}]);
        let (code, new) = send(&mut admin, Method::PATCH, &path, agent, &change).await;
        let owned = &new["metadata"]["managedFields"][0]["fieldsV1"]["f:data"];
        assert_eq!((code, owned), (200, &json!({"f:k": {}, "f:l": {}})), "{new}");
        let forged =
            json!([{"op": "replace", "path": "/metadata/managedFields/0/manager", "value": "\u{1}"}]);
        let (code, refused) = send(&mut admin, Method::PATCH, &path, agent, &forged).await;
        assert_eq!((code, &refused["reason"]), (422, &json!("Invalid")), "{refused}");
    }
    // A name that cannot be is refused before anything is written.
    let long = "m".repeat(129);
    for manager in ["%01", &long] {
        for (method, path, options) in [
            (Method::POST, MAPS.to_owned(), "CreateOptions"),
            (Method::PUT, format!("{MAPS}/a"), "UpdateOptions"),
            (Method::PATCH, format!("{MAPS}/a"), "PatchOptions"),
        ] {
            let path = format!("{path}?fieldManager={manager}");
            let (code, refused) = send(&mut admin, method, &path, None, &map("a", &json!({}))).await;
            assert_eq!((code, &refused["details"]["kind"]), (422, &json!(options)), "{refused}");
        }
    }
}

#[tokio::test]
async fn an_object_and_its_status_are_applied_apart() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let path = "/apis/apps/v1/namespaces/default/deployments/d";
    let config = |replicas: i64, status: &Value| {
        let containers = json!([{ "name": "c", "image": "i" }]);
        json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" }, "status": status,
            "spec": { "replicas": replicas, "selector": { "matchLabels": { "a": "b" } }, "template": {
                "metadata": { "labels": { "a": "b" } }, "spec": { "containers": containers } } } })
    };
    let status = json!({ "collisionCount": 7 });
    let (code, made) = patch(&mut admin, &format!("{path}?fieldManager=m"), APPLY, &config(0, &status)).await;
    assert_eq!(code, 201, "{made}");
    let owned_by = |object: &Value, name: &str| {
        let entries = object["metadata"]["managedFields"].as_array().unwrap();
        entries.iter().find(|e| e["manager"] == name).map_or(Value::Null, |e| e["fieldsV1"].clone())
    };
    assert!(owned_by(&made, "m").get("f:status").is_none(), "{made}");
    let (code, told) =
        patch(&mut admin, &format!("{path}/status?fieldManager=n"), APPLY, &config(9, &status)).await;
    assert_eq!((code, &told["status"]["collisionCount"]), (200, &json!(7)), "{told}");
    assert_eq!(told["spec"]["replicas"], 0);
    assert_eq!(owned_by(&told, "n"), json!({ "f:status": { "f:collisionCount": {} } }));
    // The object's own applier neither conflicts with the status nor takes it away.
    let (code, again) =
        patch(&mut admin, &format!("{path}?fieldManager=m"), APPLY, &config(0, &json!({}))).await;
    assert_eq!((code, &again["status"]["collisionCount"]), (200, &json!(7)), "{again}");
}

#[tokio::test]
async fn a_configuration_of_an_object_that_is_gone_makes_none() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let path = format!("{MAPS}/a?fieldManager=m");
    let mut config = map("a", &json!({"k": "1"}));
    let (_, made) = patch(&mut admin, &path, APPLY, &config).await;
    config["metadata"]["uid"] = made["metadata"]["uid"].clone();
    assert_eq!(patch(&mut admin, &path, APPLY, &config).await.0, 200);
    assert_eq!(admin.call(Method::DELETE, &format!("{MAPS}/a"), None).await.0, 200);
    let (code, refused) = patch(&mut admin, &path, APPLY, &config).await;
    assert_eq!((code, &refused["reason"]), (409, &json!("Conflict")), "{refused}");
    assert_eq!(admin.get(&format!("{MAPS}/a")).await.0, 404);
}

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn deployment(spec: &Value) -> Value {
    let mut spec = spec.clone();
    spec["replicas"] = 0.into();
    spec["selector"] = json!({ "matchLabels": { "app": "d" } });
    spec["template"] = json!({ "metadata": { "labels": { "app": "d" } },
        "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" }, "spec": spec })
}

#[tokio::test]
async fn a_zero_that_is_applied_is_owned_and_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let path = format!("{DEPLOYMENTS}/d?fieldManager=");
    let (code, made) =
        patch(&mut admin, &format!("{path}a"), APPLY, &deployment(&json!({ "paused": true }))).await;
    assert_eq!((code, &made["spec"]["paused"]), (201, &json!(true)), "{made}");
    // Another's "not paused" is a word against the first one's.
    let running = deployment(&json!({ "paused": false }));
    let (code, refused) = patch(&mut admin, &format!("{path}b"), APPLY, &running).await;
    assert_eq!(code, 409, "{refused}");
    assert!(refused["message"].as_str().unwrap().contains(".spec.paused"), "{refused}");
    let (code, new) = patch(&mut admin, &format!("{path}b&force=true"), APPLY, &running).await;
    assert_eq!(code, 200, "{new}");
    assert!(new["spec"].get("paused").is_none(), "{new}");
    let owners = new["metadata"]["managedFields"].as_array().unwrap();
    let owner = owners.iter().find(|o| !o["fieldsV1"]["f:spec"]["f:paused"].is_null());
    assert_eq!(owner.unwrap()["manager"], "b", "{new}");
}

/// Clients in Go add the structs that are no pointers to what they read, and zeros, when they write it back.
#[tokio::test]
async fn what_a_go_client_writes_back_unchanged_is_no_change() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let (code, made) = admin.post(DEPLOYMENTS, deployment(&json!({}))).await;
    assert_eq!(code, 201, "{made}");
    let mut back = made.clone();
    back["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    back["spec"]["paused"] = false.into();
    back["spec"]["template"]["spec"]["hostNetwork"] = false.into();
    back["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({});
    back["spec"]["template"]["metadata"]["creationTimestamp"] = Value::Null;
    let (code, new) = admin.call(Method::PUT, &format!("{DEPLOYMENTS}/d"), Some(back)).await;
    assert_eq!(code, 200, "{new}");
    assert_eq!(new["spec"], made["spec"]);
    assert_eq!(new["metadata"]["generation"], made["metadata"]["generation"]);
}
