//! JSON merge patch, RFC 7386.

use serde_json::Value;

use super::PatchError;

pub(super) fn apply(object: &mut Value, patch: &Value) -> Result<(), PatchError> {
    if !patch.is_object() {
        return Err(PatchError::Malformed("a merge patch must be an object".to_owned()));
    }
    json_patch::merge(object, patch);
    Ok(())
}
