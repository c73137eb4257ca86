//! Transactions of the store, one or several, as one of etcd, and what etcd's answer says of them.

use std::time::Duration;

use prost::Message as _;

use super::layout::{self, Layout, Record};
use super::link::{Change, Known, LOOK_WAIT, Link, Sighting, is_full};
use super::message::{
    Compare, DeleteRequest, Number, PutRequest, RangeRequest, RangeResponse, Request, RequestOp, Response,
    TARGET_CREATE, TARGET_MOD, TxnRequest, TxnResponse,
};
use super::wire::{self, WireError, code};
use crate::store::{Check, CommitError, EngineError, Limits, Revision, Transaction, Write};

/// etcd's own limits (`--max-txn-ops`, `--max-request-bytes`), less what the store adds to each transaction: the demand that
/// the history is the one it was, and what frames keys and values.
pub const LIMITS: Limits = Limits { steps_max: 127, bytes_max: (3 << 19) - (64 << 10), key_bytes_max: 1024 };
/// etcd's limit of a request.
const REQUEST_BYTES_MAX: usize = (3 << 19) - 512;
/// How long etcd may take for a commit.
const COMMIT_WAIT: Duration = Duration::from_secs(10);
/// How long a watch may take to come to a revision at which nothing of this store happened.
const QUIET_WAIT: Duration = Duration::from_millis(200);
const QUIET_LOOK: Duration = Duration::from_millis(5);

/// Several transactions that are not taken as one.
pub(super) struct Apart;

impl Link {
    /// Carries out a transaction as one of etcd.
    pub(super) async fn commit(&self, transaction: Transaction) -> Result<Revision, CommitError> {
        self.takes_writes()?;
        let before = self.known();
        let question = question(&self.layout, &before.record, before.record_mod, &[&transaction]);
        if question.encoded_len() > REQUEST_BYTES_MAX {
            return Err(CommitError::Refused { reason: "its keys and values are more than the store takes" });
        }
        let answer: TxnResponse = match self.wire.call(wire::TXN, &question, COMMIT_WAIT).await {
            Ok(answer) => answer,
            Err(error) => {
                self.doubt.notify_one();
                return Err(match refusal(error) {
                    CommitError::Full(why) => self.full(&before, &transaction, why).await,
                    error => error,
                });
            }
        };
        if !answer.succeeded {
            return Err(self.conflict(&before, &transaction, answer));
        }
        let changed = !transaction.writes.is_empty()
            && (transaction.writes.iter().any(|write| matches!(write, Write::Put(..)))
                || answer
                    .responses
                    .iter()
                    .any(|op| matches!(&op.response, Some(Response::Delete(answer)) if answer.deleted > 0)));
        // The record stood as it was known when etcd took it: what the header says belongs to that history.
        let header =
            self.observe(&before, answer.header).map_err(|why| CommitError::Uncertain(why.into()))?;
        if changed {
            let revision = before.record.first(header.revision);
            self.reached(&before.record, revision, self.sighting(&transaction, header.revision));
            return Ok(revision);
        }
        // Behind all commits of the transaction of etcd that is the newest.
        self.seen_by_watches(&before, before.record.last(header.revision)).await
    }

    /// Carries out several transactions as one of etcd, each a commit with a revision of its own; what became of each.
    ///
    /// # Errors
    /// As one they are not taken, and nothing was written: one by one, some may be.
    pub(super) async fn commit_together(
        &self,
        transactions: &[&Transaction],
    ) -> Result<Vec<Result<Revision, CommitError>>, Apart> {
        let each = |outcome: &dyn Fn() -> CommitError| transactions.iter().map(|_| Err(outcome())).collect();
        if let Err(error) = self.takes_writes() {
            let why = wire::told(&error);
            return Ok(each(&|| CommitError::Unavailable(why.clone().into())));
        }
        let before = self.known();
        let question = question(&self.layout, &before.record, before.record_mod, transactions);
        let answer: TxnResponse = match self.wire.call(wire::TXN, &question, COMMIT_WAIT).await {
            Ok(answer) => answer,
            Err(error) => {
                self.doubt.notify_one();
                let why = wire::told(&error);
                return match refusal(error) {
                    CommitError::Refused { .. } => Err(Apart),
                    CommitError::Unavailable(_) => Ok(each(&|| CommitError::Unavailable(why.clone().into()))),
                    // It is all there or nothing of it.
                    CommitError::Full(error) => match self.full(&before, transactions[0], error).await {
                        CommitError::Full(_) => Ok(each(&|| CommitError::Full(why.clone().into()))),
                        _ => Ok(each(&|| CommitError::Uncertain(why.clone().into()))),
                    },
                    _ => Ok(each(&|| CommitError::Uncertain(why.clone().into()))),
                };
            }
        };
        if !answer.succeeded {
            return match record_read(&answer) {
                None => Ok(each(&|| CommitError::Uncertain("etcd's answer says nothing".into()))),
                // Each finds out by itself what does not hold, and whether this is the history that is known.
                Some(_) => Err(Apart),
            };
        }
        let header = match self.observe(&before, answer.header) {
            Ok(header) => header,
            Err(why) => return Ok(each(&|| CommitError::Uncertain(why.into()))),
        };
        let revisions: Vec<Revision> =
            (0..).map(|place| before.record.at(header.revision, place)).take(transactions.len()).collect();
        let last = revisions.last().copied().unwrap_or_default();
        self.reached(&before.record, last, self.sighting(transactions[0], header.revision));
        Ok(revisions.into_iter().map(Ok).collect())
    }

