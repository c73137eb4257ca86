//! HorizontalPodAutoscalers in both versions: one object, in two sorts of words.

#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "support/server.rs"]
mod server;

use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use server::{Client, Server};

const V1: &str = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
const V2: &str = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";

/// What `kubectl autoscale` of 1.2x sends.
fn first(name: &str) -> Value {
    json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name}, "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}, "maxReplicas": 5,
        "targetCPUUtilizationPercentage": 60}})
}

fn cpu(share: i64) -> Value {
    json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": share}}}])
}

async fn watched(admin: &mut Client, path: &str, since: &str) -> Vec<Value> {
    let path = format!("{path}?watch=1&timeoutSeconds=1&resourceVersion={since}");
    let response = admin.open(Method::GET, &path, &[], Vec::new()).await;
    let body = response.into_body().collect().await.unwrap().to_bytes();
    body.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

#[tokio::test]
async fn one_autoscaler_is_written_and_read_in_both_versions() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let (code, made) = admin.post(V1, first("h")).await;
    assert_eq!(
        (code, &made["apiVersion"], &made["spec"]["minReplicas"]),
        (201, &json!("autoscaling/v1"), &json!(1))
    );
    assert_eq!(made["spec"]["targetCPUUtilizationPercentage"], 60);
    let (path, newer) = (format!("{V1}/h"), format!("{V2}/h"));
    let (_, stored) = admin.get(&newer).await;
    assert_eq!((&stored["apiVersion"], &stored["spec"]["metrics"]), (&json!("autoscaling/v2"), &cpu(60)));
    assert_eq!(stored["spec"].get("targetCPUUtilizationPercentage"), None);
    // Without a goal there is one.
    let mut open = first("open");
    open["spec"].as_object_mut().unwrap().remove("targetCPUUtilizationPercentage");
    assert_eq!(admin.post(V1, open).await.1["spec"]["targetCPUUtilizationPercentage"], 80);
    // Patched, put and applied in the first version.
    let patch = json!({"spec": {"targetCPUUtilizationPercentage": 70}});
    let (code, patched) = admin.call(Method::PATCH, &path, Some(patch)).await;
    assert_eq!((code, &patched["spec"]["targetCPUUtilizationPercentage"]), (200, &json!(70)));
    let mut put = patched;
    put["spec"]["maxReplicas"] = 7.into();
    assert_eq!(admin.call(Method::PUT, &path, Some(put)).await.0, 200);
    let config = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "spec": {"targetCPUUtilizationPercentage": 75}});
    let apply = [("content-type", "application/apply-patch+yaml")];
    let target = format!("{path}?fieldManager=tester&force=true");
    let response = admin.open(Method::PATCH, &target, &apply, config.to_string().into_bytes()).await;
    assert_eq!(response.status(), 200);
    let (_, stored) = admin.get(&newer).await;
    assert_eq!((&stored["spec"]["metrics"], &stored["spec"]["maxReplicas"]), (&cpu(75), &json!(7)));
    // Changed in the second: what the first has no field for is kept by its writes.
    let behavior = json!({"scaleDown": {"stabilizationWindowSeconds": 5}});
    let (code, _) = admin.call(Method::PATCH, &newer, Some(json!({"spec": {"behavior": behavior}}))).await;
    assert_eq!(code, 200);
    let (code, seen) = admin.call(Method::PATCH, &path, Some(json!({"spec": {"minReplicas": 2}}))).await;
    assert_eq!((code, seen["spec"].get("behavior")), (200, None));
    let noted = seen["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/behavior"].as_str().unwrap();
    assert!(noted.contains("\"StabilizationWindowSeconds\":5"), "{noted}");
    let (_, stored) = admin.get(&newer).await;
    assert_eq!(stored["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"], 5);
    assert_eq!((&stored["spec"]["minReplicas"], stored["metadata"].get("annotations")), (&json!(2), None));
    // The status, and what is wrong.
    let status = json!({"status": {"currentReplicas": 2, "desiredReplicas": 2, "currentCPUUtilizationPercentage": 30}});
    let (code, seen) = admin.call(Method::PATCH, &format!("{path}/status"), Some(status)).await;
    assert_eq!((code, &seen["status"]["currentCPUUtilizationPercentage"]), (200, &json!(30)));
    let (_, stored) = admin.get(&newer).await;
    assert_eq!(stored["status"]["currentMetrics"][0]["resource"]["current"]["averageUtilization"], 30);
    let mut wrong = first("w");
    wrong["spec"]["targetCPUUtilizationPercentage"] = 0.into();
    let (code, refused) = admin.post(V1, wrong).await;
    assert_eq!(code, 422, "{refused}");
    let version =
        json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "w"}});
    assert_eq!(admin.post(V1, version).await.0, 400);
}

