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
