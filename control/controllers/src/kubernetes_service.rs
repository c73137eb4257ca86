//! The two Services every cluster has: `kubernetes`, which leads to the API, and `kube-dns`, which the agents answer
//! themselves: each agent serves the DNS address on its own node, so that Service has no selector and no endpoints.

use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;
use serde_json::{Value, json};
use weft_api::key::ObjectKey;
use weft_api::kind::{self, Kind};
use weft_api::view::Service;

use crate::action::Action;
use crate::endpoint_mirror::SKIP_LABEL;
use crate::table::{Context, Loop, LoopKey, Plan};
use crate::world::{Applied, SERVICE_NAME_LABEL, World};

pub(crate) const API: (&str, &str) = ("default", "kubernetes");
const DNS: (&str, &str) = ("kube-system", "kube-dns");
/// While the namespace is not there yet, milliseconds.
const RETRY_MS: u64 = 200;

pub(crate) const LOOP: Loop = Loop {
    name: "kubernetes-service",
    watches: &[&kind::SERVICE, &kind::ENDPOINT_SLICE, &kind::ENDPOINTS],
    start,
    keys,
    plan,
};

fn start(_: &Context) -> Vec<LoopKey> {
    [API, DNS]
        .map(|(namespace, name)| LoopKey::new(&kind::SERVICE, ObjectKey::namespaced(namespace, name)))
        .into()
}

fn keys(change: &Applied, _: &World) -> Vec<LoopKey> {
    let key = |(namespace, name)| LoopKey::new(&kind::SERVICE, ObjectKey::namespaced(namespace, name));
    let hit = |(namespace, name): (&str, &str)| {
        change.key.namespace == namespace
            && (change.key.name == name || change.key.name == format!("{name}-ipv6"))
    };
    [API, DNS].into_iter().filter(|pair| hit(*pair)).map(key).collect()
}

fn plan(key: &LoopKey, world: &World, context: &Context) -> Plan {
    if world.object(&kind::NAMESPACE, &ObjectKey::cluster(key.key.namespace.clone())).is_none() {
        return Plan { actions: Vec::new(), requeue_after_ms: Some(RETRY_MS) };
    }
    let mut actions = Vec::new();
    if key.key.name == DNS.1 {
        ensure(&kind::SERVICE, &dns_service(&context.settings.dns_addresses()), world, &mut actions);
        return Plan::actions(actions);
    }
    let addresses = &context.settings.api_addresses;
    ensure(&kind::SERVICE, &api_service(&service_addresses(world, context)), world, &mut actions);
    for (family, suffix) in [("IPv4", ""), ("IPv6", "-ipv6")] {
        let of_family: Vec<&SocketAddr> =
            addresses.iter().filter(|a| a.is_ipv4() == (family == "IPv4")).collect();
        if let Some(first) = of_family.first() {
            ensure(
                &kind::ENDPOINT_SLICE,
                &api_slice(family, suffix, first.port(), &of_family),
                world,
                &mut actions,
            );
        } else if !addresses.is_empty() {
            let key = ObjectKey::namespaced(API.0, format!("{}{suffix}", API.1));
            let stale = world.object(&kind::ENDPOINT_SLICE, &key);
            actions.extend(stale.map(|slice| Action::delete(&kind::ENDPOINT_SLICE, &slice.meta)));
        }
    }
    if let Some(first) = addresses.first() {
        // Endpoints know one family.
        let of_family: Vec<&SocketAddr> =
            addresses.iter().filter(|a| a.is_ipv4() == first.is_ipv4()).collect();
        ensure(&kind::ENDPOINTS, &api_endpoints(first.port(), &of_family), world, &mut actions);
    }
    Plan::actions(actions)
}

/// The addresses of the API's Service: of the families in which the API is reached, or the first one, in the order that the
/// Service has already.
fn service_addresses(world: &World, context: &Context) -> Vec<IpAddr> {
    let mut all = context.settings.api_service_addresses();
    let existing = world.get::<Service>(&ObjectKey::namespaced(API.0, API.1));
    if let Some(first) = existing.and_then(|service| service.spec.ip_families.first()) {
        all.sort_by_key(|address| (address.is_ipv4()) != (first == "IPv4"));
    }
    let reached = |address: &IpAddr| {
        context.settings.api_addresses.iter().any(|api| api.is_ipv4() == address.is_ipv4())
    };
    let mut place = 0;
    all.retain(|address| {
        place += 1;
        place == 1 || reached(address)
    });
    all
}

