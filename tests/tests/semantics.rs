//! What a Service can say beyond ports and a selector, each clause seen from where it shows: in the API, in a Pod, on a
//! node, on the network beside the cluster.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use weft_tests::{Cluster, until};

/// Addresses that no other network of this machine has (RFC 2544), reached by the outside client through its uplink.
const POOL: &str = "198.18.89.8/30";
const UPLINK: &str = "uplink0";
/// What is written in the API is everywhere after so long, a Pod's start included.
const SOON: Duration = Duration::from_secs(40);

/// Replicas of the demo with their nodes.
type Replicas = Vec<(String, String)>;

#[test]
fn every_clause_of_a_service_shows() {
    let cluster = Cluster::up(2, &[&format!("--control-arg=--load-balancer-pool={POOL}")]);
    let replicas = cluster.pods("app=web", 3);
    let nodes: BTreeSet<_> = replicas.iter().map(|(_, node)| node.as_str()).collect();
    assert_eq!(nodes.len(), 2, "{replicas:?}");
    cluster.exec("client", &["ip", "route", "add", POOL, "dev", UPLINK]).ok();

    addresses_from_outside_reach_every_replica(&cluster, &replicas);
    an_address_follows_its_only_endpoint(&cluster);
    only_named_clients_reach_a_guarded_address(&cluster, &replicas);
    an_address_of_another_load_balancer_is_its_own_affair(&cluster, &replicas);
    a_named_port_is_each_pods_own(&cluster, &replicas);
    a_client_stays_with_its_replica(&cluster, &replicas);
    affinity_ends_with_its_time(&cluster, &replicas);
    inside_traffic_stays_on_its_node(&cluster, &replicas);
    unready_pods_are_reached_where_the_service_says_so(&cluster, &replicas);
    endpoints_may_be_written_by_hand(&cluster, &replicas);
    a_port_of_a_node_leads_to_its_pod(&cluster, &replicas);
    sctp_ports_are_not_rewritten_and_this_is_said(&cluster, &replicas);
    let said = cluster.pod_exec(&replicas[0].0, &["weft-demo", "resolve", "alias"]).ok();
    assert!(said.contains(&cluster.service_address("web")), "the alias leads to {said}");
    cluster.assert_no_rules(&nodes.into_iter().collect::<Vec<_>>());
}

/// A manifest of a Service `name` of the demo's replicas, with more lines of its spec.
fn service(name: &str, spec: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{ name: {name} }}
spec:
  ports: [{{ port: 80, targetPort: 8080 }}]
{spec}
---"
    )
}

/// A manifest of a Pod with the demo's server.
fn pod(name: &str, node: &str, more: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{ name: {name}, labels: {{ app: {name} }} }}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 0
  containers:
    - name: server
      image: 'weft.local/demo:1'
{more}
---"
    )
}

/// Waits until an address answers Pods and nodes at all.
fn reachable(cluster: &Cluster, address: &str, replicas: &Replicas) {
    let url = format!("http://{address}/hostname");
    let get = ["weft-demo", "get", &url, "--timeout-ms", "1000"];
    for (pod, node) in replicas {
        until(&format!("{address} from {node}"), SOON, || {
            (cluster.pod_exec(pod, &get).code == 0 && cluster.exec(node, &get).code == 0).then_some(())
        });
    }
}

/// The replicas that answer at an address, out of many requests by a process of a machine.
fn answer_node(cluster: &Cluster, machine: &str, address: &str, replicas: &Replicas) -> BTreeSet<String> {
    let url = format!("http://{address}/hostname");
    let said = cluster.exec(machine, &["weft-demo", "get", &url, "--count", "60", "--summary"]).ok();
    replicas.iter().map(|(pod, _)| pod.clone()).filter(|pod| said.contains(pod.as_str())).collect()
}

/// The same by a process of a Pod.
fn answer_pod(cluster: &Cluster, pod: &str, address: &str, replicas: &Replicas) -> BTreeSet<String> {
    let url = format!("http://{address}/hostname");
    let said = cluster.pod_exec(pod, &["weft-demo", "get", &url, "--count", "60", "--summary"]).ok();
    replicas.iter().map(|(pod, _)| pod.clone()).filter(|pod| said.contains(pod.as_str())).collect()
}

