//! Each rule with the words a client sees.

mod admission;
mod cel;
mod certificates;
mod events;
mod extensions;
mod hostile;
mod networking;
mod pod;
mod rbac;
mod regex;
mod storage;
mod stored;

use serde_json::json;

use super::*;
use crate::kind;

mod apps;
mod autoscaler;
mod batch;
mod policy;
mod volumes;

fn told(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

fn created(kind: &Kind, mut object: Value) -> Vec<String> {
    crate::default::apply(kind, &mut object);
    if object["metadata"]["name"].is_null() && object["metadata"]["generateName"].is_null() {
        object["metadata"]["name"] = "x".into();
    }
    if kind.namespaced {
        object["metadata"]["namespace"] = "default".into();
    }
    object["metadata"]["uid"] = "u".into();
    crate::default::prepare(kind, &mut object, None);
    told(&create(kind, &object, &Limits::default()))
}

fn updated(kind: &Kind, new: &Value, old: &Value) -> Vec<String> {
    let prepare = |object: &Value| {
        let mut object = object.clone();
        object["metadata"]["name"] = "x".into();
        object["metadata"]["namespace"] = "default".into();
        crate::default::apply(kind, &mut object);
        object
    };
    told(&update(kind, &prepare(new), &prepare(old), &Limits::default()))
}

/// What is wrong with a status of this kind.
fn with_status(kind: &Kind, status: &Value) -> Vec<String> {
    told(&update_status(kind, &json!({ "status": status }), &json!({})))
}

/// A copy with other values at these pointers; `null` takes away.
fn with(object: &Value, changes: &[(&str, Value)]) -> Value {
    let mut object = object.clone();
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = object.pointer_mut(parent).unwrap();
        if value.is_null() {
            parent.as_object_mut().unwrap().remove(key);
        } else {
            parent[key] = value.clone();
        }
    }
    object
}

fn pod(container: &Value) -> Value {
    let mut base = json!({"name": "c", "image": "i"});
    base.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
    json!({"spec": {"containers": [base]}})
}

#[test]
fn names_and_labels() {
    assert!(created(&kind::CONFIG_MAP, json!({})).is_empty());
    let wrong = created(&kind::NODE, json!({"metadata": {"name": "node with spaces"}}));
    assert!(wrong[0].starts_with(
        "metadata.name: Invalid value: \"node with spaces\": a lowercase RFC 1123 subdomain must"
    ));
    let nameless = create(&kind::NODE, &json!({"metadata": {}}), &Limits::default());
    assert_eq!(told(&nameless), ["metadata.name: Required value: name or generateName is required"]);
    assert!(created(&kind::POD, json!({"metadata": {"generateName": "web-"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})).is_empty());
    let labels = created(&kind::CONFIG_MAP, json!({"metadata": {"labels": {"a b": "c", "d": "e f"}}}));
    assert_eq!(labels.len(), 2);
    assert!(labels[1].starts_with("metadata.labels: Invalid value: \"e f\": a valid label must be"));
    let large = created(&kind::CONFIG_MAP, json!({"metadata": {"annotations": {"a": "x".repeat(300_000)}}}));
    assert_eq!(large, ["metadata.annotations: Too long: may not be more than 262144 bytes"]);
    assert!(
        !created(&kind::SERVICE, json!({"metadata": {"name": "1a"}, "spec": {"ports": [{"port": 1}]}}))
            .is_empty()
    );
}

#[test]
fn pods_need_containers_names_and_images() {
    assert_eq!(created(&kind::POD, json!({})), ["spec.containers: Required value"]);
    assert_eq!(
        created(
            &kind::POD,
            json!({"spec": {"containers": [{}, {"name": "a", "image": "i"}, {"name": "a", "image": " i"}]}})
        ),
        [
            "spec.containers[0].name: Required value",
            "spec.containers[0].image: Required value",
            "spec.containers[2].name: Duplicate value: \"a\"",
            "spec.containers[2].image: Invalid value: \" i\": must not have leading or trailing whitespace",
        ]
    );
    assert_eq!(
        created(
            &kind::POD,
            json!({"spec": {"restartPolicy": "Sometimes", "containers": [{"name": "a", "image": "i"}]}})
        ),
        [
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Never\", \"OnFailure\""
        ]
    );
}

#[test]
fn container_fields() {
    for (container, message) in [
        (
            json!({"ports": [{"containerPort": 70000}]}),
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (json!({"ports": [{}]}), "spec.containers[0].ports[0].containerPort: Required value"),
        (
            json!({"ports": [{"containerPort": 1, "protocol": "ICMP"}]}),
            "spec.containers[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ),
        (
            json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}),
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
        ),
        (
            json!({"imagePullPolicy": "Often"}),
            "spec.containers[0].imagePullPolicy: Unsupported value: \"Often\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
        ),
        (
            json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}),
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ),
        (
            json!({"resources": {"requests": {"cpu": "-1"}}}),
            "spec.containers[0].resources.requests[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
        ),
        (
            json!({"livenessProbe": {}}),
            "spec.containers[0].livenessProbe: Required value: must specify a handler type",
        ),
        (
            json!({"livenessProbe": {"exec": {"command": ["x"]}, "successThreshold": 2}}),
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (
            json!({"env": [{"name": "A=B"}]}),
            "spec.containers[0].env[0].name: Invalid value: \"A=B\": a valid environment variable name must consist only of printable ASCII characters other than '='",
        ),
        (
            json!({"securityContext": {"runAsUser": -1}}),
            "spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
        ),
    ] {
        assert_eq!(created(&kind::POD, pod(&container)), [message]);
    }
}

