//! Placement: each filter refuses, each score prefers, and the refusal says why.

use serde_json::{Value, json};
use weft_api::view::{Node, Pod};

use crate::place;
use crate::snapshot::{NodeInfo, NodeLoad, Snapshot, requests_of};

fn node(name: &str) -> Value {
    json!({
        "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
        "status": {
            "allocatable": { "cpu": "2", "memory": "4Gi", "pods": "110" },
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    })
}

fn pod(cpu: &str) -> Value {
    json!({
        "metadata": { "name": "p", "namespace": "default", "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "c", "resources": { "requests": { "cpu": cpu } } }] },
    })
}

fn read<V: serde::de::DeserializeOwned>(value: Value) -> V {
    serde_json::from_value(value).unwrap()
}

/// Places `pod` on `nodes` that already run `running` (each with a nodeName), which are its siblings as well.
fn run(pod: Value, nodes: Vec<Value>, running: Vec<Value>) -> Result<String, String> {
    let pod: Pod = read(pod);
    let nodes: Vec<Node> = nodes.into_iter().map(read).collect();
    let running: Vec<Pod> = running.into_iter().map(read).collect();
    let loads: Vec<NodeLoad> = nodes
        .iter()
        .map(|node| {
            let mut load = NodeLoad::default();
            running.iter().filter(|p| p.spec.node_name == node.metadata.name).for_each(|p| load.add(p));
            load
        })
        .collect();
    let snapshot = Snapshot {
        nodes: nodes.iter().zip(&loads).map(|(node, load)| NodeInfo { node, load: Some(load) }).collect(),
        namespace_pods: running.iter().collect(),
        siblings: running.iter().collect(),
    };
    place(&pod, &snapshot, 0).map(str::to_owned).map_err(|unfit| unfit.to_string())
}

fn on(node: &str, mut pod: Value) -> Value {
    pod["spec"]["nodeName"] = json!(node);
    pod
}

#[test]
fn no_node_at_all_is_said() {
    assert_eq!(run(pod("1"), vec![], vec![]).unwrap_err(), "no nodes available to schedule pods");
}

#[test]
fn every_reason_is_counted_and_named() {
    let mut cordoned = node("a");
    cordoned["spec"]["unschedulable"] = json!(true);
    let mut tainted = node("b");
    tainted["spec"]["taints"] = json!([{ "key": "gpu", "value": "yes", "effect": "NoSchedule" }]);
    let mut unready = node("c");
    unready["status"]["conditions"][0]["status"] = json!("Unknown");
    let why = run(pod("3"), vec![cordoned, tainted, unready, node("d"), node("e")], vec![]).unwrap_err();
    assert_eq!(
        why,
        "0/5 nodes are available: 1 node(s) had untolerated taint {gpu: yes}, \
         1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }, 1 node(s) were unschedulable, \
         2 Insufficient cpu."
    );
}

#[test]
fn what_runs_already_counts_against_the_node() {
    assert_eq!(run(pod("1500m"), vec![node("a"), node("b")], vec![on("a", pod("1"))]).unwrap(), "b");
    let full = vec![on("a", pod("1")), on("b", pod("1"))];
    assert!(run(pod("1500m"), vec![node("a"), node("b")], full).is_err());
}

#[test]
fn tolerations_selectors_and_affinity_open_the_way() {
    let mut tainted = node("a");
    tainted["spec"]["taints"] = json!([{ "key": "gpu", "value": "yes", "effect": "NoSchedule" }]);
    let mut wanted = pod("1");
    wanted["spec"]["tolerations"] = json!([{ "key": "gpu", "operator": "Exists" }]);
    assert_eq!(run(wanted, vec![tainted], vec![]).unwrap(), "a");

    let mut selected = pod("1");
    selected["spec"]["nodeSelector"] = json!({ "kubernetes.io/hostname": "b" });
    assert_eq!(run(selected.clone(), vec![node("a"), node("b")], vec![]).unwrap(), "b");
    assert_eq!(
        run(selected, vec![node("a")], vec![]).unwrap_err(),
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
    );

    let mut affine = pod("1");
    affine["spec"]["affinity"] = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [
            { "matchExpressions": [{ "key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["a", "b"] }] },
        ],
    } } });
    assert_eq!(run(affine, vec![node("a"), node("b"), node("c")], vec![]).unwrap(), "c");

    let mut preferring = pod("1");
    preferring["spec"]["affinity"] = json!({ "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [
        { "weight": 10, "preference": { "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["b"] }] } },
    ] } });
    assert_eq!(run(preferring, vec![node("a"), node("b")], vec![]).unwrap(), "b");
}

#[test]
fn host_ports_clash_and_pods_are_bounded() {
    let mut holder = pod("100m");
    holder["spec"]["containers"][0]["ports"] = json!([{ "containerPort": 80, "hostPort": 8080 }]);
    let why = run(holder.clone(), vec![node("a")], vec![on("a", holder.clone())]).unwrap_err();
    assert_eq!(why, "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.");
    assert_eq!(run(holder.clone(), vec![node("a"), node("b")], vec![on("a", holder)]).unwrap(), "b");

    let mut small = node("a");
    small["status"]["allocatable"]["pods"] = json!("1");
    let why = run(pod("1m"), vec![small], vec![on("a", pod("1m"))]).unwrap_err();
    assert_eq!(why, "0/1 nodes are available: 1 Too many pods.");
}

#[test]
fn siblings_are_spread_over_the_nodes() {
    let nodes = || vec![node("a"), node("b"), node("c")];
    let mut running = Vec::new();
    for _ in 0..3 {
        let chosen = run(pod("10m"), nodes(), running.clone()).unwrap();
        running.push(on(&chosen, pod("10m")));
    }
    let mut used: Vec<_> =
        running.iter().map(|p| p["spec"]["nodeName"].as_str().unwrap().to_owned()).collect();
    used.sort();
    assert_eq!(used, ["a", "b", "c"]);
}

#[test]
fn a_hard_spread_constraint_refuses_the_fuller_domain() {
    let mut constrained = pod("10m");
    constrained["spec"]["topologySpreadConstraints"] = json!([{
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchLabels": { "app": "web" } },
    }]);
    let running = vec![on("a", pod("10m"))];
    assert_eq!(run(constrained.clone(), vec![node("a"), node("b")], running.clone()).unwrap(), "b");
    let mut full = node("b");
    full["status"]["allocatable"]["cpu"] = json!("1m");
    let why = run(constrained, vec![node("a"), full], running).unwrap_err();
    assert_eq!(
        why,
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match pod topology spread constraints."
    );
}

#[test]
fn equal_nodes_are_chosen_by_the_random_number() {
    let nodes: Vec<Node> = ["a", "b", "c"].map(|n| read(node(n))).into();
    let infos: Vec<NodeInfo> = nodes.iter().map(|node| NodeInfo { node, load: None }).collect();
    let snapshot = Snapshot { nodes: infos, ..Snapshot::default() };
    let pod: Pod = read(pod("1"));
    let chosen: Vec<_> = (0..3).map(|random| place(&pod, &snapshot, random).unwrap()).collect();
    assert_eq!(chosen, ["a", "b", "c"]);
}

#[test]
fn init_containers_count_by_the_hungriest_and_sidecars_add_up() {
    let mut value = pod("100m");
    value["spec"]["initContainers"] = json!([
        { "name": "mesh", "restartPolicy": "Always", "resources": { "requests": { "cpu": "50m" } } },
        { "name": "load", "resources": { "requests": { "cpu": "400m" } } },
    ]);
    assert_eq!(requests_of(&read(value))["cpu"].milli_ceil(), 450);
}

#[test]
fn what_is_added_can_be_taken_out() {
    let mut load = NodeLoad::default();
    let mut holder = pod("100m");
    holder["spec"]["containers"][0]["ports"] = json!([{ "containerPort": 80, "hostPort": 8080 }]);
    let (a, b): (Pod, Pod) = (read(holder), read(pod("7m")));
    load.add(&a);
    let one = load.clone();
    load.add(&b);
    load.remove(&b);
    assert_eq!(load, one);
    load.remove(&a);
    assert_eq!(load, NodeLoad::default());
}

#[test]
fn tries_come_at_doubling_distances() {
    assert_eq!(crate::queue::retry_after_ms(0), 1_000);
    assert_eq!(crate::queue::retry_after_ms(8_000), 8_000);
    assert_eq!(crate::queue::retry_after_ms(10_000_000), 60_000);
}
