//! What etcd's watch tells, put together to whole commits, for the hub and for watchers that read the past.
//!
//! The watch of everything is what says how far this store has come: etcd's own word on that is not used, because releases
//! that are in use send it before the events it speaks of (etcd issues 15220 and 20221).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::layout::{self, Layout, Place, Record};
use super::link::{Change, Link, LookError, Sighting};
use super::message::{EVENT_DELETE, WatchCreate, WatchEvent, WatchRequest, WatchResponse};
use super::wire::{self, Answers, Wire, WireError};
use crate::store::{Batch, Event, Revision, WatchEnd};
use crate::watch::{Joined, Sent, WATCH_QUEUE_MAX, Watcher};

/// First wait before the watch is begun again.
const AGAIN: Duration = Duration::from_millis(100);
/// The same at most: each try that fails doubles it.
const AGAIN_MAX: Duration = Duration::from_secs(2);
/// How long etcd may take to begin a watch.
const BEGIN_WAIT: Duration = Duration::from_secs(5);

/// Why the watch does not go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Look(#[from] LookError),
    /// What comes next was compacted away, up to here (0: not known).
    #[error("etcd is compacted up to {0}")]
    Compacted(i64),
}

/// Reads a watch of everything.
pub(super) struct Reader {
    answers: Answers,
    told: Told,
}

/// Puts together what a watch of everything told.
struct Told {
    layout: Layout,
    record: Record,
    /// What is not behind this is not told.
    behind: Revision,
    /// Commits of one transaction of etcd of which more may come.
    held: Vec<(Place, Vec<Event>)>,
    held_revision: i64,
    last: Option<Sighting>,
}

impl Reader {
    /// Begins behind a revision.
    async fn open(wire: &Wire, layout: &Layout, record: Record, behind: Revision) -> Result<Self, Broken> {
        let Some(start_revision) = record.etcd_behind(behind) else { return Err(Broken::Compacted(0)) };
        let (key, range_end) = layout.everything();
        let create = WatchCreate { key, range_end, start_revision, prev_kv: true, fragment: true };
        let opening = async {
            let mut answers = wire.stream(wire::WATCH, &WatchRequest { create: Some(create) }).await?;
            let first: WatchResponse = answers.message().await?;
            refusal(&first)?;
            Ok::<Answers, Broken>(answers)
        };
        let answers = tokio::time::timeout(BEGIN_WAIT, opening)
            .await
            .map_err(|_| Broken::Wire(WireError::Late { limit: BEGIN_WAIT }))??;
        Ok(Self { answers, told: Told::new(layout.clone(), record, behind) })
    }

    /// The oldest revision that can be read, by a watch of one key that was written from the beginning.
    pub(super) async fn oldest(wire: &Wire, key: Bytes) -> Result<i64, WireError> {
        let create = WatchCreate { key, start_revision: 1, ..WatchCreate::default() };
        let mut answers = wire.stream(wire::WATCH, &WatchRequest { create: Some(create) }).await?;
        loop {
            let answer: WatchResponse = answers.message().await?;
            if answer.compact_revision > 0 {
                return Ok(answer.compact_revision);
            }
            if !answer.events.is_empty() {
                return Ok(1);
            }
        }
    }

    /// The next commits that are whole; one without events of the store is told too.
    async fn next(&mut self) -> Result<Vec<Batch>, Broken> {
        let answer: WatchResponse = self.answers.message().await?;
        refusal(&answer)?;
        self.told.take(answer)
    }
}

impl Told {
    fn new(layout: Layout, record: Record, behind: Revision) -> Self {
        Self { layout, record, behind, held: Vec::new(), held_revision: 0, last: None }
    }

    fn take(&mut self, answer: WatchResponse) -> Result<Vec<Batch>, Broken> {
        let mut batches = Vec::new();
        for told in answer.events {
            let Some(revision) = told.kv.as_ref().map(|kv| kv.mod_revision) else { continue };
            if revision != self.held_revision {
                self.release(&mut batches);
                self.held_revision = revision;
            }
            let Some((place, event)) = self.event(told)? else { continue };
            // They come in the order of the commits.
            match self.held.last_mut() {
                Some((of, events)) if *of == place => events.push(event),
                _ => self.held.push((place, vec![event])),
            }
        }
        if !answer.fragment {
            self.release(&mut batches);
        }
        Ok(batches)
    }

