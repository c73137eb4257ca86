//! Kinds of workloads, volumes and policy over the API of a real server: each is made, read, shown as a table and found in
//! discovery, and has what the server says of it.

#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "support/server.rs"]
mod server;

use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use server::{Client, Server};
use weft_store::Embedded;
use weft_store::store::{Store as _, Transaction, Write};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// One of each kind, and the path it is made at.
fn objects() -> Vec<(&'static str, Value)> {
    let pod = json!({ "metadata": { "labels": { "a": "b" } }, "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    let mut ending = pod.clone();
    ending["spec"]["restartPolicy"] = "Never".into();
    let set = json!({ "replicas": 2, "selector": { "matchLabels": { "a": "b" } }, "template": pod });
    let daemon = json!({ "selector": { "matchLabels": { "a": "b" } }, "template": pod });
    let claim =
        json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } });
    let volume = json!({ "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"], "hostPath": { "path": "/p" } });
    let scaled = json!({ "scaleTargetRef": { "kind": "Deployment", "name": "web" }, "maxReplicas": 3 });
    let object = |version: &str, kind: &str, rest: Value| {
        let mut object = json!({ "apiVersion": version, "kind": kind, "metadata": { "name": "x" } });
        object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        object
    };
    let spec = |version: &str, kind: &str, spec: &Value| object(version, kind, json!({ "spec": spec }));
    vec![
        ("apis/apps/v1/namespaces/default/statefulsets", spec("apps/v1", "StatefulSet", &set)),
        ("apis/apps/v1/namespaces/default/daemonsets", spec("apps/v1", "DaemonSet", &daemon)),
        (
            "apis/apps/v1/namespaces/default/controllerrevisions",
            object("apps/v1", "ControllerRevision", json!({ "data": { "any": ["thing"] }, "revision": 1 })),
        ),
        ("apis/batch/v1/namespaces/default/jobs", spec("batch/v1", "Job", &json!({ "template": ending }))),
        (
            "apis/batch/v1/namespaces/default/cronjobs",
            spec(
                "batch/v1",
                "CronJob",
                &json!({ "schedule": "@daily", "jobTemplate": { "spec": { "template": ending } } }),
            ),
        ),
        (
            "apis/policy/v1/namespaces/default/poddisruptionbudgets",
            spec("policy/v1", "PodDisruptionBudget", &json!({ "minAvailable": 1 })),
        ),
        (
            "apis/scheduling.k8s.io/v1/priorityclasses",
            object("scheduling.k8s.io/v1", "PriorityClass", json!({ "value": 7 })),
        ),
        ("api/v1/persistentvolumes", spec("v1", "PersistentVolume", &volume)),
        ("api/v1/namespaces/default/persistentvolumeclaims", spec("v1", "PersistentVolumeClaim", &claim)),
        (
            "api/v1/namespaces/default/resourcequotas",
            spec("v1", "ResourceQuota", &json!({ "hard": { "pods": "5" } })),
        ),
        (
            "api/v1/namespaces/default/limitranges",
            spec("v1", "LimitRange", &json!({ "limits": [{ "type": "Container", "max": { "cpu": "2" } }] })),
        ),
        ("api/v1/namespaces/default/podtemplates", object("v1", "PodTemplate", json!({ "template": pod }))),
        (
            "api/v1/namespaces/default/replicationcontrollers",
            spec("v1", "ReplicationController", &json!({ "replicas": 2, "template": pod })),
        ),
        (
            "apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers",
            spec("autoscaling/v2", "HorizontalPodAutoscaler", &scaled),
        ),
    ]
}

async fn table(admin: &mut Client, path: &str) -> Value {
    let response = admin.open(Method::GET, path, &[("accept", TABLE)], Vec::new()).await;
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    serde_json::from_slice(&bytes).expect("JSON")
}

