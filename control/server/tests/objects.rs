//! Objects over the API of a real server: what is written is read, watched, refused and kept as Kubernetes does it.

#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "support/server.rs"]
mod server;

use http::Method;
use http_body_util::BodyExt;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use server::{BINARY, Client, Server};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str, value: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "labels": { "v": value } },
        "data": { "k": value } })
}

#[tokio::test]
async fn conflicts_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let (code, made) = admin.post(MAPS, map("a", "1")).await;
    assert_eq!(code, 201, "{made}");
    let (code, again) = admin.post(MAPS, map("a", "1")).await;
    assert_eq!((code, again["reason"].as_str()), (409, Some("AlreadyExists")));
    let path = format!("{MAPS}/a");
    let mut newer = made.clone();
    newer["data"]["k"] = "2".into();
    let (code, written) = admin.call(Method::PUT, &path, Some(newer.clone())).await;
    assert_eq!(code, 200, "{written}");
    let (code, stale) = admin.call(Method::PUT, &path, Some(newer)).await;
    assert_eq!((code, stale["reason"].as_str()), (409, Some("Conflict")));
}

#[tokio::test]
async fn a_write_that_changes_nothing_makes_no_revision_and_a_dry_run_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let (_, made) = admin.post(MAPS, map("a", "1")).await;
    let (_, same) =
        admin.call(Method::PATCH, &format!("{MAPS}/a"), Some(json!({ "data": { "k": "1" } }))).await;
    assert_eq!(same["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    let (code, _) = admin.post(&format!("{MAPS}?dryRun=All"), map("dry", "1")).await;
    assert_eq!(code, 201);
    assert_eq!(admin.get(&format!("{MAPS}/dry")).await.0, 404);
}

/// The next events of a watch.
async fn events(admin: &mut Client, path: &str, count: usize) -> Vec<Value> {
    let mut response = admin.open(Method::GET, path, &[], Vec::new()).await;
    assert_eq!(response.status(), 200);
    let (mut text, mut events) = (Vec::new(), Vec::new());
    while events.len() < count {
        let frame = response.body_mut().frame().await.expect("more").expect("no break");
        text.extend_from_slice(frame.data_ref().expect("data"));
        while let Some(end) = text.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            events.push(serde_json::from_slice(&line).expect("an event"));
        }
    }
    events
}

