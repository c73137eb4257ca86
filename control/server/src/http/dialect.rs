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

/// The body of an object as clients of `served` get it that take protobuf.
///
/// # Errors
/// 500 for an object that is not of its type, which storing it rules out.
pub(super) fn protobuf(served: &Kind, cached: &Cached) -> Result<Vec<u8>, Status> {
    Ok(proto::body(&served.api_version(), served.kind, &message(served, cached)?))
}

/// What stands for it in their lists.
///
/// # Errors
/// As [`protobuf`].
pub(super) fn protobuf_item(served: &Kind, cached: &Cached) -> Result<Vec<u8>, Status> {
    Ok(proto::item(&message(served, cached)?))
}

/// Its message: of a kind that is served as it is stored it is made once for all readers, while there is room for it.
fn message(served: &Kind, cached: &Cached) -> Result<Bytes, Status> {
    let make = || {
        let mut object = value_of(cached)?;
        served.from_stored(&mut object);
        let definition =
            schema::definition(served.schema).ok_or_else(|| Status::internal("a kind has no type"))?;
        proto::encode_message(&Value::Object(object), definition).map_err(Status::internal)
    };
    if served.dialect.is_none() { cached.message.get_or(make) } else { make().map(Bytes::from) }
}

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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use weft_api::kind;

    use super::*;
    use crate::objects::encoding;

    fn cached(kind: &'static Kind, object: &Value) -> Cached {
        encoding::read(kind, &encoding::stored(object.as_object().unwrap()).unwrap(), 7).unwrap()
    }

    /// By where it stands: there is one of it.
    #[test]
    fn readers_of_json_share_what_the_cache_holds_and_readers_of_protobuf_one_message() {
        let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "m" }, "data": { "k": "v" } });
        let map = cached(&kind::CONFIG_MAP, &map);
        assert_eq!(bytes(&kind::CONFIG_MAP, &map).as_ptr(), map.object.json.as_ptr());
        let first = message(&kind::CONFIG_MAP, &map).unwrap();
        assert_eq!(message(&kind::CONFIG_MAP, &map).unwrap().as_ptr(), first.as_ptr());
        let definition = schema::definition(kind::CONFIG_MAP.schema).unwrap();
        let read = proto::decode(&protobuf(&kind::CONFIG_MAP, &map).unwrap(), definition).unwrap();
        assert_eq!(read, Value::Object(value_of(&map).unwrap()));
        assert_eq!(protobuf_item(&kind::CONFIG_MAP, &map).unwrap()[2..], first[..]);
        // Another revision is another object.
        let next = encoding::as_of(&map, 8).unwrap();
        assert_ne!(message(&kind::CONFIG_MAP, &next).unwrap(), first);
    }

    #[test]
    fn other_words_of_an_object_are_not_mistaken_for_its_own() {
        let event = json!({ "apiVersion": "v1", "kind": "Event", "metadata": { "name": "e", "namespace": "d" },
            "involvedObject": { "name": "p" }, "message": "said" });
        let event = cached(&kind::EVENT, &event);
        let read = |served: &'static Kind| {
            let definition = schema::definition(served.schema).unwrap();
            proto::decode(&protobuf(served, &event).unwrap(), definition).unwrap()
        };
        for _ in 0..2 {
            assert_eq!(read(&kind::EVENT)["message"], "said");
            assert_eq!(read(&kind::EVENTS_EVENT)["note"], "said");
        }
        let json: Value = serde_json::from_slice(&bytes(&kind::EVENTS_EVENT, &event)).unwrap();
        assert_eq!((&json["note"], &json["apiVersion"]), (&json!("said"), &json!("events.k8s.io/v1")));
    }
}
