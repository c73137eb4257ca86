//! Which of a Service's endpoints are chosen: those that go away when there are no others, the near ones where it says so.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use weft_tests::{Cluster, until};

/// What is written in the API is everywhere after so long, a Pod's start included.
const SOON: Duration = Duration::from_secs(60);
/// Of three endpoints none is missed by chance in so many (one of three million times).
const REQUESTS: u32 = 40;

#[test]
fn endpoints_that_terminate_serve_while_there_are_no_others() {
    let cluster = Cluster::up(2, &[]);
    let client = cluster.pods("app=web", 3).remove(0).0;
    cluster
        .apply(
            &[pod("going"), service("going", ""), service("going-inner", "internalTrafficPolicy: Local")]
                .concat(),
        )
        .ok();
    cluster.apply(&service("going-outer", "type: NodePort, externalTrafficPolicy: Local")).ok();
    cluster.apply(&service("going-any", "type: NodePort")).ok();
    cluster.ready("going");
    let node_port = |service: &str, node: &str| {
        let port = cluster.get(&["service", service])["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
        format!("{}:{port}", cluster.address(node))
    };
    let (inside, inner) = (cluster.service_address("going"), cluster.service_address("going-inner"));
    let (any, outer) = (node_port("going-any", "node-1"), node_port("going-outer", "node-2"));
    let elsewhere = node_port("going-outer", "node-1");
    let all = || {
        [
            from_pod(&cluster, &client, &inside),
            from(&cluster, "node-1", &inside),
            from(&cluster, "node-2", &inner),
            from(&cluster, "client", &any),
            from(&cluster, "client", &outer),
        ]
    };
    let only = |name: &str| std::array::from_fn(|_| BTreeSet::from([name.to_owned()]));
    until("the Pod behind its Services", SOON, || (all() == only("going")).then_some(()));
    let hold = |address: &str| {
        ["weft-demo", "hold", address, "--seconds", "40", "--gap-ms", "10000"].map(str::to_owned)
    };
    let held = [("client", any.clone()), ("node-1", format!("{inside}:80"))]
        .map(|(machine, address)| cluster.spawn(machine, &words(&hold(&address))));
    std::thread::sleep(Duration::from_secs(3));

    cluster.kubectl(&["delete", "pod", "going", "--wait=false"]).ok();
    let conditions = |name: &str| -> Option<Value> {
        let slices = cluster.get(&["endpointslices", "-l", "kubernetes.io/service-name=going"]);
        let slices = slices["items"].as_array()?.clone();
        let mut ends = slices.iter().filter_map(|slice| slice["endpoints"].as_array()).flatten();
        Some(ends.find(|end| end["targetRef"]["name"] == name)?["conditions"].clone())
    };
    let terminating = json!({ "ready": false, "serving": true, "terminating": true });
    until("word that it terminates", SOON, || (conditions("going")? == terminating).then_some(()));
    for _ in 0..3 {
        assert_eq!(all(), only("going"), "it serves as long as nobody else does");
    }
    let said = cluster.exec("client", &words(&get(&elsewhere, 1)));
    assert_ne!(said.code, 0, "the policy holds for those that terminate, too: {said:?}");

    cluster.apply(&pod("fresh")).ok();
    cluster.ready("fresh");
    until("the ready Pod alone", SOON, || (all() == only("fresh")).then_some(()));
    assert_eq!(conditions("fresh"), Some(json!({ "ready": true, "serving": true, "terminating": false })));
    assert_eq!(conditions("going"), Some(terminating), "it is still there");
    for running in held {
        let ended = running.end(Duration::from_secs(120));
        assert_eq!(ended.code, 0, "what was connected stays so: {ended:?}");
    }
    cluster.kubectl(&["delete", "pod", "going", "fresh", "--grace-period=1", "--wait=false"]).ok();
}

#[test]
fn near_endpoints_are_chosen_where_a_service_prefers_them() {
    let cluster = Cluster::up(2, &[]);
    let replicas = cluster.pods("app=web", 3);
    let zone = |node: &str, zone: &str| {
        let label = format!("topology.kubernetes.io/zone={zone}");
        cluster.kubectl(&["label", "--overwrite", "node", node, &label]).ok();
    };
    zone("node-1", "east");
    zone("node-2", "west");
    for (name, distribution) in
        [("zone", "PreferSameZone"), ("close", "PreferClose"), ("node", "PreferSameNode")]
    {
        let spec = format!("type: NodePort, trafficDistribution: {distribution}");
        cluster.apply(&service(name, &spec).replace("app: going", "app: web")).ok();
    }
    let here = |node: &str| -> BTreeSet<String> {
        replicas.iter().filter(|(_, other)| other == node).map(|(pod, _)| pod.clone()).collect()
    };
    let all: BTreeSet<String> = replicas.iter().map(|(pod, _)| pod.clone()).collect();
    assert_ne!(here("node-1"), all, "{replicas:?}");
    let expect = |service: &str, wanted: &dyn Fn(&str) -> BTreeSet<String>| {
        let address = cluster.service_address(service);
        let port = cluster.get(&["service", service])["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
        for (pod, node) in &replicas {
            let outside = format!("{}:{port}", cluster.address(node));
            until(&format!("{service} on {node}: {:?}", wanted(node)), SOON, || {
                let found = [
                    from_pod(&cluster, pod, &address),
                    from(&cluster, node, &address),
                    from(&cluster, "client", &outside),
                ];
                found.iter().all(|found| *found == wanted(node)).then_some(())
            });
        }
    };
    for service in ["zone", "close", "node"] {
        expect(service, &here);
    }
    let slices = cluster.get(&["endpointslices", "-l", "kubernetes.io/service-name=node"]);
    let end = &slices["items"][0]["endpoints"][0];
    assert_eq!(end["hints"]["forNodes"], json!([{ "name": end["nodeName"] }]), "{end}");
    assert_eq!(end["hints"]["forZones"], json!([{ "name": end["zone"] }]), "{end}");

    // One zone: whoever is in it is near, but not on the same node.
    zone("node-1", "west");
    expect("zone", &|_| all.clone());
    expect("node", &here);
    // Endpoints that do not say whom they are for: nobody is preferred.
    cluster.kubectl(&["label", "node", "node-1", "node-2", "topology.kubernetes.io/zone-"]).ok();
    expect("close", &|_| all.clone());
    cluster.kubectl(&["patch", "service", "node", "-p", "{\"spec\":{\"trafficDistribution\":null}}"]).ok();
    expect("node", &|_| all.clone());
}

/// A Pod that takes very long to go, and serves meanwhile.
fn pod(name: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{ name: {name}, labels: {{ app: going }} }}
spec:
  nodeName: node-2
  terminationGracePeriodSeconds: 900
  containers:
    - name: server
      image: 'weft.local/demo:1'
      readinessProbe: {{ httpGet: {{ path: /healthz, port: 8080 }}, periodSeconds: 1, timeoutSeconds: 10 }}
      lifecycle: {{ preStop: {{ sleep: {{ seconds: 890 }} }} }}
---"
    )
}

