//! Server-side apply by the documentation's rules.

use std::cell::Cell;

use super::*;
use crate::kind;

mod lists;
mod managers;
mod resets;

thread_local! {
    /// How often a change was looked through.
    pub(super) static LOOKED_THROUGH: Cell<usize> = const { Cell::new(0) };
}

fn manager(name: &str) -> Manager<'_> {
    Manager { name, subresource: "", time: Timestamp::UNIX_EPOCH }
}

fn deployment(spec: &Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec})
}

fn applied(current: Option<&Value>, spec: &Value, name: &str) -> Result<Value, Status> {
    apply(&kind::DEPLOYMENT, current, &deployment(spec), manager(name), false)
}

fn owned_by<'a>(object: &'a Value, name: &str) -> &'a Value {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    entries.iter().find(|e| e["manager"] == name).map_or(&Value::Null, |e| &e["fieldsV1"])
}

#[test]
fn a_manager_owns_what_it_states() {
    let made = applied(
        None,
        &json!({"replicas": 1, "template": {"spec": {"containers": [{"name": "a", "image": "i"}]}}}),
        "m",
    )
    .unwrap();
    assert_eq!(
        *owned_by(&made, "m"),
        json!({"f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {
            "k:{\"name\":\"a\"}": {".": {}, "f:image": {}, "f:name": {}}}}}}})
    );
    let entry = &made["metadata"]["managedFields"][0];
    assert_eq!(entry["operation"], "Apply");
    assert_eq!(entry["apiVersion"], "apps/v1");
    assert_eq!(entry["time"], "1970-01-01T00:00:00Z");
}

#[test]
fn a_type_that_is_one_value_is_owned_and_replaced_as_one() {
    let selector = |labels: Value| json!({"selector": {"matchLabels": labels}});
    let made = applied(None, &selector(json!({"app": "a", "tier": "b"})), "m").unwrap();
    assert_eq!(*owned_by(&made, "m"), json!({"f:spec": {"f:selector": {}}}));
    let other = applied(Some(&made), &selector(json!({"app": "a"})), "n").unwrap_err();
    assert_eq!(other.message, "Apply failed with 1 conflict: conflict with \"m\": .spec.selector");
    let changed = applied(Some(&made), &selector(json!({"app": "a"})), "m").unwrap();
    assert_eq!(changed["spec"], selector(json!({"app": "a"})), "nothing of the old one stays");
    // An item of a list, too.
    let secrets = |names: &[&str]| {
        let names: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        json!({"template": {"spec": {"imagePullSecrets": names}}})
    };
    let made = applied(None, &secrets(&["one", "two"]), "m").unwrap();
    let owned = |items: Value| json!({"f:spec": {"f:template": {"f:spec": {"f:imagePullSecrets": items}}}});
    let two = json!({"k:{\"name\":\"one\"}": {}, "k:{\"name\":\"two\"}": {}});
    assert_eq!(*owned_by(&made, "m"), owned(two));
    let fewer = applied(Some(&made), &secrets(&["two"]), "m").unwrap();
    assert_eq!(fewer["spec"], secrets(&["two"]));
}

#[test]
fn what_was_noted_of_parts_is_noted_of_the_whole() {
    let spec = json!({"selector": {"matchLabels": {"app": "a"}}, "template": {"spec": {"imagePullSecrets": [{"name": "one"}]}}});
    let mut made = applied(None, &spec, "m").unwrap();
    let entry = &mut made["metadata"]["managedFields"][0]["fieldsV1"];
    *entry = json!({"f:spec": {
        "f:selector": {"f:matchLabels": {"f:app": {}}},
        "f:template": {"f:spec": {"f:imagePullSecrets": {"k:{\"name\":\"one\"}": {".": {}, "f:name": {}}}}},
    }});
    let again = applied(Some(&made), &spec, "m").unwrap();
    assert_eq!(again["spec"], spec);
    let item = json!({"k:{\"name\":\"one\"}": {}});
    assert_eq!(
        *owned_by(&again, "m"),
        json!({"f:spec": {"f:selector": {}, "f:template": {"f:spec": {"f:imagePullSecrets": item}}}})
    );
    let refused = applied(Some(&made), &json!({"selector": {"matchLabels": {"app": "b"}}}), "n").unwrap_err();
    assert_eq!(refused.message, "Apply failed with 1 conflict: conflict with \"m\": .spec.selector");
}

