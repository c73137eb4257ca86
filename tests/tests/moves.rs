//! What a node stood for on the network around the cluster: elsewhere seconds after it has died, and not moved by less.

use std::time::Duration;

use serde_json::Value;
use weft_tests::{Cluster, until};

/// Addresses that no other network of this machine has (RFC 2544), reached by the outside client through its uplink.
const POOL: &str = "198.18.87.8/30";
const UPLINK: &str = "uplink0";
const SOON: Duration = Duration::from_secs(40);
/// How long new connections may fail when the node dies that announces their address.
const GAP_MAX_MS: u64 = 3_000;
/// Well above the silence after which a node is asked for.
const AGENT_AWAY: Duration = Duration::from_secs(6);

const BALANCER: &str = "
apiVersion: v1
kind: Service
metadata: { name: balancer }
spec:
  type: LoadBalancer
  selector: { app: web }
  ports: [{ port: 80, targetPort: 8080 }]
";

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Address and announcer of the Service.
fn announced(cluster: &Cluster) -> Option<(String, String)> {
    let service = cluster.get(&["service", "balancer"]);
    let address = text(&service["status"]["loadBalancer"]["ingress"][0]["ip"]);
    let node = text(&service["metadata"]["annotations"]["weft.io/announced-by"]);
    (!address.is_empty() && !node.is_empty()).then_some((address, node))
}

fn is_ready(cluster: &Cluster, node: &str) -> bool {
    let conditions = &cluster.get(&["node", node])["status"]["conditions"];
    conditions.as_array().unwrap().iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// The longest time between two connections that went well, milliseconds, from lines of their times.
fn longest_gap_ms(times: &str) -> u64 {
    let times: Vec<u64> = times.lines().filter_map(|line| line.trim().parse().ok()).collect();
    assert!(times.len() > 50, "the client hardly got through: {times:?}");
    times.windows(2).map(|two| two[1].saturating_sub(two[0])).max().unwrap()
}

#[test]
fn an_address_moves_with_its_nodes_death_and_not_with_its_agents() {
    let cluster = Cluster::up(3, &[&format!("--control-arg=--load-balancer-pool={POOL}")]);
    cluster.pods("app=web", 3);
    cluster.apply(BALANCER).ok();
    let (address, announcer) = until("an address", SOON, || announced(&cluster));
    cluster.exec("client", &["ip", "route", "add", POOL, "dev", UPLINK]).ok();
    let url = format!("http://{address}/hostname");
    let get = ["weft-demo", "get", &url, "--timeout-ms", "1000"];
    until("the address on the network", SOON, || (cluster.exec("client", &get).code == 0).then_some(()));

    // Its machine answers for an agent that is away, and the kernel goes on with what it has.
    cluster.kill(&announcer);
    std::thread::sleep(AGENT_AWAY);
    assert!(is_ready(&cluster, &announcer), "{}", cluster.log("control"));
    assert_eq!(announced(&cluster).unwrap().1, announcer);
    cluster.exec("client", &get).ok();
    cluster.start(&announcer);
    until("the agent to be back", SOON, || {
        let status = cluster.exec(&announcer, &["agentctl", "status", "-o", "json"]);
        let status: Value = serde_json::from_str(&status.stdout).ok()?;
        (status["link"]["connected"] == true).then_some(())
    });
    assert_eq!(announced(&cluster).unwrap().1, announcer);

    let again = format!(
        "while :; do weft-demo get {url} --timeout-ms 300 >/dev/null 2>&1 && date +%s%3N; sleep 0.02; done"
    );
    let client = cluster.spawn("client", &["sh", "-c", &again]);
    std::thread::sleep(Duration::from_secs(3));
    cluster.exec(&announcer, &["ip", "link", "set", UPLINK, "down"]).ok();
    std::thread::sleep(Duration::from_secs(10));
    let gap_ms = longest_gap_ms(&client.kill().stdout);
    println!("the longest gap between two connections was {gap_ms} ms");
    assert!(gap_ms <= GAP_MAX_MS, "{gap_ms} ms\n{}", cluster.log("control"));
    let heir = announced(&cluster).unwrap().1;
    assert_ne!(heir, announcer);
    assert!(!is_ready(&cluster, &announcer));

    // Who comes back takes nothing back.
    cluster.exec(&announcer, &["ip", "link", "set", UPLINK, "up"]).ok();
    until("the node to be back", SOON, || is_ready(&cluster, &announcer).then_some(()));
    for _ in 0..20 {
        cluster.exec("client", &get).ok();
    }
    assert_eq!(announced(&cluster).unwrap().1, heir);
    let annotations = &cluster.get(&["node", &announcer])["metadata"]["annotations"];
    assert!(annotations["weft.io/lost-since"].is_null(), "{annotations}");
}
