//! Streams to a node.
use super::{Api, Call, answer::Body, route::ResourceRoute};
use http::Response;
use std::sync::Arc;
use weft_api::status::Status;
pub(crate) async fn serve(
    _api: Arc<Api>,
    _call: Call,
    _route: ResourceRoute,
) -> Result<Response<Body>, Status> {
    Err(Status::service_unavailable("no node is connected"))
}
