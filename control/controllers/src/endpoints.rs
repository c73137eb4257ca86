//! Endpoints, the older form of EndpointSlices: one object per Service, for clients that still read it. They know one family:
//! the Service's first.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};
use weft_api::key::ObjectKey;
use weft_api::kind;
use weft_api::view::Service;

use crate::action::Action;
use crate::backends::{self, Backend, instead};
use crate::table::{Context, Loop, LoopKey, Plan, no_start};
use crate::world::{Applied, World};

/// Most addresses in one object; the rest is only in EndpointSlices.
const ADDRESSES_MAX: usize = 1000;
const MANAGED_BY_LABEL: &str = "endpoints.kubernetes.io/managed-by";
const MANAGED_BY: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

pub(crate) const LOOP: Loop = Loop {
    name: "endpoints",
    watches: &[&kind::SERVICE, &kind::POD, &kind::ENDPOINTS],
    start: no_start,
    keys,
    plan,
};

fn keys(change: &Applied, world: &World) -> Vec<LoopKey> {
    if change.kind == &kind::ENDPOINTS {
        return vec![LoopKey::new(&kind::SERVICE, change.key.clone())];
    }
    backends::services_of(change, world)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Subsets {
    subsets: Value,
}

fn plan(key: &LoopKey, world: &World, _: &Context) -> Plan {
    let existing = world.object(&kind::ENDPOINTS, &key.key);
    let Some(service) = world.get::<Service>(&key.key).filter(|s| backends::is_managed(s)) else {
        // Only what this loop made goes: without a selector the endpoints are somebody else's.
        let ours =
            existing.filter(|o| o.meta.labels.get(MANAGED_BY_LABEL).is_some_and(|by| by == MANAGED_BY));
        return Plan::actions(ours.map(|o| Action::delete(&kind::ENDPOINTS, &o.meta)).into_iter().collect());
    };
    if service.metadata.is_terminating() {
        return Plan::none();
    }
    let v4 = service.spec.ip_families.first().is_none_or(|family| family != "IPv6");
    let mut backends = backends::of(service, world);
    backends.retain(|backend| backend.address.is_ipv4() == v4);
    let over = backends.len() > ADDRESSES_MAX;
    backends.truncate(ADDRESSES_MAX);
    let subsets = subsets(service, &backends);
    let mut labels = service.metadata.labels.clone();
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    let annotation = if over { json!("truncated") } else { Value::Null };
    let Some(existing) = existing else {
        return Plan::actions(vec![Action::Create {
            kind: &kind::ENDPOINTS,
            object: object(&key.key, &json!(labels), over, &subsets),
        }]);
    };
    let old: Subsets = existing.view().unwrap_or_default();
    let same_labels = labels == existing.meta.labels;
    let same_subsets = old.subsets == subsets || (old.subsets.is_null() && subsets == json!([]));
    if same_labels && same_subsets && existing.meta.annotations.contains_key(OVER_CAPACITY) == over {
        return Plan::none();
    }
    let patch = json!({
        "metadata": { "labels": instead(&existing.meta, &labels), "annotations": { OVER_CAPACITY: annotation } },
        "subsets": subsets,
    });
    Plan::actions(vec![Action::patch(&kind::ENDPOINTS, &existing.meta, patch)])
}

fn object(key: &ObjectKey, labels: &Value, over: bool, subsets: &Value) -> Value {
    let mut metadata = json!({ "name": key.name, "namespace": key.namespace, "labels": labels });
    if over {
        metadata["annotations"] = json!({ OVER_CAPACITY: "truncated" });
    }
    json!({ "apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets })
}

/// Addresses grouped by the ports they serve. A terminating Pod is in neither list.
fn subsets(service: &Service, backends: &[Backend]) -> Value {
    let mut groups: BTreeMap<String, (Value, Vec<Value>, Vec<Value>)> = BTreeMap::new();
    for backend in backends {
        if backend.terminating && !service.spec.publish_not_ready_addresses {
            continue;
        }
        let ports: Vec<Value> = backend
            .ports
            .iter()
            .map(|port| {
                let mut value = json!({ "port": port.port, "protocol": port.protocol });
                if !port.name.is_empty() {
                    value["name"] = json!(port.name);
                }
                if let Some(app) = &port.app_protocol {
                    value["appProtocol"] = json!(app);
                }
                value
            })
            .collect();
        let ports = json!(ports);
        let group = groups.entry(ports.to_string()).or_insert_with(|| (ports, Vec::new(), Vec::new()));
        let list = if backend.ready { &mut group.1 } else { &mut group.2 };
        list.push(address(backend));
    }
    let subsets = groups.into_values().map(|(ports, ready, not_ready)| {
        let mut subset = json!({});
        for (field, list) in [("addresses", ready), ("notReadyAddresses", not_ready)] {
            if !list.is_empty() {
                subset[field] = json!(list);
            }
        }
        if ports != json!([]) {
            subset["ports"] = ports;
        }
        subset
    });
    subsets.collect::<Vec<_>>().into()
}

fn address(backend: &Backend) -> Value {
    let meta = &backend.pod.metadata;
    let mut value = json!({
        "ip": backend.address.to_string(),
        "targetRef": { "kind": "Pod", "namespace": meta.namespace, "name": meta.name, "uid": meta.uid },
    });
    if !backend.pod.spec.node_name.is_empty() {
        value["nodeName"] = json!(backend.pod.spec.node_name);
    }
    if let Some(hostname) = &backend.hostname {
        value["hostname"] = json!(hostname);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use crate::testing::{context, merge, now, object as make, perform, world};
    use weft_api::object::Object;

    fn pod(name: &str, ip: &str, fields: Value) -> Object {
        let mut value = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": "default", "labels": { "app": "web" } },
            "spec": { "nodeName": "n1" },
            "status": { "podIP": ip, "conditions": [{ "type": "Ready", "status": "True" }] },
        });
        merge(&mut value, &fields);
        make(value)
    }

    fn service(selector: Value) -> Object {
        make(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web", "namespace": "default" },
            "spec": { "selector": selector, "ports": [{ "port": 80, "targetPort": 8080 }] },
        }))
    }

    fn run(world: &World) -> Plan {
        plan(&backends::service_key("default", "web"), world, &context(&Settings::default(), 0))
    }

    #[test]
    fn ready_and_unready_addresses_are_told_apart_and_terminating_ones_left_out() {
        let mut world = world(&[
            service(json!({ "app": "web" })),
            pod("a", "10.244.0.1", json!({})),
            pod("b", "10.244.0.2", json!({ "status": { "conditions": [] } })),
            pod("c", "10.244.0.3", json!({ "metadata": { "deletionTimestamp": "2027-01-15T08:00:00Z" } })),
        ]);
        let plan = run(&world);
        let [Action::Create { object, .. }] = &plan.actions[..] else { panic!("{plan:?}") };
        let subset = &object["subsets"][0];
        assert_eq!(subset["ports"], json!([{ "port": 8080, "protocol": "TCP" }]));
        assert_eq!(subset["addresses"].as_array().unwrap().len(), 1);
        assert_eq!(subset["notReadyAddresses"][0]["ip"], "10.244.0.2");
        perform(&mut world, &plan.actions, now(0));
        assert_eq!(run(&world), Plan::none(), "settled");
    }

    #[test]
    fn a_dual_stack_service_shows_its_first_family() {
        let pod = pod(
            "a",
            "10.244.0.1",
            json!({ "status": { "podIPs": [{ "ip": "10.244.0.1" }, { "ip": "fd00::1" }] } }),
        );
        for (families, wanted) in [(["IPv4", "IPv6"], "10.244.0.1"), (["IPv6", "IPv4"], "fd00::1")] {
            let mut service: Value = serde_json::from_slice(&service(json!({ "app": "web" })).json).unwrap();
            service["spec"]["ipFamilies"] = json!(families);
            let plan = run(&world(&[make(service), pod.clone()]));
            let [Action::Create { object, .. }] = &plan.actions[..] else { panic!("{plan:?}") };
            assert_eq!(object["subsets"].as_array().unwrap().len(), 1);
            let addresses = object["subsets"][0]["addresses"].as_array().unwrap();
            assert!(addresses.len() == 1 && addresses[0]["ip"] == wanted, "{addresses:?}");
        }
    }

    #[test]
    fn endpoints_of_a_service_without_a_selector_are_left_alone() {
        let theirs = make(
            json!({ "apiVersion": "v1", "kind": "Endpoints", "metadata": { "name": "web", "namespace": "default" } }),
        );
        assert_eq!(run(&world(&[service(json!({})), theirs])), Plan::none());
    }
}
