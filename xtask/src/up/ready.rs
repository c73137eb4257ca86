//! Asks the cluster through kubectl, as a user would: applies, and waits until nodes and workloads are ready.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command::{output, wait_for};
use crate::setup;
use crate::up::Plan;

const NODES_READY_MAX: Duration = Duration::from_secs(90);
const DEMO_READY_MAX: Duration = Duration::from_secs(120);
const POLL_MS: u64 = 200;

/// kubectl with the cluster's credentials.
pub(crate) struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    /// The machine's kubectl, else the one that `setup` unpacked.
    pub(crate) fn of(plan: &Plan) -> Result<Self> {
        let program =
            setup::any_kubectl(&plan.workspace).context("there is no kubectl: run `cargo xtask setup`")?;
        Ok(Self { program, kubeconfig: plan.cluster.kubeconfig() })
    }

    fn ask(&self, args: &[&str]) -> Result<String> {
        output(Command::new(&self.program).arg("--kubeconfig").arg(&self.kubeconfig).args(args))
    }

    fn json(&self, args: &[&str]) -> Result<Value> {
        let text = self.ask(args)?;
        serde_json::from_str(&text).context("kubectl printed no JSON")
    }

    /// Waits until every node is Ready, and says how many are as that changes.
    pub(crate) fn wait_for_nodes(&self, plan: &Plan) -> Result<()> {
        let wanted = usize::from(plan.record.nodes);
        let mut last = usize::MAX;
        wait_for("the nodes to be Ready", NODES_READY_MAX, POLL_MS, || {
            let nodes = self.json(&["get", "nodes", "-o", "json"])?;
            let ready = count_ready(&nodes);
            if ready != last {
                plan.say(&format!("{ready} of {wanted} nodes Ready"));
                last = ready;
            }
            Ok((ready >= wanted).then_some(()))
        })
    }

    /// Applies a manifest.
    pub(crate) fn apply(&self, manifest: &Path) -> Result<()> {
        self.ask(&["apply", "-f", &manifest.to_string_lossy()]).map(|_| ())
    }

    /// Waits until a Deployment of `default` has all its replicas available.
    pub(crate) fn wait_for_deployment(&self, plan: &Plan, name: &str) -> Result<()> {
        let mut last = u64::MAX;
        let done = wait_for(&format!("deployment {name}"), DEMO_READY_MAX, POLL_MS, || {
            let object = self.json(&["get", "deployment", name, "-o", "json"])?;
            let (ready, wanted) = replicas(&object);
            if ready != last {
                plan.say(&format!("{ready} of {wanted} replicas of {name} ready"));
                last = ready;
            }
            Ok((ready >= wanted).then_some(()))
        });
        done.with_context(|| {
            let pods = self.ask(&["get", "pods", "-A", "-o", "wide"]).unwrap_or_default();
            let events = self.ask(&["get", "events", "-A"]).unwrap_or_default();
            format!("the demo does not become ready\n{pods}\n{events}")
        })
    }
}

fn count_ready(nodes: &Value) -> usize {
    let is_ready = |node: &Value| {
        let conditions = node["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
        conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    };
    nodes["items"].as_array().map_or(0, |items| items.iter().filter(|node| is_ready(node)).count())
}

/// Available and wanted replicas; status of an older generation does not count.
fn replicas(deployment: &Value) -> (u64, u64) {
    let wanted = deployment["spec"]["replicas"].as_u64().unwrap_or(1);
    let is_current =
        deployment["status"]["observedGeneration"].as_u64() >= deployment["metadata"]["generation"].as_u64();
    let available = deployment["status"]["availableReplicas"].as_u64().unwrap_or(0);
    (if is_current { available } else { 0 }, wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_ready_nodes_count() {
        let node = |status: &str| json!({"status": {"conditions": [{"type": "Ready", "status": status}]}});
        let nodes = json!({"items": [node("True"), node("False"), node("Unknown"), {"status": {}}]});
        assert_eq!(count_ready(&nodes), 1);
        assert_eq!(count_ready(&json!({})), 0);
    }

    #[test]
    fn status_of_an_older_generation_does_not_count() {
        let mut deployment = json!({
            "metadata": {"generation": 2}, "spec": {"replicas": 3},
            "status": {"observedGeneration": 1, "availableReplicas": 3},
        });
        assert_eq!(replicas(&deployment), (0, 3));
        deployment["status"]["observedGeneration"] = json!(2);
        assert_eq!(replicas(&deployment), (3, 3));
    }
}
