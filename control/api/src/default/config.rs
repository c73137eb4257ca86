//! Defaults of the small kinds: Namespace, Node, Secret, Endpoints, EndpointSlice, Event.

use serde_json::{Map, Value, json};

use super::{made, objects, set};

pub(crate) fn namespace(namespace: &mut Map<String, Value>) {
    let name =
        namespace.get("metadata").and_then(|m| m.get("name")).and_then(Value::as_str).map(str::to_owned);
    if let (Some(name), Some(meta)) = (name.filter(|n| !n.is_empty()), made(namespace, "metadata"))
        && let Some(labels) = made(meta, "labels")
    {
        labels.insert("kubernetes.io/metadata.name".into(), name.into());
    }
    // Only at creation; an update's finalizers are what they are.
    if !namespace.contains_key("status")
        && let Some(spec) = made(namespace, "spec")
    {
        set(spec, "finalizers", json!(["kubernetes"]));
    }
    if let Some(status) = made(namespace, "status") {
        set(status, "phase", "Active");
    }
}

pub(crate) fn node(node: &mut Map<String, Value>) {
    let Some(status) = made(node, "status") else { return };
    if !status.contains_key("allocatable")
        && let Some(capacity) = status.get("capacity").cloned()
    {
        status.insert("allocatable".into(), capacity);
    }
}

/// `stringData` goes into `data`, base64; it is never stored.
pub(crate) fn secret(secret: &mut Map<String, Value>) {
    use base64::Engine as _;
    if let Some(Value::Object(texts)) = secret.remove("stringData")
        && let Some(data) = made(secret, "data")
    {
        for (key, text) in texts {
            let text = text.as_str().unwrap_or("");
            data.insert(key, base64::engine::general_purpose::STANDARD.encode(text).into());
        }
    }
    set(secret, "type", "Opaque");
}

pub(crate) fn endpoints(endpoints: &mut Map<String, Value>) {
    for subset in objects(endpoints, "subsets") {
        for port in objects(subset, "ports") {
            set(port, "protocol", "TCP");
        }
    }
}

pub(crate) fn endpoint_slice(slice: &mut Map<String, Value>) {
    for port in objects(slice, "ports") {
        if port.get("name").is_none_or(Value::is_null) {
            port.insert("name".into(), "".into());
        }
        set(port, "protocol", "TCP");
    }
    if slice.get("endpoints").is_none_or(Value::is_null) {
        slice.insert("endpoints".into(), json!([]));
    }
}

pub(crate) fn event(event: &mut Map<String, Value>) {
    set(event, "type", "Normal");
}

/// A day, unless less or more is asked for.
pub(crate) fn pod_certificate_request(request: &mut Map<String, Value>) {
    if let Some(spec) = made(request, "spec") {
        set(spec, "maxExpirationSeconds", 86_400);
    }
}
