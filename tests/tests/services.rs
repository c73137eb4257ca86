//! Services on real packets: every replica answers on every path, and the trace says so.

use std::collections::BTreeSet;

use weft_tests::Cluster;

const CLIENT: &str = "
apiVersion: v1
kind: Pod
metadata: { name: client }
spec:
  nodeName: node-1
  terminationGracePeriodSeconds: 0
  containers:
    - { name: client, image: 'weft.local/demo:1', command: [/bin/sleep, '3600'] }
";

/// Host names that answered, from lines of `COUNT NAME` or `NAME COUNT`.
fn answered(summary: &str, replicas: &[(String, String)]) -> BTreeSet<String> {
    replicas.iter().map(|(pod, _)| pod.clone()).filter(|pod| summary.contains(pod.as_str())).collect()
}

#[test]
fn every_replica_answers_on_every_path() {
    let cluster = Cluster::up(3, &[]);
    cluster.apply(CLIENT).ok();
    let replicas = cluster.pods("app=web", 3);
    let nodes: BTreeSet<_> = replicas.iter().map(|(_, node)| node).collect();
    assert!(nodes.len() >= 2, "the demo runs on {nodes:?} only");
    cluster.ready("client");
    let service = cluster.get(&["service", "web"]);
    let address = service["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
    let all: BTreeSet<String> = replicas.iter().map(|(pod, _)| pod.clone()).collect();

    for socket_lb in ["on", "off"] {
        for node in ["node-1", "node-2", "node-3"] {
            cluster.exec(node, &["agentctl", "set", "socket-lb", socket_lb]).ok();
        }
        for host in [address.as_str(), "web", "web.default.svc.cluster.local"] {
            let url = format!("http://{host}:80/hostname");
            let said =
                cluster.pod_exec("client", &["weft-demo", "get", &url, "--count", "200", "--summary"]).ok();
            assert_eq!(answered(&said, &replicas), all, "TCP to {host}, socket hook {socket_lb}: {said}");
        }
        let said = cluster
            .pod_exec("client", &["weft-demo", "udp", &format!("{address}:81"), "--count", "200"])
            .ok();
        assert_eq!(answered(&said, &replicas), all, "UDP, socket hook {socket_lb}: {said}");
        let path = if socket_lb == "on" { "socket" } else { "packet" };
        let flows = cluster
            .exec("node-1", &["agentctl", "trace", "--pod", "default/client", "--service", "default/web"])
            .ok();
        assert!(
            flows.lines().any(|line| line.contains(&format!("forwarded {path}"))
                && line.contains("default/client")
                && line.contains("service default/web")
                && line.contains("default/web-")),
            "no {path} flow with Pod, Service and backend in:\n{flows}"
        );
    }
}

#[test]
fn a_node_port_answers_the_outside_client_on_every_node() {
    let cluster = Cluster::up(3, &[]);
    cluster.kubectl(&["scale", "deployment/web", "--replicas=2"]).ok();
    let replicas = cluster.pods("app=web", 2);
    let all: BTreeSet<String> = replicas.iter().map(|(pod, _)| pod.clone()).collect();
    let nodes = cluster.get(&["nodes"]);
    for node in nodes["items"].as_array().into_iter().flatten() {
        let address = node["status"]["addresses"][0]["address"].as_str().unwrap_or_default();
        let url = format!("http://{address}:30080/hostname");
        let said = cluster.exec("client", &["weft-demo", "get", &url, "--count", "50", "--summary"]).ok();
        assert_eq!(answered(&said, &replicas), all, "TCP NodePort at {address}: {said}");
        let said =
            cluster.exec("client", &["weft-demo", "udp", &format!("{address}:30081"), "--count", "50"]).ok();
        assert_eq!(answered(&said, &replicas), all, "UDP NodePort at {address}: {said}");
    }
}
