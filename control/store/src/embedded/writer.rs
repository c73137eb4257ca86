//! The one thread that writes. Transactions that wait together become one engine commit and one sync (group commit);
//! every one of them is answered after that sync. Compaction runs in between, a step at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use super::OpenError;
use super::engine::{Engine, Found};
use super::table::{Fault, put_newest, put_oldest};
use super::write::{Refusal, Writer};
use crate::disk::Trouble;
use crate::store::{Batch, CommitError, ReadError, Revision, Transaction, Write};
use crate::watch::Hub;

/// Most transactions that wait for the writer; the next one waits in its caller.
pub(super) const QUEUE_TRANSACTIONS_MAX: usize = 1024;
/// Most transactions in one engine commit.
const GROUP_TRANSACTIONS_MAX: usize = 256;
/// About how many bytes one engine commit writes at most.
const GROUP_BYTES_MAX: usize = 8 << 20;
/// How long a disk in trouble is believed to be so before the next try.
const RETRY: Duration = Duration::from_millis(500);
/// The same at most: each try that fails doubles it.
const RETRY_MAX: Duration = Duration::from_secs(4);
/// How often the writer looks for jobs while it waits for the next try.
const LOOK: Duration = Duration::from_millis(10);

/// What the writer is asked to do.
pub(super) enum Job {
    Commit {
        transaction: Transaction,
        answer: oneshot::Sender<Result<Revision, CommitError>>,
    },
    Compact {
        oldest: Revision,
        answer: oneshot::Sender<Result<(), ReadError>>,
    },
    /// A read has failed: the engine may have to be opened anew.
    Look,
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
    pub(super) trouble: Option<Ailing>,
}

/// A disk that did not take the last write.
pub(super) struct Ailing {
    met: Trouble,
    why: String,
    /// When a write is tried, at the earliest.
    next: Instant,
    /// How long after that the next one is.
    wait: Duration,
    /// When it is looked whether the disk says that it is over.
    look: Instant,
    /// The disk has lost what was acknowledged: nothing is tried any more.
    lost: bool,
}

impl Ailing {
    /// What a write that is not tried is answered.
    fn refusal(&self) -> CommitError {
        let why = self.why.clone().into();
        if self.met == Trouble::Full { CommitError::Full(why) } else { CommitError::Unavailable(why) }
    }

    fn is_due(&self) -> bool {
        !self.lost && Instant::now() >= self.next
    }

    fn put_off(&mut self) {
        self.next = Instant::now() + self.wait;
        self.wait = (self.wait * 2).min(RETRY_MAX);
    }
}

