//! Commits that come at once share a transaction of etcd, whose consensus and sync cost what they cost, however much is in it.
//! Each stays a commit of its own: it has a revision, a batch of the watch and an answer, and is taken or refused by itself.
//!
//! What removes keys goes alone: of a removed key etcd keeps nothing that could say which commit removed it.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::commit::LIMITS;
use super::layout::COMMITS_MAX;
use super::link::Link;
use crate::store::{Check, CommitError, Revision, Transaction, Write};

/// About how many bytes of keys and values one holds, unless one commit is larger.
const BYTES_MAX: usize = 512 << 10;

/// A commit that waits.
struct Waiting {
    transaction: Transaction,
    answer: oneshot::Sender<Result<Revision, CommitError>>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// A transaction of etcd is under way. One at a time: the longer it takes the more goes with the next.
    under_way: bool,
}

/// The commits that wait for the next transaction of etcd.
pub(super) struct Writes {
    link: Arc<Link>,
    queue: Mutex<Queue>,
}

impl Writes {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self { link, queue: Mutex::default() }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing below panics half way through a change, so a poisoned lock still guards a whole state.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out a transaction, together with others that come meanwhile.
    pub(super) async fn commit(self: &Arc<Self>, transaction: Transaction) -> Result<Revision, CommitError> {
        transaction.fits(&LIMITS).map_err(|reason| CommitError::Refused { reason })?;
        let only_puts = transaction.writes.iter().all(|write| matches!(write, Write::Put(..)));
        if transaction.writes.is_empty() || !only_puts {
            return self.link.commit(transaction).await;
        }
        // What is under way may be waiting for an etcd that does not answer.
        self.link.takes_writes()?;
        let (answer, answered) = oneshot::channel();
        let begins = {
            let mut queue = self.queue();
            queue.waiting.push_back(Waiting { transaction, answer });
            !std::mem::replace(&mut queue.under_way, true)
        };
        if begins {
            tokio::spawn(self.clone().carry_out());
        }
        answered.await.unwrap_or_else(|_| Err(CommitError::Uncertain("the store ended".into())))
    }

    /// Sends what waits, until nothing does.
    async fn carry_out(self: Arc<Self>) {
        let under_way = UnderWay(&self);
        while let Some(together) = self.next() {
            self.send(together).await;
        }
        std::mem::forget(under_way);
    }

    /// What goes next; where there is nothing, none is under way any more.
    fn next(&self) -> Option<Vec<Waiting>> {
        let mut queue = self.queue();
        let together = take(&mut queue.waiting);
        queue.under_way = !together.is_empty();
        queue.under_way.then_some(together)
    }

    async fn send(&self, together: Vec<Waiting>) {
        let transactions: Vec<&Transaction> = together.iter().map(|waiting| &waiting.transaction).collect();
        let outcomes = match transactions.len() {
            1 => None,
            _ => self.link.commit_together(&transactions).await.ok(),
        };
        if let Some(outcomes) = outcomes {
            for (waiting, outcome) in together.into_iter().zip(outcomes) {
                // Who does not wait any more is not told.
                let _ = waiting.answer.send(outcome);
            }
            return;
        }
        let alone = together.into_iter().map(|Waiting { transaction, answer }| async move {
            let _ = answer.send(self.link.commit(transaction).await);
        });
        futures_util::future::join_all(alone).await;
    }
}

/// Of one that did not come to its end, as when the runtime ends: whoever waits is told, and the next begins anew.
struct UnderWay<'a>(&'a Writes);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        queue.under_way = false;
        queue.waiting.clear();
    }
}

/// The first ones that go into one transaction of etcd. Others pass one that must wait for the next, but none that has to do
/// with it.
fn take(waiting: &mut VecDeque<Waiting>) -> Vec<Waiting> {
    let (mut taken, mut left, mut room) = (Vec::new(), VecDeque::new(), Room::default());
    while room.commits < COMMITS_MAX
        && let Some(next) = waiting.pop_front()
    {
        // Whoever does not wait any more has asked for nothing yet.
        if next.answer.is_closed() {
            continue;
        }
        if room.takes(&next.transaction) {
            taken.push(next);
        } else {
            room.reserve(&next.transaction);
            left.push_back(next);
        }
    }
    left.append(waiting);
    *waiting = left;
    taken
}

/// What is in a transaction of etcd already.
#[derive(Default)]
struct Room {
    commits: usize,
    checks: usize,
    writes: usize,
    bytes: usize,
    written: HashSet<Bytes>,
    checked: HashSet<Bytes>,
}

