//! NetworkPolicies, Ingresses and what else is of `networking.k8s.io`.

use super::*;

fn policy(spec: Value) -> Vec<String> {
    let mut policy = json!({});
    policy["spec"] = spec;
    created(&kind::NETWORK_POLICY, policy)
}

#[test]
fn network_policies() {
    let none: [&str; 0] = [];
    assert_eq!(policy(json!({})), none);
    assert_eq!(
        policy(
            json!({"podSelector": {"matchLabels": {"a": "b"}}, "ingress": [{"ports": [{"port": "http"}, {"port": 1, "endPort": 2}],
            "from": [{"podSelector": {}, "namespaceSelector": {}}, {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}]})
        ),
        none
    );
    for (spec, message) in [
        (
            json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}),
            "spec.podSelector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
        ),
        (
            json!({"ingress": [{"ports": [{"protocol": "ICMP"}]}]}),
            "spec.ingress[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ),
        (
            json!({"egress": [{"ports": [{"port": 70_000}]}]}),
            "spec.egress[0].ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            json!({"egress": [{"ports": [{"port": 80, "endPort": 79}]}]}),
            "spec.egress[0].ports[0].endPort: Invalid value: 79: must be greater than or equal to `port`",
        ),
        (
            json!({"egress": [{"ports": [{"port": "http", "endPort": 79}]}]}),
            "spec.egress[0].ports[0].endPort: Invalid value: 79: may not be specified when `port` is non-numeric",
        ),
        (
            json!({"egress": [{"ports": [{"endPort": 79}]}]}),
            "spec.egress[0].ports[0].endPort: Invalid value: 79: may not be specified when `port` is not specified",
        ),
        (json!({"egress": [{"to": [{}]}]}), "spec.egress[0].to[0]: Required value: must specify a peer"),
        (
            json!({"egress": [{"to": [{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]}]}),
            "spec.egress[0].to[0]: Forbidden: may not specify both ipBlock and another peer",
        ),
        (json!({"egress": [{"to": [{"ipBlock": {}}]}]}), "spec.egress[0].to[0].ipBlock.cidr: Required value"),
        (
            json!({"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0"}}]}]}),
            "spec.egress[0].to[0].ipBlock.cidr: Invalid value: \"10.0.0.0\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
        ),
        (
            json!({"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}}]}]}),
            "spec.egress[0].to[0].ipBlock.except[0]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`",
        ),
        (
            json!({"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}]}]}),
            "spec.egress[0].to[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
        ),
        (
            json!({"policyTypes": ["In"]}),
            "spec.policyTypes[0]: Unsupported value: \"In\": supported values: \"Egress\", \"Ingress\"",
        ),
        (
            json!({"policyTypes": ["Ingress", "Egress", "Ingress"]}),
            "spec.policyTypes: Invalid value: [\"Ingress\",\"Egress\",\"Ingress\"]: may not specify more than two policyTypes",
        ),
    ] {
        assert_eq!(policy(spec), [message]);
    }
}

#[test]
fn selectors_within_objects() {
    let expressions = json!([{"key": "a", "operator": "Exists", "values": ["b"]}, {"key": "a b", "operator": "In", "values": ["c d"]},
        {"key": "a", "operator": "Is"}]);
    let wrong =
        policy(json!({"podSelector": {"matchLabels": {"a": "b c"}, "matchExpressions": expressions}}));
    let starts = [
        "spec.podSelector.matchLabels: Invalid value: \"b c\": a valid label must",
        "spec.podSelector.matchExpressions[0].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        "spec.podSelector.matchExpressions[1].key: Invalid value: \"a b\": name part must",
        "spec.podSelector.matchExpressions[1].values[0]: Invalid value: \"c d\": a valid label must",
        "spec.podSelector.matchExpressions[2].operator: Invalid value: \"Is\": not a valid selector operator",
    ];
    assert_eq!(wrong.len(), starts.len(), "{wrong:?}");
    for (message, start) in wrong.iter().zip(starts) {
        assert!(message.starts_with(start), "{message}");
    }
}

fn rule(path: &Value) -> Vec<String> {
    created(&kind::INGRESS, json!({"spec": {"rules": [{"http": {"paths": [path]}}]}}))
}

#[test]
fn ingresses() {
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let good = json!({"path": "/", "pathType": "Prefix", "backend": backend});
    assert!(rule(&good).is_empty());
    assert!(created(&kind::INGRESS, json!({"spec": {"defaultBackend": backend}})).is_empty());
    let with = |key: &str, value: Value| {
        let mut path = good.clone();
        path[key] = value;
        rule(&path)
    };
    let at = "spec.rules[0].http.paths[0]";
    assert_eq!(
        created(&kind::INGRESS, json!({"spec": {}})),
        ["spec: Invalid value: []: either `defaultBackend` or `rules` must be specified"]
    );
    for (found, message) in [
        (with("pathType", Value::Null), "pathType: Required value: pathType must be specified"),
        (
            with("pathType", json!("Some")),
            "pathType: Unsupported value: \"Some\": supported values: \"Exact\", \"ImplementationSpecific\", \"Prefix\"",
        ),
        (with("path", json!("a")), "path: Invalid value: \"a\": must be an absolute path"),
        (with("path", json!("/a//b")), "path: Invalid value: \"/a//b\": must not contain '//'"),
        (with("path", json!("/a/..")), "path: Invalid value: \"/a/..\": cannot end with '/..'"),
        (with("backend", json!({})), "backend: Invalid value: \"\": resource or service backend is required"),
        (
            with("backend", json!({"service": {"name": "a"}})),
            "backend: Required value: port name or number is required",
        ),
        (
            with("backend", json!({"service": {"port": {"number": 1}}})),
            "backend.service.name: Required value",
        ),
        (
            with("backend", json!({"service": {"name": "a", "port": {"number": 1, "name": "b"}}})),
            "backend: Invalid value: \"\": cannot set both port name & port number",
        ),
        (with("backend", json!({"resource": {"kind": "A"}})), "backend.resource.name: Required value"),
        (
            with("backend", json!({"service": {}, "resource": {}})),
            "backend: Invalid value: \"\": cannot set both resource and service backends",
        ),
    ] {
        assert_eq!(found, [format!("{at}.{message}")]);
    }
}

#[test]
fn hosts_of_ingresses() {
    let hosts = |host: &str, tls: &str| {
        let spec = json!({"rules": [{"host": host}], "tls": [{"hosts": [tls]}], "ingressClassName": "a"});
        created(&kind::INGRESS, json!({"spec": spec}))
    };
    assert!(hosts("a.example.com", "*.example.com").is_empty());
    let wrong = hosts("10.0.0.1", "*.*.com");
    assert_eq!(
        wrong[0],
        "spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address"
    );
    assert!(
        wrong[1].starts_with(
            "spec.tls[0].hosts[0]: Invalid value: \"*.*.com\": a wildcard DNS-1123 subdomain must"
        ),
        "{wrong:?}"
    );
    assert!(
        hosts("A", "b")[0]
            .starts_with("spec.rules[0].host: Invalid value: \"A\": a lowercase RFC 1123 subdomain")
    );
    let both = json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "b"}},
        "spec": {"rules": [{"host": "a"}], "ingressClassName": "a"}});
    assert_eq!(
        created(&kind::INGRESS, both.clone()),
        [
            "annotations.kubernetes.io/ingress.class: Invalid value: \"b\": must match `ingressClassName` when both are specified"
        ]
    );
    assert!(updated(&kind::INGRESS, &both, &both).is_empty());
    let status = json!({"loadBalancer": {"ingress": [{"ip": "x"}, {"hostname": "1.1.1.1"}]}});
    assert_eq!(
        with_status(&kind::INGRESS, &status),
        [
            "status.loadBalancer.ingress[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            "status.loadBalancer.ingress[1].hostname: Invalid value: \"1.1.1.1\": must be a DNS name, not an IP address",
        ]
    );
}

