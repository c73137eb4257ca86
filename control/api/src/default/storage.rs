//! Defaults of StorageClasses, VolumeAttachments and CSIDrivers.

use serde_json::{Map, Value, json};

use super::{made, object, set};

pub(crate) fn class(class: &mut Map<String, Value>) {
    set(class, "reclaimPolicy", "Delete");
    set(class, "volumeBindingMode", "Immediate");
}

pub(crate) fn attachment(attachment: &mut Map<String, Value>) {
    if let Some(status) = made(attachment, "status") {
        set(status, "attached", false);
    }
}

pub(crate) fn driver(driver: &mut Map<String, Value>) {
    let Some(spec) = object(driver, "spec") else { return };
    set(spec, "attachRequired", true);
    for key in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
        set(spec, key, false);
    }
    set(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    if spec.get("volumeLifecycleModes").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        spec.insert("volumeLifecycleModes".into(), json!(["Persistent"]));
    }
}
