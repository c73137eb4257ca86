//! Which nodes a Pod's nodeSelector and node affinity allow, and which they prefer.

use serde::Deserialize;
use serde_json::Value;
use weft_api::view::pod::NodeRequirement;
use weft_api::view::{Node, Pod};

/// One term of a node selector; its requirements must all hold, and one without requirements matches nothing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Term {
    match_expressions: Vec<NodeRequirement>,
    match_fields: Vec<NodeRequirement>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Preferred {
    weight: i64,
    preference: Term,
}

/// Whether the Pod's nodeSelector and required node affinity allow the node.
pub fn allows(pod: &Pod, node: &Node) -> bool {
    let labels = &node.metadata.labels;
    if !pod.spec.node_selector.iter().all(|(key, value)| labels.get(key) == Some(value)) {
        return false;
    }
    let Some(required) =
        node_affinity(pod).and_then(|a| a.get("requiredDuringSchedulingIgnoredDuringExecution"))
    else {
        return true;
    };
    let terms = required.get("nodeSelectorTerms").cloned().unwrap_or_default();
    let terms: Vec<Term> = serde_json::from_value(terms).unwrap_or_default();
    terms.iter().any(|term| term.matches(node))
}

/// Sum of the weights of the preferred terms that match the node.
pub fn preference(pod: &Pod, node: &Node) -> i64 {
    let Some(preferred) =
        node_affinity(pod).and_then(|a| a.get("preferredDuringSchedulingIgnoredDuringExecution"))
    else {
        return 0;
    };
    let preferred: Vec<Preferred> = serde_json::from_value(preferred.clone()).unwrap_or_default();
    preferred.iter().filter(|p| p.preference.matches(node)).map(|p| p.weight).sum()
}

fn node_affinity(pod: &Pod) -> Option<&Value> {
    pod.spec.affinity.as_ref()?.get("nodeAffinity")
}

impl Term {
    fn matches(&self, node: &Node) -> bool {
        if self.match_expressions.is_empty() && self.match_fields.is_empty() {
            return false;
        }
        let expressions = self.match_expressions.iter().all(|r| holds(r, node.metadata.labels.get(&r.key)));
        let fields = self.match_fields.iter().all(|r| {
            let name = (r.key == "metadata.name").then_some(&node.metadata.name);
            holds(r, name)
        });
        expressions && fields
    }
}

fn holds(requirement: &NodeRequirement, value: Option<&String>) -> bool {
    let numbers = || {
        let value: i64 = value?.parse().ok()?;
        let bound: i64 = requirement.values.first()?.parse().ok()?;
        Some((value, bound))
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|v| requirement.values.contains(v)),
        "NotIn" => value.is_none_or(|v| !requirement.values.contains(v)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(value, bound)| value > bound),
        "Lt" => numbers().is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}
