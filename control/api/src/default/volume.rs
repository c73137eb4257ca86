//! Defaults of PersistentVolumes and claims.

use serde_json::{Map, Value};

use super::{made, object, set};

/// What a claim of old may be filled from: group and kind.
const SOURCES: [(&str, &str); 2] =
    [("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot")];

pub(crate) fn persistent_volume(volume: &mut Map<String, Value>) {
    if let Some(status) = made(volume, "status") {
        set(status, "phase", "Pending");
    }
    let Some(spec) = made(volume, "spec") else { return };
    set(spec, "persistentVolumeReclaimPolicy", "Retain");
    set(spec, "volumeMode", "Filesystem");
    if let Some(host) = object(spec, "hostPath")
        && host.get("type").is_none_or(Value::is_null)
    {
        host.insert("type".into(), "".into());
    }
}

pub(crate) fn claim(claim: &mut Map<String, Value>) {
    if let Some(status) = made(claim, "status") {
        set(status, "phase", "Pending");
    }
    let Some(spec) = made(claim, "spec") else { return };
    set(spec, "volumeMode", "Filesystem");
    sources(spec);
}

/// Two fields say what a volume is filled from, and say the same: the older one knows few kinds and no namespace.
fn sources(spec: &mut Map<String, Value>) {
    let text = |source: &Value, key: &str| source.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    let of =
        |spec: &Map<String, Value>, key: &str| spec.get(key).filter(|source| source.is_object()).cloned();
    let old = of(spec, "dataSource");
    let known = |source: &Value| {
        let (group, kind) = (text(source, "apiGroup"), text(source, "kind"));
        SOURCES.contains(&(group.as_str(), kind.as_str()))
    };
    if old.as_ref().is_some_and(|old| !known(old)) {
        spec.remove("dataSource");
    }
    match (of(spec, "dataSource"), of(spec, "dataSourceRef")) {
        (Some(old), None) => {
            spec.insert("dataSourceRef".into(), old);
        }
        (None, Some(new)) if text(&new, "namespace").is_empty() && known(&new) => {
            spec.insert("dataSource".into(), new);
        }
        _ => {}
    }
}
