//! What nodes report, written as objects: their own status and Lease, their Pods' status, events.
//!
//! A node writes what concerns itself only; what it says of another node's Pod is passed over.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde_json::{Map, Value, json};
use weft_api::decode::FieldValidation;
use weft_api::key::ObjectKey;
use weft_api::kind::{self, KINDS, Kind, Subresource};
use weft_api::status::Status;
use weft_api::view::{Node, Pod};
use weft_controllers::action::Event;
use weft_link::message::{NodeEvent, PodStatus, StatusFrame, status_frame::Frame};

use super::allowance::Allowance;
use crate::clock;
use crate::loops::Snapshot;
use crate::objects::delete::DeleteOptions;
use crate::objects::update::Target;
use crate::objects::{Objects, Preconditions, WriteOptions};
use crate::perform;

/// The namespace of the nodes' Leases.
const LEASES: &str = "kube-node-lease";
/// Seconds a Lease holds without renewal.
const LEASE_SECONDS: u32 = 40;
/// What the names of labels contain that no node may give itself (Kubernetes: `NodeRestriction`).
const RESTRICTED: &str = "node-restriction.kubernetes.io/";
/// Events a node may tell at once: enough for all its Pods to start together.
const EVENTS_BURST_MAX: u32 = 1_000;
/// How often it may tell one more.
const EVENT_EVERY: Duration = Duration::from_millis(200);
/// Longest text of an event, bytes.
const EVENT_BYTES_MAX: usize = 1_024;

/// Writes one node's reports.
pub(crate) struct Reports {
    objects: Arc<Objects>,
    snapshot: Arc<Snapshot>,
    pub(super) node: String,
    events: Mutex<Allowance>,
}

impl Reports {
    pub(super) fn new(objects: Arc<Objects>, snapshot: Arc<Snapshot>, node: String) -> Self {
        let events = Mutex::new(Allowance::new(EVENTS_BURST_MAX, EVENT_EVERY, Instant::now()));
        Self { objects, snapshot, node, events }
    }

    /// Writes one report.
    ///
    /// # Errors
    /// The write was refused; the node will report again.
    pub(crate) async fn take(&self, frame: StatusFrame) -> Result<(), Status> {
        match frame.frame {
            Some(Frame::Heartbeat(_)) => self.renew_lease().await,
            Some(Frame::Node(status)) => self.node_status(&status).await,
            Some(Frame::Pod(status)) => self.pod_status(status).await,
            Some(Frame::Event(event)) => self.event(event).await,
            // How far the dataplane is; and reports of later versions.
            Some(Frame::Applied(_)) | None => Ok(()),
        }
    }

    /// Registers the node unless it is there.
    ///
    /// # Errors
    /// The object the node brought is not a Node that can be stored.
    pub(crate) async fn register(&self, node_json: &[u8]) -> Result<(), Status> {
        let key = ObjectKey::cluster(&self.node);
        if self.objects.cache.get(&kind::NODE, &key).is_some() {
            return Ok(());
        }
        let told = typed(&kind::NODE, if node_json.is_empty() { json!({}) } else { read(node_json)? })?;
        let node = registered(&self.node, &told);
        self.objects.ensure(&kind::NODE, &key, node).await?;
        tracing::info!(node = self.node, "a node is registered");
        Ok(())
    }

