//! Answers in protobuf: whatever is answered in JSON says the same there, to the last field.

#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "support/server.rs"]
mod server;

use http::Method;
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};
use server::{Client, Server};
use weft_api::proto::{self, MEDIA_TYPE};
use weft_api::schema::{self, Definition};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const METADATA: &str =
    "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;q=0.5";

/// An answer's code, type and bytes.
async fn ask(
    admin: &mut Client,
    method: Method,
    path: &str,
    accept: &str,
    body: &Value,
) -> (u16, String, Vec<u8>) {
    let headers = [("accept", accept), ("content-type", "application/json")];
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let response = admin.open(method, path, &headers, body).await;
    let code = response.status().as_u16();
    let type_ = response.headers()["content-type"].to_str().unwrap().to_owned();
    (code, type_, response.into_body().collect().await.unwrap().to_bytes().to_vec())
}

/// An object's body by the type that it names.
fn object(bytes: &[u8]) -> Value {
    let (api_version, kind) = proto::type_meta(bytes).unwrap();
    let definition = schema::by_api_version(&api_version, &kind).expect("a known type");
    proto::decode(bytes, definition).unwrap()
}

async fn get(admin: &mut Client, path: &str) -> Value {
    let (code, type_, bytes) = ask(admin, Method::GET, path, MEDIA_TYPE, &Value::Null).await;
    assert_eq!((code, type_.as_str()), (200, MEDIA_TYPE), "{path}");
    object(&bytes)
}

fn varint(bytes: &mut &[u8]) -> usize {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return value;
        }
    }
}

/// The fields of a message of which all have a length.
fn fields(mut bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        assert_eq!(key & 7, 2, "a field with a length");
        let length = varint(&mut bytes);
        let (field, rest) = bytes.split_at(length);
        out.push((key >> 3, field));
        bytes = rest;
    }
    out
}

/// A message as an object of that type.
fn message(bytes: &[u8], definition: &Definition) -> Map<String, Value> {
    let mut head = proto::list_head(("", ""), &json!({}), 0).unwrap();
    // The names are empty and stand in ten bytes; behind them comes the message.
    head.truncate(10);
    head.push(18);
    let mut length = bytes.len();
    while length >= 0x80 {
        head.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    head.push(length as u8);
    head.extend_from_slice(bytes);
    let mut object = proto::decode(&head, definition).unwrap();
    let object = object.as_object_mut().unwrap();
    object.retain(|name, value| !(matches!(name.as_str(), "apiVersion" | "kind") && value == ""));
    object.clone()
}

/// A list's body as its JSON would be.
fn list(bytes: &[u8], item: (&str, &str)) -> Value {
    let (api_version, kind) = proto::type_meta(bytes).unwrap();
    let definition = schema::by_api_version(item.0, item.1).unwrap();
    let meta = schema::definition(schema::LIST_META).unwrap();
    let unknown = fields(bytes.strip_prefix(proto::MAGIC).expect("the magic"));
    let raw = unknown.iter().find(|(number, _)| *number == 2).unwrap().1;
    let mut out = json!({"apiVersion": api_version, "kind": kind, "items": []});
    for (number, field) in fields(raw) {
        match number {
            1 => out["metadata"] = message(field, meta).into(),
            2 => out["items"].as_array_mut().unwrap().push(message(field, definition).into()),
            other => panic!("field {other} of a list"),
        }
    }
    out
}

/// A JSON list whose items have no names of their own, as in protobuf.
fn without_names(mut list: Value) -> Value {
    for item in list["items"].as_array_mut().unwrap() {
        item.as_object_mut().unwrap().retain(|name, _| name != "apiVersion" && name != "kind");
    }
    list
}

fn map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"a": ""}}, "data": {"k": value}})
}

