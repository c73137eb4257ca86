//! Allocation: requested, free, taken, out of range, kept over updates.

use super::*;

fn service(spec: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "s", "namespace": "default" }, "spec": spec })
}

fn view(value: &Value) -> Service {
    serde_json::from_value(value.clone()).unwrap()
}

/// The same Service by another name.
fn other(value: &Value) -> Service {
    let mut value = value.clone();
    value["metadata"]["name"] = json!("other");
    view(&value)
}

fn run(spec: Value, taken: &Taken, random: u64) -> Result<Value, String> {
    let mut value = service(spec);
    complete(&mut value, None, taken, &Settings::default(), random)
        .map(|()| value["spec"].clone())
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

#[test]
fn an_address_is_given_from_the_range_and_completes_the_families() {
    let spec = run(json!({ "ports": [{ "port": 80 }] }), &Taken::default(), 12345).unwrap();
    let address: IpAddr = spec["clusterIP"].as_str().unwrap().parse().unwrap();
    assert!(Settings::default().service_cidrs[0].contains(&address));
    assert_eq!(spec["clusterIPs"], json!([address.to_string()]));
    assert_eq!((&spec["ipFamilies"], &spec["ipFamilyPolicy"]), (&json!(["IPv4"]), &json!("SingleStack")));
    assert_eq!(spec["ports"][0].get("nodePort"), None);
}

#[test]
fn a_full_range_is_used_to_its_last_address_and_then_said() {
    let settings = Settings { service_cidrs: vec!["10.1.0.0/28".parse().unwrap()], ..Settings::default() };
    let mut taken = Taken::default();
    let mut given = HashSet::new();
    for random in 0..12 {
        let mut value = service(json!({ "ports": [] }));
        complete(&mut value, None, &taken, &settings, random * 7919).unwrap();
        assert!(given.insert(value["spec"]["clusterIP"].to_string()));
        taken.add(&other(&value));
    }
    // 16 addresses less network, broadcast, the API's and the DNS Service's.
    let mut value = service(json!({ "ports": [] }));
    let errors = complete(&mut value, None, &taken, &settings, 3).unwrap_err();
    assert!(errors[0].to_string().contains("range 10.1.0.0/28 is full"), "{}", errors[0]);
}

#[test]
fn requests_are_granted_or_refused_by_field() {
    let spec = run(json!({ "clusterIP": "10.96.0.10" }), &Taken::default(), 1).unwrap();
    assert_eq!(spec["clusterIP"], "10.96.0.10");
    let mut taken = Taken::default();
    taken.add(&other(&service(spec)));
    let error = run(json!({ "clusterIP": "10.96.0.10" }), &taken, 1).unwrap_err();
    assert!(error.contains("spec.clusterIPs[0]") && error.contains("already allocated"), "{error}");
    let error = run(json!({ "clusterIP": "192.168.0.1" }), &taken, 1).unwrap_err();
    assert!(error.contains("The range of valid IPs is 10.96.0.0/16"), "{error}");
    let error =
        run(json!({ "clusterIP": "" , "ipFamilyPolicy": "RequireDualStack" }), &taken, 1).unwrap_err();
    assert!(error.contains("dual-stack"), "{error}");
}

#[test]
fn headless_and_external_names_have_no_address() {
    let spec = run(json!({ "clusterIP": "None" }), &Taken::default(), 1).unwrap();
    assert_eq!(spec["clusterIPs"], json!(["None"]));
    let spec =
        run(json!({ "type": "ExternalName", "externalName": "example.org" }), &Taken::default(), 1).unwrap();
    assert_eq!(spec.get("clusterIP"), None);
}

#[test]
fn node_ports_are_given_requested_and_refused() {
    let spec = json!({ "type": "NodePort", "ports": [
        { "port": 80, "protocol": "TCP" }, { "port": 81, "protocol": "TCP", "nodePort": 30001 },
        { "port": 80, "protocol": "UDP", "nodePort": 30001 },
    ] });
    // The first would be given 30001 were it not asked for by the second.
    let spec = run(spec, &Taken::default(), 1 + 2768 * 5).unwrap();
    let given = spec["ports"][0]["nodePort"].as_u64().unwrap();
    assert!((30000..=32767).contains(&given) && given != 30001);
    let mut taken = Taken::default();
    taken.add(&other(&service(spec)));
    let asked = |port: i64| json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": port }] });
    assert!(run(asked(30001), &taken, 1).unwrap_err().contains("provided port is already allocated"));
    assert!(run(asked(80), &taken, 1).unwrap_err().contains("The range of valid ports is 30000-32767"));
    assert!(run(asked(99999), &taken, 1).unwrap_err().contains("spec.ports[0].nodePort"));
}

#[test]
fn an_update_keeps_what_it_does_not_name_and_drops_what_its_type_lost() {
    let settings = Settings::default();
    let mut first = service(json!({ "type": "NodePort", "ports": [{ "port": 80, "protocol": "TCP" }] }));
    complete(&mut first, None, &Taken::default(), &settings, 77).unwrap();
    let old = view(&first);

    let mut silent = service(json!({ "type": "NodePort", "ports": [{ "port": 80, "protocol": "TCP" }] }));
    complete(&mut silent, Some(&old), &Taken::default(), &settings, 5).unwrap();
    assert_eq!(silent["spec"], first["spec"]);

    let mut plain = first.clone();
    plain["spec"]["type"] = json!("ClusterIP");
    complete(&mut plain, Some(&old), &Taken::default(), &settings, 5).unwrap();
    assert_eq!(plain["spec"]["ports"][0].get("nodePort"), None);
    assert_eq!(plain["spec"]["clusterIP"], first["spec"]["clusterIP"]);

    let mut external = first.clone();
    external["spec"]["type"] = json!("ExternalName");
    complete(&mut external, Some(&old), &Taken::default(), &settings, 5).unwrap();
    assert_eq!(external["spec"].get("clusterIP"), None);
}

#[test]
fn what_a_service_holds_is_free_to_itself_and_given_back_once() {
    let spec =
        json!({ "type": "NodePort", "clusterIP": "10.96.0.7", "ports": [{ "port": 80, "nodePort": 30080 }] });
    let mut taken = Taken::default();
    taken.add(&view(&service(spec.clone())));
    assert_eq!(run(spec.clone(), &taken, 1).unwrap()["clusterIP"], "10.96.0.7");
    taken.add(&other(&service(spec.clone())));
    taken.remove(&view(&service(spec.clone())));
    assert!(run(spec.clone(), &taken, 1).unwrap_err().contains("already allocated"), "it is another's now");
    taken.remove(&other(&service(spec.clone())));
    run(spec, &taken, 1).unwrap();
}

#[test]
fn a_local_load_balancer_has_a_health_check_port_as_long_as_it_is_one() {
    let local = json!({ "type": "LoadBalancer", "externalTrafficPolicy": "Local",
        "ports": [{ "port": 80, "nodePort": 30080 }] });
    let with = |spec: &Value, field: &str, value: Value| {
        let mut spec = spec.clone();
        spec[field] = value;
        spec
    };
    let free = run(local.clone(), &Taken::default(), 80).unwrap()["healthCheckNodePort"].clone();
    assert!((30000..=32767).contains(&free.as_i64().unwrap()) && free != 30080, "{free}");
    let fixed = with(&local, "healthCheckNodePort", json!(31000));
    assert_eq!(run(fixed.clone(), &Taken::default(), 1).unwrap()["healthCheckNodePort"], 31000);
    let mut taken = Taken::default();
    let theirs = with(&fixed, "ports", json!([{ "port": 80, "nodePort": 30081 }]));
    taken.add(&other(&service(theirs)));
    assert!(
        run(fixed.clone(), &taken, 1).unwrap_err().contains("spec.healthCheckNodePort"),
        "another has it"
    );
    let own = with(&local, "healthCheckNodePort", json!(30080));
    assert!(run(own, &Taken::default(), 1).unwrap_err().contains("already allocated"), "its own node port");
    let without = with(&local, "allocateLoadBalancerNodePorts", json!(false));
    let without = with(&without, "ports", json!([{ "port": 80 }]));
    let without = run(without, &Taken::default(), 1).unwrap();
    assert_eq!(without["ports"][0].get("nodePort"), None);
    assert!(without["healthCheckNodePort"].is_u64());

    let settings = Settings::default();
    let old = view(&service(fixed.clone()));
    let mut silent = service(local.clone());
    complete(&mut silent, Some(&old), &taken, &settings, 5).unwrap_err();
    complete(&mut silent, Some(&old), &Taken::default(), &settings, 5).unwrap();
    assert_eq!(silent["spec"]["healthCheckNodePort"], 31000, "kept");
    for (field, value) in [("externalTrafficPolicy", json!("Cluster")), ("type", json!("ClusterIP"))] {
        let mut changed = service(with(&fixed, field, value));
        complete(&mut changed, Some(&old), &Taken::default(), &settings, 5).unwrap();
        assert_eq!(changed["spec"].get("healthCheckNodePort"), None, "{field}");
    }
}

#[test]
fn a_type_that_changes_takes_its_own_fields_along() {
    let balancer = json!({ "type": "LoadBalancer", "externalTrafficPolicy": "Cluster", "loadBalancerClass": "weft.io/announce",
        "allocateLoadBalancerNodePorts": true, "ports": [{ "port": 80 }] });
    let mut plain = service(balancer.clone());
    plain["spec"]["type"] = json!("ClusterIP");
    complete(&mut plain, Some(&view(&service(balancer))), &Taken::default(), &Settings::default(), 5)
        .unwrap();
    for field in ["externalTrafficPolicy", "loadBalancerClass", "allocateLoadBalancerNodePorts"] {
        assert_eq!(plain["spec"].get(field), None, "{field}");
    }
}

#[test]
fn a_port_that_a_service_has_stays_when_the_range_is_another() {
    let mut value = service(json!({ "type": "LoadBalancer", "externalTrafficPolicy": "Local",
        "ports": [{ "port": 80, "nodePort": 30_007 }], "healthCheckNodePort": 30_008 }));
    complete(&mut value, None, &Taken::default(), &Settings::default(), 1).unwrap();
    let old = view(&value);
    let settings = Settings { node_ports: 31_000..=31_001, ..Settings::default() };
    let complete = |value: &mut Value| complete(value, Some(&old), &Taken::default(), &settings, 1);
    let mut same = value.clone();
    complete(&mut same).unwrap();
    assert_eq!(same, value);
    for (pointer, number) in [("/spec/ports/0/nodePort", 30_009), ("/spec/healthCheckNodePort", 30_010)] {
        let mut other = value.clone();
        *other.pointer_mut(pointer).unwrap() = json!(number);
        let errors = complete(&mut other).unwrap_err();
        assert!(errors[0].to_string().contains("not in the valid range"), "{pointer}: {errors:?}");
    }
    let mut other = value.clone();
    other["spec"]["ports"][0]["protocol"] = json!("UDP");
    assert!(complete(&mut other).is_err(), "of another protocol it is another port");
}