#[tokio::test]
async fn each_kind_is_made_read_shown_and_found() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    for (path, object) in objects() {
        let (root, plural) = path.rsplit_once('/').unwrap();
        let root = root.trim_end_matches("/namespaces/default");
        let (code, made) = admin.post(&format!("/{path}?fieldValidation=Strict"), object.clone()).await;
        assert_eq!(code, 201, "{made}");
        assert!(made["metadata"]["uid"].is_string(), "{made}");
        let (code, read) = admin.get(&format!("/{path}/x")).await;
        assert_eq!((code, &read), (200, &made), "{path}");
        let (_, list) = admin.get(&format!("/{path}")).await;
        assert_eq!(list["kind"], format!("{}List", object["kind"].as_str().unwrap()));
        // Behind what the server itself makes.
        let item = list["items"].as_array().unwrap().last().unwrap();
        assert_eq!(item["metadata"]["name"], "x");
        let table = table(&mut admin, &format!("/{path}")).await;
        let columns = table["columnDefinitions"].as_array().unwrap();
        assert_eq!(
            (&columns[0]["name"], &table["rows"].as_array().unwrap().last().unwrap()["cells"][0]),
            (&json!("Name"), &json!("x")),
            "{path}"
        );
        assert_eq!(columns.len(), table["rows"][0]["cells"].as_array().unwrap().len(), "{path}");
        let (_, discovered) = admin.get(&format!("/{root}")).await;
        let found = discovered["resources"].as_array().unwrap().iter().find(|r| r["name"] == plural);
        assert_eq!(found.expect(plural)["kind"], object["kind"]);
        let (_, openapi) = admin.get(&format!("/openapi/v3/{root}")).await;
        assert!(
            openapi["paths"].as_object().unwrap().keys().any(|p| p.ends_with(&format!("/{plural}"))),
            "{path}"
        );
        // What was read is what may be written, and to write it again changes nothing.
        let (code, same) = admin.call(Method::PUT, &format!("/{path}/x"), Some(read)).await;
        assert_eq!(
            (code, &same["metadata"]["resourceVersion"]),
            (200, &made["metadata"]["resourceVersion"]),
            "{same}"
        );
        let (code, _) = admin.call(Method::DELETE, &format!("/{path}/x"), None).await;
        assert_eq!(code, 200);
    }
}

#[tokio::test]
async fn a_job_has_its_selector_and_daemon_sets_count_their_templates() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let find = |kind: &str| objects().into_iter().find(|(_, object)| object["kind"] == kind).unwrap();
    let (path, object) = find("Job");
    let (_, job) = admin.post(&format!("/{path}"), object).await;
    let uid = &job["metadata"]["uid"];
    assert_eq!(&job["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"], uid);
    assert_eq!(&job["spec"]["template"]["metadata"]["labels"]["controller-uid"], uid);
    assert_eq!(job["spec"]["template"]["metadata"]["labels"]["job-name"], "x");
    let patch = json!({ "status": { "succeeded": 2 } });
    let (code, _) = admin.call(Method::PATCH, &format!("/{path}/x/status"), Some(patch)).await;
    assert_eq!(code, 200);
    for (value, count) in [("2", 1), ("0", 0)] {
        let (_, list) = admin.get(&format!("/{path}?fieldSelector=status.successful%3D{value}")).await;
        assert_eq!(list["items"].as_array().unwrap().len(), count, "{value}");
    }

    let (path, object) = find("DaemonSet");
    let (_, set) = admin.post(&format!("/{path}"), object).await;
    let counted =
        |set: &Value| set["metadata"]["annotations"]["deprecated.daemonset.template.generation"].clone();
    assert_eq!((counted(&set), &set["metadata"]["generation"]), (json!("1"), &json!(1)));
    let patch = json!({ "spec": { "template": { "metadata": { "labels": { "c": "d" } } } } });
    let (_, set) = admin.call(Method::PATCH, &format!("/{path}/x"), Some(patch)).await;
    assert_eq!((counted(&set), &set["metadata"]["generation"]), (json!("2"), &json!(2)));
    let (_, set) = admin
        .call(Method::PATCH, &format!("/{path}/x"), Some(json!({ "spec": { "minReadySeconds": 3 } })))
        .await;
    assert_eq!((counted(&set), &set["metadata"]["generation"]), (json!("2"), &json!(3)));
}

#[tokio::test]
async fn what_keeps_replicas_is_scaled() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    for (path, object) in objects() {
        if !matches!(object["kind"].as_str(), Some("StatefulSet" | "ReplicationController")) {
            continue;
        }
        admin.post(&format!("/{path}"), object).await;
        let (code, scale) = admin.get(&format!("/{path}/x/scale")).await;
        assert_eq!(
            (code, &scale["spec"]["replicas"], &scale["status"]["selector"]),
            (200, &json!(2), &json!("a=b"))
        );
        let patch = json!({ "spec": { "replicas": 4 } });
        let (code, _) = admin.call(Method::PATCH, &format!("/{path}/x/scale"), Some(patch)).await;
        assert_eq!(code, 200);
        let (_, scaled) = admin.get(&format!("/{path}/x")).await;
        assert_eq!(scaled["spec"]["replicas"], 4);
    }
    let (_, none) = admin
        .get("/api/v1/namespaces/default/replicationcontrollers?fieldSelector=status.replicas%3D1")
        .await;
    assert_eq!(none["items"], json!([]));
    let (_, one) = admin
        .get("/api/v1/namespaces/default/replicationcontrollers?fieldSelector=status.replicas%3D0")
        .await;
    assert_eq!(one["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_systems_priorities_are_there_and_stay() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let path = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let class = |name: &str, value: i64| json!({ "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": { "name": name }, "value": value });
    let system = [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];
    assert_eq!(admin.post(path, class("system-other", 5)).await.0, 422);
    assert_eq!(admin.post(path, class("own", 5)).await.0, 201);
    for (name, value) in system {
        let (code, read) = admin.get(&format!("{path}/{name}")).await;
        assert_eq!((code, &read["value"]), (200, &json!(value)), "{read}");
        assert_eq!(read["preemptionPolicy"], "PreemptLowerPriority");
        assert!(read["description"].as_str().is_some_and(|text| text.starts_with("For Pods that")), "{read}");
        assert_eq!(admin.post(path, class(name, value)).await.0, 409);
        let (code, refused) = admin.call(Method::DELETE, &format!("{path}/{name}"), None).await;
        assert_eq!(code, 403);
        let said = refused["message"].as_str().unwrap();
        assert!(said.ends_with("this is a system priority class and cannot be deleted"), "{said}");
    }
    assert_eq!(admin.call(Method::DELETE, path, None).await.0, 200);
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().iter();
        items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&admin.get(path).await.1), system.map(|(name, _)| name));
    server.stop();
    // A store of before they were made, or one that lost them.
    let store = Embedded::open(dir.path().join("store.redb")).unwrap();
    let key = "o/scheduling.k8s.io/priorityclasses//system-node-critical";
    let writes = vec![Write::Delete(key.into())];
    store.commit(Transaction { checks: Vec::new(), writes }).await.unwrap();
    drop(store);
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    assert_eq!(names(&admin.get(path).await.1), system.map(|(name, _)| name));
}

