//! `agentctl status`: whether this node is well, in a page for people; `-o json` has every field.

mod encryption;

use std::fmt::Write as _;

use clap::Args;
use serde_json::Value;

use crate::connect::Agent;
use crate::lines::{Output, size};
use crate::output;

#[derive(Args)]
pub(crate) struct Options {
    /// Output
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

/// From so much on a table's fill is worth a word, in per cent.
const NEARLY_FULL_PERCENT: u64 = 80;
/// Width of the names.
const NAME_WIDTH: usize = 12;

/// Prints the agent's status.
pub(crate) async fn run(agent: &mut Agent, options: &Options) -> anyhow::Result<()> {
    let status: Value = agent.get("/agent/v1/status").await?;
    match options.output {
        Output::Json => output::line(serde_json::to_string_pretty(&status)?)?,
        Output::Text => page(&status).iter().try_for_each(output::line)?,
    }
    Ok(())
}

/// The page, a group a paragraph; what an agent does not tell is left out.
fn page(status: &Value) -> Vec<String> {
    let mut page = Page::default();
    let node = text(&status["node"]);
    page.row("node", format!("{node}, weft-agent {}", text(&status["version"])));
    let list =
        |value: &Value| value.as_array().map(|all| all.iter().map(text).collect::<Vec<_>>().join(", "));
    if let (Some(own), Some(pods)) = (list(&status["addresses"]), list(&status["podCIDRs"])) {
        page.row("addresses", format!("{own}; Pods {pods}"));
    }
    if let Some(later) = list(&status["podCIDRsAfterRestart"]).filter(|later| !later.is_empty()) {
        page.row("waiting", format!("Pods get addresses of {later} once weft-agent has been restarted"));
    }
    link(&mut page, &status["link"]);
    encryption::rows(&mut page, &status["encryption"]);
    page.row("pods", counted(&status["pods"], ""));
    images(&mut page, &status["images"]);
    let dataplane = &status["dataplane"];
    if dataplane.is_object() {
        page.group("dataplane");
        kernel(&mut page, dataplane);
        tables(&mut page, &dataplane["tables"]);
        refused(&mut page, &dataplane["refused"]);
    }
    traffic(&mut page, &status["counters"]);
    let flows = &status["flows"];
    if flows.is_object() {
        let overwritten = flows["overwritten"].as_u64().unwrap_or(0);
        let gone =
            if overwritten == 0 { String::new() } else { format!(", {overwritten} older ones overwritten") };
        page.row("trace", format!("{} flows kept{gone}", text(&flows["kept"])));
    }
    page.lines
}

#[derive(Default)]
struct Page {
    lines: Vec<String>,
}

impl Page {
    fn group(&mut self, name: &str) {
        self.lines.push(String::new());
        self.lines.push(name.to_uppercase());
    }

