//! Lists, their pages and watches at the border of what is kept: a state that is gone, and what there is at the beginning.

#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "support/server.rs"]
mod server;

use http::Method;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use server::{Client, Server};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str, label: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "labels": { "v": label } } })
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("a list");
    items.iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

async fn made(admin: &mut Client, objects: &[(&str, &str)]) {
    for (name, label) in objects {
        let (code, made) = admin.post(MAPS, map(name, label)).await;
        assert_eq!(code, 201, "{made}");
    }
}

/// The server forgets by itself what is older than it is told to keep.
#[tokio::test]
async fn a_state_that_is_forgotten_is_410_and_a_list_goes_on_with_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(dir.path(), &["--history", "1s"]);
    let mut admin = server.admin().await;
    made(&mut admin, &[("a", "1"), ("b", "1"), ("c", "2"), ("d", "1"), ("e", "1"), ("f", "1")]).await;
    let selected = format!("{MAPS}?labelSelector=v%3D1");
    let (_, first) = admin.get(&format!("{selected}&limit=1")).await;
    assert_eq!(names(&first), ["a"]);
    let (token, version) = (
        first["metadata"]["continue"].as_str().unwrap().to_owned(),
        first["metadata"]["resourceVersion"].as_str().unwrap().to_owned(),
    );
    let exact = format!("{MAPS}?resourceVersionMatch=Exact&resourceVersion={version}");
    let (code, then) = admin.get(&exact).await;
    assert!(code == 200 && names(&then).contains(&"b"), "{then}");
    // What changes meanwhile a consistent rest would not show.
    admin.call(Method::DELETE, &format!("{MAPS}/b"), None).await;
    made(&mut admin, &[("bb", "1")]).await;
    let gone = admin.until(&exact, |code, _| code == 410).await;
    assert_eq!(
        (&gone["reason"], &gone["message"], &gone["metadata"]),
        (&json!("Expired"), &json!("The resourceVersion for the provided list is too old."), &json!({}))
    );

    let (code, gone) = admin.get(&format!("{selected}&limit=2&continue={token}")).await;
    assert_eq!((code, &gone["reason"]), (410, &json!("Expired")), "{gone}");
    let told = gone["message"].as_str().unwrap();
    assert!(told.contains("use the continue token in this response") && told.contains("inconsistent list"));
    let token = gone["metadata"]["continue"].as_str().expect("a token").to_owned();
    // It holds no revision: however old it is, it is of what there is when it is used.
    let (code, second) = admin.get(&format!("{selected}&limit=2&continue={token}")).await;
    assert_eq!((code, names(&second)), (200, vec!["bb", "d"]), "{second}");
    let at: u64 = second["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    assert!(at > version.parse().unwrap(), "{second}");
    // The pages behind it are of one state again.
    made(&mut admin, &[("ee", "1")]).await;
    let rest = second["metadata"]["continue"].as_str().unwrap();
    let (code, third) = admin.get(&format!("{selected}&limit=5&continue={rest}")).await;
    assert_eq!((code, names(&third)), (200, vec!["e", "f"]), "{third}");
    let (code, all) = admin.get(&format!("{MAPS}?continue={token}")).await;
    assert_eq!((code, &names(&all)[..3]), (200, &["bb", "c", "d"][..]), "without a limit it is all: {all}");
    assert!(names(&all).contains(&"ee"));
    let (code, _) = admin.get(&format!("/api/v1/namespaces/default/secrets?continue={token}")).await;
    assert_eq!(code, 400, "of another collection");
}

/// Events of a watch until there are so many.
async fn events(admin: &mut Client, path: &str, count: usize) -> Vec<Value> {
    let mut body = admin.open(Method::GET, path, &[], Vec::new()).await.into_body();
    let (mut read, mut events) = (Vec::new(), Vec::new());
    while events.len() < count {
        let frame = tokio::time::timeout(std::time::Duration::from_secs(60), body.frame()).await;
        read.extend(frame.expect("an event").unwrap().unwrap().into_data().unwrap());
        let lines = serde_json::Deserializer::from_slice(&read).into_iter::<Value>();
        events = lines.map_while(Result::ok).collect();
    }
    events
}