/// An object that the server's loops write too: in JSON, and in protobuf, of one revision.
async fn both(admin: &mut Client, path: &str) -> (Value, Value) {
    for _ in 0..100 {
        let before = admin.get(path).await;
        if before.0 == 200 {
            let told = get(admin, path).await;
            if admin.get(path).await == before {
                return (before.1, told);
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{path} is not there, or changes all the time");
}

#[tokio::test]
async fn objects_and_refusals_say_what_they_say_in_json() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let (code, type_, made) = ask(&mut admin, Method::POST, MAPS, MEDIA_TYPE, &map("m", "v")).await;
    assert_eq!((code, type_.as_str()), (201, MEDIA_TYPE));
    let path = format!("{MAPS}/m");
    let (_, shown) = admin.get(&path).await;
    assert_eq!(object(&made), shown);
    assert_eq!(get(&mut admin, &path).await, shown);
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": 0,
        "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [
            {"name": "c", "image": "i", "resources": {"limits": {"cpu": "1500m", "memory": "1Gi"}},
             "livenessProbe": {"httpGet": {"path": "/", "port": "web"}}, "ports": [{"name": "web", "containerPort": 80}]}]}}}});
    assert_eq!(admin.post("/apis/apps/v1/namespaces/default/deployments", deployment).await.0, 201);
    // What the server itself has made too.
    for path in [
        "/apis/apps/v1/namespaces/default/deployments/d",
        "/api/v1/namespaces/default",
        "/api/v1/namespaces/default/services/kubernetes",
        "/apis/apps/v1/namespaces/default/deployments/d/scale",
    ] {
        let (shown, told) = both(&mut admin, path).await;
        assert_eq!(told, shown, "{path}");
    }
    // Refusals, in the encoding that is taken; in JSON if nothing that is taken is served.
    let (_, told) = admin.get(&format!("{MAPS}/none")).await;
    let missing = ask(&mut admin, Method::GET, &format!("{MAPS}/none"), MEDIA_TYPE, &Value::Null).await;
    assert_eq!((missing.0, missing.1.as_str()), (404, MEDIA_TYPE));
    assert_eq!(object(&missing.2), told);
    let (code, type_, bytes) = ask(&mut admin, Method::GET, MAPS, "text/html", &Value::Null).await;
    assert_eq!((code, type_.as_str()), (406, "application/json"));
    let told = serde_json::from_slice::<Value>(&bytes).unwrap();
    let message =
        "only the following media types are accepted: application/json, application/vnd.kubernetes.protobuf";
    assert_eq!((&told["reason"], &told["message"]), (&json!("NotAcceptable"), &json!(message)));
    let table = "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io";
    assert_eq!(ask(&mut admin, Method::GET, MAPS, table, &Value::Null).await.0, 406);
    // By order and weights.
    for (accept, wanted) in [
        ("application/vnd.kubernetes.protobuf,application/json", MEDIA_TYPE),
        ("application/json,application/vnd.kubernetes.protobuf", "application/json"),
        ("application/json;q=0.8,application/vnd.kubernetes.protobuf;q=0.9", MEDIA_TYPE),
        ("*/*", "application/json"),
    ] {
        assert_eq!(ask(&mut admin, Method::GET, &path, accept, &Value::Null).await.1, wanted, "{accept}");
    }
    // Metadata alone.
    let (_, type_, bytes) = ask(&mut admin, Method::GET, &path, METADATA, &Value::Null).await;
    let alone = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": shown["metadata"]});
    assert_eq!((type_.as_str(), object(&bytes)), (MEDIA_TYPE, alone));
    // Changes and ends.
    let (_, _, bytes) = ask(&mut admin, Method::PUT, &path, MEDIA_TYPE, &map("m", "w")).await;
    assert_eq!(object(&bytes)["data"]["k"], "w");
    let (code, type_, bytes) = ask(&mut admin, Method::DELETE, &path, MEDIA_TYPE, &Value::Null).await;
    assert_eq!((code, type_.as_str()), (200, MEDIA_TYPE));
    assert_eq!(
        (&object(&bytes)["status"], &object(&bytes)["details"]["name"]),
        (&json!("Success"), &json!("m"))
    );
}

