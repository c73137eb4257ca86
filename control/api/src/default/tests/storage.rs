//! StorageClasses, VolumeAttachments and CSIDrivers.

use super::*;

#[test]
fn storage() {
    assert_eq!(
        defaulted(&kind::STORAGE_CLASS, json!({"provisioner": "a"})),
        json!({"provisioner": "a", "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"})
    );
    assert_eq!(defaulted(&kind::VOLUME_ATTACHMENT, json!({}))["status"], json!({"attached": false}));
    assert_eq!(
        defaulted(&kind::CSI_DRIVER, json!({"spec": {"podInfoOnMount": true}}))["spec"],
        json!({"attachRequired": true, "podInfoOnMount": true, "storageCapacity": false, "requiresRepublish": false,
            "seLinuxMount": false, "fsGroupPolicy": "ReadWriteOnceWithFSType", "volumeLifecycleModes": ["Persistent"]})
    );
}
