//! Rules of requests over the API of a real server, each told to a client: warnings, preconditions, dry runs, selections that
//! are deleted, scale, finalizers, and the reasons of refusals.

#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "support/server.rs"]
mod server;

use http::Method;
use http::header::WARNING;
use serde_json::{Value, json};
use server::{Client, Server};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn map(name: &str, label: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "labels": { "v": label } } })
}

/// What a request's answer warns of.
async fn warned(admin: &mut Client, method: Method, path: &str, type_: &str, body: &str) -> Vec<String> {
    let answer = admin.open(method, path, &[("content-type", type_)], body.as_bytes().to_vec()).await;
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
    let warnings = answer.headers().get_all(WARNING).iter().map(|text| text.to_str().unwrap().to_owned());
    let warnings = warnings.collect();
    http_body_util::BodyExt::collect(answer.into_body()).await.unwrap();
    warnings
}

#[tokio::test]
async fn fields_that_nobody_knows_are_warned_of_refused_or_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let (json, merge, apply) =
        ("application/json", "application/merge-patch+json", "application/apply-patch+yaml");
    let body = |name: &str| {
        format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}","nmae":"x"}},"data":{{"a":"1","a":"2"}}}}"#
        )
    };
    let told = warned(&mut admin, Method::POST, MAPS, json, &body("default")).await;
    assert_eq!(
        told,
        [r#"299 - "unknown field \"metadata.nmae\"""#, r#"299 - "duplicate field \"data.a\"""#],
        "who says nothing is warned"
    );
    let path = format!("{MAPS}?fieldValidation=Ignore");
    assert_eq!(warned(&mut admin, Method::POST, &path, json, &body("ignored")).await, [""; 0]);
    let patched = format!("{MAPS}/ignored");
    let patch = r#"{"metadata":{"nmae":"x"}}"#;
    let told = warned(&mut admin, Method::PATCH, &patched, merge, patch).await;
    assert_eq!(told, [r#"299 - "unknown field \"metadata.nmae\"""#]);
    // A configuration in the words of YAML.
    let yaml = "# by hand\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: applied\n  nmae: x\ndata: { k: 'yes' }\n";
    let applied = format!("{MAPS}/applied?fieldManager=hand");
    let told = warned(&mut admin, Method::PATCH, &applied, apply, yaml).await;
    assert_eq!(told, [r#"299 - "unknown field \"metadata.nmae\"""#]);
    let (_, read) = admin.get(&format!("{MAPS}/applied")).await;
    assert_eq!(
        (&read["data"], &read["metadata"]["managedFields"][0]["manager"]),
        (&json!({ "k": "yes" }), &json!("hand"))
    );
    for (method, path, type_, body) in [
        (Method::POST, format!("{MAPS}?fieldValidation=Strict"), json, body("strict")),
        (Method::PATCH, format!("{patched}?fieldValidation=Strict"), merge, patch.to_owned()),
        (Method::PATCH, format!("{applied}&fieldValidation=Strict"), apply, yaml.to_owned()),
    ] {
        let answer = admin.open(method, &path, &[("content-type", type_)], body.into_bytes()).await;
        assert_eq!(answer.status(), 400, "{path}");
        http_body_util::BodyExt::collect(answer.into_body()).await.unwrap();
    }
    assert_eq!(admin.get(&format!("{MAPS}/strict")).await.0, 404);
}

#[tokio::test]
async fn who_writes_a_part_is_not_warned_of_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let (merge, labels) = ("application/merge-patch+json", json!({ "app": "a" }));
    let template = json!({ "metadata": { "labels": labels }, "spec": { "containers": [{ "name": "c", "image": "i:1" }],
        "nodeSelector": { "beta.kubernetes.io/arch": "amd64" } } });
    let made = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" },
        "spec": { "replicas": 0, "selector": { "matchLabels": labels }, "template": template } });
    let told = warned(&mut admin, Method::POST, DEPLOYMENTS, "application/json", &made.to_string()).await;
    assert_eq!(told.len(), 1, "{told:?}");
    let path = format!("{DEPLOYMENTS}/d");
    let changed = r#"{"spec":{"template":{"metadata":{"annotations":{"a":"b"}}}}}"#;
    assert_eq!(warned(&mut admin, Method::PATCH, &path, merge, changed).await, told);
    let paused = warned(&mut admin, Method::PATCH, &path, merge, r#"{"spec":{"paused":true}}"#).await;
    assert_eq!(paused, [""; 0], "nor who leaves the template as it is");
    let (status, body) = (format!("{path}/status"), r#"{"status":{"replicas":1},"nobody":1}"#);
    let told = warned(&mut admin, Method::PATCH, &status, merge, body).await;
    assert_eq!(told, [r#"299 - "unknown field \"nobody\"""#], "but of what was written");
}

#[tokio::test]
async fn what_is_deleted_is_what_was_meant() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let (_, first) = admin.post(MAPS, map("a", "1")).await;
    let path = format!("{MAPS}/a");
    let options =
        |fields: Value| Some(json!({ "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": fields }));
    for wrong in [json!({ "uid": "another" }), json!({ "resourceVersion": "1" })] {
        let (code, refused) = admin.call(Method::DELETE, &path, options(wrong)).await;
        assert_eq!((code, &refused["reason"]), (409, &json!("Conflict")), "{refused}");
    }
    // Another object of the same name is not the one that was read.
    let mut other = first.clone();
    other["metadata"]["uid"] = "another".into();
    let (code, refused) = admin.call(Method::PUT, &path, Some(other)).await;
    assert_eq!((code, &refused["reason"]), (409, &json!("Conflict")), "{refused}");
    let (code, _) = admin.call(Method::DELETE, &format!("{path}?dryRun=All"), None).await;
    assert_eq!((code, admin.get(&path).await.0), (200, 200));
    let exact =
        json!({ "uid": first["metadata"]["uid"], "resourceVersion": first["metadata"]["resourceVersion"] });
    assert_eq!(admin.call(Method::DELETE, &path, options(exact)).await.0, 200);
    assert_eq!(admin.get(&path).await.0, 404);

    for (name, label) in [("x", "gone"), ("y", "gone"), ("z", "kept")] {
        admin.post(MAPS, map(name, label)).await;
    }
    let selected = format!("{MAPS}?labelSelector=v%3Dgone");
    admin.call(Method::DELETE, &format!("{selected}&dryRun=All"), None).await;
    assert_eq!(
        admin.get(&selected).await.1["items"].as_array().unwrap().len(),
        2,
        "a dry run removes nothing"
    );
    assert_eq!(admin.call(Method::DELETE, &selected, None).await.0, 200);
    assert_eq!(admin.get(&selected).await.1["items"], json!([]));
    assert_eq!(admin.get(&format!("{MAPS}/z")).await.0, 200, "what is not selected stays");
}

/// As Kubernetes' single worker does by default (`--delete-collection-workers`).
#[tokio::test]
async fn a_collection_is_deleted_in_order_until_one_fails() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let selected = format!("{MAPS}?labelSelector=v%3Dgone");
    let (_, first) = admin.post(MAPS, map("a", "gone")).await;
    for name in ["d", "c", "b"] {
        admin.post(MAPS, map(name, "gone")).await;
    }
    let exact = json!({ "apiVersion": "v1", "kind": "DeleteOptions",
        "preconditions": { "uid": first["metadata"]["uid"] } });
    let (code, refused) = admin.call(Method::DELETE, &selected, Some(exact)).await;
    assert_eq!((code, &refused["details"]["name"]), (409, &json!("b")), "{refused}");
    let names = |list: &Value| {
        let items = list["items"].as_array().unwrap().iter();
        items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&admin.get(&selected).await.1), ["b", "c", "d"]);
    // A page of it, as a list has pages.
    let (code, page) = admin.call(Method::DELETE, &format!("{selected}&limit=2"), None).await;
    assert_eq!((code, names(&page)), (200, vec!["b".to_owned(), "c".to_owned()]), "{page}");
    assert!(page["metadata"]["continue"].is_string(), "{page}");
    assert_eq!(names(&admin.get(&selected).await.1), ["d"]);
}

/// Labels and annotations come with a status where Kubernetes' own strategy of the kind takes them.
#[tokio::test]
async fn a_status_brings_of_metadata_what_its_kind_takes() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let cidr = json!({ "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": { "name": "more" },
        "spec": { "cidrs": ["10.9.0.0/24"] } });
    let node =
        json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n", "labels": { "own": "x" } } });
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" },
        "spec": { "containers": [{ "name": "c", "image": "i:1" }] } });
    for (path, made, takes) in [
        ("/api/v1/nodes", node, true),
        ("/api/v1/namespaces/default/pods", pod, true),
        ("/apis/networking.k8s.io/v1/servicecidrs", cidr, false),
    ] {
        let name = made["metadata"]["name"].as_str().unwrap().to_owned();
        let (code, made) = admin.post(path, made).await;
        assert_eq!(code, 201, "{made}");
        let one = format!("{path}/{name}/status?fieldManager=teller");
        let label = json!({ "metadata": { "labels": { "told": "x" }, "annotations": { "told": "y" } },
            "spec": { "unschedulable": true, "nodeName": "elsewhere", "cidrs": null },
            "status": { "conditions": [{ "type": "Told", "status": "True", "reason": "R", "message": "m",
                "lastTransitionTime": "2026-01-01T00:00:00Z" }] } });
        let (code, told) = admin.call(Method::PATCH, &one, Some(label)).await;
        assert_eq!(code, 200, "{told}");
        assert_eq!(told["metadata"]["labels"]["told"] == "x", takes, "{told}");
        assert_eq!(told["metadata"]["annotations"]["told"] == "y", takes, "{told}");
        let spec = &told["spec"];
        assert!(spec["unschedulable"].is_null() && spec["nodeName"] != "elsewhere", "{told}");
        assert_eq!(spec["cidrs"], made["spec"]["cidrs"], "{told}");
        assert!(
            told["status"]["conditions"].as_array().unwrap().iter().any(|c| c["type"] == "Told"),
            "{told}"
        );
        let entries = told["metadata"]["managedFields"].as_array().unwrap();
        let entry = entries.iter().find(|entry| entry["manager"] == "teller").expect("a manager");
        assert_eq!(
            (&entry["subresource"], entry["fieldsV1"]["f:metadata"].is_object()),
            (&json!("status"), takes)
        );
    }
    let bad = json!({ "metadata": { "labels": { "not a label": "x" } } });
    assert_eq!(admin.call(Method::PATCH, "/api/v1/nodes/n/status", Some(bad)).await.0, 422);
}

