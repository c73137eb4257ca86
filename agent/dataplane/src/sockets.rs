//! Sockets that were connected to somebody who is gone. No hook sees what they send, or nobody answers it, so they would wait
//! for ever, or for their own timeouts: the kernel is told to abort them, and their processes see an error at once.
//!
//! UDP sockets go with the backend that balancing at connect had given them, as soon as it takes nothing new. TCP connections
//! stay with a backend that terminates, and go only when nobody is at its address any more.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::conntrack::{FLOW_TWIN, Tuple};
use weft_dataplane_abi::maps;
use weft_dataplane_abi::socket::{SOCKET_REVERSE, SocketFlow, SocketKey};
use zerocopy::FromBytes;

use crate::diff::Write;
use crate::echo;
use crate::flow_table::Removal;
use crate::netns::{self, NamespaceError};
use crate::sock_diag::{Connected, Ends, Sockets, TCP, UDP};
use crate::sys;
use crate::tables::{self, TableError};
use crate::worker::chain;

/// Why sockets could not be looked at or aborted.
#[derive(Debug, Error)]
pub(crate) enum SocketError {
    /// The table of what was decided at connect, or of flows.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The rows of a table.
    #[error("cannot read table {table}")]
    Rows {
        /// Which.
        table: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A Pod's namespace.
    #[error("network namespace {}", path.display())]
    Namespace {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: NamespaceError,
    },
    /// The kernel's list of sockets.
    #[error("cannot list or abort sockets")]
    Kernel(#[source] io::Error),
}

/// Doubts that wait for a thread; more than that are given up, and said.
const DOUBTS_MAX: usize = 64;
/// After its work the thread rests so many times as long as that took, where Pods come and go all the time.
const RESTS: u32 = 4;
/// Longest rest: nobody is to wait for long.
const REST_MAX: Duration = Duration::from_millis(300);

/// Who is gone.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Gone {
    /// UDP backends that take nothing new, by id.
    pub(crate) backends: HashSet<u32>,
    /// Addresses at which nobody is any more.
    pub(crate) addresses: BTreeSet<IpAddr>,
}

impl Gone {
    fn is_empty(&self) -> bool {
        self.backends.is_empty() && self.addresses.is_empty()
    }
}

/// What waits for the thread that aborts sockets: no more than there are backends and Pods.
#[derive(Default)]
struct Waiting {
    gone: Gone,
    /// Namespaces in which sockets may be connected to them.
    namespaces: Vec<PathBuf>,
    /// Nothing more will come.
    over: bool,
}

/// Where orders are left and taken.
#[derive(Default)]
struct Desk {
    waiting: Mutex<Waiting>,
    bell: Condvar,
}

impl Desk {
    /// Who holds the lock cannot panic.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, gone: Gone, namespaces: Vec<PathBuf>) {
        if gone.is_empty() {
            return;
        }
        let mut waiting = self.waiting();
        waiting.gone.backends.extend(gone.backends);
        waiting.gone.addresses.extend(gone.addresses);
        // Where there are Pods now.
        waiting.namespaces = namespaces;
        self.bell.notify_one();
    }

    /// Waits for orders and takes all of them; `None` when there will be no more.
    fn take(&self) -> Option<(Gone, Vec<PathBuf>)> {
        let mut waiting = self.waiting();
        while waiting.gone.is_empty() && !waiting.over {
            waiting = self.bell.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        let taken = std::mem::take(&mut waiting.gone);
        (!taken.is_empty()).then(|| (taken, std::mem::take(&mut waiting.namespaces)))
    }
}

/// Addresses of Pods by an address of their node, which may have died; and namespaces, as above.
type Doubt = (BTreeMap<IpAddr, BTreeSet<IpAddr>>, Vec<PathBuf>);

/// The threads that abort sockets and ask after nodes: one looks into every Pod's namespace, the other waits for answers, and
/// both take their time. They end when this is dropped.
pub(crate) struct Undertaker {
    desk: Arc<Desk>,
    doubts: SyncSender<Doubt>,
}

impl Drop for Undertaker {
    fn drop(&mut self) {
        self.desk.waiting().over = true;
        self.desk.bell.notify_one();
    }
}

impl Undertaker {
    /// Starts the threads in the calling one's network namespace, the node's; `directory` holds the tables.
    pub(crate) fn start(directory: PathBuf) -> io::Result<Self> {
        let (doubts, doubted) = sync_channel::<Doubt>(DOUBTS_MAX);
        let undertaker = Self { desk: Arc::default(), doubts };
        let desk = Arc::clone(&undertaker.desk);
        std::thread::Builder::new().name("weft-sockets".to_owned()).spawn(move || bury(&directory, &desk))?;
        let desk = Arc::clone(&undertaker.desk);
        std::thread::Builder::new().name("weft-echo".to_owned()).spawn(move || ask_after(&doubted, &desk))?;
        Ok(undertaker)
    }

