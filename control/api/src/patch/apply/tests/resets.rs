//! What a write may touch: the object itself not its status, the status nothing else. And whose object it is.

use super::*;

fn whole() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "d", "labels": {"a": "b"}}, "spec": {"replicas": 1}, "status": {"replicas": 7}})
}

fn status_manager(name: &str) -> Manager<'_> {
    Manager { subresource: "status", ..manager(name) }
}

#[test]
fn an_apply_to_the_object_leaves_its_status() {
    let made = apply(&kind::DEPLOYMENT, None, &whole(), manager("m"), false).unwrap();
    let owned = json!({"f:metadata": {"f:labels": {"f:a": {}}}, "f:spec": {"f:replicas": {}}});
    assert_eq!(*owned_by(&made, "m"), owned);
    let mut live = made.clone();
    live["status"] = json!({"replicas": 1});
    track(&kind::DEPLOYMENT, Some(&made), &mut live, status_manager("loop")).unwrap();
    assert_eq!(*owned_by(&live, "loop"), json!({"f:status": {"f:replicas": {}}}));
    // Another status is no conflict, and changes nothing.
    let again = apply(&kind::DEPLOYMENT, Some(&live), &whole(), manager("m"), false).unwrap();
    assert_eq!(again, live);
    // A kind without one has what it says.
    let lease =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "status": {"x": 1}});
    let made = apply(&kind::CONFIG_MAP, None, &lease, manager("m"), false).unwrap();
    assert_eq!(made["status"], json!({"x": 1}));
}

#[test]
fn an_apply_to_the_status_leaves_all_else() {
    let mut config = whole();
    config["spec"]["replicas"] = 9.into();
    config["metadata"]["labels"] = json!({"a": "c"});
    let made = apply(&kind::DEPLOYMENT, None, &whole(), manager("m"), false).unwrap();
    let mut live = made.clone();
    live["status"] = json!({"replicas": 1});
    let told = apply(&kind::DEPLOYMENT, Some(&live), &config, status_manager("n"), false).unwrap();
    assert_eq!((&told["spec"], &told["metadata"]["labels"]), (&live["spec"], &live["metadata"]["labels"]));
    assert_eq!(told["status"], json!({"replicas": 7}));
    assert_eq!(*owned_by(&told, "n"), json!({"f:status": {"f:replicas": {}}}));
    assert_eq!(owned_by(&told, "m"), owned_by(&made, "m"));
    // What it no longer states goes, of the status alone.
    config["status"] = json!({"observedGeneration": 1});
    let fewer = apply(&kind::DEPLOYMENT, Some(&told), &config, status_manager("n"), false).unwrap();
    assert_eq!((&fewer["spec"], &fewer["status"]), (&live["spec"], &json!({"observedGeneration": 1})));
}

#[test]
fn what_was_noted_of_what_is_not_written_takes_nothing_away() {
    let mut live = whole();
    let all = json!({"f:spec": {"f:replicas": {}}, "f:status": {"f:replicas": {}}});
    live["metadata"]["managedFields"] = json!([entry("m", "Apply", &all)]);
    let mut config = whole();
    config.as_object_mut().unwrap().remove("status");
    let again = apply(&kind::DEPLOYMENT, Some(&live), &config, manager("m"), false).unwrap();
    assert_eq!(again["status"], live["status"]);
    assert!(owned_by(&again, "m").get("f:status").is_none(), "{again}");
}

#[test]
fn the_time_before_has_what_the_write_is_about() {
    let live = whole();
    let refused = apply(
        &kind::DEPLOYMENT,
        Some(&live),
        &json!({"metadata": {"name": "d"}, "spec": {"replicas": 2}, "status": {"replicas": 2}}),
        manager("m"),
        false,
    );
    assert_eq!(
        refused.unwrap_err().message,
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using apps/v1: .spec.replicas"
    );
    let same = apply(&kind::DEPLOYMENT, Some(&live), &whole(), manager("m"), false).unwrap();
    assert!(owned_by(&same, "before-first-apply").get("f:status").is_none(), "{same}");
}

#[test]
fn a_new_node_has_the_status_it_came_with_and_nobody_owns_it() {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": {"a": "b"}},
        "status": {"capacity": {"cpu": "1"}}});
    let made = apply(&kind::NODE, None, &node, manager("m"), false).unwrap();
    assert_eq!(made["status"], node["status"]);
    assert_eq!(*owned_by(&made, "m"), json!({"f:metadata": {"f:labels": {"f:a": {}}}}));
    let mut created = node.clone();
    track(&kind::NODE, None, &mut created, manager("m")).unwrap();
    assert_eq!(owned_by(&created, "m"), owned_by(&made, "m"));
}

#[test]
fn an_object_that_is_gone_is_not_made_anew() {
    let mut config = whole();
    config["metadata"]["uid"] = "u-1".into();
    let refused = apply(&kind::DEPLOYMENT, None, &config, manager("m"), false).unwrap_err();
    assert_eq!((refused.code, refused.reason), (409, "Conflict"));
    assert_eq!(
        refused.message,
        "Operation cannot be fulfilled on deployments.apps \"d\": uid mismatch: the provided object specified uid u-1, \
         and no existing object was found"
    );
    config["metadata"]["uid"] = "".into();
    assert!(apply(&kind::DEPLOYMENT, None, &config, manager("m"), false).is_ok());
}

#[test]
fn a_write_to_the_status_owns_what_its_kind_lets_it_change_of_metadata() {
    let object = |kind: &Kind, label: &str| {
        json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {"name": "n",
            "labels": {"a": label}, "annotations": {"b": label}}, "status": {"x": label}})
    };
    let status = json!({"f:x": {}});
    for (kind, owned) in [
        (&kind::NODE, json!({"f:annotations": {"f:b": {}}, "f:labels": {"f:a": {}}})),
        (&kind::DEPLOYMENT, json!({"f:annotations": {"f:b": {}}})),
        (&kind::SERVICE_CIDR, Value::Null),
    ] {
        let live = object(kind, "1");
        let mut expected = json!({"f:metadata": owned, "f:status": status});
        if owned.is_null() {
            expected.as_object_mut().unwrap().remove("f:metadata");
        }
        let config = object(kind, "2");
        let applied = apply(kind, Some(&live), &config, status_manager("m"), true).unwrap();
        assert_eq!(*owned_by(&applied, "m"), expected, "{kind}");
        for (field, name) in [("labels", "a"), ("annotations", "b")] {
            let taken = owned[format!("f:{field}")].is_object();
            let now = &applied["metadata"][field][name];
            assert_eq!(*now == json!("2"), taken, "{kind}: {field} {now}");
        }
        // As an update notes it: only of what it was let change.
        let mut old = live.clone();
        track(kind, None, &mut old, manager("maker")).unwrap();
        let mut new = old.clone();
        for (field, name) in [("labels", "a"), ("annotations", "b")] {
            if owned[format!("f:{field}")].is_object() {
                new["metadata"][field][name] = "2".into();
            }
        }
        new["status"]["x"] = "2".into();
        track(kind, Some(&old), &mut new, status_manager("m")).unwrap();
        assert_eq!(*owned_by(&new, "m"), expected, "{kind}");
    }
}
