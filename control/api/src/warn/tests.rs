//! Each warning with the words that a client sees.

use serde_json::json;

use super::*;

fn made(kind: &'static Kind, object: &Value) -> Vec<String> {
    if is_warned_of(kind, true) { of_value(kind, object, true).all } else { Vec::new() }
}

fn pod(spec: &Value) -> Vec<String> {
    made(&kind::POD, &json!({ "metadata": { "name": "a" }, "spec": spec }))
}

#[test]
fn old_names_are_told() {
    let arch = "deprecated since v1.14; use \"kubernetes.io/arch\" instead";
    assert_eq!(
        pod(&json!({ "nodeSelector": { "beta.kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux" } })),
        [format!("spec.nodeSelector[beta.kubernetes.io/arch]: {arch}")]
    );
    let term = json!({ "matchExpressions": [{ "key": "beta.kubernetes.io/arch", "operator": "In", "values": ["a b"] }] });
    let nodes = json!({ "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [term] },
        "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": 1, "preference": term }] } });
    let told = pod(&json!({ "affinity": nodes }));
    let path = "spec.affinity.nodeAffinity";
    assert_eq!(
        told[..2],
        [
            format!(
                "{path}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key: beta.kubernetes.io/arch is {arch}"
            ),
            format!(
                "{path}.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].key: beta.kubernetes.io/arch is {arch}"
            ),
        ]
    );
    assert!(
        told[2].contains("preference.matchExpressions[0].values[0]: a b is invalid, a valid label must"),
        "{told:?}"
    );
    assert_eq!(
        pod(&json!({ "volumes": [{ "name": "v", "rbd": {} }, { "name": "w", "gitRepo": {} }] })),
        [
            "spec.volumes[0].rbd: deprecated in v1.28, non-functional in v1.31+",
            "spec.volumes[1].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
        ]
    );
    let annotated = json!({ "metadata": { "name": "a", "annotations": { "scheduler.alpha.kubernetes.io/critical-pod": "" } } });
    assert_eq!(
        made(&kind::POD, &annotated),
        [
            "metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the \"priorityClassName\" field instead"
        ]
    );
    let class = json!({ "scheduling": { "nodeSelector": { "node-role.kubernetes.io/master": "" } } });
    assert_eq!(
        made(&kind::RUNTIME_CLASS, &class),
        ["scheduling.nodeSelector: use \"node-role.kubernetes.io/control-plane\" instead"]
    );
}

#[test]
fn what_hides_or_overlaps_is_told() {
    let env = |env: Value| pod(&json!({ "containers": [{ "env": env }] }));
    let hides = "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply";
    assert_eq!(env(json!([{ "name": "A", "value": "1" }, { "name": "A", "value": "2" }])), [hides]);
    assert_eq!(env(json!([{ "name": "A", "value": "1" }, { "name": "A", "value": "$(A)" }])), [hides]);
    assert!(env(json!([{ "name": "A", "value": "1" }, { "name": "A", "value": "$(A)2" }])).is_empty());
    let ports = |first: Value, second: Value| {
        pod(&json!({ "containers": [{ "ports": [first] }, { "ports": [second] }] }))
    };
    let port = |more: Value| {
        let mut port = json!({ "containerPort": 80, "protocol": "TCP" });
        port.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        port
    };
    let (at, with) = ("spec.containers[1].ports[0]", "port definition with spec.containers[0].ports[0]");
    assert_eq!(ports(port(json!({})), port(json!({}))), [format!("{at}: duplicate {with}")]);
    assert_eq!(
        ports(port(json!({})), port(json!({ "hostPort": 80 }))),
        [format!("{at}: overlapping {with}")]
    );
    assert_eq!(
        ports(port(json!({ "hostPort": 80 })), port(json!({ "hostPort": 80, "hostIP": "192.0.2.1" }))),
        [format!("{at}: dangerously ambiguous {with}")]
    );
    assert!(ports(port(json!({})), port(json!({ "protocol": "UDP" }))).is_empty());
    let named = ports(port(json!({ "name": "web" })), port(json!({ "name": "web", "containerPort": 81 })));
    assert!(
        named.len() == 1 && named[0].starts_with(&format!("{at}: duplicate port name \"web\"")),
        "{named:?}"
    );
    assert_eq!(
        pod(&json!({ "hostAliases": [{ "ip": "192.0.2.1" }, { "ip": "192.0.2.1" }] })),
        ["spec.hostAliases[1].ip: duplicate ip \"192.0.2.1\""]
    );
    let items = |paths: [&str; 2]| paths.map(|path| json!({ "key": "k", "path": path }));
    assert_eq!(
        pod(
            &json!({ "volumes": [{ "name": "v", "configMap": { "name": "m", "items": items(["a", "a/b"]) } }] })
        ),
        ["volume \"v\" (ConfigMap \"m\"): overlapping paths: \"a/b\" with \"a\""]
    );
    let sources = json!([{ "secret": { "name": "s", "items": items(["a", "b"]) } }, { "serviceAccountToken": { "path": "b" } }]);
    assert_eq!(
        pod(&json!({ "volumes": [{ "name": "v", "projected": { "sources": sources } }] })),
        [
            "volume \"v\" (Projected): overlapping paths: \"b\" (ServiceAccountToken) with \"b\" (Secret \"s\")"
        ]
    );
}

