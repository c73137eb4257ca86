//! Bodies and refusals of the agent's API.

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use serde::Serialize;
use serde_json::json;

pub(crate) use weft_dataplane::chain;

/// An error of a body on its way.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// Any body.
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A refusal, told as a Kubernetes Status so that kubectl prints its message.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

impl Refusal {
    /// 400.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.into() }
    }

    /// 404.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, message: message.into() }
    }

    /// 500, with the error's whole chain.
    pub(crate) fn failed(error: &dyn std::error::Error) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, message: chain(error) }
    }
}

impl From<Refusal> for Response<Body> {
    fn from(refusal: Refusal) -> Self {
        let reason = match refusal.status {
            StatusCode::BAD_REQUEST => "BadRequest",
            StatusCode::NOT_FOUND => "NotFound",
            StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
            _ => "InternalError",
        };
        let body = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": refusal.message,
            "reason": reason,
            "code": refusal.status.as_u16(),
        });
        let mut response = Self::new(full(body.to_string()));
        *response.status_mut() = refusal.status;
        response
            .headers_mut()
            .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        response
    }
}

/// A JSON answer.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<Response<Body>, Refusal> {
    let text = serde_json::to_vec(value).map_err(|error| Refusal::failed(&error))?;
    let mut response = Response::new(full(text));
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    Ok(response)
}

/// A whole body.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body that comes in pieces.
pub(crate) fn streamed<S, E>(pieces: S) -> Response<Body>
where
    S: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: Into<BoxError>,
{
    Response::new(
        StreamBody::new(pieces.map(|piece| piece.map(Frame::data).map_err(Into::into))).boxed_unsync(),
    )
}
