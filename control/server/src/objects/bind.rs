//! Binding a Pod to a node: what the scheduler does, and who schedules by himself.

use serde_json::{Map, Value, json};
use weft_api::key::ObjectKey;
use weft_api::kind::{self, Subresource};
use weft_api::status::Status;

use super::update::Target;
use super::{Objects, Preconditions, WriteOptions, into_map};
use crate::clock;

/// Where a Pod is to run, and what it is told with that.
#[derive(Clone, Debug, Default)]
pub(crate) struct Binding {
    pub(crate) node: String,
    /// Objects of texts, or null: they are put to the Pod's own, in the place of those of the same name.
    pub(crate) labels: Value,
    pub(crate) annotations: Value,
}

impl Objects {
    /// Binds a Pod to a node, unless it is bound or on its way out.
    ///
    /// # Errors
    /// 404, 409.
    pub(crate) async fn bind(
        &self,
        key: &ObjectKey,
        preconditions: Preconditions,
        binding: Binding,
        options: &WriteOptions,
    ) -> Result<(), Status> {
        let target = Target { kind: &kind::POD, key, subresource: Some(Subresource::Binding), preconditions };
        let change = |current: &Map<String, Value>| bound(current, key, &binding);
        self.update(&target, options, change).await.map(|_| ())
    }
}

/// The Pod with its node, and with the condition that says so.
fn bound(
    current: &Map<String, Value>,
    key: &ObjectKey,
    binding: &Binding,
) -> Result<Map<String, Value>, Status> {
    let refuse = |why: String| Err(Status::conflict_because(&kind::POD, &key.name, &why));
    let mut pod = Value::Object(current.clone());
    if let Some(bound) = current.get("spec").and_then(|s| s["nodeName"].as_str()).filter(|n| !n.is_empty()) {
        return refuse(format!("pod {} is already assigned to node \"{bound}\"", key.name));
    }
    if current.get("metadata").is_some_and(|m| m["deletionTimestamp"].is_string()) {
        return refuse(format!("pod {} is being deleted, cannot be assigned to a host", key.name));
    }
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
        return refuse(format!("pod {} has non-empty .spec.schedulingGates", key.name));
    }
    pod["spec"]["nodeName"] = binding.node.as_str().into();
    for (name, told) in [("labels", &binding.labels), ("annotations", &binding.annotations)] {
        for (key, value) in told.as_object().into_iter().flatten() {
            pod["metadata"][name][key] = value.clone();
        }
    }
    let scheduled = json!({ "type": "PodScheduled", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": clock::seconds(clock::now()) });
    match pod["status"]["conditions"].as_array_mut() {
        Some(conditions) => {
            conditions.retain(|c| c["type"] != "PodScheduled");
            conditions.push(scheduled);
        }
        None => pod["status"]["conditions"] = json!([scheduled]),
    }
    into_map(pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(pod: &Value) -> Result<Value, u16> {
        let key = ObjectKey::namespaced("default", "p");
        let binding = Binding {
            node: "n1".to_owned(),
            labels: json!({ "zone": "a" }),
            annotations: json!({ "why": "room" }),
        };
        bound(pod.as_object().unwrap(), &key, &binding).map(Value::Object).map_err(|status| status.code)
    }

    #[test]
    fn a_pod_is_bound_once_and_while_it_stays() {
        let pod = json!({ "metadata": { "name": "p", "labels": { "app": "x", "zone": "b" } }, "spec": {},
            "status": { "conditions": [{ "type": "PodScheduled", "status": "False" }, { "type": "Other" }] } });
        let bound = bind(&pod).unwrap();
        assert_eq!(bound["spec"]["nodeName"], "n1");
        assert_eq!(bound["metadata"]["labels"], json!({ "app": "x", "zone": "a" }));
        assert_eq!(bound["metadata"]["annotations"], json!({ "why": "room" }));
        let conditions = bound["status"]["conditions"].as_array().unwrap();
        assert_eq!((conditions.len(), &conditions[1]["status"]), (2, &json!("True")));
        assert_eq!(bind(&bound), Err(409));
        let mut gated = pod.clone();
        gated["spec"]["schedulingGates"] = json!([{ "name": "example.com/gate" }]);
        assert_eq!(bind(&gated), Err(409));
        let mut going = pod;
        going["metadata"]["deletionTimestamp"] = json!("2027-01-15T08:00:00Z");
        assert_eq!(bind(&going), Err(409));
    }
}