    async fn renew_lease(&self) -> Result<(), Status> {
        let key = ObjectKey::namespaced(LEASES, &self.node);
        let now = clock::micros(clock::now());
        if self.objects.cache.get(&kind::LEASE, &key).is_none() {
            let node = self.objects.get(&kind::NODE, &ObjectKey::cluster(&self.node))?;
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": { "name": self.node, "ownerReferences": [{ "apiVersion": "v1", "kind": "Node",
                    "name": self.node, "uid": node.object.meta.uid }] },
                "spec": { "holderIdentity": self.node, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now },
            });
            return self.objects.ensure(&kind::LEASE, &key, lease).await;
        }
        let target = Target {
            kind: &kind::LEASE,
            key: &key,
            subresource: None,
            preconditions: Preconditions::default(),
        };
        let renew = |current: &Map<String, Value>| {
            let mut lease = current.clone();
            if !lease.get("spec").is_some_and(Value::is_object) {
                lease.insert("spec".into(), json!({}));
            }
            lease["spec"]["holderIdentity"] = self.node.clone().into();
            lease["spec"]["leaseDurationSeconds"] = LEASE_SECONDS.into();
            lease["spec"]["renewTime"] = now.clone().into();
            Ok(lease)
        };
        self.objects.update(&target, &WriteOptions::default(), renew).await.map(|_| ())
    }

    async fn node_status(&self, bytes: &[u8]) -> Result<(), Status> {
        let status = typed_status(&kind::NODE, bytes)?;
        let key = ObjectKey::cluster(&self.node);
        let now = clock::seconds(clock::now());
        self.replace_status(&kind::NODE, &key, None, |old| merged(old, &status, &now)).await
    }

    async fn pod_status(&self, report: PodStatus) -> Result<(), Status> {
        let key = ObjectKey::namespaced(&report.namespace, &report.name);
        let Some(cached) = self.objects.cache.get(&kind::POD, &key) else { return Ok(()) };
        let pod: Pod = cached.object.view().map_err(Status::internal)?;
        if cached.object.meta.uid != report.uid || pod.spec.node_name != self.node {
            tracing::debug!(node = self.node, pod = %key, "a status for another Pod is passed over");
            return Ok(());
        }
        if !report.json.is_empty() {
            let mut status = typed_status(&kind::POD, &report.json)?;
            if !pod.spec.host_network {
                self.keep_own_addresses(&key, &mut status);
            }
            let now = clock::seconds(clock::now());
            let uid = Some(report.uid.clone());
            let merge = |old: &Value| merged(old, &status, &now);
            self.replace_status(&kind::POD, &key, uid, merge).await.or_else(already_gone)?;
        }
        if report.gone && cached.object.meta.is_terminating() {
            self.pod_is_gone(&key, report.uid).await.or_else(already_gone)?;
        }
        Ok(())
    }

    /// Writes a status as the node reported it, whole, in place of the old one.
    async fn replace_status(
        &self,
        kind: &'static Kind,
        key: &ObjectKey,
        uid: Option<String>,
        change: impl Fn(&Value) -> Value + Send + Sync,
    ) -> Result<(), Status> {
        let preconditions = Preconditions { uid, resource_version: None };
        let target = Target { kind, key, subresource: Some(Subresource::Status), preconditions };
        let change = |current: &Map<String, Value>| {
            let mut new = current.clone();
            new.insert("status".into(), change(current.get("status").unwrap_or(&Value::Null)));
            Ok(new)
        };
        self.objects.update(&target, &WriteOptions::default(), change).await.map(|_| ())
    }

    /// Nothing of a terminating Pod is left on its node: it may go now.
    async fn pod_is_gone(&self, key: &ObjectKey, uid: String) -> Result<(), Status> {
        let options = DeleteOptions {
            grace_seconds: Some(0),
            preconditions: Preconditions { uid: Some(uid), resource_version: None },
            ..DeleteOptions::default()
        };
        self.objects.delete(&kind::POD, key, &options).await.map(|_| ())
    }

    /// Takes out addresses that are not of the node's own Pod ranges: by them it would get what is sent to other Pods.
    fn keep_own_addresses(&self, pod: &ObjectKey, status: &mut Value) {
        let node = self.objects.cache.get(&kind::NODE, &ObjectKey::cluster(&self.node));
        let ranges: Vec<IpNet> = node
            .and_then(|node| node.object.view::<Node>().ok())
            .map(|node| node.spec.pod_cidrs.iter().filter_map(|range| range.parse().ok()).collect())
            .unwrap_or_default();
        let is_own = |address: &Value| {
            let address = address.as_str().and_then(|text| text.parse::<IpAddr>().ok());
            address.is_some_and(|address| ranges.iter().any(|range| range.contains(&address)))
        };
        let Some(fields) = status.as_object_mut() else { return };
        let mut foreign = fields.get("podIP").is_some_and(|address| !is_own(address));
        if foreign {
            fields.remove("podIP");
        }
        if let Some(addresses) = fields.get_mut("podIPs").and_then(Value::as_array_mut) {
            let before = addresses.len();
            addresses.retain(|address| is_own(&address["ip"]));
            foreign |= addresses.len() < before;
        }
        if foreign {
            tracing::warn!(node = self.node, %pod, "a node reports an address that is not of its Pod ranges");
        }
    }

    async fn event(&self, event: NodeEvent) -> Result<(), Status> {
        let Some(kind) = KINDS.iter().copied().find(|k| k.kind == event.kind) else { return Ok(()) };
        let key = ObjectKey::namespaced(&event.namespace, &event.name);
        let own = match self.objects.cache.get(kind, &key) {
            Some(object) if *kind == kind::POD => {
                object.object.view::<Pod>().is_ok_and(|p| p.spec.node_name == self.node)
            }
            Some(_) => *kind == kind::NODE && event.name == self.node,
            None => false,
        };
        if !own {
            tracing::debug!(node = self.node, object = %key, "an event about what is not the node's is passed over");
            return Ok(());
        }
        if !self.events.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now()) {
            tracing::warn!(
                node = self.node,
                reason = event.reason,
                "a node tells too many events; one is passed over"
            );
            return Ok(());
        }
        let shortened = |mut text: String| {
            let mut end = text.len().min(EVENT_BYTES_MAX);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            text
        };
        let event = Event {
            kind,
            key,
            uid: event.uid,
            resource_version: String::new(),
            field_path: event.field_path,
            warning: event.r#type == "Warning",
            reason: shortened(event.reason),
            message: shortened(event.message),
            component: "weft-agent".to_owned(),
        };
        perform::record(&self.objects, &self.snapshot, &event).await;
        Ok(())
    }
}

/// What is gone needs no status any more.
fn already_gone(status: Status) -> Result<(), Status> {
    if matches!(status.reason, "NotFound" | "Conflict") { Ok(()) } else { Err(status) }
}

