//! Defaults of CustomResourceDefinitions.

use serde_json::{Map, Value, json};

use super::{admission, made, object, set};

pub(crate) fn definition(definition: &mut Map<String, Value>) {
    let Some(spec) = object(definition, "spec") else { return };
    if let Some(names) = object(spec, "names") {
        let kind = names.get("kind").and_then(Value::as_str).unwrap_or("").to_owned();
        if !kind.is_empty() {
            set(names, "singular", kind.to_lowercase());
            set(names, "listKind", format!("{kind}List"));
        }
    }
    if let Some(conversion) = made(spec, "conversion") {
        set(conversion, "strategy", "None");
        if let Some(config) = object(conversion, "webhook").and_then(|hook| object(hook, "clientConfig")) {
            admission::client(config);
        }
    }
    let versions = spec.get("versions").and_then(Value::as_array);
    let mut storage = versions.into_iter().flatten().filter(|version| version["storage"] == json!(true));
    let storage = storage.next().and_then(|version| version.get("name").cloned());
    // Objects may be stored in each version that ever was the one for it.
    if let (Some(version), Some(status)) = (storage, made(definition, "status")) {
        let stored = status.entry("storedVersions").or_insert(Value::Null);
        if stored.is_null() {
            *stored = json!([]);
        }
        if let Some(stored) = stored.as_array_mut()
            && !stored.contains(&version)
        {
            stored.push(version);
        }
    }
}