#[tokio::test]
async fn scale_and_finalize_take_what_is_theirs_alone() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let deployment = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": { "replicas": 0, "selector": { "matchLabels": { "app": "web" } }, "template": {
            "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [{ "name": "c", "image": "i:1" }] } } } });
    assert_eq!(admin.post(DEPLOYMENTS, deployment).await.0, 201);
    let scale = format!("{DEPLOYMENTS}/web/scale");
    let (code, refused) =
        admin.call(Method::PATCH, &scale, Some(json!({ "spec": { "replicas": -1 } }))).await;
    assert_eq!(
        (code, &refused["details"]["causes"][0]["field"]),
        (422, &json!("spec.replicas")),
        "{refused}"
    );
    let told = refused["message"].as_str().unwrap();
    assert!(told.starts_with("Scale.autoscaling \"web\" is invalid"), "by the Scale, not its object: {told}");
    for method in [Method::POST, Method::DELETE] {
        let (code, refused) = admin.call(method, &scale, None).await;
        assert_eq!((code, &refused["reason"]), (405, &json!("MethodNotAllowed")), "{refused}");
    }

    const NAMESPACE: &str = "/api/v1/namespaces/held";
    let (_, mut held) = admin
        .post(
            "/api/v1/namespaces",
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "held" } }),
        )
        .await;
    assert_eq!(held["spec"]["finalizers"], json!(["kubernetes"]));
    held["spec"]["finalizers"] = json!([]);
    held["metadata"]["labels"]["more"] = "x".into();
    let (_, written) = admin.call(Method::PUT, NAMESPACE, Some(held.clone())).await;
    assert_eq!(written["spec"]["finalizers"], json!(["kubernetes"]), "not by the Namespace itself");
    assert_eq!(written["metadata"]["labels"]["more"], "x");
    held["metadata"]["resourceVersion"] = written["metadata"]["resourceVersion"].clone();
    held["spec"]["finalizers"] = json!(["example.com/own"]);
    let (code, finalized) = admin.call(Method::PUT, &format!("{NAMESPACE}/finalize"), Some(held)).await;
    assert_eq!((code, &finalized["spec"]["finalizers"]), (200, &json!(["example.com/own"])), "{finalized}");
}