/// Creates the object, or patches what differs at its top level (`spec` field by field); other fields are left alone.
fn ensure(kind: &'static Kind, wanted: &Value, world: &World, actions: &mut Vec<Action>) {
    let text = |field: &str| wanted["metadata"][field].as_str().unwrap_or("").to_owned();
    let key = ObjectKey { namespace: text("namespace"), name: text("name") };
    let Some(existing) = world.object(kind, &key) else {
        actions.push(Action::Create { kind, object: wanted.clone() });
        return;
    };
    let Ok(now) = existing.view::<Whole>() else { return };
    let mut patch = json!({});
    for (field, value) in wanted.as_object().into_iter().flatten() {
        match field.as_str() {
            "apiVersion" | "kind" | "metadata" => {}
            "spec" => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    if !covers(&now.0["spec"][name], value) {
                        patch["spec"][name] = value.clone();
                    }
                }
            }
            _ if !covers(&now.0[field], value) => patch[field] = value.clone(),
            _ => {}
        }
    }
    if patch != json!({}) {
        actions.push(Action::patch(kind, &existing.meta, patch));
    }
}

#[derive(Deserialize)]
struct Whole(Value);

/// Whether `now` says at least what `wanted` says: defaults that were filled in are no difference.
fn covers(now: &Value, wanted: &Value) -> bool {
    match (now, wanted) {
        (Value::Object(now), Value::Object(wanted)) => {
            wanted.iter().all(|(name, value)| now.get(name).is_some_and(|now| covers(now, value)))
        }
        (Value::Array(now), Value::Array(wanted)) => {
            now.len() == wanted.len() && now.iter().zip(wanted).all(|(now, wanted)| covers(now, wanted))
        }
        (now, wanted) => now == wanted,
    }
}

fn api_service(addresses: &[IpAddr]) -> Value {
    service(
        API,
        &json!({ "component": "apiserver", "provider": "kubernetes" }),
        addresses,
        &json!([{ "name": "https", "protocol": "TCP", "port": 443, "targetPort": 6443 }]),
    )
}

fn dns_service(addresses: &[IpAddr]) -> Value {
    service(
        DNS,
        &json!({ "k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS", "kubernetes.io/cluster-service": "true" }),
        addresses,
        &json!([
            { "name": "dns", "protocol": "UDP", "port": 53, "targetPort": 53 },
            { "name": "dns-tcp", "protocol": "TCP", "port": 53, "targetPort": 53 },
        ]),
    )
}

fn service((namespace, name): (&str, &str), labels: &Value, addresses: &[IpAddr], ports: &Value) -> Value {
    let families: Vec<&str> = addresses.iter().map(|a| if a.is_ipv4() { "IPv4" } else { "IPv6" }).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name, "namespace": namespace, "labels": labels },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": addresses.first(),
            "clusterIPs": addresses,
            "ipFamilies": families,
            "ipFamilyPolicy": if families.len() > 1 { "RequireDualStack" } else { "SingleStack" },
            "ports": ports,
        },
    })
}

fn api_slice(family: &str, suffix: &str, port: u16, addresses: &[&SocketAddr]) -> Value {
    let endpoint = |a: &&SocketAddr| json!({ "addresses": [a.ip()], "conditions": { "ready": true } });
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{}{suffix}", API.1),
            "namespace": API.0,
            "labels": { SERVICE_NAME_LABEL: API.1 },
        },
        "addressType": family,
        "endpoints": addresses.iter().filter(|a| a.port() == port).map(endpoint).collect::<Vec<_>>(),
        "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
    })
}

