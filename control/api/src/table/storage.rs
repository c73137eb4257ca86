//! Columns of the kinds of storage, and of RuntimeClasses.

use jiff::Timestamp;
use serde_json::Value;

use super::{AGE, Column, NAME, NONE, Printer, age_of, at, list, name, number, or, printer, text};

const fn flag(name: &'static str, description: &'static str) -> Column {
    Column { name, type_: "boolean", priority: 0, description }
}

fn is(object: &Value, pointer: &str) -> Value {
    object.pointer(pointer).and_then(Value::as_bool).unwrap_or(false).into()
}

/// The name, and whether it is the one that is taken where none is named.
fn class_name(class: &Value, annotations: &[&str]) -> Value {
    let default = annotations.iter().any(|key| {
        class["metadata"]["annotations"][format!("{key}.kubernetes.io/is-default-class")] == "true"
    });
    if default { format!("{} (default)", at(class, "/metadata/name")).into() } else { name(class) }
}

pub(crate) static CLASS: Printer = printer(
    &[
        NAME,
        text("Provisioner", "Who makes the volumes."),
        text("ReclaimPolicy", "What becomes of a volume that is given back."),
        text("VolumeBindingMode", "When a volume is made and bound."),
        flag("AllowVolumeExpansion", "Whether volumes may grow."),
        AGE,
    ],
    class,
);

fn class(class: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        class_name(class, &["storageclass", "storageclass.beta"]),
        at(class, "/provisioner").into(),
        or(at(class, "/reclaimPolicy"), "Delete"),
        or(at(class, "/volumeBindingMode"), "Immediate"),
        is(class, "/allowVolumeExpansion"),
        age_of(class, now),
    ]
}

pub(crate) static ATTRIBUTES_CLASS: Printer =
    printer(&[NAME, text("DriverName", "The driver whose volumes it is about."), AGE], |class, now| {
        vec![
            class_name(class, &["volumeattributesclass"]),
            at(class, "/driverName").into(),
            age_of(class, now),
        ]
    });

pub(crate) static ATTACHMENT: Printer = printer(
    &[
        NAME,
        text("Attacher", "The driver that attaches the volume."),
        text("PV", "The PersistentVolume."),
        text("Node", "The node that it is attached to."),
        flag("Attached", "Whether it is attached."),
        AGE,
    ],
    |attachment, now| {
        vec![
            name(attachment),
            at(attachment, "/spec/attacher").into(),
            at(attachment, "/spec/source/persistentVolumeName").into(),
            at(attachment, "/spec/nodeName").into(),
            is(attachment, "/status/attached"),
            age_of(attachment, now),
        ]
    },
);

pub(crate) static DRIVER: Printer = printer(
    &[
        NAME,
        flag("AttachRequired", "Whether volumes are attached before they are mounted."),
        flag("PodInfoOnMount", "Whether the driver is told of the Pod."),
        flag("StorageCapacity", "Whether the scheduler asks for the capacity."),
        text("TokenRequests", "Audiences of the tokens it wants."),
        flag("RequiresRepublish", "Whether volumes are published again and again."),
        text("Modes", "Kinds of volumes that it serves."),
        AGE,
    ],
    driver,
);

fn driver(driver: &Value, now: Timestamp) -> Vec<Value> {
    let joined = |pointer: &str, text: fn(&Value) -> &str| {
        list(driver, pointer).iter().map(text).collect::<Vec<_>>().join(",")
    };
    let audiences = match driver.pointer("/spec/tokenRequests") {
        Some(Value::Array(_)) => joined("/spec/tokenRequests", |token| at(token, "/audience")),
        _ => "<unset>".to_owned(),
    };
    let required = driver.pointer("/spec/attachRequired").and_then(Value::as_bool).unwrap_or(true);
    vec![
        name(driver),
        required.into(),
        is(driver, "/spec/podInfoOnMount"),
        is(driver, "/spec/storageCapacity"),
        audiences.into(),
        is(driver, "/spec/requiresRepublish"),
        or(&joined("/spec/volumeLifecycleModes", |mode| mode.as_str().unwrap_or("")), NONE),
        age_of(driver, now),
    ]
}

pub(crate) static NODE: Printer =
    printer(&[NAME, number("Drivers", "Number of drivers on the node."), AGE], |node, now| {
        vec![name(node), list(node, "/spec/drivers").len().into(), age_of(node, now)]
    });

pub(crate) static CAPACITY: Printer = printer(
    &[NAME, text("StorageClassName", "The StorageClass it is about."), text("Capacity", "What is left.")],
    |capacity, _| {
        vec![
            name(capacity),
            at(capacity, "/storageClassName").into(),
            or(at(capacity, "/capacity"), "<unset>"),
        ]
    },
);

pub(crate) static RUNTIME_CLASS: Printer =
    printer(&[NAME, text("Handler", "The runtime's own name for it."), AGE], |class, now| {
        vec![name(class), at(class, "/handler").into(), age_of(class, now)]
    });
