//! A Scale: who said how many there are to be is noted in the object's own managedFields, and conflicts are told.

#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "support/server.rs"]
mod server;

use http::Method;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use server::{Client, Server};

const WEB: &str = "/apis/apps/v1/namespaces/default/deployments/web";
const SCALE: &str = "/apis/apps/v1/namespaces/default/deployments/web/scale";
const APPLY: &str = "application/apply-patch+yaml";

/// A Deployment's configuration; whether it says how many.
fn deployment(replicas: Option<u32>) -> Value {
    let mut deployment = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": { "selector": { "matchLabels": { "app": "web" } }, "template": {
            "metadata": { "labels": { "app": "web" } },
            "spec": { "containers": [{ "name": "c", "image": "i:1" }] } } } });
    if let Some(replicas) = replicas {
        deployment["spec"]["replicas"] = replicas.into();
    }
    deployment
}

fn scale(replicas: u32) -> Value {
    json!({ "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": { "name": "web" },
        "spec": { "replicas": replicas } })
}

/// A PATCH or PUT of that type by that manager.
async fn write(admin: &mut Client, path: &str, type_: &str, by: &str, body: &Value) -> (u16, Value) {
    let (path, sign) = (path, if path.contains('?') { '&' } else { '?' });
    let path = format!("{path}{sign}fieldManager={by}");
    let method = if type_ == "application/json" { Method::PUT } else { Method::PATCH };
    let answer = admin.open(method, &path, &[("content-type", type_)], body.to_string().into_bytes()).await;
    let code = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap())
}

/// The managers that own the number, as `manager/operation/subresource/apiVersion`.
async fn owners(admin: &mut Client) -> (Value, Vec<String>) {
    let (_, web) = admin.get(WEB).await;
    let entries = web["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let own = entries.iter().filter(|entry| entry["fieldsV1"]["f:spec"]["f:replicas"].is_object());
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or("").to_owned();
    let mut own: Vec<String> = own
        .map(|entry| {
            ["manager", "operation", "subresource", "apiVersion"].map(|field| text(entry, field)).join("/")
        })
        .collect();
    own.sort();
    (web["spec"]["replicas"].clone(), own)
}

#[tokio::test]
async fn what_is_put_to_a_scale_is_noted_as_written_there() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let (code, made) = write(&mut admin, WEB, APPLY, "author", &deployment(Some(0))).await;
    assert_eq!(code, 201, "{made}");
    let (_, read) = admin.get(SCALE).await;
    assert!(
        read["metadata"]["managedFields"].is_null() && read["metadata"]["uid"] == made["metadata"]["uid"]
    );
    // The same number again takes it from nobody.
    let (code, _) = write(&mut admin, SCALE, "application/json", "hand", &scale(0)).await;
    assert_eq!((code, owners(&mut admin).await.1), (200, vec!["author/Apply//apps/v1".to_owned()]));
    let (code, put) = write(&mut admin, SCALE, "application/json", "hand", &scale(2)).await;
    assert_eq!((code, &put["spec"]["replicas"]), (200, &json!(2)), "{put}");
    assert_eq!(owners(&mut admin).await, (json!(2), vec!["hand/Update/scale/apps/v1".to_owned()]));
    let patch = json!({ "spec": { "replicas": 1 } });
    let (code, _) = write(&mut admin, SCALE, "application/merge-patch+json", "other", &patch).await;
    assert_eq!(code, 200);
    assert_eq!(owners(&mut admin).await, (json!(1), vec!["other/Update/scale/apps/v1".to_owned()]));

    // Who applies the Deployment hears of it, by its own path.
    let (code, refused) = write(&mut admin, WEB, APPLY, "author", &deployment(Some(5))).await;
    assert_eq!((code, &refused["reason"]), (409, &json!("Conflict")), "{refused}");
    assert_eq!(
        refused["message"],
        "Apply failed with 1 conflict: conflict with \"other\" with subresource \"scale\" using apps/v1: .spec.replicas"
    );
    let stale = json!({ "apiVersion": "autoscaling/v1", "kind": "Scale", "spec": { "replicas": 3 },
        "metadata": { "name": "web", "resourceVersion": made["metadata"]["resourceVersion"] } });
    assert_eq!(write(&mut admin, SCALE, "application/json", "hand", &stale).await.0, 409);
    let mut another = scale(3);
    another["metadata"]["uid"] = "another".into();
    let (code, refused) = write(&mut admin, SCALE, "application/json", "hand", &another).await;
    assert!(code == 409 && refused["message"].as_str().unwrap().contains("UID in precondition"), "{refused}");
    let mut named = scale(3);
    named["metadata"]["name"] = "api".into();
    assert_eq!(write(&mut admin, SCALE, "application/json", "hand", &named).await.0, 400);
    // A patch is of the Scale as it is: a test in it fails where it is another.
    let tested = json!([{ "op": "test", "path": "/spec/replicas", "value": 7 },
        { "op": "replace", "path": "/spec/replicas", "value": 9 }]);
    assert_eq!(write(&mut admin, SCALE, "application/json-patch+json", "hand", &tested).await.0, 422);
    assert_eq!(owners(&mut admin).await.0, 1);
}

