//! An object's JSON in the store and as clients see it.
//!
//! Stored, it has no `metadata.resourceVersion`: the revision of the commit is known only after it. It is put in once,
//! when the cache takes the object up; every reader shares the result.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Map, Value};
use weft_api::kind::Kind;
use weft_api::object::{Object, ReadError};
use weft_api::selector::field_text;

use crate::cache::{Cached, Slot};

/// Serializes an object for the store: `apiVersion`, `kind` and `metadata` first, no `resourceVersion`.
pub(crate) fn stored(object: &Map<String, Value>) -> Result<Bytes, serde_json::Error> {
    let mut out = Vec::with_capacity(1024);
    out.push(b'{');
    let mut first = true;
    let mut field = |out: &mut Vec<u8>, name: &str, value: &Value| -> Result<(), serde_json::Error> {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        serde_json::to_writer(&mut *out, name)?;
        out.push(b':');
        serde_json::to_writer(&mut *out, value)
    };
    for name in ["apiVersion", "kind"] {
        if let Some(value) = object.get(name) {
            field(&mut out, name, value)?;
        }
    }
    let mut metadata = object.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    metadata.remove("resourceVersion");
    field(&mut out, "metadata", &Value::Object(metadata))?;
    for (name, value) in object {
        if !matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            field(&mut out, name, value)?;
        }
    }
    out.push(b'}');
    Ok(out.into())
}

/// Puts the revision into an object's stored bytes.
pub(crate) fn with_revision(stored: &[u8], revision: u64) -> Bytes {
    let Some(at) = metadata_start(stored) else { return Bytes::copy_from_slice(stored) };
    let empty = stored.get(at) == Some(&b'}');
    let text = format!("\"resourceVersion\":\"{revision}\"{}", if empty { "" } else { "," });
    let mut out = BytesMut::with_capacity(stored.len() + text.len());
    out.put_slice(&stored[..at]);
    out.put_slice(text.as_bytes());
    out.put_slice(&stored[at..]);
    out.freeze()
}

/// An object as it was before the commit of `revision`, for whom it is gone since then.
///
/// # Errors
/// The bytes are no object, which one that was read cannot be.
pub(crate) fn as_of(before: &Cached, revision: u64) -> Result<Cached, ReadError> {
    let (json, told) = (&before.object.json, format!("\"resourceVersion\":\"{}\"", before.revision));
    let from = metadata_start(json).filter(|at| json[*at..].starts_with(told.as_bytes()));
    let json = from.map_or_else(
        || json.clone(),
        |from| {
            let now = format!("\"resourceVersion\":\"{revision}\"");
            [&json[..from], now.as_bytes(), &json[from + told.len()..]].concat().into()
        },
    );
    let object = Object::read(before.object.kind, json)?;
    Ok(Cached { object, revision, fields: before.fields.clone(), message: Slot::default() })
}

/// The offset behind the brace that opens the top-level `metadata`.
fn metadata_start(json: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"\"metadata\":{";
    let (mut depth, mut i) = (0_u32, 0);
    while i < json.len() {
        match json[i] {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            b'"' => {
                if depth == 1 && json[i..].starts_with(NAME) {
                    return Some(i + NAME.len());
                }
                i += 1;
                while json.get(i).is_some_and(|c| *c != b'"') {
                    i += if json[i] == b'\\' { 2 } else { 1 };
                }
            }
            _ => {}
        }
        i += 1;
    }
    None
}

/// An object as the cache holds it, from its stored bytes.
///
/// # Errors
/// The bytes are no object.
pub(crate) fn read(kind: &'static Kind, stored: &[u8], revision: u64) -> Result<Cached, ReadError> {
    let object = Object::read(kind, with_revision(stored, revision))?;
    let fields = if kind.selectable_fields.is_empty() {
        Box::default()
    } else {
        let value: Value = object.view()?;
        let texts = kind.selectable_fields.iter().map(|path| field_text(&value, path));
        texts.map(|text| (!text.is_empty()).then(|| text.into_boxed_str())).collect()
    };
    Ok(Cached { object, revision, fields, message: Slot::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn round(value: &Value) -> Value {
        let bytes = stored(value.as_object().unwrap()).unwrap();
        serde_json::from_slice(&with_revision(&bytes, 7)).unwrap()
    }

    #[test]
    fn the_revision_is_put_in_and_nothing_else_changes() {
        let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"metadata": "{\"metadata\":{"},
            "metadata": {"name": "a", "resourceVersion": "3"}});
        let read = round(&object);
        object["metadata"]["resourceVersion"] = json!("7");
        assert_eq!(read, object);
    }

    #[test]
    fn empty_metadata_and_escapes() {
        assert_eq!(round(&json!({"metadata": {}})), json!({"metadata": {"resourceVersion": "7"}}));
        let bytes = br#"{"a\"":{"metadata":{}},"b":["\\"],"metadata":{"name":"x"}}"#;
        let read: Value = serde_json::from_slice(&with_revision(bytes, 9)).unwrap();
        assert_eq!(read["metadata"], json!({"resourceVersion": "9", "name": "x"}));
        assert_eq!(read["a\""]["metadata"], json!({}));
    }

    #[test]
    fn selectable_fields_are_taken_out() {
        let pod = json!({"metadata": {"name": "p", "namespace": "d"}, "spec": {"nodeName": "n1", "hostNetwork": true}});
        let cached = read(&weft_api::kind::POD, &stored(pod.as_object().unwrap()).unwrap(), 5).unwrap();
        assert_eq!(cached.field("spec.nodeName"), Some("n1"));
        assert_eq!(cached.field("spec.hostNetwork"), Some("true"));
        assert_eq!(cached.field("status.phase"), Some(""));
        assert_eq!(cached.field("metadata.namespace"), Some("d"));
        assert_eq!(cached.field("spec.nothing"), None);
        assert_eq!(cached.object.meta.resource_version, "5");
    }
}
