//! Kinds that the control plane only stores: each is made over the API of a real server, read back, shown as a table and
//! found in discovery; and what is particular to some of them.

#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "support/server.rs"]
mod server;

use base64::Engine as _;
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use server::{Client, Server};
use weft_api::kind::KINDS;

/// Groups whose kinds all have a sample here.
const GROUPS: &[&str] = &[
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "certificates.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
];
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

fn base64(bytes: impl AsRef<[u8]>) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn request() -> Value {
    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    json!({ "request": base64(request), "signerName": CLIENT_SIGNER, "usages": ["client auth"], "username": "other" })
}

fn authority() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority.self_signed(&key).unwrap().pem()
}

fn trust_bundle() -> Value {
    json!({ "spec": { "signerName": "example.com/ca", "trustBundle": authority() } })
}

fn pod_request(key: &rcgen::KeyPair) -> Value {
    let request = rcgen::CertificateParams::default().serialize_request(key).unwrap();
    json!({ "spec": { "signerName": "example.com/ca", "podName": "p", "podUID": "1", "serviceAccountName": "default",
        "serviceAccountUID": "2", "nodeName": "n", "nodeUID": "3", "stubPKCS10Request": base64(request.der()) } })
}

/// An object of each kind, and its name.
fn samples() -> Vec<(&'static str, &'static str, Value)> {
    let path = json!({ "path": "/", "pathType": "Prefix", "backend": { "service": { "name": "web", "port": { "number": 80 } } } });
    let rule = json!({ "verbs": ["get"], "apiGroups": [""], "resources": ["pods"] });
    let subject = json!({ "kind": "User", "name": "someone" });
    let matched =
        json!({ "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"] });
    let webhook = json!({ "name": "a.b.example", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": { "url": "https://hook.example/check" }, "rules": [matched] });
    let schema = json!({ "type": "object", "properties": { "spec": { "type": "object",
        "x-kubernetes-preserve-unknown-fields": true, "additionalProperties": true } } });
    vec![
        ("NetworkPolicy", "all", json!({ "spec": {} })),
        (
            "Ingress",
            "web",
            json!({ "spec": { "rules": [{ "host": "a.example", "http": { "paths": [path] } }] } }),
        ),
        ("IngressClass", "nginx", json!({ "spec": { "controller": "example.com/ingress" } })),
        (
            "IPAddress",
            "10.96.0.77",
            json!({ "spec": { "parentRef": { "resource": "services", "namespace": "default", "name": "a" } } }),
        ),
        ("ServiceCIDR", "more", json!({ "spec": { "cidrs": ["10.97.0.0/16"] } })),
        ("Role", "pods:read", json!({ "rules": [rule] })),
        (
            "RoleBinding",
            "pods:read",
            json!({ "roleRef": { "kind": "Role", "name": "pods:read" }, "subjects": [subject] }),
        ),
        ("ClusterRole", "system:all", json!({ "rules": [rule] })),
        (
            "ClusterRoleBinding",
            "system:all",
            json!({ "roleRef": { "kind": "ClusterRole", "name": "system:all" }, "subjects": [subject] }),
        ),
        ("StorageClass", "fast", json!({ "provisioner": "example.com/disk" })),
        (
            "VolumeAttachment",
            "one",
            json!({ "spec": { "attacher": "disk", "nodeName": "n", "source": { "persistentVolumeName": "v" } } }),
        ),
        ("CSIDriver", "disk.example.com", json!({ "spec": {} })),
        ("CSINode", "n", json!({ "spec": { "drivers": [{ "name": "disk.example.com", "nodeID": "n" }] } })),
        ("CSIStorageCapacity", "one", json!({ "storageClassName": "fast", "capacity": "1Gi" })),
        (
            "VolumeAttributesClass",
            "silver",
            json!({ "driverName": "disk.example.com", "parameters": { "iops": "100" } }),
        ),
        ("RuntimeClass", "runc", json!({ "handler": "runc" })),
        ("CertificateSigningRequest", "mine", json!({ "spec": request() })),
        ("ClusterTrustBundle", "example.com:ca:one", trust_bundle()),
        ("PodCertificateRequest", "mine", pod_request(&rcgen::KeyPair::generate().unwrap())),
        ("MutatingWebhookConfiguration", "hooks", json!({ "webhooks": [webhook] })),
        ("ValidatingWebhookConfiguration", "hooks", json!({ "webhooks": [webhook] })),
        (
            "ValidatingAdmissionPolicy",
            "policy",
            json!({ "spec": { "matchConstraints": { "resourceRules": [matched] }, "validations": [{ "expression": "true" }] } }),
        ),
        (
            "ValidatingAdmissionPolicyBinding",
            "policy",
            json!({ "spec": { "policyName": "policy", "validationActions": ["Deny"] } }),
        ),
        (
            "MutatingAdmissionPolicy",
            "policy",
            json!({ "spec": { "matchConstraints": { "resourceRules": [matched] }, "reinvocationPolicy": "Never",
                "mutations": [{ "patchType": "JSONPatch", "jsonPatch": { "expression": "[]" } }] } }),
        ),
        ("MutatingAdmissionPolicyBinding", "policy", json!({ "spec": { "policyName": "policy" } })),
        (
            "CustomResourceDefinition",
            "crontabs.stable.example.com",
            json!({ "spec": { "group": "stable.example.com", "scope": "Namespaced", "names": { "plural": "crontabs", "kind": "CronTab" },
                "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema } }] } }),
        ),
    ]
}

/// What a GET answers in the form of that media type.
async fn read(admin: &mut Client, path: &str, accept: &str) -> Value {
    let response = admin.open(Method::GET, path, &[("accept", accept)], Vec::new()).await;
    let code = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(code, 200, "{path}: {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

#[tokio::test]
async fn every_kind_is_made_read_printed_and_discovered() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let samples = samples();
    for kind in KINDS.iter().filter(|kind| GROUPS.contains(&kind.group)) {
        let (_, name, body) = samples.iter().find(|(own, ..)| *own == kind.kind).expect(kind.kind);
        let root = format!("/apis/{}/{}", kind.group, kind.version);
        let within = if kind.namespaced { "/namespaces/default" } else { "" };
        let path = format!("{root}{within}/{}", kind.plural);
        let mut object = body.clone();
        object["apiVersion"] = kind.api_version().into();
        object["kind"] = kind.kind.into();
        object["metadata"] = json!({ "name": name });
        let (code, made) = admin.post(&path, object).await;
        assert_eq!(code, 201, "{kind}: {made}");
        assert_eq!(made["metadata"]["generation"].is_null(), !kind.has_generation, "{kind}");
        let (code, found) = admin.get(&format!("{path}/{name}")).await;
        assert_eq!((code, &found), (200, &made), "{kind}");
        // A second write of the same changes nothing: defaults and what the server fills in stand.
        let (code, same) = admin.call(Method::PUT, &format!("{path}/{name}"), Some(made.clone())).await;
        assert_eq!((code, &same), (200, &made), "{kind}");
        let table = read(&mut admin, &path, TABLE).await;
        let row =
            table["rows"].as_array().unwrap().iter().find(|row| row["cells"][0] == *name).expect(kind.kind);
        let columns = table["columnDefinitions"].as_array().unwrap();
        assert_eq!(row["cells"].as_array().unwrap().len(), columns.len(), "{kind}");
        let (_, resources) = admin.get(&root).await;
        let resources = resources["resources"].as_array().unwrap();
        let resource = resources.iter().find(|r| r["name"] == kind.plural).expect(kind.kind);
        assert_eq!(
            (&resource["kind"], &resource["namespaced"]),
            (&json!(kind.kind), &json!(kind.namespaced))
        );
        for part in kind.subresources {
            let name = format!("{}/{}", kind.plural, part.as_str());
            assert!(resources.iter().any(|r| r["name"] == name.as_str()), "{name}");
        }
    }
}

#[tokio::test]
async fn a_put_makes_what_is_not_there_where_kubernetes_lets_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let role = |name: &str, more: Value| {
        let mut meta = json!({ "name": name });
        meta.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": meta, "rules": [] })
    };
    let old = role("a", json!({ "resourceVersion": "7" }));
    let (code, made) = admin.call(Method::PUT, &format!("{roles}/a"), Some(old)).await;
    assert_eq!(code, 201, "{made}");
    assert!(!made["metadata"]["uid"].as_str().unwrap().is_empty());
    let (code, again) = admin.call(Method::PUT, &format!("{roles}/a"), Some(role("a", json!({})))).await;
    assert_eq!((code, &again["metadata"]["uid"]), (200, &made["metadata"]["uid"]));
    let (code, other) = admin.call(Method::PUT, &format!("{roles}/b"), Some(role("c", json!({})))).await;
    assert_eq!(code, 400, "{other}");
    let gone = role("b", json!({ "uid": "11111111-1111-1111-1111-111111111111" }));
    let (code, gone) = admin.call(Method::PUT, &format!("{roles}/b"), Some(gone)).await;
    assert_eq!((code, gone["reason"].as_str()), (409, Some("Conflict")));
    let (code, nowhere) =
        admin.call(Method::PUT, &format!("{roles}/b?dryRun=All"), Some(role("b", json!({})))).await;
    assert_eq!(code, 201, "{nowhere}");
    assert_eq!(admin.get(&format!("{roles}/b")).await.0, 404);
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" } });
    let path = "/api/v1/namespaces/default/configmaps/a";
    assert_eq!(admin.call(Method::PUT, path, Some(map)).await.0, 404);
}

#[tokio::test]
async fn a_certificate_is_asked_for_approved_and_issued() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let asked = |spec: Value| {
        json!({ "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": { "name": "mine" }, "spec": spec, "status": { "conditions": [decided("Approved")] } })
    };
    let mut wrong = request();
    wrong["request"] = base64("x").into();
    let (code, refused) = admin.post(REQUESTS, asked(wrong)).await;
    assert_eq!(code, 422, "{refused}");
    assert_eq!(refused["details"]["causes"][0]["field"], "spec.request");
    let (code, made) = admin.post(REQUESTS, asked(request())).await;
    assert_eq!(code, 201, "{made}");
    // It is of who asks, and nobody approves by asking.
    assert_ne!(made["spec"]["username"], "other");
    assert!(made["spec"]["groups"].as_array().unwrap().contains(&json!("system:masters")), "{made}");
    assert!(made.pointer("/status/conditions").is_none());
    let path = format!("{REQUESTS}/mine");
    let mut changed = made.clone();
    changed["spec"]["usages"] = json!(["server auth"]);
    let (_, same) = admin.call(Method::PUT, &path, Some(changed)).await;
    assert_eq!(same["spec"], made["spec"]);
    let mut approved = made.clone();
    approved["status"]["conditions"] = json!([decided("Approved")]);
    let (code, refused) = admin.call(Method::PUT, &format!("{path}/status"), Some(approved.clone())).await;
    assert_eq!(code, 422, "{refused}");
    let (code, approved) = admin.call(Method::PUT, &format!("{path}/approval"), Some(approved)).await;
    assert_eq!(code, 200, "{approved}");
    assert!(approved["status"]["conditions"][0]["lastUpdateTime"].is_string());
    let certificate = {
        let key = rcgen::KeyPair::generate().unwrap();
        base64(rcgen::CertificateParams::default().self_signed(&key).unwrap().pem())
    };
    let issue = |certificate: &str| json!({ "status": { "certificate": certificate } });
    let (code, refused) =
        admin.call(Method::PATCH, &format!("{path}/status"), Some(issue(&base64("x")))).await;
    assert_eq!(code, 422, "{refused}");
    let (code, issued) =
        admin.call(Method::PATCH, &format!("{path}/status"), Some(issue(&certificate))).await;
    assert_eq!(code, 200, "{issued}");
    assert_eq!(issued["status"]["certificate"], certificate);
    let table =
        read(&mut admin, &format!("{REQUESTS}?fieldSelector=spec.signerName={CLIENT_SIGNER}"), TABLE).await;
    assert_eq!(table["rows"][0]["cells"][5], "Approved,Issued");
    let (_, none) = admin.get(&format!("{REQUESTS}?fieldSelector=spec.signerName=a/b")).await;
    assert_eq!(none["items"], json!([]));
}

fn decided(type_: &str) -> Value {
    json!({ "type": type_, "status": "True", "reason": "Test" })
}

const CORE: &str = "/api/v1/namespaces/default/events";
const NEWER: &str = "/apis/events.k8s.io/v1/namespaces/default/events";

fn newer(name: &str) -> Value {
    json!({ "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": { "name": name }, "note": "it ran", "action": "Run",
        "reason": "Ran", "type": "Normal", "reportingController": "example.com/c", "reportingInstance": "c-1",
        "regarding": { "kind": "Pod", "namespace": "default", "name": "p" }, "eventTime": "2024-01-01T00:00:00.000000Z" })
}

#[tokio::test]
async fn events_are_the_same_in_both_groups() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let mut incomplete = newer("b");
    incomplete.as_object_mut().unwrap().remove("reportingController");
    let (code, refused) = admin.post(NEWER, incomplete).await;
    assert_eq!(code, 422, "{refused}");
    let (code, made) = admin.post(NEWER, newer("b")).await;
    assert_eq!(
        (code, made["note"].as_str(), &made["apiVersion"]),
        (201, Some("it ran"), &json!("events.k8s.io/v1"))
    );
    let (_, core) = admin.get(&format!("{CORE}/b")).await;
    assert_eq!(
        (&core["message"], &core["involvedObject"], &core["apiVersion"]),
        (&json!("it ran"), &made["regarding"], &json!("v1"))
    );
    assert!(core.get("note").is_none());
    let about = json!({ "kind": "Pod", "namespace": "default", "name": "q" });
    let old = json!({ "apiVersion": "v1", "kind": "Event", "metadata": { "name": "a" }, "involvedObject": about, "message": "old",
        "count": 3, "reportingComponent": "kubelet" });
    let (code, old) = admin.post(CORE, old).await;
    assert_eq!(code, 201, "{old}");
    let (_, list) = admin.get(NEWER).await;
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("EventList"), &json!("events.k8s.io/v1")));
    assert_eq!((&list["items"][0]["note"], &list["items"][0]["deprecatedCount"]), (&json!("old"), &json!(3)));
    let (_, chosen) =
        admin.get(&format!("{NEWER}?fieldSelector=regarding.name=p,reportingController=example.com/c")).await;
    assert_eq!(chosen["items"].as_array().unwrap().len(), 1, "{chosen}");
    assert_eq!(admin.get(&format!("{NEWER}?fieldSelector=involvedObject.name=p")).await.0, 400);
    let table = read(&mut admin, &format!("{NEWER}?includeObject=Object"), TABLE).await;
    assert_eq!(
        (&table["rows"][1]["cells"][3], &table["rows"][1]["object"]["note"]),
        (&json!("pod/p"), &json!("it ran"))
    );
}