#[test]
fn what_selects_nothing_and_fractions_are_told() {
    let term = json!({ "requiredDuringSchedulingIgnoredDuringExecution": [{ "topologyKey": "a" }] });
    assert_eq!(
        pod(&json!({ "affinity": { "podAntiAffinity": term } })),
        [
            "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: a null labelSelector results in matching no pod"
        ]
    );
    assert_eq!(
        pod(&json!({ "topologySpreadConstraints": [{ "topologyKey": "a" }] })),
        ["spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod"]
    );
    assert_eq!(
        pod(&json!({ "containers": [{ "resources": { "limits": { "memory": "100m", "cpu": "100m" } } }] })),
        [
            "spec.containers[0].resources.limits[memory]: fractional byte value \"100m\" is invalid, must be an integer"
        ]
    );
    let claim = json!({ "metadata": { "annotations": { CLASS_ANNOTATION: "a" } }, "spec": { "resources": { "requests": { "storage": "1500m" } } } });
    assert_eq!(
        made(&kind::PERSISTENT_VOLUME_CLAIM, &claim),
        [
            "metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use \"storageClassName\" attribute instead",
            "spec.resources.requests[storage]: fractional byte value \"1500m\" is invalid, must be an integer",
        ]
    );
    let volume = json!({ "spec": { "persistentVolumeReclaimPolicy": "Recycle" } });
    assert!(
        made(&kind::PERSISTENT_VOLUME, &volume)[0]
            .starts_with("spec.persistentVolumeReclaimPolicy: The Recycle")
    );
}

#[test]
fn templates_names_and_other_kinds() {
    let spec = json!({ "hostAliases": [{ "ip": "a" }, { "ip": "a" }] });
    let path = |kind: &'static Kind, object: Value| made(kind, &object).pop().unwrap_or_default();
    let template = json!({ "spec": { "template": { "spec": spec } }, "metadata": { "name": "a" } });
    let alias = "spec.hostAliases[1].ip: duplicate ip \"a\"";
    for kind in [&kind::DEPLOYMENT, &kind::REPLICA_SET, &kind::STATEFUL_SET, &kind::DAEMON_SET, &kind::JOB] {
        assert_eq!(path(kind, template.clone()), format!("spec.template.{alias}"), "{kind}");
    }
    let cron = json!({ "spec": { "jobTemplate": { "spec": { "template": { "spec": spec } } } } });
    assert_eq!(path(&kind::CRON_JOB, cron), format!("spec.jobTemplate.spec.template.{alias}"));
    let dotted = json!({ "metadata": { "name": "a.b" } });
    assert!(
        made(&kind::POD, &dotted)[0]
            .starts_with("metadata.name: this is used in the Pod's hostname, which can")
    );
    assert!(
        made(&kind::DEPLOYMENT, &dotted)[0]
            .starts_with("metadata.name: this is used in Pod names and hostnames")
    );
    assert!(of_value(&kind::DEPLOYMENT, &dotted, false).all.is_empty());
    assert!(!is_warned_of(&kind::POD, false) && !is_warned_of(&kind::CONFIG_MAP, true));
    assert_eq!(
        made(&kind::ENDPOINTS, &json!({})),
        ["v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"]
    );
    let annotated = |key: &str| json!({ "metadata": { "annotations": { key: "a" } } });
    let ingress = annotated("kubernetes.io/ingress.class");
    assert_eq!(made(&kind::INGRESS, &ingress).len(), 1);
    assert!(of_value(&kind::INGRESS, &ingress, false).all.is_empty());
    assert_eq!(made(&kind::SERVICE_ACCOUNT, &annotated("kubernetes.io/enforce-mountable-secrets")).len(), 1);
    let sctp = json!({ "spec": { "ports": [{ "port": 80, "targetPort": 81, "protocol": "SCTP" }] } });
    assert_eq!(made(&kind::SERVICE, &sctp).len(), 1);
}

