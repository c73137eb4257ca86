//! NetworkPolicies, Ingresses and what else is of `networking.k8s.io`.

use super::*;

#[test]
fn networking() {
    let policy = |selector: Value| cells(&kind::NETWORK_POLICY, json!({"spec": {"podSelector": selector}}));
    assert_eq!(policy(json!({})), ["x", "<none>", "5m"]);
    assert_eq!(policy(json!({"matchLabels": {"a": "b"}}))[1], "a=b");
    let hosts: Vec<Value> = ["a", "b", "c", "d"].iter().map(|host| json!({"host": host})).collect();
    let ingress = json!({"spec": {"ingressClassName": "nginx", "rules": hosts, "tls": [{}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "2.2.2.2"}, {"hostname": "1.example"}]}}});
    assert_eq!(
        cells(&kind::INGRESS, ingress),
        ["x", "nginx", "a,b,c + 1 more...", "1.example,2.2.2.2", "80, 443", "5m"]
    );
    assert_eq!(cells(&kind::INGRESS, json!({}))[1..5], ["<none>", "*", "", "80"]);
    let class = json!({"spec": {"controller": "a/b", "parameters": {"apiGroup": "k8s.io", "kind": "P", "name": "p"}}});
    assert_eq!(cells(&kind::INGRESS_CLASS, class), ["x", "a/b", "P.k8s.io/p", "5m"]);
    let parent = json!({"resource": "services", "namespace": "default", "name": "kubernetes"});
    assert_eq!(
        cells(&kind::IP_ADDRESS, json!({"spec": {"parentRef": parent}})),
        ["x", "services/default/kubernetes", "5m"]
    );
    assert_eq!(cells(&kind::SERVICE_CIDR, json!({"spec": {"cidrs": ["a", "b"]}})), ["x", "a,b", "5m"]);
}
