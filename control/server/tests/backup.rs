//! `weft-control backup` and `restore` on real servers: what is in a backup is there again, under versions that were never
//! given, and clients and nodes are told.

#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "support/server.rs"]
mod server;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use base64::Engine as _;
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use server::{BINARY, Client, Server};
use sha2::{Digest as _, Sha256};
use weft_link::Receiver;
use weft_link::message::Hello;
use weft_link::session::{self, NodeIdentity, key_and_csr};
use weft_store::backup::UNFINISHED;
use weft_store::store::{Transaction, Write};
use weft_store::{Embedded, Store as _, testetcd};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";

fn secret(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": { "k": name.repeat(1_000) } })
}

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("a list");
    items.iter().filter_map(|item| item["metadata"]["name"].as_str()).collect()
}

fn run(command: &str, dir: &Path, file: &Path, more: &[&str]) -> Output {
    let mut process = Command::new(BINARY);
    process.arg(command).arg("--data-dir").arg(dir).args(more).arg(file).output().expect("the binary starts")
}

fn complaint(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The keys of the old server, without its state.
fn keys_alone(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from.join("pki")).arg(to).status().unwrap();
    assert!(copied.success());
}

/// The first event of a watch.
async fn first_event(admin: &mut Client, path: &str) -> Value {
    let mut body = admin.open(Method::GET, path, &[], Vec::new()).await.into_body();
    let frame = tokio::time::timeout(Duration::from_secs(10), body.frame()).await.expect("an event in time");
    let data = frame.expect("an event").unwrap().into_data().unwrap();
    serde_json::from_slice(data.split(|byte| *byte == b'\n').next().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_running_server_is_restored_and_everybody_is_told() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = other.path().join("all.backup");
    let mut server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let key = key_and_csr("node-1").unwrap();
    let token = server.token("1h").parse().unwrap();
    let answer = session::join(server.link, &token, "node-1", &key.csr_pem).await.unwrap();
    let node = NodeIdentity::from_pem(&answer.certificate_pem, &key.key_pem, &answer.ca_pem).unwrap();
    let hello = |resume| Hello { node: "node-1".into(), resume, ..Hello::default() };
    let mut linked = session::connect(server.link, &node, hello(None)).await.unwrap();
    let mut receiver = Receiver::new(None, []);
    receiver.welcome(&linked.welcome).unwrap();
    while receiver.frame(linked.state.next().await.unwrap().unwrap()).unwrap().is_none() {}
    let before = linked.welcome.position.clone().unwrap();
    for name in ["kept", "changed"] {
        assert_eq!(admin.post(SECRETS, secret(name)).await.0, 201);
    }

    let said = done(&run("backup", dir.path(), &file, &[]));
    assert!(said.contains("entries as of revision"), "{said}");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it holds Secrets");
    assert!(complaint(&run("backup", dir.path(), &file, &[])).contains("is there already"));
    admin.call(Method::DELETE, &format!("{SECRETS}/changed"), None).await;
    let (_, lost) = admin.post(SECRETS, secret("lost")).await;
    server.stop();
    drop(linked);

    // On another machine, say, with the keys of the old one.
    let new = tempfile::tempdir().unwrap();
    keys_alone(dir.path(), new.path());
    let said = done(&run("restore", new.path(), &file, &[]));
    assert!(said.contains("are restored"), "{said}");
    let again = complaint(&run("restore", new.path(), &file, &[]));
    assert!(again.contains("there is a store already"), "{again}");
    let server = Server::start(new.path());
    let mut admin = server.admin().await;
    let (_, list) = admin.get(SECRETS).await;
    assert_eq!(names(&list), ["changed", "kept"]);
    let (_, kept) = admin.get(&format!("{SECRETS}/kept")).await;
    assert_eq!(kept["data"].as_object().unwrap().len(), 1);
    assert!(revision(&kept) > revision(&lost), "no version is given twice");
    let told =
        first_event(&mut admin, &format!("{SECRETS}?watch=true&resourceVersion={}", revision(&lost))).await;
    assert_eq!((&told["type"], &told["object"]["code"]), (&json!("ERROR"), &json!(410)), "{told}");

    let mut linked = session::connect(server.link, &node, hello(receiver.resume())).await.unwrap();
    let after = linked.welcome.position.clone().unwrap();
    assert!(after.store_id == before.store_id && after.epoch > before.epoch, "{before:?} {after:?}");
    assert!(!linked.welcome.resumed);
    receiver.welcome(&linked.welcome).expect("the node obeys it");
    while receiver.frame(linked.state.next().await.unwrap().unwrap()).unwrap().is_none() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_moves_a_server_to_an_etcd() {
    let (dir, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = dir.path().join("all.backup");
    let mut server = Server::start(dir.path());
    let (_, made) = server.admin().await.post(SECRETS, secret("kept")).await;
    done(&run("backup", dir.path(), &file, &[]));
    server.stop();
    keys_alone(dir.path(), new.path());
    let etcd = testetcd::Server::start();
    let store = format!("etcd://127.0.0.1:{}/moved", etcd.port);
    done(&run("restore", new.path(), &file, &["--store", &store]));
    assert!(complaint(&run("restore", new.path(), &file, &["--store", &store])).contains("already"));
    let server = Server::start_with(new.path(), &["--store", &store]);
    let (code, kept) = server.admin().await.get(&format!("{SECRETS}/kept")).await;
    assert_eq!((code, &kept["data"]), (200, &made["data"]));
    assert!(revision(&kept) > revision(&made));
}

/// Of the mark of a backup's end, the count of its entries and their checksum.
const END_BYTES: usize = 4 + 8 + 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_whole_backup_makes_no_store() {
    let (dir, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = dir.path().join("all.backup");
    let mut server = Server::start(dir.path());
    // Who is not the admin gets none.
    let mut anonymous = server.client(None, None).await;
    assert_eq!(anonymous.get("/weft/v1/backup").await.0, 403);
    done(&run("backup", dir.path(), &file, &[]));
    server.stop();
    let there = complaint(&run("backup", dir.path(), &dir.path().join("other"), &[]));
    assert!(there.contains("is `weft-control serve` running?"), "{there}");
    assert!(!dir.path().join("other").exists() && !dir.path().join("other.partial").exists());
    let whole = std::fs::read(&file).unwrap();
    // In the value of the last entry: what it is changes, how long it is does not.
    let mut damaged = whole.clone();
    damaged[whole.len() - END_BYTES - 1] ^= 1;
    for (bytes, why) in
        [(&whole[..whole.len() - 1], "not whole"), (&damaged, "damaged"), (b"{}", "no backup")]
    {
        std::fs::write(&file, bytes).unwrap();
        let said = complaint(&run("restore", new.path(), &file, &[]));
        assert!(said.contains(why), "{said}");
        assert!(!new.path().join("store.redb").exists());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_was_not_finished_is_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path().join("store.redb")).unwrap();
    let writes = vec![Write::Put(UNFINISHED.to_vec().into(), Vec::new().into())];
    store.commit(Transaction { checks: Vec::new(), writes }).await.unwrap();
    drop(store);
    let mut serve = Command::new(BINARY);
    serve.args(["serve", "--listen", "127.0.0.1:0", "--link", "127.0.0.1:0", "--data-dir"]).arg(dir.path());
    let said = complaint(&serve.output().expect("the binary starts"));
    assert!(said.contains("was not finished: remove the store, and restore once more"), "{said}");
}

/// A backup of one entry, as long as that, made by hand.
fn by_hand(id: [u8; 16], value_bytes: usize) -> Vec<u8> {
    let mut file = b"weft-backup\n\0\0\0\x01".to_vec();
    file.extend_from_slice(&id);
    for number in [1, 1] {
        file.extend_from_slice(&u64::to_be_bytes(number));
    }
    for length in [3, u32::try_from(value_bytes).unwrap()] {
        file.extend_from_slice(&length.to_be_bytes());
    }
    file.extend_from_slice(b"o/x");
    file.extend_from_slice(&vec![7; value_bytes]);
    file.extend_from_slice(&[0xff; 4]);
    file.extend_from_slice(&1u64.to_be_bytes());
    let sum = Sha256::digest(&file);
    file.extend_from_slice(&sum);
    file
}

#[test]
fn a_restore_that_fails_leaves_no_store_behind() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("all.backup");
    std::fs::write(&file, by_hand([7; 16], 5 << 20)).unwrap();
    let said = complaint(&run("restore", dir.path(), &file, &[]));
    assert!(said.contains("is more than this store takes at once"), "{said}");
    assert!(!dir.path().join("store.redb").exists());
    std::fs::write(&file, by_hand([7; 16], 1 << 20)).unwrap();
    let said = done(&run("restore", dir.path(), &file, &[]));
    assert!(said.contains("1 entries as of revision 1 are restored"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_refused_a_backup_is_told_why_and_has_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let key = key_and_csr("node-1").unwrap();
    let token = server.token("1h").parse().unwrap();
    let answer = session::join(server.link, &token, "node-1", &key.csr_pem).await.unwrap();
    // A node's own certificate in the place of the admin's.
    let admins = std::fs::read_to_string(dir.path().join("admin.kubeconfig")).unwrap();
    let nodes = admins.lines().map(|line| {
        let encoded = |pem: &str| base64::engine::general_purpose::STANDARD.encode(pem);
        match line.split_once("-data: ") {
            Some((name, _)) if name.ends_with("client-certificate") => {
                format!("{name}-data: {}\n", encoded(&answer.certificate_pem))
            }
            Some((name, _)) if name.ends_with("client-key") => {
                format!("{name}-data: {}\n", encoded(&key.key_pem))
            }
            _ => format!("{line}\n"),
        }
    });
    let kubeconfig = dir.path().join("node.kubeconfig");
    std::fs::write(&kubeconfig, nodes.collect::<String>()).unwrap();
    let file = dir.path().join("all.backup");
    let said = complaint(&run("backup", dir.path(), &file, &["--kubeconfig", kubeconfig.to_str().unwrap()]));
    assert!(said.contains("the control plane refused (403") && said.contains("node-1"), "{said}");
    assert!(!file.exists() && !dir.path().join("all.backup.partial").exists());
}

/// Neither by a forgotten `--store`, nor by a lost file, nor by the backup of another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keys_of_one_cluster_serve_no_other_store() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let serve = |more: &[&str]| {
        let mut serve = Command::new("timeout");
        serve.args(["20", BINARY, "serve", "--listen", "127.0.0.1:0", "--link", "127.0.0.1:0", "--data-dir"]);
        complaint(&serve.arg(dir.path()).args(more).output().expect("the binary starts"))
    };
    let (mut etcd, file) = (testetcd::Server::start(), other.path().join("other.backup"));
    let store = |name: &str| format!("etcd://127.0.0.1:{}/{name}", etcd.port);
    let mut server = Server::start_with(other.path(), &["--store", &store("other")]);
    done(&run("backup", other.path(), &file, &[]));
    server.stop();
    let mut server = Server::start_with(dir.path(), &["--store", &store("ours")]);
    server.admin().await.post(SECRETS, secret("kept")).await;
    server.stop();

    let said = serve(&["--store", &store("other")]);
    assert!(said.contains("belongs to the store") && said.contains("holds another store"), "{said}");
    let said = serve(&["--store", &store("mistyped")]);
    assert!(said.contains("belongs to the store") && said.contains("holds no store"), "{said}");
    let none = etcd.ctl(&["get", "--prefix", "--keys-only", "/weft/mistyped/"]);
    assert_eq!(none.trim(), "", "nothing is begun there");
    let said = serve(&[]);
    assert!(said.contains("store.redb is not there"), "{said}");
    assert!(!dir.path().join("store.redb").exists());
    let said = complaint(&run("restore", dir.path(), &file, &["--store", &store("new")]));
    assert!(said.contains("the backup is of another store"), "{said}");

    let mut server = Server::start_with(dir.path(), &["--store", &store("ours")]);
    assert_eq!(server.admin().await.get(&format!("{SECRETS}/kept")).await.0, 200);
    let ours = other.path().join("ours.backup");
    done(&run("backup", dir.path(), &ours, &[]));
    server.stop();
    etcd.empty();
    let store = format!("etcd://127.0.0.1:{}/ours", etcd.port);
    assert!(serve(&["--store", &store]).contains("holds no store"));
    done(&run("restore", dir.path(), &ours, &["--store", &store]));
    let mut server = Server::start_with(dir.path(), &["--store", &store]);
    assert_eq!(server.admin().await.get(&format!("{SECRETS}/kept")).await.0, 200);
    server.stop();

    // Whose keys are nowhere has no say in what others made.
    let new = tempfile::tempdir().unwrap();
    let mut fresh = Command::new("timeout");
    fresh.args([
        "20",
        BINARY,
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--link",
        "127.0.0.1:0",
        "--store",
        &store,
    ]);
    let said = complaint(&fresh.arg("--data-dir").arg(new.path()).output().expect("the binary starts"));
    assert!(said.contains("holds a cluster") && said.contains("has no CA"), "{said}");
    assert!(!new.path().join("pki/ca.key").exists(), "none are made");
    keys_alone(dir.path(), new.path());
    let mut server = Server::start_with(new.path(), &["--store", &store]);
    assert_eq!(server.admin().await.get(&format!("{SECRETS}/kept")).await.0, 200);
    server.stop();

    // To begin anew is what the complaint says.
    etcd.empty();
    let said = serve(&["--store", &store]);
    let id = dir.path().join("pki/store-id");
    assert!(said.contains(&format!("remove {}", id.display())), "{said}");
    std::fs::remove_file(id).unwrap();
    let server = Server::start_with(dir.path(), &["--store", &store]);
    assert_eq!(server.admin().await.get(&format!("{SECRETS}/kept")).await.0, 404);
}