#[tokio::test]
async fn events_are_changed_and_watched_in_either_group() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    // A PUT makes them, as Kubernetes has it.
    let (code, made) = admin.call(Method::PUT, &format!("{NEWER}/e"), Some(newer("e"))).await;
    assert_eq!(code, 201, "{made}");
    let path = format!("{NEWER}/e");
    let (code, patched) = admin.call(Method::PATCH, &path, Some(json!({ "note": "again" }))).await;
    assert_eq!((code, &patched["note"]), (200, &json!("again")));
    let mut put = patched.clone();
    put["note"] = "and again".into();
    assert_eq!(admin.call(Method::PUT, &path, Some(put)).await.0, 200);
    let (_, core) = admin.call(Method::PATCH, &format!("{CORE}/e"), Some(json!({ "reason": "Other" }))).await;
    assert_eq!((&core["message"], &core["reason"]), (&json!("and again"), &json!("Other")));
    let config = json!({ "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": { "name": "e" }, "note": "applied" });
    let apply = [("content-type", "application/apply-patch+yaml")];
    let target = format!("{path}?fieldManager=tester&force=true");
    let response = admin.open(Method::PATCH, &target, &apply, config.to_string().into_bytes()).await;
    assert_eq!(response.status(), 200);
    let (_, core) = admin.get(&format!("{CORE}/e")).await;
    assert_eq!(core["message"], "applied");
    let since = made["metadata"]["resourceVersion"].as_str().unwrap();
    let watch = format!("{NEWER}?watch=1&resourceVersion={since}&timeoutSeconds=1");
    let response = admin.open(Method::GET, &watch, &[], Vec::new()).await;
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let events: Vec<Value> =
        body.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let notes: Vec<&str> = events.iter().filter_map(|e| e["object"]["note"].as_str()).collect();
    assert_eq!(notes, ["again", "and again", "and again", "applied"]);
    assert!(events.iter().all(|event| event["object"]["apiVersion"] == "events.k8s.io/v1"));
}

