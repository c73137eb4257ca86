//! Nodes that encrypt what Pods send each other: everything works as it does in clear, nothing of it can be read between the
//! nodes, and keys change, agents restart and the encrypting process is lost without a connection noticing for long.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use weft_tests::cluster::COMMAND_MAX;
use weft_tests::{Cluster, Running, until};

const NODES: [&str; 2] = ["node-1", "node-2"];
/// What is said aloud, to be looked for on the wire.
const SAID: &str = "a-secret-that-nobody-else-may-read";
/// How long a key may take to all nodes.
const ROTATED_MAX: Duration = Duration::from_secs(120);

/// A Pod on a node that serves, with the demo's programs.
fn pod(name: &str, node: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{ name: {name} }}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 0
  containers: [{{ name: c, image: 'weft.local/demo:1' }}]
---
"
    )
}

fn status(cluster: &Cluster, node: &str) -> Value {
    let said = cluster.exec(node, &["agentctl", "status", "-o", "json"]);
    // Its agent may just be starting anew.
    serde_json::from_str::<Value>(&said.stdout).map_or(Value::Null, |mut status| status["encryption"].take())
}

fn is_on(status: &Value) -> bool {
    matches!(status["mode"].as_str(), Some("kernel" | "user space"))
}

/// The generation that a node sends to all others with.
fn generation(cluster: &Cluster, node: &str) -> Option<u64> {
    let status = status(cluster, node);
    let peers = status["status"]["peers"].as_array()?.iter();
    let all: Option<BTreeSet<u64>> = peers.map(|peer| peer["generation"].as_u64()).collect();
    let all = all?;
    (all.len() == 1).then(|| all.first().copied())?
}

/// What goes over a node's uplink.
struct Capture {
    tcpdump: Running,
    file: PathBuf,
}

impl Capture {
    fn start(cluster: &Cluster, node: &str, number: u32) -> Self {
        let said = cluster.exec(node, &["agentctl", "status", "-o", "json"]).ok();
        let status: Value = serde_json::from_str(&said).unwrap();
        let uplink = status["dataplane"]["uplink"].as_str().unwrap().to_owned();
        let file = cluster.dir().join(format!("{node}-{number}.pcap"));
        let path = file.to_string_lossy().into_owned();
        let tcpdump = cluster.spawn(
            node,
            &["tcpdump", "-U", "--immediate-mode", "-B", "65536", "-i", &uplink, "-Z", "root", "-w", &path],
        );
        until("tcpdump listens", COMMAND_MAX, || {
            std::fs::metadata(&file).is_ok_and(|file| file.len() > 0).then_some(())
        });
        Self { tcpdump, file }
    }

    /// The frames, the very last ones perhaps not.
    fn end(self) -> Vec<Vec<u8>> {
        std::thread::sleep(Duration::from_millis(500));
        let _said = self.tcpdump.kill();
        read(&self.file)
    }
}

fn read(file: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(file).unwrap();
    let (mut frames, mut at) = (Vec::new(), 24);
    // Head of a record: seconds, fraction, length kept, length.
    while let Some(head) = bytes.get(at..at + 16) {
        let length = u32::from_le_bytes(head[8..12].try_into().unwrap()) as usize;
        let Some(frame) = bytes.get(at + 16..at + 16 + length) else { break };
        frames.push(frame.to_vec());
        at += 16 + length;
    }
    frames
}

/// Frames of UDP over IPv4 to a port.
fn count(frames: &[Vec<u8>], port: u16) -> usize {
    let is_one = |frame: &&Vec<u8>| {
        frame.get(12..14) == Some(&[8, 0])
            && frame.get(23) == Some(&17)
            && frame.get(36..38) == Some(&port.to_be_bytes())
    };
    frames.iter().filter(is_one).count()
}

fn contains(frames: &[Vec<u8>], text: impl AsRef<[u8]>) -> bool {
    let text = text.as_ref();
    frames.iter().any(|frame| frame.windows(text.len()).any(|window| window == text))
}

/// A connection from a process of node-1; what goes by the API would break with the agent.
fn hold(cluster: &Cluster, to: &str, seconds: &str, gap_ms: &str) -> Running {
    cluster.spawn("node-1", &["weft-demo", "hold", to, "--seconds", seconds, "--gap-ms", gap_ms])
}

#[test]
fn nodes_that_encrypt_say_nothing_in_clear_and_lose_nothing() {
    let cluster = Cluster::up(2, &["--control-arg=--encryption=wireguard"]);
    cluster.apply(&[pod("one", "node-1"), pod("two", "node-2")].concat()).ok();
    for name in ["one", "two"] {
        cluster.ready(name);
    }
    let address = |pod: &str| cluster.get(&["pod", pod])["status"]["podIP"].as_str().unwrap().to_owned();
    let there = address("two");
    everything_works(&cluster, &there);
    nothing_can_be_read(&cluster, &there);
    keys_change_under_traffic(&cluster, &there);
    an_agent_restarts(&cluster, &there);
    if status(&cluster, "node-1")["mode"] == "user space" {
        the_process_is_lost(&cluster, &there);
    }
    no_log_has_a_key(&cluster);
    cluster.assert_no_rules(&NODES);
}

