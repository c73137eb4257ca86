//! Each patch type against the documentation's own examples.

use serde_json::json;

use super::*;
use crate::kind;

fn patched(type_: PatchType, kind: &Kind, current: &Value, patch: &Value) -> Result<Value, Status> {
    apply(type_, kind, current, patch.to_string().as_bytes())
}

fn strategic(current: &Value, patch: &Value) -> Value {
    patched(PatchType::Strategic, &kind::POD, current, patch).unwrap()
}

#[test]
fn json_patch() {
    let current = json!({"metadata": {"name": "d"}, "spec": {"replicas": 1}});
    let patch = json!([{"op": "replace", "path": "/spec/replicas", "value": 2}]);
    assert_eq!(patched(PatchType::Json, &kind::DEPLOYMENT, &current, &patch).unwrap()["spec"]["replicas"], 2);
    let failing = json!([{"op": "test", "path": "/spec/replicas", "value": 9}]);
    let status = patched(PatchType::Json, &kind::DEPLOYMENT, &current, &failing).unwrap_err();
    assert_eq!((status.code, status.reason), (422, "Invalid"));
    assert_eq!(patched(PatchType::Json, &kind::DEPLOYMENT, &current, &json!({})).unwrap_err().code, 400);
}

#[test]
fn merge_patch() {
    let current = json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"list": [1, 2]}});
    let patch = json!({"metadata": {"labels": {"a": null, "c": "3"}}, "spec": {"list": [3]}});
    assert_eq!(
        patched(PatchType::Merge, &kind::POD, &current, &patch).unwrap(),
        json!({"metadata": {"labels": {"b": "2", "c": "3"}}, "spec": {"list": [3]}})
    );
    assert_eq!(apply(PatchType::Merge, &kind::POD, &current, b"[]").unwrap_err().code, 400);
    assert_eq!(apply(PatchType::Merge, &kind::POD, &current, b"{").unwrap_err().code, 400);
}

#[test]
fn lists_merge_by_key() {
    let pod = json!({"spec": {"containers": [{"name": "a", "image": "1", "args": ["x"]}, {"name": "b"}],
        "tolerations": [{"key": "old"}]}});
    let out = strategic(
        &pod,
        &json!({"spec": {"containers": [{"name": "a", "image": "2", "args": ["y"]}, {"name": "c", "image": "3"}],
            "tolerations": [{"key": "new"}]}}),
    );
    assert_eq!(
        out["spec"]["containers"],
        json!([{"name": "a", "image": "2", "args": ["y"]}, {"name": "b"}, {"name": "c", "image": "3"}])
    );
    // Tolerations have no merge key: the list is replaced.
    assert_eq!(out["spec"]["tolerations"], json!([{"key": "new"}]));
}

#[test]
fn patch_directives() {
    let pod = json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}],
        "nodeSelector": {"x": "y"}, "securityContext": {"runAsUser": 1}}});
    let out = strategic(&pod, &json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}));
    assert_eq!(out["spec"]["containers"], json!([{"name": "b", "image": "2"}]));
    let out =
        strategic(&pod, &json!({"spec": {"containers": [{"name": "a", "tty": true, "$patch": "replace"}]}}));
    assert_eq!(out["spec"]["containers"][0], json!({"name": "a", "tty": true}));
    let out = strategic(&pod, &json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "c"}]}}));
    assert_eq!(out["spec"]["containers"], json!([{"name": "c"}]));
    let out = strategic(
        &pod,
        &json!({"spec": {"nodeSelector": {"$patch": "replace", "z": "1"}, "securityContext": {"$patch": "delete"}}}),
    );
    assert_eq!(out["spec"]["nodeSelector"], json!({"z": "1"}));
    assert!(out["spec"].get("securityContext").is_none());
    let refused =
        patched(PatchType::Strategic, &kind::POD, &pod, &json!({"spec": {"$patch": "explode"}})).unwrap_err();
    assert_eq!((refused.code, refused.message.as_str()), (400, "invalid $patch directive"));
}

#[test]
fn retain_keys() {
    let deployment =
        json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    assert_eq!(
        patched(PatchType::Strategic, &kind::DEPLOYMENT, &deployment, &patch).unwrap()["spec"]["strategy"],
        json!({"type": "Recreate"})
    );
    let pod = json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}});
    let out = strategic(
        &pod,
        &json!({"spec": {"volumes": [{"$retainKeys": ["name", "secret"], "name": "v", "secret": {"secretName": "s"}}]}}),
    );
    assert_eq!(out["spec"]["volumes"], json!([{"name": "v", "secret": {"secretName": "s"}}]));
}

#[test]
fn order_and_scalar_lists() {
    let pod = json!({"metadata": {"finalizers": ["a", "b"]}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
    let out = strategic(
        &pod,
        &json!({"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}], "containers": [{"name": "c"}]},
            "metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c", "b"]}}),
    );
    assert_eq!(out["spec"]["containers"], json!([{"name": "c"}, {"name": "b"}, {"name": "a"}]));
    assert_eq!(out["metadata"]["finalizers"], json!(["b", "c"]));
}

#[test]
fn service_ports_merge_by_port_and_need_it() {
    let service = json!({"spec": {"ports": [{"port": 80, "nodePort": 30080}]}});
    let patch = json!({"spec": {"ports": [{"port": 80, "targetPort": 8080}, {"port": 443}]}});
    assert_eq!(
        patched(PatchType::Strategic, &kind::SERVICE, &service, &patch).unwrap()["spec"]["ports"],
        json!([{"port": 80, "nodePort": 30080, "targetPort": 8080}, {"port": 443}])
    );
    let refused =
        patched(PatchType::Strategic, &kind::SERVICE, &service, &json!({"spec": {"ports": [{"name": "x"}]}}));
    assert_eq!(
        refused.unwrap_err().message,
        "map: {\"name\":\"x\"} does not contain declared merge key: port"
    );
}
