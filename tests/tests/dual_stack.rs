//! A cluster with two families: both show wherever addresses show, and a Service is the same in both.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;
use weft_tests::{Cluster, until};

/// What is written in the API is everywhere after so long, a Pod's start included.
const SOON: Duration = Duration::from_secs(40);

/// Services of the demo's replicas: with both families, headless with both, and with one.
const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: { name: dual }
spec:
  type: NodePort
  selector: { app: web }
  ipFamilyPolicy: RequireDualStack
  ports:
    - { name: http, port: 80, targetPort: 8080 }
    - { name: echo, port: 81, targetPort: 8081, protocol: UDP }
---
apiVersion: v1
kind: Service
metadata: { name: pods }
spec:
  clusterIP: None
  selector: { app: web }
  ipFamilyPolicy: PreferDualStack
  ports: [{ port: 8080 }]
---
apiVersion: v1
kind: Service
metadata: { name: single }
spec:
  selector: { app: web }
  ports: [{ port: 80, targetPort: 8080 }]
";

/// A Pod that is told its own addresses and its node's.
const TOLD: &str = "
apiVersion: v1
kind: Pod
metadata: { name: told }
spec:
  nodeName: node-1
  terminationGracePeriodSeconds: 0
  containers:
    - name: sleeper
      image: 'weft.local/demo:1'
      command: [/bin/sleep, '3600']
      env:
        - { name: POD_IP, valueFrom: { fieldRef: { fieldPath: status.podIP } } }
        - { name: POD_IPS, valueFrom: { fieldRef: { fieldPath: status.podIPs } } }
        - { name: HOST_IPS, valueFrom: { fieldRef: { fieldPath: status.hostIPs } } }
";

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().map(text).collect()
}

fn ips(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().map(|entry| text(&entry["ip"])).collect()
}

/// Whether there are two addresses, the first of this family and the second of the other.
fn is_pair(addresses: &[String], first_v6: bool) -> bool {
    let v6: Vec<bool> =
        addresses.iter().map(|a| a.parse::<IpAddr>().expect("an address").is_ipv6()).collect();
    v6 == [first_v6, !first_v6]
}

/// The addresses that a Pod's name server gives for a name in one family; none where it gives none.
fn resolved(cluster: &Cluster, pod: &str, name: &str, family: &str) -> BTreeSet<String> {
    let said = cluster.pod_exec(pod, &["weft-demo", "resolve", name, "--family", family]);
    assert!(said.code == 0 || said.stderr.contains("no such name"), "{name} {family}: {said:?}");
    said.stdout.lines().map(str::to_owned).collect()
}

