//! Subresources of a Pod over the API of a real server: ephemeral containers, other resources, eviction.

#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "support/server.rs"]
mod server;

use http::Method;
use serde_json::{Value, json};
use server::{Client, Server};

const POD: &str = "/api/v1/namespaces/default/pods/web";

async fn pod(admin: &mut Client) -> Value {
    let resources = json!({ "requests": { "cpu": "100m", "memory": "64Mi" } });
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web" },
        "spec": { "containers": [{ "name": "c", "image": "i:1", "resources": resources }] } });
    let (code, made) = admin.post("/api/v1/namespaces/default/pods", pod).await;
    assert_eq!(code, 201, "{made}");
    made
}

async fn patch(admin: &mut Client, part: &str, patch: Value) -> (u16, Value) {
    admin.call(Method::PATCH, &format!("{POD}/{part}"), Some(patch)).await
}

#[tokio::test]
async fn containers_come_to_a_pod_and_stay_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    pod(&mut admin).await;
    let debug = json!({ "name": "debug", "image": "busybox:1", "targetContainerName": "c", "stdin": true });
    let list = |containers: Value| json!({ "spec": { "ephemeralContainers": containers } });
    // Not by the Pod itself.
    assert_eq!(admin.call(Method::PATCH, POD, Some(list(json!([debug.clone()])))).await.0, 422);
    let (code, changed) = patch(&mut admin, "ephemeralcontainers", list(json!([debug]))).await;
    assert_eq!(code, 200, "{changed}");
    assert_eq!(changed["spec"]["ephemeralContainers"][0]["imagePullPolicy"], "IfNotPresent", "defaults");
    assert_eq!(changed["metadata"]["generation"], 2);
    let (_, read) = admin.get(&format!("{POD}/ephemeralcontainers")).await;
    assert_eq!(read["spec"], changed["spec"]);

    let kept = changed["spec"]["ephemeralContainers"][0].clone();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut other = json!({ "name": "more", "image": "busybox:1" });
        change(&mut other);
        list(json!([kept.clone(), other]))
    };
    let mut changed_image = kept.clone();
    changed_image["image"] = "other:1".into();
    for (wanted, field) in [
        (list(json!([])), "spec.ephemeralContainers"),
        (list(json!([changed_image])), "spec.ephemeralContainers"),
        (with(&|c| c["name"] = "c".into()), "spec.ephemeralContainers[1].name"),
        (with(&|c| c["image"] = "".into()), "spec.ephemeralContainers[1].image"),
        (
            with(&|c| c["targetContainerName"] = "nobody".into()),
            "spec.ephemeralContainers[1].targetContainerName",
        ),
        (with(&|c| c["ports"] = json!([{ "containerPort": 80 }])), "spec.ephemeralContainers[1].ports"),
        (
            with(&|c| c["resources"] = json!({ "limits": { "cpu": "1" } })),
            "spec.ephemeralContainers[1].resources",
        ),
        (
            with(&|c| c["livenessProbe"] = json!({ "exec": { "command": ["true"] } })),
            "spec.ephemeralContainers[1].livenessProbe",
        ),
    ] {
        let (code, refused) = patch(&mut admin, "ephemeralcontainers", wanted.clone()).await;
        assert_eq!((code, &refused["details"]["causes"][0]["field"]), (422, &json!(field)), "{wanted}");
    }
    // Nothing else of the Pod changes here.
    let mut other = changed.clone();
    other["spec"]["containers"][0]["image"] = "i:2".into();
    other["metadata"]["labels"] = json!({ "a": "b" });
    let (code, same) = admin.call(Method::PUT, &format!("{POD}/ephemeralcontainers"), Some(other)).await;
    assert_eq!((code, &same["spec"]["containers"][0]["image"]), (200, &json!("i:1")));
    assert!(same["metadata"].get("labels").is_none());
}

