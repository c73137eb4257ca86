//! A backup of all that is stored, as it is now: `GET /weft/v1/backup`. It holds every Secret: who may have it is who may do
//! everything, and whom a role allows this path.

use std::io;

use http::{Response, StatusCode};
use weft_store::backup::Writer;

use super::answer::{self, Body};
use super::{Api, Call};

/// Where it is served.
pub(crate) const PATH: &str = "/weft/v1/backup";

/// Answers the backup. One that cannot be brought to its end breaks off.
pub(super) fn serve(api: &Api, call: &Call) -> Response<Body> {
    let writer = Writer::new(api.objects.store.clone());
    tracing::info!(user = call.user.name, revision = writer.head().revision.0, "a backup is taken");
    let pieces = futures_util::stream::unfold(Some(writer), |writer| async move {
        let mut writer = writer?;
        match writer.piece().await {
            Ok(piece) => piece.map(|piece| (Ok(piece), Some(writer))),
            Err(error) => {
                tracing::error!(%error, "a backup broke off");
                Some((Err(io::Error::other(error)), None))
            }
        }
    });
    answer::with_type(StatusCode::OK, "application/octet-stream", answer::streamed(pieces))
}
