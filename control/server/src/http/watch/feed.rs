//! Feeds: watches that want the same share their frames. Each is made once, by who comes for it first.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::time::Instant;

use super::super::accept::{Encoding, Form};
use super::super::query::Query;
use super::PHASES;
use super::events::{Events, FRAME_BYTES, Made};
use crate::cache::{Cache, TooOld};

/// What a feed keeps for those who come for it later, the newest frame excepted, bytes.
const KEPT_BYTES: usize = 4 * FRAME_BYTES;
/// Below so many feeds nobody looks for those that have ended.
const SWEEP_MIN: usize = 64;

/// What a watch wants: its kind and that it is served as, namespace, selectors and encoding; and when. Watches of other phases
/// come later, and for them what was made before is not all that there is: they would be behind by a rest more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Want {
    kind: usize,
    group_version: (&'static str, &'static str),
    namespace: Option<String>,
    labels: String,
    fields: String,
    metadata_alone: bool,
    protobuf: bool,
    phase: u32,
}

/// The feeds that somebody reads.
pub(crate) struct Feeds {
    known: Mutex<Known>,
    /// From when on watches count their rests.
    pub(super) began: Instant,
    opened: AtomicU32,
}

#[derive(Default)]
struct Known {
    feeds: HashMap<Want, Weak<Feed>>,
    /// With so many of them those that have ended are removed.
    sweep_at: usize,
}

/// What one watch, or several that want the same, read.
pub(super) struct Feed(Mutex<State>);

struct State {
    events: Events,
    /// The newest frames, newest first, if several read.
    made: VecDeque<Made>,
}

impl Feeds {
    pub(crate) fn new() -> Self {
        Self { known: Mutex::default(), began: Instant::now(), opened: AtomicU32::new(0) }
    }

    /// Which of the moments within a rest the next watch goes on at.
    pub(super) fn phase(&self) -> u32 {
        self.opened.fetch_add(1, Ordering::Relaxed) % PHASES
    }

    /// The feed of these events; `query` is what they were asked for by. Tables are of one watch alone: the first tells their columns.
    pub(super) fn join(&self, events: &Events, query: &Query, phase: u32) -> Arc<Feed> {
        let feed = || Arc::new(Feed(Mutex::new(State { events: events.clone(), made: VecDeque::new() })));
        if events.wanted.form == Form::Table {
            return feed();
        }
        let selector = |name| query.get(name).unwrap_or("").to_owned();
        let want = Want {
            kind: events.kind.index,
            group_version: (events.served.group, events.served.version),
            namespace: events.namespace.clone(),
            labels: selector("labelSelector"),
            fields: selector("fieldSelector"),
            metadata_alone: events.wanted.form == Form::Metadata,
            protobuf: events.wanted.encoding == Encoding::Protobuf,
            phase,
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(feed) = known.feeds.get(&want).and_then(Weak::upgrade) {
            return feed;
        }
        if known.feeds.len() >= known.sweep_at.max(SWEEP_MIN) {
            known.feeds.retain(|_, feed| feed.strong_count() > 0);
            known.sweep_at = 2 * known.feeds.len();
        }
        let feed = feed();
        known.feeds.insert(want, Arc::downgrade(&feed));
        feed
    }
}

impl Feed {
    /// What changed behind `from`, a frame at most; nothing if nothing did.
    ///
    /// # Errors
    /// The ring has moved past `from`.
    pub(super) fn read(self: &Arc<Self>, cache: &Cache, from: u64) -> Result<Option<Made>, TooOld> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = |from| move |made: &&Made| made.from <= from && from < made.first;
        if let Some(made) = state.made.iter().find(at(from)) {
            let has_more = made.has_more || state.made.iter().any(|next| at(made.to)(&next));
            return Ok(Some(Made { has_more, ..made.clone() }));
        }
        let Some(made) = state.events.read(cache, from)? else { return Ok(None) };
        if Arc::strong_count(self) == 1 {
            state.made.clear();
            return Ok(Some(made));
        }
        let mut kept = 0;
        state.made.retain(|made| {
            kept += made.frame.len();
            kept <= KEPT_BYTES
        });
        state.made.push_front(made.clone());
        Ok(Some(made))
    }
}
