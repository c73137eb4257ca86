//! Watches: the changes of a kind as they come, from a revision a client names.
//!
//! A watch reads the cache's ring at its own pace, and holds nothing of it: where it is, is a number. The more watches there
//! are, the longer each of them rests after a frame, so that where much changes a frame carries many events: what a watch
//! costs is its frames. They rest until one of a few moments, so that those who want the same are at the same places and
//! share the frames, and yet not all of them want to be served at once.

mod events;
mod feed;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;
use weft_api::status::Status;

use super::accept::{Encoding, Wanted};
use super::answer::{self, Body};
use super::options::{self, Initial};
use super::read::{self, namespace_of};
use super::route::ResourceRoute;
use super::select::Selection;
use super::{Api, Call};
use crate::cache::{Cache, Cached};
use crate::stop::stopped;
use events::Events;
use feed::Feed;
pub(crate) use feed::Feeds;

/// How long a watch rests after a frame for each watch that there is, and at most.
const REST_PER_WATCH: Duration = Duration::from_micros(32);
const REST_MAX: Duration = Duration::from_millis(32);
/// Moments within a rest at which watches go on.
const PHASES: u32 = 16;
/// A shorter rest is none.
const REST_MIN: Duration = Duration::from_millis(1);
/// How often a watch that asked for bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(30);
/// Watches end after a time between this and twice as much, unless the client says when.
const LIFE_MIN: Duration = Duration::from_secs(1_800);

/// A running watch.
struct Running {
    cache: Arc<Cache>,
    open: Open,
    /// What this watch alone is told.
    events: Events,
    /// What changes.
    feed: Arc<Feed>,
    /// Everything up to this revision was sent.
    position: u64,
    /// What is there already, still to be sent as `ADDED`.
    initial: std::vec::IntoIter<Arc<Cached>>,
    /// Whether the end of the initial events is told by a bookmark.
    tell_initial_end: bool,
    bookmarks: bool,
    changed: tokio::sync::watch::Receiver<u64>,
    stopping: tokio::sync::watch::Receiver<bool>,
    /// From when on it counts its rests, after the part of one that it is behind others.
    began: Instant,
    phase: u32,
    ends: Instant,
    next_bookmark: Instant,
    bookmark_is_due: bool,
    rests_until: Option<Instant>,
    ended: bool,
}

/// One of the watches that are open, by whose number they are told.
struct Open(Gauge);

impl Open {
    fn new(watches: &Gauge) -> Self {
        watches.inc();
        Self(watches.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// GET with `watch`.
///
/// # Errors
/// 400 and 422 for parameters that do not fit; 504 for initial events of a state that is not reached.
pub(crate) async fn serve(api: &Api, call: &Call, route: &ResourceRoute) -> Result<Response<Body>, Status> {
    let wanted = Wanted::of(call)?;
    let name = &route.key.name;
    let query = if name.is_empty() { call.query.clone() } else { call.query.about(name) };
    let selection = Selection::of(route.served, &query)?;
    let asked = options::revision(&query)?;
    let initial = options::watch(&query, asked)?;
    let changed = api.objects.cache.changed(route.kind);
    let (objects, position) = if initial == Initial::None {
        (Vec::new(), asked)
    } else {
        read::wait_for(api, asked).await?;
        api.objects.cache.list(route.kind, namespace_of(route))
    };
    let life = match query.number::<u64>("timeoutSeconds")? {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds.min(86_400)),
        _ => LIFE_MIN + Duration::from_millis(uuid::Uuid::new_v4().as_u64_pair().1 % 1_800_000),
    };
    let events = Events::new(route.kind, route.served, namespace_of(route), selection, wanted, &query);
    let phase = api.feeds.phase();
    let running = Running {
        cache: Arc::clone(&api.objects.cache),
        open: Open::new(&api.metrics.watches),
        feed: api.feeds.join(&events, &query, phase),
        events,
        position,
        initial: objects.into_iter(),
        tell_initial_end: initial == Initial::Told,
        bookmarks: query.flag("allowWatchBookmarks"),
        changed,
        stopping: api.stopping.clone(),
        began: api.feeds.began,
        phase,
        ends: Instant::now() + life,
        next_bookmark: Instant::now() + BOOKMARK_EVERY,
        bookmark_is_due: false,
        rests_until: None,
        ended: false,
    };
    let stream = futures_util::stream::unfold(running, |mut running| async move {
        let frame = running.next().await?;
        Some((Ok(frame), running))
    });
    let content_type = match wanted.encoding {
        Encoding::Json => "application/json",
        Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
    };
    Ok(answer::with_type(StatusCode::OK, content_type, answer::streamed(stream)))
}

impl Running {
    /// The next frame of whole events, when there is one; none at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let frame = self.begin().await;
            if !frame.is_empty() {
                return Some(frame);
            }
            // Where there is always something to send nobody waits.
            if self.ended || *self.stopping.borrow() || Instant::now() >= self.ends {
                return None;
            }
            if self.rests_until.is_none() {
                match self.read_on() {
                    Read::Frame(frame) => return Some(frame),
                    Read::Unwanted => {
                        tokio::task::yield_now().await;
                        continue;
                    }
                    Read::Nothing => {}
                }
            }
            self.wait().await;
        }
    }

