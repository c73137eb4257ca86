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
fn addresses_show_everywhere(first: &str, second: &str) {
    let cluster = Cluster::up(2, &[&format!("--families={first},{second}")]);
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
    let both = [first, second];
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
        let found = |name: &str, family: &str| resolved(&cluster, "told", name, family);
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
        (none && resolved(&cluster, "told", "dual", second).is_empty()).then_some(())
    });
    let again = policy("PreferDualStack");
    assert!(is_pair(&again, six) && again[0] == addresses[0], "{again:?}");
}

#[test]
fn both_families_show_everywhere() {
    addresses_show_everywhere("IPv4", "IPv6");
}