#[test]
fn volumes() {
    let with = |volumes: Value| {
        created(
            &kind::POD,
            json!({"spec": {"containers": [{"name": "c", "image": "i"}], "volumes": volumes}}),
        )
    };
    assert!(with(json!([{"name": "a"}, {"name": "b", "secret": {"secretName": "s"}}])).is_empty());
    assert_eq!(
        with(json!([{"name": "a", "emptyDir": {}, "hostPath": {"path": "/x"}}])),
        ["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"]
    );
    assert_eq!(
        with(json!([{"name": "a", "secret": {}}])),
        ["spec.volumes[0].secret.secretName: Required value"]
    );
    assert_eq!(
        with(json!([{"name": "a", "configMap": {"name": "m", "items": [{"key": "k", "path": "../x"}]}}])),
        ["spec.volumes[0].configMap.items[0].path: Invalid value: \"../x\": must not contain '..'"]
    );
}

#[test]
fn stored_pods_hardly_change() {
    let old = pod(&json!({}));
    let mut image = old.clone();
    image["spec"]["containers"][0]["image"] = "j".into();
    // The pull policy was defaulted when the Pod was made, and stays.
    image["spec"]["containers"][0]["imagePullPolicy"] = "Always".into();
    assert!(updated(&kind::POD, &image, &old).is_empty());
    let mut command = old.clone();
    command["spec"]["containers"][0]["command"] = json!(["x"]);
    let refused = updated(&kind::POD, &command, &old);
    assert!(refused[0].starts_with(
        "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"
    ));
    let mut labelled = old.clone();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    assert!(updated(&kind::POD, &labelled, &old).is_empty());
}

#[test]
fn services() {
    let with = |spec: Value| created(&kind::SERVICE, json!({"spec": spec}));
    assert!(with(json!({"ports": [{"port": 80}]})).is_empty());
    assert!(with(json!({"clusterIP": "None"})).is_empty());
    assert_eq!(with(json!({})), ["spec.ports: Required value"]);
    assert_eq!(
        with(json!({"ports": [{"port": 70000, "targetPort": 1}]})),
        ["spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive"]
    );
    assert_eq!(
        with(json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]})),
        [
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767"
        ]
    );
    assert_eq!(
        with(json!({"ports": [{"port": 80, "nodePort": 30000}]})),
        ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"]
    );
    assert_eq!(
        with(json!({"ports": [{"port": 80}, {"port": 81, "name": "b"}]})),
        ["spec.ports[0].name: Required value"]
    );
    assert_eq!(
        with(json!({"type": "Cloud", "ports": [{"port": 80}]})),
        [
            "spec.type: Unsupported value: \"Cloud\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\""
        ]
    );
    assert_eq!(with(json!({"type": "ExternalName"})), ["spec.externalName: Required value"]);
    assert_eq!(with(json!({"clusterIP": "ten", "ports": [{"port": 1}]})).len(), 1);
}

