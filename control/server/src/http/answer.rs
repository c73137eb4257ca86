//! What goes back to a client: bodies, their headers, and refusals as `Status` objects.

use std::convert::Infallible;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WARNING};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde_json::Value;
use weft_api::status::Status;
use weft_api::{proto, schema};

use super::accept::Encoding;

/// A response's body. Its failure breaks the connection off.
pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A body that is there as a whole.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// A body that comes piece by piece.
pub(crate) fn streamed(
    stream: impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
) -> Body {
    use futures_util::TryStreamExt as _;
    StreamBody::new(stream.map_ok(Frame::data)).boxed_unsync()
}

/// A response of that type.
pub(crate) fn with_type(code: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// JSON text that is there already.
pub(crate) fn raw_json(code: StatusCode, bytes: impl Into<Bytes>) -> Response<Body> {
    with_type(code, "application/json", full(bytes))
}

/// A JSON value.
pub(crate) fn json(code: StatusCode, value: &Value) -> Response<Body> {
    raw_json(code, value.to_string())
}

/// A protobuf body that is there already.
pub(crate) fn protobuf(code: StatusCode, bytes: impl Into<Bytes>) -> Response<Body> {
    with_type(code, proto::MEDIA_TYPE, full(bytes))
}

/// A value in the encoding that is wanted; what has no type of Kubernetes is JSON in any case.
pub(crate) fn value(code: StatusCode, value: &Value, encoding: Encoding) -> Response<Body> {
    match encoding {
        Encoding::Json => json(code, value),
        Encoding::Protobuf => protobuf_of(value).map_or_else(|| json(code, value), |b| protobuf(code, b)),
    }
}

/// A value as protobuf, by the type that it names.
pub(crate) fn protobuf_of(value: &Value) -> Option<Vec<u8>> {
    let name = |key: &str| value[key].as_str().unwrap_or("");
    let definition = schema::by_api_version(name("apiVersion"), name("kind"))?;
    proto::encode(value, definition).ok()
}

/// Plain text.
pub(crate) fn text(code: StatusCode, text: String) -> Response<Body> {
    with_type(code, "text/plain; charset=utf-8", full(text))
}

/// A refusal.
pub(crate) fn status(status: &Status, encoding: Encoding) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = value(code, &status.to_json(), encoding);
    if let Some(seconds) = status.retry_after_seconds() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Adds warnings for the user, as RFC 7234 headers.
pub(crate) fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for warning in warnings {
        let quoted: String = warning.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let quoted = quoted.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(WARNING, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a watch tells it within its stream, and a refusal in its body.
    #[test]
    fn a_refusal_is_the_same_in_protobuf() {
        let told = Status::expired("too old").to_json();
        let bytes = protobuf_of(&told).unwrap();
        let definition = schema::definition(schema::STATUS).unwrap();
        assert_eq!(proto::decode(&bytes, definition).unwrap(), told);
        assert_eq!(protobuf_of(&serde_json::json!({ "kind": "Nothing" })), None);
    }
}