#[tokio::test]
async fn a_pod_gets_other_resources_and_keeps_its_class() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let made = pod(&mut admin).await;
    let resized = |resources: Value| {
        let mut pod = made.clone();
        pod["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        pod["spec"]["containers"][0]["resources"] = resources;
        pod
    };
    let put = async |admin: &mut Client, pod: Value| {
        admin.call(Method::PUT, &format!("{POD}/resize"), Some(pod)).await
    };
    let more = json!({ "requests": { "cpu": "200m", "memory": "64Mi" }, "limits": { "cpu": "1" } });
    // Not by the Pod itself.
    assert_eq!(admin.call(Method::PUT, POD, Some(resized(more.clone()))).await.0, 422);
    let mut wanted = resized(more);
    wanted["spec"]["containers"][0]["image"] = "i:2".into();
    let (code, changed) = put(&mut admin, wanted).await;
    assert_eq!(code, 200, "{changed}");
    assert_eq!(changed["spec"]["containers"][0]["resources"]["requests"]["cpu"], "200m");
    assert_eq!(changed["spec"]["containers"][0]["image"], "i:1");
    assert_eq!(changed["metadata"]["generation"], 2);
    let at = "spec.containers[0].resources";
    let was = json!({ "requests": { "cpu": "200m", "memory": "64Mi" }, "limits": { "cpu": "1" } });
    let with = |part: &str, name: &str, value: Value| {
        let mut resources = was.clone();
        resources[part][name] = value;
        resized(resources)
    };
    let mut without = was.clone();
    without["requests"].as_object_mut().unwrap().remove("memory");
    let guaranteed = json!({ "cpu": "1", "memory": "64Mi" });
    for (wanted, field) in [
        (with("requests", "cpu", json!("2")), format!("{at}.requests")),
        (with("limits", "ephemeral-storage", json!("1Gi")), format!("{at}.limits.ephemeral-storage")),
        (resized(without), format!("{at}.requests")),
        (resized(json!({ "requests": guaranteed, "limits": guaranteed })), "spec".to_owned()),
    ] {
        let (code, refused) = put(&mut admin, wanted.clone()).await;
        let fields: Vec<_> =
            refused["details"]["causes"].as_array().into_iter().flatten().map(|c| &c["field"]).collect();
        assert_eq!(code, 422, "{wanted}");
        assert!(fields.contains(&&json!(field)), "{field}: {refused}");
    }
    let mut two = made.clone();
    two["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    let second = json!({ "name": "d", "image": "i:1" });
    two["spec"]["containers"].as_array_mut().unwrap().push(second);
    assert_eq!(put(&mut admin, two).await.0, 422);
}

#[tokio::test]
async fn a_pod_is_evicted_while_its_budget_has_a_disruption_left() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let evict = async |admin: &mut Client, dry: bool| {
        let mut eviction =
            json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": "web" } });
        if dry {
            eviction["deleteOptions"] = json!({ "dryRun": ["All"] });
        }
        admin.post(&format!("{POD}/eviction"), eviction).await
    };
    assert_eq!(evict(&mut admin, false).await.0, 404);
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web", "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "c", "image": "i:1" }] } });
    assert_eq!(admin.post("/api/v1/namespaces/default/pods", pod).await.0, 201);
    let ready =
        json!({ "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] } });
    assert_eq!(patch(&mut admin, "status", ready).await.0, 200);
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget = |name: &str, app: &str| {
        json!({ "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": { "name": name },
            "spec": { "minAvailable": 1, "selector": { "matchLabels": { "app": app } } } })
    };
    assert_eq!(admin.post(budgets, budget("other", "other")).await.0, 201);
    assert_eq!(admin.post(budgets, budget("web", "web")).await.0, 201);

    // Nobody has counted for the budget yet.
    let (code, refused) = evict(&mut admin, false).await;
    assert_eq!((code, refused["reason"].as_str()), (429, Some("TooManyRequests")), "{refused}");
    assert_eq!(refused["details"]["causes"][0]["reason"], "DisruptionBudget");
    let left = async |admin: &mut Client, left: i64| {
        let status = json!({ "status": { "observedGeneration": 1, "disruptionsAllowed": left, "currentHealthy": 2,
            "desiredHealthy": 1, "expectedPods": 2 } });
        let (code, set) = admin.call(Method::PATCH, &format!("{budgets}/web/status"), Some(status)).await;
        assert_eq!(code, 200, "{set}");
    };
    left(&mut admin, 0).await;
    assert_eq!(evict(&mut admin, false).await.0, 429);
    left(&mut admin, 1).await;
    assert_eq!(evict(&mut admin, true).await.0, 201);
    assert_eq!(admin.get(POD).await.0, 200, "a dry run deletes nothing");
    let (code, done) = evict(&mut admin, false).await;
    assert_eq!((code, done["status"].as_str()), (201, Some("Success")), "{done}");
    assert_eq!(admin.get(POD).await.0, 404);
    let (_, spent) = admin.get(&format!("{budgets}/web")).await;
    assert_eq!(spent["status"]["disruptionsAllowed"], 0, "{spent}");
    assert!(spent["status"]["disruptedPods"]["web"].is_string());
}

#[tokio::test]
async fn a_pod_with_two_budgets_or_another_name_is_not_evicted() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    pod(&mut admin).await;
    let named =
        |name: &str| json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": name } });
    assert_eq!(admin.post(&format!("{POD}/eviction"), named("other")).await.0, 400);
    let ready =
        json!({ "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] } });
    assert_eq!(patch(&mut admin, "status", ready).await.0, 200);
    for name in ["one", "two"] {
        let budget = json!({ "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": { "name": name },
            "spec": { "minAvailable": 1, "selector": {} } });
        let (code, made) =
            admin.post("/apis/policy/v1/namespaces/default/poddisruptionbudgets", budget).await;
        assert_eq!(code, 201, "{made}");
    }
    assert_eq!(admin.post(&format!("{POD}/eviction"), named("web")).await.0, 500);
    let other = json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": "web" },
        "deleteOptions": { "preconditions": { "uid": "another" } } });
    assert_eq!(admin.post(&format!("{POD}/eviction"), other).await.0, 409);
}