fn everything_works(cluster: &Cluster, there: &str) {
    let service = cluster.service_address("web");
    for url in [format!("http://{there}:8080/hostname"), format!("http://{service}:80/hostname")] {
        cluster.pod_exec("one", &["weft-demo", "get", &url, "--count", "40", "--summary"]).ok();
    }
    for node in NODES {
        let url = format!("http://{}:30080/hostname", cluster.address(node));
        cluster.exec("client", &["weft-demo", "get", &url, "--count", "40", "--summary"]).ok();
        let status = status(cluster, node);
        assert!(is_on(&status), "{status}");
        assert!(status["status"]["peers"][0]["handshake_age_seconds"].is_u64(), "{status}");
    }
    let page = cluster.exec("node-1", &["agentctl", "status"]).ok();
    assert!(page.contains(", keys of generation 1"), "{page}");
}

fn nothing_can_be_read(cluster: &Cluster, there: &str) {
    let captures = NODES.map(|node| Capture::start(cluster, node, 1));
    let target = format!("{there}:8081");
    cluster.pod_exec("one", &["weft-demo", "udp", &target, "--count", "50", "--payload", SAID]).ok();
    let url = format!("http://{there}:8080/{SAID}");
    let _not_found = cluster.pod_exec("one", &["weft-demo", "get", &url]);
    for capture in captures {
        let frames = capture.end();
        assert!(count(&frames, 51_820) + count(&frames, 51_821) >= 100, "{} frames", frames.len());
        assert_eq!(count(&frames, 4_789), 0, "the tunnel in clear");
        assert!(!contains(&frames, SAID), "what a Pod said");
    }
}

fn keys_change_under_traffic(cluster: &Cluster, there: &str) {
    let holding = hold(cluster, &format!("{there}:8080"), "20", "5000");
    let target = format!("{there}:8081");
    for wanted in [2, 3] {
        until("another generation", ROTATED_MAX, || {
            // The newest generation has to be some seconds old.
            let now = cluster.exec("node-1", &["date", "-u", "+%Y-%m-%dT%H:%M:%SZ"]).ok();
            let rotate = format!("weft.io/rotate-keys={}", now.trim());
            if generation(cluster, "node-1") < Some(wanted) {
                cluster.kubectl(&["annotate", "--overwrite", "node", "node-2", &rotate]).ok();
            }
            cluster.pod_exec("one", &["weft-demo", "udp", &target, "--count", "50"]).ok();
            NODES.iter().all(|node| generation(cluster, node) >= Some(wanted)).then_some(())
        });
    }
    holding.end(COMMAND_MAX).ok();
    let secrets = cluster.get(&["secrets", "-n", "kube-system", "weft-node-key-node-1"]);
    let private = secrets["data"].as_object().unwrap().keys().filter(|name| name.ends_with(".private"));
    assert_eq!(private.count(), 2, "two generations at most");
}

fn an_agent_restarts(cluster: &Cluster, there: &str) {
    let process = || status(cluster, "node-1")["status"]["pid"].as_u64();
    let before = process();
    let holding = hold(cluster, &format!("{there}:8080"), "15", "5000");
    cluster.kill("node-1");
    cluster.exec("node-1", &["sleep", "2"]).ok();
    cluster.start("node-1");
    holding.end(COMMAND_MAX).ok();
    until("the agent answers", COMMAND_MAX, || {
        let said = cluster.exec("node-1", &["agentctl", "status", "-o", "json"]);
        (said.code == 0).then_some(())
    });
    assert_eq!(process(), before, "who encrypts has outlived the agent");
}

fn the_process_is_lost(cluster: &Cluster, there: &str) {
    let before = status(cluster, "node-1")["status"]["pid"].as_u64().unwrap();
    cluster.exec("node-1", &["kill", "-9", &before.to_string()]).ok();
    let target = format!("{there}:8081");
    until("another process encrypts", COMMAND_MAX, || {
        let said = cluster.pod_exec("one", &["weft-demo", "udp", &target, "--count", "5"]);
        (said.code == 0).then_some(())
    });
    let after = status(cluster, "node-1")["status"]["pid"].as_u64().unwrap();
    assert_ne!(after, before);
}

fn no_log_has_a_key(cluster: &Cluster) {
    for node in NODES {
        let name = format!("weft-node-key-{node}");
        let secret = cluster.get(&["secrets", "-n", "kube-system", &name]);
        for (key, value) in secret["data"].as_object().unwrap() {
            if !key.ends_with(".private") {
                continue;
            }
            // Of the API base64 of base64 would be another text: it holds the key's own base64.
            let private = value.as_str().unwrap();
            for machine in ["node-1", "node-2", "control"] {
                assert!(!cluster.log(machine).contains(private), "{key} of {node} in the log of {machine}");
            }
        }
        let view = std::fs::read(cluster.data_dir(node).join("view")).unwrap_or_default();
        assert!(!contains(&[view], ".private"), "keys on the disk of {node}");
    }
}

