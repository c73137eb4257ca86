//! Objects that are nowhere stored: made when they are asked for, and answered in every form as those that are.

mod component;
mod usage;

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use weft_api::kind::{self, Kind};
use weft_api::object::Object;
use weft_api::status::Status;

use super::accept::Wanted;
use super::answer::{self, Body};
use super::route::ResourceRoute;
use super::select::Selection;
use super::{Api, Call, collection, read};
use crate::cache::{Cached, Slot};

/// GET of one of them, or of all.
///
/// # Errors
/// 404 for what there is not, 400 for selectors, 406.
pub(super) async fn serve(api: &Api, call: &Call, route: &ResourceRoute) -> Result<Response<Body>, Status> {
    let wanted = Wanted::of(call)?;
    let mut response = if route.key.name.is_empty() {
        let selection = Selection::of(route.served, &call.query)?;
        let objects = match route.served {
            kind if *kind == kind::NODE_METRICS => usage::nodes(api, &selection).await,
            kind if *kind == kind::POD_METRICS => usage::pods(api, &route.key.namespace, &selection).await,
            _ => component::all(api).await,
        };
        let objects = cached(route.served, objects)?;
        let objects = objects.into_iter().filter(|object| selection.matches(object)).collect();
        // Of no revision: nobody can go on from here by a watch.
        collection::of(route.served, objects, json!({}), wanted, &call.query).await?
    } else {
        let object = match route.served {
            kind if *kind == kind::NODE_METRICS => usage::node(api, &route.key).await?,
            kind if *kind == kind::POD_METRICS => usage::pod(api, &route.key).await?,
            _ => component::one(api, &route.key).await?,
        };
        let object = cached(route.served, vec![object])?;
        let object = object.first().ok_or_else(|| Status::internal("an object is lost"))?;
        read::object(StatusCode::OK, route.served, object, wanted, call)?
    };
    if *route.served == kind::COMPONENT_STATUS {
        answer::warn(&mut response, &[component::DEPRECATED.to_owned()]);
    }
    Ok(response)
}

/// Objects as those of the cache are, for whatever shows them.
fn cached(kind: &'static Kind, objects: Vec<Value>) -> Result<Vec<Arc<Cached>>, Status> {
    let read = |object: Value| {
        let object = Object::read(kind, Bytes::from(object.to_string())).map_err(Status::internal)?;
        Ok(Arc::new(Cached { object, revision: 0, fields: Box::default(), message: Slot::of_one_answer() }))
    };
    objects.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_for_one_answer_keeps_no_message() {
        let object = json!({ "metadata": { "name": "n" } });
        let object = cached(&kind::NODE_METRICS, vec![object]).unwrap().remove(0);
        for bytes in [1, 2] {
            assert_eq!(object.message.get_or(|| Ok::<_, Status>(vec![7; bytes])).unwrap().len(), bytes);
        }
    }
}