impl Room {
    /// Adds a commit if there is room, and none of the others writes what it asks for or asks for what it writes: conditions
    /// are looked at before anything is written.
    fn takes(&mut self, transaction: &Transaction) -> bool {
        let bytes: usize = written(transaction).map(|(_, bytes)| bytes).sum();
        let fits = self.checks + transaction.checks.len() <= LIMITS.steps_max
            && self.writes + transaction.writes.len() <= LIMITS.steps_max
            && self.bytes + bytes <= BYTES_MAX;
        let apart = || {
            checked(transaction).all(|key| !self.written.contains(key))
                && written(transaction)
                    .all(|(key, _)| !self.written.contains(key) && !self.checked.contains(key))
        };
        if self.commits > 0 && !(fits && apart()) {
            return false;
        }
        self.reserve(transaction);
        self.commits += 1;
        self.checks += transaction.checks.len();
        self.writes += transaction.writes.len();
        self.bytes += bytes;
        true
    }

    /// What has to do with this one waits for it.
    fn reserve(&mut self, transaction: &Transaction) {
        self.written.extend(written(transaction).map(|(key, _)| key.clone()));
        self.checked.extend(checked(transaction).cloned());
    }
}

/// The keys that it asks for.
fn checked(transaction: &Transaction) -> impl Iterator<Item = &Bytes> {
    transaction.checks.iter().map(|check| match check {
        Check::Absent(key) | Check::Unchanged(key, _) => key,
    })
}

/// The keys that it writes, with the bytes of each write.
fn written(transaction: &Transaction) -> impl Iterator<Item = (&Bytes, usize)> {
    transaction.writes.iter().map(|write| match write {
        Write::Put(key, value) => (key, key.len() + value.len()),
        Write::Delete(key) => (key, key.len()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    fn put(text: &str, bytes: usize) -> Transaction {
        Transaction { checks: vec![], writes: vec![Write::Put(key(text), vec![0; bytes].into())] }
    }

    fn created(text: &str) -> Transaction {
        Transaction { checks: vec![Check::Absent(key(text))], ..put(text, 1) }
    }

    fn checked(of: &str, text: &str) -> Transaction {
        Transaction { checks: vec![Check::Unchanged(key(of), Revision(1))], ..put(text, 1) }
    }

    /// How many go together, transaction after transaction.
    fn sizes(transactions: Vec<Transaction>) -> Vec<usize> {
        let mut answers = Vec::new();
        let waiting = |transaction| {
            let (answer, answered) = oneshot::channel();
            answers.push(answered);
            Waiting { transaction, answer }
        };
        let mut queue: VecDeque<Waiting> = transactions.into_iter().map(waiting).collect();
        std::iter::from_fn(|| Some(take(&mut queue).len()).filter(|taken| *taken > 0)).collect()
    }

    #[test]
    fn what_has_nothing_to_do_with_each_other_goes_together() {
        assert_eq!(sizes(vec![created("a"), created("b"), put("c", 1)]), [3]);
        assert_eq!(sizes(vec![checked("x", "a"), checked("x", "b")]), [2], "both may hold");
        assert_eq!(sizes(vec![put("a", 1), put("a", 1)]), [1, 1], "a key is written once");
        assert_eq!(sizes(vec![created("a"), created("a")]), [1, 1], "the second must see the first");
        assert_eq!(sizes(vec![put("a", 1), checked("a", "b")]), [1, 1]);
        assert_eq!(sizes(vec![checked("a", "b"), put("a", 1)]), [1, 1], "the first held before the second");
    }

    #[test]
    fn one_that_waits_is_passed_by_what_has_nothing_to_do_with_it() {
        let hot = vec![put("a", 1), put("a", 1), put("b", 1), put("a", 1), put("c", 1)];
        assert_eq!(sizes(hot), [3, 1, 1], "who writes what many write holds up nobody else");
        // The second waits for the first, and the third for what the second asks for.
        assert_eq!(sizes(vec![put("a", 1), checked("a", "b"), put("b", 1), put("c", 1)]), [2, 1, 1]);
        let (answer, gone) = oneshot::channel();
        drop(gone);
        let mut queue = VecDeque::from([Waiting { transaction: put("a", 1), answer }]);
        assert!(take(&mut queue).is_empty() && queue.is_empty(), "nobody waits for it");
    }

    #[test]
    fn together_they_keep_within_etcds_limits() {
        let many = |count: usize| (0..count).map(|n| put(&n.to_string(), 1)).collect();
        assert_eq!(sizes(many(COMMITS_MAX + 3)), [COMMITS_MAX, 3]);
        let large = vec![put("a", 300 << 10), put("b", 300 << 10), put("c", 1 << 20), put("d", 1)];
        assert_eq!(sizes(large), [2, 1, 1], "what is small passes what is large");
        let wide = |prefix: &str| Transaction {
            checks: (0..100).map(|n| Check::Absent(key(&format!("{prefix}{n}")))).collect(),
            ..put(prefix, 1)
        };
        assert_eq!(sizes(vec![wide("a"), wide("b")]), [1, 1]);
    }
}