#[tokio::test]
async fn who_is_trusted_is_told_by_certificates_of_authorities() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let path = "/apis/certificates.k8s.io/v1/clustertrustbundles";
    let bundle = |name: &str, spec: Value| json!({ "apiVersion": "certificates.k8s.io/v1", "kind": "ClusterTrustBundle", "metadata": { "name": name }, "spec": spec });
    let (one, leaf) = (authority(), {
        let key = rcgen::KeyPair::generate().unwrap();
        rcgen::CertificateParams::default().self_signed(&key).unwrap().pem()
    });
    for (pem, why) in [
        (String::new(), "at least one trust anchor must be provided"),
        (leaf, "entry 0 does not have the CA bit set"),
        (one.replace("CERTIFICATE", "KEY"), "entry 0 has bad block type: KEY"),
        (format!("{one}{one}"), "duplicate trust anchor (indices [0 1])"),
    ] {
        let (code, refused) = admin.post(path, bundle("a", json!({ "trustBundle": pem }))).await;
        assert_eq!(code, 422, "{refused}");
        let cause = &refused["details"]["causes"][0];
        assert_eq!(cause["field"], "spec.trustBundle");
        assert!(cause["message"].as_str().unwrap().ends_with(why), "{refused}");
    }
    let (code, made) = admin.post(path, bundle("a", json!({ "trustBundle": one }))).await;
    assert_eq!(code, 201, "{made}");
    let (_, made) = admin
        .post(path, bundle("example.com:ca:b", json!({ "signerName": "example.com/ca", "trustBundle": one })))
        .await;
    let (_, found) = admin.get(&format!("{path}?fieldSelector=spec.signerName=example.com/ca")).await;
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    assert_eq!(found["items"][0]["metadata"]["uid"], made["metadata"]["uid"]);
}