    /// Has the sockets aborted that are connected to these. Does not wait for it.
    pub(crate) fn order(&self, gone: Gone, namespaces: Vec<PathBuf>) {
        self.desk.leave(gone, namespaces);
    }

    /// Has the sockets aborted that are connected to these if their nodes do not answer. Does not wait for it.
    pub(crate) fn doubt(&self, doubtful: BTreeMap<IpAddr, BTreeSet<IpAddr>>, namespaces: Vec<PathBuf>) {
        if !doubtful.is_empty() && self.doubts.try_send((doubtful, namespaces)).is_err() {
            tracing::warn!("too many nodes are in doubt at once: sockets may be left with dead backends");
        }
    }
}

fn bury(directory: &Path, desk: &Desk) {
    while let Some((gone, namespaces)) = desk.take() {
        let began = Instant::now();
        let aborted = abort(directory, &gone, &namespaces);
        let rest = (began.elapsed() * RESTS).min(REST_MAX);
        match aborted {
            Ok(0) => {}
            Ok(sockets) => tracing::info!(sockets, "aborted sockets connected to backends that are gone"),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "sockets may be left with dead backends");
            }
        }
        std::thread::sleep(rest);
    }
}

fn ask_after(doubts: &Receiver<Doubt>, desk: &Desk) {
    while let Ok((doubtful, namespaces)) = doubts.recv() {
        let mut gone = Gone::default();
        for (node, pods) in doubtful {
            match echo::answers(node) {
                Ok(true) => {}
                Ok(false) => {
                    tracing::info!(%node, pods = pods.len(), "a node's backends were withdrawn, and it does not answer");
                    gone.addresses.extend(pods);
                }
                Err(error) => {
                    tracing::warn!(%node, %error, "cannot ask after a node: sockets may be left with dead backends");
                }
            }
        }
        desk.leave(gone, namespaces);
    }
}

/// Ids of the UDP backends that these writes retire.
pub(crate) fn retired(writes: &[Write]) -> HashSet<u32> {
    let gone = writes.iter().filter_map(|write| match write {
        Write::PutBackend(id, row) if row.flags == 0 && row.protocol == u32::from(UDP) => Some(*id),
        _ => None,
    });
    gone.collect()
}

/// A socket, and the other end it was given at connect.
type Given = (u64, Address, u16);

/// The sockets to abort.
struct Wanted {
    /// UDP sockets that were given a backend which takes nothing new.
    given: HashSet<Given>,
    /// Sockets whose flow leads to an address that is gone, by the ends they know.
    led: HashSet<(u8, Ends)>,
    /// Addresses that are gone.
    addresses: HashSet<Address>,
}

impl Wanted {
    fn holds(&self, protocol: u8, socket: &Connected) -> bool {
        let ends = &socket.ends;
        self.addresses.contains(&ends.remote)
            || self.led.contains(&(protocol, *ends))
            || (protocol == UDP && self.given.contains(&(socket.cookie, ends.remote, ends.remote_port)))
    }
}

/// Aborts the sockets that were connected to who is gone, in the calling thread's namespace and in others; says how many. A
/// namespace that went meanwhile took its sockets along.
fn abort(directory: &Path, gone: &Gone, namespaces: &[PathBuf]) -> Result<usize, SocketError> {
    let addresses: HashSet<Address> = gone.addresses.iter().map(|ip| Address::from(*ip)).collect();
    let wanted = Wanted {
        given: if gone.backends.is_empty() { HashSet::new() } else { given(directory, &gone.backends)? },
        led: if addresses.is_empty() { HashSet::new() } else { end_flows(directory, &addresses)? },
        addresses,
    };
    let protocols: &[u8] = if !wanted.addresses.is_empty() {
        &[TCP, UDP]
    } else if !wanted.given.is_empty() {
        &[UDP]
    } else {
        return Ok(0);
    };
    let mut aborted = abort_here(&wanted, protocols).map_err(SocketError::Kernel)?;
    for path in namespaces.iter().filter(|path| path.exists()) {
        let inside = netns::within(path, || abort_here(&wanted, protocols))
            .map_err(|source| SocketError::Namespace { path: path.clone(), source })?;
        aborted += inside.map_err(SocketError::Kernel)?;
    }
    Ok(aborted)
}

