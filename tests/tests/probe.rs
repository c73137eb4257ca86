//! `agentctl probe`, and the live tables: the right station and reason for each way a packet can end, on both paths.

use serde_json::Value;
use weft_tests::Cluster;
use weft_tests::tables::untouched;

/// The Pods' image.
const IMAGE: &str = "weft.local/demo:1";

/// A Pod that serves, on a node.
fn pod(name: &str, node: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{ name: {name}, labels: {{ who: {name} }} }}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 0
  containers:
    - {{ name: c, image: '{IMAGE}', command: [weft-demo, serve] }}
---
"
    )
}

/// A Service in front of the Pod called `who`.
fn service(name: &str, who: &str, more: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{ name: {name} }}
spec:
  {more}
  selector: {{ who: {who} }}
  ports: [{{ name: http, port: 80, targetPort: 8080 }}, {{ name: echo, protocol: UDP, port: 81, targetPort: 8081 }}]
---
"
    )
}

struct Bed {
    cluster: Cluster,
}

impl Bed {
    fn new() -> Self {
        let cluster = Cluster::up(2, &[]);
        let objects = [
            pod("near", "node-1"),
            pod("far", "node-2"),
            service("empty", "nobody", ""),
            service("mirror", "near", ""),
            service("there", "far", ""),
            service("local", "far", "internalTrafficPolicy: Local"),
            service("outward", "near", "type: NodePort\n  externalTrafficPolicy: Local"),
        ];
        cluster.apply(&objects.concat()).ok();
        cluster.ready("near");
        cluster.ready("far");
        let bed = Self { cluster };
        weft_tests::until("every Service in the tables of node-1", weft_tests::cluster::COMMAND_MAX, || {
            let rows = bed.lines(&["service", "list", "--limit", "0"]);
            let with_backend = |name: &str| {
                rows.iter().any(|row| {
                    row["service"] == format!("default/{name}")
                        && row["backends"].as_array().is_some_and(|backends| !backends.is_empty())
                })
            };
            let local = rows.iter().any(|row| row["service"] == "default/local" && row["local"] == true);
            let empty = rows.iter().any(|row| row["service"] == "default/empty");
            (with_backend("mirror") && with_backend("there") && with_backend("outward") && local && empty)
                .then_some(())
        });
        bed
    }

    /// What agentctl prints of node-1, from afar.
    fn agentctl(&self, args: &[&str]) -> String {
        self.cluster.agentctl(&[&["--node", "node-1"], args].concat()).ok()
    }

    /// JSON lines.
    fn lines(&self, args: &[&str]) -> Vec<Value> {
        let text = self.agentctl(&[args, &["-o", "json"]].concat());
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line}")))
            .collect()
    }

    /// A probe, which leaves every live table as it was.
    fn probe(&self, to: &str, more: &[&str]) -> Value {
        let args = [&["probe", "--from", "default/near", "--to", to], more].concat();
        untouched(&self.cluster, "node-1", || self.lines(&args).pop().unwrap_or_default())
    }

    fn socket_lb(&self, state: &str) {
        self.agentctl(&["set", "socket-lb", state]);
    }

    fn node_port(&self, service: &str) -> String {
        self.cluster.get(&["service", service])["spec"]["ports"][0]["nodePort"].to_string()
    }
}

#[track_caller]
fn assert_end(probe: &Value, outcome: &str, hook: &str, station: &str, reason: &str) {
    let text = |name: &str| probe[name].as_str().unwrap_or_default();
    assert_eq!(
        (text("outcome"), text("hook"), text("station"), text("reason")),
        (outcome, hook, station, reason),
        "{probe:#}"
    );
}

const NO_BACKEND: &str = "service has no ready backend";
const NOT_HERE: &str = "service has no ready backend on this node";
const NO_SERVICE: &str = "no service at this address and port";
const TOO_LARGE: &str = "packet larger than the way takes";
const HAIRPIN: &str = "hairpin: the sender is its own backend";

