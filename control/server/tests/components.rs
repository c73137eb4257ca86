//! ComponentStatuses of a real server.

#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "support/server.rs"]
mod server;

use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use server::Server;

const ALL: &str = "/api/v1/componentstatuses";

#[tokio::test]
async fn components_are_this_servers_own_checks() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let (code, list) = admin.get(ALL).await;
    assert_eq!((code, &list["kind"]), (200, &json!("ComponentStatusList")));
    let healthy = |name: &str| {
        json!({ "apiVersion": "v1", "kind": "ComponentStatus", "metadata": { "name": name },
            "conditions": [{ "type": "Healthy", "status": "True", "message": "ok" }] })
    };
    assert_eq!(list["items"], json!(["controller-manager", "etcd-0", "scheduler"].map(healthy)));
    assert_eq!(admin.get(&format!("{ALL}/scheduler")).await, (200, healthy("scheduler")));
    let (code, status) = admin.get(&format!("{ALL}/kubelet")).await;
    assert_eq!((code, &status["message"]), (404, &json!("componentstatuses \"kubelet\" not found")));
    let (_, list) = admin.get(&format!("{ALL}?fieldSelector=metadata.name%3Detcd-0")).await;
    assert_eq!(list["items"], json!([healthy("etcd-0")]));
    let (_, list) = admin.get(&format!("{ALL}?labelSelector=a")).await;
    assert_eq!(list["items"], json!([]));
    assert_eq!(admin.call(Method::DELETE, &format!("{ALL}/scheduler"), None).await.0, 405);
    assert_eq!(admin.post(ALL, healthy("other")).await.0, 405);

    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let answer = admin.open(Method::GET, ALL, &accept, Vec::new()).await;
    assert_eq!(answer.headers()["warning"], "299 - \"v1 ComponentStatus is deprecated in v1.19+\"");
    let table: Value =
        serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(table["rows"][1]["cells"], json!(["etcd-0", "Healthy", "ok", ""]));
}