    /// The commits of the transaction that is whole now, and that it is.
    fn release(&mut self, batches: &mut Vec<Batch>) {
        if self.held_revision == 0 {
            return;
        }
        for (place, events) in self.held.drain(..) {
            let revision = self.record.at(self.held_revision, place);
            batches.push(Batch { revision, events: Arc::from(events) });
        }
        let revision = self.record.last(self.held_revision);
        batches.push(Batch { revision, events: Arc::from([]) });
        self.held_revision = 0;
    }

    fn event(&mut self, told: WatchEvent) -> Result<Option<(Place, Event)>, Broken> {
        let (Some(kv), removed) = (told.kv, told.kind == EVENT_DELETE) else { return Ok(None) };
        let change = match &told.previous {
            _ if !removed => Some(Change::Put(kv.value.clone())),
            previous => previous.as_ref().map(|previous| Change::Delete(previous.mod_revision)),
        };
        if let Some(change) = change {
            self.last = Some(Sighting { key: kv.key.clone(), revision: kv.mod_revision, change });
        }
        if self.layout.key_of(&kv.key).is_none() {
            return Ok(None);
        }
        let place = layout::place(&kv);
        let revision = self.record.at(kv.mod_revision, place);
        if revision <= self.behind {
            return Ok(None);
        }
        let entry = |kv| self.record.entry(&self.layout, kv);
        let previous = told.previous.as_ref().and_then(entry);
        // What was there before is read when the event is sent, and may be compacted by then.
        if previous.is_none() && (removed || kv.create_revision != kv.mod_revision) {
            return Err(Broken::Compacted(0));
        }
        let event = match previous {
            Some(previous) if removed => Some(Event::Delete { previous, revision }),
            previous => entry(&kv).map(|entry| Event::Put { entry, previous }),
        };
        Ok(event.map(|event| (place, event)))
    }
}

fn refusal(answer: &WatchResponse) -> Result<(), Broken> {
    if !answer.canceled {
        return Ok(());
    }
    if answer.compact_revision > 0 {
        return Err(Broken::Compacted(answer.compact_revision));
    }
    Err(WireError::Lost(format!("etcd ended the watch: {}", answer.cancel_reason).into()).into())
}

/// Feeds the hub until the store closes.
pub(super) async fn run(link: Arc<Link>) {
    let (mut changes, mut silences) = (link.changes(), link.silences());
    let mut wait = AGAIN;
    loop {
        changes.mark_unchanged();
        silences.mark_unchanged();
        let broken = tokio::select! {
            broken = follow(&link, &mut wait) => broken,
            // Another history: from its beginning.
            _ = changes.changed() => continue,
            _ = silences.changed() => continue,
        };
        let skipped = match broken {
            Broken::Compacted(oldest) => {
                tracing::warn!(oldest, "etcd was compacted past the store's watch: everybody reads anew");
                link.skip(oldest).await
            }
            Broken::Wire(error) => Err(error),
            Broken::Look(error) => {
                tracing::debug!(%error, "etcd's watch is begun again");
                link.doubt.notify_one();
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(AGAIN_MAX);
                continue;
            }
        };
        if let Err(error) = skipped {
            tracing::debug!(error = wire::told(&error), "etcd's watch is begun again");
            link.doubt.notify_one();
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(AGAIN_MAX);
        }
    }
}

async fn follow(link: &Link, wait: &mut Duration) -> Broken {
    let record = link.record();
    let mut reader = match Reader::open(&link.wire, &link.layout, record, link.hub.newest()).await {
        Ok(reader) => reader,
        Err(broken) => return broken,
    };
    // Only now: an etcd that is restored after this look ends the stream.
    if let Err(error) = link.verify(true).await {
        return error.into();
    }
    let begun = tokio::time::Instant::now();
    loop {
        match reader.next().await {
            Ok(batches) => {
                // Only now: one that ends as soon as it has begun must not be begun ten times a second.
                *wait = AGAIN;
                // The last commit, if there is any: that the transaction is whole not everybody is told at once.
                let commits = batches.iter().rev().find(|batch| !batch.events.is_empty());
                if let Some(last) = commits.or(batches.last()) {
                    link.told(&record, last.revision, reader.told.last.take());
                    link.hub.publish(batches);
                }
            }
            Err(broken) => {
                if begun.elapsed() > AGAIN_MAX {
                    *wait = AGAIN;
                }
                return broken;
            }
        }
    }
}