#[test]
fn what_only_load_balancers_have() {
    let with = |spec: Value| {
        let mut whole = json!({"type": "LoadBalancer", "ports": [{"port": 80}]});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        created(&kind::SERVICE, json!({"spec": whole}))
    };
    let local = json!({"externalTrafficPolicy": "Local", "healthCheckNodePort": 30001});
    for right in [local, json!({"loadBalancerClass": "weft.io/announce", "loadBalancerIP": "192.0.2.1"})] {
        assert_eq!(with(right), Vec::<String>::new());
    }
    for (wrong, field) in [
        (json!({"healthCheckNodePort": 30001}), "spec.healthCheckNodePort"),
        (json!({"loadBalancerIP": "ten"}), "spec.loadBalancerIP"),
        (json!({"loadBalancerClass": "a b"}), "spec.loadBalancerClass"),
        (json!({"type": "NodePort", "loadBalancerClass": "a"}), "spec.loadBalancerClass"),
        (json!({"externalIPs": ["127.0.0.1"]}), "spec.externalIPs[0]"),
        (
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}}),
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
        ),
    ] {
        let said = with(wrong);
        assert!(said.len() == 1 && said[0].starts_with(field), "{said:?}");
    }
    let old = json!({"spec": {"type": "LoadBalancer", "loadBalancerClass": "a", "ports": [{"port": 80}]}});
    let mut new = old.clone();
    new["spec"]["loadBalancerClass"] = "b".into();
    assert_eq!(
        updated(&kind::SERVICE, &new, &old),
        ["spec.loadBalancerClass: Invalid value: \"b\": may not change once set"]
    );
}