#[tokio::test]
async fn watches_tell_changes_selections_and_the_end_of_the_initial_events() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let (_, first) = admin.post(MAPS, map("a", "1")).await;
    let mut other = server.admin().await;
    other
        .call(Method::PATCH, &format!("{MAPS}/a"), Some(json!({ "metadata": { "labels": { "v": "2" } } })))
        .await;
    other.call(Method::DELETE, &format!("{MAPS}/a"), None).await;
    let from = first["metadata"]["resourceVersion"].as_str().unwrap();
    // The namespace's certificates are a ConfigMap too, and come when they come.
    let named = format!("{MAPS}?watch=1&resourceVersion={from}&fieldSelector=metadata.name%3Da");
    let told = events(&mut admin, &named, 2).await;
    assert_eq!(told[0]["type"], "MODIFIED");
    assert_eq!(told[1]["type"], "DELETED");
    let mut admin = server.admin().await;
    let selected = format!("{MAPS}?watch=1&resourceVersion={from}&labelSelector=v%3D1");
    let left = &events(&mut admin, &selected, 1).await[0];
    let changed = &told[0]["object"]["metadata"]["resourceVersion"];
    assert_eq!((&left["type"], &left["object"]["metadata"]["resourceVersion"]), (&json!("DELETED"), changed));
    assert_eq!(left["object"]["metadata"]["labels"]["v"], "1", "as it was when it was of the selection");

    other.post(MAPS, map("b", "1")).await;
    let mut admin = server.admin().await;
    let list = format!(
        "{MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&\
         fieldSelector=metadata.name%3Db"
    );
    let told = events(&mut admin, &list, 2).await;
    assert_eq!((&told[0]["type"], &told[0]["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("b")));
    assert_eq!(told[1]["type"], "BOOKMARK");
    assert_eq!(told[1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let mut admin = server.admin().await;
    assert_eq!(admin.get(&format!("{MAPS}?watch=1&sendInitialEvents=true")).await.0, 422);
    // Of a state that is not there yet nothing older is told.
    let (code, early) = admin.get(&format!("{list}&resourceVersion=4000000000")).await;
    assert_eq!((code, &early["reason"]), (504, &json!("Timeout")), "{early}");
}

#[tokio::test]
async fn lists_come_in_pages_of_one_state() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    for name in ["p1", "p2", "p3"] {
        admin.post(MAPS, map(name, "page")).await;
    }
    let query = format!("{MAPS}?labelSelector=v%3Dpage&limit=2");
    let (_, first) = admin.get(&query).await;
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    let next = first["metadata"]["continue"].as_str().unwrap().to_owned();
    admin.call(Method::DELETE, &format!("{MAPS}/p3"), None).await;
    let (code, second) = admin.get(&format!("{query}&continue={next}")).await;
    assert_eq!(code, 200, "{second}");
    assert_eq!(second["items"][0]["metadata"]["name"], "p3", "as it was when the list began");
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert_eq!(admin.get(&format!("{MAPS}?continue=nonsense")).await.0, 400);
    // A page of the state that is named, an object no older than it, and what means nothing.
    let then = first["metadata"]["resourceVersion"].as_str().unwrap();
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().iter();
        items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let only = "labelSelector=v%3Dpage";
    for (asked, wanted) in [
        (format!("resourceVersion={then}&limit=500"), 3),
        (format!("resourceVersion={then}&resourceVersionMatch=Exact"), 3),
        (format!("resourceVersion={then}"), 2),
        (format!("resourceVersion={then}&resourceVersionMatch=NotOlderThan&limit=500"), 2),
    ] {
        let (code, list) = admin.get(&format!("{MAPS}?{only}&{asked}")).await;
        assert_eq!((code, names(&list).len()), (200, wanted), "{asked}: {list}");
    }
    assert_eq!(admin.get(&format!("{MAPS}?resourceVersionMatch=Exact")).await.0, 422);
    assert_eq!(admin.get(&format!("{MAPS}?continue={next}&resourceVersion={then}")).await.0, 400);
    assert_eq!(admin.get(&format!("{MAPS}/p1?resourceVersion={then}")).await.0, 200);
    let (code, early) = admin.get(&format!("{MAPS}/p1?resourceVersion=99999999")).await;
    assert_eq!((code, &early["reason"]), (504, &json!("Timeout")), "{early}");
}

#[tokio::test]
async fn service_addresses_and_node_ports_are_given_once_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let path = "/api/v1/namespaces/default/services";
    let service = |name: &str, extra: Value| {
        let mut object = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
            "spec": { "type": "NodePort", "ports": [{ "port": 80 }] } });
        for (key, value) in extra.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        object
    };
    let (code, first) = admin.post(path, service("one", json!({ "clusterIP": "10.96.7.7" }))).await;
    assert_eq!(code, 201, "{first}");
    let port = first["spec"]["ports"][0]["nodePort"].clone();
    assert!((30_000..=32_767).contains(&port.as_u64().unwrap()));
    let (code, taken) = admin.post(path, service("two", json!({ "clusterIP": "10.96.7.7" }))).await;
    assert_eq!(code, 422, "{taken}");
    let ports = json!({ "ports": [{ "port": 80, "nodePort": port }] });
    assert_eq!(admin.post(path, service("two", ports.clone())).await.0, 422);
    assert_eq!(admin.call(Method::DELETE, &format!("{path}/one"), None).await.0, 200);
    let mut both = ports;
    both["clusterIP"] = "10.96.7.7".into();
    let (code, second) = admin.post(path, service("two", both)).await;
    assert_eq!(code, 201, "{second}");
}