/// Feeds a watcher from etcd's history until the hub holds all it still wants.
pub(super) async fn catch_up(link: Arc<Link>, record: Record, mut watcher: Watcher) {
    let (mut changes, mut silences) = (link.changes(), link.silences());
    let mut wait = AGAIN;
    let mut reader: Option<Reader> = None;
    let end = loop {
        if watcher.is_gone() {
            return;
        }
        if link.record() != record {
            break WatchEnd::Restored;
        }
        let step = async {
            if reader.is_none() {
                let opened = Reader::open(&link.wire, &link.layout, record, watcher.reached()).await?;
                // As in `follow`: what it reads is of the history that the watcher is told.
                link.verify(true).await?;
                reader = Some(opened);
                if link.record() != record {
                    return Ok(Vec::new());
                }
            }
            match reader.as_mut() {
                Some(reader) => reader.next().await,
                None => Ok(Vec::new()),
            }
        };
        let told = tokio::select! {
            told = step => told,
            _ = changes.changed() => Ok(Vec::new()),
            _ = silences.changed() => Err(WireError::Lost("a watch beside it told nothing".into()).into()),
        };
        match told {
            Ok(batches) => {
                for batch in batches {
                    if matches!(watcher.catch_up(&batch).await, Sent::Gone) {
                        return;
                    }
                }
                wait = AGAIN;
            }
            Err(Broken::Compacted(_)) => {
                link.cannot_tell(&record, watcher.reached());
                break WatchEnd::TooSlow { queue_max: WATCH_QUEUE_MAX };
            }
            Err(error) => {
                tracing::debug!(%error, "a watcher's history is read again");
                reader = None;
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(AGAIN_MAX);
            }
        }
        watcher = match link.hub.join(watcher) {
            Joined::Yes => return,
            Joined::NotYet(watcher) => watcher,
        };
    };
    watcher.end(end).await;
}

#[cfg(test)]
mod tests {
    use super::super::message::KeyValue;
    use super::*;
    use crate::store::StoreIdentity;

    const RECORD: Record = Record { identity: StoreIdentity { id: [0; 16], epoch: 0 }, base: 100 };

    fn layout() -> Layout {
        Layout::new("a")
    }

    /// An event of a key that was made by a transaction of revision 2, by one of its commits.
    fn event(key: &'static str, revision: i64, place: Place, previous: Option<i64>) -> WatchEvent {
        let kv = |mod_revision, place| KeyValue {
            key: layout().key(key.as_bytes()),
            create_revision: 2,
            mod_revision,
            value: layout::stored(place, b"v"),
        };
        WatchEvent { kind: 0, kv: Some(kv(revision, place)), previous: previous.map(|at| kv(at, 0)) }
    }

    fn told(behind: Revision) -> Told {
        Told::new(layout(), RECORD, behind)
    }

    fn answer(events: Vec<WatchEvent>, fragment: bool) -> WatchResponse {
        WatchResponse { events, fragment, ..WatchResponse::default() }
    }

    fn sizes(batches: &[Batch]) -> Vec<(Revision, usize)> {
        batches.iter().map(|batch| (batch.revision, batch.events.len())).collect()
    }

    #[test]
    fn commits_are_told_when_all_of_their_transaction_has_come() {
        let mut told = told(Revision(0));
        let (a, b) = (event("a", 2, 0, None), event("a", 3, 0, Some(2)));
        let some = answer(vec![a, b, event("b", 3, 0, Some(2))], true);
        assert_eq!(sizes(&told.take(some).unwrap()), [(RECORD.first(2), 1), (RECORD.last(2), 0)]);
        assert_eq!(sizes(&told.take(answer(vec![event("c", 3, 1, Some(2))], true)).unwrap()), []);
        let rest = told.take(answer(vec![event("d", 3, 1, Some(2)), event("e", 3, 2, Some(2))], false));
        let whole = [(RECORD.at(3, 0), 2), (RECORD.at(3, 1), 2), (RECORD.at(3, 2), 1), (RECORD.last(3), 0)];
        assert_eq!(sizes(&rest.unwrap()), whole);
    }

    #[test]
    fn who_goes_on_within_a_transaction_is_told_the_rest_of_it() {
        let mut told = told(RECORD.at(3, 1));
        // What was there before the part that was told already is compacted, maybe.
        let events = vec![event("a", 3, 0, None), event("b", 3, 1, None), event("c", 3, 2, Some(2))];
        let rest = told.take(answer(events, false)).unwrap();
        assert_eq!(sizes(&rest), [(RECORD.at(3, 2), 1), (RECORD.last(3), 0)]);
    }

    #[test]
    fn what_was_there_before_is_told_or_nothing_is() {
        for (revision, kind) in [(3, 0), (3, EVENT_DELETE)] {
            let event = WatchEvent { kind, ..event("a", revision, 0, None) };
            let broken = told(Revision(0)).take(answer(vec![event], false));
            assert!(matches!(broken, Err(Broken::Compacted(_))), "{broken:?}");
        }
    }
}
