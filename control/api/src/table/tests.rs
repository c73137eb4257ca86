//! Rows as kubectl prints them.

mod admission;
mod certificates;
mod networking;
mod rbac;
mod storage;

use serde_json::json;

use super::*;
use crate::kind;

mod policy;
mod workloads;

fn cells(kind: &Kind, mut object: Value) -> Vec<Value> {
    object["metadata"]["name"] = "x".into();
    object["metadata"]["creationTimestamp"] = "2024-01-01T00:00:00Z".into();
    let now = "2024-01-01T00:05:00Z".parse().unwrap();
    row(kind, &object, now, IncludeObject::None)["cells"].as_array().unwrap().clone()
}

fn pod(status: &Value) -> Vec<Value> {
    cells(
        &kind::POD,
        json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}], "nodeName": "n1"}, "status": status}),
    )
}

#[test]
fn pods() {
    let running = json!({"ready": true, "restartCount": 0, "state": {"running": {}}});
    assert_eq!(
        pod(&json!({"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": [running, running]})),
        ["x", "2/2", "Running", "0", "5m", "10.0.0.1", "n1", "<none>", "<none>"]
    );
    assert_eq!(pod(&json!({"phase": "Pending"}))[1..3], ["0/2", "Pending"]);
    let crashed = json!({"restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"finishedAt": "2024-01-01T00:04:30Z"}}});
    assert_eq!(
        pod(&json!({"phase": "Running", "containerStatuses": [crashed, running]}))[1..4],
        ["1/2", "CrashLoopBackOff", "3 (30s ago)"]
    );
    let done = json!({"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
    assert_eq!(pod(&json!({"phase": "Succeeded", "containerStatuses": [done]}))[2], "Completed");
    assert_eq!(pod(&json!({"phase": "Running", "containerStatuses": [done, running]}))[2], "NotReady");
    let killed = json!({"state": {"terminated": {"exitCode": 137, "signal": 9}}});
    assert_eq!(pod(&json!({"phase": "Failed", "containerStatuses": [killed]}))[2], "Signal:9");
    assert_eq!(pod(&json!({"phase": "Failed", "reason": "Evicted"}))[2], "Evicted");
}

#[test]
fn pods_that_start_or_end() {
    let spec = json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]});
    let with = |status: Value| cells(&kind::POD, json!({"spec": spec, "status": status}));
    let waiting = json!({"name": "i", "state": {"running": {}}});
    assert_eq!(
        with(json!({"phase": "Pending", "initContainerStatuses": [waiting]}))[1..3],
        ["0/2", "Init:0/2"]
    );
    let failed =
        json!({"name": "i", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}, "restartCount": 2});
    assert_eq!(
        with(json!({"phase": "Pending", "initContainerStatuses": [failed]}))[2..4],
        ["Init:Error", "2"]
    );
    let done = json!({"name": "i", "state": {"terminated": {"exitCode": 0}}});
    let sidecar = json!({"name": "s", "state": {"running": {}}, "started": true, "ready": true});
    let main = json!({"ready": true, "state": {"running": {}}});
    assert_eq!(
        with(
            json!({"phase": "Running", "initContainerStatuses": [done, sidecar], "containerStatuses": [main]})
        )[1..3],
        ["2/2", "Running"]
    );
    let going =
        json!({"metadata": {"deletionTimestamp": "2024-01-01T00:00:30Z"}, "status": {"phase": "Running"}});
    assert_eq!(cells(&kind::POD, going)[2], "Terminating");
}

