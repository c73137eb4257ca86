//! What holds objects in Kubernetes' protobuf form: lists, written from their items one by one, and events of a watch.

use serde_json::Value;

use super::write::{names, write_bytes, write_message, write_varint};
use super::{MAGIC, ProtoError};
use crate::schema;

/// What stands in a list for an object of it, of its message.
pub fn item(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 11);
    write_bytes(&mut out, 2, message);
    out
}

/// A list's body up to its first item: the items that follow have `items_bytes` together.
///
/// # Errors
/// `metadata` is no `ListMeta`.
pub fn list_head(
    (api_version, kind): (&str, &str),
    metadata: &Value,
    items_bytes: usize,
) -> Result<Vec<u8>, ProtoError> {
    let definition = schema::definition(schema::LIST_META).ok_or(ProtoError::Value)?;
    let (mut message, mut start) = (Vec::new(), Vec::new());
    write_message(&mut message, metadata, definition)?;
    write_bytes(&mut start, 1, &message);
    let mut out = MAGIC.to_vec();
    write_bytes(&mut out, 1, &names(api_version, kind));
    // Field 2, of a length of which the items are a part.
    out.push(2 << 3 | 2);
    write_varint(&mut out, (start.len() + items_bytes) as u64);
    out.extend_from_slice(&start);
    Ok(out)
}

/// An event of a watch, with its length before it as four bytes, big-endian; `object` is a whole body with the magic.
///
/// # Errors
/// The event is longer than its length can say.
pub fn event(type_: &str, object: &[u8]) -> Result<Vec<u8>, ProtoError> {
    let mut raw = Vec::with_capacity(object.len() + 8);
    write_bytes(&mut raw, 1, object);
    let mut out = vec![0; 4];
    write_bytes(&mut out, 1, type_.as_bytes());
    write_bytes(&mut out, 2, &raw);
    let length = u32::try_from(out.len() - 4).map_err(|_| ProtoError::Truncated)?;
    out[..4].copy_from_slice(&length.to_be_bytes());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kind;
    use crate::proto::{decode, encode, encode_message, type_meta};

    #[test]
    fn a_list_is_its_head_and_its_items() {
        let definition = schema::definition(kind::CONFIG_MAP.schema).unwrap();
        let of = |name| encode_message(&json!({"metadata": {"name": name}}), definition).unwrap();
        let items: Vec<Vec<u8>> = ["a", "b"].map(|name| item(&of(name))).into();
        let whole = items.iter().map(Vec::len).sum();
        let meta = json!({"resourceVersion": "7", "remainingItemCount": 3});
        let mut body = list_head(("v1", "ConfigMapList"), &meta, whole).unwrap();
        body.extend(items.concat());
        assert_eq!(type_meta(&body).unwrap(), ("v1".to_owned(), "ConfigMapList".to_owned()));
        // 1 { 1: "v1", 2: "ConfigMapList" }, 2 { 1 { 2: "7", 4: 3 }, 2 { 1 { 1: "a" } }, 2 { 1 { 1: "b" } } }
        let expected = [
            b"k8s\0\x0a\x13\x0a\x02v1\x12\x0dConfigMapList".as_slice(),
            b"\x12\x15\x0a\x05\x12\x017\x20\x03\x12\x05\x0a\x03\x0a\x01a\x12\x05\x0a\x03\x0a\x01b",
        ];
        assert_eq!(body, expected.concat());
    }

    #[test]
    fn an_event_has_its_length_before_it() {
        let status = json!({"apiVersion": "v1", "kind": "Status", "code": 410});
        let definition = schema::definition(schema::STATUS).unwrap();
        let object = encode(&status, definition).unwrap();
        let event = event("ERROR", &object).unwrap();
        let length = event.len() - 4;
        assert_eq!(event[..4], [0, 0, 0, u8::try_from(length).unwrap()]);
        assert_eq!(event[4..11], *b"\x0a\x05ERROR");
        // 2 { 1: the body }
        let raw = u8::try_from(object.len()).unwrap();
        assert_eq!(event[11..15], [18, raw + 2, 10, raw]);
        assert_eq!(decode(&event[15..], definition).unwrap(), status);
    }
}
