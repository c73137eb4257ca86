//! Bodies in Kubernetes' protobuf, with defaults and rules. The first byte names the kind; the magic is put before the rest, or
//! nothing would ever come past it.

use weft_api::decode::{self, FieldValidation};
use weft_api::proto;

use crate::object;

/// Runs it once.
pub fn run(data: &[u8]) {
    let Some((kind, rest)) = object::split(data) else { return };
    let body = [proto::MAGIC, rest].concat();
    let _names = proto::type_meta(&body);
    let read = decode::body(kind, &body, Some(proto::MEDIA_TYPE), FieldValidation::Warn);
    if let Ok(decoded) = read {
        object::take_up(kind, decoded.value);
    }
}
