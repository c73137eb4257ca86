//! Events made by `events.k8s.io`.

use super::*;

fn made(key: &str, value: Value) -> Vec<String> {
    let mut event = json!({"metadata": {"name": "e", "namespace": "default"}, "regarding": {"kind": "Pod", "namespace": "default"},
        "reportingController": "example.com/c", "reportingInstance": "i", "action": "Run", "reason": "R", "type": "Normal",
        "eventTime": "2024-01-01T00:00:00.000000Z"});
    event[key] = value;
    told(&create_dialect(&kind::EVENTS_EVENT, &event))
}

#[test]
fn who_reports_and_when_is_said() {
    let none: [&str; 0] = [];
    assert_eq!(made("note", json!("n")), none);
    for (key, value, message) in [
        ("reportingInstance", json!(""), "reportingInstance: Required value"),
        ("action", json!("a".repeat(129)), "action: Invalid value: \"\": can have at most 128 characters"),
        ("reason", json!(""), "reason: Required value"),
        ("note", json!("a".repeat(1025)), "message: Invalid value: \"\": can have at most 1024 characters"),
        ("eventTime", Value::Null, "eventTime: Required value"),
        ("type", json!("Odd"), "type: Invalid value: \"\": has invalid value: Odd"),
        ("deprecatedCount", json!(1), "count: Invalid value: \"\": needs to be unset"),
        ("deprecatedSource", json!({"host": "h"}), "source: Invalid value: \"\": needs to be unset"),
        (
            "deprecatedFirstTimestamp",
            json!("2024-01-01T00:00:00Z"),
            "firstTimestamp: Invalid value: \"\": needs to be unset",
        ),
        (
            "deprecatedLastTimestamp",
            json!("2024-01-01T00:00:00Z"),
            "lastTimestamp: Invalid value: \"\": needs to be unset",
        ),
    ] {
        assert_eq!(made(key, value), [message]);
    }
    assert!(
        made("reportingController", json!("a b"))[0]
            .starts_with("reportingController: Invalid value: \"a b\"")
    );
    assert_eq!(
        told(&create_dialect(&kind::EVENT, &json!({}))),
        none,
        "the core group asks by its own rules alone"
    );
}
