//! The managers that a client states: their names, their fields' names, how many there may be.

use super::*;

#[test]
fn names_of_managers_are_short_and_printable() {
    let refused = applied(None, &json!({}), &"x".repeat(129)).unwrap_err();
    assert_eq!((refused.code, refused.reason), (422, "Invalid"));
    assert!(applied(None, &json!({}), &"x".repeat(128)).is_ok());
    assert!(applied(None, &json!({}), "Müller's \"tool\" 漢字").is_ok());
    let refused = applied(None, &json!({}), "a\u{1}b").unwrap_err();
    assert_eq!(
        refused.message,
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Invalid value: \"a\\u0001b\": invalid character \
         U+0001 (at position 1)"
    );
    // As the name of a manager that a client states.
    let fields = json!({"f:spec": {"f:replicas": {}}});
    let stated = |entry: Value| {
        let old = applied(None, &json!({"replicas": 1}), "m").unwrap();
        let mut new = old.clone();
        new["metadata"]["managedFields"] = json!([entry]);
        track(&kind::DEPLOYMENT, Some(&old), &mut new, manager("x")).map(|()| new)
    };
    let refused = stated(entry("a\u{1}b", "Apply", &fields)).unwrap_err();
    assert_eq!(
        refused.message,
        "Deployment.apps \"d\" is invalid: metadata.managedFields[0].manager: Invalid value: \"a\\u0001b\": invalid \
         character U+0001 (at position 1)"
    );
    assert_eq!(stated(entry(&"x".repeat(129), "Apply", &fields)).unwrap_err().code, 422);
    let mut long = entry("n", "Apply", &fields);
    long["subresource"] = "s".repeat(257).into();
    assert_eq!(stated(long).unwrap_err().code, 422);
    assert!(stated(entry("n", "Apply", &fields)).is_ok());
}

