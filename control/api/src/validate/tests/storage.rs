//! Kinds of storage, and RuntimeClasses.

use super::*;

#[test]
fn storage_classes() {
    let class = |class: Value| created(&kind::STORAGE_CLASS, class);
    assert!(class(json!({"provisioner": "example.com/Disk", "parameters": {"a": ""}})).is_empty());
    let term = |values: Value| json!({"matchLabelExpressions": [{"key": "zone", "values": values}]});
    for (wrong, message) in [
        (json!({}), "provisioner: Required value"),
        (
            json!({"provisioner": "a", "reclaimPolicy": "Recycle"}),
            "reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"",
        ),
        (
            json!({"provisioner": "a", "volumeBindingMode": "Late"}),
            "volumeBindingMode: Unsupported value: \"Late\": supported values: \"Immediate\", \"WaitForFirstConsumer\"",
        ),
        (
            json!({"provisioner": "a", "parameters": {"": "b"}}),
            "parameters: Invalid value: \"\": field can not be empty.",
        ),
        (
            json!({"provisioner": "a", "parameters": {"a": "x".repeat(300_000)}}),
            "parameters: Too long: may not be more than 262144 bytes",
        ),
        (
            json!({"provisioner": "a", "allowedTopologies": [term(json!([]))]}),
            "allowedTopologies[0].matchLabelExpressions[0].values: Required value",
        ),
        (
            json!({"provisioner": "a", "allowedTopologies": [term(json!(["x", "x"]))]}),
            "allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: \"x\"",
        ),
        (
            json!({"provisioner": "a", "allowedTopologies": [term(json!(["x"])), term(json!(["x"]))]}),
            "allowedTopologies[1].matchLabelExpressions: Duplicate value: \"\"",
        ),
    ] {
        assert_eq!(class(wrong), [message]);
    }
    assert!(
        class(json!({"provisioner": "a b"}))[0].starts_with("provisioner: Invalid value: \"a b\": name part")
    );
    let stored = json!({"provisioner": "a", "parameters": {"a": "b"}});
    let changed = |key: &str, value: &str| {
        let mut new = stored.clone();
        new[key] = value.into();
        updated(&kind::STORAGE_CLASS, &new, &stored)
    };
    assert_eq!(
        changed("provisioner", "b"),
        ["provisioner: Forbidden: updates to provisioner are forbidden."]
    );
    assert_eq!(changed("parameters", "b"), ["parameters: Forbidden: updates to parameters are forbidden."]);
    assert_eq!(
        changed("reclaimPolicy", "Retain"),
        ["reclaimPolicy: Invalid value: \"Retain\": field is immutable"]
    );
    assert_eq!(changed("volumeBindingMode", "A").len(), 1);
    assert!(changed("other", "x").is_empty());
    let attributes = |class: Value| created(&kind::VOLUME_ATTRIBUTES_CLASS, class);
    assert_eq!(
        attributes(json!({})),
        ["driverName: Required value", "parameters: Required value: must contain at least one parameter"]
    );
    let of = |driver: &str| json!({"driverName": driver, "parameters": {"a": "b"}});
    assert!(attributes(of("a")).is_empty());
    assert_eq!(
        updated(&kind::VOLUME_ATTRIBUTES_CLASS, &of("a"), &of("b")),
        ["driverName: Forbidden: updates to driverName are forbidden."]
    );
}

#[test]
fn volume_attachments() {
    let with = |source: Value| json!({"spec": {"attacher": "a", "nodeName": "n", "source": source}});
    let attachment = |source: Value| created(&kind::VOLUME_ATTACHMENT, with(source));
    assert!(attachment(json!({"persistentVolumeName": "v"})).is_empty());
    let one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    assert_eq!(attachment(json!({})), [format!("spec.source: Required value: {one}")]);
    assert_eq!(
        attachment(json!({"persistentVolumeName": "v", "inlineVolumeSpec": {}})),
        [format!("spec.source: Forbidden: {one}")]
    );
    assert_eq!(
        attachment(json!({"persistentVolumeName": ""})),
        ["spec.source.persistentVolumeName: Required value: must specify non empty persistentVolumeName"]
    );
    assert_eq!(created(&kind::VOLUME_ATTACHMENT, json!({"spec": {}})).len(), 3);
    let changed = updated(
        &kind::VOLUME_ATTACHMENT,
        &with(json!({"persistentVolumeName": "v"})),
        &with(json!({"persistentVolumeName": "w"})),
    );
    assert!(changed[0].starts_with("spec: Invalid value: ") && changed[0].ends_with("field is immutable"));
    let status = |status: Value| with_status(&kind::VOLUME_ATTACHMENT, &status);
    assert!(status(json!({"attached": true, "attachError": {"message": "a"}})).is_empty());
    assert_eq!(
        status(json!({"attachError": {"message": "a".repeat(1025)}, "detachError": {"errorCode": -1}})),
        [
            "status.attachError.message: Too long: may not be more than 1024 bytes",
            "status.detachError.errorCode: Invalid value: -1: must be between 0 and 2147483647, inclusive",
        ]
    );
    assert_eq!(status(json!({"attachmentMetadata": {"a": "b".repeat(300_000)}})).len(), 1);
}