impl Loop {
    /// Runs until every sender of jobs is gone and all jobs are answered.
    pub(super) fn run(mut self) {
        let mut compactions: Vec<Compaction> = Vec::new();
        let mut group: Vec<Pending> = Vec::new();
        loop {
            // A running compaction must not wait for the next write, nor writes for the compaction.
            let first = if self.trouble.is_some() {
                match self.jobs.try_recv() {
                    Ok(job) => Some(job),
                    Err(TryRecvError::Disconnected) => break,
                    Err(TryRecvError::Empty) => {
                        std::thread::sleep(LOOK);
                        self.try_again();
                        continue;
                    }
                }
            } else if compactions.is_empty() {
                let Some(job) = self.jobs.blocking_recv() else { break };
                Some(job)
            } else {
                self.jobs.try_recv().ok()
            };
            self.gather(first, &mut group, &mut compactions);
            if !group.is_empty() {
                self.commit(std::mem::take(&mut group));
            }
            // What is left of one in trouble is only space; the next one takes it.
            if self.trouble.is_some() {
                compactions.clear();
            } else if let Some(compaction) = compactions.pop() {
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
                Job::Look => self.look(),
                Job::Compact { answer, .. } if self.trouble.is_some() => {
                    let _ = answer.send(Err(ReadError::Engine("the store takes no writes for now".into())));
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
        if let Some(trouble) = &self.trouble {
            // One that is full has room for what removes, whatever it says; another is believed.
            let told = trouble.met == Trouble::Full || self.engine.disk().is_open_to_writes().is_ok();
            let open = trouble.is_due() && told && self.is_open();
            if let Some(trouble) = self.trouble.as_mut().filter(|_| !open) {
                if trouble.is_due() {
                    trouble.put_off();
                }
                for (_, answer) in group {
                    let _ = answer.send(Err(trouble.refusal()));
                }
                return;
            }
        }
        let mut committing = false;
        match self.write(&group, &mut committing) {
            Ok((answers, batches)) => {
                if let Some(last) = batches.last() {
                    self.engine.set_newest(last.revision);
                    self.hub.publish(batches);
                }
                for ((_, answer), result) in group.into_iter().zip(answers) {
                    let _ = answer.send(result);
                }
                self.recovered();
            }
            Err(fault) => self.fail(group, &fault, committing),
        }
    }

    /// Whether the engine can be written, opened anew if it must be. Readers keep theirs until it is.
    fn is_open(&mut self) -> bool {
        if self.engine.is_writable() {
            return true;
        }
        if let Err(error) = self.engine.reopen_to_write() {
            tracing::error!(error = told(&error), "the store could not be opened again to be written");
            return false;
        }
        self.publish_recovered()
    }

    /// A write has succeeded: the trouble is over, unless the disk was full and says that there is no room for much more.
    fn recovered(&mut self) {
        let Some(trouble) = &mut self.trouble else { return };
        if trouble.met == Trouble::Full && self.engine.disk().is_open_to_writes().is_err() {
            (trouble.next, trouble.wait) = (Instant::now(), RETRY);
            return;
        }
        tracing::info!("the store takes writes again");
        self.trouble = None;
        self.engine.set_trouble(None);
    }

    /// Nobody writes: looks by itself whether the trouble is over.
    fn try_again(&mut self) {
        let Some(trouble) = self.trouble.as_mut().filter(|trouble| Instant::now() >= trouble.look) else {
            return;
        };
        trouble.look = Instant::now() + RETRY;
        let due = trouble.is_due();
        // A reader that met a failure, too, has none any more.
        if !trouble.lost && !self.engine.is_readable() {
            let began = Instant::now();
            self.read_on();
            // Opening takes as long as the store is large, and writers wait for their refusal meanwhile: most of the time none does.
            let rest = RETRY.max(began.elapsed() * 4);
            self.trouble.iter_mut().for_each(|trouble| trouble.look = Instant::now() + rest);
        }
        if !due || self.engine.disk().is_open_to_writes().is_err() {
            return;
        }
        if !self.is_open() {
            self.trouble.iter_mut().for_each(Ailing::put_off);
            return;
        }
        match self.write_nothing() {
            Ok(()) => self.recovered(),
            Err(fault) => self.fail(Vec::new(), &fault, true),
        }
    }

    /// A read has failed.
    fn look(&mut self) {
        if self.trouble.is_none() && self.engine.met() != Trouble::None {
            self.fail(Vec::new(), &Fault::Unread, false);
        }
    }

    /// Opens the engine to be read. Whether the disk holds what was acknowledged and nothing more.
    fn read_on(&mut self) -> bool {
        self.engine.retire();
        match self.engine.reopen_to_read() {
            Ok(found) => found == Found::Same,
            Err(error) => {
                let why = told(&error);
                tracing::error!(error = why, "the store could not be opened again to be read");
                if let (OpenError::Lost { .. }, Some(trouble)) = (&error, &mut self.trouble) {
                    self.engine.set_trouble(Some(&why));
                    (trouble.lost, trouble.why) = (true, why);
                }
                false
            }
        }
    }

    /// A commit that changes nothing, on the disk for good.
    fn write_nothing(&self) -> Result<(), Fault> {
        let transaction = self.engine.database()?.begin_write()?;
        put_newest(&transaction, self.engine.newest())?;
        Ok(transaction.commit()?)
    }

    /// One engine transaction for all of them, synced.
    #[allow(clippy::type_complexity)]
    fn write(
        &self,
        group: &[Pending],
        committing: &mut bool,
    ) -> Result<(Vec<Result<Revision, CommitError>>, Vec<Batch>), Fault> {
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
            *committing = true;
            transaction.commit()?;
        }
        Ok((answers, batches))
    }

    /// `committing`: the engine had begun to write the group.
    fn fail(&mut self, group: Vec<Pending>, fault: &Fault, committing: bool) {
        let (met, why) = (self.engine.met(), told(fault));
        tracing::error!(error = %why, ?met, "the store could not be written");
        if met == Trouble::None {
            // Not the disk's: what the transaction met in the store is damaged, and nothing of it is written.
            return group.into_iter().for_each(|(_, answer)| {
                let _ = answer.send(Err(CommitError::Unavailable(why.clone().into())));
            });
        }
        if met == Trouble::Failed
            && let Err(error) = self.engine.disk().forget_memory()
        {
            tracing::error!(%error, "what the system holds of the store in memory could not be given up");
        }
        self.engine.set_trouble(Some(&why));
        let (now, wait) = (Instant::now(), self.trouble.as_ref().map_or(RETRY, |trouble| trouble.wait));
        let trouble = Ailing { met, why, next: now, wait, look: now + RETRY, lost: false };
        let trouble = self.trouble.insert(trouble);
        trouble.put_off();
        // Of a group that failed everything is there or nothing.
        let nothing = self.read_on() && (met != Trouble::Failed || !committing);
        let Some(trouble) = &self.trouble else { return };
        for (_, answer) in group {
            let why = || trouble.why.clone().into();
            let error = if nothing { trouble.refusal() } else { CommitError::Uncertain(why()) };
            let _ = answer.send(Err(error));
        }
    }

    /// A commit that nobody was answered about is there: watchers must see it. Whether all of them could be read.
    fn publish_recovered(&self) -> bool {
        let mut reached = self.engine.published();
        while reached < self.engine.newest() {
            match self.engine.snapshot().map_err(ReadError::from).and_then(|s| s.history(&[], reached)) {
                Ok((batches, next)) if next > reached => {
                    self.hub.publish(batches);
                    reached = next;
                    self.engine.set_published(reached);
                }
                Ok(_) => break,
                Err(error) => {
                    tracing::error!(error = told(&error), "recovered commits could not be read");
                    return false;
                }
            }
        }
        true
    }

    /// One step; gives the compaction back while there is more to do.
    fn compact(&mut self, mut compaction: Compaction) -> Option<Compaction> {
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
                tracing::error!(error = told(&fault), "the store could not be compacted");
                if self.engine.met() != Trouble::None {
                    self.fail(Vec::new(), &fault, true);
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

/// An error with its causes.
fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn written_bytes(write: &Write) -> usize {
    match write {
        Write::Put(key, value) => key.len() + value.len(),
        Write::Delete(key) => key.len(),
    }
}