#[test]
fn names_of_fields_are_made_canonical() {
    let service = |managed: Value| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "managedFields": managed},
            "spec": {"ports": [{"port": 80, "protocol": "TCP"}]}})
    };
    let ports = |keys: &[&str]| {
        let mut ports = Map::new();
        for (at, key) in keys.iter().enumerate() {
            ports.insert((*key).into(), json!({[".", "f:port"][at % 2]: {}}));
        }
        let mut entry = entry("m", "Update", &json!({"f:spec": {"f:ports": ports}}));
        entry["apiVersion"] = "v1".into();
        entry["time"] = "2027-01-15T10:00:00+02:00".into();
        entry
    };
    let old = service(json!([]));
    let of = |entry: Value| {
        let mut old = old.clone();
        track(&kind::SERVICE, None, &mut old, manager("maker")).unwrap();
        let mut new = old.clone();
        new["metadata"]["managedFields"] = json!([entry]);
        track(&kind::SERVICE, Some(&old), &mut new, manager("x")).unwrap();
        new["metadata"]["managedFields"][0].clone()
    };
    let odd = ports(&["k:{ \"protocol\": \"TCP\", \"port\": 80.0 }", "k:{\"port\":80,\"protocol\":\"TCP\"}"]);
    let made = of(odd);
    let expected =
        json!({"f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}}});
    assert_eq!(made["fieldsV1"], expected);
    assert_eq!(made["time"], "2027-01-15T08:00:00Z");
    // What is no path at all makes all of it void; a letter of a later version is left out.
    for void in ["x", "fx", "é:", "k:[]", "k:{} x", "v:", "i:x"] {
        assert_eq!(of(ports(&[void]))["manager"], "maker", "{void}");
    }
    assert_eq!(of(ports(&["z:later", "k:{\"port\":80,\"protocol\":\"TCP\"}"]))["manager"], "m");
    let mut timeless = ports(&["k:{\"port\":80,\"protocol\":\"TCP\"}"]);
    timeless["time"] = "yesterday".into();
    assert_eq!(of(timeless)["manager"], "maker");
    // What is said of a version that is not served is forgotten, as nothing can be compared with it.
    let mut foreign = ports(&["k:{\"port\":80,\"protocol\":\"TCP\"}"]);
    foreign["apiVersion"] = "v9".into();
    assert_eq!(of(foreign), Value::Null);
}

fn timed(name: &str, subresource: &str, second: i64, field: &str) -> Value {
    let mut entry = entry(name, "Update", &json!({"f:metadata": {"f:labels": {format!("f:{field}"): {}}}}));
    entry["time"] = Timestamp::from_second(second).unwrap().to_string().into();
    if !subresource.is_empty() {
        entry["subresource"] = subresource.into();
    }
    entry
}

/// The entries as manager, subresource, second and number of labels.
fn shown(object: &Value) -> Vec<(String, String, i64, usize)> {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or("").to_owned();
    entries
        .iter()
        .filter(|e| e["operation"] == "Update")
        .map(|e| {
            let second = text(e, "time").parse::<Timestamp>().unwrap().as_second();
            let labels = e["fieldsV1"]["f:metadata"]["f:labels"].as_object().unwrap().len();
            (text(e, "manager"), text(e, "subresource"), second, labels)
        })
        .collect()
}

#[test]
fn the_oldest_updates_are_joined_each_subresource_for_itself() {
    // Sixteen, the youngest first, every other one of the status; and appliers, which are never joined.
    let mut many: Vec<Value> = (0..16)
        .map(|at| timed(&format!("m{at:02}"), ["", "status"][at % 2], 100 - at as i64, &format!("x{at}")))
        .collect();
    for at in 0..40 {
        many.push(entry(&format!("a{at}"), "Apply", &json!({"f:spec": {format!("f:y{at}"): {}}})));
    }
    let new = handed_over(&many.into());
    let own = |name: &str, subresource: &str, second, labels| {
        (name.to_owned(), subresource.to_owned(), second, labels)
    };
    // The eight oldest are m15 down to m08: four of each.
    let joined = [own("ancient-changes", "status", 91, 4), own("ancient-changes", "", 92, 4)];
    let kept = (0..8).rev().map(|at| own(&format!("m{at:02}"), ["", "status"][at % 2], 100 - at as i64, 1));
    assert_eq!(shown(&new), joined.into_iter().chain(kept).collect::<Vec<_>>());
    assert_eq!(new["metadata"]["managedFields"].as_array().unwrap().len(), 50);
}

#[test]
fn what_was_joined_is_joined_with_more() {
    let mut many = vec![timed("ancient-changes", "", 50, "x0")];
    many.extend((1..12).map(|at| timed(&format!("m{at:02}"), "", 40 + at, &format!("x{at}"))));
    let new = handed_over(&many.into());
    let shown = shown(&new);
    assert_eq!(shown.len(), 10, "{shown:?}");
    let ancient: Vec<_> = shown.iter().filter(|(name, ..)| name == "ancient-changes").collect();
    assert_eq!(ancient, [&("ancient-changes".to_owned(), String::new(), 50, 3)]);
    // Read again it is the same: no entry is there twice.
    let mut again = new.clone();
    again["spec"]["paused"] = true.into();
    track(&kind::DEPLOYMENT, Some(&new), &mut again, manager("m11")).unwrap();
    assert_eq!(again["metadata"]["managedFields"].as_array().unwrap().len(), 10);
}

#[test]
fn conflicts_are_told_in_bounds() {
    let labels = |value: &str, count: usize| {
        let labels: Map<String, Value> =
            (0..count).map(|n| (format!("{n:05}{}", "x".repeat(2_000)), value.into())).collect();
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": labels}})
    };
    let made = apply(&kind::DEPLOYMENT, None, &labels("a", 1_000), manager("m"), false).unwrap();
    let refused =
        apply(&kind::DEPLOYMENT, Some(&made), &labels("b", 1_000), manager("n"), false).unwrap_err();
    assert!(
        refused.message.starts_with("Apply failed with 1000 conflicts: conflicts with \"m\":\n- .metadata")
    );
    assert!(
        refused.message.ends_with("\n- and 900 more"),
        "{}",
        &refused.message[refused.message.len() - 50..]
    );
    assert!(refused.to_json().to_string().len() < 256 << 10, "{}", refused.to_json().to_string().len());
    assert_eq!(refused.details.unwrap().causes.len(), 100);
}

/// As Kubernetes' field manager compares a new object with nothing: all that it has is its creator's.
#[test]
fn what_a_new_object_brings_along_is_owned_where_it_has_it_not() {
    let made = |managed: Value| {
        let mut new = deployment(&json!({"replicas": 1}));
        new["metadata"]["managedFields"] = managed;
        track(&kind::DEPLOYMENT, None, &mut new, manager("maker")).map(|()| new)
    };
    let creator = json!({"f:spec": {"f:replicas": {}}});
    let both = json!({"f:spec": {"f:replicas": {}, "f:paused": {}}});
    let new = made(json!([entry("other", "Apply", &both), entry("maker", "Update", &both)])).unwrap();
    assert_eq!(*owned_by(&new, "other"), json!({"f:spec": {"f:paused": {}}}));
    assert_eq!(*owned_by(&new, "maker"), both, "who makes it keeps its own");
    // What is lost as a whole is no entry any more, and its name is nobody's concern.
    let new = made(json!([entry("a\u{1}b", "Apply", &creator)])).unwrap();
    assert_eq!(new["metadata"]["managedFields"].as_array().unwrap().len(), 1);
    let refused = made(json!([entry("a\u{1}b", "Apply", &both)])).unwrap_err();
    assert_eq!((refused.code, refused.reason), (422, "Invalid"), "{}", refused.message);
    // What is not valid, or takes all away, leaves the creator.
    let mut untyped = entry("other", "Apply", &both);
    untyped["fieldsType"] = "FieldsV2".into();
    for managed in [json!([untyped]), json!([{}]), json!([])] {
        let new = made(managed.clone()).unwrap();
        assert_eq!(*owned_by(&new, "maker"), creator, "{managed}");
        assert_eq!(new["metadata"]["managedFields"].as_array().unwrap().len(), 1, "{managed}");
    }
}

#[test]
fn a_change_is_looked_through_once_for_each_kind_however_many_own_the_object() {
    let fields = json!({"f:spec": {"f:minReplicas": {}}});
    let entries: Vec<Value> = (0..1_000)
        .map(|at| {
            let mut entry = entry(&format!("m{at}"), "Apply", &fields);
            entry["apiVersion"] = ["autoscaling/v1", "autoscaling/v2"][at % 2].into();
            entry
        })
        .collect();
    let live = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h", "managedFields": entries}, "spec": {"minReplicas": 1, "maxReplicas": 3}});
    let owners = |object: &Value| object["metadata"]["managedFields"].as_array().unwrap().len();
    for kind in [&kind::HORIZONTAL_POD_AUTOSCALER, &kind::FIRST_HORIZONTAL_POD_AUTOSCALER] {
        let config = json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {"name": "h"},
            "spec": {"maxReplicas": 4}});
        LOOKED_THROUGH.set(0);
        let applied = apply(kind, Some(&live), &config, manager("x"), false).unwrap();
        assert_eq!((owners(&applied), &applied["spec"]["maxReplicas"]), (1_001, &json!(4)));
        assert!(LOOKED_THROUGH.get() <= 4, "{} times", LOOKED_THROUGH.get());
        let mut updated = live.clone();
        updated["spec"]["maxReplicas"] = 5.into();
        LOOKED_THROUGH.set(0);
        track(kind, Some(&live), &mut updated, manager("x")).unwrap();
        assert_eq!((owners(&updated), LOOKED_THROUGH.get()), (1_001, 2));
    }
}