#[test]
fn ingress_classes() {
    let class = |spec: Value| created(&kind::INGRESS_CLASS, json!({"spec": spec}));
    let controller = "acme.io/foo";
    let parameters = |scope: &str, namespace: Value| {
        class(json!({"controller": controller, "parameters":
            {"kind": "P", "name": "p", "scope": scope, "namespace": namespace}}))
    };
    assert!(parameters("", Value::Null).is_empty() && parameters("Namespace", json!("a")).is_empty());
    assert_eq!(class(json!({})), ["spec.controller: Required value"]);
    assert_eq!(
        class(json!({"controller": "foo"})),
        ["spec.controller: Invalid value: \"foo\": must be a domain-prefixed path (such as \"acme.io/foo\")"]
    );
    assert!(class(json!({"controller": "a/b c"}))[0].contains("\"b c\": Invalid path"));
    assert_eq!(
        parameters("Namespace", Value::Null),
        ["spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'"]
    );
    assert_eq!(
        parameters("Cluster", json!("a")),
        ["spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'"]
    );
    assert_eq!(
        parameters("All", Value::Null),
        ["spec.parameters.scope: Unsupported value: \"All\": supported values: \"Cluster\", \"Namespace\""]
    );
    let of = |controller: &str| json!({"spec": {"controller": controller}});
    assert_eq!(
        updated(&kind::INGRESS_CLASS, &of("a/b"), &of("a/c")),
        ["spec.controller: Invalid value: \"a/b\": field is immutable"]
    );
}

