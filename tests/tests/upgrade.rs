//! Agents that are killed, restarted and upgraded to a build with another layout of the tables, and back, with traffic on every
//! path all the while: nothing breaks, nothing fails, nobody is silent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use weft_tests::cluster::{COMMAND_MAX, given};
use weft_tests::{Cluster, Run as _, Running, until};

const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];
/// How long an agent may take until its programs are in force.
const ATTACHED_MAX: Duration = Duration::from_secs(30);
/// How long traffic runs before and after a round's deeds.
const REST: Duration = Duration::from_millis(500);

/// A Pod of node-1 that soaks the Service, and one of node-2 that sleeps.
fn pods(shared: &Path, soak: &[String]) -> String {
    let pod = |name: &str, node: &str, command: &[String]| {
        format!(
            "
apiVersion: v1
kind: Pod
metadata: {{ name: {name} }}
spec:
  nodeName: {node}
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  volumes: [{{ name: shared, hostPath: {{ path: '{0}' }} }}]
  containers:
    - name: c
      image: 'weft.local/demo:1'
      command: {command:?}
      resources: {{ requests: {{ cpu: 500m }} }}
      volumeMounts: [{{ name: shared, mountPath: '{0}' }}]
---
",
            shared.display()
        )
    };
    let sleep = ["/bin/sleep".to_owned(), "3600".to_owned()];
    [pod("soaks", "node-1", soak), pod("lends", "node-2", &sleep)].concat()
}

/// The network namespaces of all Pods, as their nodes have pinned them.
fn namespaces(cluster: &Cluster) -> Vec<PathBuf> {
    let (mut found, mut directories) = (Vec::new(), vec![Path::new("/run").join(cluster.name())]);
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.ends_with("ns/net") {
                found.push(path);
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                directories.push(path);
            }
        }
    }
    found
}

