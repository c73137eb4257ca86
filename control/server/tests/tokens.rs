//! Tokens of ServiceAccounts that a client asks to be bound to an object: they end with it.

#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "support/server.rs"]
mod server;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use serde_json::{Value, json};
use server::{Client, Server};

const OF: &str = "/api/v1/namespaces/default";

fn object(kind: &str, name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": name } })
}

fn pod(name: &str, account: &str) -> Value {
    let mut pod = object("Pod", name);
    pod["spec"] = json!({ "serviceAccountName": account, "nodeName": "node-1",
        "containers": [{ "name": "c", "image": "i:1" }] });
    pod
}

async fn ask(admin: &mut Client, bound: Value) -> (u16, Value) {
    let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": { "boundObjectRef": bound } });
    admin.post(&format!("{OF}/serviceaccounts/robot/token"), request).await
}

/// What a token says of itself.
fn claims(token: &str) -> Value {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice::<Value>(&claims).unwrap()["kubernetes.io"].clone()
}

#[tokio::test]
async fn a_token_ends_with_what_a_client_has_it_bound_to() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    for (path, made) in [
        (format!("{OF}/serviceaccounts"), object("ServiceAccount", "robot")),
        ("/api/v1/nodes".to_owned(), object("Node", "node-1")),
        ("/api/v1/nodes".to_owned(), object("Node", "node-2")),
        (format!("{OF}/secrets"), object("Secret", "own")),
        (format!("{OF}/pods"), pod("mine", "robot")),
        (format!("{OF}/pods"), pod("other", "default")),
    ] {
        let (code, made) = admin.post(&path, made).await;
        assert_eq!(code, 201, "{made}");
    }
    let uid = async |admin: &mut Client, path: &str| admin.get(path).await.1["metadata"]["uid"].clone();
    let at_node = json!({ "name": "node-1", "uid": uid(&mut admin, "/api/v1/nodes/node-1").await });
    for (kind, name, path, extra) in [
        ("Pod", "mine", format!("{OF}/pods/mine"), Some("pod-name")),
        ("Secret", "own", format!("{OF}/secrets/own"), None),
        ("Node", "node-2", "/api/v1/nodes/node-2".to_owned(), Some("node-name")),
    ] {
        let own = uid(&mut admin, &path).await;
        let named = json!({ "apiVersion": "v1", "kind": kind, "name": name });
        let mut wrong = named.clone();
        wrong["uid"] = "another".into();
        let (code, refused) = ask(&mut admin, wrong).await;
        assert_eq!((code, &refused["reason"]), (409, &json!("Conflict")), "{refused}");
        let mut nobody = named.clone();
        nobody["name"] = "nobody".into();
        assert_eq!(ask(&mut admin, nobody).await.0, 404);

        let mut exact = named.clone();
        exact["uid"] = own.clone();
        let (code, issued) = ask(&mut admin, exact.clone()).await;
        assert_eq!(code, 201, "{issued}");
        let token = issued["status"]["token"].as_str().unwrap().to_owned();
        let told = claims(&token);
        assert_eq!(told[kind.to_ascii_lowercase()], json!({ "name": name, "uid": own }), "{told}");
        assert_eq!(told["serviceaccount"]["name"], "robot");
        if kind == "Pod" {
            assert_eq!(told["node"], at_node, "where it runs is told: {told}");
        }
        let mut robot = server.client(None, Some(token)).await;
        let review = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
        let (code, who) = robot.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", review).await;
        assert_eq!(code, 201, "{who}");
        let user = &who["status"]["userInfo"];
        assert_eq!(user["username"], "system:serviceaccount:default:robot");
        if let Some(extra) = extra {
            assert_eq!(
                user["extra"][format!("authentication.kubernetes.io/{extra}")],
                json!([name]),
                "{who}"
            );
        }
        // Another of the same name is not what it was bound to.
        let (code, _) = admin.call(Method::DELETE, &format!("{path}?gracePeriodSeconds=0"), None).await;
        assert_eq!(code, 200);
        assert_eq!(robot.get("/api").await.0, 401, "{kind}: it is gone");
        let (collection, _) = path.rsplit_once('/').unwrap();
        let again = if kind == "Pod" { pod(name, "robot") } else { object(kind, name) };
        assert_eq!(admin.post(collection, again).await.0, 201);
        assert_eq!(robot.get("/api").await.0, 401, "{kind}: it is another");
        assert_eq!(ask(&mut admin, exact).await.0, 409);
    }
}

#[tokio::test]
async fn a_token_is_bound_to_nothing_that_is_not_the_accounts() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    for (path, made) in [
        (format!("{OF}/serviceaccounts"), object("ServiceAccount", "robot")),
        (format!("{OF}/pods"), pod("other", "default")),
        (format!("{OF}/configmaps"), object("ConfigMap", "map")),
    ] {
        let (code, made) = admin.post(&path, made).await;
        assert_eq!(code, 201, "{made}");
    }
    for (bound, told) in [
        (
            json!({ "apiVersion": "v1", "kind": "Pod", "name": "other" }),
            "cannot bind token for serviceaccount \"robot\" to pod running with different serviceaccount name.",
        ),
        (json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": "map" }), "Kind=ConfigMap"),
        (json!({ "apiVersion": "apps/v1", "kind": "Pod", "name": "other" }), "apps/v1, Kind=Pod"),
        (json!({ "name": "other" }), "to type , Kind="),
        (json!({ "uid": "1" }), "to type , Kind="),
        (json!({}), "to type , Kind="),
    ] {
        let (code, refused) = ask(&mut admin, bound).await;
        assert_eq!((code, &refused["reason"]), (400, &json!("BadRequest")), "{refused}");
        assert!(refused["message"].as_str().unwrap().contains(told), "{refused}");
    }
}

#[tokio::test]
async fn a_token_lasts_as_long_as_one_may() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let path = format!("{OF}/serviceaccounts");
    assert_eq!(admin.post(&path, object("ServiceAccount", "robot")).await.0, 201);
    for (seconds, expected) in [
        (Value::Null, 201),
        (json!(600), 201),
        (json!(1_u64 << 32), 201),
        (json!(-1), 422),
        (json!(i64::MIN), 422),
        (json!(0), 422),
        (json!(599), 422),
        (json!((1_u64 << 32) + 1), 422),
    ] {
        let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": { "expirationSeconds": seconds } });
        let (code, told) = admin.post(&format!("{path}/robot/token"), request).await;
        assert_eq!(code, expected, "{seconds}: {told}");
        if code == 422 {
            assert_eq!(told["details"]["causes"][0]["field"], "spec.expirationSeconds");
        }
    }
}