#[test]
fn an_answers_head_stays_small() {
    let aliases: Vec<Value> = (0..5000).map(|_| json!({ "ip": "x".repeat(300) })).collect();
    let object = json!({ "spec": { "hostAliases": aliases } });
    let all = of_value(&kind::POD, &object, true).into_bounded();
    assert!(all.len() > 9 && all.iter().map(String::len).sum::<usize>() <= 4096, "{}", all.len());
    assert!(all.iter().all(|warning| warning.chars().count() == 256));
}

#[test]
fn hostile_objects_make_few_warnings() {
    let held = |spec: &Value| {
        let all = pod(spec);
        (all.len(), all.iter().map(String::len).sum::<usize>())
    };
    let ports: Vec<Value> = (0..2000).map(|_| json!({ "containerPort": 1 })).collect();
    let (count, bytes) = held(&json!({ "containers": [{ "ports": ports }] }));
    assert!(count <= 64 && bytes < 16_384, "{count} warnings of {bytes} bytes");
    let name = "x".repeat(100_000);
    let paths: Vec<Value> = (0..2000).map(|_| json!({ "path": "a" })).collect();
    for source in [
        json!({ "name": name, "configMap": { "name": "a", "items": paths } }),
        json!({ "name": "a", "configMap": { "name": name, "items": paths } }),
        json!({ "name": "a", "projected": { "sources": [{ "configMap": { "name": name, "items": paths } }] } }),
        json!({ "name": "a", "configMap": { "name": "a", "items": [{ "path": name }, { "path": name }] } }),
    ] {
        let (count, bytes) = held(&json!({ "volumes": [source] }));
        assert!((1..=64).contains(&count) && bytes < 16_384, "{count} warnings of {bytes} bytes");
    }
    let claims: Vec<Value> = (0..9).map(|_| json!({ "name": name })).collect();
    let (count, bytes) = held(&json!({ "imagePullSecrets": claims }));
    assert!(count == 8 && bytes < 8 * 4200, "{count} warnings of {bytes} bytes");
}

#[test]
fn templates_are_told_of_where_they_change() {
    let spec = json!({ "nodeSelector": { "beta.kubernetes.io/arch": "amd64" } });
    for (kind, pointer, _) in TEMPLATES {
        let mut object = json!({ "metadata": { "name": "a", "uid": "u" } });
        let steps: Vec<&str> = pointer.split('/').skip(1).collect();
        let inner = steps.iter().rev().fold(json!({ "spec": spec }), |inner, step| json!({ *step: inner }));
        object.as_object_mut().unwrap().extend(inner.as_object().unwrap().clone());
        let stored = Object::read(kind, object.to_string().into()).unwrap();
        let before = template(kind, object.as_object().unwrap());
        let other = json!({ "spec": {} });
        assert_eq!(of(&stored, true, None).len(), 1, "{kind}");
        assert_eq!(of(&stored, false, Some(&other)).len(), 1, "{kind}");
        assert_eq!(of(&stored, false, before.as_ref()).len(), 0, "{kind}");
    }
    // Others are told of at each write.
    let claim = json!({ "metadata": { "name": "a", "uid": "u", "annotations": { CLASS_ANNOTATION: "c" } } });
    let stored = Object::read(&kind::PERSISTENT_VOLUME_CLAIM, claim.to_string().into()).unwrap();
    assert_eq!(template(stored.kind, claim.as_object().unwrap()), None);
    assert_eq!(of(&stored, false, None).len(), 1);
}
