//! The versions in whose words the owners of an object are noted: that of the stored kind, and those of its dialects.

use serde_json::Value;

use crate::kind::{DIALECTS, Kind};

/// The kind of a version that an object of `kind` is served in.
pub(super) fn named(kind: &'static Kind, api_version: &str) -> Option<&'static Kind> {
    let stored = kind.stored();
    let dialects = DIALECTS.iter().copied().filter(|dialect| dialect.stored() == stored);
    std::iter::once(stored).chain(dialects).find(|kind| kind.api_version() == api_version)
}

/// A stored object in the words of a kind.
pub(super) fn seen(kind: &Kind, object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        kind.from_stored(fields);
    }
    object
}

/// The same the other way.
pub(super) fn stored(kind: &Kind, mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        kind.into_stored(fields);
    }
    object
}