    /// An error where it is known that none are taken.
    pub(super) fn takes_writes(&self) -> Result<(), CommitError> {
        match self.trouble().filter(|trouble| !trouble.full) {
            Some(trouble) => Err(CommitError::Unavailable(trouble.why.to_string().into())),
            None => Ok(()),
        }
    }

    /// What is to be seen of the first transaction of one of etcd.
    fn sighting(&self, transaction: &Transaction, revision: i64) -> Option<Sighting> {
        transaction.writes.iter().find_map(|write| match write {
            Write::Put(key, value) => {
                let change = Change::Put(layout::stored(0, value));
                Some(Sighting { key: self.layout.key(key), revision, change })
            }
            Write::Delete(_) => None,
        })
    }

    /// What etcd's word of no space says. It looks for space twice: before it asks its members, and once more when it writes,
    /// which it then does all the same (`quotaApplierV3.Txn`). A key of the transaction tells.
    async fn full(&self, before: &Known, transaction: &Transaction, why: EngineError) -> CommitError {
        let put = transaction.writes.iter().find_map(|write| match write {
            Write::Put(key, _) => Some(self.layout.key(key)),
            Write::Delete(_) => None,
        });
        let Some(key) = put else { return CommitError::Uncertain(why) };
        let question = RangeRequest { key, ..RangeRequest::default() };
        match self.wire.call::<RangeResponse>(wire::RANGE, &question, LOOK_WAIT).await {
            Ok(answer) if self.observe(before, answer.header).is_ok() => match answer.kvs.first() {
                // Whoever wrote it since may have written over it.
                Some(kv) if kv.mod_revision > before.etcd_newest => CommitError::Uncertain(why),
                _ => CommitError::Full(why),
            },
            _ => CommitError::Uncertain(why),
        }
    }

    /// A revision at least `revision` that watches come to: where it is of somebody else's commit, one is made.
    async fn seen_by_watches(&self, before: &Known, revision: Revision) -> Result<Revision, CommitError> {
        for _ in 0..QUIET_WAIT.as_millis() / QUIET_LOOK.as_millis() {
            if self.hub.newest() >= revision {
                return Ok(revision);
            }
            tokio::time::sleep(QUIET_LOOK).await;
        }
        // Nothing was to be written, so that whatever happens here is not uncertain.
        let marked = self.mark(before).await.map_err(|error| CommitError::Unavailable(error.into()))?;
        let revision = before.record.first(marked.revision);
        self.reached(&before.record, revision, None);
        Ok(revision)
    }

    /// The first check that does not hold by what etcd read.
    fn conflict(&self, before: &Known, transaction: &Transaction, answer: TxnResponse) -> CommitError {
        // What etcd read belongs to the history that is known only if the record does.
        match record_read(&answer) {
            None => return CommitError::Uncertain("etcd's answer says nothing".into()),
            Some(read) if read != before.record_mod => {
                self.doubt.notify_one();
                return CommitError::Unavailable(
                    "etcd was restored from a backup; the store finds its way".into(),
                );
            }
            Some(_) => {}
        }
        for (check, op) in transaction.checks.iter().zip(answer.responses) {
            let Some(Response::Range(found)) = op.response else { continue };
            let current = found.kvs.first().and_then(|kv| before.record.entry(&self.layout, kv));
            let (key, holds) = match check {
                Check::Absent(key) => (key, current.is_none()),
                Check::Unchanged(key, revision) => {
                    (key, current.as_ref().is_some_and(|entry| entry.mod_revision == *revision))
                }
            };
            if !holds {
                return CommitError::Conflict { key: key.clone(), current };
            }
        }
        CommitError::Uncertain("etcd's answer says nothing of what does not hold".into())
    }
}

/// Of which revision the record is that was read last of all where a condition did not hold (0: it is not there).
fn record_read(answer: &TxnResponse) -> Option<i64> {
    match &answer.responses.last()?.response {
        Some(Response::Range(read)) => Some(read.kvs.first().map_or(0, |kv| kv.mod_revision)),
        _ => None,
    }
}