#[test]
fn what_is_no_longer_stated_goes() {
    let first = json!({"replicas": 1, "template": {"spec": {"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "j"}]}}});
    let made = applied(None, &first, "m").unwrap();
    let second = json!({"template": {"spec": {"containers": [{"name": "a", "image": "k"}]}}});
    let changed = applied(Some(&made), &second, "m").unwrap();
    assert_eq!(changed["spec"], second);
    assert!(owned_by(&changed, "m")["f:spec"].get("f:replicas").is_none());
}

#[test]
fn what_another_owns_stays_and_conflicts() {
    let made = applied(None, &json!({"replicas": 1, "paused": false}), "a").unwrap();
    let shared = applied(Some(&made), &json!({"replicas": 1}), "b").unwrap();
    let refused = applied(Some(&shared), &json!({"replicas": 2}), "b").unwrap_err();
    assert_eq!((refused.code, refused.reason), (409, "Conflict"));
    assert_eq!(refused.message, "Apply failed with 1 conflict: conflict with \"a\": .spec.replicas");
    assert_eq!(refused.to_json()["details"]["causes"][0]["reason"], "FieldManagerConflict");
    // b lets go; a still owns the field.
    let left = applied(Some(&shared), &json!({}), "b").unwrap();
    assert_eq!(left["spec"]["replicas"], 1);
    let forced =
        apply(&kind::DEPLOYMENT, Some(&shared), &deployment(&json!({"replicas": 2})), manager("b"), true)
            .unwrap();
    assert_eq!(forced["spec"]["replicas"], 2);
    assert!(owned_by(&forced, "a")["f:spec"].get("f:replicas").is_none());
}

#[test]
fn updates_take_fields() {
    let made = applied(None, &json!({"replicas": 1, "paused": true}), "m").unwrap();
    let mut scaled = made.clone();
    scaled["spec"]["replicas"] = 5.into();
    track(&kind::DEPLOYMENT, Some(&made), &mut scaled, manager("kubectl-scale")).unwrap();
    assert_eq!(*owned_by(&scaled, "kubectl-scale"), json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(*owned_by(&scaled, "m"), json!({"f:spec": {"f:paused": {}}}));
    let refused = applied(Some(&scaled), &json!({"replicas": 1, "paused": true}), "m").unwrap_err();
    assert_eq!(
        refused.message,
        "Apply failed with 1 conflict: conflict with \"kubectl-scale\" using apps/v1: .spec.replicas"
    );
    let mut emptied = scaled.clone();
    emptied["spec"].as_object_mut().unwrap().remove("replicas");
    track(&kind::DEPLOYMENT, Some(&scaled), &mut emptied, manager("x")).unwrap();
    assert_eq!(*owned_by(&emptied, "kubectl-scale"), Value::Null);
}

#[test]
fn untracked_objects_belong_to_the_time_before() {
    let live = deployment(&json!({"replicas": 3}));
    let refused = applied(Some(&live), &json!({"replicas": 1}), "m").unwrap_err();
    assert!(refused.message.contains("\"before-first-apply\" using apps/v1: .spec.replicas"));
    assert!(applied(Some(&live), &json!({"replicas": 3}), "m").is_ok());
}

#[test]
fn ports_are_keyed_with_their_default_protocol() {
    let service = |ports: Value| json!({"metadata": {"name": "s"}, "spec": {"ports": ports}});
    let made =
        apply(&kind::SERVICE, None, &service(json!([{"port": 80, "protocol": "TCP"}])), manager("m"), false)
            .unwrap();
    let again = apply(
        &kind::SERVICE,
        Some(&made),
        &service(json!([{"port": 80, "targetPort": 8080}])),
        manager("m"),
        false,
    )
    .unwrap();
    assert_eq!(again["spec"]["ports"].as_array().unwrap().len(), 1);
    assert_eq!(again["spec"]["ports"][0]["targetPort"], 8080);
}

#[test]
fn a_manager_must_name_itself() {
    let refused = applied(None, &json!({}), "").unwrap_err();
    assert_eq!(
        refused.message,
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
    );
    let carried = json!({"metadata": {"managedFields": [{}]}});
    assert_eq!(apply(&kind::POD, None, &carried, manager("m"), false).unwrap_err().code, 400);
}

fn entry(name: &str, operation: &str, fields: &Value) -> Value {
    json!({"manager": name, "operation": operation, "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
        "fieldsV1": fields})
}

/// A Deployment that `kubectl create` made, and what an update by `x` that writes these `managedFields` makes of them.
fn handed_over(managed: &Value) -> Value {
    let mut old = deployment(&json!({"replicas": 1}));
    track(&kind::DEPLOYMENT, None, &mut old, manager("kubectl-create")).unwrap();
    let mut new = old.clone();
    new["metadata"]["managedFields"] = managed.clone();
    track(&kind::DEPLOYMENT, Some(&old), &mut new, manager("x")).unwrap();
    new
}

#[test]
fn a_client_hands_ownership_over() {
    let fields = json!({"f:spec": {"f:replicas": {}}});
    let new = handed_over(&json!([entry("kubectl", "Apply", &fields)]));
    assert_eq!(new["metadata"]["managedFields"], json!([entry("kubectl", "Apply", &fields)]));
    // Who drops the field by an apply now removes it.
    let left = applied(Some(&new), &json!({"paused": true}), "kubectl").unwrap();
    assert!(left["spec"].get("replicas").is_none(), "{left}");
    // What the same write changes is its writer's.
    let mut changed = new.clone();
    changed["metadata"]["managedFields"] = json!([entry("helm", "Apply", &fields)]);
    changed["spec"]["paused"] = true.into();
    track(&kind::DEPLOYMENT, Some(&new), &mut changed, manager("x")).unwrap();
    assert_eq!(*owned_by(&changed, "helm"), fields);
    assert_eq!(*owned_by(&changed, "x"), json!({"f:spec": {"f:paused": {}}}));
}

#[test]
fn one_empty_entry_makes_an_object_nobodys_until_an_apply() {
    for reset in [json!([{}]), json!([{"manager": "", "operation": ""}])] {
        let new = handed_over(&reset);
        assert!(new["metadata"].get("managedFields").is_none(), "{new}");
        let mut later = new.clone();
        later["spec"]["replicas"] = 2.into();
        track(&kind::DEPLOYMENT, Some(&new), &mut later, manager("x")).unwrap();
        assert!(later["metadata"].get("managedFields").is_none(), "{later}");
    }
}

#[test]
fn managed_fields_that_say_nothing_valid_change_nothing() {
    let fields = json!({"f:spec": {"f:replicas": {}}});
    let mut unversioned = entry("m", "Apply", &fields);
    unversioned["apiVersion"] = "".into();
    let mut untyped = entry("m", "Apply", &fields);
    untyped["fieldsType"] = "FieldsV2".into();
    for managed in [
        json!([]),
        json!([{}, {}]),
        json!([entry("m", "Take", &fields)]),
        json!([unversioned]),
        json!([untyped]),
        json!([entry("m", "Apply", &json!({"f:spec": {"k:{\"name\"": {}}}))]),
    ] {
        let new = handed_over(&managed);
        assert_eq!(*owned_by(&new, "kubectl-create"), fields, "{managed}");
        assert_eq!(new["metadata"]["managedFields"].as_array().unwrap().len(), 1, "{managed}");
    }
}

#[test]
fn a_subresource_states_no_ownership() {
    let fields = json!({"f:spec": {"f:replicas": {}}});
    let old = applied(None, &json!({"replicas": 1}), "m").unwrap();
    let mut new = old.clone();
    new["metadata"]["managedFields"] = json!([entry("x", "Apply", &fields)]);
    let status = Manager { subresource: "status", ..manager("x") };
    track(&kind::DEPLOYMENT, Some(&old), &mut new, status).unwrap();
    assert_eq!(new["metadata"]["managedFields"], old["metadata"]["managedFields"]);
}

#[test]
fn applying_the_same_again_changes_nothing_but_times() {
    let config = json!({"replicas": 1});
    let made = applied(None, &config, "a").unwrap();
    let made = applied(Some(&made), &json!({"paused": true}), "b").unwrap();
    let later = Manager { time: Timestamp::from_second(9).unwrap(), ..manager("a") };
    let object = |value: &Value| value.as_object().unwrap().clone();
    let again = apply(&kind::DEPLOYMENT, Some(&made), &deployment(&config), later, false).unwrap();
    assert_ne!(again, made, "it has its own time");
    assert!(changes_nothing(&object(&made), &object(&again)));
    let more = json!({"replicas": 1, "paused": true});
    let more = apply(&kind::DEPLOYMENT, Some(&made), &deployment(&more), later, false).unwrap();
    assert_eq!(more["spec"], made["spec"]);
    assert!(!changes_nothing(&object(&made), &object(&more)), "it owns more now");
}

/// A Deployment with these containers, with which the rest of its spec does not change.
fn with_containers(containers: &Value) -> Value {
    json!({"template": {"spec": {"containers": containers}}})
}

fn containers(object: &Value) -> &Value {
    &object["spec"]["template"]["spec"]["containers"]
}

#[test]
fn an_item_that_two_state_keeps_what_the_other_owns() {
    let both =
        with_containers(&json!([{"name": "a", "image": "i"}, {"name": "b", "image": "j", "tty": true}]));
    let made = applied(None, &both, "m").unwrap();
    let shared = applied(Some(&made), &with_containers(&json!([{"name": "b", "image": "j"}])), "n").unwrap();
    let one = with_containers(&json!([{"name": "a", "image": "i"}]));
    let left = applied(Some(&shared), &one, "m").unwrap();
    assert_eq!(*containers(&left), json!([{"name": "a", "image": "i"}, {"name": "b", "image": "j"}]));
    let gone = applied(Some(&left), &json!({}), "n").unwrap();
    assert_eq!(*containers(&gone), json!([{"name": "a", "image": "i"}]));
}

#[test]
fn an_item_goes_with_the_fields_others_set_in_it_but_did_not_state() {
    let both = with_containers(&json!([{"name": "a", "image": "i"}, {"name": "b", "image": "j"}]));
    let made = applied(None, &both, "m").unwrap();
    let mut set = made.clone();
    set["spec"]["template"]["spec"]["containers"][1]["image"] = "k".into();
    track(&kind::DEPLOYMENT, Some(&made), &mut set, manager("kubectl-set")).unwrap();
    let one = with_containers(&json!([{"name": "a", "image": "i"}]));
    let left = applied(Some(&set), &one, "m").unwrap();
    // As in Kubernetes: the item itself was the applier's alone.
    assert_eq!(*containers(&left), json!([{"name": "a", "image": "i"}]));
    assert_eq!(*owned_by(&left, "kubectl-set"), Value::Null, "nobody owns what is not there");
}

#[test]
fn a_struct_goes_with_its_defaults_once_nobody_owns_any_of_it() {
    let probe = json!({"httpGet": {"path": "/", "port": 80}});
    let stated = with_containers(&json!([{"name": "a", "image": "i", "livenessProbe": probe}]));
    let mut made = applied(None, &stated, "m").unwrap();
    made["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]["periodSeconds"] = 10.into();
    made["spec"]["template"]["spec"]["containers"][0]["tty"] = false.into();
    let bare = with_containers(&json!([{"name": "a", "image": "i"}]));
    let left = applied(Some(&made), &bare, "m").unwrap();
    assert_eq!(*containers(&left), json!([{"name": "a", "image": "i", "tty": false}]));
    // Another's field within keeps the struct, and it alone.
    let mut tuned = made.clone();
    tuned["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]["periodSeconds"] = 5.into();
    track(&kind::DEPLOYMENT, Some(&made), &mut tuned, manager("x")).unwrap();
    let left = applied(Some(&tuned), &bare, "m").unwrap();
    assert_eq!(containers(&left)[0]["livenessProbe"], json!({"periodSeconds": 5}));
}

#[test]
fn pruning_leaves_the_name_and_what_was_stated_empty() {
    let made = deployment(&json!({"replicas": 1}));
    let labelled = json!({"metadata": {"name": "d", "labels": {"a": "b"}}, "spec": {"replicas": 1}});
    let made = apply(&kind::DEPLOYMENT, Some(&made), &labelled, manager("m"), false).unwrap();
    let left = apply(&kind::DEPLOYMENT, Some(&made), &json!({}), manager("m"), false).unwrap();
    assert_eq!(left["metadata"]["name"], "d");
    assert!(left["metadata"].get("labels").is_none(), "{left}");
    let volume =
        |source: Value| json!({"template": {"spec": {"volumes": [{"name": "v", "emptyDir": source}]}}});
    let made = applied(None, &volume(json!({"medium": "Memory"})), "m").unwrap();
    let left = applied(Some(&made), &volume(json!({})), "m").unwrap();
    assert_eq!(left["spec"], volume(json!({})));
}