fn socket_lb(cluster: &Cluster, on: bool) {
    for node in ["node-1", "node-2"] {
        cluster.exec(node, &["agentctl", "set", "socket-lb", if on { "on" } else { "off" }]).ok();
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Address and announcer of a LoadBalancer Service.
fn announced(cluster: &Cluster, name: &str) -> Option<(String, String)> {
    let service = cluster.get(&["service", name]);
    let ingress = &service["status"]["loadBalancer"]["ingress"][0];
    let node = text(&service["metadata"]["annotations"]["weft.io/announced-by"]);
    let complete = ingress["ipMode"] == "VIP" && !node.is_empty();
    complete.then(|| (text(&ingress["ip"]), node))
}

fn addresses_from_outside_reach_every_replica(cluster: &Cluster, replicas: &Replicas) {
    let selector = "  selector: { app: web }";
    let both = "[{ name: tcp, port: 80, targetPort: 8080 }, { name: udp, protocol: UDP, port: 81, targetPort: 8081 }]";
    let service = |name: &str, spec: &str| {
        service(name, &format!("{selector}\n{spec}")).replace("[{ port: 80, targetPort: 8080 }]", both)
    };
    let balancer = service("balancer", "  type: LoadBalancer");
    let external = service("external", "  externalIPs: [198.18.90.7]");
    let alias = "
apiVersion: v1
kind: Service
metadata: { name: alias }
spec: { type: ExternalName, externalName: web.default.svc.cluster.local }
";
    cluster.apply(&format!("{balancer}{external}{alias}")).ok();
    let (address, node) = until("an address", SOON, || announced(cluster, "balancer"));
    assert_eq!(address, "198.18.89.8", "the first of the pool");
    until("the announcer on the network", SOON, || {
        (neighbour(cluster, &address)? == mac(cluster, &node)).then_some(())
    });
    let all: BTreeSet<String> = replicas.iter().map(|(pod, _)| pod.clone()).collect();
    reachable(cluster, "198.18.90.7", replicas);
    // A router of the outside sends the external address to a node; the load balancer's is found by ARP.
    cluster.exec("client", &["ip", "route", "add", "198.18.90.7", "via", &cluster.address("node-2")]).ok();
    for address in [address.as_str(), "198.18.90.7"] {
        assert_eq!(answer_node(cluster, "client", address, replicas), all, "from outside to {address}");
        let udp = ["weft-demo", "udp", &format!("{address}:81"), "--count", "60"];
        let said = cluster.exec("client", &udp).ok();
        assert!(all.iter().all(|pod| said.contains(pod.as_str())), "from outside to {address}, UDP: {said}");
    }
    let said = cluster.exec(&node, &["agentctl", "trace", "--service", "default/balancer"]).ok();
    assert!(said.contains("default/balancer"), "{said}");
    for on in [false, true] {
        socket_lb(cluster, on);
        for address in [address.as_str(), "198.18.90.7"] {
            let what = format!("{address}, socket hook {on}");
            if on {
                assert_eq!(answer_node(cluster, "node-1", address, replicas), all, "from a node to {what}");
            }
            assert_eq!(answer_pod(cluster, &replicas[0].0, address, replicas), all, "from a Pod to {what}");
        }
    }
    cluster.kubectl(&["delete", "service", "balancer"]).ok();
    until("silence on the network", SOON, || neighbour(cluster, &address).is_none().then_some(()));
}

/// The Ethernet address that answers for an address on the client's network, asked anew.
fn neighbour(cluster: &Cluster, address: &str) -> Option<String> {
    cluster.exec("client", &["ip", "neigh", "flush", "to", address]);
    // Nothing echoes: the question for the neighbour is what matters.
    cluster.exec("client", &["busybox", "ping", "-c", "1", "-W", "1", address]);
    known_neighbour(cluster, address)
}

/// The Ethernet address that the client holds for an address, without asking.
fn known_neighbour(cluster: &Cluster, address: &str) -> Option<String> {
    let said = cluster.exec("client", &["ip", "-j", "neigh", "show", address]).ok();
    let said: Value = serde_json::from_str(&said).ok()?;
    said[0]["lladdr"].as_str().map(str::to_owned)
}

fn mac(cluster: &Cluster, node: &str) -> String {
    let said: Value =
        serde_json::from_str(&cluster.exec(node, &["ip", "-j", "link", "show", UPLINK]).ok()).unwrap();
    text(&said[0]["address"])
}

/// `externalTrafficPolicy: Local`: only a node with an endpoint announces, and answers health checks well.
fn an_address_follows_its_only_endpoint(cluster: &Cluster) {
    let spec = "  selector: { app: one }\n  type: LoadBalancer\n  externalTrafficPolicy: Local\n  loadBalancerIP: 198.18.89.10";
    cluster.apply(&format!("{}{}", service("one", spec), pod("one", "node-1", ""))).ok();
    let announcer = |node: &str| {
        until(&format!("{node} to announce"), SOON, || {
            announced(cluster, "one").filter(|(_, announcer)| announcer == node)
        })
    };
    let (address, _) = announcer("node-1");
    assert_eq!(address, "198.18.89.10", "as it was asked for");
    let port = cluster.get(&["service", "one"])["spec"]["healthCheckNodePort"].as_u64().unwrap();
    let healthy = |node: &str| {
        let url = format!("http://{}:{port}/healthz", cluster.address(node));
        let said = cluster.exec("client", &["busybox", "wget", "-q", "-O", "-", &url]);
        assert!(said.code == 0 || said.stderr.contains("503"), "{said:?}");
        assert!(said.code != 0 || said.stdout.contains(r#""localEndpoints":1"#), "{said:?}");
        said.code == 0
    };
    until("the health checks", SOON, || (healthy("node-1") && !healthy("node-2")).then_some(()));
    until("node-1 on the network", SOON, || {
        (neighbour(cluster, &address)? == mac(cluster, "node-1")).then_some(())
    });

    cluster.kubectl(&["delete", "pod", "one"]).ok();
    cluster.apply(&pod("one", "node-2", "")).ok();
    announcer("node-2");
    let moved = mac(cluster, "node-2");
    until("word of the new node, unasked", SOON, || {
        (known_neighbour(cluster, &address)? == moved).then_some(())
    });
    until("the health checks", SOON, || (healthy("node-2") && !healthy("node-1")).then_some(()));
}

/// A foreign `loadBalancerClass`: no address of the pool, and none announced, not even one that somebody else gave.
fn an_address_of_another_load_balancer_is_its_own_affair(cluster: &Cluster, replicas: &Replicas) {
    let spec = "  selector: { app: web }\n  type: LoadBalancer";
    let foreign = service("foreign", &format!("{spec}\n  loadBalancerClass: example.com/other"));
    cluster.apply(&foreign).ok();
    // One that comes after it is served.
    cluster.apply(&service("ours", spec)).ok();
    let (address, _) = until("an address", SOON, || announced(cluster, "ours"));
    assert_eq!(address, "198.18.89.8", "the first of the pool");
    let said = cluster.kubectl(&["get", "service", "foreign"]).ok();
    assert!(said.contains("<pending>"), "{said}");

    let given = "198.18.89.11";
    let status =
        format!(r#"{{"status":{{"loadBalancer":{{"ingress":[{{"ip":"{given}","ipMode":"VIP"}}]}}}}}}"#);
    cluster.kubectl(&["patch", "service", "foreign", "--subresource=status", "-p", &status]).ok();
    // Who brings its packets to a node is answered: the nodes know the address.
    let via = cluster.address("node-2");
    cluster.exec("client", &["ip", "route", "add", given, "via", &via]).ok();
    reachable(cluster, given, replicas);
    let all: BTreeSet<String> = replicas.iter().map(|(pod, _)| pod.clone()).collect();
    assert_eq!(answer_node(cluster, "client", given, replicas), all, "by way of a node");
    cluster.exec("client", &["ip", "route", "del", given]).ok();
    assert_eq!(neighbour(cluster, given), None, "somebody announces it");
    let foreign = cluster.get(&["service", "foreign"]);
    assert!(foreign["metadata"]["annotations"]["weft.io/announced-by"].is_null(), "{foreign}");
    cluster.kubectl(&["delete", "service", "foreign", "ours"]).ok();
}

/// A `targetPort` that is a name leads to the port that each Pod calls so.
fn a_named_port_is_each_pods_own(cluster: &Cluster, replicas: &Replicas) {
    let other = "      command: [weft-demo, serve, --http, '9090']\n      ports: [{ name: http, containerPort: 9090 }]";
    let named =
        service("named", "  selector: { named: 'yes' }").replace("targetPort: 8080", "targetPort: http");
    cluster.apply(&format!("{named}{}", pod("renumbered", "node-1", other))).ok();
    cluster.kubectl(&["label", "pods", "-l", "app in (web, renumbered)", "named=yes"]).ok();
    let client = &replicas[0].0;
    let url = format!("http://{}/hostname", cluster.service_address("named"));
    let get = ["weft-demo", "get", &url, "--count", "60", "--summary", "--timeout-ms", "1000"];
    for on in [false, true] {
        socket_lb(cluster, on);
        until(&format!("answers of all four, socket hook {on}"), SOON, || {
            let said = cluster.pod_exec(client, &get);
            let answered = |pod: &str| said.stdout.contains(pod);
            let all = answered("renumbered") && replicas.iter().all(|(pod, _)| answered(pod));
            (said.code == 0 && all).then_some(())
        });
    }
    cluster.kubectl(&["delete", "pod", "renumbered"]).ok();
}

fn a_client_stays_with_its_replica(cluster: &Cluster, replicas: &Replicas) {
    cluster.apply(&service("sticky", "  selector: { app: web }\n  sessionAffinity: ClientIP")).ok();
    let spec = &cluster.get(&["service", "sticky"])["spec"];
    assert_eq!(spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], 10_800);
    let address = cluster.service_address("sticky");
    reachable(cluster, &address, replicas);
    for on in [false, true] {
        socket_lb(cluster, on);
        let pod = &replicas[0].0;
        let answers = answer_pod(cluster, pod, &address, replicas);
        assert_eq!(answers.len(), 1, "{answers:?}, socket hook {on}");
    }
}

/// A client is kept as long as it comes back within the time, and forgotten after it, on both paths. A client from outside
/// gets the replica that its address leads to, by every node and after any time.
fn affinity_ends_with_its_time(cluster: &Cluster, replicas: &Replicas) {
    const SECONDS: u64 = 3;
    let spec = format!(
        "  selector: {{ app: web }}\n  type: NodePort\n  sessionAffinity: ClientIP\n  \
         sessionAffinityConfig: {{ clientIP: {{ timeoutSeconds: {SECONDS} }} }}"
    );
    cluster.apply(&service("brief", &spec)).ok();
    let address = cluster.service_address("brief");
    reachable(cluster, &address, replicas);
    let ask = || answer_pod(cluster, &replicas[0].0, &address, replicas);
    let past = || std::thread::sleep(Duration::from_secs(SECONDS + 1));
    for (path, on) in [("packets", false), ("sockets", true)] {
        socket_lb(cluster, on);
        let first = ask();
        assert_eq!(first.len(), 1, "{path}");
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(SECONDS * 500));
            assert_eq!(ask(), first, "{path}: who comes back in time is known");
        }
        until(&format!("{path}: another replica after {SECONDS} s"), Duration::from_secs(90), || {
            past();
            let now = ask();
            assert_eq!(now.len(), 1, "{path}");
            (now != first).then_some(())
        });
    }

    let port = cluster.get(&["service", "brief"])["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    let by = |node| answer_node(cluster, "client", &format!("{}:{port}", cluster.address(node)), replicas);
    let first = by("node-1");
    assert_eq!(first.len(), 1, "{first:?}");
    assert_eq!(by("node-2"), first);
    past();
    assert_eq!((by("node-1"), by("node-2")), (first.clone(), first));
}

/// `loadBalancerSourceRanges`: others are dropped with a reason, those inside do not come by the load balancer.
fn only_named_clients_reach_a_guarded_address(cluster: &Cluster, replicas: &Replicas) {
    let guarded = |range: &str| {
        let spec = "  selector: { app: web }\n  type: LoadBalancer\n  loadBalancerIP: 198.18.89.9";
        service("guarded", &format!("{spec}\n  loadBalancerSourceRanges: ['{range}']"))
    };
    cluster.apply(&guarded("203.0.113.0/24")).ok();
    let (address, node) = until("an address", SOON, || announced(cluster, "guarded"));
    reachable(cluster, &address, replicas);
    until("the announcer on the network", SOON, || {
        (neighbour(cluster, &address)? == mac(cluster, &node)).then_some(())
    });
    let url = format!("http://{address}/hostname");
    let get = ["weft-demo", "get", &url, "--timeout-ms", "1000"];
    cluster.exec("client", &get).refused();
    let said = cluster.exec(&node, &["agentctl", "trace", "--service", "default/guarded"]).ok();
    assert!(said.contains("source address is in none of the service's ranges"), "{said}");

    let said = cluster.exec("client", &["ip", "-j", "route", "get", &cluster.address("node-1")]).ok();
    let route: Value = serde_json::from_str(&said).unwrap();
    cluster.apply(&guarded(&format!("{}/32", text(&route[0]["prefsrc"])))).ok();
    until("the client to be let in", SOON, || (cluster.exec("client", &get).code == 0).then_some(()));
    cluster.kubectl(&["delete", "service", "guarded"]).ok();
}

fn inside_traffic_stays_on_its_node(cluster: &Cluster, replicas: &Replicas) {
    cluster.apply(&service("inner", "  selector: { app: web }\n  internalTrafficPolicy: Local")).ok();
    let address = cluster.service_address("inner");
    reachable(cluster, &address, replicas);
    for (pod, node) in replicas {
        let here: BTreeSet<String> =
            replicas.iter().filter(|(_, other)| other == node).map(|(pod, _)| pod.clone()).collect();
        assert_eq!(answer_pod(cluster, pod, &address, replicas), here, "from a Pod on {node}");
        assert_eq!(answer_node(cluster, node, &address, replicas), here, "from {node}");
    }
}

fn unready_pods_are_reached_where_the_service_says_so(cluster: &Cluster, replicas: &Replicas) {
    let never = "      readinessProbe: { exec: { command: [/bin/false] } }";
    let early = service("early", "  selector: { app: unready }\n  publishNotReadyAddresses: true");
    let late = service("late", "  selector: { app: unready }");
    cluster.apply(&format!("{early}{late}{}", pod("unready", "node-2", never))).ok();
    let client = &replicas[0].0;
    let get = |service: &str| {
        let url = format!("http://{service}/hostname");
        cluster.pod_exec(client, &["weft-demo", "get", &url, "--timeout-ms", "1000"])
    };
    until("the Pod that is not ready", SOON, || get("early").stdout.contains("unready").then_some(()));
    let said = get("late").refused();
    assert!(said.contains("refused"), "at once, and not by silence: {said}");
}

fn endpoints_may_be_written_by_hand(cluster: &Cluster, replicas: &Replicas) {
    let (pod, _) = &replicas[1];
    let ip = text(&cluster.get(&["pod", pod])["status"]["podIP"]);
    let slice = format!(
        "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{ name: sliced-1, labels: {{ kubernetes.io/service-name: sliced }} }}
addressType: IPv4
endpoints: [{{ addresses: ['{ip}'] }}]
ports: [{{ port: 8080 }}]
---
apiVersion: v1
kind: Endpoints
metadata: {{ name: older }}
subsets: [{{ addresses: [{{ ip: '{ip}' }}], ports: [{{ port: 8080 }}] }}]
"
    );
    cluster.apply(&format!("{}{}{slice}", service("sliced", ""), service("older", ""))).ok();
    for name in ["sliced", "older"] {
        let url = format!("http://{name}/hostname");
        until(&format!("endpoints of {name}"), SOON, || {
            let said = cluster.pod_exec(&replicas[0].0, &["weft-demo", "get", &url, "--timeout-ms", "1000"]);
            said.stdout.contains(pod.as_str()).then_some(())
        });
    }
}

/// `hostPort`: from outside, from Pods, from the node and the other one; gone with the Pod.
fn a_port_of_a_node_leads_to_its_pod(cluster: &Cluster, replicas: &Replicas) {
    let port = "      ports: [{ containerPort: 8080, hostPort: 9080 }]";
    cluster.apply(&pod("ported", "node-2", port)).ok();
    cluster.ready("ported");
    let url = format!("http://{}:9080/hostname", cluster.address("node-2"));
    let get = ["weft-demo", "get", &url, "--count", "5", "--timeout-ms", "5000"];
    for on in [false, true] {
        socket_lb(cluster, on);
        for (pod, node) in replicas {
            let said = cluster.pod_exec(pod, &get).ok();
            assert!(said.contains("ported"), "from a Pod on {node}, socket hook {on}: {said}");
        }
    }
    for machine in ["client", "node-1", "node-2"] {
        assert!(cluster.exec(machine, &get).ok().contains("ported"), "from {machine}");
    }
    let loopback = ["weft-demo", "get", "http://127.0.0.1:9080/hostname"];
    assert!(cluster.exec("node-2", &loopback).ok().contains("ported"));
    let events = cluster.kubectl(&["get", "events", "--field-selector", "involvedObject.name=ported"]).ok();
    assert!(!events.contains("WithoutEffect"), "{events}");

    cluster.kubectl(&["delete", "pod", "ported"]).ok();
    let get = ["weft-demo", "get", &url, "--timeout-ms", "1000"];
    until("the port to be the node's own again", SOON, || {
        let said = cluster.exec("client", &get);
        (said.code != 0 && format!("{said:?}").contains("refused")).then_some(())
    });
}

/// There are no SCTP sockets to show it with on every kernel: what is sent is shown packet by packet, here what is said, and
/// that the nodes have it.
fn sctp_ports_are_not_rewritten_and_this_is_said(cluster: &Cluster, replicas: &Replicas) {
    let service = |name: &str, target: u16| {
        format!(
            "
apiVersion: v1
kind: Service
metadata: {{ name: {name} }}
spec: {{ selector: {{ app: web }}, ports: [{{ port: 38412, targetPort: {target}, protocol: SCTP }}] }}
---"
        )
    };
    let done = cluster.apply(&service("same", 38412));
    assert!(done.code == 0 && !done.stderr.contains("SCTP"), "{done:?}");
    let done = cluster.apply(&service("other", 9000));
    assert!(done.code == 0 && done.stderr.contains("9000 is not reached by port 38412"), "{done:?}");
    // The rows of both are alike but for the backends' port: the program that would have to change it drops instead.
    for (name, target) in [("same", 38_412), ("other", 9_000)] {
        let frontend = format!("{}:38412", cluster.service_address(name));
        let own = format!("default/{name}");
        until(&format!("rows of {name} with every replica"), SOON, || {
            let list = ["agentctl", "service", "list", "--service", &own, "-o", "json"];
            let said = cluster.exec("node-1", &list).ok();
            let row: Value = serde_json::from_str(said.lines().next()?).unwrap();
            assert_eq!((&row["protocol"], &row["frontend"]), (&"SCTP".into(), &frontend.as_str().into()));
            let backends = row["backends"].as_array().unwrap();
            let complete = replicas.iter().all(|(pod, _)| {
                backends.iter().any(|backend| {
                    backend["pod"] == format!("default/{pod}")
                        && text(&backend["address"]).ends_with(&format!(":{target}"))
                })
            });
            complete.then_some(())
        });
    }
}
