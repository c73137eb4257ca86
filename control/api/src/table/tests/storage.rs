//! Kinds of storage, and RuntimeClasses.

use super::*;

#[test]
fn storage() {
    let class = json!({"metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "p", "allowVolumeExpansion": true});
    assert_eq!(
        cells(&kind::STORAGE_CLASS, class),
        [json!("x (default)"), json!("p"), json!("Delete"), json!("Immediate"), json!(true), json!("5m")]
    );
    assert_eq!(cells(&kind::STORAGE_CLASS, json!({}))[0], "x");
    let attributes = json!({"metadata": {"annotations": {"volumeattributesclass.kubernetes.io/is-default-class": "true"}},
        "driverName": "d"});
    assert_eq!(cells(&kind::VOLUME_ATTRIBUTES_CLASS, attributes), ["x (default)", "d", "5m"]);
    let attachment = json!({"spec": {"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "v"}},
        "status": {"attached": true}});
    assert_eq!(
        cells(&kind::VOLUME_ATTACHMENT, attachment),
        [json!("x"), json!("a"), json!("v"), json!("n"), json!(true), json!("5m")]
    );
    let driver = json!({"spec": {"attachRequired": false, "tokenRequests": [{"audience": "a"}, {"audience": "b"}],
        "volumeLifecycleModes": ["Persistent", "Ephemeral"]}});
    let driver = cells(&kind::CSI_DRIVER, driver);
    assert_eq!(driver[1..4], [false, false, false]);
    assert_eq!((&driver[4], &driver[6]), (&json!("a,b"), &json!("Persistent,Ephemeral")));
    let bare = cells(&kind::CSI_DRIVER, json!({}));
    assert_eq!((&bare[1], &bare[4], &bare[6]), (&json!(true), &json!("<unset>"), &json!("<none>")));
    assert_eq!(cells(&kind::CSI_NODE, json!({"spec": {"drivers": [{}, {}]}}))[1], 2);
    let capacity = json!({"storageClassName": "c", "capacity": "1Gi"});
    assert_eq!(cells(&kind::CSI_STORAGE_CAPACITY, capacity), ["x", "c", "1Gi"]);
    assert_eq!(cells(&kind::RUNTIME_CLASS, json!({"handler": "runc"})), ["x", "runc", "5m"]);
}
