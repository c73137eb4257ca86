//! What becomes of an object once it is read: the same as in the server, as far as it wants no other objects.

use serde_json::Value;
use weft_api::kind::{KINDS, Kind};
use weft_api::status::Status;
use weft_api::validate::Limits;
use weft_api::{default, proto, schema, validate};

/// The kind that a byte names.
pub(crate) fn kind(byte: u8) -> &'static Kind {
    KINDS[usize::from(byte) % KINDS.len()]
}

/// A kind by the first byte of an input, and the rest.
pub(crate) fn split(data: &[u8]) -> Option<(&'static Kind, &[u8])> {
    let (first, rest) = data.split_first()?;
    Some((kind(*first), rest))
}

/// Defaults and rules, and the way to protobuf and back.
pub(crate) fn take_up(kind: &'static Kind, mut object: Value) {
    let Some(definition) = schema::definition(kind.schema) else { return };
    default::apply(kind, &mut object);
    let errors = validate::create(kind, &object, &Limits::default());
    if !errors.is_empty() {
        let _told = Status::invalid(kind, "name", &errors).to_json().to_string();
    }
    if let Ok(bytes) = proto::encode(&object, definition) {
        let back = proto::decode(&bytes, definition);
        assert!(back.is_ok(), "what was written cannot be read: {back:?}");
    }
}