#[tokio::test]
async fn a_watch_without_a_version_begins_with_all_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    made(&mut admin, &[("b", "1"), ("a", "1"), ("c", "2")]).await;
    // What was written later than it was made is told as it is.
    let label = json!({ "metadata": { "labels": { "v": "1", "more": "x" } } });
    let (_, changed) = admin.call(Method::PATCH, &format!("{MAPS}/b"), Some(label)).await;
    for version in ["", "&resourceVersion=0"] {
        let mut watcher = server.admin().await;
        let path = format!("{MAPS}?watch=1&labelSelector=v%3D1{version}");
        let told = events(&mut watcher, &path, 2).await;
        let of = |event: &Value| (event["type"].clone(), event["object"]["metadata"]["name"].clone());
        let of: Vec<_> = told.iter().map(of).collect();
        assert_eq!(of, [(json!("ADDED"), json!("a")), (json!("ADDED"), json!("b"))], "{told:?}");
        assert_eq!(told[1]["object"], changed);
    }
    // And goes on with what changes.
    let mut watcher = server.admin().await;
    let path = format!("{MAPS}?watch=1&labelSelector=v%3D2");
    let (told, ()) = tokio::join!(events(&mut watcher, &path, 2), async {
        made(&mut admin, &[("d", "2")]).await;
    });
    let of: Vec<_> = told.iter().map(|event| &event["object"]["metadata"]["name"]).collect();
    assert_eq!(of, ["c", "d"]);
}

#[tokio::test]
async fn objects_are_selected_by_the_fields_of_their_kind() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let selector = json!({ "matchLabels": { "app": "web" } });
    let template = json!({ "metadata": { "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "c", "image": "i:1" }] } });
    let set = |name: &str, replicas: u32| {
        json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": { "name": name },
            "spec": { "replicas": replicas, "selector": selector.clone(), "template": template.clone() } })
    };
    let service = |name: &str, type_: &str| {
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
            "spec": { "type": type_, "ports": [{ "port": 80 }] } })
    };
    let secret = |name: &str, type_: &str| json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "type": type_ });
    let pod = |name: &str, network: bool| {
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
            "spec": { "hostNetwork": network, "containers": [{ "name": "c", "image": "i:1" }] } })
    };
    const OF: &str = "/api/v1/namespaces/default";
    const SETS: &str = "/apis/apps/v1/namespaces/default/replicasets";
    for (path, object) in [
        (SETS.to_owned(), set("none", 0)),
        (SETS.to_owned(), set("one", 1)),
        (format!("{OF}/services"), service("inside", "ClusterIP")),
        (format!("{OF}/services"), service("outside", "NodePort")),
        (format!("{OF}/secrets"), secret("own", "example.com/own")),
        (format!("{OF}/secrets"), secret("plain", "Opaque")),
        (format!("{OF}/pods"), pod("hosts", true)),
        (format!("{OF}/pods"), pod("own", false)),
    ] {
        let (code, made) = admin.post(&path, object).await;
        assert_eq!(code, 201, "{made}");
    }
    admin.until(&format!("{SETS}/one"), |_, set| set["status"]["replicas"] == 1).await;
    let (_, inside) = admin.get(&format!("{OF}/services/inside")).await;
    let address = format!("spec.clusterIP={}", inside["spec"]["clusterIP"].as_str().unwrap());
    for (path, fields, selected) in [
        (SETS, "status.replicas=0", "none"),
        (SETS, "status.replicas=1", "one"),
        ("/api/v1/namespaces/default/services", address.as_str(), "inside"),
        ("/api/v1/namespaces/default/services", "spec.type=NodePort", "outside"),
        ("/api/v1/namespaces/default/secrets", "type=example.com/own", "own"),
        ("/api/v1/namespaces/default/pods", "spec.hostNetwork=true", "hosts"),
        ("/api/v1/namespaces/default/pods", "status.podIPs=,metadata.name=own", "own"),
        ("/api/v1/namespaces", "metadata.name=default,status.phase=Active", "default"),
    ] {
        let (code, list) = admin.get(&format!("{path}?fieldSelector={}", fields.replace('=', "%3D"))).await;
        assert_eq!((code, names(&list)), (200, vec![selected]), "{path} {fields}");
    }
    let (code, list) = admin.get("/api/v1/namespaces?fieldSelector=status.phase%3DTerminating").await;
    assert_eq!((code, names(&list)), (200, vec![]));
    let (code, refused) = admin.get(&format!("{SETS}?fieldSelector=spec.replicas%3D1")).await;
    assert_eq!((code, &refused["reason"]), (400, &json!("BadRequest")), "{refused}");
}