#[tokio::test]
async fn a_pod_is_bound_by_its_path_or_by_that_of_all_bindings() {
    const BINDINGS: &str = "/api/v1/namespaces/default/bindings";
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let by_hand = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web" },
        "spec": { "schedulerName": "by-hand", "containers": [{ "name": "c", "image": "i:1" }] } });
    let (_, made) = admin.post("/api/v1/namespaces/default/pods", by_hand).await;
    let binding = |change: &dyn Fn(&mut Value)| {
        let mut binding = json!({ "apiVersion": "v1", "kind": "Binding", "target": { "kind": "Node", "name": "n1" },
            "metadata": { "name": "web", "labels": { "zone": "a" }, "annotations": { "why": "room" } } });
        change(&mut binding);
        binding
    };
    let own = format!("{POD}/binding");
    for (path, asked, code, word) in [
        (BINDINGS, binding(&|b| b["metadata"]["name"] = Value::Null), 422, "metadata.name"),
        (BINDINGS, binding(&|b| b["target"]["kind"] = "Rack".into()), 422, "target.kind"),
        (&own, binding(&|b| b["target"]["name"] = Value::Null), 422, "target.name"),
        (&own, binding(&|b| b["metadata"]["name"] = "other".into()), 400, "name in URL"),
        (BINDINGS, binding(&|b| b["metadata"]["name"] = "other".into()), 404, "not found"),
        (BINDINGS, binding(&|b| b["metadata"]["uid"] = "another".into()), 409, "uid"),
        (&own, binding(&|b| b["metadata"]["resourceVersion"] = "1".into()), 409, "precondition"),
    ] {
        let (told, refused) = admin.post(path, asked).await;
        assert_eq!(told, code, "{refused}");
        assert!(
            refused["message"].as_str().unwrap().to_lowercase().contains(&word.to_lowercase()),
            "{refused}"
        );
    }
    let (_, still) = admin.get(POD).await;
    assert_eq!(still["metadata"], made["metadata"], "what is refused changes nothing");

    let exact = binding(&|b| {
        b["metadata"]["uid"] = made["metadata"]["uid"].clone();
        b["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
    });
    let (code, bound) = admin.post(BINDINGS, exact).await;
    assert_eq!((code, &bound["status"]), (201, &json!("Success")), "{bound}");
    let (_, bound) = admin.get(POD).await;
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert_eq!(bound["metadata"]["labels"]["zone"], "a");
    assert_eq!(bound["metadata"]["annotations"]["why"], "room");
    assert_eq!(admin.post(&own, binding(&|_| {})).await.0, 409, "once");

    let (_, discovered) = admin.get("/api/v1").await;
    let row = discovered["resources"].as_array().unwrap().iter().find(|row| row["name"] == "bindings");
    assert_eq!(row.unwrap()["verbs"], json!(["create"]));
    assert_eq!(server.client(None, None).await.post(BINDINGS, binding(&|_| {})).await.0, 403);
}
