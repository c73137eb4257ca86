//! JSON patch, RFC 6902.

use serde_json::Value;

use super::PatchError;

/// Most operations in one patch, as in Kubernetes.
const OPERATIONS_MAX: usize = 10_000;

pub(super) fn apply(object: &mut Value, patch: Value) -> Result<(), PatchError> {
    let patch: json_patch::Patch =
        serde_json::from_value(patch).map_err(|error| PatchError::Malformed(error.to_string()))?;
    if patch.0.len() > OPERATIONS_MAX {
        return Err(PatchError::TooMany(OPERATIONS_MAX));
    }
    json_patch::patch(object, &patch).map_err(|error| PatchError::DoesNotApply(error.to_string()))
}
