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

/// As evanphx/json-patch has it, which Kubernetes uses: kube-rs puts a first finalizer so.
#[test]
fn an_absent_field_is_null_to_a_json_patch_that_tests_it() {
    let current = json!({"metadata": {"name": "web"}});
    let first = |at: &str| {
        let patch = json!([
            {"op": "test", "path": at, "value": null},
            {"op": "add", "path": at, "value": ["a"]},
        ]);
        patched(PatchType::Json, &kind::DEPLOYMENT, &current, &patch)
    };
    assert_eq!(first("/metadata/finalizers").unwrap()["metadata"]["finalizers"], json!(["a"]));
    assert_eq!(first("/metadata/name").unwrap_err().code, 422, "it is there");
    assert_eq!(first("/spec/template").unwrap_err().code, 422, "what it would be in is not there");
    let other = json!([{"op": "test", "path": "/metadata/finalizers", "value": []}]);
    assert_eq!(patched(PatchType::Json, &kind::DEPLOYMENT, &current, &other).unwrap_err().code, 422);
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
        json!([{"name": "a", "image": "2", "args": ["y"]}, {"name": "c", "image": "3"}, {"name": "b"}])
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
    // What is merged anyway may be said to be: of an object, and of an item of a list.
    let merged = json!({"spec": {"$patch": "merge", "nodeSelector": {"$patch": "merge", "z": "1"},
        "containers": [{"name": "b", "tty": true, "$patch": "merge"}]}});
    let out = strategic(&pod, &merged);
    assert_eq!(out["spec"]["nodeSelector"], json!({"x": "y", "z": "1"}));
    assert_eq!(out["spec"]["securityContext"], json!({"runAsUser": 1}));
    assert_eq!(
        out["spec"]["containers"],
        json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2", "tty": true}])
    );
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
    assert_eq!(out["metadata"]["finalizers"], json!(["c", "b"]));
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

#[test]
fn copies_add_no_more_than_a_request() {
    let current = json!({"metadata": {"name": "c"}, "data": {"a": "x".repeat(1_000)}});
    // Each copy is twice the last: 2^40 bytes if nobody counts.
    let doubling: Vec<Value> =
        (0..40).map(|at| json!({"op": "copy", "from": "/data", "path": format!("/data/{at}")})).collect();
    let refused = patched(PatchType::Json, &kind::CONFIG_MAP, &current, &doubling.into()).unwrap_err();
    assert_eq!((refused.code, refused.reason), (422, "Invalid"));
    let told = refused.to_json()["details"]["causes"][0]["message"].to_string();
    assert!(told.contains("the accumulated size increase of copy is"), "{told}");
    let many: Vec<Value> = (0..2_000)
        .map(|at| json!({"op": "copy", "from": "/data/a", "path": format!("/data/{at}")}))
        .collect();
    assert!(patched(PatchType::Json, &kind::CONFIG_MAP, &current, &many.into()).is_ok(), "2 MB fit");
}

#[test]
fn json_patches_make_nothing_deeper_than_can_be_read() {
    let current = json!({"a": {}});
    let step = |op: &str| match op {
        "copy" => json!({"op": "copy", "from": "/a", "path": "/a/b"}),
        _ => json!({"op": "add", "path": "/a", "value": {"b": {"b": {}}}}),
    };
    // A copy into itself is one level more each time.
    let refused: Vec<Value> = (0..200).map(|_| step("copy")).collect();
    let refused = patched(PatchType::Json, &kind::POD, &current, &refused.into()).unwrap_err();
    let told = refused.to_json()["details"]["causes"][0]["message"].to_string();
    assert!(refused.code == 422 && told.contains("deeper than 120 levels"), "{told}");
    let mut moves = vec![step("add")];
    for _ in 0..200 {
        let path = format!("/c{}", "/b".repeat(100));
        moves.push(json!({"op": "add", "path": "/c", "value": deep(100)}));
        moves.push(json!({"op": "move", "from": "/c", "path": "/d"}));
        moves.push(json!({"op": "add", "path": "/c", "value": deep(100)}));
        moves.push(json!({"op": "move", "from": "/d", "path": path}));
    }
    assert_eq!(patched(PatchType::Json, &kind::POD, &current, &moves.into()).unwrap_err().code, 422);
    let fits: Vec<Value> = (0..100).map(|_| step("copy")).collect();
    assert!(patched(PatchType::Json, &kind::POD, &current, &fits.into()).is_ok());
}

fn deep(levels: usize) -> Value {
    (0..levels).fold(json!({}), |inner, _| json!({ "b": inner }))
}

#[test]
fn json_patches_are_bounded_work() {
    let long: Vec<Value> = (0..10_000).map(Value::from).collect();
    let current = json!({ "list": long, "deep": {"list": long} });
    let done = |operations: usize, operation: Value| {
        patched(PatchType::Json, &kind::POD, &current, &vec![operation; operations].into())
    };
    let code = |operations, operation| done(operations, operation).map_err(|refused| refused.code).err();
    // Each shifts ten thousand items and those it has added: 392 of them are four million steps.
    let first = json!({"op": "add", "path": "/list/0", "value": 1});
    assert_eq!(code(392, first.clone()), None);
    assert_eq!(code(393, first), Some(422));
    let taken = json!({"op": "remove", "path": "/list/0"});
    assert_eq!((code(408, taken.clone()), code(409, taken)), (None, Some(422)));
    let turned = json!({"op": "move", "from": "/list/9999", "path": "/list/0"});
    assert_eq!((code(399, turned.clone()), code(400, turned)), (None, Some(422)));
    // A tree that goes about is looked at each time.
    let about = |times: usize| {
        let there = json!({"op": "move", "from": "/deep", "path": "/other"});
        let back = json!({"op": "move", "from": "/other", "path": "/deep"});
        let moves: Vec<Value> = (0..times).map(|at| [&there, &back][at % 2].clone()).collect();
        patched(PatchType::Json, &kind::POD, &current, &moves.into()).map_err(|refused| refused.code).err()
    };
    assert_eq!((about(99), about(100)), (None, Some(422)));
    // What shifts nothing costs nothing.
    for operation in [
        json!({"op": "test", "path": "/list/0", "value": 0}),
        json!({"op": "replace", "path": "/list/0", "value": 0}),
        json!({"op": "add", "path": "/list/-", "value": 0}),
    ] {
        assert_eq!(code(10_000, operation.clone()), None, "{operation}");
    }
    let many = vec![json!({"op": "test", "path": "/list/0", "value": 0}); 10_001];
    let refused = patched(PatchType::Json, &kind::POD, &current, &many.into()).unwrap_err();
    assert_eq!((refused.code, refused.reason), (413, "RequestEntityTooLarge"));
    assert_eq!(
        refused.message,
        "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001"
    );
    // An operation that fails is told by its place in the patch.
    let second = json!([{"op": "test", "path": "/list/0", "value": 0}, {"op": "remove", "path": "/x"}]);
    let refused = patched(PatchType::Json, &kind::POD, &current, &second).unwrap_err();
    assert!(refused.to_json()["details"]["causes"][0]["message"].to_string().contains("operation '/1'"));
}

/// How many keys of items are read while `work` is done.
fn steps(work: impl FnOnce()) -> usize {
    places::STEPS.with(|steps| steps.set(0));
    work();
    places::STEPS.with(std::cell::Cell::get)
}

/// Long lists of both sides, half of whose items are the same.
fn long_lists() -> (Value, Value) {
    let pod = |from: usize| {
        let numbers = from..from + 10_000;
        let containers: Vec<Value> = numbers.clone().map(|n| json!({"name": format!("c{n}")})).collect();
        let finalizers: Vec<Value> = numbers.map(|n| format!("x/{n}").into()).collect();
        json!({"metadata": {"name": "p", "finalizers": finalizers}, "spec": {"containers": containers}})
    };
    (pod(0), pod(5_000))
}

#[test]
fn long_lists_merge_in_steps_of_their_length() {
    let (current, mut patch) = long_lists();
    patch["spec"]["$setElementOrder/containers"] = patch["spec"]["containers"].clone();
    patch["metadata"]["$deleteFromPrimitiveList/finalizers"] =
        current["metadata"]["finalizers"].as_array().unwrap()[..5_000].into();
    let mut out = Value::Null;
    let taken = steps(|| out = strategic(&current, &patch));
    assert_eq!(out["spec"]["containers"].as_array().unwrap().len(), 15_000);
    assert_eq!(out["metadata"]["finalizers"].as_array().unwrap().len(), 10_000);
    assert!(taken < 20 * 40_000, "{taken}");

    let deleted: Vec<Value> =
        (0..10_000).map(|n| json!({"name": format!("c{n}"), "$patch": "delete"})).collect();
    let taken = steps(|| out = strategic(&current, &json!({"spec": {"containers": deleted}})));
    assert_eq!(out["spec"]["containers"], json!([]));
    assert!(taken < 20 * 20_000, "{taken}");
}

#[test]
fn long_lists_are_applied_in_steps_of_their_length() {
    let (first, second) = long_lists();
    let manager = apply::Manager { name: "m", subresource: "", time: jiff::Timestamp::UNIX_EPOCH };
    let mut out = Value::Null;
    let taken = steps(|| {
        let made = apply::apply(&kind::POD, None, &first, manager, false).unwrap();
        out = apply::apply(&kind::POD, Some(&made), &second, manager, false).unwrap();
    });
    assert_eq!(out["spec"], second["spec"]);
    assert!(taken < 40 * 40_000, "{taken}");
}

#[test]
fn new_items_come_where_the_patch_has_them() {
    let pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}});
    let names = |patch: &Value| {
        let out = strategic(&pod, &json!({ "spec": patch }));
        let containers = out["spec"]["containers"].as_array().unwrap();
        containers.iter().map(|c| c["name"].as_str().unwrap().to_owned()).collect::<String>()
    };
    // As `kubectl patch` in Kubernetes' documentation: what is new comes first.
    assert_eq!(names(&json!({"containers": [{"name": "x"}]})), "xabc");
    assert_eq!(names(&json!({"containers": [{"name": "b"}, {"name": "x"}]})), "abxc");
    assert_eq!(names(&json!({"containers": [{"name": "c"}, {"name": "a"}]})), "bca");
    assert_eq!(names(&json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "b"}]})), "acb");
    // An item may go and come back as another.
    let swapped = json!({"containers": [{"name": "b", "image": "i"}, {"name": "b", "$patch": "delete"}]});
    assert_eq!(names(&swapped), "abc");
}

#[test]
fn the_order_names_every_patched_item() {
    let pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
    let patch = |containers: Value, order: Value| {
        let patch = json!({"spec": {"$setElementOrder/containers": order, "containers": containers}});
        patched(PatchType::Strategic, &kind::POD, &pod, &patch)
    };
    let refused =
        patch(json!([{"name": "a", "image": "i"}, {"name": "c"}]), json!([{"name": "a"}, {"name": "b"}]));
    let refused = refused.unwrap_err();
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (
            400,
            "The order in patch list:\n[map[image:i name:a] map[name:c]]\n doesn't match $setElementOrder list:\n\
             [map[name:a] map[name:b]]\n"
        )
    );
    assert!(patch(json!([{"name": "b"}, {"name": "a"}]), json!([{"name": "a"}, {"name": "b"}])).is_err());
    assert!(patch(json!([{"name": "z", "$patch": "delete"}, {"name": "b"}]), json!([{"name": "b"}])).is_ok());
    let finalizers = json!({"metadata": {"$setElementOrder/finalizers": ["a"], "finalizers": ["b"]}});
    assert_eq!(patched(PatchType::Strategic, &kind::POD, &pod, &finalizers).unwrap_err().code, 400);
}