fn service(name: &str, spec: &str) -> String {
    let spec = if spec.is_empty() { String::new() } else { format!(", {spec}") };
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{ name: {name} }}
spec: {{ selector: {{ app: going }}, ports: [{{ port: 80, targetPort: 8080 }}]{spec} }}
---"
    )
}

/// Asks an address so many times who answers.
fn get(address: &str, times: u32) -> Vec<String> {
    let (url, count) = (format!("http://{address}/hostname"), times.to_string());
    ["weft-demo", "get", &url, "--count", &count, "--timeout-ms", "2000"].map(str::to_owned).into()
}

/// Who answered a process of a machine.
fn from(cluster: &Cluster, machine: &str, address: &str) -> BTreeSet<String> {
    names(&cluster.exec(machine, &words(&get(address, REQUESTS))).stdout)
}

/// Who answered a process of a Pod.
fn from_pod(cluster: &Cluster, pod: &str, address: &str) -> BTreeSet<String> {
    names(&cluster.pod_exec(pod, &words(&get(address, REQUESTS))).stdout)
}

fn names(said: &str) -> BTreeSet<String> {
    said.split_whitespace().map(str::to_owned).collect()
}

fn words(command: &[String]) -> Vec<&str> {
    command.iter().map(String::as_str).collect()
}
