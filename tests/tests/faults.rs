//! What dies is not missed: an agent and the control plane are killed under traffic, and nothing that ran stops.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use weft_tests::cluster::COMMAND_MAX;
use weft_tests::{Cluster, until};

/// How long a node may take to be Ready again after its agent was started.
const READY_MAX: Duration = Duration::from_secs(60);
const LOG_LINES: usize = 10_486;

/// Pods that talk through the Service all the time, and one that writes 10 MB to its log when it is told to.
fn talkers(shared: &Path, service: &str) -> String {
    let pod = |name: &str, node: &str, script: &str| {
        format!(
            "
apiVersion: v1
kind: Pod
metadata: {{ name: {name} }}
spec:
  nodeName: {node}
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  volumes: [{{ name: shared, hostPath: {{ path: '{}' }} }}]
  containers:
    - name: c
      image: 'weft.local/demo:1'
      command: [/bin/sh, -c]
      args: [{script:?}]
      volumeMounts: [{{ name: shared, mountPath: /shared }}]
---
",
            shared.display()
        )
    };
    let until_told = "until [ -e /shared/end ]; do";
    [
        pod("holds", "node-1", &format!("weft-demo hold {service}:80 --seconds 40 --interval-ms 50 --gap-ms 2000")),
        pod(
            "connects",
            "node-1",
            &format!("{until_told} weft-demo get http://{service}:80/hostname --timeout-ms 2000 || echo FAILED; sleep 0.05; done"),
        ),
        pod(
            "sends",
            "node-1",
            &format!("{until_told} weft-demo udp {service}:81 --timeout-ms 2000 || echo FAILED; sleep 0.05; done"),
        ),
        pod(
            "writes",
            "node-1",
            &format!(
                "until [ -e /shared/go ]; do sleep 0.05; done; yes $(printf %0999d 7) | head -n {LOG_LINES}; \
                 echo written; touch /shared/written; until [ -e /shared/end ]; do sleep 0.2; done"
            ),
        ),
    ]
    .concat()
}

/// What tells a container from one that was started later.
fn containers(cluster: &Cluster) -> BTreeMap<String, Value> {
    let pods = cluster.get(&["pods"]);
    pods["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|pod| {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let status = &pod["status"]["containerStatuses"][0];
            (name, serde_json::json!([pod["metadata"]["uid"], status["containerID"], status["restartCount"]]))
        })
        .collect()
}

/// Waits until every node has been heard of after `after`, and is Ready.
fn ready_since(cluster: &Cluster, after: &BTreeMap<String, String>) {
    until("every node to be heard of and Ready", READY_MAX, || {
        let now = heard(cluster);
        let nodes = cluster.kubectl(&["get", "nodes", "--no-headers"]).ok();
        let all = nodes.lines().all(|line| line.contains(" Ready "));
        (all && after.iter().all(|(node, time)| now.get(node).is_some_and(|new| new > time))).then_some(())
    });
}

/// When each node's Lease was renewed last.
fn heard(cluster: &Cluster) -> BTreeMap<String, String> {
    let leases = cluster.get(&["leases", "-n", "kube-node-lease"]);
    leases["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|lease| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            (text(&lease["metadata"]["name"]), text(&lease["spec"]["renewTime"]))
        })
        .collect()
}

/// The talkers have ended well, and told of no failure.
fn all_went_well(cluster: &Cluster, shared: &Path) {
    std::fs::write(shared.join("end"), "").unwrap();
    for pod in ["holds", "connects", "sends", "writes"] {
        let phase = until(&format!("{pod} to end"), COMMAND_MAX, || {
            let phase = cluster.get(&["pod", pod])["status"]["phase"].as_str().unwrap_or_default().to_owned();
            ["Succeeded", "Failed"].contains(&phase.as_str()).then_some(phase)
        });
        let log = cluster.kubectl(&["logs", pod, "--tail=2000"]).ok();
        assert_eq!(phase, "Succeeded", "{pod}: {log}");
        assert!(!log.contains("FAILED"), "{pod}: {log}");
        match pod {
            "connects" | "sends" => assert!(log.lines().count() > 100, "{pod} hardly ran: {log}"),
            "holds" => assert!(log.contains("0 gaps") && log.contains("0 resets"), "{log}"),
            _ => {}
        }
    }
}

