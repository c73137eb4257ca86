//! Revisioned key-value store with watch: bytes and revisions, no kinds.
//!
//! [`store`] is the contract, [`embedded`] the backend of a single control plane, [`disk`] what it stands on, [`etcd`] the
//! backend whose state lies elsewhere, [`backup`] what is put by for a bad day. The tests every backend passes are in `contract` (feature `contract`); `testdisk` (feature `testdisk`) loses power, `testetcd` (feature `testetcd`)
//! runs a real etcd.

pub mod backup;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod disk;
pub mod embedded;
pub mod etcd;
pub mod store;
#[cfg(any(test, feature = "testdisk"))]
pub mod testdisk;
#[cfg(any(test, feature = "testetcd"))]
pub mod testetcd;
mod watch;

pub use embedded::Embedded;
pub use etcd::Etcd;
pub use store::{
    Batch, Check, CommitError, Entry, Event, Limits, ListRequest, Page, ReadError, Revision, Store,
    StoreIdentity, Transaction, Watch, WatchEnd, Write,
};
pub use watch::WATCH_QUEUE_MAX;