#[tokio::test]
async fn refusals_have_the_reasons_that_clients_look_for() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    admin.post(MAPS, map("a", "1")).await;
    let one = format!("{MAPS}/a");
    for (method, path, type_, body, code, reason) in [
        (Method::POST, one.as_str(), "application/json", "{}", 405, "MethodNotAllowed"),
        (Method::PATCH, one.as_str(), "text/plain", "{}", 415, "UnsupportedMediaType"),
        (Method::POST, MAPS, "application/xml", "<a/>", 415, "UnsupportedMediaType"),
        (Method::POST, MAPS, "application/json", "{", 400, "BadRequest"),
        (Method::GET, "/api/v1/pods?labelSelector=a%3D%3D%3Db", "", "", 400, "BadRequest"),
        (Method::GET, "/api/v1/namespaces/default/nothings", "", "", 404, "NotFound"),
        (Method::PUT, one.as_str(), "application/json", r#"{"metadata":{"name":"b"}}"#, 400, "BadRequest"),
    ] {
        let answer =
            admin.open(method.clone(), path, &[("content-type", type_)], body.as_bytes().to_vec()).await;
        let told = answer.status().as_u16();
        let bytes = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
        let status: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(
            (told, &status["reason"], &status["code"]),
            (code, &json!(reason), &json!(code)),
            "{method} {path}: {status}"
        );
    }
    let mut stranger = server.client(None, Some("no.such.token".to_owned())).await;
    let (code, refused) = stranger.get(MAPS).await;
    assert_eq!((code, &refused["reason"]), (401, &json!("Unauthorized")));
}