#[test]
fn a_probe_tells_the_station_and_the_reason() {
    let bed = Bed::new();
    let (here, there) = (bed.cluster.address("node-1"), bed.cluster.address("node-2"));
    for udp in [&[][..], &["--udp"]] {
        let port = if udp.is_empty() { 80 } else { 81 };
        bed.socket_lb("on");
        let at = |service: &str| format!("{service}:{port}");
        assert_end(&bed.probe(&at("empty"), udp), "refused", "connect4", "socket", NO_BACKEND);
        assert_end(&bed.probe(&at("local.default"), udp), "refused", "connect4", "socket", NOT_HERE);
        assert_end(&bed.probe(&at("mirror"), udp), "forwarded", "connect4", "socket", HAIRPIN);
        let sized = [udp, &["--size", "3000"]].concat();
        assert_end(&bed.probe(&at("there"), &sized), "refused", "pod", "socket", TOO_LARGE);
        let probe = bed.probe(&at("there"), udp);
        assert_eq!(probe["outcome"], "forwarded", "{probe:#}");
        assert_eq!(probe["service"]["name"], "there", "{probe:#}");
        let steps = probe["steps"].to_string();
        assert!(steps.contains("default/far") && steps.contains("through the tunnel to node-2"), "{probe:#}");
        assert!(probe["unknown"].to_string().contains("--node node-2"), "{probe:#}");

        bed.socket_lb("off");
        assert_end(&bed.probe(&at("empty"), udp), "refused", "from_pod", "balance", NO_BACKEND);
        assert_end(&bed.probe(&at("local"), udp), "dropped", "from_pod", "balance", NOT_HERE);
        assert_end(&bed.probe(&at("mirror"), udp), "forwarded", "from_pod", "translate", HAIRPIN);
        assert_end(&bed.probe(&format!("{here}:30999"), udp), "refused", "from_pod", "balance", NO_SERVICE);
        assert_end(
            &bed.probe(&format!("{there}:30999"), udp),
            "refused",
            "from_uplink",
            "balance",
            NO_SERVICE,
        );
        assert_end(&bed.probe(&at("there"), &sized), "refused", "pod", "socket", TOO_LARGE);
        assert_end(&bed.probe("10.96.77.77:80", udp), "dropped", "from_pod", "route", NO_SERVICE);
    }
    // The other node has no backend of its own, and this one knows it.
    let outward = format!("{there}:{}", bed.node_port("outward"));
    assert_end(&bed.probe(&outward, &[]), "dropped", "from_uplink", "balance", NOT_HERE);
    // What the probe says is what happens.
    let said = bed
        .cluster
        .pod_exec("near", &["weft-demo", "get", "http://empty:80/", "--timeout-ms", "3000"])
        .refused();
    assert!(said.contains("refused"), "{said}");
    let said = bed.cluster.pod_exec("near", &["weft-demo", "get", "http://there:80/hostname"]).ok();
    assert!(said.contains("far"), "{said}");

    let text = bed.agentctl(&["probe", "--from", "default/near", "--to", "default/far:8080"]);
    assert!(
        text.contains("Pod default/far on node-2 has the address") && text.contains("forwarded"),
        "{text}"
    );
    let wrong =
        |args: &[&str]| bed.cluster.agentctl(&[&["--node", "node-1", "probe"], args].concat()).refused();
    assert!(wrong(&["--from", "default/far", "--to", "web:80"]).contains("is on node-2"));
    assert!(wrong(&["--from", "default/near", "--to", "nosuch:80"]).contains("no name nosuch"));
    assert!(wrong(&["--from", "default/near", "--to", "example.org:80"]).contains("give its address"));
}

#[test]
fn the_live_tables_are_read_with_names() {
    let bed = Bed::new();
    bed.socket_lb("off");
    bed.cluster.pod_exec("near", &["weft-demo", "get", "http://there:80/hostname", "--count", "20"]).ok();
    let flows = bed.lines(&["conntrack", "--pod", "default/near", "--service", "default/there"]);
    assert!(flows.len() >= 20, "{} flows", flows.len());
    for flow in &flows {
        assert_eq!(flow["source"]["pod"], "default/near", "{flow}");
        assert_eq!(flow["backend"]["pod"], "default/far", "{flow}");
        assert!(flow["answerPackets"].as_u64().is_some_and(|packets| packets > 0), "{flow}");
    }
    assert!(flows.iter().any(|flow| flow["state"] == "closing"), "connections have ended");
    let text = bed.agentctl(&["conntrack", "--pod", "default/near", "--limit", "2"]);
    assert!(text.lines().count() == 4 && text.contains("more are left off"), "{text}");
    let nat = bed.lines(&["nat", "--service", "default/there"]);
    assert!(
        nat.iter().any(|row| row["at"] == "packet" && row["translatedDestination"]["pod"] == "default/far")
    );
    bed.socket_lb("on");
    bed.cluster.pod_exec("near", &["weft-demo", "get", "http://there:80/hostname"]).ok();
    let nat = bed.lines(&["nat", "--service", "default/there"]);
    assert!(nat.iter().any(|row| row["at"] == "connect" && row["socket"].is_string()), "{nat:?}");

    let tables = bed.lines(&["map", "--owners"]);
    let table = |name: &str| tables.iter().find(|table| table["name"] == name).cloned().unwrap_or_default();
    let kept = table("flows");
    assert!(kept["rows"].as_u64() >= Some(40) && kept["capacity"] == 131_072, "{kept}");
    assert!(kept["memoryBytes"].as_u64() > Some(1 << 20), "{kept}");
    assert!(kept["owners"].to_string().contains("pod default/near"), "{kept}");
    assert!(table("slots")["owners"].to_string().contains("service default/"), "{tables:?}");
    let endpoints = bed.lines(&["map", "endpoints"]);
    let address = bed.cluster.get(&["pod", "near"])["status"]["podIP"].clone();
    assert!(endpoints.iter().any(|row| row["key"]["address"] == address), "{endpoints:?}");
    let said = bed.cluster.agentctl(&["--node", "node-1", "map", "nosuch"]).refused();
    assert!(said.contains("there are config"), "{said}");

    let page = bed.agentctl(&["status"]);
    assert!(page.lines().count() < 30 && page.contains("connected to"), "{page}");
    let all: Value = serde_json::from_str(&bed.agentctl(&["status", "-o", "json"])).unwrap_or_default();
    assert!(all["counters"].as_object().is_some_and(|counters| counters.len() > 20), "{all}");
}