/// Sockets that were given one of these backends at connect.
fn given(directory: &Path, backends: &HashSet<u32>) -> Result<HashSet<Given>, SocketError> {
    let mut found = HashSet::new();
    each(directory, &maps::SOCKET_FLOWS, |key: SocketKey, row: SocketFlow| {
        if key.protocol == UDP && key.direction == SOCKET_REVERSE && backends.contains(&row.backend_id) {
            found.insert((key.cookie, key.address, key.port.get()));
        }
    })?;
    Ok(found)
}

/// Shows every row of a table. Rows may go while they are read; those that come are of backends that are there.
fn each<K: FromBytes, V: FromBytes>(
    directory: &Path,
    spec: &maps::MapSpec,
    mut see: impl FnMut(K, V),
) -> Result<(), SocketError> {
    let table = tables::open_data(directory, spec)?;
    let read = sys::each_row(table.fd().as_fd(), size_of::<K>(), size_of::<V>(), |key, row| {
        if let (Ok(key), Ok(row)) = (K::read_from_bytes(key), V::read_from_bytes(row)) {
            see(key, row);
        }
        Ok(())
    });
    read.map_err(|source| SocketError::Rows { table: spec.name, source })
}

/// Removes the flows that lead to addresses which are gone, and gives their ends as the one that began them knows them. What
/// comes from one that is not of this node meets another backend then, which knows nothing of the connection and resets it.
fn end_flows(directory: &Path, addresses: &HashSet<Address>) -> Result<HashSet<(u8, Ends)>, SocketError> {
    let table = tables::flows(directory)?;
    let found: Vec<(Tuple, Tuple)> = table
        .rows()
        .filter(|(_, row)| row.flags & FLOW_TWIN == 0 && addresses.contains(&row.to.destination))
        .map(|(key, row)| (key, Tuple { protocol: key.protocol, ..row.to }))
        .collect();
    if !found.is_empty() {
        let removal = Removal::open(&directory.join(maps::FLOWS.name))
            .map_err(|source| SocketError::Rows { table: maps::FLOWS.name, source })?;
        found.iter().flat_map(|(key, to)| [*key, to.reversed()]).for_each(|key| removal.remove(&key));
    }
    let ends = found.iter().map(|(key, _)| {
        let ends = Ends {
            local: key.source,
            local_port: key.source_port.get(),
            remote: key.destination,
            remote_port: key.destination_port.get(),
        };
        (key.protocol, ends)
    });
    Ok(ends.collect())
}

fn abort_here(wanted: &Wanted, protocols: &[u8]) -> io::Result<usize> {
    let sockets = Sockets::open()?;
    let mut aborted = 0;
    for protocol in protocols {
        for socket in sockets.connected(*protocol)? {
            if wanted.holds(*protocol, &socket) && sockets.abort(&socket)? {
                aborted += 1;
            }
        }
    }
    Ok(aborted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_dataplane_abi::backend::Backend;

    #[test]
    fn orders_wait_as_one_and_the_last_are_taken_before_the_end() {
        let desk = Desk::default();
        let gone = |id: u32, last: u8| Gone {
            backends: [id].into(),
            addresses: [IpAddr::from([10, 244, 1, last])].into(),
        };
        (0..5_000).for_each(|id| desk.leave(gone(id, 1), vec!["old".into()]));
        desk.leave(gone(1, 2), vec!["new".into()]);
        desk.leave(Gone::default(), Vec::new());
        desk.waiting().over = true;
        let (gone, namespaces) = desk.take().expect("orders");
        assert_eq!((gone.backends.len(), gone.addresses.len()), (5_000, 2));
        assert_eq!(namespaces, [PathBuf::from("new")]);
        assert_eq!(desk.take(), None);
    }

    #[test]
    fn retired_backends_of_udp_are_found_among_writes() {
        let row = |flags, protocol| Backend { flags, protocol, ..Backend::default() };
        let writes = [
            Write::PutBackend(1, row(0, 6)),
            Write::PutBackend(2, row(0, 17)),
            Write::PutBackend(3, row(1, 17)),
        ];
        assert_eq!(retired(&writes), HashSet::from([2]));
    }
}