#[test]
fn a_services_address_stays() {
    let old =
        json!({"spec": {"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "ports": [{"port": 80}]}});
    let mut new = old.clone();
    new["spec"]["clusterIP"] = "10.96.0.10".into();
    new["spec"]["clusterIPs"] = json!(["10.96.0.10"]);
    assert_eq!(
        updated(&kind::SERVICE, &new, &old),
        ["spec.clusterIPs[0]: Invalid value: [\"10.96.0.10\"]: may not change once set"]
    );
    new["spec"].as_object_mut().unwrap().remove("clusterIP");
    new["spec"].as_object_mut().unwrap().remove("clusterIPs");
    assert!(!updated(&kind::SERVICE, &new, &old).is_empty());
}

#[test]
fn addresses_and_families_belong_together() {
    let with = |spec: Value| {
        let mut whole = json!({"ports": [{"port": 80}]});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        created(&kind::SERVICE, json!({"spec": whole}))
    };
    let both = json!(["10.96.0.9", "fd00:96::9"]);
    for right in [
        json!({"clusterIP": "10.96.0.9", "clusterIPs": both, "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack"}),
        json!({"clusterIP": "fd00:96::9"}),
        json!({"clusterIP": "None", "clusterIPs": ["None"], "ipFamilies": ["IPv6", "IPv4"]}),
    ] {
        assert_eq!(with(right), Vec::<String>::new());
    }
    let list = "spec.clusterIPs: Invalid value: ";
    for (wrong, said) in [
        (json!({"clusterIPs": both}), format!("{list}{both}: must be empty when `clusterIP` is not specified")),
        (json!({"clusterIP": "10.96.0.8", "clusterIPs": both}), format!("{list}{both}: first value must match `clusterIP`")),
        (
            json!({"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "10.96.0.8"]}),
            format!("{list}[\"10.96.0.9\",\"10.96.0.8\"]: may specify no more than one IP for each IP family"),
        ),
        (
            json!({"clusterIP": "None", "clusterIPs": ["None", "fd00::1"]}),
            format!("{list}[\"None\",\"fd00::1\"]: 'None' must be the first and only value"),
        ),
        (
            json!({"clusterIP": "a", "clusterIPs": ["a"]}),
            "spec.clusterIPs[0]: Invalid value: \"a\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".into(),
        ),
        (
            json!({"clusterIP": "10.96.0.9", "clusterIPs": both, "ipFamilies": ["IPv6", "IPv4"]}),
            "spec.clusterIPs[0]: Invalid value: \"10.96.0.9\": expected an IPv6 value as indicated by `ipFamilies[0]`".into(),
        ),
        (json!({"ipFamilies": ["IPv4", "IPv4"]}), "spec.ipFamilies[1]: Duplicate value: \"IPv4\"".into()),
        (
            json!({"ipFamilies": ["IPv5"]}),
            "spec.ipFamilies[0]: Unsupported value: \"IPv5\": supported values: \"IPv4\", \"IPv6\"".into(),
        ),
        (
            json!({"trafficDistribution": "PreferNear"}),
            "spec.trafficDistribution: Unsupported value: \"PreferNear\": supported values: \"PreferClose\", \"PreferSameNode\", \"PreferSameZone\"".into(),
        ),
        (
            json!({"ipFamilyPolicy": "Dual"}),
            "spec.ipFamilyPolicy: Unsupported value: \"Dual\": supported values: \"PreferDualStack\", \"RequireDualStack\", \"SingleStack\"".into(),
        ),
        (
            json!({"type": "ExternalName", "externalName": "a.b", "ipFamilyPolicy": "SingleStack"}),
            "spec.ipFamilyPolicy: Forbidden: may not be set for ExternalName services".into(),
        ),
    ] {
        assert_eq!(with(wrong).first(), Some(&said));
    }
    let three = json!({"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00:96::9", "fd00:96::8"]});
    assert!(with(three)[0].ends_with("may only hold up to 2 values"));
}

#[test]
fn a_second_family_comes_and_goes_with_the_policy() {
    let service = |addresses: &[&str], families: &[&str], policy: &str| {
        json!({"spec": {"type": "ClusterIP", "clusterIP": addresses[0], "clusterIPs": addresses, "ipFamilies": families,
            "ipFamilyPolicy": policy, "ports": [{"port": 80}]}})
    };
    let one = service(&["10.96.0.9"], &["IPv4"], "SingleStack");
    let two = service(&["10.96.0.9", "fd00:96::9"], &["IPv4", "IPv6"], "RequireDualStack");
    assert!(updated(&kind::SERVICE, &two, &one).is_empty() && updated(&kind::SERVICE, &one, &two).is_empty());
    let kept = service(&["10.96.0.9"], &["IPv4"], "PreferDualStack");
    assert_eq!(
        updated(&kind::SERVICE, &kept, &two),
        [
            "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be set to 'SingleStack' when releasing the secondary clusterIP",
            "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be set to 'SingleStack' when releasing the secondary ipFamily",
        ]
    );
    let turned = service(&["fd00:96::9", "10.96.0.9"], &["IPv6", "IPv4"], "RequireDualStack");
    let said = updated(&kind::SERVICE, &turned, &two);
    assert!(
        said.len() == 2
            && said[0].starts_with("spec.clusterIPs[0]")
            && said[1].starts_with("spec.ipFamilies[0]"),
        "{said:?}"
    );
    let other = service(&["10.96.0.9", "fd00:96::8"], &["IPv4", "IPv6"], "RequireDualStack");
    assert_eq!(
        updated(&kind::SERVICE, &other, &two),
        ["spec.clusterIPs[1]: Invalid value: [\"10.96.0.9\",\"fd00:96::8\"]: may not change once set"]
    );
    let headless = |families: &[&str]| service(&["None"], families, "SingleStack");
    assert!(updated(&kind::SERVICE, &headless(&["IPv6"]), &headless(&["IPv4"])).is_empty());
}

fn deployment(spec: &Value) -> Value {
    let mut base = json!({"selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}});
    base.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"spec": base})
}

#[test]
fn deployments() {
    assert!(created(&kind::DEPLOYMENT, deployment(&json!({}))).is_empty());
    for (spec, message) in [
        (json!({"replicas": -1}), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        (json!({"selector": null}), "spec.selector: Required value"),
        (
            json!({"selector": {}}),
            "spec.selector: Invalid value: {}: empty selector is invalid for deployment",
        ),
        (
            json!({"selector": {"matchLabels": {"a": "c"}}}),
            "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`",
        ),
        (
            json!({"strategy": {"type": "Recreate", "rollingUpdate": {}}}),
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
        ),
        (
            json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}}),
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
        ),
        (
            json!({"progressDeadlineSeconds": 5, "minReadySeconds": 5}),
            "spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds",
        ),
    ] {
        assert_eq!(created(&kind::DEPLOYMENT, deployment(&spec)), [message]);
    }
    let never = deployment(
        &json!({"template": {"metadata": {"labels": {"a": "b"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}),
    );
    assert_eq!(
        created(&kind::DEPLOYMENT, never),
        ["spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""]
    );
}

#[test]
fn selectors_are_immutable() {
    let old = deployment(&json!({}));
    let new = deployment(&json!({"selector": {"matchLabels": {"a": "b", "c": "d"}},
        "template": {"metadata": {"labels": {"a": "b", "c": "d"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}));
    assert_eq!(
        updated(&kind::DEPLOYMENT, &new, &old),
        ["spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\",\"c\":\"d\"}}: field is immutable"]
    );
    assert!(updated(&kind::DEPLOYMENT, &deployment(&json!({"replicas": 3})), &old).is_empty());
}

#[test]
fn config_and_secrets() {
    assert_eq!(created(&kind::CONFIG_MAP, json!({"data": {"a/b": "c"}})).len(), 1);
    assert_eq!(
        created(&kind::CONFIG_MAP, json!({"data": {"a": "x".repeat(1_100_000)}})),
        [": Too long: may not be more than 1048576 bytes"]
    );
    assert_eq!(
        created(&kind::SECRET, json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}})),
        ["data[tls.key]: Required value"]
    );
    let old = json!({"immutable": true, "data": {"a": "b"}});
    assert_eq!(
        updated(&kind::CONFIG_MAP, &json!({"immutable": true, "data": {"a": "c"}}), &old),
        ["data: Forbidden: field is immutable when `immutable` is set"]
    );
    assert_eq!(
        updated(&kind::SECRET, &json!({"type": "b"}), &json!({"type": "a"})),
        ["type: Invalid value: \"b\": field is immutable"]
    );
}

#[test]
fn small_kinds() {
    assert_eq!(
        created(&kind::LEASE, json!({"spec": {"leaseDurationSeconds": 0}})),
        ["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"]
    );
    assert_eq!(
        created(
            &kind::ENDPOINT_SLICE,
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["127.0.0.1"]}]})
        ),
        [
            "endpoints[0].addresses[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)"
        ]
    );
    assert_eq!(
        created(&kind::NODE, json!({"spec": {"taints": [{"key": "k", "effect": "Later"}]}})),
        [
            "spec.taints[0].effect: Unsupported value: \"Later\": supported values: \"NoExecute\", \"NoSchedule\", \"PreferNoSchedule\""
        ]
    );
    assert_eq!(
        created(&kind::EVENT, json!({"involvedObject": {"namespace": "other"}})),
        ["involvedObject.namespace: Invalid value: \"other\": does not match event.namespace"]
    );
    assert!(
        created(
            &kind::ENDPOINTS,
            json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]})
        )
        .is_empty()
    );
}