#[test]
fn service_addresses_and_ranges() {
    let address = |name: &str, parent: Value| {
        created(&kind::IP_ADDRESS, json!({"metadata": {"name": name}, "spec": {"parentRef": parent}}))
    };
    let parent = json!({"resource": "services", "namespace": "default", "name": "kubernetes"});
    assert!(address("10.96.0.1", parent.clone()).is_empty() && address("fd00::1", parent.clone()).is_empty());
    assert_eq!(
        address("a", parent.clone()),
        [
            "metadata.name: Invalid value: \"a\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
        ]
    );
    assert_eq!(
        address("fd00:0::1", parent),
        ["metadata.name: Invalid value: \"fd00:0::1\": must be in canonical form (\"fd00::1\")"]
    );
    assert_eq!(address("::1", Value::Null), ["spec.parentRef: Required value"]);
    assert_eq!(
        address("::1", json!({"namespace": "a/b"})),
        [
            "spec.parentRef.resource: Required value",
            "spec.parentRef.name: Required value",
            "spec.parentRef.namespace: Invalid value: \"a/b\": may not contain '/'",
        ]
    );
    let of = |name: &str| json!({"spec": {"parentRef": {"resource": "services", "name": name}}});
    assert_eq!(updated(&kind::IP_ADDRESS, &of("a"), &of("b")).len(), 1);
    let ranges = |ranges: Value| json!({"spec": {"cidrs": ranges}});
    let range = |list: Value| created(&kind::SERVICE_CIDR, ranges(list));
    assert!(range(json!(["10.96.0.0/16", "fd00:96::/112"])).is_empty());
    assert_eq!(range(json!([])), ["spec.cidrs: Required value: at least one CIDR required"]);
    assert!(range(json!(["a", "b", "c"]))[0].ends_with("may only hold up to 2 values"));
    assert!(range(json!(["10.0.0.1/8"]))[0].ends_with("must not have bits set beyond the prefix length"));
    assert!(range(json!(["fd00:0::/64"]))[0].ends_with("must be in canonical form (\"fd00::/64\")"));
    assert!(range(json!(["10.0.0.0/8", "11.0.0.0/8"]))[0].contains("no more than one IP for each IP family"));
    let change = |new: Value, old: Value| updated(&kind::SERVICE_CIDR, &ranges(new), &ranges(old));
    assert!(change(json!(["10.0.0.0/8", "fd00::/64"]), json!(["10.0.0.0/8"])).is_empty());
    assert_eq!(
        change(json!(["11.0.0.0/8"]), json!(["10.0.0.0/8"])),
        ["spec.cidrs[0]: Invalid value: \"11.0.0.0/8\": field is immutable"]
    );
    assert_eq!(change(json!(["10.0.0.0/8"]), json!(["10.0.0.0/8", "fd00::/64"])).len(), 1);
}
