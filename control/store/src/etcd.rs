//! The backend whose state lies in an etcd (3.4 or newer): for who runs one already, and for several control planes.
//!
//! A commit is a transaction of etcd, or one of several that came at once and share one; it is acknowledged by most of etcd's
//! members. One watch of everything feeds the same hub that
//! the embedded store has; an etcd that is away, full or restored from a backup is lived through
//! (docs/decisions/0018).

pub mod address;
mod commit;
mod feed;
mod group;
mod layout;
mod link;
mod look;
mod message;
mod migrate;
mod read;
#[cfg(test)]
mod tests;
mod wire;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::AbortHandle;

use self::address::{Address, Pem, TlsError};
use self::group::Writes;
use self::layout::Layout;
use self::link::{Link, LookError};
use self::wire::Wire;
use crate::store::{
    Answer, Beginning, CommitError, EngineError, Entry, Limits, ListRequest, Page, ReadError, Revision,
    Store, StoreIdentity, Transaction, Watch,
};
use crate::watch::{self, Joined, Watcher};

pub use self::commit::LIMITS;
pub use self::layout::FORMAT;

/// How long etcd is waited for at the start.
const OPEN_WAIT: Duration = Duration::from_secs(15);
const OPEN_AGAIN: Duration = Duration::from_millis(250);

/// Where etcd is and as whom it is spoken to.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its members and this cluster's name.
    pub address: Address,
    /// TLS; unset: none.
    pub tls: Option<Pem>,
    /// The store is to be new and to begin there.
    pub begins: Option<Beginning>,
    /// The id of the store that must be there; not together with `begins`.
    pub expects: Option<[u8; 16]>,
}

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// It was to be made.
    #[error("etcd holds a store of this name already")]
    NotNew,
    /// One was expected.
    #[error("etcd holds no store of this name")]
    Absent,
    /// One of another id was expected.
    #[error("etcd holds another store of this name")]
    Another,
    /// etcd is not there, or does not let this one in.
    #[error("etcd cannot be used")]
    Etcd(#[source] EngineError),
}

/// A store in an etcd. Its methods want the tokio runtime that it was opened on.
pub struct Etcd {
    link: Arc<Link>,
    writes: Arc<Writes>,
    tasks: Vec<AbortHandle>,
}

impl std::fmt::Debug for Etcd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Etcd").field("identity", &self.identity()).finish_non_exhaustive()
    }
}

impl Etcd {
    /// Opens the store, or makes it where there is none; waits a while for an etcd that is just starting.
    ///
    /// # Errors
    /// etcd is not there, holds a store of a newer build, or not the one that is expected.
    pub async fn open(options: &Options) -> Result<Self, OpenError> {
        let tls = options.tls.as_ref().map(Pem::config).transpose()?;
        let begun = tokio::time::Instant::now();
        let wire = Arc::new(Wire::new(options.address.endpoints.clone(), tls));
        let link = loop {
            match Link::open(wire.clone(), Layout::new(&options.address.name), options).await {
                Ok(link) => break link,
                Err(LookError::Wire(error)) if begun.elapsed() < OPEN_WAIT => {
                    tracing::debug!(error = wire::told(&error), "etcd is tried again");
                    tokio::time::sleep(OPEN_AGAIN).await;
                }
                Err(LookError::NotNew) => return Err(OpenError::NotNew),
                Err(LookError::Absent) => return Err(OpenError::Absent),
                Err(LookError::Another) => return Err(OpenError::Another),
                Err(error) => return Err(OpenError::Etcd(error.into())),
            }
        };
        let link = Arc::new(link);
        let oldest = read::oldest(&link).await.map_err(|error| OpenError::Etcd(error.into()))?;
        link.raise_oldest(&link.record(), oldest);
        let tasks = vec![
            tokio::spawn(feed::run(link.clone())).abort_handle(),
            tokio::spawn(look::run(link.clone())).abort_handle(),
        ];
        let writes = Arc::new(Writes::new(link.clone()));
        Ok(Self { link, writes, tasks })
    }

    async fn watch_now(&self, prefix: Bytes, after: Revision) -> Result<Watch, ReadError> {
        let link = &self.link;
        let known = link.known();
        let record = known.record;
        let etcd = link.etcd(&record, after)?;
        if etcd < known.oldest || after <= known.untold {
            return Err(link.compacted(&record, after));
        }
        if after > known.newest {
            link.probe(&record, after).await?;
        }
        let (queue, batches) = watch::queue();
        let watcher = Watcher::new(prefix, queue, after);
        if let Joined::NotYet(watcher) = link.hub.join(watcher) {
            link.probe(&record, after).await?;
            tokio::spawn(feed::catch_up(link.clone(), record, watcher));
        }
        Ok(Watch { batches })
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.link.close();
    }
}

impl Store for Etcd {
    fn identity(&self) -> StoreIdentity {
        self.link.record().identity
    }

    fn limits(&self) -> Limits {
        LIMITS
    }

    fn revisions(&self) -> RangeInclusive<Revision> {
        let known = self.link.known();
        known.record.first(known.oldest)..=known.newest
    }

    fn commits_before(&self, newest: Revision, commits: u64) -> Revision {
        let record = self.link.record();
        let etcd = record.etcd(newest).unwrap_or(0).saturating_sub_unsigned(commits);
        record.last(etcd.max(0))
    }

    fn trouble(&self) -> Option<Arc<str>> {
        self.link.trouble().map(|trouble| trouble.why)
    }

    fn commit(&self, transaction: Transaction) -> Answer<'_, Result<Revision, CommitError>> {
        Box::pin(self.writes.commit(transaction))
    }

    fn get(&self, key: Bytes, at: Option<Revision>) -> Answer<'_, Result<Option<Entry>, ReadError>> {
        Box::pin(self.link.get(key, at))
    }

    fn list(&self, request: ListRequest) -> Answer<'_, Result<Page, ReadError>> {
        Box::pin(self.link.list(request))
    }

    fn watch(&self, prefix: Bytes, after: Revision) -> Answer<'_, Result<Watch, ReadError>> {
        Box::pin(self.watch_now(prefix, after))
    }

    fn compact(&self, oldest: Revision) -> Answer<'_, Result<(), ReadError>> {
        Box::pin(self.link.compact(oldest))
    }
}
