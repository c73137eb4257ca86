//! Discovery, the OpenAPI documents and the version: paths and headers; the documents are `weft-api`'s.

use std::collections::BTreeMap;
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
        static DOCUMENT: Shared = Shared::new();
        let document = DOCUMENT.get_or(openapi::second_in_protobuf);
        return answer::with_type(StatusCode::OK, PROTOBUF, answer::full(document));
    }
    static DOCUMENT: Shared = Shared::new();
    answer::raw_json(StatusCode::OK, DOCUMENT.get_or(|| openapi::second().to_string().into()))
}

/// A long document, which is made when it is asked for, and is there once, for as long as somebody reads it.
#[derive(Default)]
struct Shared(Mutex<Weak<Document>>);

struct Document(Vec<u8>);

/// Somebody who reads.
struct Reader(Arc<Document>);

impl AsRef<[u8]> for Reader {
    fn as_ref(&self) -> &[u8] {
        &self.0.0
    }
}

impl Shared {
    const fn new() -> Self {
        Self(Mutex::new(Weak::new()))
    }

    fn get_or(&self, make: impl FnOnce() -> Vec<u8>) -> Bytes {
        // Whoever comes while it is made waits, and reads the same.
        let mut read = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let document = read.upgrade().unwrap_or_else(|| {
            let made = Arc::new(Document(make()));
            *read = Arc::downgrade(&made);
            made
        });
        Bytes::from_owner(Reader(document))
    }
}

fn document(call: &Call, group: &str, version: &str) -> Result<Response<Body>, Status> {
    let hash = openapi::hash(group, version).ok_or_else(Status::path_not_found)?;
    let unpack = || openapi::document(group, version).unwrap_or_default();
    Ok(third(hash, call.header(IF_NONE_MATCH), unpack))
}

/// The OpenAPI v3 document of that hash, unless it is `known`: then it is not unpacked at all.
fn third(hash: &'static str, known: Option<&str>, unpack: impl FnOnce() -> Vec<u8>) -> Response<Body> {
    /// By hash: as many as there are groups and versions.
    static DOCUMENTS: Mutex<BTreeMap<&str, Arc<Shared>>> = Mutex::new(BTreeMap::new());
    let tag = format!("\"{hash}\"");
    let mut response = if known.is_some_and(|known| known.contains(&tag)) {
        answer::raw_json(StatusCode::NOT_MODIFIED, Bytes::new())
    } else {
        let mut documents = DOCUMENTS.lock().unwrap_or_else(PoisonError::into_inner);
        let document = documents.entry(hash).or_default().clone();
        drop(documents);
        answer::raw_json(StatusCode::OK, document.get_or(unpack))
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
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
    use std::cell::Cell;

    use http_body_util::BodyExt as _;

    use super::*;

    #[test]
    fn a_long_document_is_there_once_while_it_is_read_and_then_not_at_all() {
        let made = Cell::new(10);
        let make = || vec![7; made.replace(made.get() + 1)];
        let shared = Shared::new();
        let (one, two) = (shared.get_or(make), shared.get_or(make));
        assert_eq!((one.as_ptr(), one.len()), (two.as_ptr(), 10));
        drop(one);
        assert_eq!(shared.get_or(make).len(), 10);
        drop(two);
        assert_eq!(shared.get_or(make).len(), 11, "nothing was kept");
    }

    #[tokio::test]
    async fn who_has_a_document_has_it_not_unpacked_and_others_share_it() {
        let unpacked = Cell::new(0);
        let ask = async |known: Option<&str>| {
            let unpack = || {
                unpacked.set(unpacked.get() + 1);
                vec![7; 1_000]
            };
            let answer = third("THIS", known, unpack);
            assert_eq!(answer.headers()[ETAG], "\"THIS\"");
            (answer.status(), answer.into_body().collect().await.unwrap().to_bytes())
        };
        assert_eq!(ask(Some("\"THIS\"")).await, (StatusCode::NOT_MODIFIED, Bytes::new()));
        assert_eq!(unpacked.get(), 0);
        let unread = [ask(None).await.1, ask(Some("\"OTHER\"")).await.1, ask(None).await.1];
        assert!(unread.iter().all(|body| body.as_ptr() == unread[0].as_ptr() && body.len() == 1_000));
        assert_eq!(unpacked.get(), 1);
        drop(unread);
        ask(None).await;
        assert_eq!(unpacked.get(), 2, "nothing was kept");
    }
}