#[tokio::test]
async fn a_second_address_comes_with_the_policy_and_goes_back_to_the_range() {
    let dir = tempfile::tempdir().unwrap();
    let ranges = ["--service-cidr=10.96.0.0/16,fd00:96::/112", "--pod-cidr=10.244.0.0/16,fd00:244::/48"];
    let mut server = Server::start_with(dir.path(), &ranges);
    let mut admin = server.admin().await;
    let path = "/api/v1/namespaces/default/services";
    let service = |name: &str, spec: Value| json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name }, "spec": spec });
    let ports = json!([{ "port": 80 }]);
    let (code, one) = admin.post(path, service("one", json!({ "ports": ports }))).await;
    assert_eq!((code, &one["spec"]["ipFamilies"]), (201, &json!(["IPv4"])), "{one}");
    let policy = |policy: &str| Some(json!({ "spec": { "ipFamilyPolicy": policy } }));
    let one_path = format!("{path}/one");
    let (code, two) = admin.call(Method::PATCH, &one_path, policy("PreferDualStack")).await;
    assert_eq!((code, &two["spec"]["ipFamilies"]), (200, &json!(["IPv4", "IPv6"])), "{two}");
    let second = two["spec"]["clusterIPs"][1].clone();
    assert!(second.as_str().unwrap().starts_with("fd00:96::"), "{two}");
    let asks = service("two", json!({ "clusterIP": second, "ports": ports }));
    let (code, taken) = admin.post(path, asks.clone()).await;
    assert_eq!(code, 422, "{taken}");
    let release = Some(json!({ "spec": { "clusterIPs": [one["spec"]["clusterIP"]] } }));
    let (code, refused) = admin.call(Method::PATCH, &one_path, release).await;
    let why = refused["message"].as_str().unwrap().to_owned();
    assert!(code == 422 && why.contains("must be set to 'SingleStack'"), "{why}");
    let (code, back) = admin.call(Method::PATCH, &one_path, policy("SingleStack")).await;
    assert_eq!((code, &back["spec"]["clusterIPs"]), (200, &json!([one["spec"]["clusterIP"]])), "{back}");
    let (code, given) = admin.post(path, asks).await;
    assert_eq!((code, &given["spec"]["ipFamilies"]), (201, &json!(["IPv6"])), "{given}");

    // The cluster's own Services, and a certificate for the address of both families.
    let dns = admin.until("/api/v1/namespaces/kube-system/services/kube-dns", |code, _| code == 200).await;
    assert_eq!(dns["spec"]["clusterIPs"], json!(["10.96.0.10", "fd00:96::a"]));
    let certificate = std::fs::read(dir.path().join("pki/server.crt")).unwrap();
    let certificate = CertificateDer::from_pem_slice(&certificate).unwrap();
    let address: [u8; 16] = "fd00:96::1".parse::<std::net::Ipv6Addr>().unwrap().octets();
    assert!(certificate.windows(16).any(|bytes| bytes == address), "the API's own IPv6 address");

    // A cluster that is single stack again takes nothing away.
    let (_, two) = admin.call(Method::PATCH, &one_path, policy("RequireDualStack")).await;
    assert_eq!(two["spec"]["clusterIPs"].as_array().unwrap().len(), 2, "{two}");
    server.kill();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let label = Some(json!({ "metadata": { "labels": { "a": "b" } } }));
    let (code, kept) = admin.call(Method::PATCH, &one_path, label).await;
    assert_eq!((code, &kept["spec"]), (200, &two["spec"]), "{kept}");
}

#[tokio::test]
async fn namespaces_hold_and_are_emptied() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let maps = "/api/v1/namespaces/extra/configmaps";
    assert_eq!(admin.post(maps, map("a", "1")).await.0, 404, "no such namespace");
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "extra" } });
    assert_eq!(admin.post("/api/v1/namespaces", namespace).await.0, 201);
    let (_, held) = admin
        .post(
            maps,
            json!({ "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "held", "finalizers": ["example.com/hold"] } }),
        )
        .await;
    assert_eq!(held["metadata"]["name"], "held");
    admin.call(Method::DELETE, "/api/v1/namespaces/extra", None).await;
    admin.until(&format!("{maps}/held"), |_, v| v["metadata"]["deletionTimestamp"].is_string()).await;
    let (code, refused) = admin.post(maps, map("b", "1")).await;
    assert_eq!(code, 403, "{refused}");
    let release = json!({ "metadata": { "finalizers": null } });
    admin.call(Method::PATCH, &format!("{maps}/held"), Some(release)).await;
    admin.until("/api/v1/namespaces/extra", |code, _| code == 404).await;
}

#[tokio::test]
async fn deployments_make_pods_and_pods_carry_their_account() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let deployment = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": { "replicas": 2, "selector": { "matchLabels": { "app": "web" } },
            "template": { "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "c", "image": "web:1" }] } } } });
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let (code, made) = admin.post(path, deployment).await;
    assert_eq!(code, 201, "{made}");
    let pods = admin
        .until("/api/v1/namespaces/default/pods?labelSelector=app%3Dweb", |_, v| {
            v["items"].as_array().is_some_and(|i| i.len() == 2)
        })
        .await;
    let spec = &pods["items"][0]["spec"];
    assert_eq!(spec["serviceAccountName"], "default");
    let mounts = spec["containers"][0]["volumeMounts"].as_array().unwrap();
    assert!(mounts.iter().any(|m| m["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"));
    let (_, scale) = admin.get(&format!("{path}/web/scale")).await;
    assert_eq!(scale["status"]["selector"], "app=web");
    admin.call(Method::PATCH, &format!("{path}/web/scale"), Some(json!({ "spec": { "replicas": 1 } }))).await;
    let one = |_: u16, v: &Value| v["items"].as_array().is_some_and(|i| i.len() == 1);
    admin.until("/api/v1/namespaces/default/pods?labelSelector=app%3Dweb", one).await;
    admin.call(Method::DELETE, &format!("{path}/web"), None).await;
    let none = |_: u16, v: &Value| v["items"].as_array().is_some_and(Vec::is_empty);
    admin.until("/api/v1/namespaces/default/pods?labelSelector=app%3Dweb", none).await;
    admin.until("/apis/apps/v1/namespaces/default/replicasets", none).await;
}

#[tokio::test]
async fn a_create_that_is_refused_is_told_to_its_owner_and_made_good_later() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let set = json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": { "name": "web" },
        "spec": { "replicas": 2, "selector": { "matchLabels": { "app": "web" } },
            "template": { "metadata": { "labels": { "app": "web" } },
                "spec": { "serviceAccountName": "robot", "containers": [{ "name": "c", "image": "web:1" }] } } } });
    let (code, made) = admin.post("/apis/apps/v1/namespaces/default/replicasets", set).await;
    assert_eq!(code, 201, "{made}");
    let told = "/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Dweb";
    let events = admin.until(told, |_, v| v["items"].as_array().is_some_and(|items| !items.is_empty())).await;
    let event = &events["items"][0];
    assert_eq!((event["type"].as_str(), event["reason"].as_str()), (Some("Warning"), Some("FailedCreate")));
    assert_eq!(event["involvedObject"]["uid"], made["metadata"]["uid"]);
    let message = event["message"].as_str().unwrap();
    assert!(message.contains("serviceaccount \"robot\" not found"), "{message}");
    let robot = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "robot" } });
    admin.post("/api/v1/namespaces/default/serviceaccounts", robot).await;
    let two = |_: u16, v: &Value| v["items"].as_array().is_some_and(|items| items.len() == 2);
    admin.until("/api/v1/namespaces/default/pods?labelSelector=app%3Dweb", two).await;
}