#[test]
fn drivers() {
    let driver = |spec: Value| created(&kind::CSI_DRIVER, json!({"spec": spec}));
    assert!(
        driver(json!({"tokenRequests": [{"audience": ""}, {"audience": "a", "expirationSeconds": 600}]}))
            .is_empty()
    );
    for (spec, message) in [
        (
            json!({"fsGroupPolicy": "Some"}),
            "spec.fsGroupPolicy: Unsupported value: \"Some\": supported values: \"File\", \"None\", \"ReadWriteOnceWithFSType\"",
        ),
        (
            json!({"tokenRequests": [{"audience": "a"}, {"audience": "a"}]}),
            "spec.tokenRequests[1].audience: Duplicate value: \"a\"",
        ),
        (
            json!({"tokenRequests": [{"audience": "a", "expirationSeconds": 599}]}),
            "spec.tokenRequests[0].expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes",
        ),
        (
            json!({"tokenRequests": [{"audience": "a", "expirationSeconds": 4_294_967_297_i64}]}),
            "spec.tokenRequests[0].expirationSeconds: Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds",
        ),
        (
            json!({"volumeLifecycleModes": ["Some"]}),
            "spec.volumeLifecycleModes: Unsupported value: \"Some\": supported values: \"Ephemeral\", \"Persistent\"",
        ),
        (
            json!({"nodeAllocatableUpdatePeriodSeconds": 9}),
            "spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or equal to 10 seconds",
        ),
    ] {
        assert_eq!(driver(spec), [message]);
    }
    assert_eq!(created(&kind::CSI_DRIVER, json!({})).len(), 4);
    let of =
        |required: bool, pods: bool| json!({"spec": {"attachRequired": required, "podInfoOnMount": pods}});
    assert_eq!(
        updated(&kind::CSI_DRIVER, &of(false, true), &of(true, false)),
        ["spec.attachedRequired: Invalid value: false: field is immutable"]
    );
}

#[test]
fn what_a_node_and_a_class_hold() {
    let node = |drivers: Value| json!({"spec": {"drivers": drivers}});
    let nodes = |drivers: Value| created(&kind::CSI_NODE, node(drivers));
    let driver = |count: i64, id: &str| json!({"name": "a.b", "nodeID": id, "allocatable": {"count": count}});
    assert!(nodes(json!([driver(1, "n")])).is_empty());
    let twice = json!([driver(-1, ""), {"name": "a.b", "nodeID": "x".repeat(193), "topologyKeys": ["a", "a"]}, {"nodeID": "n"}]);
    let wrong = nodes(twice);
    assert_eq!(
        wrong[..3],
        [
            "spec.drivers[0].nodeID: Required value",
            "spec.drivers[0].allocatable.count: Invalid value: -1: must be greater than or equal to 0",
            &format!(
                "spec.drivers[1].nodeID: Invalid value: \"{}\": must be 192 characters or less",
                "x".repeat(193)
            ),
        ]
    );
    assert_eq!(
        wrong[3..],
        [
            "spec.drivers[1].name: Duplicate value: \"a.b\"",
            "spec.drivers[1]: Duplicate value: \"a\"",
            "spec.drivers[2].name: Required value",
        ]
    );
    let change =
        |now: Value, before: Value| updated(&kind::CSI_NODE, &node(json!([now])), &node(json!([before])));
    assert!(change(driver(2, "n"), driver(1, "n")).is_empty());
    assert!(change(driver(1, "m"), driver(1, "n"))[0].starts_with("spec.drivers: Invalid value: "));
    let capacity = |class: &str, amount: &str| json!({"storageClassName": class, "capacity": amount, "nodeTopology": {}});
    assert!(created(&kind::CSI_STORAGE_CAPACITY, capacity("a", "1Gi")).is_empty());
    assert_eq!(
        created(&kind::CSI_STORAGE_CAPACITY, capacity("a", "-1")),
        ["capacity: Invalid value: \"-1\": must be greater than or equal to 0"]
    );
    assert!(
        created(&kind::CSI_STORAGE_CAPACITY, json!({}))[0]
            .starts_with("storageClassName: Invalid value: \"\"")
    );
    assert_eq!(
        updated(&kind::CSI_STORAGE_CAPACITY, &capacity("a", "2Gi"), &capacity("b", "1Gi")),
        ["storageClassName: Invalid value: \"a\": field is immutable"]
    );
}

#[test]
fn runtime_classes() {
    let class = |class: Value| created(&kind::RUNTIME_CLASS, class);
    assert!(
        class(json!({"handler": "runc", "overhead": {"podFixed": {"memory": "1Mi"}},
        "scheduling": {"nodeSelector": {"a": "b"}, "tolerations": [{"operator": "Exists"}]}}))
        .is_empty()
    );
    assert!(class(json!({}))[0].starts_with("handler: Invalid value: \"\": a lowercase RFC 1123 label"));
    assert_eq!(
        class(json!({"handler": "a", "overhead": {"podFixed": {"cpu": "-1"}}})),
        ["overhead.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0"]
    );
    let twice = json!({"operator": "Exists", "key": "a"});
    assert!(
        class(json!({"handler": "a", "scheduling": {"tolerations": [twice, twice]}}))[0]
            .starts_with("scheduling.tolerations[1]: Duplicate value: ")
    );
    assert_eq!(
        updated(&kind::RUNTIME_CLASS, &json!({"handler": "a"}), &json!({"handler": "b"})),
        ["handler: Invalid value: \"a\": field is immutable"]
    );
}
