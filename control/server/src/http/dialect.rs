//! Objects in the words of the kind that a client asked for: most are served as they are stored, and then these are
//! the cache's own bytes.

use bytes::Bytes;
use serde_json::{Map, Value};
use weft_api::kind::Kind;
use weft_api::status::Status;
use weft_api::{proto, schema};

use crate::cache::Cached;
use crate::objects::value_of;

/// An object's JSON as clients of `served` get it.
pub(super) fn bytes(served: &Kind, cached: &Cached) -> Bytes {
    if served.dialect.is_none() {
        return cached.object.json.clone();
    }
    // What the cache holds is an object, and one that was read can be written.
    let converted = value_of(cached).ok().and_then(|mut object| {
        served.from_stored(&mut object);
        serde_json::to_vec(&object).ok()
    });
    converted.map_or_else(|| cached.object.json.clone(), Bytes::from)
}

/// An object as clients of `served` get it that take protobuf: a whole body, or an item of a list.
///
/// # Errors
/// 500 for an object that is not of its type, which storing it rules out.
pub(super) fn protobuf(served: &Kind, cached: &Cached, write: Write) -> Result<Vec<u8>, Status> {
    let mut object = value_of(cached)?;
    served.from_stored(&mut object);
    let definition =
        schema::definition(served.schema).ok_or_else(|| Status::internal("a kind has no type"))?;
    write(&Value::Object(object), definition).map_err(Status::internal)
}

/// How an object is written: [`proto::encode`] or [`proto::item`].
pub(super) type Write = fn(&Value, &schema::Definition) -> Result<Vec<u8>, proto::ProtoError>;

/// An object as clients of `served` see it, to be changed.
pub(super) fn seen(served: &Kind, stored: &Map<String, Value>) -> Map<String, Value> {
    let mut object = stored.clone();
    served.from_stored(&mut object);
    object
}

/// What a client of `served` has written, as it is stored.
pub(super) fn stored(served: &Kind, mut object: Map<String, Value>) -> Map<String, Value> {
    served.into_stored(&mut object);
    object
}