#[tokio::test]
async fn a_pods_certificate_is_issued_once_and_to_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let path = "/apis/certificates.k8s.io/v1/namespaces/default/podcertificaterequests";
    let key = rcgen::KeyPair::generate().unwrap();
    let mut asked = pod_request(&key);
    asked["apiVersion"] = "certificates.k8s.io/v1".into();
    asked["kind"] = "PodCertificateRequest".into();
    asked["metadata"] = json!({ "name": "mine" });
    let mut wrong = asked.clone();
    wrong["spec"]["stubPKCS10Request"] = base64("x").into();
    let (code, refused) = admin.post(path, wrong).await;
    assert_eq!((code, &refused["details"]["causes"][0]["field"]), (422, &json!("spec.stubPKCS10Request")));
    let (code, made) = admin.post(path, asked).await;
    assert_eq!((code, &made["spec"]["maxExpirationSeconds"]), (201, &json!(86_400)), "{made}");
    let begin = jiff::Timestamp::now();
    let minutes = |count: i64| begin + jiff::SignedDuration::from_mins(count);
    let seconds = |time: jiff::Timestamp| jiff::Timestamp::from_second(time.as_second()).unwrap();
    let issue = |key: &rcgen::KeyPair, end: i64| {
        let mut certificate = rcgen::CertificateParams::default();
        let time = |at: jiff::Timestamp| {
            let since = std::time::Duration::from_secs(u64::try_from(at.as_second()).unwrap());
            rcgen::date_time_ymd(1970, 1, 1) + since
        };
        (certificate.not_before, certificate.not_after) = (time(begin), time(minutes(end)));
        let mut object = made.clone();
        object["status"] = json!({ "certificateChain": certificate.self_signed(key).unwrap().pem(),
            "notBefore": seconds(begin).to_string(), "notAfter": seconds(minutes(end)).to_string(),
            "beginRefreshAt": seconds(minutes(30)).to_string(),
            "conditions": [{ "type": "Issued", "status": "True", "reason": "Issued", "message": "", "lastTransitionTime": "2027-01-15T08:00:00Z" }] });
        object
    };
    let at = format!("{path}/mine/status");
    for (object, why) in [
        (
            issue(&rcgen::KeyPair::generate().unwrap(), 120),
            "leaf certificate was not issued to the requested public key",
        ),
        (issue(&key, 50), "leaf certificate lifetime must be >= 1 hour"),
        (issue(&key, 1500), "leaf certificate lifetime must be <= spec.maxExpirationSeconds (86400)"),
    ] {
        let (code, refused) = admin.call(Method::PUT, &at, Some(object)).await;
        assert_eq!(code, 422, "{refused}");
        assert!(refused["message"].as_str().unwrap().contains(why), "{refused}");
    }
    let mut early = issue(&key, 120);
    early["status"]["beginRefreshAt"] = seconds(minutes(5)).to_string().into();
    let (code, refused) = admin.call(Method::PUT, &at, Some(early)).await;
    assert_eq!((code, &refused["details"]["causes"][0]["field"]), (422, &json!("status.beginRefreshAt")));
    let mut labelled = issue(&key, 120);
    labelled["metadata"]["labels"] = json!({ "who": "signs" });
    let (code, issued) = admin.call(Method::PUT, &at, Some(labelled)).await;
    assert_eq!(code, 200, "{issued}");
    assert_eq!(issued["metadata"].get("labels"), None, "a write to the status is about nothing else");
    let mut taken_back = issued.clone();
    taken_back["status"] = json!({});
    let (code, refused) = admin.call(Method::PUT, &at, Some(taken_back)).await;
    assert_eq!(code, 422, "{refused}");
}
