//! Columns of PersistentVolumes and claims.

use jiff::Timestamp;
use serde_json::Value;

use super::{AGE, NAME, Printer, UNSET, age_of, at, list, name, or, printer, text, wide};

/// Ways to mount a volume, with the short names that are shown, in this order.
const ACCESS_MODES: [(&str, &str); 4] = [
    ("ReadWriteOnce", "RWO"),
    ("ReadOnlyMany", "ROX"),
    ("ReadWriteMany", "RWX"),
    ("ReadWriteOncePod", "RWOP"),
];

pub(crate) static PERSISTENT_VOLUME: Printer = printer(
    &[
        NAME,
        text("Capacity", "The room that the volume has."),
        text("Access Modes", "All ways the volume can be mounted."),
        text("Reclaim Policy", "What becomes of the volume when its claim is gone."),
        text("Status", "Whether the volume is free, bound or released."),
        text("Claim", "The claim that the volume is bound to."),
        text("StorageClass", "StorageClass of the pv"),
        text("VolumeAttributesClass", "VolumeAttributesClass of the pv"),
        text("Reason", "Why the volume is in its state."),
        AGE,
        wide("VolumeMode", "Whether the volume is a filesystem or a block device."),
    ],
    persistent_volume,
);

fn persistent_volume(volume: &Value, now: Timestamp) -> Vec<Value> {
    let claim = match volume.pointer("/spec/claimRef").filter(|claim| claim.is_object()) {
        Some(claim) => format!("{}/{}", at(claim, "/namespace"), at(claim, "/name")),
        None => String::new(),
    };
    vec![
        name(volume),
        or(at(volume, "/spec/capacity/storage"), "0"),
        access_modes(list(volume, "/spec/accessModes")),
        at(volume, "/spec/persistentVolumeReclaimPolicy").into(),
        phase(volume),
        claim.into(),
        class(volume),
        or(at(volume, "/spec/volumeAttributesClassName"), UNSET),
        at(volume, "/status/reason").into(),
        age_of(volume, now),
        or(at(volume, "/spec/volumeMode"), UNSET),
    ]
}

pub(crate) static CLAIM: Printer = printer(
    &[
        NAME,
        text("Status", "Whether the claim has its volume."),
        text("Volume", "The volume that the claim is bound to."),
        text("Capacity", "The room that the volume has."),
        text("Access Modes", "All ways the volume can be mounted."),
        text("StorageClass", "StorageClass of the pvc"),
        text("VolumeAttributesClass", "VolumeAttributesClass of the pvc"),
        AGE,
        wide("VolumeMode", "Whether the volume is a filesystem or a block device."),
    ],
    claim,
);

fn claim(claim: &Value, now: Timestamp) -> Vec<Value> {
    let volume = at(claim, "/spec/volumeName");
    let (capacity, modes) = if volume.is_empty() {
        ("".into(), "".into())
    } else {
        (or(at(claim, "/status/capacity/storage"), "0"), access_modes(list(claim, "/status/accessModes")))
    };
    vec![
        name(claim),
        phase(claim),
        volume.into(),
        capacity,
        modes,
        class(claim),
        or(at(claim, "/spec/volumeAttributesClassName"), UNSET),
        age_of(claim, now),
        or(at(claim, "/spec/volumeMode"), UNSET),
    ]
}

fn phase(object: &Value) -> Value {
    let gone = !at(object, "/metadata/deletionTimestamp").is_empty();
    if gone { "Terminating".into() } else { at(object, "/status/phase").into() }
}

/// The class, by its annotation of old if it has that.
fn class(object: &Value) -> Value {
    let annotation = at(object, "/metadata/annotations/volume.beta.kubernetes.io~1storage-class");
    or(annotation, at(object, "/spec/storageClassName"))
}

fn access_modes(modes: &[Value]) -> Value {
    let shown = ACCESS_MODES.iter().filter(|(mode, _)| modes.iter().any(|m| m == mode));
    shown.map(|(_, short)| *short).collect::<Vec<_>>().join(",").into()
}
