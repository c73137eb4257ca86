//! Bodies in JSON: read strictly and as clients of old want it, with defaults and rules. The first byte names the kind.

use weft_api::decode::{self, FieldValidation};

use crate::object;

/// Runs it once.
pub fn run(data: &[u8]) {
    let Some((kind, body)) = object::split(data) else { return };
    let strict = decode::body(kind, body, Some("application/json"), FieldValidation::Strict);
    let warned = decode::body(kind, body, Some("application/json"), FieldValidation::Warn);
    let Ok(decoded) = warned else {
        assert!(strict.is_err(), "what is refused is refused strictly too");
        return;
    };
    // What was read is read again as the same.
    let text = decoded.value.to_string();
    let again = decode::body(kind, text.as_bytes(), None, FieldValidation::Strict).map(|again| again.value);
    assert_eq!(again.as_ref(), Ok(&decoded.value));
    object::take_up(kind, decoded.value);
}