#[tokio::test]
async fn one_autoscaler_is_listed_watched_and_found_in_both_versions() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let (_, made) = admin.post(V1, first("h")).await;
    let since = made["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    for (path, version) in [(V1, "autoscaling/v1"), (V2, "autoscaling/v2")] {
        let (_, list) = admin.get(path).await;
        assert_eq!(
            (&list["apiVersion"], &list["items"][0]["apiVersion"]),
            (&json!(version), &json!(version))
        );
    }
    admin.call(Method::PATCH, &format!("{V2}/h"), Some(json!({"spec": {"metrics": cpu(20)}}))).await;
    let events = watched(&mut admin, V1, &since).await;
    assert_eq!(
        (events.len(), &events[0]["object"]["spec"]["targetCPUUtilizationPercentage"]),
        (1, &json!(20))
    );
    let events = watched(&mut admin, V2, &since).await;
    assert_eq!((events.len(), &events[0]["object"]["spec"]["metrics"]), (1, &cpu(20)));
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    for path in [V1, V2] {
        let response = admin.open(Method::GET, path, &table, Vec::new()).await;
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let table: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(table["rows"][0]["cells"][2], "cpu: <unknown>/20%", "{path}");
    }
    let (_, group) = admin.get("/apis/autoscaling").await;
    assert_eq!(group["preferredVersion"]["version"], "v2");
    let (_, resources) = admin.get("/apis/autoscaling/v1").await;
    let names: Vec<&str> =
        resources["resources"].as_array().unwrap().iter().filter_map(|r| r["name"].as_str()).collect();
    assert_eq!(names, ["horizontalpodautoscalers", "horizontalpodautoscalers/status"]);
    assert_eq!(admin.get("/openapi/v3/apis/autoscaling/v1").await.0, 200);
    assert_eq!(admin.call(Method::DELETE, &format!("{V1}/h"), None).await.0, 200);
    assert_eq!(admin.get(&format!("{V2}/h")).await.0, 404);
}

/// Who owns a field is noted in the words that it was written in, and is heard of in the others too.
#[tokio::test]
async fn owners_are_noted_in_the_words_they_wrote_in() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    async fn apply(admin: &mut Client, path: &str, by: &str, config: &Value) -> (u16, Value) {
        let type_ = [("content-type", "application/apply-patch+yaml")];
        let path = format!("{path}/h?fieldManager={by}");
        let answer = admin.open(Method::PATCH, &path, &type_, config.to_string().into_bytes()).await;
        let code = answer.status().as_u16();
        (code, serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap())
    }
    let noted = |object: &Value, by: &str| {
        let entries = object["metadata"]["managedFields"].as_array().unwrap();
        let entry = entries.iter().find(|entry| entry["manager"] == by);
        entry.map(|entry| (entry["apiVersion"].clone(), entry["fieldsV1"]["f:spec"].clone()))
    };
    let (code, made) = apply(&mut admin, V1, "old", &first("h")).await;
    assert_eq!(code, 201, "{made}");
    let (version, fields) = noted(&made, "old").unwrap();
    assert_eq!(version, "autoscaling/v1");
    assert_eq!(fields["f:targetCPUUtilizationPercentage"], json!({}), "{made}");
    assert!(fields.get("f:metrics").is_none(), "{made}");
    // The same again is no change, in the other words it is told as it was noted.
    let (_, again) = apply(&mut admin, V1, "old", &first("h")).await;
    assert_eq!(again["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"], "{again}");
    let (_, stored) = admin.get(&format!("{V2}/h")).await;
    assert_eq!(stored["metadata"]["managedFields"], made["metadata"]["managedFields"]);

    let second = |share: i64| {
        json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
            "spec": {"metrics": cpu(share)}})
    };
    let (code, refused) = apply(&mut admin, V2, "new", &second(70)).await;
    assert_eq!(
        (code, &refused["details"]["causes"][0]["field"]),
        (409, &json!(".spec.targetCPUUtilizationPercentage")),
        "{refused}"
    );
    let (code, shared) = apply(&mut admin, V2, "new", &second(60)).await;
    assert_eq!((code, noted(&shared, "new").unwrap().0), (200, json!("autoscaling/v2")), "{shared}");
    assert_eq!(noted(&shared, "old"), Some((version, fields.clone())), "who says the same shares it");
    // What one owner states no more stays while it is the other's, whatever that calls it.
    let mut fewer = first("h");
    fewer["spec"].as_object_mut().unwrap().remove("targetCPUUtilizationPercentage");
    let (code, left) = apply(&mut admin, V1, "old", &fewer).await;
    assert_eq!((code, &left["spec"]["targetCPUUtilizationPercentage"]), (200, &json!(60)), "{left}");
    assert!(noted(&left, "old").unwrap().1.get("f:targetCPUUtilizationPercentage").is_none(), "{left}");

    // An update takes it from both, each by its own name for it.
    assert_eq!(apply(&mut admin, V1, "old", &first("h")).await.0, 200);
    let path = format!("{V1}/h?fieldManager=hand");
    let patch = json!({"spec": {"targetCPUUtilizationPercentage": 75}});
    let (code, changed) = admin.call(Method::PATCH, &path, Some(patch)).await;
    assert_eq!(code, 200, "{changed}");
    assert_eq!(
        noted(&changed, "hand"),
        Some((json!("autoscaling/v1"), json!({"f:targetCPUUtilizationPercentage": {}}))),
        "{changed}"
    );
    assert!(noted(&changed, "old").unwrap().1.get("f:targetCPUUtilizationPercentage").is_none(), "{changed}");
    assert_eq!(noted(&changed, "new"), None, "the list was all it had: {changed}");
    let (_, stored) = admin.get(&format!("{V2}/h")).await;
    assert_eq!(stored["spec"]["metrics"], cpu(75));
}
