//! Services on real packets: every replica answers on every path, and the trace says so.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use weft_tests::Cluster;
use weft_tests::cluster::given;

const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];

/// A Pod on node-1 that sleeps, with a program of the machine at hand.
fn client(program: &Path) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{ name: client }}
spec:
  nodeName: node-1
  terminationGracePeriodSeconds: 0
  volumes: [{{ name: program, hostPath: {{ path: '{}', type: File }} }}]
  containers:
    - name: client
      image: 'weft.local/demo:1'
      command: [/bin/sleep, '3600']
      volumeMounts: [{{ name: program, mountPath: /bin/kubectl, readOnly: true }}]
",
        program.display()
    )
}

/// Host names that answered, from lines of `COUNT NAME` or `NAME COUNT`.
fn answered(summary: &str, replicas: &[(String, String)]) -> BTreeSet<String> {
    replicas.iter().map(|(pod, _)| pod.clone()).filter(|pod| summary.contains(pod.as_str())).collect()
}

#[test]
fn every_replica_answers_on_every_path() {
    let cluster = Cluster::up(3, &[]);
    cluster.apply(&client(Path::new(&given("WEFT_KUBECTL_NEWEST")))).ok();
    let replicas = cluster.pods("app=web", 3);
    let nodes: BTreeSet<_> = replicas.iter().map(|(_, node)| node).collect();
    assert!(nodes.len() >= 2, "the demo runs on {nodes:?} only");
    cluster.ready("client");
    let service = cluster.get(&["service", "web"]);
    let address = service["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
    let all: BTreeSet<String> = replicas.iter().map(|(pod, _)| pod.clone()).collect();

    a_pod_reaches_the_api(&cluster);
    let follow = cluster.spawn("node-1", &["agentctl", "trace", "--follow", "--service", "default/web"]);
    for socket_lb in ["on", "off"] {
        for node in NODES {
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
        downloads_are_identical(&cluster, &replicas, socket_lb);
    }
    std::thread::sleep(std::time::Duration::from_secs(1));
    let flows = follow.kill().stdout;
    for path in ["socket", "packet"] {
        for (pod, _) in &replicas {
            assert!(
                flows.lines().any(|line| line.contains(&format!("forwarded {path}"))
                    && line.contains("default/client")
                    && line.contains("service default/web")
                    && line.contains(&format!("default/{pod}"))),
                "no {path} flow from the client through the Service to {pod} in:\n{flows}"
            );
        }
    }
    let json = cluster.exec("node-1", &["agentctl", "trace", "--pod", "default/client", "-o", "json"]).ok();
    let last: Value = serde_json::from_str(json.lines().last().unwrap_or_default()).unwrap();
    assert_eq!(last["node"], "node-1", "{last}");
}

/// kubectl in a Pod finds the API by its environment, the mounted CA and token, and is who the Pod is.
fn a_pod_reaches_the_api(cluster: &Cluster) {
    let said = cluster.pod_exec("client", &["kubectl", "auth", "whoami"]).ok();
    assert!(said.contains("system:serviceaccount:default:default"), "{said}");
    let script = "test $KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT = 10.96.0.1:443 && \
        cat /var/run/secrets/kubernetes.io/serviceaccount/namespace";
    assert_eq!(cluster.pod_exec("client", &["sh", "-c", script]).ok(), "default");
    let said = cluster.pod_exec("client", &["kubectl", "get", "secrets"]).refused();
    assert!(said.contains("Forbidden"), "a Pod's account may not read Secrets: {said}");
}

/// 20 MB from a replica on another node, through the Service's address and from the Pod itself.
fn downloads_are_identical(cluster: &Cluster, replicas: &[(String, String)], socket_lb: &str) {
    const BYTES: usize = 20 << 20;
    let (pod, _) = replicas.iter().find(|(_, node)| node != "node-1").unwrap();
    let far = cluster.get(&["pod", pod])["status"]["podIP"].as_str().unwrap_or_default().to_owned();
    let url = |host: &str| format!("http://{host}/bytes/{BYTES}");
    let here = cluster.exec("node-1", &["weft-demo", "sha256", &url(&format!("{far}:8080"))]).ok();
    assert!(here.trim().ends_with(&BYTES.to_string()), "{here}");
    for host in [format!("{far}:8080"), "web".to_owned()] {
        let there = cluster.pod_exec("client", &["weft-demo", "sha256", &url(&host)]).ok();
        assert_eq!(there, here, "20 MB from {host}, socket hook {socket_lb}");
    }
}

#[test]
fn a_node_port_answers_the_outside_client_on_every_node() {
    let cluster = Cluster::up(3, &[]);
    let replicas = answers_on_every_node(&cluster);
    let without = NODES.iter().find(|node| replicas.iter().all(|(_, at)| at != *node));
    let own = outside_address(&cluster);
    let seen = clients_seen(&cluster, without.expect("two replicas on three nodes"));
    assert!(!seen.contains(&own), "the node asks for the client: {seen:?}");
}

#[test]
fn so_it_does_where_nodes_route_natively() {
    let cluster = Cluster::up(3, &["--agent-arg=--routing-mode=native"]);
    for node in NODES {
        let status = cluster.exec(node, &["agentctl", "status"]).ok();
        assert!(status.contains("native: 2 nodes natively"), "{status}");
    }
    answers_on_every_node(&cluster);
    cluster.assert_no_rules(&NODES);
}

#[test]
fn so_it_does_with_direct_return() {
    let cluster = Cluster::up(3, &["--agent-arg=--load-balancer-mode=dsr"]);
    answers_on_every_node(&cluster);
    let own = outside_address(&cluster);
    for node in NODES {
        assert_eq!(clients_seen(&cluster, node), BTreeSet::from([own.clone()]), "{node}");
    }
    cluster.assert_no_rules(&NODES);
}

/// The outside client's own address.
fn outside_address(cluster: &Cluster) -> String {
    let said = cluster.exec("client", &["ip", "-4", "-o", "addr", "show", "scope", "global"]).ok();
    let address = said.split("inet ").nth(1).and_then(|rest| rest.split('/').next());
    address.unwrap_or_else(|| panic!("{said}")).to_owned()
}

/// Whom the replicas see when the outside client asks a node for it.
fn clients_seen(cluster: &Cluster, node: &str) -> BTreeSet<String> {
    let url = format!("http://{}:30080/", cluster.address(node));
    let said = (0..10).map(|_| cluster.exec("client", &["weft-demo", "get", &url]).ok());
    let seen = said.map(|said| serde_json::from_str::<Value>(&said).unwrap_or_else(|_| panic!("{said}")));
    seen.map(|seen| seen["client"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Gives the replicas, with their nodes.
fn answers_on_every_node(cluster: &Cluster) -> Vec<(String, String)> {
    cluster.kubectl(&["scale", "deployment/web", "--replicas=2"]).ok();
    let replicas = cluster.pods("app=web", 2);
    let all: BTreeSet<String> = replicas.iter().map(|(pod, _)| pod.clone()).collect();
    let balanced = |node: &str| {
        let status = cluster.exec(node, &["agentctl", "status", "-o", "json"]).ok();
        let status: Value = serde_json::from_str(&status).unwrap();
        status["counters"]["balanced_node_port"].as_u64().unwrap_or_else(|| panic!("{status}"))
    };
    for node in NODES {
        let address = cluster.address(node);
        let (url, before) = (format!("http://{address}:30080/hostname"), balanced(node));
        let get = ["weft-demo", "get", &url, "--count", "50", "--summary"];
        let udp = ["weft-demo", "udp", &format!("{address}:30081"), "--count", "50"];
        for (protocol, command) in [("TCP", &get[..]), ("UDP", &udp[..])] {
            let said = cluster.exec("client", command).ok();
            assert_eq!(answered(&said, &replicas), all, "{protocol} from outside to {node}: {said}");
        }
        // A source port that comes again within a flow's life begins no second one.
        let flows = balanced(node) - before;
        assert!(flows >= 95, "the per-packet path of {node} balanced {flows} of 100 flows");
        for (protocol, command) in [("TCP", &get[..]), ("UDP", &udp[..])] {
            let said = cluster.exec("node-1", command).ok();
            assert_eq!(answered(&said, &replicas), all, "{protocol} from node-1 to {node}: {said}");
            let said = cluster.pod_exec(&replicas[0].0, command).ok();
            assert_eq!(answered(&said, &replicas), all, "{protocol} from a Pod to {node}: {said}");
        }
    }
    replicas
}