fn api_endpoints(port: u16, addresses: &[&SocketAddr]) -> Value {
    let ips: Vec<Value> =
        addresses.iter().filter(|a| a.port() == port).map(|a| json!({ "ip": a.ip() })).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": { "name": API.1, "namespace": API.0, "labels": { SKIP_LABEL: "true" } },
        "subsets": [{ "addresses": ips, "ports": [{ "name": "https", "port": port, "protocol": "TCP" }] }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use crate::testing::{context, merge, now, object, perform, world};
    use crate::world::Change;
    use weft_api::view::EndpointSlice;

    #[test]
    fn both_services_are_made_kept_and_followed_to_a_new_address() {
        let namespaces = ["default", "kube-system"].map(|name| {
            object(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }))
        });
        let settings =
            Settings { api_addresses: vec!["192.168.5.1:6443".parse().unwrap()], ..Settings::default() };
        let at = context(&settings, 0);
        assert!(plan(&start(&at)[0], &World::new(), &at).requeue_after_ms.is_some(), "no namespace yet");
        let mut world = world(&namespaces);
        for key in start(&at) {
            let plan = plan(&key, &world, &at);
            perform(&mut world, &plan.actions, now(0));
        }
        let service = |namespace: &str, name: &str| {
            world.get::<Service>(&ObjectKey::namespaced(namespace, name)).unwrap().spec.cluster_ip.clone()
        };
        assert_eq!((service(API.0, API.1), service(DNS.0, DNS.1)), ("10.96.0.1".into(), "10.96.0.10".into()));
        assert_eq!(world.slices_of(&ObjectKey::namespaced("default", "kubernetes")).count(), 1);

        // Defaults that the write path fills in are no reason to write again.
        let key = start(&at)[0].clone();
        let mut value: Value =
            serde_json::from_slice(&world.object(&kind::SERVICE, &key.key).unwrap().json).unwrap();
        merge(
            &mut value,
            &json!({ "spec": { "sessionAffinity": "None", "internalTrafficPolicy": "Cluster" } }),
        );
        let _ = world.apply(Change::put(object(value), 50));
        for key in start(&at) {
            assert_eq!(plan(&key, &world, &at), Plan::none());
        }

        let moved =
            Settings { api_addresses: vec!["192.168.5.2:7443".parse().unwrap()], ..Settings::default() };
        let plan = plan(&key, &world, &context(&moved, 0));
        assert_eq!(plan.actions.len(), 2, "slice and endpoints: {plan:?}");
        let Action::Patch { patch, .. } = &plan.actions[0] else { panic!() };
        assert_eq!(patch["ports"][0]["port"], 7443);
    }
    #[test]
    fn the_api_has_the_families_in_which_it_is_reached() {
        let namespace =
            object(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "default" } }));
        let settings = |ranges: [&str; 2], api: &[&str]| Settings {
            service_cidrs: ranges.map(|range| range.parse().unwrap()).into(),
            api_addresses: api.iter().map(|address| address.parse().unwrap()).collect(),
            ..Settings::default()
        };
        let (four, six) = ("192.168.5.1:6443", "[fd00::5]:6443");
        let mut world = world(&[namespace]);
        let mut step = |settings: &Settings| {
            let at = context(settings, 0);
            let key = start(&at)[0].clone();
            let made = plan(&key, &world, &at);
            perform(&mut world, &made.actions, now(0));
            assert_eq!(plan(&key, &world, &at), Plan::none(), "settled");
            let spec = &world.get::<Service>(&key.key).unwrap().spec;
            let mut slices: Vec<String> =
                world.all::<EndpointSlice>().map(|slice| slice.address_type.clone()).collect();
            slices.sort();
            (spec.cluster_ips.clone(), spec.ip_family_policy.clone(), slices)
        };
        let (v4, v6) = ("10.96.0.0/16", "fd00:96::/112");
        let single = (vec!["10.96.0.1".to_owned()], "SingleStack".to_owned(), vec!["IPv4".to_owned()]);
        assert_eq!(step(&settings([v4, v6], &[four])), single);
        let (addresses, policy, slices) = step(&settings([v4, v6], &[four, six]));
        assert_eq!(
            (&addresses[..], policy.as_str()),
            (&["10.96.0.1".to_owned(), "fd00:96::1".to_owned()][..], "RequireDualStack")
        );
        assert_eq!(slices, ["IPv4", "IPv6"]);
        let (turned, ..) = step(&settings([v6, v4], &[six, four]));
        assert_eq!(turned, addresses, "a Service's first family stays");
        assert_eq!(step(&settings([v4, v6], &[four])), single, "and its slice is gone with the family");
    }
}
