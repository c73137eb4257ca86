//! Clients that send too much, too deep or too slowly: each is answered with what it did, and the server serves on.

#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "support/server.rs"]
mod server;

use http::Method;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use server::{Client, Server};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// As long as a body may be, bytes.
const BODY_BYTES_MAX: usize = 3 << 20;
/// More than any reader of anything goes down.
const DEEP: usize = 100_000;

async fn send(
    client: &mut Client,
    method: Method,
    path: &str,
    content_type: &str,
    body: Vec<u8>,
) -> (u16, Value) {
    let response = client.open(method, path, &[("content-type", content_type)], body).await;
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

/// Whether the server still does what it is there for, over the same connection.
async fn serves(client: &mut Client) {
    assert_eq!(client.get("/readyz").await.0, 200);
    let (code, list) = client.get(MAPS).await;
    assert_eq!((code, &list["kind"]), (200, &json!("ConfigMapList")));
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_413_whatever_it_is_and_the_last_byte_of_the_limit_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let path = format!("{MAPS}/large");
    assert_eq!(admin.post(MAPS, json!({ "metadata": { "name": "large" } })).await.0, 201);
    let kinds = [
        (Method::POST, MAPS, "application/json"),
        (Method::POST, MAPS, "application/vnd.kubernetes.protobuf"),
        (Method::PUT, &path, "application/json"),
        (Method::PATCH, &path, "application/json-patch+json"),
        (Method::PATCH, &path, "application/merge-patch+json"),
        (Method::PATCH, &path, "application/strategic-merge-patch+json"),
        (Method::PATCH, &format!("{path}?fieldManager=me"), "application/apply-patch+yaml"),
        (Method::DELETE, &path, "application/json"),
    ];
    for (method, path, content_type) in kinds {
        // What is left of it is read, or the client would not hear the answer.
        for bytes in [BODY_BYTES_MAX + 1, 2 * BODY_BYTES_MAX] {
            let (code, said) = send(&mut admin, method.clone(), path, content_type, vec![b' '; bytes]).await;
            assert_eq!(code, 413, "{method} {content_type} {bytes}: {said}");
            assert_eq!(said["reason"], "RequestEntityTooLarge", "{said}");
        }
        let (code, said) =
            send(&mut admin, method.clone(), path, content_type, vec![b' '; BODY_BYTES_MAX]).await;
        assert_ne!(code, 413, "{method} {content_type}: {said}");
        assert!(code < 500, "{method} {content_type}: {said}");
    }
    serves(&mut admin).await;
}

#[tokio::test]
async fn depth_bombs_are_400_in_json_protobuf_and_yaml() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let path = format!("{MAPS}/deep");
    assert_eq!(admin.post(MAPS, json!({ "metadata": { "name": "deep" } })).await.0, 201);
    let (arrays, objects) = ("[".repeat(DEEP), r#"{"a":"#.repeat(DEEP));
    let closed = format!("{}{}", "[".repeat(DEEP), "]".repeat(DEEP));
    let within = format!(r#"{{"metadata":{{"name":"x","annotations":{objects}"#);
    let json = [arrays.clone(), objects.clone(), closed.clone(), within];
    for (number, bomb) in json.iter().enumerate() {
        let bytes = || bomb.clone().into_bytes();
        let (code, said) = send(&mut admin, Method::POST, MAPS, "application/json", bytes()).await;
        assert_eq!(code, 400, "{number}: {said}");
        for type_ in ["json-patch", "merge-patch", "strategic-merge-patch"] {
            let type_ = format!("application/{type_}+json");
            let (code, said) = send(&mut admin, Method::PATCH, &path, &type_, bytes()).await;
            assert_eq!(code, 400, "{number}, {type_}: {said}");
        }
    }
    let stairs: String = (0..1_700).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
    let bomb: String = (1..60).fold("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, level| {
        text + &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(","))
    });
    let dashes = "- ".repeat(DEEP);
    for yaml in [arrays, objects, closed, stairs, bomb, dashes] {
        let shown = yaml[..60].to_owned();
        let applied = format!("{path}?fieldManager=me");
        let type_ = "application/apply-patch+yaml";
        let (code, said) = send(&mut admin, Method::PATCH, &applied, type_, yaml.into_bytes()).await;
        assert_eq!(code, 400, "{shown:?}: {said}");
    }
    // A CustomResourceDefinition's schema is the one message that holds itself: properties of properties.
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let mut message = Vec::new();
    for _ in 0..DEEP / 50 {
        // `not` is its field 28.
        message = framed(&[0xe2, 0x01], &message);
    }
    // spec (2), versions (7), schema (4), openAPIV3Schema (1).
    for tag in [&[0x0a][..], &[0x22], &[0x3a], &[0x12]] {
        message = framed(tag, &message);
    }
    let body = [&b"k8s\0"[..], &framed(&[0x12], &message)].concat();
    let (code, said) =
        send(&mut admin, Method::POST, crds, "application/vnd.kubernetes.protobuf", body).await;
    assert_eq!(code, 400, "{said}");
    assert!(said["message"].as_str().is_some_and(|m| m.contains("nested deeper")), "{said}");
    serves(&mut admin).await;
}

/// A field of a message: its tag, its length, its bytes.
fn framed(tag: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut out = tag.to_vec();
    let mut length = bytes.len();
    while length > 127 {
        out.push((length & 127) as u8 | 128);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
    out
}

#[tokio::test]
async fn who_sends_half_a_body_is_waited_for_and_takes_no_place_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut slow = server.admin().await;
    let body = json!({ "metadata": { "name": "slow" } }).to_string();
    let (first, second) = body.split_at(body.len() / 2);
    let (finish, answer) = slow.post_in_two(MAPS, first.to_owned(), second.to_owned()).await;
    let mut admin = server.admin().await;
    serves(&mut admin).await;
    finish.send(()).unwrap();
    assert_eq!(answer.await.unwrap(), 201);
}
