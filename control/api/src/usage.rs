//! What nodes and Pods use: the words in which an agent tells it (`/agent/v1/usage`), and the objects of
//! `metrics.k8s.io` that clients read it as.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::kind::{Kind, NODE_METRICS, POD_METRICS};
use crate::meta::ObjectMeta;
use crate::quantity::Quantity;
use crate::time::{go_duration, rfc3339};

/// What a node and the Pods on it used, as far as it has been measured twice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The machine.
    pub node: Option<NodeUsage>,
    /// Pods whose running containers have all been measured twice.
    #[serde(default)]
    pub pods: Vec<PodUsage>,
}

/// Between which moments something was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// The later of the two.
    pub timestamp: Timestamp,
    /// How long after the earlier one, milliseconds.
    pub window_ms: u32,
}

/// How much was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Billionths of a core, on average over the window.
    pub cpu_nanocores: u64,
    /// The working set at the window's end, bytes: memory in use without what the kernel gives back first.
    pub memory_bytes: u64,
}

/// What a machine used.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeUsage {
    /// When.
    #[serde(flatten)]
    pub window: Window,
    /// How much.
    #[serde(flatten)]
    pub usage: Usage,
}

/// What the containers of a Pod used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PodUsage {
    /// The Pod.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Which of that name.
    pub uid: String,
    /// When.
    #[serde(flatten)]
    pub window: Window,
    /// Those that run.
    pub containers: Vec<ContainerUsage>,
}

/// What a container used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerUsage {
    /// As in the Pod's spec.
    pub name: String,
    /// How much.
    #[serde(flatten)]
    pub usage: Usage,
}

impl Usage {
    fn to_json(self) -> Value {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        json!({
            "cpu": Quantity::from_nano(signed(self.cpu_nanocores)).to_string(),
            "memory": Quantity::from_bytes(signed(self.memory_bytes)).to_string(),
        })
    }
}

impl NodeUsage {
    /// The NodeMetrics of the Node with this metadata.
    #[must_use]
    pub fn to_metrics(&self, node: &ObjectMeta, now: Timestamp) -> Value {
        let mut object = metrics(&NODE_METRICS, node, &self.window, now);
        object["usage"] = self.usage.to_json();
        object
    }
}

impl PodUsage {
    /// The PodMetrics of the Pod with this metadata.
    #[must_use]
    pub fn to_metrics(&self, pod: &ObjectMeta, now: Timestamp) -> Value {
        let mut object = metrics(&POD_METRICS, pod, &self.window, now);
        let containers =
            self.containers.iter().map(|c| json!({ "name": c.name, "usage": c.usage.to_json() }));
        object["containers"] = containers.collect();
        object
    }
}

/// What both have: the names and labels of what was measured. It is made now, and has neither UID nor revision.
fn metrics(kind: &Kind, of: &ObjectMeta, window: &Window, now: Timestamp) -> Value {
    let metadata = ObjectMeta {
        name: of.name.clone(),
        namespace: of.namespace.clone(),
        labels: of.labels.clone(),
        creation_timestamp: Some(rfc3339(now, false)),
        ..ObjectMeta::default()
    };
    json!({
        "apiVersion": kind.api_version(),
        "kind": kind.kind,
        "metadata": metadata,
        "timestamp": rfc3339(window.timestamp, false),
        "window": go_duration(i64::from(window.window_ms) * 1_000_000),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = r#"{"node":{"timestamp":"2026-01-02T03:04:05Z","windowMs":10003,"cpuNanocores":250000000,
        "memoryBytes":1048576},"pods":[{"namespace":"d","name":"web","uid":"u","timestamp":"2026-01-02T03:04:05Z",
        "windowMs":10000,"containers":[{"name":"c","cpuNanocores":1234567,"memoryBytes":12288}]}],"later":1}"#;

    #[test]
    fn what_an_agent_tells_becomes_objects_in_kubernetes_words() {
        let report: Report = serde_json::from_str(TOLD).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&serde_json::to_string(&report).unwrap()).unwrap(), report);
        let now = "2026-01-02T03:04:11.5Z".parse().unwrap();
        let labels = [("app".to_owned(), "web".to_owned())].into();
        let annotations = [("secret".to_owned(), "word".to_owned())].into();
        let meta = ObjectMeta {
            name: "web".into(),
            namespace: "d".into(),
            uid: "u".into(),
            resource_version: "7".into(),
            labels,
            annotations,
            ..ObjectMeta::default()
        };
        assert_eq!(
            report.pods[0].to_metrics(&meta, now),
            json!({ "apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics",
                "metadata": { "name": "web", "namespace": "d", "creationTimestamp": "2026-01-02T03:04:11Z",
                    "labels": { "app": "web" } },
                "timestamp": "2026-01-02T03:04:05Z", "window": "10s",
                "containers": [{ "name": "c", "usage": { "cpu": "1234567n", "memory": "12Ki" } }] })
        );
        let node = ObjectMeta { name: "n".into(), ..ObjectMeta::default() };
        let node = report.node.unwrap().to_metrics(&node, now);
        assert_eq!((&node["kind"], &node["window"]), (&json!("NodeMetrics"), &json!("10.003s")));
        assert_eq!(node["usage"], json!({ "cpu": "250m", "memory": "1Mi" }));
    }
}