/// The control plane's setting, which it starts anew with.
fn switch(cluster: &Cluster, encryption: &str) {
    cluster.end("control");
    cluster.start_told("control", "WEFT_ENCRYPTION", encryption);
}

/// The largest packet that every Pod's device takes; none while they differ, or a device has not come to it.
fn pods_mtu(cluster: &Cluster, node: &str) -> Option<u64> {
    let said = cluster.exec(node, &["ip", "-j", "link"]).ok();
    let devices: Vec<Value> = serde_json::from_str(&said).unwrap();
    let own = devices.iter().filter(|device| {
        let name = device["ifname"].as_str().unwrap_or_default();
        name.starts_with("weft") && !name.starts_with("weft-cipher")
    });
    let all: BTreeSet<u64> = own.filter_map(|device| device["mtu"].as_u64()).collect();
    (all.len() == 1).then(|| all.first().copied())?
}

/// A packet of a connection between two addresses of IPv4, wherever in the frame.
fn between(from: &str, to: &str) -> Vec<u8> {
    let octets = |text: &str| text.parse::<std::net::Ipv4Addr>().unwrap().octets();
    [octets(from), octets(to)].concat()
}

#[test]
fn encryption_is_switched_on_and_off_under_traffic() {
    let cluster = Cluster::up(2, &[]);
    cluster.apply(&[pod("one", "node-1"), pod("two", "node-2")].concat()).ok();
    for name in ["one", "two"] {
        cluster.ready(name);
    }
    let address = |pod: &str| cluster.get(&["pod", pod])["status"]["podIP"].as_str().unwrap().to_owned();
    let there = address("two");
    // For as long as the cluster: nothing but a reset, or ten minutes without an answer, ends it.
    let endless = format!("[weft-demo, hold, '{there}:8080', --seconds, '7200', --gap-ms, '600000']");
    let holder = pod("holder", "node-1").replace("demo:1' }]", &format!("demo:1', command: {endless} }}]"));
    cluster.apply(&holder).ok();
    until("the connection is there", COMMAND_MAX, || {
        (cluster.get(&["pod", "holder"])["status"]["phase"] == "Running").then_some(())
    });
    let connection = between(&address("holder"), &there);
    let in_clear = |frames: &[Vec<u8>]| contains(frames, &connection);
    until_it_is_seen(&cluster, &in_clear, 10);
    let mtu_bytes = pods_mtu(&cluster, "node-1").expect("all alike");

    switch(&cluster, "wireguard");
    until("all nodes say that they encrypt", COMMAND_MAX, || {
        NODES.iter().all(|node| is_on(&status(&cluster, node))).then_some(())
    });
    let captures = NODES.map(|node| Capture::start(&cluster, node, 20));
    hold(&cluster, &format!("{there}:8080"), "5", "60000").end(COMMAND_MAX).ok();
    let target = format!("{there}:8081");
    cluster.pod_exec("one", &["weft-demo", "udp", &target, "--count", "20", "--payload", SAID]).ok();
    for capture in captures {
        let frames = capture.end();
        assert!(count(&frames, 51_820) + count(&frames, 51_821) >= 50, "{} frames", frames.len());
        assert_eq!(count(&frames, 4_789), 0, "the tunnel in clear");
        assert!(!contains(&frames, SAID) && !in_clear(&frames), "what a Pod said");
    }
    for node in NODES {
        assert_eq!(pods_mtu(&cluster, node), Some(mtu_bytes - 60), "{node}");
    }
    let process = status(&cluster, "node-1")["status"]["pid"].as_u64();

    switch(&cluster, "off");
    until("no node encrypts", COMMAND_MAX, || {
        NODES.iter().all(|node| status(&cluster, node)["mode"] == "off").then_some(())
    });
    until("who encrypted has ended", COMMAND_MAX, || {
        let ended = |process: u64| cluster.exec("node-1", &["kill", "-0", &process.to_string()]).code != 0;
        process.filter(|process| *process > 0).is_none_or(ended).then_some(())
    });
    // The same connection, which was there before nodes encrypted.
    until_it_is_seen(&cluster, &in_clear, 30);
    let holder = cluster.get(&["pod", "holder"]);
    assert_eq!(holder["status"]["phase"], "Running", "{holder}");
    assert_eq!(holder["status"]["containerStatuses"][0]["restartCount"], 0, "{holder}");
    for node in NODES {
        assert_eq!(pods_mtu(&cluster, node), Some(mtu_bytes), "{node}");
        let devices = cluster.exec(node, &["ip", "link"]).ok();
        assert!(!devices.contains("weft-cipher"), "{devices}");
    }
}

fn until_it_is_seen(cluster: &Cluster, is_seen: &impl Fn(&[Vec<u8>]) -> bool, first: u32) {
    let mut number = first;
    until("the connection goes on in clear", COMMAND_MAX, || {
        number += 1;
        let capture = Capture::start(cluster, "node-1", number);
        std::thread::sleep(Duration::from_secs(1));
        is_seen(&capture.end()).then_some(())
    });
}