fn read(bytes: &[u8]) -> Result<Value, Status> {
    serde_json::from_slice(bytes)
        .map_err(|e| Status::bad_request(format!("what the agent sent is not readable: {e}")))
}

/// An object as an agent sends it, of the kind's own types: what follows may take it apart field by field.
fn typed(kind: &'static Kind, mut object: Value) -> Result<Value, Status> {
    weft_api::decode::check(kind.schema, &mut object, FieldValidation::Ignore)?;
    Ok(object)
}

fn typed_status(kind: &'static Kind, bytes: &[u8]) -> Result<Value, Status> {
    Ok(typed(kind, json!({ "status": read(bytes)? }))?["status"].take())
}

/// A new Node as its agent describes it. Which Pods' addresses it has, and what keeps or owns it, is the cluster's to
/// say, and labels that are to keep workloads off a node are not that node's.
fn registered(name: &str, told: &Value) -> Value {
    let mut labels = told["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    labels.retain(|key, _| !key.contains(RESTRICTED));
    labels.insert("kubernetes.io/hostname".into(), name.into());
    let mut node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "labels": labels },
        "spec": {} });
    if let Some(annotations) = told["metadata"].get("annotations") {
        node["metadata"]["annotations"] = annotations.clone();
    }
    if let Some(status) = told.get("status") {
        node["status"] = status.clone();
    }
    for field in ["taints", "unschedulable", "providerID"] {
        if let Some(value) = told["spec"].get(field) {
            node["spec"][field] = value.clone();
        }
    }
    node
}

/// A reported status in place of the old one: conditions that others set stay, and a condition that did not change
/// keeps the time of its last change.
fn merged(old: &Value, new: &Value, now: &str) -> Value {
    let mut merged = new.clone();
    for field in ["qosClass", "nominatedNodeName"] {
        if merged.get(field).is_none()
            && let Some(value) = old.get(field)
        {
            merged[field] = value.clone();
        }
    }
    let none = Vec::new();
    let before = old["conditions"].as_array().unwrap_or(&none);
    let mut conditions: Vec<Value> = new["conditions"].as_array().cloned().unwrap_or_default();
    for condition in &mut conditions {
        let same = before.iter().find(|c| c["type"] == condition["type"]);
        match same {
            Some(old) if old["status"] == condition["status"] && old["lastTransitionTime"].is_string() => {
                condition["lastTransitionTime"] = old["lastTransitionTime"].clone();
            }
            _ if !condition["lastTransitionTime"].is_string() => condition["lastTransitionTime"] = now.into(),
            _ => {}
        }
    }
    let kept = before.iter().filter(|c| !conditions.iter().any(|n| n["type"] == c["type"]));
    let all: Vec<Value> = kept.cloned().chain(conditions.iter().cloned()).collect();
    if !all.is_empty() {
        merged["conditions"] = all.into();
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_describes_itself_and_nothing_more() {
        let told = json!({ "metadata": { "finalizers": ["example.com/hold"], "ownerReferences": [{}],
            "labels": { "zone": "a", "node-restriction.kubernetes.io/secure": "yes", "kubernetes.io/hostname": "other" } },
            "spec": { "podCIDR": "10.0.0.0/8", "taints": [{ "key": "gpu", "effect": "NoSchedule" }] } });
        let node = registered("node-1", &told);
        assert_eq!(node["metadata"]["labels"], json!({ "zone": "a", "kubernetes.io/hostname": "node-1" }));
        assert!(
            node["metadata"].get("finalizers").is_none() && node["metadata"].get("ownerReferences").is_none()
        );
        assert_eq!(node["spec"], json!({ "taints": [{ "key": "gpu", "effect": "NoSchedule" }] }));
    }

    #[test]
    fn what_is_of_other_types_is_refused_before_it_is_taken_apart() {
        for bytes in [&b"[]"[..], b"3", b"{\"metadata\":[]}", b"{\"metadata\":{\"labels\":[1]}}", b"{"] {
            let read = read(bytes).and_then(|object| typed(&kind::NODE, object));
            assert_eq!(read.unwrap_err().code, 400);
        }
        for bytes in [&b"[]"[..], b"{\"conditions\":[1]}", b"{\"podIPs\":[\"x\"]}", b"{},\"spec\":{"] {
            assert_eq!(typed_status(&kind::POD, bytes).map_err(|e| e.code).err(), Some(400));
        }
    }

    #[test]
    fn conditions_of_others_and_times_of_changes_stay() {
        let old = json!({ "qosClass": "Burstable", "conditions": [
            { "type": "PodScheduled", "status": "True" },
            { "type": "Ready", "status": "True", "lastTransitionTime": "t0" },
        ] });
        let same = merged(
            &old,
            &json!({ "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] }),
            "t1",
        );
        assert_eq!(same["qosClass"], "Burstable");
        assert_eq!(same["conditions"][0]["type"], "PodScheduled");
        assert_eq!(same["conditions"][1]["lastTransitionTime"], "t0");
        let other = merged(&old, &json!({ "conditions": [{ "type": "Ready", "status": "False" }] }), "t1");
        assert_eq!(other["conditions"][1]["lastTransitionTime"], "t1");
    }
}