#[test]
fn deployments_and_replica_sets() {
    let spec = json!({"replicas": 3, "selector": {"matchLabels": {"app": "web"}},
        "template": {"spec": {"containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "j"}]}}});
    let status = json!({"replicas": 3, "readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1});
    let object = json!({"spec": spec, "status": status});
    assert_eq!(
        cells(&kind::DEPLOYMENT, object.clone()),
        [
            json!("x"),
            json!("2/3"),
            json!(3),
            json!(1),
            json!("5m"),
            json!("a,b"),
            json!("i:1,j"),
            json!("app=web")
        ]
    );
    assert_eq!(cells(&kind::REPLICA_SET, object)[1..4], [json!(3), json!(3), json!(2)]);
}

#[test]
fn services() {
    let service = |spec: Value| cells(&kind::SERVICE, json!({"spec": spec}));
    assert_eq!(
        service(json!({"type": "NodePort", "clusterIP": "10.96.0.5", "selector": {"a": "b"},
            "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]})),
        ["x", "NodePort", "10.96.0.5", "<none>", "80:30080/TCP,53/UDP", "5m", "a=b"]
    );
    assert_eq!(service(json!({"type": "LoadBalancer"}))[3], "<pending>");
    assert_eq!(
        service(json!({"type": "ExternalName", "externalName": "e.com"}))[2..5],
        ["<none>", "e.com", "<none>"]
    );
}

#[test]
fn endpoints() {
    let slice = json!({"addressType": "IPv4", "ports": [{"port": 80}],
        "endpoints": [{"addresses": ["1"]}, {"addresses": ["2"]}, {"addresses": ["3"]}, {"addresses": ["4"]}]});
    assert_eq!(cells(&kind::ENDPOINT_SLICE, slice)[1..4], ["IPv4", "80", "1,2,3 + 1 more..."]);
    let endpoints = json!({"subsets": [{"addresses": [{"ip": "1.1.1.1"}], "ports": [{"port": 80}]}]});
    assert_eq!(cells(&kind::ENDPOINTS, endpoints)[1], "1.1.1.1:80");
    assert_eq!(cells(&kind::ENDPOINTS, json!({}))[1], "<none>");
}

#[test]
fn nodes() {
    let node = json!({"metadata": {"labels": {"node-role.kubernetes.io/edge": ""}}, "spec": {"unschedulable": true},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "172.16.0.1"}],
            "nodeInfo": {"kubeletVersion": "v1.37.0", "osImage": "Debian"}}});
    assert_eq!(
        cells(&kind::NODE, node),
        [
            "x",
            "Ready,SchedulingDisabled",
            "edge",
            "5m",
            "v1.37.0",
            "172.16.0.1",
            "<none>",
            "Debian",
            "<unknown>",
            "<unknown>"
        ]
    );
    assert_eq!(cells(&kind::NODE, json!({}))[1..3], ["Unknown", "<none>"]);
}

#[test]
fn events() {
    let event = json!({"type": "Warning", "reason": "Failed", "message": "no such image\n", "lastTimestamp": "2024-01-01T00:04:00Z",
        "firstTimestamp": "2024-01-01T00:03:00Z", "count": 2, "involvedObject": {"kind": "Pod", "name": "p"}, "source": {"component": "c", "host": "h"}});
    let cells = cells(&kind::EVENT, event);
    assert_eq!(cells[..4], ["60s", "Warning", "Failed", "pod/p"]);
    assert_eq!(cells[5..8], ["c, h", "no such image", "2m"]);
    assert_eq!(cells[8], 2);
}

#[test]
fn usage_is_that_of_all_containers() {
    let used = |cpu: &str, memory: &str| json!({"usage": {"cpu": cpu, "memory": memory}});
    let pod = json!({"metadata": {"name": "p"}, "window": "10.5s",
        "containers": [used("1500n", "512Ki"), used("999998500n", "512Ki")]});
    assert_eq!(cells(&kind::POD_METRICS, pod)[1..], ["1", "1Mi", "10.5s"]);
    let mut node = used("12m", "3Gi");
    node["window"] = "10s".into();
    assert_eq!(cells(&kind::NODE_METRICS, node)[1..], ["12m", "3Gi", "10s"]);
}

#[test]
fn component_statuses() {
    let told = |status: &str| {
        json!({"metadata": {"name": "etcd-0"}, "conditions": [
        {"type": "Healthy", "status": status, "message": "m", "error": "e"}]})
    };
    assert_eq!(cells(&kind::COMPONENT_STATUS, told("True"))[1..], ["Healthy", "m", "e"]);
    assert_eq!(cells(&kind::COMPONENT_STATUS, told("False"))[1], "Unhealthy");
    assert_eq!(cells(&kind::COMPONENT_STATUS, json!({}))[1], "Unknown");
}

#[test]
fn every_kind_has_as_many_cells_as_columns() {
    for kind in kind::served() {
        let columns = columns(kind);
        assert_eq!(columns.as_array().unwrap().len(), cells(kind, json!({})).len(), "{kind}");
    }
}

#[test]
fn what_goes_along() {
    let object = json!({"metadata": {"name": "x"}, "data": {"a": "b"}});
    let now = Timestamp::UNIX_EPOCH;
    let meta = row(&kind::CONFIG_MAP, &object, now, IncludeObject::Metadata);
    assert_eq!(meta["object"]["kind"], "PartialObjectMetadata");
    assert!(meta["object"].get("data").is_none());
    assert_eq!(row(&kind::CONFIG_MAP, &object, now, IncludeObject::Object)["object"], object);
    let table = table(&kind::CONFIG_MAP, vec![meta], json!({"resourceVersion": "5"}), true);
    assert_eq!(table["columnDefinitions"][0]["format"], "name");
    assert_eq!(table["metadata"]["resourceVersion"], "5");
    assert_eq!(IncludeObject::parse(Some("Everything")), None);
    assert!(wanted("application/json;as=Table;v=v1;g=meta.k8s.io,application/json"));
    assert!(!wanted("application/json"));
}