#[tokio::test]
async fn health_is_told_at_three_places() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut anyone = server.client(None, None).await;
    for path in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(anyone.get(path).await, (200, json!("ok")), "{path}");
        let (code, said) = anyone.get(&format!("{path}?verbose")).await;
        assert!(code == 200 && said.as_str().unwrap().contains("[+]ping ok"), "{path}: {said}");
        assert_eq!(anyone.get(&format!("{path}/nothing")).await.0, 404);
    }
}

#[tokio::test]
async fn broken_expressions_are_refused_where_they_stand() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let definition = |rule: &str, pattern: &str| {
        let spec = json!({"type": "object", "properties": {"name": {"type": "string", "pattern": pattern}},
            "x-kubernetes-validations": [{"rule": rule}]});
        let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}});
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "crontabs.stable.example.com"}, "spec": {"group": "stable.example.com", "scope": "Namespaced",
            "names": {"plural": "crontabs", "singular": "crontab", "kind": "CronTab", "listKind": "CronTabList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]}})
    };
    let at = "spec.versions[0].schema.openAPIV3Schema.properties[spec]";
    let deep = "(".repeat(20_000);
    for (rule, pattern, field, why) in [
        (
            "self.name ==",
            "a",
            "x-kubernetes-validations[0].rule",
            "compilation failed: ERROR: <input>:1:13: Syntax error",
        ),
        ("object.name == ''", "a", "x-kubernetes-validations[0].rule", "undeclared reference to 'object'"),
        (&deep, "a", "x-kubernetes-validations[0].rule", "expression recursion limit exceeded: 250"),
        ("true", "(?!a)b", "properties[name].pattern", "invalid or unsupported Perl syntax: `(?!`"),
    ] {
        let (code, refused) = admin.post(definitions, definition(rule, pattern)).await;
        let cause = &refused["details"]["causes"][0];
        assert_eq!((code, &cause["field"]), (422, &json!(format!("{at}.{field}"))), "{refused}");
        assert_eq!(cause["reason"], "FieldValueInvalid");
        assert!(cause["message"].as_str().unwrap().contains(why), "{cause}");
    }
    let rule = "!has(self.name) || self.name.all(c, c.matches('^[[a-z]+$')) == oldSelf.?name.hasValue()";
    let (code, made) = admin.post(definitions, definition(rule, r"^\${[[A-Z]+}$")).await;
    assert_eq!(code, 201, "{made}");
    let mut changed = made.clone();
    changed["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-validations"]
        [0]["rule"] = "self.".into();
    let (code, refused) =
        admin.call(Method::PUT, &format!("{definitions}/crontabs.stable.example.com"), Some(changed)).await;
    assert_eq!(code, 422, "{refused}");

    let policies = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
    let policy = |expression: &str| {
        let rule = json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]});
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "p"},
            "spec": {"matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": expression}]}})
    };
    let (code, refused) = admin.post(policies, policy("object.spec.containers.all(c, has(c))")).await;
    assert_eq!(code, 422, "{refused}");
    let field = &refused["details"]["causes"][0]["field"];
    assert_eq!(field, "spec.validations[0].expression", "{refused}");
    let (code, made) = admin.post(policies, policy("object.spec.containers.all(c, has(c.image))")).await;
    assert_eq!(code, 201, "{made}");
}