    fn row(&mut self, name: &str, text: impl Into<String>) {
        let text = text.into();
        if !text.is_empty() {
            self.lines.push(format!("{name:<NAME_WIDTH$} {text}"));
        }
    }
}

fn link(page: &mut Page, link: &Value) {
    if !link.is_object() {
        return;
    }
    let mut said =
        if link["connected"] == true { "connected to ".to_owned() } else { "NOT connected to ".to_owned() };
    said += &text(&link["control"]);
    if let Some(problem) = link["problem"].as_str().filter(|problem| !problem.is_empty()) {
        let _infallible = write!(said, ": {problem}");
    }
    if link["viewComplete"] == false {
        said += "; what is known is from before the agent's start";
    }
    let lost = link["eventsLost"].as_u64().unwrap_or(0);
    if lost > 0 {
        let _infallible = write!(said, "; {lost} events lost");
    }
    page.row("control", said);
}

fn images(page: &mut Page, images: &Value) {
    if let (Some(count), Some(bytes)) = (images["count"].as_u64(), images["bytes"].as_u64()) {
        let removed = images["removed"].as_u64().unwrap_or(0);
        let gone = if removed == 0 { String::new() } else { format!(", {removed} removed for room") };
        page.row("images", format!("{count}, {}{gone}", size(bytes)));
    }
}

/// The mode, and how many other nodes are reached how.
fn routing(routing: &Value) -> String {
    let ways = [
        ("native_nodes", "natively"),
        ("tunnel_v4_nodes", "by the tunnel"),
        ("tunnel_v6_nodes", "by the tunnel over IPv6"),
        ("unreached_nodes", "NOT AT ALL: no address of a common family"),
    ];
    let mut said = text(&routing["mode"]);
    let mut before = ": ";
    for (name, way) in ways {
        match routing[name].as_u64() {
            None | Some(0) => continue,
            Some(1) => said += &format!("{before}1 node {way}"),
            Some(nodes) => said += &format!("{before}{nodes} nodes {way}"),
        }
        before = ", ";
    }
    said
}

fn kernel(page: &mut Page, dataplane: &Value) {
    let abilities = &dataplane["abilities"];
    let hooks = if abilities["tcx"] == true { "tcx" } else { "clsact" };
    page.row("kernel", format!("{}, programs by {hooks}", text(&abilities["release"])));
    for missing in abilities["missing"].as_array().into_iter().flatten() {
        page.row("missing", text(missing));
    }
    page.row(
        "devices",
        format!(
            "uplink {}, tunnel {}, Pods' MTU {} bytes",
            text(&dataplane["uplink"]),
            text(&dataplane["overlay"]),
            text(&dataplane["pod_mtu_bytes"])
        ),
    );
    page.row("routing", routing(&dataplane["routing"]));
    let on = dataplane["socket_lb"] == true;
    page.row(
        "balancing",
        if on { "at connect, and packet by packet" } else { "packet by packet; at connect it is OFF" },
    );
    if dataplane["direct_return"] == true {
        page.row("from outside", "other nodes' Pods are answered for by their own nodes (dsr)");
    }
    page.row(
        "xdp",
        match dataplane["xdp"]["why_not"].as_str() {
            None => {
                "on: the uplink's driver carries established flows between outside and other nodes".to_owned()
            }
            Some(reason) => format!("off, {reason}"),
        },
    );
    if let Some(hooks) = dataplane["hooks"].as_object() {
        let replaced = hooks.values().filter(|done| *done == "replaced").count();
        let took = text(&dataplane["start_ms"]);
        page.row(
            "hooks",
            format!("{} ({replaced} taken over from before), started in {took} ms", hooks.len()),
        );
    }
}

fn tables(page: &mut Page, tables: &Value) {
    let mut said = Vec::new();
    for table in tables.as_array().into_iter().flatten() {
        let (rows, capacity) =
            (table["rows"].as_u64().unwrap_or(0), table["capacity"].as_u64().unwrap_or(0).max(1));
        let percent = rows * 100 / capacity;
        let full =
            if percent >= NEARLY_FULL_PERCENT { format!(" ({percent} % FULL)") } else { String::new() };
        said.push(format!("{} {rows}{full}", text(&table["table"])));
    }
    if !said.is_empty() {
        page.row("tables", format!("{} (agentctl map)", said.join(", ")));
    }
}

fn refused(page: &mut Page, refused: &Value) {
    for what in refused.as_array().into_iter().flatten() {
        page.row("refused", text(what));
    }
}

/// The counters that say something: what passed, and what did not.
fn traffic(page: &mut Page, counters: &Value) {
    let Some(all) = counters.as_object() else { return };
    let of = |name: &str| all.get(name).and_then(Value::as_u64).unwrap_or(0);
    page.group("since the tables were made");
    page.row(
        "flows",
        format!(
            "{} begun, {} packets translated, {} masqueraded; {} packets carried by the uplink's driver",
            of("flows_begun"),
            of("packets_translated"),
            of("masqueraded"),
            of("xdp_carried")
        ),
    );
    page.row(
        "balanced",
        format!(
            "{} at connect, {} by packet, {} at node ports ({} sent on directly), {} for other nodes",
            of("balanced_socket"),
            of("balanced_packet"),
            of("balanced_node_port"),
            of("direct_sent"),
            of("direct_taken")
        ),
    );
    let by = |prefix: &str| {
        let counted = all.iter().filter_map(|(name, count)| {
            let (hook, count) = (name.strip_prefix(prefix)?, count.as_u64()?);
            (count > 0).then(|| format!("{hook} {count}"))
        });
        counted.collect::<Vec<_>>().join(", ")
    };
    page.row("seen", by("seen_"));
    let dropped = by("dropped_");
    page.row(
        "dropped",
        if dropped.is_empty() {
            "nothing".to_owned()
        } else {
            format!("{dropped} (agentctl trace --verdict dropped)")
        },
    );
    let lost = of("events_lost");
    if lost > 0 {
        page.row("events", format!("{lost} LOST: the ring was full"));
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn counted(value: &Value, unit: &str) -> String {
    value.as_u64().map_or_else(String::new, |count| format!("{count}{unit}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status() -> Value {
        json!({
            "node": "node-1",
            "version": "0.1.0",
            "addresses": ["192.0.2.11", "fd00::b"],
            "podCIDRs": ["10.244.1.0/24", "fd00:244:0:1::/64"],
            "podCIDRsAfterRestart": [],
            "link": { "control": "192.0.2.1:6444", "connected": true, "problem": null, "viewComplete": true, "eventsLost": 0 },
            "dataplane": {
                "abilities": { "release": "6.18.1", "tcx": true, "ipv6": true, "missing": [] },
                "layout": 2, "start_ms": 480, "uplink": "eth0", "overlay": "weft-vxlan", "pod_mtu_bytes": 1450,
                "routing": { "mode": "native", "native_nodes": 3, "tunnel_v4_nodes": 1, "tunnel_v6_nodes": 0, "unreached_nodes": 0 },
                "socket_lb": true, "xdp": { "why_not": "the driver of eth0 has no XDP" }, "hooks": { "connect4": "replaced", "from_uplink on eth0": "attached" }, "pods": 3,
                "tables": [{ "table": "services", "rows": 7, "capacity": 65536 }, { "table": "nodes", "rows": 9, "capacity": 10 }],
                "refused": [],
            },
            "counters": { "flows_begun": 12, "seen_from_pod": 40, "dropped_from_pod": 2, "seen_to_pod": 0 },
            "flows": { "kept": 5, "overwritten": 0 },
            "images": { "count": 2, "bytes": 3145728, "removed": 0 },
            "pods": 3,
        })
    }

    #[test]
    fn a_well_node_is_a_page() {
        let page = page(&status()).join("\n");
        assert!(page.lines().count() < 25, "{page}");
        for words in [
            "routing      native: 3 nodes natively, 1 node by the tunnel",
            "node         node-1, weft-agent 0.1.0",
            "addresses    192.0.2.11, fd00::b; Pods 10.244.1.0/24, fd00:244:0:1::/64",
            "control      connected to 192.0.2.1:6444",
            "images       2, 3.0 MiB",
            "xdp          off, the driver of eth0 has no XDP",
            "2 (1 taken over from before), started in 480 ms",
            "services 7, nodes 9 (90 % FULL)",
            "seen         from_pod 40",
            "dropped      from_pod 2 (agentctl trace --verdict dropped)",
        ] {
            assert!(page.contains(words), "no {words:?} in\n{page}");
        }
        assert!(!page.contains("waiting") && !page.contains("dsr"), "{page}");
        assert!(!page.contains("to_pod 0") && !page.contains("LOST"), "{page}");
    }

    #[test]
    fn what_is_wrong_stands_out() {
        let mut status = status();
        status["link"]["connected"] = json!(false);
        status["link"]["problem"] = json!("the certificate has expired");
        status["dataplane"]["refused"] = json!(["Service a/b: table services is full"]);
        status["dataplane"]["socket_lb"] = json!(false);
        status["dataplane"]["direct_return"] = json!(true);
        status["dataplane"]["xdp"]["why_not"] = json!(null);
        status["counters"]["events_lost"] = json!(4);
        status["podCIDRsAfterRestart"] = json!(["fd00:244::/64"]);
        let page = page(&status).join("\n");
        for words in [
            "NOT connected to 192.0.2.1:6444: the certificate has expired",
            "refused      Service a/b: table services is full",
            "at connect it is OFF",
            "xdp          on: the uplink's driver",
            "from outside other nodes' Pods are answered for by their own nodes (dsr)",
            "Pods get addresses of fd00:244::/64 once weft-agent has been restarted",
            "4 LOST",
        ] {
            assert!(page.contains(words), "no {words:?} in\n{page}");
        }
    }

    #[test]
    fn an_agent_that_tells_little_is_no_failure() {
        assert_eq!(page(&json!({ "node": "n" })), ["node         n, weft-agent -"]);
    }
}