#[tokio::test]
async fn a_foreground_delete_waits_for_everything_below() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let deployment = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": { "replicas": 1, "selector": { "matchLabels": { "app": "web" } },
            "template": { "metadata": { "labels": { "app": "web" }, "finalizers": ["example.com/hold"] },
                "spec": { "containers": [{ "name": "c", "image": "web:1" }] } } } });
    let path = "/apis/apps/v1/namespaces/default/deployments";
    admin.post(path, deployment).await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = admin.until(pods, |_, v| v["items"].as_array().is_some_and(|items| items.len() == 1)).await;
    let pod = format!("{pods}/{}", pod["items"][0]["metadata"]["name"].as_str().unwrap());
    let options = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground" });
    assert_eq!(admin.call(Method::DELETE, &format!("{path}/web"), Some(options)).await.0, 200);
    admin.until(&pod, |_, v| v["metadata"]["deletionTimestamp"].is_string()).await;
    assert_eq!(admin.get(&format!("{path}/web")).await.0, 200, "its Pod is still there");
    admin.call(Method::PATCH, &pod, Some(json!({ "metadata": { "finalizers": null } }))).await;
    admin.until(&format!("{path}/web"), |code, _| code == 404).await;
}

#[tokio::test]
async fn what_is_orphaned_has_no_owners_field_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let deployment = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": { "replicas": 0, "selector": { "matchLabels": { "app": "web" } },
            "template": { "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "c", "image": "web:1" }] } } } });
    let path = "/apis/apps/v1/namespaces/default/deployments";
    admin.post(path, deployment).await;
    let sets = "/apis/apps/v1/namespaces/default/replicasets";
    let made = admin.until(sets, |_, v| v["items"][0]["metadata"]["ownerReferences"][0].is_object()).await;
    let options = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Orphan" });
    assert_eq!(admin.call(Method::DELETE, &format!("{path}/web"), Some(options)).await.0, 200);
    admin.until(&format!("{path}/web"), |code, _| code == 404).await;
    let left = admin.get(sets).await.1["items"][0].take();
    assert_eq!(left["metadata"]["uid"], made["items"][0]["metadata"]["uid"]);
    assert_eq!(left["metadata"].get("ownerReferences"), None, "{left}");
}