#[tokio::test]
async fn questions_and_tokens_are_answered_in_protobuf() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let (code, type_, bytes) = ask(&mut admin, Method::POST, path, MEDIA_TYPE, &review).await;
    assert_eq!((code, type_.as_str()), (201, MEDIA_TYPE));
    assert_eq!(object(&bytes)["status"], json!({"allowed": true}));
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": ["a"]}});
    let account = "/api/v1/namespaces/default/serviceaccounts/default";
    admin.until(account, |code, _| code == 200).await;
    let (code, type_, bytes) =
        ask(&mut admin, Method::POST, &format!("{account}/token"), MEDIA_TYPE, &request).await;
    assert_eq!((code, type_.as_str()), (201, MEDIA_TYPE));
    let token = object(&bytes);
    assert!(token["status"]["token"].as_str().unwrap().starts_with("ey"), "{token}");
    assert!(token["status"]["expirationTimestamp"].is_string(), "{token}");
}

#[tokio::test]
async fn lists_say_what_they_say_in_json_long_ones_too() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    // Which is in every namespace, made by a loop.
    admin.until(&format!("{MAPS}/kube-root-ca.crt"), |code, _| code == 200).await;
    for name in ["a", "b", "c"] {
        assert_eq!(admin.post(MAPS, map(name, name)).await.0, 201);
    }
    let mut same = async |path: &str, item: (&str, &str)| {
        // A list tells the newest revision, and loops write something else meanwhile.
        for _ in 0..100 {
            let before = admin.get(path).await;
            let (code, type_, bytes) = ask(&mut admin, Method::GET, path, MEDIA_TYPE, &Value::Null).await;
            assert_eq!((code, type_.as_str()), (200, MEDIA_TYPE), "{path}");
            if admin.get(path).await == before {
                let read = list(&bytes, item);
                assert_eq!(read, without_names(before.1), "{path}");
                return read;
            }
        }
        panic!("{path} changes all the time");
    };
    let page = same(&format!("{MAPS}?limit=2"), ("v1", "ConfigMap")).await;
    assert_eq!(
        (page["kind"].as_str(), &page["metadata"]["remainingItemCount"]),
        (Some("ConfigMapList"), &json!(2))
    );
    same("/api/v1/namespaces", ("v1", "Namespace")).await;
    same("/apis/coordination.k8s.io/v1/leases", ("coordination.k8s.io/v1", "Lease")).await;
    let none = same("/api/v1/pods", ("v1", "Pod")).await;
    assert_eq!(none["items"], json!([]));
    let (_, _, bytes) = ask(&mut admin, Method::GET, MAPS, METADATA, &Value::Null).await;
    let alone = list(&bytes, ("meta.k8s.io/v1", "PartialObjectMetadata"));
    assert_eq!(
        (alone["kind"].as_str(), alone["apiVersion"].as_str()),
        (Some("PartialObjectMetadataList"), Some("meta.k8s.io/v1"))
    );
    assert_eq!((&alone["items"][1]["metadata"]["name"], alone["items"][1].get("data")), (&json!("b"), None));
    // More than is kept between its measuring and its sending.
    for name in ["l1", "l2", "l3", "l4", "l5", "l6"] {
        assert_eq!(admin.post(MAPS, map(name, &name.repeat(450_000))).await.0, 201);
    }
    let (_, shown) = admin.get(MAPS).await;
    let (_, _, bytes) = ask(&mut admin, Method::GET, MAPS, MEDIA_TYPE, &Value::Null).await;
    assert!(bytes.len() > 5 << 20);
    // Not by `assert_eq`, which would print them.
    assert!(list(&bytes, ("v1", "ConfigMap"))["items"] == without_names(shown)["items"], "a long list");
    let (code, _, bytes) = ask(&mut admin, Method::DELETE, MAPS, MEDIA_TYPE, &Value::Null).await;
    let deleted = list(&bytes, ("v1", "ConfigMap"));
    assert_eq!((code, deleted["items"].as_array().unwrap().len()), (200, 10));
}

