//! NodeMetrics and PodMetrics: what the nodes' agents tell, for Nodes and Pods that there are.
//!
//! As with metrics-server, what is not known is not there: a list leaves it out, and one that is asked for by name is 404.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Value;
use weft_api::key::ObjectKey;
use weft_api::kind::{self, Kind};
use weft_api::status::Status;
use weft_api::usage::{PodUsage, Report};

use super::super::Api;
use super::super::select::Selection;
use crate::cache::Cached;
use crate::clock;

/// Of the Nodes that are selected.
pub(super) async fn nodes(api: &Api, selection: &Selection) -> Vec<Value> {
    let (nodes, _) = api.objects.cache.list(&kind::NODE, None);
    let nodes: Vec<Arc<Cached>> = nodes.into_iter().filter(|node| selection.matches(node)).collect();
    let names = nodes.iter().map(|node| node.object.meta.name.clone()).collect();
    let reports = api.nodes.usages(names).await;
    let now = clock::now();
    let metrics = nodes.iter().filter_map(|node| {
        let meta = &node.object.meta;
        Some(reports.get(&meta.name)?.node?.to_metrics(meta, now))
    });
    metrics.collect()
}

/// Of one Node.
pub(super) async fn node(api: &Api, key: &ObjectKey) -> Result<Value, Status> {
    let node = api.objects.get(&kind::NODE, key)?;
    let told = api.nodes.usage(&key.name).await;
    let report = told.map_err(|error| unknown(&kind::NODE_METRICS, &key.name, &error.to_string()))?;
    let usage = report.node.ok_or_else(|| unknown(&kind::NODE_METRICS, &key.name, NOT_YET))?;
    Ok(usage.to_metrics(&node.object.meta, clock::now()))
}

/// Of the Pods that are selected in a namespace, `""` for all of them. Nodes that have none of them are not asked.
pub(super) async fn pods(api: &Api, namespace: &str, selection: &Selection) -> Vec<Value> {
    let namespace = Some(namespace).filter(|namespace| !namespace.is_empty());
    let (pods, _) = api.objects.cache.list(&kind::POD, namespace);
    let placed = |pod: &Arc<Cached>| selection.matches(pod) && !node_of(pod).is_empty();
    let pods: Vec<Arc<Cached>> = pods.into_iter().filter(placed).collect();
    let names: BTreeSet<&str> = pods.iter().map(|pod| node_of(pod)).collect();
    let names = names.into_iter().map(ToOwned::to_owned).collect();
    let reports = api.nodes.usages(names).await;
    let known: HashMap<(&str, &str), &PodUsage> = reports
        .iter()
        .flat_map(|(node, report)| report.pods.iter().map(|pod| ((node.as_str(), pod.uid.as_str()), pod)))
        .collect();
    let now = clock::now();
    let metrics = pods.iter().filter_map(|pod| {
        let meta = &pod.object.meta;
        // A node speaks for its own Pods alone.
        Some(known.get(&(node_of(pod), meta.uid.as_str()))?.to_metrics(meta, now))
    });
    metrics.collect()
}

/// Of one Pod.
pub(super) async fn pod(api: &Api, key: &ObjectKey) -> Result<Value, Status> {
    let pod = api.objects.get(&kind::POD, key)?;
    let name = format!("{}/{}", key.namespace, key.name);
    let unknown = |why: &str| unknown(&kind::POD_METRICS, &name, why);
    let report: Arc<Report> = match node_of(&pod) {
        "" => return Err(unknown("the pod does not have a host assigned")),
        node => api.nodes.usage(node).await.map_err(|error| unknown(&error.to_string()))?,
    };
    let meta = &pod.object.meta;
    let usage = report.pods.iter().find(|usage| usage.uid == meta.uid);
    Ok(usage.ok_or_else(|| unknown(NOT_YET))?.to_metrics(meta, clock::now()))
}

/// A container runs for ten to twenty seconds before it has been measured twice.
const NOT_YET: &str = "it has not been measured twice yet";

fn node_of(pod: &Cached) -> &str {
    pod.field("spec.nodeName").unwrap_or("")
}

/// 404 in metrics-server's words, and why: there they are resources of the kinds' names.
fn unknown(kind: &Kind, name: &str, why: &str) -> Status {
    let mut status = Status::not_found(kind, name);
    let resource = format!("{}.{}", kind.kind.to_lowercase(), kind.group);
    status.message = format!("{resource} \"{name}\" not found: {why}");
    status
}
