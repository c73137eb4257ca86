//! Patches: JSON patch (RFC 6902), merge patch (RFC 7386) and strategic merge patch (Kubernetes' own).
//!
//! They change JSON and know only the schema's merge keys; checking, defaults and validation come after.

pub mod apply;
mod fields;
mod json;
mod merge;
mod order;
mod owners;
mod places;
mod strategic;
mod versions;
pub mod writer;

use serde_json::Value;

use crate::kind::Kind;
use crate::status::{FieldError, Status};

/// Which kind of patch a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes' strategic merge patch.
    Strategic,
    /// Server-side apply; the server's own path, [`apply`] refuses it.
    Apply,
}

/// Media types of patches.
pub const MEDIA_TYPES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

impl PatchType {
    /// The patch type of a `Content-Type`.
    pub fn from_content_type(content_type: &str) -> Option<Self> {
        match content_type.split(';').next().unwrap_or("").trim() {
            "application/json-patch+json" => Some(Self::Json),
            "application/merge-patch+json" => Some(Self::Merge),
            "application/strategic-merge-patch+json" => Some(Self::Strategic),
            "application/apply-patch+yaml" => Some(Self::Apply),
            _ => None,
        }
    }
}

/// Why a patch cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The body is not JSON, or not of the shape of its patch type.
    #[error("error decoding patch: {0}")]
    Malformed(String),
    /// A JSON patch has more operations than allowed.
    #[error("The allowed maximum operations in a JSON patch is {max}, got {got}")]
    TooMany {
        /// As many may be.
        max: usize,
        /// As many are.
        got: usize,
    },
    /// A JSON patch's operation does not fit the object, or goes beyond a bound.
    #[error("{0}")]
    DoesNotApply(String),
    /// A strategic merge patch speaks of a list item without its merge key.
    #[error("map: {item} does not contain declared merge key: {key}")]
    NoMergeKey {
        /// The merge key.
        key: String,
        /// The item.
        item: String,
    },
    /// A strategic merge patch orders a list otherwise than it states its items.
    #[error("The order in patch list:\n{patched}\n doesn't match $setElementOrder list:\n{order}\n")]
    Order {
        /// The items as stated.
        patched: String,
        /// The order.
        order: String,
    },
    /// A strategic merge patch has a directive of the wrong type.
    #[error("invalid {0} directive")]
    Directive(&'static str),
}

/// Applies a patch to an object of `kind` and gives the patched object; what it is patched to is not checked.
///
/// # Errors
/// 400 for a malformed patch, 422 for one that does not fit the object or makes too much of it, 413 for one of too many
/// operations, 415 for [`PatchType::Apply`].
pub fn apply(type_: PatchType, kind: &Kind, current: &Value, patch: &[u8]) -> Result<Value, Status> {
    apply_to(type_, kind.schema, current, patch)
        .map_err(|error| to_status(error, kind.group, kind.kind, current))
}

/// As [`apply`], for types that are no stored kind, such as [`crate::schema::SCALE`].
///
/// # Errors
/// As [`apply`].
pub fn apply_any(type_: PatchType, schema: &str, current: &Value, patch: &[u8]) -> Result<Value, Status> {
    let kind = schema.rsplit('.').next().unwrap_or(schema);
    apply_to(type_, schema, current, patch).map_err(|error| to_status(error, "", kind, current))
}

fn apply_to(
    type_: PatchType,
    schema: &str,
    current: &Value,
    patch: &[u8],
) -> Result<Value, Option<PatchError>> {
    let patch: Value =
        serde_json::from_slice(patch).map_err(|error| Some(PatchError::Malformed(error.to_string())))?;
    let mut object = current.clone();
    match type_ {
        PatchType::Json => json::apply(&mut object, patch)?,
        PatchType::Merge => merge::apply(&mut object, &patch)?,
        PatchType::Strategic => strategic::apply(&mut object, patch, crate::schema::definition(schema))?,
        PatchType::Apply => return Err(None),
    }
    Ok(object)
}

fn to_status(error: Option<PatchError>, group: &str, kind: &str, current: &Value) -> Status {
    let Some(error) = error else { return Status::unsupported_media_type(MEDIA_TYPES) };
    match error {
        PatchError::DoesNotApply(why) => {
            let name = current["metadata"]["name"].as_str().unwrap_or("");
            let mut status = Status::invalid_type(group, kind, name, &[FieldError::forbidden("patch", &why)]);
            "the server rejected our request due to an error in our request".clone_into(&mut status.message);
            if let Some(cause) = status.details.as_mut().and_then(|d| d.causes.first_mut()) {
                cause.message = why;
            }
            status
        }
        error @ PatchError::TooMany { .. } => Status::request_too_large_because(error),
        other => Status::bad_request(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
