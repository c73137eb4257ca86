//! The node's images.

use futures_util::TryStreamExt;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Serialize;
use serde_json::json;
use tokio_util::io::StreamReader;
use weft_runtime::Runtime;

use super::answer::{self, Body, Refusal};

/// One name of one image.
#[derive(Serialize)]
pub(crate) struct Row {
    name: String,
    digest: String,
    bytes: u64,
}

/// Every name of every image.
pub(crate) fn list(runtime: &Runtime) -> Vec<Row> {
    let images = runtime.images();
    let mut rows: Vec<Row> = images
        .into_iter()
        .flat_map(|image| {
            let (id, bytes) = (image.id, image.size_bytes);
            // Its last name went to another; it stays while a container runs from it.
            let nameless = image.names.is_empty().then(|| "<none>".to_owned());
            image.names.into_iter().chain(nameless).map(move |name| Row { name, digest: id.clone(), bytes })
        })
        .collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows
}

/// Takes in an archive.
pub(crate) async fn load(runtime: &Runtime, body: Incoming) -> Result<Response<Body>, Refusal> {
    let reader = StreamReader::new(body.into_data_stream().map_err(std::io::Error::other));
    let images = runtime
        .load_image(Box::pin(reader))
        .await
        .map_err(|error| Refusal::bad_request(answer::chain(&error)))?;
    answer::json(&json!({ "images": images }))
}
