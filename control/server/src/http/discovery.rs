//! Discovery, the OpenAPI documents and the version: paths and headers; the documents are `weft-api`'s.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, ETAG, HOST, HeaderValue, IF_NONE_MATCH, VARY};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use weft_api::discovery::{self, AggregatedVersion, Root};
use weft_api::openapi;
use weft_api::status::Status;

use super::Call;
use super::answer::{self, Body};

/// Serves `/api`, `/apis`, `/openapi` and what is below.
///
/// # Errors
/// 404 for everything else.
pub(crate) fn serve(call: &Call, path: &str) -> Result<Response<Body>, Status> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let value = match parts.as_slice() {
        [""] => {
            let roots = [
                "/api",
                "/apis",
                "/healthz",
                "/livez",
                "/metrics",
                "/openapi/v2",
                "/openapi/v3",
                "/readyz",
                "/version",
            ];
            json!({ "paths": roots })
        }
        ["api"] => match aggregated(call, Root::Core) {
            Some(response) => return Ok(response),
            None => discovery::api_versions(call.header(HOST).unwrap_or("")),
        },
        ["apis"] => match aggregated(call, Root::Groups) {
            Some(response) => return Ok(response),
            None => discovery::group_list(),
        },
        ["api", version] => discovery::resource_list("", version).ok_or_else(Status::path_not_found)?,
        ["apis", group] => discovery::group(group).ok_or_else(Status::path_not_found)?,
        ["apis", group, version] => {
            discovery::resource_list(group, version).ok_or_else(Status::path_not_found)?
        }
        ["openapi", "v3"] => openapi::index(),
        ["openapi", "v3", "api", version] => return document(call, "", version),
        ["openapi", "v3", "apis", group, version] => return document(call, group, version),
        ["openapi", "v2"] => return Ok(v2(call)),
        _ => return Err(Status::path_not_found()),
    };
    Ok(answer::json(StatusCode::OK, &value))
}

fn aggregated(call: &Call, root: Root) -> Option<Response<Body>> {
    let version = AggregatedVersion::from_accept(call.header(ACCEPT)?)?;
    let mut response = answer::json(StatusCode::OK, &discovery::aggregated(root, version));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(version.media_type()));
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    Some(response)
}

/// The OpenAPI v2 document, for clients that know no v3.
fn v2(call: &Call) -> Response<Body> {
    // Asked for with an `@`, which no media type may have; answered as Kubernetes does.
    const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    if call.header(ACCEPT).is_some_and(|a| a.contains("spec.v2@v1.0+protobuf")) {
        static DOCUMENT: Shared = Shared::new(openapi::second_in_protobuf);
        return answer::with_type(StatusCode::OK, PROTOBUF, answer::full(DOCUMENT.get()));
    }
    static DOCUMENT: Shared = Shared::new(|| openapi::second().to_string().into());
    answer::raw_json(StatusCode::OK, DOCUMENT.get())
}

/// A long document, which is made when it is asked for, and is there once, for as long as somebody reads it.
struct Shared {
    make: fn() -> Vec<u8>,
    read: Mutex<Weak<Document>>,
}

struct Document(Vec<u8>);

/// Somebody who reads.
struct Reader(Arc<Document>);

impl AsRef<[u8]> for Reader {
    fn as_ref(&self) -> &[u8] {
        &self.0.0
    }
}

impl Shared {
    const fn new(make: fn() -> Vec<u8>) -> Self {
        Self { make, read: Mutex::new(Weak::new()) }
    }

    fn get(&self) -> Bytes {
        // Whoever comes while it is made waits, and reads the same.
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let document = read.upgrade().unwrap_or_else(|| {
            let made = Arc::new(Document((self.make)()));
            *read = Arc::downgrade(&made);
            made
        });
        Bytes::from_owner(Reader(document))
    }
}

fn document(call: &Call, group: &str, version: &str) -> Result<Response<Body>, Status> {
    let (Some(bytes), Some(hash)) = (openapi::document(group, version), openapi::hash(group, version)) else {
        return Err(Status::path_not_found());
    };
    let tag = format!("\"{hash}\"");
    let mut response = if call.header(IF_NONE_MATCH).is_some_and(|t| t.contains(&tag)) {
        answer::raw_json(StatusCode::NOT_MODIFIED, Bytes::new())
    } else {
        answer::raw_json(StatusCode::OK, bytes)
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    Ok(response)
}

/// The version clients compare themselves with: the Kubernetes API that is spoken, and the build that speaks it.
pub(crate) fn version() -> Value {
    json!({
        "major": "1",
        "minor": "33",
        "gitVersion": concat!("v1.33.0+weft-", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "rustc",
        "platform": if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" },
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_long_document_is_there_once_while_it_is_read_and_then_not_at_all() {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let shared = Shared::new(|| vec![7; 10 + MADE.fetch_add(1, Ordering::Relaxed)]);
        let (one, two) = (shared.get(), shared.get());
        assert_eq!((one.as_ptr(), one.len()), (two.as_ptr(), 10));
        drop(one);
        assert_eq!(shared.get().len(), 10);
        drop(two);
        assert_eq!(shared.get().len(), 11, "nothing was kept");
    }
}