/// Every place where an address shows, in a cluster whose first family is this one.
fn addresses_show_everywhere(cluster: &Cluster, both: [&str; 2]) {
    let [first, second] = both;
    let six = first == "IPv6";
    cluster.apply(&format!("{SERVICES}---{TOLD}")).ok();
    let replicas = cluster.pods("app=web", 3);

    for node in ["node-1", "node-2"] {
        let node = cluster.get(&["node", node]);
        let ranges = texts(&node["spec"]["podCIDRs"]);
        assert!(ranges.len() == 2 && ranges[0].contains(':') == six && ranges[1].contains(':') != six);
        assert_eq!(text(&node["spec"]["podCIDR"]), ranges[0]);
        let all = node["status"]["addresses"].as_array().unwrap();
        let own: Vec<String> =
            all.iter().filter(|a| a["type"] == "InternalIP").map(|a| text(&a["address"])).collect();
        assert!(is_pair(&own, six), "{own:?}");
    }
    cluster.ready("told");
    let status = cluster.get(&["pod", "told"])["status"].clone();
    let (pod_ips, host_ips) = (ips(&status["podIPs"]), ips(&status["hostIPs"]));
    assert!(is_pair(&pod_ips, six) && is_pair(&host_ips, six), "{status}");
    assert_eq!((text(&status["podIP"]), text(&status["hostIP"])), (pod_ips[0].clone(), host_ips[0].clone()));
    let told =
        cluster.pod_exec("told", &["/bin/sh", "-c", "echo $POD_IP $POD_IPS $HOST_IPS; cat /etc/hosts"]).ok();
    let line = format!("{} {} {}", pod_ips[0], pod_ips.join(","), host_ips.join(","));
    assert_eq!(told.lines().next(), Some(line.as_str()));
    assert!(pod_ips.iter().all(|ip| told.contains(&format!("{ip}\ttold"))), "{told}");
    let page = cluster.exec("node-1", &["agentctl", "status"]).ok();
    assert!(host_ips.iter().all(|ip| page.contains(ip.as_str())), "{page}");

    let spec = |name: &str| cluster.get(&["service", name])["spec"].clone();
    let (dual, pods, single) = (spec("dual"), spec("pods"), spec("single"));
    assert_eq!(
        (texts(&dual["ipFamilies"]), texts(&pods["ipFamilies"])),
        (both.map(str::to_owned).into(), both.map(str::to_owned).into())
    );
    assert_eq!(
        (texts(&single["ipFamilies"]), text(&single["ipFamilyPolicy"])),
        (vec![first.into()], "SingleStack".into())
    );
    let addresses = texts(&dual["clusterIPs"]);
    assert!(is_pair(&addresses, six), "{dual}");

    // A slice for each family, each with every replica.
    let of_replicas = |at: usize| -> BTreeSet<String> {
        replicas
            .iter()
            .map(|(pod, _)| ips(&cluster.get(&["pod", pod])["status"]["podIPs"])[at].clone())
            .collect()
    };
    for (at, family) in both.into_iter().enumerate() {
        until(&format!("endpoints of {family}"), SOON, || {
            let slices = cluster.get(&["endpointslices", "-l", "kubernetes.io/service-name=dual"]);
            let slices = slices["items"].as_array()?.clone();
            let of_family = slices.iter().filter(|slice| slice["addressType"] == family);
            let ends = of_family.flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
            let ends: BTreeSet<String> = ends.map(|end| text(&end["addresses"][0])).collect();
            (ends == of_replicas(at)).then_some(())
        });
    }
    let older = cluster.get(&["endpoints", "dual"]);
    let shown: BTreeSet<String> = ips(&older["subsets"][0]["addresses"]).into_iter().collect();
    assert_eq!(shown, of_replicas(0), "Endpoints know the first family");

    // Cluster DNS: A and AAAA, forward and reverse, and nothing for a family that is not there.
    until("names of both families", SOON, || {
        let found = |name: &str, family: &str| resolved(cluster, "told", name, family);
        let all = (0..2).all(|at| {
            found("dual", both[at]) == BTreeSet::from([addresses[at].clone()])
                && found("pods", both[at]) == of_replicas(at)
        });
        (all && found("single", first).len() == 1 && found("single", second).is_empty()).then_some(())
    });
    let server = cluster.get(&["service", "kube-dns", "-n", "kube-system"])["spec"]["clusterIPs"].clone();
    for server in texts(&server) {
        for address in &addresses {
            let said = cluster.exec("node-1", &["busybox", "nslookup", address, &server]).ok();
            assert!(said.contains("dual.default.svc.cluster.local"), "{address} by {server}: {said}");
        }
    }

    // The second family goes, and comes again, by the policy alone.
    let policy = |policy: &str| {
        let patch = format!(r#"{{"spec":{{"ipFamilyPolicy":"{policy}"}}}}"#);
        cluster.kubectl(&["patch", "service", "dual", "-p", &patch]).ok();
        texts(&spec("dual")["clusterIPs"])
    };
    assert_eq!(policy("SingleStack"), addresses[..1]);
    until("one family", SOON, || {
        let slices = cluster.get(&["endpointslices", "-l", "kubernetes.io/service-name=dual"]);
        let none = slices["items"].as_array()?.iter().all(|slice| slice["addressType"] == first);
        (none && resolved(cluster, "told", "dual", second).is_empty()).then_some(())
    });
    let again = policy("PreferDualStack");
    assert!(is_pair(&again, six) && again[0] == addresses[0], "{again:?}");
}

#[test]
fn the_first_family_may_be_ipv6() {
    let cluster = Cluster::up(2, &["--families=IPv6,IPv4"]);
    addresses_show_everywhere(&cluster, ["IPv6", "IPv4"]);
    // A Service that says nothing of families has the first one, and so has its name.
    let (url, pod) = ("http://single/hostname", &cluster.pods("app=web", 3)[0].0);
    let address = cluster.service_address("single");
    assert!(address.contains(':'), "{address}");
    cluster.pod_exec(pod, &["weft-demo", "get", url, "--count", "20", "--summary"]).ok();
}

/// Addresses that no other network of this machine has (RFC 2544 and a private one), reached by the outside client through
/// its uplink.
const POOLS: [&str; 2] = ["198.18.89.8/30", "fd00:198:18::8/126"];
const UPLINK: &str = "uplink0";
/// A Service in front of the demo that the outside reaches by an address of its own.
const BALANCER: &str = "
apiVersion: v1
kind: Service
metadata: { name: balancer }
spec:
  type: LoadBalancer
  selector: { app: web }
  ipFamilyPolicy: PreferDualStack
  ports:
    - { name: http, port: 80, targetPort: 8080 }
    - { name: echo, port: 81, targetPort: 8081, protocol: UDP }
";

/// Who asks: a process of a machine, or of a Pod.
#[derive(Clone, Copy, Debug)]
enum From<'a> {
    Machine(&'a str),
    Pod(&'a str),
}

/// A cluster of three nodes with the demo's replicas.
struct Bed {
    cluster: Cluster,
    /// Pods with their nodes.
    replicas: Vec<(String, String)>,
    /// Their addresses, IPv4 and IPv6.
    addresses: Vec<Vec<String>>,
    /// Their names.
    all: BTreeSet<String>,
}

impl Bed {
    fn up() -> Self {
        let pool = format!("--control-arg=--load-balancer-pool={}", POOLS.join(","));
        let cluster = Cluster::up(3, &["--families=IPv4,IPv6", &pool]);
        addresses_show_everywhere(&cluster, ["IPv4", "IPv6"]);
        cluster.apply(BALANCER).ok();
        let replicas = cluster.pods("app=web", 3);
        let nodes: BTreeSet<_> = replicas.iter().map(|(_, node)| node).collect();
        assert!(nodes.len() >= 2, "the demo runs on {nodes:?} only");
        let addresses = replicas.iter().map(|(pod, _)| ips(&cluster.get(&["pod", pod])["status"]["podIPs"]));
        let addresses = addresses.collect();
        let all = replicas.iter().map(|(pod, _)| pod.clone()).collect();
        Self { cluster, replicas, addresses, all }
    }

    fn run(&self, from: From<'_>, command: &[&str]) -> weft_tests::Output {
        match from {
            From::Machine(machine) => self.cluster.exec(machine, command),
            From::Pod(pod) => self.cluster.pod_exec(pod, command),
        }
    }

    /// Waits until an address answers, then asks often by TCP and UDP: every replica answers, and none fails.
    fn every_replica_answers(&self, from: From<'_>, address: &str, ports: (u16, u16), when: &str) {
        let what = format!("{from:?} to {address}, {when}");
        let (tcp, udp) = (place(address, ports.0), place(address, ports.1));
        let url = format!("http://{tcp}/hostname");
        let get = ["weft-demo", "get", &url, "--count", "60", "--summary", "--timeout-ms", "5000"];
        let said = until(&what, SOON, || Some(self.run(from, &get)).filter(|output| output.code == 0)).ok();
        assert_eq!(self.answered(&said), self.all, "{what}: {said}");
        let said = self.run(from, &["weft-demo", "udp", &udp, "--count", "60", "--summary"]).ok();
        assert_eq!(self.answered(&said), self.all, "{what}, UDP: {said}");
    }

    fn answered(&self, said: &str) -> BTreeSet<String> {
        self.all.iter().filter(|pod| said.contains(pod.as_str())).cloned().collect()
    }

    fn socket_lb(&self, on: bool) {
        for node in ["node-1", "node-2", "node-3"] {
            self.cluster.exec(node, &["agentctl", "set", "socket-lb", if on { "on" } else { "off" }]).ok();
        }
    }
}

/// `ADDRESS:PORT`, in brackets where it is needed.
fn place(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

#[test]
fn a_service_is_the_same_in_both_families() {
    let bed = Bed::up();
    pods_reach_pods(&bed);
    pods_reach_the_outside(&bed);
    let spec = bed.cluster.get(&["service", "dual"])["spec"].clone();
    let addresses = texts(&spec["clusterIPs"]);
    let node_port = |at: usize| u16::try_from(spec["ports"][at]["nodePort"].as_u64().unwrap()).unwrap();
    let node_ports = (node_port(0), node_port(1));
    for on in [true, false] {
        bed.socket_lb(on);
        let when = format!("socket hook {on}");
        for address in &addresses {
            bed.every_replica_answers(From::Pod(&bed.replicas[0].0), address, (80, 81), &when);
            if on {
                bed.every_replica_answers(From::Machine("node-1"), address, (80, 81), &when);
            }
        }
    }
    for node in ["node-1", "node-2", "node-3"] {
        let own = bed.cluster.get(&["node", node])["status"]["addresses"].clone();
        for address in own.as_array().unwrap().iter().filter(|own| own["type"] == "InternalIP") {
            let address = text(&address["address"]);
            bed.every_replica_answers(From::Machine("client"), &address, node_ports, "node port");
        }
    }
    let said = bed.cluster.exec("node-1", &["agentctl", "trace", "--service", "default/dual"]).ok();
    assert!(addresses.iter().all(|address| said.contains(address.as_str())), "{said}");
    load_balancer_addresses_of_both(&bed);

    // Without its second family the Service is silent there, and the same as before in the first.
    let patch = r#"{"spec":{"ipFamilyPolicy":"SingleStack"}}"#;
    bed.cluster.kubectl(&["patch", "service", "dual", "-p", patch]).ok();
    let pod = &bed.replicas[0].0;
    until("silence in the second family", SOON, || {
        let url = format!("http://{}/hostname", place(&addresses[1], 80));
        (bed.cluster.pod_exec(pod, &["weft-demo", "get", &url, "--timeout-ms", "500"]).code != 0)
            .then_some(())
    });
    bed.every_replica_answers(From::Pod(pod), &addresses[0], (80, 81), "with one family");
}

/// From a Pod and its node to every Pod, in both families: by the Pod's own address, in packets of any size.
fn pods_reach_pods(bed: &Bed) {
    let (pod, node) = &bed.replicas[0];
    for (to, (name, there)) in bed.replicas.iter().enumerate() {
        for family in 0..2 {
            let address = &bed.addresses[to][family];
            let url = format!("http://{}/", place(address, 8080));
            let said = bed.cluster.pod_exec(pod, &["weft-demo", "get", &url]).ok();
            let mine = format!("\"client\":\"{}\"", bed.addresses[0][family]);
            assert!(said.contains(name.as_str()) && said.contains(&mine), "{pod} to {name}: {said}");
            let said = bed.cluster.exec(node, &["weft-demo", "get", &url]).ok();
            assert!(said.contains(name.as_str()), "{node} to {name} on {there}: {said}");
            if there == node {
                continue;
            }
            let many = format!("http://{}/bytes/400000", place(address, 8080));
            let said = bed.cluster.pod_exec(pod, &["weft-demo", "sha256", &many]).ok();
            assert!(said.trim_end().ends_with(" 400000"), "{said}");
            let (echo, long) = (place(address, 8081), "x".repeat(4_000));
            let said = bed.cluster.pod_exec(pod, &["weft-demo", "udp", &echo, "--payload", &long]).ok();
            assert!(said.contains(&long), "{pod} to {name}: {} bytes came back", said.len());
        }
    }
}

/// What leaves the cluster has its node's address, of the same family.
fn pods_reach_the_outside(bed: &Bed) {
    let _server = bed.cluster.spawn("client", &["weft-demo", "serve", "--http", "8088"]);
    let said = bed.cluster.exec("client", &["ip", "-j", "addr", "show", UPLINK]).ok();
    let said: Value = serde_json::from_str(&said).unwrap();
    let all = said[0]["addr_info"].as_array().unwrap().iter().filter(|info| info["scope"] == "global");
    let own: Vec<String> = all.map(|info| text(&info["local"])).collect();
    assert!(is_pair(&own, false), "{own:?}");
    let (pod, node) = &bed.replicas[0];
    let node = bed.cluster.get(&["node", node])["status"]["addresses"].clone();
    for (family, address) in own.iter().enumerate() {
        let url = format!("http://{}/", place(address, 8088));
        let wanted = format!("\"client\":\"{}\"", text(&node[family]["address"]));
        until(&format!("{pod} to {address} as {wanted}"), SOON, || {
            let said = bed.cluster.pod_exec(pod, &["weft-demo", "get", &url, "--timeout-ms", "1000"]);
            said.stdout.contains(&wanted).then_some(())
        });
    }
}

fn load_balancer_addresses_of_both(bed: &Bed) {
    for pool in POOLS {
        bed.cluster.exec("client", &["ip", "route", "add", pool, "dev", UPLINK]).ok();
    }
    let given = until("an address of each family", SOON, || {
        let given = ips(&bed.cluster.get(&["service", "balancer"])["status"]["loadBalancer"]["ingress"]);
        (given.len() == 2).then_some(given)
    });
    assert_eq!(given, ["198.18.89.8", "fd00:198:18::8"], "the first of each pool");
    // The hook is off from before.
    for on in [false, true] {
        bed.socket_lb(on);
        for address in &given {
            let when = format!("socket hook {on}");
            bed.every_replica_answers(From::Pod(&bed.replicas[0].0), address, (80, 81), &when);
        }
    }
    for address in &given {
        bed.every_replica_answers(From::Machine("client"), address, (80, 81), "from outside");
    }
    // The neighbour that answered is the one node that announces.
    let node =
        text(&bed.cluster.get(&["service", "balancer"])["metadata"]["annotations"]["weft.io/announced-by"]);
    let json = |machine: &str, command: &[&str]| -> Value {
        serde_json::from_str(&bed.cluster.exec(machine, command).ok()).unwrap()
    };
    let mac = json(&node, &["ip", "-j", "link", "show", UPLINK])[0]["address"].clone();
    for address in &given {
        let found = json("client", &["ip", "-j", "neigh", "show", address])[0]["lladdr"].clone();
        assert_eq!(found, mac, "{address} is announced by {node}");
    }
    bed.cluster.kubectl(&["delete", "service", "balancer"]).ok();
    for address in &given {
        until(&format!("silence of {address}"), SOON, || {
            bed.cluster.exec("client", &["ip", "neigh", "flush", "to", address]);
            let url = format!("http://{}/", place(address, 80));
            (bed.cluster.exec("client", &["weft-demo", "get", &url, "--timeout-ms", "1000"]).code != 0)
                .then_some(())
        });
    }
}
