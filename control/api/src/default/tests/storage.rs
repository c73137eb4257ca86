//! StorageClasses, VolumeAttachments and CSIDrivers.

use super::*;

#[test]
fn storage() {
    assert_eq!(
        defaulted(&kind::STORAGE_CLASS, json!({"provisioner": "a"})),
        json!({"provisioner": "a", "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"})
    );
    assert_eq!(defaulted(&kind::VOLUME_ATTACHMENT, json!({}))["status"], json!({"attached": false}));
    let driver = |spec: Value| defaulted(&kind::CSI_DRIVER, json!({"spec": spec}))["spec"].clone();
    assert_eq!(
        driver(json!({})),
        json!({"attachRequired": true, "podInfoOnMount": false, "storageCapacity": false, "requiresRepublish": false,
            "seLinuxMount": false, "fsGroupPolicy": "ReadWriteOnceWithFSType", "volumeLifecycleModes": ["Persistent"]})
    );
    let said = driver(
        json!({"attachRequired": false, "podInfoOnMount": true, "volumeLifecycleModes": ["Ephemeral"]}),
    );
    assert_eq!((&said["attachRequired"], &said["podInfoOnMount"]), (&json!(false), &json!(true)));
    assert_eq!(said["volumeLifecycleModes"], json!(["Ephemeral"]));
}