#[tokio::test]
async fn pods_of_a_job_that_is_deleted_stay_unless_it_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let (jobs, pods) = ("/apis/batch/v1/namespaces/default/jobs", "/api/v1/namespaces/default/pods");
    let spec = json!({ "restartPolicy": "Never", "containers": [{ "name": "c", "image": "i" }] });
    for (name, policy) in [("left", None), ("taken", Some("Background"))] {
        let job = json!({ "metadata": { "name": name }, "spec": { "suspend": true, "template": { "spec": spec } } });
        let (code, job) = admin.post(jobs, job).await;
        assert_eq!(code, 201, "{job}");
        let owner =
            json!({ "apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job["metadata"]["uid"] });
        let pod = json!({ "metadata": { "name": name, "ownerReferences": [owner] }, "spec": spec });
        assert_eq!(admin.post(pods, pod).await.0, 201);
        let options = policy.map(|policy| json!({ "propagationPolicy": policy }));
        assert_eq!(admin.call(Method::DELETE, &format!("{jobs}/{name}"), options).await.0, 200);
        admin.until(&format!("{jobs}/{name}"), |code, _| code == 404).await;
        let pod = format!("{pods}/{name}");
        if policy.is_some() {
            admin.until(&pod, |code, _| code == 404).await;
        } else {
            let pod = admin.until(&pod, |_, pod| pod["metadata"]["ownerReferences"].is_null()).await;
            assert_eq!(pod["metadata"]["name"], name, "it is there, and nobody's");
        }
    }
}

#[tokio::test]
async fn a_template_is_warned_of_when_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let pod = json!({ "metadata": { "labels": { "a": "b" } }, "spec": { "containers": [{ "name": "c", "image": "i" }],
        "nodeSelector": { "beta.kubernetes.io/arch": "amd64" } } });
    let object = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": { "replicas": 0, "selector": { "matchLabels": { "a": "b" } }, "template": pod } });
    let changed = |pointer: &str, value: Value| {
        let mut object = object.clone();
        *object.pointer_mut(pointer).unwrap() = value;
        object
    };
    let (scaled, other) = (json!({ "spec": { "replicas": 1 } }), "/spec/template/metadata");
    let labels = json!({ "labels": { "a": "b", "c": "d" } });
    let template = json!({ "spec": { "template": { "metadata": labels } } });
    let (web, applied) = (format!("{path}/web"), format!("{path}/web?fieldManager=me&force=true"));
    let (merge, apply) = ("application/merge-patch+json", "application/apply-patch+yaml");
    for (method, path, type_, body, warnings) in [
        (Method::POST, path, "application/json", object.clone(), 1),
        (Method::PATCH, &web, merge, scaled, 0),
        (Method::PATCH, &web, merge, template, 1),
        (Method::PUT, &web, "application/json", changed("/spec/replicas", json!(2)), 1),
        (Method::PUT, &web, "application/json", changed("/spec/replicas", json!(3)), 0),
        (Method::PATCH, &applied, apply, changed("/spec/replicas", json!(4)), 0),
        (Method::PATCH, &applied, apply, changed(other, labels.clone()), 1),
    ] {
        let (about, bytes) = (format!("{method} {path} {body}"), body.to_string().into_bytes());
        let answer = admin.open(method, path, &[("content-type", type_)], bytes).await;
        assert!(answer.status().is_success(), "{about}: {}", answer.status());
        assert_eq!(answer.headers().get_all("warning").iter().count(), warnings, "{about}");
        drop(answer.into_body().collect().await.unwrap());
    }
}
