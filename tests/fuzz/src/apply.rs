//! Apply configurations: YAML, and what becomes of an object by them. The first byte names the kind.

use jiff::Timestamp;
use weft_api::decode::{self, FieldValidation};
use weft_api::patch::apply::{Manager, apply};

use crate::object;

/// Runs it once.
pub fn run(data: &[u8]) {
    let Some((kind, text)) = object::split(data) else { return };
    let Ok(mut config) = decode::yaml(text) else { return };
    if decode::configuration(kind.schema, &mut config, FieldValidation::Warn).is_err() {
        return;
    }
    let manager = |name| Manager { name, subresource: "", time: Timestamp::UNIX_EPOCH };
    let Ok(mut made) = apply(kind, None, &config, manager("one"), false) else { return };
    if decode::check(kind.schema, &mut made, FieldValidation::Ignore).is_err() {
        return;
    }
    // Another one wants the same, then the first nothing more.
    let _shared = apply(kind, Some(&made), &config, manager("two"), false);
    let nothing = serde_json::json!({ "apiVersion": kind.api_version(), "kind": kind.kind });
    let _given_up = apply(kind, Some(&made), &nothing, manager("one"), false);
    object::take_up(kind, made);
}
