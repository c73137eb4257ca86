//! What nodes and Pods use, as `kubectl top` tells it: by kubectl of every version, of Pods that burn and hold what is known.

use std::time::Duration;

use weft_tests::cluster::{COMMAND_MAX, given, machine_kubectl};
use weft_tests::{Cluster, Output, Run, until};

/// Two measurements ten seconds apart, on a machine that has other things to do.
const MEASURED_MAX: Duration = Duration::from_secs(120);
/// What the container `holds` holds, and what nobody else comes near to.
const HELD_MIB: std::ops::Range<u64> = 48..80;

const MANIFEST: &str = "
apiVersion: v1
kind: Pod
metadata: { name: busy, labels: { app: busy } }
spec:
  nodeName: node-1
  terminationGracePeriodSeconds: 0
  containers:
    - { name: burns, image: 'weft.local/demo:1', command: [sh, -c, 'while :; do :; done'] }
    - name: holds
      image: 'weft.local/demo:1'
      command: [sh, -c, 'head -c 50331648 /dev/zero > /dev/shm/held; exec sleep 3600']
---
apiVersion: v1
kind: Pod
metadata: { name: idle, namespace: kube-system, labels: { app: idle } }
spec:
  nodeName: node-2
  terminationGracePeriodSeconds: 0
  containers: [{ name: sleeps, image: 'weft.local/demo:1', command: [sleep, '3600'] }]
";

/// One kubectl against one cluster.
struct Kubectl<'a> {
    cluster: &'a Cluster,
    program: String,
}

impl Kubectl<'_> {
    fn run(&self, line: &str) -> Output {
        self.cluster.kubectl_command(&self.program).args(line.split(' ')).run(COMMAND_MAX)
    }

    /// The words of each line of a command that goes well; none of one that does not.
    fn table(&self, line: &str) -> Vec<Vec<String>> {
        let output = self.run(line);
        if output.code != 0 {
            eprintln!("{line}: {}", output.stderr);
            return Vec::new();
        }
        output.stdout.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    }

    /// The line of a table that begins with these words, once there is one.
    fn line(&self, line: &str, begins: &[&str], holds: impl Fn(&[String]) -> bool) -> Vec<String> {
        until(&format!("{begins:?} as it should be in {line}"), MEASURED_MAX, || {
            let is_wanted = |words: &Vec<String>| {
                words.len() > begins.len() && words.iter().zip(begins).all(|(a, b)| a == b)
            };
            let found = self.table(line).into_iter().find(is_wanted)?;
            holds(&found[begins.len()..]).then_some(found)
        })
    }
}

/// `250m` and `48Mi`: thousandths of a core and mebibytes.
fn amount(word: &str, unit: &str) -> u64 {
    let number = word.strip_suffix(unit).unwrap_or_else(|| panic!("{word} is not in {unit}"));
    number.parse().unwrap_or_else(|error| panic!("{word}: {error}"))
}

fn burns(used: &[String]) -> bool {
    (300..1_300).contains(&amount(&used[0], "m"))
}

fn holds(used: &[String]) -> bool {
    HELD_MIB.contains(&amount(&used[1], "Mi"))
}

/// `kubectl top` in its forms.
fn tells_what_is_used(kubectl: &Kubectl<'_>) {
    kubectl.line("top pod --containers", &["busy", "burns"], |used| burns(used) && !holds(used));
    kubectl.line("top pod --containers", &["busy", "holds"], |used| !burns(used) && holds(used));
    kubectl.line("top pod", &["busy"], |used| burns(used) && holds(used));
    kubectl.line("top pod busy", &["busy"], |used| burns(used) && holds(used));
    kubectl.line("top pod -A", &["kube-system", "idle"], |used| amount(&used[0], "m") < 100 && !holds(used));
    kubectl.line("top pod -A -l app=busy", &["default", "busy"], |used| burns(used) && holds(used));
    let selected = kubectl.run("top pod -A -l app=idle").ok();
    assert!(selected.contains("idle") && !selected.contains("busy"), "{selected}");
    let summed = kubectl.table("top pod -A --sum");
    let last = summed.last().expect("a sum");
    assert!(burns(last) && holds(last), "{summed:?}");
    let node = |used: &[String]| amount(&used[0], "m") >= 200 && amount(&used[2], "Mi") >= HELD_MIB.start;
    for name in ["node-1", "node-2"] {
        kubectl.line("top node", &[name], node);
    }
    kubectl.line("top node node-1", &["node-1"], node);
    let nobody = kubectl.run("top pod nobody").refused();
    assert!(nobody.contains("pods \"nobody\" not found"), "{nobody}");
}

/// What is known of the group beside `top`.
fn tells_of_the_group(kubectl: &Kubectl<'_>) {
    let pods = kubectl.table("get podmetrics");
    assert_eq!(pods[0], ["NAME", "CPU", "MEMORY", "WINDOW"]);
    assert!(pods[1][0] == "busy" && pods[1][3].ends_with('s'), "{pods:?}");
    let nodes = kubectl.table("get nodemetrics.metrics.k8s.io");
    assert_eq!(nodes.iter().map(|words| words[0].as_str()).collect::<Vec<_>>(), ["NAME", "node-1", "node-2"]);
    let resources = kubectl.run("api-resources --api-group=metrics.k8s.io").ok();
    for words in ["NodeMetrics", "PodMetrics", "metrics.k8s.io/v1beta1"] {
        assert!(resources.contains(words), "no {words} in {resources}");
    }
    let explained = kubectl.run("explain pods.containers --api-version=metrics.k8s.io/v1beta1").ok();
    assert!(explained.contains("PodMetrics") && explained.contains("usage"), "{explained}");
    let components = kubectl.table("get cs");
    assert_eq!(components[0], ["NAME", "STATUS", "MESSAGE", "ERROR"]);
    assert_eq!(components[2], ["etcd-0", "Healthy", "ok"]);
}

#[test]
fn what_nodes_and_pods_use_is_told_by_kubectl_top() {
    let cluster = Cluster::up(2, &["--no-demo"]);
    let image = given("WEFT_DEMO_IMAGE");
    for node in ["node-1", "node-2"] {
        cluster.exec(node, &["agentctl", "image", "load", &image]).ok();
    }
    cluster.apply(MANIFEST).ok();
    cluster.ready("busy");
    let mut programs: Vec<String> =
        ["WEFT_KUBECTL_OLDEST", "WEFT_KUBECTL_BEFORE", "WEFT_KUBECTL_NEWEST"].map(given).to_vec();
    programs.push(machine_kubectl());
    for program in programs {
        let kubectl = Kubectl { cluster: &cluster, program };
        tells_what_is_used(&kubectl);
        tells_of_the_group(&kubectl);
    }
    let told = cluster.agentctl(&["--node", "node-1", "pod", "top"]).ok();
    let rows = told.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    let rows: Vec<_> = rows.filter(|words| words[1] == "busy").collect();
    assert!(rows.len() == 2 && burns(&rows[0][3..]) && holds(&rows[1][3..]), "{told}");

    // Of a node whose agent is gone nothing is known, and the others are told of as before.
    cluster.kill("node-2");
    let kubectl = Kubectl { cluster: &cluster, program: given("WEFT_KUBECTL_NEWEST") };
    kubectl.line("top node", &["node-2"], |used| used[0] == "<unknown>");
    kubectl.line("top node", &["node-1"], |used| amount(&used[0], "m") >= 200);
    let refused = kubectl.run("top node node-2").refused();
    assert!(refused.contains("nodemetrics.metrics.k8s.io \"node-2\" not found"), "{refused}");
    kubectl.line("top pod", &["busy"], burns);
}