/// The events of a watch that ends by itself, in either encoding. How far a bookmark is depends on when it was asked for.
async fn events(admin: &mut Client, path: &str, accept: &str) -> Vec<(String, Value)> {
    let mut events = all_events(admin, path, accept).await;
    for (_, bookmark) in events.iter_mut().filter(|(type_, _)| type_ == "BOOKMARK") {
        let version = bookmark["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        assert!(version.is_some_and(|version| version.as_str().unwrap().parse::<u64>().is_ok()));
    }
    events
}

async fn all_events(admin: &mut Client, path: &str, accept: &str) -> Vec<(String, Value)> {
    let (code, type_, bytes) = ask(admin, Method::GET, path, accept, &Value::Null).await;
    assert_eq!(code, 200);
    if type_ == "application/json" {
        let lines = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        return lines
            .map(|line| serde_json::from_slice::<Value>(line).unwrap())
            .map(|mut event| (event["type"].as_str().unwrap().to_owned(), event["object"].take()))
            .collect();
    }
    assert_eq!(type_, "application/vnd.kubernetes.protobuf;stream=watch");
    let (mut rest, mut out) = (bytes.as_slice(), Vec::new());
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (frame, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        let event = fields(frame);
        let of =
            |event: &[(usize, &[u8])], number| event.iter().find(|(n, _)| *n == number).unwrap().1.to_vec();
        let raw = of(&event, 2);
        out.push((String::from_utf8(of(&event, 1)).unwrap(), object(&of(&fields(&raw), 1))));
        rest = after;
    }
    assert!(rest.is_empty());
    out
}

/// An object as protobuf has it: without values that are null.
fn without_nulls(mut value: Value) -> Value {
    if let Some(meta) = value["metadata"].as_object_mut() {
        meta.retain(|_, value| !value.is_null());
    }
    value
}

#[tokio::test]
async fn watches_say_what_they_say_in_json() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let (_, made) = admin.post(MAPS, map("w", "1")).await;
    let since = made["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    admin.call(Method::PUT, &format!("{MAPS}/w"), Some(map("w", "2"))).await;
    admin.post(MAPS, map("x", "1")).await;
    admin.call(Method::DELETE, &format!("{MAPS}/w"), None).await;
    let told = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let stream = "application/vnd.kubernetes.protobuf;stream=watch";
    for (query, wanted) in [
        (format!("resourceVersion={since}"), ["MODIFIED", "ADDED", "DELETED"].as_slice()),
        (told.to_owned(), &["ADDED", "BOOKMARK"]),
    ] {
        // A loop makes one of its own, sooner or later.
        let others = "fieldSelector=metadata.name!=kube-root-ca.crt";
        let path = format!("{MAPS}?watch=1&timeoutSeconds=1&{query}&{others}");
        let shown = events(&mut admin, &path, "application/json").await;
        let types: Vec<&str> = shown.iter().map(|(type_, _)| type_.as_str()).collect();
        assert_eq!(types, wanted, "{query}");
        let shown: Vec<_> = shown.into_iter().map(|(type_, value)| (type_, without_nulls(value))).collect();
        assert_eq!(events(&mut admin, &path, MEDIA_TYPE).await, shown, "{query}");
        assert_eq!(events(&mut admin, &path, stream).await, shown, "{query}");
        let alone = events(&mut admin, &path, METADATA).await;
        for ((type_, value), (own_type, own)) in shown.iter().zip(&alone) {
            assert_eq!(
                (type_, &value["metadata"], &own["kind"]),
                (own_type, &own["metadata"], &json!("PartialObjectMetadata"))
            );
        }
        assert_eq!(alone.len(), shown.len());
    }
}

/// For kubectl and helm of old, which ask by a type with an `@` and get one without.
#[tokio::test]
async fn the_second_openapi_has_all_types_in_both_encodings() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let (_, shown) = admin.get("/openapi/v2").await;
    assert_eq!(
        (&shown["swagger"], shown["definitions"]["io.k8s.api.core.v1.Pod"].is_object()),
        (&json!("2.0"), true)
    );
    let accept = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let (code, type_, bytes) = ask(&mut admin, Method::GET, "/openapi/v2", accept, &Value::Null).await;
    assert_eq!((code, type_.as_str()), (200, "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"));
    // 8: paths, 9: definitions; as many as in JSON.
    let document = fields(&bytes);
    for (number, of) in [(8, "paths"), (9, "definitions")] {
        let part = document.iter().find(|(found, _)| *found == number).unwrap().1;
        assert_eq!(fields(part).len(), shown[of].as_object().unwrap().len(), "{of}");
    }
}
