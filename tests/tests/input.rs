//! Bad input: each gets a clear error or event where its author looks, nothing hangs, and no Pod is lost over it.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use weft_tests::cluster::{COMMAND_MAX, given};
use weft_tests::{Cluster, Output, Run, until};

/// Manifests that are refused, with what must be said.
const REFUSED: &[(&str, &[&str])] = &[
    (
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: bad}, spec: {replicas: three, selector: {matchLabels: {a: b}}, \
         template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}}",
        &["spec.replicas"],
    ),
    ("{apiVersion: v1, kind: Pod, metadata: {name: bad}, spec: {containers: c}}", &["spec.containers"]),
    ("{apiVersion: weft.io/v1, kind: Loom, metadata: {name: bad}}", &["no matches for kind \"Loom\""]),
    (
        "{apiVersion: v1, kind: Service, metadata: {name: bad}, spec: {selector: {a: b}, ports: [{port: 70000}]}}",
        &["spec.ports[0].port", "70000", "must be between 1 and 65535"],
    ),
    (
        "{apiVersion: v1, kind: Service, metadata: {name: bad}, spec: {type: NodePort, ports: [{port: 80, nodePort: 80}]}}",
        &["spec.ports[0].nodePort", "30000-32767"],
    ),
    (
        "{apiVersion: v1, kind: Pod, metadata: {name: Bad_Name}, spec: {containers: [{name: c, image: i}]}}",
        &["metadata.name", "Bad_Name"],
    ),
    (
        "{apiVersion: v1, kind: Pod, metadata: {name: bad}, spec: {containers: [{name: c, image: i, imagen: x}]}}",
        &["unknown field \"spec.containers[0].imagen\""],
    ),
];

const CLIENT: &str = "
apiVersion: v1
kind: Pod
metadata: { name: client }
spec:
  terminationGracePeriodSeconds: 0
  containers: [{ name: c, image: 'weft.local/demo:1', command: [/bin/sleep, '3600'] }]
---
apiVersion: v1
kind: Service
metadata: { name: nobody }
spec:
  selector: { app: nobody }
  ports: [{ port: 80 }]
---
apiVersion: v1
kind: Pod
metadata: { name: no-image }
spec:
  containers: [{ name: c, image: '127.0.0.1:1/no/image:1' }]
";

#[test]
fn manifests_are_refused_in_words_and_events_tell_the_rest() {
    let cluster = Cluster::up(1, &[]);
    for (manifest, words) in REFUSED {
        let said = cluster.apply(manifest).refused();
        for word in *words {
            assert!(said.contains(word), "no {word:?} in the answer to {manifest}:\n{said}");
        }
    }
    cluster.apply(CLIENT).ok();
    cluster.ready("client");

    // A Service that selects nothing: seen in describe and service list, and a client is told, soon.
    let said = cluster.kubectl(&["describe", "service", "nobody"]).ok();
    let endpoints = said.lines().find_map(|line| line.strip_prefix("Endpoints:")).map(str::trim);
    assert!(matches!(endpoints, Some("" | "<none>")), "{said}");
    let began = Instant::now();
    let said =
        cluster.pod_exec("client", &["weft-demo", "get", "http://nobody/", "--timeout-ms", "5000"]).refused();
    assert!(began.elapsed() < Duration::from_secs(20), "{said}");
    let flows = cluster.exec("node-1", &["agentctl", "trace", "--service", "default/nobody"]).ok();
    assert!(flows.contains("DROPPED") && flows.contains("service has no ready backend"), "{flows}");

    let reason = until("the reason in the Pod's status", COMMAND_MAX, || {
        let pod = cluster.get(&["pod", "no-image"]);
        let reason = pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].clone();
        ["ErrImagePull", "ImagePullBackOff"].contains(&reason.as_str()?).then_some(reason)
    });
    let events = cluster.kubectl(&["get", "events", "--field-selector", "involvedObject.name=no-image"]).ok();
    assert!(events.contains("Failed") && events.contains("127.0.0.1:1/no/image:1"), "{reason}: {events}");
}

/// Runs an agent of its own on the outside client's machine.
fn agent(cluster: &Cluster, name: &str, control: &str, token: &str, seconds: u32) -> Output {
    let dir = cluster.dir().join("stray");
    let at = |part: &str| dir.join(part).to_string_lossy().into_owned();
    std::fs::create_dir_all(&dir).unwrap();
    let (seconds, object) = (seconds.to_string(), given("WEFT_EBPF_OBJECT"));
    cluster.exec(
        "client",
        &[
            "timeout",
            &seconds,
            "weft-agent",
            "run",
            "--control",
            control,
            "--node-name",
            name,
            "--token",
            token,
            "--data-dir",
            &at("data"),
            "--run-dir",
            &at("run"),
            "--bpffs",
            &at("pins"),
            "--ebpf-object",
            &object,
            "--cgroup-root",
            &format!("{}/client", cluster.name()),
        ],
    )
}

/// Where the agents of the cluster dial: what the daemon of node-1 was started with.
fn control_address(cluster: &Cluster) -> String {
    let status = cluster.exec("node-1", &["agentctl", "status", "-o", "json"]).ok();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    status["link"]["control"].as_str().unwrap_or_default().to_owned()
}

