//! NetworkPolicies, Ingresses and IngressClasses.

use super::*;

#[test]
fn a_policy_without_a_selector_is_about_all_pods_and_its_types_follow_its_rules() {
    let spec = |spec: Value| defaulted(&kind::NETWORK_POLICY, json!({"spec": spec}))["spec"].clone();
    assert_eq!(spec(json!({})), json!({"podSelector": {}, "policyTypes": ["Ingress"]}));
    let both = spec(json!({"egress": [{"ports": [{"port": 53}]}]}));
    assert_eq!(both["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(both["egress"][0]["ports"][0]["protocol"], "TCP");
    assert_eq!(spec(json!({"policyTypes": ["Egress"]}))["policyTypes"], json!(["Egress"]));
}

#[test]
fn ingress() {
    assert_eq!(defaulted(&kind::INGRESS, json!({}))["status"], json!({"loadBalancer": {}}));
    let class = |spec: Value| defaulted(&kind::INGRESS_CLASS, json!({"spec": spec}))["spec"].clone();
    assert_eq!(class(json!({"parameters": {}}))["parameters"]["scope"], "Cluster");
    assert!(class(json!({})).get("parameters").is_none());
}
