//! Defaults as the API reference documents them.

mod admission;
mod networking;
mod rbac;
mod storage;

use serde_json::json;

use super::*;
use crate::kind;

mod policy;
mod workloads;

fn defaulted(kind: &Kind, mut object: Value) -> Value {
    apply(kind, &mut object);
    object
}

#[test]
fn pod() {
    let pod = defaulted(
        &kind::POD,
        json!({"spec": {"containers": [{"name": "c", "image": "nginx", "ports": [{"containerPort": 80}],
            "resources": {"limits": {"cpu": "1"}}, "livenessProbe": {"httpGet": {"port": 80}},
            "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]}],
            "volumes": [{"name": "e"}, {"name": "s", "secret": {"secretName": "x"}},
                {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}]}}),
    );
    let spec = &pod["spec"];
    for (key, value) in [
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("securityContext", json!({})),
        ("schedulerName", json!("default-scheduler")),
        ("enableServiceLinks", json!(true)),
    ] {
        assert_eq!(spec[key], value, "{key}");
    }
    let container = &spec["containers"][0];
    assert_eq!(container["imagePullPolicy"], "Always");
    assert_eq!(container["terminationMessagePath"], "/dev/termination-log");
    assert_eq!(container["terminationMessagePolicy"], "File");
    assert_eq!(container["ports"][0]["protocol"], "TCP");
    assert_eq!(container["resources"]["requests"]["cpu"], "1");
    assert_eq!(
        container["livenessProbe"],
        json!({"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10,
            "successThreshold": 1, "failureThreshold": 3})
    );
    assert_eq!(container["env"][0]["valueFrom"]["fieldRef"]["apiVersion"], "v1");
    assert_eq!(spec["volumes"][0]["emptyDir"], json!({}));
    assert_eq!(spec["volumes"][1]["secret"]["defaultMode"], 420);
    assert_eq!(
        spec["volumes"][2]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"],
        3600
    );
    assert_eq!(pod["status"]["phase"], "Pending");
}

#[test]
fn what_is_said_stays() {
    let said = json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "enableServiceLinks": false,
        "containers": [{"image": "a/b:1", "imagePullPolicy": "Never"}]});
    let pod = defaulted(&kind::POD, json!({"spec": said}));
    assert_eq!(pod["spec"]["restartPolicy"], "Never");
    assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 0);
    assert_eq!(pod["spec"]["enableServiceLinks"], false);
    assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], "Never");
}

#[test]
fn pull_policy_follows_the_tag() {
    for (image, policy) in [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("host:5000/nginx", "Always"),
        ("host:5000/nginx:1", "IfNotPresent"),
        ("nginx@sha256:abc", "IfNotPresent"),
    ] {
        let pod = defaulted(&kind::POD, json!({"spec": {"containers": [{"image": image}]}}));
        assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], policy, "{image}");
    }
}

#[test]
fn service() {
    let service =
        defaulted(&kind::SERVICE, json!({"spec": {"ports": [{"port": 80}], "sessionAffinity": "ClientIP"}}));
    assert_eq!(service["spec"]["type"], "ClusterIP");
    assert_eq!(service["spec"]["internalTrafficPolicy"], "Cluster");
    assert_eq!(service["spec"]["ports"][0], json!({"port": 80, "targetPort": 80, "protocol": "TCP"}));
    assert_eq!(service["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], 10_800);
    assert!(service["spec"].get("externalTrafficPolicy").is_none());
    let node_port = defaulted(&kind::SERVICE, json!({"spec": {"type": "NodePort"}}));
    assert_eq!(node_port["spec"]["externalTrafficPolicy"], "Cluster");
}

#[test]
fn deployment() {
    let deployment = defaulted(
        &kind::DEPLOYMENT,
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c"}]}}}}),
    );
    let spec = &deployment["spec"];
    assert_eq!(spec["replicas"], 1);
    assert_eq!(spec["revisionHistoryLimit"], 10);
    assert_eq!(spec["progressDeadlineSeconds"], 600);
    assert_eq!(
        spec["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}})
    );
    assert_eq!(spec["template"]["spec"]["securityContext"], json!({}));
    assert!(spec["template"]["spec"].get("enableServiceLinks").is_none());
    let recreate =
        defaulted(&kind::DEPLOYMENT, json!({"spec": {"replicas": 0, "strategy": {"type": "Recreate"}}}));
    assert_eq!(recreate["spec"]["replicas"], 0);
    assert_eq!(recreate["spec"]["strategy"], json!({"type": "Recreate"}));
}

#[test]
fn small_kinds() {
    let namespace = defaulted(&kind::NAMESPACE, json!({"metadata": {"name": "n"}}));
    assert_eq!(namespace["metadata"]["labels"]["kubernetes.io/metadata.name"], "n");
    assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(namespace["status"]["phase"], "Active");
    let secret = defaulted(&kind::SECRET, json!({"stringData": {"a": "b"}}));
    assert_eq!(secret, json!({"data": {"a": "Yg=="}, "type": "Opaque"}));
    let replica_set = defaulted(&kind::REPLICA_SET, json!({"spec": {"template": {}}}));
    assert_eq!(replica_set["spec"]["replicas"], 1);
}

/// A default that is there already must not change anything: an update applies them again.
#[test]
fn twice_is_once() {
    for (kind, object) in [
        (
            &kind::POD,
            json!({"spec": {"hostNetwork": true, "containers": [{"ports": [{"containerPort": 1}]}], "volumes": [{"name": "a"}]}}),
        ),
        (&kind::SERVICE, json!({"spec": {"type": "LoadBalancer", "ports": [{"port": 1}]}})),
        (&kind::DEPLOYMENT, json!({"spec": {"template": {}}})),
        (&kind::NAMESPACE, json!({"metadata": {"name": "n"}})),
        (&kind::ENDPOINT_SLICE, json!({"ports": [{"port": 1}]})),
        (&kind::STATEFUL_SET, json!({"spec": {"template": {}, "volumeClaimTemplates": [{}]}})),
        (&kind::DAEMON_SET, json!({"spec": {"template": {}}})),
        (&kind::REPLICATION_CONTROLLER, json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}})),
        (&kind::JOB, json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}})),
        (&kind::CRON_JOB, json!({"spec": {"jobTemplate": {"spec": {"template": {}}}}})),
        (&kind::PERSISTENT_VOLUME, json!({"spec": {"hostPath": {"path": "/"}}})),
        (
            &kind::PERSISTENT_VOLUME_CLAIM,
            json!({"spec": {"dataSource": {"kind": "PersistentVolumeClaim", "name": "c"}}}),
        ),
        (&kind::LIMIT_RANGE, json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}}]}})),
        (&kind::HORIZONTAL_POD_AUTOSCALER, json!({"spec": {"behavior": {"scaleUp": {}}}})),
    ] {
        let once = defaulted(kind, object);
        assert_eq!(defaulted(kind, once.clone()), once);
    }
}