/// One transaction, or several of which each writes other keys than all the others ask for.
fn question(layout: &Layout, record: &Record, record_mod: i64, transactions: &[&Transaction]) -> TxnRequest {
    let same_history =
        Compare { target: TARGET_MOD, key: layout.identity(), number: Some(Number::Mod(record_mod)) };
    let checks = transactions.iter().flat_map(|transaction| &transaction.checks);
    let compare = checks.clone().map(|check| match check {
        Check::Absent(key) => {
            Compare { target: TARGET_CREATE, key: layout.key(key), number: Some(Number::Create(0)) }
        }
        Check::Unchanged(key, revision) => {
            // A revision of an earlier history is no key's.
            let number = Number::Mod(record.etcd(*revision).unwrap_or(-1));
            Compare { target: TARGET_MOD, key: layout.key(key), number: Some(number) }
        }
    });
    let read = |key| Request::Range(RangeRequest { key, ..RangeRequest::default() });
    // Which of several transactions it was that does not hold, each finds out by itself.
    let told = if transactions.len() == 1 { usize::MAX } else { 0 };
    let reads = checks.take(told).map(|check| {
        let (Check::Absent(key) | Check::Unchanged(key, _)) = check;
        read(layout.key(key))
    });
    // A transaction that reads and writes nothing would be answered by one member, as of some time.
    let reads = reads.chain(std::iter::once(read(layout.identity())));
    let writes = (0..).zip(transactions).flat_map(|(place, transaction)| {
        transaction.writes.iter().map(move |write| match write {
            Write::Put(key, value) => {
                Request::Put(PutRequest { key: layout.key(key), value: layout::stored(place, value) })
            }
            Write::Delete(key) => {
                Request::Delete(DeleteRequest { key: layout.key(key), ..DeleteRequest::default() })
            }
        })
    });
    let op = |request| RequestOp { request: Some(request) };
    TxnRequest {
        compare: std::iter::once(same_history).chain(compare).collect(),
        success: writes.map(op).collect(),
        failure: reads.map(op).collect(),
    }
}

/// What an error says of a commit: whether anything may have been written.
fn refusal(error: WireError) -> CommitError {
    let (number, message) = match &error {
        WireError::Unreachable { .. } => return CommitError::Unavailable(error.into()),
        WireError::Lost(_) | WireError::Late { .. } | WireError::Malformed(_) => {
            return CommitError::Uncertain(error.into());
        }
        WireError::Refused { code, message } => (*code, message),
    };
    match number {
        _ if is_full(&error) => CommitError::Full(error.into()),
        code::RESOURCE_EXHAUSTED if message.contains("too many requests") => {
            CommitError::Unavailable(error.into())
        }
        code::RESOURCE_EXHAUSTED | code::INVALID_ARGUMENT => {
            tracing::warn!(%error, "etcd does not take a transaction; its limits may be set lower than usual");
            CommitError::Refused { reason: "etcd does not take it" }
        }
        code::PERMISSION_DENIED | code::UNAUTHENTICATED | code::FAILED_PRECONDITION | code::UNIMPLEMENTED => {
            CommitError::Unavailable(error.into())
        }
        // No leader, a leader that changed, a time that ran out: it may come to be all the same.
        _ => CommitError::Uncertain(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::ResponseOp;
    use super::*;
    use crate::store::StoreIdentity;

    #[test]
    fn one_that_holds_nothing_asks_all_members_too() {
        let record = Record { identity: StoreIdentity { id: [0; 16], epoch: 0 }, base: 0 };
        let question = question(&Layout::new("a"), &record, 1, &[&Transaction::default()]);
        let asks_all =
            |op: &RequestOp| matches!(&op.request, Some(Request::Range(read)) if !read.serializable);
        assert!(question.failure.iter().any(asks_all));
    }

    #[test]
    fn an_answer_that_is_empty_says_nothing() {
        assert_eq!(record_read(&TxnResponse::default()), None);
        let none = Response::Range(RangeResponse::default());
        let answer =
            TxnResponse { responses: vec![ResponseOp { response: Some(none) }], ..TxnResponse::default() };
        assert_eq!(record_read(&answer), Some(0), "a record that is gone is another");
    }

    #[test]
    fn only_what_surely_wrote_nothing_is_not_uncertain() {
        let refused = |code, message: &str| refusal(WireError::Refused { code, message: message.into() });
        assert!(matches!(refused(8, "etcdserver: mvcc: database space exceeded"), CommitError::Full(_)));
        assert!(matches!(refused(8, "etcdserver: too many requests"), CommitError::Unavailable(_)));
        assert!(matches!(refused(3, "etcdserver: request is too large"), CommitError::Refused { .. }));
        assert!(matches!(refused(7, "etcdserver: permission denied"), CommitError::Unavailable(_)));
        assert!(matches!(refused(14, "etcdserver: request timed out"), CommitError::Uncertain(_)));
        assert!(matches!(refused(14, "etcdserver: leader changed"), CommitError::Uncertain(_)));
        assert!(matches!(refusal(WireError::Lost("reset".into())), CommitError::Uncertain(_)));
        assert!(matches!(refusal(WireError::Late { limit: COMMIT_WAIT }), CommitError::Uncertain(_)));
        let away = WireError::Unreachable { why: "refused".into() };
        assert!(matches!(refusal(away), CommitError::Unavailable(_)));
    }
}