#[tokio::test]
async fn who_is_not_known_gets_nothing_and_a_token_ends_with_its_account() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut nobody = server.client(None, None).await;
    assert_eq!(nobody.get("/livez").await.0, 200);
    assert_eq!(nobody.get("/api/v1/secrets").await.0, 403);
    assert_eq!(nobody.get("/metrics").await.0, 403);
    let mut wrong = server.client(None, Some("eyJ.e30.x".into())).await;
    assert_eq!(wrong.get("/livez").await.0, 401);
    let mut admin = server.admin().await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let robot = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "robot" } });
    assert_eq!(admin.post(accounts, robot).await.0, 201);
    let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
    let (code, token) = admin.post(&format!("{accounts}/robot/token"), request).await;
    assert_eq!(code, 201, "{token}");
    let mut robot = server.client(None, token["status"]["token"].as_str().map(ToOwned::to_owned)).await;
    let (code, discovery) = robot.get("/api/v1").await;
    assert_eq!((code, discovery["kind"].as_str()), (200, Some("APIResourceList")));
    let (code, refused) = robot.get("/api/v1/namespaces/default/secrets").await;
    assert_eq!(code, 403);
    assert!(refused["message"].as_str().unwrap().contains("system:serviceaccount:default:robot"));
    admin.call(Method::DELETE, &format!("{accounts}/robot"), None).await;
    assert_eq!(robot.get("/api/v1").await.0, 401);
}

#[tokio::test]
async fn bad_bodies_are_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let wrong_type =
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "x" }, "data": 3 });
    assert_eq!(admin.post(MAPS, wrong_type).await.0, 400);
    let wrong_kind = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "x" } });
    assert_eq!(admin.post(MAPS, wrong_kind).await.0, 400);
    let unknown = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "x" }, "dta": {} });
    let (code, refused) = admin.post(&format!("{MAPS}?fieldValidation=Strict"), unknown).await;
    assert_eq!(code, 400);
    assert!(refused["message"].as_str().unwrap().contains("unknown field \"dta\""), "{refused}");
    assert_eq!(admin.post("/api/v1/namespaces/default/widgets", json!({})).await.0, 404);
    let large = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "x" },
        "data": { "k": "x".repeat(4 << 20) } });
    assert_eq!(admin.post(MAPS, large).await.0, 413);
    let mut stopped = server;
    assert!(stopped.stop().success(), "a stop is no failure");
}

#[tokio::test]
async fn one_address_does_not_hold_every_connection() {
    use tokio::io::AsyncReadExt;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(dir.path(), &["--connections-max", "8"]);
    let first = server.admin().await;
    let _second = server.admin().await;
    let mut third = tokio::net::TcpStream::connect(server.api).await.unwrap();
    let closed = tokio::time::timeout(std::time::Duration::from_secs(5), third.read_u8()).await;
    assert!(closed.expect("closed at once").is_err());
    drop(first);
    let free =
        async { while tokio::net::TcpStream::connect(server.api).await.unwrap().read_u8().await.is_err() {} };
    // A connection that is let in says nothing until it is spoken to.
    assert!(tokio::time::timeout(std::time::Duration::from_secs(2), free).await.is_err());
}

#[tokio::test]
async fn too_many_requests_at_once_are_told_to_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(dir.path(), &["--requests-max", "1"]);
    let mut admin = server.admin().await;
    let mut slow = server.admin().await;
    let body = map("slow", "1").to_string();
    let (first, rest) = body.split_at(20);
    let (mut finish, mut answer) = slow.post_in_two(MAPS, first.to_owned(), rest.to_owned()).await;
    let response = loop {
        let response = admin.open(Method::GET, MAPS, &[], Vec::new()).await;
        if response.status() == 429 {
            break response;
        }
        // It may have met one of these itself.
        if answer.is_finished() {
            assert_eq!(answer.await.unwrap(), 429);
            slow = server.admin().await;
            (finish, answer) = slow.post_in_two(MAPS, first.to_owned(), rest.to_owned()).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(server.admin().await.get("/livez").await.0, 200, "life is told all the same");
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    assert_eq!(server.admin().await.post(reviews, json!({})).await.0, 429, "a review has a body too");
    finish.send(()).unwrap();
    assert_eq!(answer.await.unwrap(), 201);
    assert_eq!(server.admin().await.get(MAPS).await.0, 200);
}

#[test]
fn bad_settings_end_with_64_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for arguments in [
        vec!["serve", "--listen", "nowhere"],
        vec!["serve", "--pod-cidr", "10.96.0.0/20"],
        vec!["serve", "--no-such-flag"],
        vec!["token", "create", "--ttl", "soon"],
    ] {
        let output =
            std::process::Command::new(BINARY).args(&arguments).env("WEFT_DATA_DIR", &data).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
    assert!(!data.exists());
}
