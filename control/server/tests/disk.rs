//! A server whose disk is full: it refuses writes and says so, serves what it has, and goes on by itself when there is room.

#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "support/server.rs"]
mod server;

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use http::Method;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use server::{Client, Server};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str, bytes: usize) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "k": "x".repeat(bytes) } })
}

/// Status and text of a path of health.
async fn health(client: &mut Client, path: &str) -> (u16, String) {
    let (code, said) = client.get(path).await;
    (code, said.as_str().unwrap_or_default().to_owned())
}

/// Writes a file until the disk takes no more.
fn fill(path: &Path) {
    let mut ballast = File::create(path).unwrap();
    while ballast.write_all(&[7; 64 << 10]).is_ok() {}
    // What is less than a whole piece.
    while ballast.write_all(&[7; 512]).is_ok() {}
}

#[tokio::test]
async fn a_full_disk_refuses_writes_reddens_readyz_and_is_over_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_on_disk(dir.path(), 64);
    let mut admin = server.admin().await;
    for n in 0..20 {
        assert_eq!(admin.post(MAPS, map(&format!("before-{n}"), 1_000)).await.0, 201);
    }
    let (_, page) = admin.get(&format!("{MAPS}?limit=7")).await;
    let next = page["metadata"]["continue"].as_str().unwrap().to_owned();
    let revision = page["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut watcher = server.admin().await;
    let watch = format!("{MAPS}?watch=true&resourceVersion={revision}");
    let mut watch = watcher.open(Method::GET, &watch, &[], Vec::new()).await.into_body();
    assert_eq!(health(&mut admin, "/readyz").await, (200, "ok".to_owned()));

    fill(&server.dir.join("ballast"));
    let mut stored = 0;
    let refusal = loop {
        let (code, answer) = admin.post(MAPS, map(&format!("more-{stored}"), 500_000)).await;
        if code != 201 {
            assert_eq!(code, 503, "{answer}");
            break answer;
        }
        stored += 1;
        assert!(stored < 200, "the disk is full some time");
    };
    assert_eq!((&refusal["kind"], &refusal["reason"]), (&json!("Status"), &json!("ServiceUnavailable")));
    assert_eq!(refusal["message"], "no space is left for the store");
    let (code, said) = health(&mut admin, "/readyz").await;
    assert_eq!(code, 500, "{said}");
    assert!(said.contains("[+]ping ok\n[-]store failed: ") && said.contains("No space left"), "{said}");
    assert!(said.ends_with("readyz check failed\n"), "{said}");
    let mut nobody = server.client(None, None).await;
    let (code, said) = health(&mut nobody, "/readyz").await;
    assert!(code == 500 && said.contains("[-]store failed: reason withheld\n"), "{said}");
    let (code, said) = health(&mut admin, "/readyz/store").await;
    assert!(code == 500 && said.starts_with("internal server error: "), "{said}");
    let (code, said) = health(&mut admin, "/readyz?exclude=store&exclude=moon&verbose").await;
    assert_eq!(code, 200, "{said}");
    let lines = "[+]ping ok\n[+]store excluded: ok\n[+]watch-cache ok\n[+]shutdown ok\n";
    let warning = "warn: some health checks cannot be excluded: no matches for \"moon\"\n";
    assert_eq!(said, format!("{lines}{warning}readyz check passed\n"));
    assert_eq!(health(&mut admin, "/livez").await, (200, "ok".to_owned()));
    assert_eq!(health(&mut admin, "/livez/moon").await.0, 404);
    let (_, component) = admin.get("/api/v1/componentstatuses/etcd-0").await;
    let condition = &component["conditions"][0];
    assert_eq!((&condition["type"], &condition["status"]), (&json!("Healthy"), &json!("False")));
    assert!(condition["error"].as_str().unwrap().contains("No space left"), "{component}");
    let (_, component) = admin.get("/api/v1/componentstatuses/scheduler").await;
    assert_eq!(component["conditions"][0]["status"], "True");

    // What is there is read: as it is, as it was, and as it changed.
    let (code, list) = admin.get(&format!("{MAPS}?limit=500")).await;
    assert_eq!((code, list["items"].as_array().unwrap().len()), (200, 21 + stored));
    let (code, rest) = admin.get(&format!("{MAPS}?limit=500&continue={next}")).await;
    assert_eq!((code, rest["items"].as_array().unwrap().len()), (200, 14), "{rest}");
    for n in 0..stored {
        let line = watch.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(String::from_utf8_lossy(&line).contains(&format!("\"more-{n}\"")));
    }

    std::fs::remove_file(server.dir.join("ballast")).unwrap();
    // Nobody writes: it looks by itself.
    admin.until("/readyz", |code, _| code == 200).await;
    assert_eq!(admin.post(MAPS, map("after", 500_000)).await.0, 201);
    assert_eq!(admin.get(&format!("{MAPS}/before-19")).await.0, 200);
}