#[tokio::test]
async fn a_scale_is_applied_with_conflicts_and_force() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let (code, made) = write(&mut admin, WEB, APPLY, "author", &deployment(Some(0))).await;
    assert_eq!(code, 201, "{made}");
    let (code, refused) = write(&mut admin, SCALE, APPLY, "scaler", &scale(2)).await;
    assert_eq!(
        (code, &refused["details"]["causes"][0]["field"]),
        (409, &json!(".spec.replicas")),
        "{refused}"
    );
    assert_eq!(refused["details"]["causes"][0]["reason"], "FieldManagerConflict");
    // Who says the same shares it.
    let (code, shared) = write(&mut admin, SCALE, APPLY, "scaler", &scale(0)).await;
    assert_eq!((code, &shared["spec"]["replicas"]), (200, &json!(0)), "{shared}");
    let both = vec!["author/Apply//apps/v1".to_owned(), "scaler/Apply/scale/apps/v1".to_owned()];
    assert_eq!(owners(&mut admin).await, (json!(0), both));
    let forced = format!("{SCALE}?force=true");
    let (code, applied) = write(&mut admin, &forced, APPLY, "scaler", &scale(2)).await;
    assert_eq!((code, &applied["kind"], &applied["spec"]["replicas"]), (200, &json!("Scale"), &json!(2)));
    assert_eq!(owners(&mut admin).await, (json!(2), vec!["scaler/Apply/scale/apps/v1".to_owned()]));
    // The author's configuration without the number leaves it alone, and nothing else of theirs is lost.
    let (code, web) = write(&mut admin, WEB, APPLY, "author", &deployment(None)).await;
    assert_eq!((code, &web["spec"]["replicas"]), (200, &json!(2)), "{web}");
    assert_eq!(web["spec"]["template"]["spec"]["containers"][0]["image"], "i:1");
    let (code, _) = write(&mut admin, &forced, APPLY, "scaler", &scale(2)).await;
    assert_eq!(code, 200);
    let (code, refused) = write(&mut admin, SCALE, APPLY, "", &scale(2)).await;
    assert_eq!((code, &refused["reason"]), (422, &json!("Invalid")), "an applier has a name: {refused}");
    let (code, _) = write(&mut admin, SCALE, APPLY, "scaler", &deployment(Some(3))).await;
    assert_eq!(code, 400, "of another type");
    let negative = json!({ "apiVersion": "autoscaling/v1", "kind": "Scale", "spec": { "replicas": -1 } });
    assert_eq!(write(&mut admin, SCALE, APPLY, "scaler", &negative).await.0, 422);
    // What nobody says any more is none.
    let nothing = json!({ "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": { "name": "web" } });
    let (code, applied) = write(&mut admin, SCALE, APPLY, "scaler", &nothing).await;
    assert_eq!((code, &applied["spec"]["replicas"]), (200, &json!(0)), "{applied}");
    assert_eq!(owners(&mut admin).await, (json!(0), Vec::new()));
}

/// Of an object whose number nobody ever named.
#[tokio::test]
async fn a_number_that_is_a_default_is_from_before_the_first_apply() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let (code, made) = write(&mut admin, WEB, APPLY, "author", &deployment(None)).await;
    assert_eq!((code, &made["spec"]["replicas"]), (201, &json!(1)), "{made}");
    let (code, refused) = write(&mut admin, SCALE, APPLY, "scaler", &scale(2)).await;
    assert!(code == 409 && refused["message"].as_str().unwrap().contains("before-first-apply"), "{refused}");
    let (code, _) = write(&mut admin, &format!("{SCALE}?force=true"), APPLY, "scaler", &scale(2)).await;
    assert_eq!(code, 200);
    assert_eq!(owners(&mut admin).await, (json!(2), vec!["scaler/Apply/scale/apps/v1".to_owned()]));
}