/// The network namespace of a Pod.
fn namespace_of(cluster: &Cluster, pod: &str) -> PathBuf {
    let uid = cluster.get(&["pod", pod])["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let found = namespaces(cluster).into_iter().find(|path| path.ends_with(format!("{uid}/ns/net")));
    found.unwrap_or_else(|| panic!("no namespace of {pod}"))
}

/// The layout of a node's tables, once its agent has its programs in force.
fn layout(cluster: &Cluster, node: &str) -> u64 {
    until(&format!("the agent of {node} to answer"), ATTACHED_MAX, || {
        let status = cluster.exec(node, &["agentctl", "status", "-o", "json"]);
        let status: Value = serde_json::from_str(&status.stdout).ok()?;
        status["dataplane"]["layout"].as_u64()
    })
}

/// Kills every agent and starts the same build; then ends each and starts the other build. What they dropped goes to `dropped`:
/// an agent forgets it when it ends.
fn round(cluster: &Cluster, number: usize, own: u64, dropped: &mut BTreeMap<String, u64>) {
    let (before, after) = if number.is_multiple_of(2) { (own, own + 1) } else { (own + 1, own) };
    let start = |node: &str, layout: u64| {
        if layout == own { cluster.start(node) } else { cluster.start_other_layout(node) }
    };
    NODES.iter().for_each(|node| note_drops(cluster, node, dropped));
    NODES.iter().for_each(|node| cluster.kill(node));
    std::thread::sleep(REST);
    NODES.iter().for_each(|node| start(node, before));
    for node in NODES {
        assert_eq!(layout(cluster, node), before, "{node}, restarted");
    }
    std::thread::sleep(REST);
    for node in NODES {
        note_drops(cluster, node, dropped);
        cluster.end(node);
        start(node, after);
        assert_eq!(layout(cluster, node), after, "{node}, upgraded");
    }
    std::thread::sleep(REST);
}

/// Counts what a node's agent knows of dropped packets, by program, station, reason and protocol.
fn note_drops(cluster: &Cluster, node: &str, dropped: &mut BTreeMap<String, u64>) {
    let seen = cluster.exec(node, &["agentctl", "trace", "--verdict", "dropped", "-o", "json"]);
    for line in seen.stdout.lines() {
        let Ok(flow) = serde_json::from_str::<Value>(line) else { continue };
        let what =
            ["hook", "station", "reason", "protocol"].map(|key| flow[key].as_str().unwrap_or_default());
        *dropped.entry(format!("{node}: {}", what.join(", "))).or_default() += 1;
    }
}

/// What the sockets of every namespace have lost: a datagram for which a socket had no room is gone, and no program sees that.
fn lost_by_sockets(cluster: &Cluster) -> Vec<String> {
    const LOSSES: [&str; 5] = ["RcvbufErrors", "SndbufErrors", "InErrors", "OutRsts", "AttemptFails"];
    let mut losses = Vec::new();
    for path in namespaces(cluster) {
        let path = path.display();
        let mut read = Command::new("nsenter");
        read.args([&format!("--net={path}"), "cat", "/proc/thread-self/net/snmp"]);
        let said = read.run(COMMAND_MAX).ok();
        let lines: Vec<_> = said.lines().collect();
        // A line of names, and one of values.
        for pair in lines.chunks_exact(2) {
            let lost = pair[0].split(' ').zip(pair[1].split(' '));
            let lost = lost.filter(|(name, value)| LOSSES.contains(name) && *value != "0");
            losses.extend(lost.map(|(name, value)| format!("{path}: {}: {name} {value}", &pair[0][..3])));
        }
    }
    losses
}

/// Waits until a client's connections and flows are there.
fn begun(client: &Running) {
    until("a client to begin", COMMAND_MAX, || client.said().contains("begun").then_some(()));
}

/// `long` connections and UDP flows and `per_second` new ones of each, on three paths together, over so many rounds; nothing is
/// to take longer than the gap.
fn soak(rounds: usize, long: u32, per_second: u32, gap_ms: u32) {
    let cluster = Cluster::up(3, &[]);
    let shared = cluster.dir().join("shared");
    std::fs::create_dir(&shared).unwrap();
    let end = shared.join("end");
    let command = |program: &str, host: &str, ports: [u16; 2]| -> Vec<String> {
        let [tcp, udp] = ports.map(|port| port.to_string());
        let (long, each) = (long.div_ceil(3).to_string(), per_second.div_ceil(3).to_string());
        let end = end.to_string_lossy();
        [program, "soak", host, "--tcp", &tcp, "--udp", &udp, "--long", &long, "--per-second", &each]
            .into_iter()
            .chain(["--gap-ms", &gap_ms.to_string(), "--until", &end])
            .map(str::to_owned)
            .collect()
    };
    // Without it the Pods have no share of a machine whose agents start all the time.
    cluster.kubectl(&["set", "resources", "deployment/web", "--requests=cpu=500m"]).ok();
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=50s"]).ok();
    let service = cluster.service_address("web");
    cluster.apply(&pods(&shared, &command("weft-demo", &service, [80, 81]))).ok();
    ["soaks", "lends"].iter().for_each(|pod| cluster.ready(pod));
    // The Pod's network, and a cgroup that no socket hook sees: balanced packet by packet.
    let namespace = format!("--net={}", namespace_of(&cluster, "lends").display());
    let demo = command(&given("WEFT_DEMO"), &service, [80, 81]);
    let packets = Running::start(Command::new("nsenter").arg(namespace).args(demo));
    let outside = command("weft-demo", &cluster.address("node-3"), [30080, 30081]);
    let outside: Vec<&str> = outside.iter().map(String::as_str).collect();
    let outside = cluster.spawn("client", &outside);
    begun(&packets);
    begun(&outside);
    let own = layout(&cluster, NODES[0]);
    let balanced = counter(&cluster, "node-2", "balanced_packet");
    assert!(balanced > 0, "nothing goes the per-packet path");

    let mut dropped = BTreeMap::new();
    for number in 0..rounds {
        round(&cluster, number, own, &mut dropped);
        eprintln!("round {number} is over");
    }
    std::fs::write(&end, "").unwrap();
    let mut said =
        vec![("packet by packet", packets.end(COMMAND_MAX)), ("outside", outside.end(COMMAND_MAX))];
    let phase = until("the Pod to end", COMMAND_MAX, || {
        let phase = cluster.get(&["pod", "soaks"])["status"]["phase"].as_str().unwrap_or_default().to_owned();
        ["Succeeded", "Failed"].contains(&phase.as_str()).then_some(phase)
    });
    said.push(("at connect", cluster.kubectl(&["logs", "soaks"])));
    NODES.iter().for_each(|node| note_drops(&cluster, node, &mut dropped));
    eprintln!("dropped by the programs: {dropped:#?}");
    eprintln!("lost by sockets: {:#?}", lost_by_sockets(&cluster));
    said.iter().for_each(|(path, output)| eprintln!("{path}: {}{}", output.stdout, output.stderr));
    assert_eq!(phase, "Succeeded");
    for (path, output) in said {
        assert!(output.clone().ok().contains(" 0 failures"), "{path}: {}", output.stdout);
    }
}

fn counter(cluster: &Cluster, node: &str, name: &str) -> u64 {
    let status = cluster.exec(node, &["agentctl", "status", "-o", "json"]).ok();
    let status: Value = serde_json::from_str(&status).unwrap();
    status["counters"][name].as_u64().unwrap_or_else(|| panic!("{status}"))
}

#[test]
fn agents_upgraded_under_traffic_are_not_missed() {
    soak(2, 60, 30, 2_000);
}

/// The whole of it: `cargo xtask test -- --run-ignored only twenty_times`. It wants a machine that does nothing else.
#[test]
#[ignore = "takes four minutes"]
fn agents_upgraded_twenty_times_under_traffic_are_not_missed() {
    soak(20, 200, 100, 1_000);
}