#[test]
fn a_killed_agent_is_not_missed() {
    let cluster = Cluster::up(3, &[]);
    let shared = cluster.dir().join("shared");
    std::fs::create_dir(&shared).unwrap();
    let service = cluster.service_address("web");
    cluster.apply(&talkers(&shared, &service)).ok();
    for pod in ["holds", "connects", "sends", "writes"] {
        cluster.ready(pod);
    }
    let web = cluster.pods("app=web", 3);
    let outside = format!("{}:30080", cluster.address("node-2"));
    let held = cluster.spawn(
        "client",
        &["weft-demo", "hold", &outside, "--seconds", "25", "--interval-ms", "50", "--gap-ms", "2000"],
    );
    let before = containers(&cluster);
    let heard_before = heard(&cluster);

    // The agents of the clients' node, of backends' nodes, of the node that translates for the outside: all of them.
    for node in ["node-1", "node-2", "node-3"] {
        cluster.kill(node);
    }
    std::fs::write(shared.join("go"), "").unwrap();
    until("10 MB of log, with no agent there", COMMAND_MAX, || shared.join("written").exists().then_some(()));
    let url = format!("http://{}:30080/hostname", cluster.address("node-3"));
    let said = cluster.exec("client", &["weft-demo", "get", &url, "--count", "100", "--summary"]).ok();
    assert!(said.contains("100 answers from 3 places, 0 failures"), "{said}");
    std::thread::sleep(Duration::from_secs(3));
    for node in ["node-1", "node-2", "node-3"] {
        cluster.start(node);
    }
    ready_since(&cluster, &heard_before);
    assert_eq!(containers(&cluster), before, "the same containers run, none was started again");
    let log = cluster.kubectl(&["logs", "writes"]).ok();
    assert_eq!(log.lines().filter(|line| line.len() == 999).count(), LOG_LINES);
    assert_eq!(log.lines().last(), Some("written"));

    cluster.kubectl(&["scale", "deployment/web", "--replicas=6"]).ok();
    let more = cluster.pods("app=web", 6);
    assert!(
        web.iter().all(|(pod, _)| more.iter().any(|(other, _)| other == pod)),
        "the old ones are among {more:?}"
    );
    let target = format!("http://{service}:80/hostname");
    cluster.pod_exec("connects", &["weft-demo", "get", &target, "--count", "200", "--summary"]).ok();
    let held = held.end(COMMAND_MAX).ok();
    assert!(held.contains("0 gaps") && held.contains("0 resets"), "{held}");
    all_went_well(&cluster, &shared);
}

#[test]
fn a_killed_control_plane_is_not_missed() {
    let cluster = Cluster::up(2, &[]);
    let shared = cluster.dir().join("shared");
    std::fs::create_dir(&shared).unwrap();
    cluster.apply(&talkers(&shared, &cluster.service_address("web"))).ok();
    for pod in ["holds", "connects", "sends", "writes"] {
        cluster.ready(pod);
    }
    std::fs::write(shared.join("go"), "").unwrap();
    let before = containers(&cluster);
    let heard_before = heard(&cluster);
    cluster.kill("control");
    let refused = cluster.kubectl(&["get", "pods"]).refused();
    assert!(refused.contains("refused"), "{refused}");
    // A container that dies meanwhile is started again by its agent alone.
    let pods = cluster.exec("node-1", &["agentctl", "pod", "list"]).ok();
    assert!(pods.contains("connects"), "{pods}");
    std::thread::sleep(Duration::from_secs(5));
    cluster.start("control");
    until("the API to answer", COMMAND_MAX, || (cluster.kubectl(&["get", "nodes"]).code == 0).then_some(()));
    ready_since(&cluster, &heard_before);
    assert_eq!(containers(&cluster), before, "the same containers run, none was started again");
    cluster.kubectl(&["scale", "deployment/web", "--replicas=5"]).ok();
    cluster.pods("app=web", 5);
    all_went_well(&cluster, &shared);
}
