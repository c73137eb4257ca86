//! Objects as tables and as bare metadata.

use serde_json::{Value, json};
use weft_api::kind::Kind;
use weft_api::object::Object;
use weft_api::status::Status;
use weft_api::table::{self, IncludeObject};

use super::dialect;
use super::query::Query;
use crate::cache::Cached;
use crate::clock;

/// A `meta.k8s.io/v1 Table` of objects, for clients of `served`; `columns` says whether the columns' definitions are wanted too.
pub(crate) fn of(
    served: &'static Kind,
    objects: &[Object],
    meta: Value,
    columns: bool,
    query: &Query,
) -> Value {
    let include = IncludeObject::parse(query.get("includeObject")).unwrap_or(IncludeObject::Metadata);
    let now = clock::now();
    let rows = objects
        .iter()
        .filter_map(|object| object.view::<Value>().ok())
        .map(|value| {
            let mut row = table::row(served.stored(), &value, now, include);
            if let (IncludeObject::Object, Value::Object(stored)) = (include, &value) {
                row["object"] = Value::Object(dialect::seen(served, stored));
            }
            row
        })
        .collect();
    table::table(served, rows, meta, columns)
}

/// An object's metadata alone.
///
/// # Errors
/// 500 when the cached object is not readable, which its filling rules out.
pub(crate) fn metadata_of(cached: &Cached) -> Result<Value, Status> {
    let object: Value = cached.object.view().map_err(Status::internal)?;
    Ok(
        json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"] }),
    )
}
