//! Commands that go on while something else happens.

use weft_tests::cluster::COMMAND_MAX;
use weft_tests::{Running, until};

use crate::Kubectl;

/// What the recording calls them; the proxy is what everything is read by.
pub(crate) const NAMES: &[&str] =
    &["get-watch", "get-watch-yaml", "get-watch-only", "events-w", "wait-del", "proxy"];

pub(crate) fn all(kubectl: &Kubectl) {
    watches(kubectl);
    waits_for_an_end(kubectl);
}

/// How many watches of Pods the server has begun: whoever is among them misses nothing from then on.
fn begun(kubectl: &Kubectl) -> u64 {
    let said = kubectl.run("get --raw /metrics").ok();
    let of_pods = |line: &&str| {
        let has = |label| line.contains(label);
        line.starts_with("weft_api_requests_total{")
            && [r#"verb="watch""#, r#"resource="pods""#, r#"code="200""#].into_iter().all(has)
    };
    let count = |line: &str| line.rsplit(' ').next()?.parse::<u64>().ok();
    said.lines().filter(of_pods).filter_map(count).sum()
}

/// Waits until there are so many more than there were.
fn until_begun(kubectl: &Kubectl, before: u64, more: u64) {
    let what = format!("{more} watches of Pods by kubectl 1.{}", kubectl.minor);
    until(&what, COMMAND_MAX, || (begun(kubectl) >= before + more).then_some(()));
}

/// Four watches see one change: in a table, in YAML, without what was there before, and of events.
fn watches(kubectl: &Kubectl) {
    let start = |line| Running::start(&mut kubectl.command(line));
    let before = begun(kubectl);
    let table = start("get pods --show-labels -w");
    let yaml = start("get pods -w -o yaml");
    let only = start("get pods --show-labels --watch-only");
    let events = start("events -w");
    let until_says = |watch: &Running, word: &str| {
        until(&format!("{word} by a watch of kubectl 1.{}", kubectl.minor), COMMAND_MAX, || {
            watch.said().contains(word).then_some(())
        });
    };
    until_says(&table, "p1");
    until_says(&yaml, "name: p1");
    until_says(&events, "somebody tried it");
    // One of them says nothing until something changes.
    until_begun(kubectl, before, 3);
    kubectl.run("label pod p1 seen=live").ok();
    until_says(&table, "seen=live");
    until_says(&yaml, "seen: live");
    until_says(&only, "seen=live");
    kubectl.server.write("kubectl", "event.yaml", EVENT);
    kubectl.run("create -f event.yaml").ok();
    until_says(&events, "somebody tried again");
    let (table, only) = (table.kill().stdout, only.kill().stdout);
    assert_eq!(table.lines().filter(|line| line.starts_with("p1 ")).count(), 2, "{table}");
    assert_eq!(only.lines().filter(|line| line.starts_with("p1 ")).count(), 1, "{only}");
    assert!(!only.contains("web-"), "{only}");
    yaml.kill();
    events.kill();
}

fn waits_for_an_end(kubectl: &Kubectl) {
    kubectl.run("run p1x --image=x").ok();
    let before = begun(kubectl);
    let wait = Running::start(&mut kubectl.command("wait --for=delete pod/p1x --timeout=20s"));
    until_begun(kubectl, before, 1);
    kubectl.run("delete pod p1x").ok();
    let said = wait.end(COMMAND_MAX).ok();
    assert!(said.contains("pod/p1x condition met"), "{said}");
}

const EVENT: &str = r"
apiVersion: v1
kind: Event
metadata: { name: p1.again, namespace: default }
involvedObject: { apiVersion: v1, kind: Pod, name: p1, namespace: default }
type: Normal
reason: Tried
message: somebody tried again
";