/// A join token that holds for so long.
fn token(cluster: &Cluster, ttl: &str) -> String {
    let mut command = Command::new(Path::new(&given("WEFT_BIN_DIR")).join("weft-control"));
    command.args(["token", "create", "--ttl", ttl, "--data-dir"]).arg(cluster.data_dir("control"));
    command.run(COMMAND_MAX).ok().trim().to_owned()
}

#[test]
fn who_cannot_join_is_told_why() {
    let cluster = Cluster::up(1, &["--no-demo"]);
    let control = control_address(&cluster);
    let good = token(&cluster, "1h");

    let output = agent(&cluster, "node with spaces", &control, &good, 20);
    assert_eq!(output.code, 64, "{output:?}");
    assert!(output.stderr.contains("node with spaces"), "{output:?}");

    // An address where nobody listens: it says so and tries again, as a machine that boots before the control plane must.
    let nobody = control.replace(":6444", ":6999");
    let output = agent(&cluster, "stray", &nobody, &good, 12);
    let said = format!("{}{}", output.stdout, output.stderr);
    assert!(said.contains(&nobody), "{said}");

    let (id, secret) = good.split_at(good.len() - 4);
    let wrong = format!("{id}{}", if secret == "aaaa" { "bbbb" } else { "aaaa" });
    let output = agent(&cluster, "stray", &control, &wrong, 30);
    let said = format!("{}{}", output.stdout, output.stderr);
    assert!(output.code != 0 && output.code != 124, "a wrong token ends the agent: {output:?}");
    assert!(said.contains("token"), "{said}");

    let short = token(&cluster, "1s");
    std::thread::sleep(Duration::from_secs(2));
    let output = agent(&cluster, "stray", &control, &short, 30);
    let said = format!("{}{}", output.stdout, output.stderr);
    assert!(output.code != 0 && output.code != 124, "an expired token ends the agent: {output:?}");
    assert!(said.contains("expired"), "{said}");
    let nodes = cluster.kubectl(&["get", "nodes", "-o", "name"]).ok();
    assert_eq!(nodes.trim(), "node/node-1");
}

/// The containers of the demo on a node, as its agent tells them.
fn containers(cluster: &Cluster) -> String {
    cluster.exec("node-1", &["agentctl", "pod", "list"]).ok()
}

fn move_away(from: &Path, what: &str) {
    std::fs::rename(from.join(what), from.join(format!("{what}.away"))).unwrap();
}

#[test]
fn an_empty_control_plane_at_the_same_address_deletes_no_pod() {
    let cluster = Cluster::up(1, &[]);
    cluster.pods("app=web", 3);
    let url = format!("http://{}:30080/hostname", cluster.address("node-1"));
    let before = containers(&cluster);
    assert_eq!(before.lines().filter(|line| line.contains("web-")).count(), 3, "{before}");
    let serves = || {
        let said = cluster.exec("client", &["weft-demo", "get", &url, "--count", "60", "--summary"]).ok();
        assert!(said.contains("60 answers from 3 places, 0 failures"), "{said}");
    };
    let data = cluster.data_dir("control");
    let mut stores: Vec<String> = std::fs::read_dir(&data)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter(|name| name.contains("store") || name.ends_with(".redb"))
        .collect();
    assert!(!stores.is_empty(), "no store in {}", data.display());
    // Whoever begins a new cluster with the old keys says so.
    stores.push("pki/store-id".to_owned());

    // With the same keys but another, empty store: only the store's identity tells them apart.
    cluster.kill("control");
    for store in &stores {
        move_away(&data, store);
    }
    cluster.start("control");
    // The agent says so in its log and to who asks it, and touches nothing.
    until("the agent to refuse the foreign store", COMMAND_MAX, || {
        cluster.log("node-1").contains("this node belongs to store").then_some(())
    });
    let status = cluster.exec("node-1", &["agentctl", "status"]).ok();
    assert!(status.contains("this node belongs to store"), "{status}");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(containers(&cluster), before);
    serves();

    // With other keys as well.
    cluster.kill("control");
    std::fs::rename(&data, data.with_extension("away")).unwrap();
    std::fs::create_dir(&data).unwrap();
    cluster.start("control");
    std::thread::sleep(Duration::from_secs(8));
    let status = cluster.exec("node-1", &["agentctl", "status"]).ok();
    assert!(status.contains("do not trust each other"), "{status}");
    assert_eq!(containers(&cluster), before);
    serves();

    // The right one comes back, and all is as it was.
    cluster.kill("control");
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(data.with_extension("away"), &data).unwrap();
    for store in &stores {
        let _other = std::fs::remove_file(data.join(store));
        std::fs::rename(data.join(format!("{store}.away")), data.join(store)).unwrap();
    }
    cluster.start("control");
    until("the node to be Ready", COMMAND_MAX, || {
        let output = cluster.kubectl(&["get", "nodes", "--no-headers"]);
        output.stdout.contains(" Ready ").then_some(())
    });
    cluster.kubectl(&["scale", "deployment/web", "--replicas=4"]).ok();
    cluster.pods("app=web", 4);
}
