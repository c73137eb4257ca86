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
