//! PersistentVolumes and claims.

use serde_json::json;

use super::*;

fn volume() -> Value {
    json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "nfs": {"server": "s", "path": "/p"}}})
}

#[test]
fn persistent_volumes() {
    let kind = &kind::PERSISTENT_VOLUME;
    assert_eq!(created(kind, volume()), Vec::<String>::new());
    let affinity = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n"]}]}]}});
    let local = with(
        &volume(),
        &[
            ("/spec/nfs", Value::Null),
            ("/spec/local", json!({"path": "/p"})),
            ("/spec/nodeAffinity", affinity),
        ],
    );
    assert_eq!(created(kind, local.clone()), Vec::<String>::new());
    for (base, change, said) in [
        (&volume(), ("/spec/accessModes", json!([])), "spec.accessModes: Required value"),
        (
            &volume(),
            ("/spec/accessModes", json!(["ReadWriteOncePod", "ReadOnlyMany"])),
            "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
        ),
        (
            &volume(),
            ("/spec/accessModes", json!(["ReadSometimes"])),
            "spec.accessModes: Unsupported value: \"ReadSometimes\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
        ),
        (
            &volume(),
            ("/spec/capacity", json!({"storage": "0"})),
            "spec.capacity[storage]: Invalid value: \"0\": must be greater than zero",
        ),
        (
            &volume(),
            ("/spec/capacity", json!({"storage": "1", "cpu": "1"})),
            "spec.capacity: Unsupported value: {\"cpu\":\"1\",\"storage\":\"1\"}: supported values: \"storage\"",
        ),
        (
            &volume(),
            ("/spec/persistentVolumeReclaimPolicy", json!("Keep")),
            "spec.persistentVolumeReclaimPolicy: Unsupported value: \"Keep\": supported values: \"Delete\", \"Recycle\", \"Retain\"",
        ),
        (&volume(), ("/spec/nfs", Value::Null), "spec: Required value: must specify a volume type"),
        (
            &volume(),
            ("/spec/nfs/path", json!("p")),
            "spec.nfs.path: Invalid value: \"p\": must be an absolute path",
        ),
        (&volume(), ("/spec/nfs/server", json!("")), "spec.nfs.server: Required value"),
        (
            &volume(),
            ("/spec/hostPath", json!({"path": "/p"})),
            "spec.nfs: Forbidden: may not specify more than 1 volume type",
        ),
        (
            &volume(),
            ("/spec/volumeMode", json!("Stream")),
            "spec.volumeMode: Unsupported value: \"Stream\": supported values: \"Block\", \"Filesystem\"",
        ),
        (
            &volume(),
            ("/spec/volumeAttributesClassName", json!("fast")),
            "spec.csi: Required value: has to be specified when using volumeAttributesClassName",
        ),
        (
            &local,
            ("/spec/nodeAffinity", Value::Null),
            "spec.nodeAffinity: Required value: Local volume requires node affinity",
        ),
        (
            &local,
            ("/spec/local/path", json!("/a/../b")),
            "spec.local.path: Invalid value: \"/a/../b\": must not contain '..'",
        ),
        (
            &local,
            ("/spec/nodeAffinity", json!({})),
            "spec.nodeAffinity.required: Required value: must specify required node constraints",
        ),
    ] {
        assert_eq!(created(kind, with(base, &[change])), [said]);
    }
    let driven = with(
        &volume(),
        &[("/spec/nfs", Value::Null), ("/spec/csi", json!({"nodeStageSecretRef": {"name": "s"}}))],
    );
    assert_eq!(
        created(kind, driven),
        [
            "spec.csi.driver: Required value",
            "spec.csi.volumeHandle: Required value",
            "spec.csi.nodeStageSecretRef.namespace: Required value",
        ]
    );
    let root = [
        ("/spec/nfs", Value::Null),
        ("/spec/hostPath", json!({"path": "/"})),
        ("/spec/persistentVolumeReclaimPolicy", json!("Recycle")),
    ];
    assert_eq!(
        created(kind, with(&volume(), &root)),
        ["spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'"]
    );
}