    /// The next frame of what is there when the watch begins; an empty one behind it.
    async fn begin(&mut self) -> Bytes {
        while !self.ended && !self.events.is_full() {
            match self.initial.next() {
                Some(object) => self.events.object(&object),
                None if std::mem::take(&mut self.tell_initial_end) => self.bookmark(true),
                None => break,
            }
            self.ended = self.events.is_broken();
            tokio::task::coop::consume_budget().await;
        }
        self.events.frame()
    }

    /// Takes up what the ring has behind the position.
    fn read_on(&mut self) -> Read {
        // What is known before the ring is read is surely in it.
        let known = self.cache.revision();
        self.changed.mark_unchanged();
        match self.feed.read(&self.cache, self.position) {
            Err(error) => {
                self.events.fail(&Status::expired(error.to_string()));
                self.ended = true;
                Read::Frame(self.events.frame())
            }
            Ok(Some(made)) => {
                (self.position, self.ended) = (made.to, made.broken);
                if made.frame.is_empty() {
                    return Read::Unwanted;
                }
                // Who is late does not stay so.
                self.rests_until = self.rest().filter(|_| !made.has_more);
                Read::Frame(made.frame)
            }
            Ok(None) if std::mem::take(&mut self.bookmark_is_due) => {
                self.position = self.position.max(known);
                self.bookmark(false);
                Read::Frame(self.events.frame())
            }
            Ok(None) => Read::Nothing,
        }
    }

    /// A bookmark at the position.
    fn bookmark(&mut self, initial_end: bool) {
        self.events.bookmark(self.position, initial_end);
        self.ended = self.events.is_broken();
    }

    /// Until when this watch leaves the ring alone, now that it has a frame to send: all of its phase until the same moment.
    fn rest(&self) -> Option<Instant> {
        let watches = u32::try_from(self.open.0.get()).unwrap_or(u32::MAX);
        let rest = REST_PER_WATCH.saturating_mul(watches).min(REST_MAX);
        if rest < REST_MIN {
            return None;
        }
        let now = Instant::now();
        let began = self.began + rest / PHASES * self.phase;
        let rested = (now + rest).duration_since(began).as_nanos() % rest.as_nanos();
        // Less than a rest.
        Some(now + rest - Duration::from_nanos(u64::try_from(rested).unwrap_or(0)))
    }

    /// Waits until there may be something to send.
    async fn wait(&mut self) {
        if let Some(until) = self.rests_until {
            // So short that who stops the server need not end it.
            tokio::time::sleep_until(until).await;
            self.rests_until = None;
            return;
        }
        let alarm = if self.bookmarks { self.ends.min(self.next_bookmark) } else { self.ends };
        tokio::select! {
            changed = self.changed.changed() => self.ended = changed.is_err(),
            () = tokio::time::sleep_until(alarm) => {
                self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                self.bookmark_is_due = self.bookmarks;
            }
            () = stopped(&mut self.stopping) => self.ended = true,
        }
    }
}

/// What the ring has for a watch.
enum Read {
    Frame(Bytes),
    /// Only what is not wanted: there may be more behind it.
    Unwanted,
    Nothing,
}

#[cfg(test)]
mod tests;