#[test]
fn metadata_stays() {
    let old = json!({"metadata": {"name": "x", "uid": "1"}});
    let new = json!({"metadata": {"name": "x", "uid": "2"}});
    let errors = update(&kind::NODE, &new, &old, &Limits::default());
    assert_eq!(told(&errors), ["metadata.uid: Invalid value: \"2\": field is immutable"]);
}

/// Compared each with each, these would keep the server busy for minutes.
#[test]
fn long_lists_are_looked_up() {
    let finalizers =
        |mark: &str| -> Vec<String> { (0..50_000).map(|at| format!("a.b/{mark}{at}")).collect() };
    let of = |finalizers: Vec<String>| json!({"metadata": {"name": "x", "deletionTimestamp": "now", "finalizers": finalizers}});
    let (new, old) = (of(finalizers("new")), of(finalizers("old")));
    let errors = update(&kind::CONFIG_MAP, &new, &old, &Limits::default());
    assert_eq!(errors.len(), 129);
    assert!(errors[0].to_string().ends_with("found new finalizers \"a.b/new0\""), "{}", errors[0]);
    assert!(update(&kind::CONFIG_MAP, &new, &new, &Limits::default()).is_empty());

    let of = |count: usize| {
        let all = (0..count).map(|at| json!({"name": format!("c{at}"), "image": "i"}));
        let mut pod =
            json!({"metadata": {"name": "x"}, "spec": {"ephemeralContainers": all.collect::<Vec<_>>()}});
        crate::default::apply(&kind::POD, &mut pod);
        pod
    };
    let told = |new: usize, old: usize| {
        let errors = update_ephemeral_containers(&of(new), &of(old));
        errors.iter().filter(|error| error.path == "spec.ephemeralContainers").count()
    };
    assert_eq!((told(1, 1), told(1, 3), told(0, 30_000)), (0, 2, 128));
}
