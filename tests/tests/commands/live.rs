//! Commands that go on while something else happens.

use std::time::Duration;

use weft_tests::cluster::COMMAND_MAX;
use weft_tests::{Running, until};

use crate::Kubectl;

/// What the recording calls them; the proxy is what everything is read by.
pub(crate) const NAMES: &[&str] =
    &["get-watch", "get-watch-yaml", "get-watch-only", "events-w", "wait-del", "proxy"];

/// How long a watch is looked at before something is changed: it may not have begun yet, but must not lose what it saw.
const BEGIN: Duration = Duration::from_millis(700);

pub(crate) fn all(kubectl: &Kubectl) {
    std::thread::scope(|scope| {
        scope.spawn(|| watches(kubectl));
        scope.spawn(|| waits_for_an_end(kubectl));
    });
}

/// Four watches see one change: in a table, in YAML, without what was there before, and of events.
fn watches(kubectl: &Kubectl) {
    let start = |line| Running::start(&mut kubectl.command(line));
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
    std::thread::sleep(BEGIN);
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
    let wait = Running::start(&mut kubectl.command("wait --for=delete pod/p1x --timeout=20s"));
    std::thread::sleep(BEGIN);
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
