//! Validation of PersistentVolumes.

use serde_json::{Map, Value};

use super::claim::{self, VOLUME_MODES};
use super::{IMMUTABLE, Rules, amount, entries, items, name, one_of, pod, rules, same, text, volume};
use crate::status::{Errors, FieldError};

/// What a volume may be made of, and the texts that each must have.
const SOURCES: &[(&str, &[&str])] = &[
    ("awsElasticBlockStore", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("azureFile", &["secretName", "shareName"]),
    ("cephfs", &[]),
    ("cinder", &["volumeID"]),
    ("csi", &["driver", "volumeHandle"]),
    ("fc", &[]),
    ("flexVolume", &["driver"]),
    ("flocker", &[]),
    ("gcePersistentDisk", &["pdName"]),
    ("glusterfs", &["endpoints", "path"]),
    ("hostPath", &["path"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("local", &["path"]),
    ("nfs", &["server", "path"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("quobyte", &["registry", "volume"]),
    ("rbd", &["image"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("storageos", &["volumeName"]),
    ("vsphereVolume", &["volumePath"]),
];
/// Secrets that a CSI driver is handed.
const SECRETS: &[&str] = &[
    "controllerPublishSecretRef",
    "controllerExpandSecretRef",
    "nodePublishSecretRef",
    "nodeStageSecretRef",
    "nodeExpandSecretRef",
];

/// A PersistentVolume.
pub(crate) static RULES: Rules = Rules {
    create: |object, _, errors| volume(object, errors),
    update: |new, old, _, errors| {
        volume(new, errors);
        update(new, old, errors);
    },
    status: |_, _| {},
};

fn volume(volume: &Value, errors: &mut Errors) {
    let empty = Value::Null;
    let spec = volume.get("spec").unwrap_or(&empty);
    if items(spec, "accessModes").is_empty() {
        errors.push(FieldError::required("spec.accessModes", ""));
    }
    claim::access_modes(spec, "spec", errors);
    capacity(spec, errors);
    let policies = &["Delete", "Recycle", "Retain"];
    one_of(spec, "spec", "persistentVolumeReclaimPolicy", policies, false, errors);
    let affinity = spec.get("nodeAffinity").filter(|a| !a.is_null());
    if let Some(affinity) = affinity {
        let path = "spec.nodeAffinity.required";
        match affinity.get("required").filter(|r| !r.is_null()) {
            Some(required) => pod::node_selector(required, path, errors),
            None => errors.push(FieldError::required(path, "must specify required node constraints")),
        }
    }
    source(spec, affinity.is_some(), errors);
    let class = text(spec, "storageClassName");
    if !class.is_empty() {
        rules(name::dns_subdomain(class), "spec.storageClassName", class, errors);
    }
    one_of(spec, "spec", "volumeMode", VOLUME_MODES, false, errors);
    if let Some(class) = spec.get("volumeAttributesClassName").and_then(Value::as_str) {
        let path = "spec.volumeAttributesClassName";
        if class.is_empty() {
            errors.push(FieldError::required(path, "an empty string is disallowed"));
        } else {
            rules(name::dns_subdomain(class), path, class, errors);
        }
        if spec.get("csi").is_none_or(Value::is_null) {
            let why = "has to be specified when using volumeAttributesClassName";
            errors.push(FieldError::required("spec.csi", why));
        }
    }
}

/// A volume has room and nothing else.
fn capacity(spec: &Value, errors: &mut Errors) {
    let given: Vec<_> = entries(spec, "capacity").collect();
    if given.is_empty() {
        errors.push(FieldError::required("spec.capacity", ""));
    }
    if !matches!(given.as_slice(), [(name, _)] if *name == "storage") {
        let shown = spec.get("capacity").cloned().unwrap_or_else(|| Map::new().into());
        errors.push(FieldError::not_supported("spec.capacity", shown, &["storage"]));
    }
    for (name, amount) in given {
        amount::positive(amount, &format!("spec.capacity[{name}]"), errors);
    }
}

fn source(spec: &Value, bound_to_nodes: bool, errors: &mut Errors) {
    let given: Vec<_> =
        SOURCES.iter().filter(|(key, _)| spec.get(*key).is_some_and(|s| !s.is_null())).collect();
    for (second, _) in given.iter().skip(1) {
        let why = "may not specify more than 1 volume type";
        errors.push(FieldError::forbidden(format!("spec.{second}"), why));
    }
    let Some((kind, texts)) = given.first() else {
        errors.push(FieldError::required("spec", "must specify a volume type"));
        return;
    };
    let (source, path) = (&spec[*kind], format!("spec.{kind}"));
    if *kind != "hostPath" {
        texts.iter().for_each(|key| volume::required(source, &path, key, errors));
    }
    match *kind {
        "hostPath" => {
            volume::host_path(source, &path, errors);
            if text(source, "path").trim_end_matches('/').is_empty()
                && text(spec, "persistentVolumeReclaimPolicy") == "Recycle"
            {
                let why = "may not be 'recycle' for a hostPath mount of '/'";
                errors.push(FieldError::forbidden("spec.persistentVolumeReclaimPolicy", why));
            }
        }
        "local" => {
            let local = text(source, "path");
            if local.split('/').any(|part| part == "..") {
                errors.push(FieldError::invalid(format!("{path}.path"), local, "must not contain '..'"));
            }
            if !bound_to_nodes {
                let why = "Local volume requires node affinity";
                errors.push(FieldError::required("spec.nodeAffinity", why));
            }
        }
        "nfs" => {
            let exported = text(source, "path");
            if !exported.is_empty() && !exported.starts_with('/') {
                let why = "must be an absolute path";
                errors.push(FieldError::invalid(format!("{path}.path"), exported, why));
            }
        }
        "csi" => csi(source, &path, errors),
        _ => {}
    }
}

fn csi(source: &Value, path: &str, errors: &mut Errors) {
    const DRIVER_BYTES_MAX: usize = 63;
    let driver = text(source, "driver");
    if driver.len() > DRIVER_BYTES_MAX {
        errors.push(FieldError::too_long(format!("{path}.driver"), DRIVER_BYTES_MAX));
    }
    if !driver.is_empty() {
        let broken = name::dns_subdomain(&driver.to_lowercase());
        rules(broken, &format!("{path}.driver"), driver, errors);
    }
    for key in SECRETS {
        if let Some(secret) = source.get(*key).filter(|s| !s.is_null()) {
            let path = format!("{path}.{key}");
            volume::required(secret, &path, "name", errors);
            volume::required(secret, &path, "namespace", errors);
        }
    }
}

/// What a volume is made of stays; where it can be reached from is said once.
fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let source = |volume: &Value| -> Value {
        let spec = &volume["spec"];
        let of = |key: &str| (key.to_owned(), spec.get(key).cloned().unwrap_or_default());
        SOURCES.iter().map(|(key, _)| of(key)).collect::<Map<_, _>>().into()
    };
    let (mut now, was) = (source(new), source(old));
    // A Secret for expansion may be named later.
    if was["csi"].is_object() && was["csi"]["controllerExpandSecretRef"].is_null() && now["csi"].is_object() {
        now["csi"]["controllerExpandSecretRef"] = Value::Null;
    }
    if !same(&now, &was) {
        let path = "spec.persistentvolumesource";
        errors.push(FieldError::forbidden(path, format!("{path} is immutable after creation")));
    }
    let (now, was) = (&new["spec"], &old["spec"]);
    if !same(&now["volumeMode"], &was["volumeMode"]) {
        errors.push(FieldError::invalid("volumeMode", now["volumeMode"].clone(), IMMUTABLE));
    }
    if !was["nodeAffinity"].is_null() && !same(&now["nodeAffinity"], &was["nodeAffinity"]) {
        let why = format!("{IMMUTABLE}, except for updating from beta label to GA");
        errors.push(FieldError::invalid("nodeAffinity", now["nodeAffinity"].clone(), why));
    }
    claim::attributes_class(new, old, errors);
}
