//! The one thread that writes. Transactions that wait together become one engine commit and one sync (group commit);
//! every one of them is answered after that sync. Compaction runs in between, a step at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::engine::Engine;
use super::table::{Fault, put_newest, put_oldest};
use super::write::{Refusal, Writer};
use crate::store::{Batch, CommitError, ReadError, Revision, Transaction, Write};
use crate::watch::Hub;

/// Most transactions that wait for the writer; the next one waits in its caller.
pub(super) const QUEUE_TRANSACTIONS_MAX: usize = 1024;
/// Most transactions in one engine commit.
const GROUP_TRANSACTIONS_MAX: usize = 256;
/// About how many bytes one engine commit writes at most.
const GROUP_BYTES_MAX: usize = 8 << 20;
/// How long a full disk is believed to be full before the next try, milliseconds.
const FULL_RETRY_MS: u64 = 500;

/// What the writer is asked to do.
pub(super) enum Job {
    Commit { transaction: Transaction, answer: oneshot::Sender<Result<Revision, CommitError>> },
    Compact { oldest: Revision, answer: oneshot::Sender<Result<(), ReadError>> },
}

type Pending = (Transaction, oneshot::Sender<Result<Revision, CommitError>>);

/// A compaction that is not through yet.
struct Compaction {
    oldest: Revision,
    answer: Option<oneshot::Sender<Result<(), ReadError>>>,
}

/// The writer's state.
pub(super) struct Loop {
    pub(super) engine: Arc<Engine>,
    pub(super) hub: Arc<Hub>,
    pub(super) jobs: mpsc::Receiver<Job>,
    pub(super) full_until: Option<Instant>,
}

impl Loop {
    /// Runs until every sender of jobs is gone and all jobs are answered.
    pub(super) fn run(mut self) {
        let mut compactions: Vec<Compaction> = Vec::new();
        let mut group: Vec<Pending> = Vec::new();
        loop {
            // A running compaction must not wait for the next write, nor writes for the compaction.
            let first = if compactions.is_empty() {
                let Some(job) = self.jobs.blocking_recv() else { break };
                Some(job)
            } else {
                self.jobs.try_recv().ok()
            };
            self.gather(first, &mut group, &mut compactions);
            if !group.is_empty() {
                self.commit(std::mem::take(&mut group));
            }
            if let Some(compaction) = compactions.pop() {
                compactions.extend(self.compact(compaction));
            }
        }
        self.hub.close();
    }

    fn gather(&mut self, first: Option<Job>, group: &mut Vec<Pending>, compactions: &mut Vec<Compaction>) {
        let mut next = first;
        let mut size_bytes = 0;
        while let Some(job) = next {
            match job {
                Job::Commit { transaction, answer } => {
                    size_bytes += transaction.writes.iter().map(written_bytes).sum::<usize>();
                    group.push((transaction, answer));
                }
                Job::Compact { oldest, answer } => {
                    compactions.push(Compaction { oldest, answer: Some(answer) });
                }
            }
            if group.len() >= GROUP_TRANSACTIONS_MAX || size_bytes >= GROUP_BYTES_MAX {
                return;
            }
            next = self.jobs.try_recv().ok();
        }
    }

    fn commit(&mut self, group: Vec<Pending>) {
        if self.full_until.is_some_and(|until| Instant::now() < until) {
            for (_, answer) in group {
                let _ = answer.send(Err(CommitError::Full("the disk was full a moment ago".into())));
            }
            return;
        }
        self.full_until = None;
        match self.write(&group) {
            Ok((answers, batches)) => {
                if let Some(last) = batches.last() {
                    self.engine.set_newest(last.revision);
                    self.hub.publish(batches);
                }
                for ((_, answer), result) in group.into_iter().zip(answers) {
                    let _ = answer.send(result);
                }
            }
            Err(fault) => self.fail(group, &fault),
        }
    }

    /// One engine transaction for all of them, synced.
    #[allow(clippy::type_complexity)]
    fn write(&self, group: &[Pending]) -> Result<(Vec<Result<Revision, CommitError>>, Vec<Batch>), Fault> {
        let database = self.engine.database()?;
        let transaction = database.begin_write()?;
        let before = self.engine.newest();
        let mut answers = Vec::with_capacity(group.len());
        let mut batches = Vec::with_capacity(group.len());
        let newest = {
            let mut writer = Writer::open(&transaction, before)?;
            for (wanted, _) in group {
                let answer = match writer.apply(wanted) {
                    Ok(batch) => {
                        batches.extend(batch);
                        Ok(writer.newest())
                    }
                    Err(Refusal::This(error)) => Err(error),
                    Err(Refusal::Group(fault)) => return Err(fault),
                };
                answers.push(answer);
            }
            writer.newest()
        };
        if newest == before {
            // Nothing to write; what the answers speak of is on disk already.
            transaction.abort()?;
        } else {
            put_newest(&transaction, newest)?;
            transaction.commit()?;
        }
        Ok((answers, batches))
    }

    fn fail(&mut self, group: Vec<Pending>, fault: &Fault) {
        let full = self.engine.is_only_full();
        let text = fault.to_string();
        tracing::error!(error = %text, full, "the store could not be written");
        if full {
            self.full_until = Some(Instant::now() + Duration::from_millis(FULL_RETRY_MS));
            self.reopen();
        }
        for (_, answer) in group {
            let fault = text.clone().into();
            let error = if full { CommitError::Full(fault) } else { CommitError::Engine(fault) };
            let _ = answer.send(Err(error));
        }
    }

    /// The engine refuses everything after a failed write until it is opened anew.
    fn reopen(&self) {
        if let Err(error) = self.engine.reopen() {
            tracing::error!(error = %error, "the store could not be opened again");
            return;
        }
        // Nothing of a group that met a full disk is expected to be there; if it is, watchers must see it.
        let mut reached = self.engine.published();
        while reached < self.engine.newest() {
            match self.engine.snapshot().map_err(ReadError::from).and_then(|s| s.history(&[], reached)) {
                Ok((batches, next)) if next > reached => {
                    self.hub.publish(batches);
                    reached = next;
                }
                Ok(_) => return,
                Err(error) => {
                    tracing::error!(error = %error, "recovered commits could not be read");
                    return;
                }
            }
        }
    }

    /// One step; gives the compaction back while there is more to do.
    fn compact(&self, mut compaction: Compaction) -> Option<Compaction> {
        let oldest = compaction.oldest;
        match self.compact_step(oldest) {
            Ok(done) => {
                self.engine.raise_oldest(oldest);
                // Once the bound is written the promise is kept; what remains is only space.
                if let Some(answer) = compaction.answer.take() {
                    let _ = answer.send(Ok(()));
                }
                (!done).then_some(compaction)
            }
            Err(fault) => {
                tracing::error!(error = %fault, "the store could not be compacted");
                if self.engine.is_only_full() {
                    self.reopen();
                }
                if let Some(answer) = compaction.answer.take() {
                    let _ = answer.send(Err(fault.into()));
                }
                None
            }
        }
    }

    fn compact_step(&self, oldest: Revision) -> Result<bool, Fault> {
        let transaction = self.engine.database()?.begin_write()?;
        if oldest > self.engine.oldest() {
            put_oldest(&transaction, oldest)?;
        }
        let done = Writer::open(&transaction, self.engine.newest())?.compact_step(oldest)?;
        transaction.commit()?;
        Ok(done)
    }
}

fn written_bytes(write: &Write) -> usize {
    match write {
        Write::Put(key, value) => key.len() + value.len(),
        Write::Delete(key) => key.len(),
    }
}