#[test]
fn a_volume_is_made_of_one_thing_for_ever() {
    let changed = |changes: &[(&str, Value)]| {
        let prepare = |mut object: Value| {
            object["metadata"] = json!({"name": "x"});
            crate::default::apply(&kind::PERSISTENT_VOLUME, &mut object);
            object
        };
        let (new, old) = (prepare(with(&volume(), changes)), prepare(volume()));
        told(&update(&kind::PERSISTENT_VOLUME, &new, &old, &Limits::default()))
    };
    assert!(
        changed(&[("/spec/capacity/storage", json!("2Gi")), ("/spec/claimRef", json!({"name": "c"}))])
            .is_empty()
    );
    assert_eq!(
        changed(&[("/spec/nfs/path", json!("/q"))]),
        ["spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation"]
    );
    assert_eq!(
        changed(&[("/spec/volumeMode", json!("Block"))]),
        ["volumeMode: Invalid value: \"Block\": field is immutable"]
    );
}

fn claim() -> Value {
    json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
}

#[test]
fn claims() {
    let kind = &kind::PERSISTENT_VOLUME_CLAIM;
    assert_eq!(created(kind, claim()), Vec::<String>::new());
    let snapshot = json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s"});
    assert!(created(kind, with(&claim(), &[("/spec/dataSource", snapshot.clone())])).is_empty());
    for (change, said) in [
        (
            ("/spec/accessModes", json!([])),
            "spec.accessModes: Required value: at least 1 access mode is required",
        ),
        (("/spec/resources", json!({})), "spec.resources[storage]: Required value"),
        (
            ("/spec/resources/requests/storage", json!("0")),
            "spec.resources[storage]: Invalid value: \"0\": must be greater than zero",
        ),
        (
            ("/spec/volumeMode", json!("Stream")),
            "spec.volumeMode: Unsupported value: \"Stream\": supported values: \"Block\", \"Filesystem\"",
        ),
        (
            ("/spec/dataSourceRef", json!({"apiGroup": "a.b", "kind": "K"})),
            "spec.dataSourceRef.name: Required value",
        ),
        (
            ("/spec/dataSourceRef", json!({"kind": "K", "name": "n"})),
            "spec.dataSourceRef: Invalid value: \"K\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
        ),
    ] {
        assert_eq!(created(kind, with(&claim(), &[change])), [said]);
    }
    let other = json!({"kind": "PersistentVolumeClaim", "name": "n"});
    let both = with(&claim(), &[("/spec/dataSource", snapshot), ("/spec/dataSourceRef", other)]);
    assert_eq!(created(kind, both), ["spec: Invalid value: \"spec.dataSource\": must match dataSourceRef"]);
    let class = with(&claim(), &[("/spec/storageClassName", json!("a b"))]);
    assert!(
        created(kind, class)[0]
            .starts_with("spec.storageClassName: Invalid value: \"a b\": a lowercase RFC 1123 subdomain")
    );
}

#[test]
fn a_bound_claim_may_grow() {
    let changed = |old: &Value, changes: &[(&str, Value)]| {
        updated(&kind::PERSISTENT_VOLUME_CLAIM, &with(old, changes), old)
    };
    let fixed = "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
    let grown = [("/spec/resources/requests/storage", json!("2Gi"))];
    assert_eq!(changed(&claim(), &grown), [fixed]);
    let mut bound = claim();
    bound["spec"]["volumeName"] = "v".into();
    bound["spec"]["volumeAttributesClassName"] = "slow".into();
    bound["status"] = json!({"phase": "Bound", "capacity": {"storage": "1Gi"}});
    assert_eq!(changed(&bound, &grown), Vec::<String>::new());
    assert_eq!(
        changed(&bound, &[("/spec/resources/requests/storage", json!("512Mi"))]),
        ["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"]
    );
    assert_eq!(changed(&bound, &[("/spec/volumeName", json!("w"))]), [fixed]);
    assert!(changed(&claim(), &[("/spec/volumeName", json!("w"))]).is_empty());
    assert!(changed(&claim(), &[("/spec/storageClassName", json!("c"))]).is_empty(), "it had none");
    let classed = with(&claim(), &[("/spec/storageClassName", json!("c"))]);
    assert_eq!(changed(&classed, &[("/spec/storageClassName", json!("d"))]), [fixed]);
    assert!(changed(&bound, &[("/spec/volumeAttributesClassName", json!("fast"))]).is_empty());
    assert_eq!(
        changed(&bound, &[("/spec/volumeAttributesClassName", Value::Null)]),
        ["spec.volumeAttributesClassName: Forbidden: update from non-nil value to nil is forbidden"]
    );
}
