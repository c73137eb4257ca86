//! Rows of the sets and of what they are made from.

use serde_json::json;

use super::*;

fn template() -> Value {
    json!({"metadata": {"labels": {"p": "q"}}, "spec": {"nodeSelector": {"disk": "ssd"},
        "containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "j"}]}})
}

#[test]
fn sets() {
    let object = json!({"spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template()},
        "status": {"readyReplicas": 2, "desiredNumberScheduled": 5, "currentNumberScheduled": 4, "numberReady": 3,
            "updatedNumberScheduled": 2, "numberAvailable": 1}});
    assert_eq!(cells(&kind::STATEFUL_SET, object.clone()), ["x", "2/3", "5m", "a,b", "i:1,j"]);
    assert_eq!(
        cells(&kind::DAEMON_SET, object),
        [
            json!("x"),
            json!(5),
            json!(4),
            json!(3),
            json!(2),
            json!(1),
            json!("disk=ssd"),
            json!("5m"),
            json!("a,b"),
            json!("i:1,j"),
            json!("app=web")
        ]
    );
    assert_eq!(cells(&kind::DAEMON_SET, json!({}))[6], "<none>");
}

#[test]
fn replication_controllers() {
    let object = json!({"spec": {"replicas": 3, "selector": {"app": "web", "tier": "1"}, "template": template()},
        "status": {"replicas": 2, "readyReplicas": 1}});
    assert_eq!(
        cells(&kind::REPLICATION_CONTROLLER, object),
        [
            json!("x"),
            json!(3),
            json!(2),
            json!(1),
            json!("5m"),
            json!("a,b"),
            json!("i:1,j"),
            json!("app=web,tier=1")
        ]
    );
}

#[test]
fn what_is_kept_to_make_objects_from() {
    let owned = |owner: Value| json!({"metadata": {"ownerReferences": [owner]}, "revision": 4});
    let owner = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "controller": true});
    assert_eq!(
        cells(&kind::CONTROLLER_REVISION, owned(owner)),
        [json!("x"), json!("statefulset.apps/web"), json!(4), json!("5m")]
    );
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "name": "web", "controller": true});
    assert_eq!(cells(&kind::CONTROLLER_REVISION, owned(pod))[1], "pod/web");
    let other = json!({"apiVersion": "v1", "kind": "Pod", "name": "web"});
    assert_eq!(cells(&kind::CONTROLLER_REVISION, owned(other))[1], "<none>");
    assert_eq!(cells(&kind::POD_TEMPLATE, json!({"template": template()})), ["x", "a,b", "i:1,j", "p=q"]);
}
