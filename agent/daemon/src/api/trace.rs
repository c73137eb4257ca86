//! `GET /agent/v1/trace`: one JSON flow per line.

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http::Response;
use tokio::sync::broadcast::error::RecvError;
use weft_trace::{Filter, Flow};

use super::answer::{Body, BoxError, Refusal, streamed};
use crate::flows::Flows;

/// Answers kept flows, and with `follow` every new one until the client goes.
pub(crate) fn answer(flows: &Flows, query: &str) -> Result<Response<Body>, Refusal> {
    let mut filter = Filter::default();
    let mut follow = false;
    for (name, value) in super::query(query) {
        match name.as_str() {
            "follow" => follow = value == "true",
            _ => filter.set(&name, &value).map_err(|error| Refusal::bad_request(error.to_string()))?,
        }
    }
    let (kept, feed) = flows.follow(&filter);
    let kept = stream::iter(kept).map(|flow| line(&flow));
    if !follow {
        return Ok(streamed(kept));
    }
    let news = stream::unfold((feed, filter), |(mut feed, filter)| async move {
        loop {
            match feed.recv().await {
                Ok(flow) if filter.matches(&flow) => return Some((line(&flow), (feed, filter))),
                // A follower that is too slow loses the oldest; `status` counts flows, so the gap can be seen.
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    });
    Ok(streamed(kept.chain(news)))
}

fn line(flow: &Flow) -> Result<Bytes, BoxError> {
    let mut text = serde_json::to_vec(flow)?;
    text.push(b'\n');
    Ok(text.into())
}
