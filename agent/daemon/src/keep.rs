//! Keeps the view on disk while it changes: changes are appended, now and then the whole is written anew, and nobody waits
//! for the disk. What the file looks like is [`crate::disk`]'s.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::JoinHandle;
use weft_link::message::Cluster;
use weft_link::receiver::Change;

use crate::disk;
use crate::knowledge::Knowledge;
use crate::view::View;

/// Changes that wait for the disk, bytes: with more the whole view is written instead.
const WAITING_BYTES_MAX: usize = 4 << 20;
/// Appended changes may take so many bytes more than the view itself, before the whole is written anew.
const APPENDED_BYTES_MIN: u64 = 1 << 20;
/// Resources that are taken from the view at once, and hold up who changes it.
const RESOURCES_AT_ONCE: usize = 64;

/// What is on disk, and what is on its way there.
pub(crate) struct Keeper {
    file: PathBuf,
    knowledge: Arc<Knowledge>,
    /// Steps that the file does not have.
    waiting: Vec<u8>,
    /// The whole is to be written.
    whole: bool,
    /// The cluster's settings as the file has them.
    cluster: Arc<Cluster>,
    /// Bytes of the whole as it was written last, and of what was appended to it.
    written_bytes: (u64, u64),
    writing: Option<JoinHandle<io::Result<Written>>>,
}

/// What a write did.
#[derive(Debug)]
enum Written {
    Whole(u64),
    Appended(u64),
}

impl Keeper {
    /// Begins by writing all there is.
    pub(crate) fn new(file: PathBuf, knowledge: Arc<Knowledge>) -> Self {
        Self {
            file,
            knowledge,
            waiting: Vec::new(),
            whole: true,
            cluster: Arc::default(),
            written_bytes: (0, 0),
            writing: None,
        }
    }

    /// A change that the view will have when this is written.
    pub(crate) fn note(&mut self, change: &Change) {
        if change.full {
            self.write_whole();
        }
        if self.whole {
            return;
        }
        for name in &change.removes {
            disk::remove(name, &mut self.waiting);
        }
        for resource in &change.puts {
            disk::put_encoded(resource, &mut self.waiting);
        }
        disk::end_step(&mut self.waiting);
        if self.waiting.len() > WAITING_BYTES_MAX {
            self.write_whole();
        }
    }

    fn write_whole(&mut self) {
        self.whole = true;
        self.waiting = Vec::new();
    }

    /// Writes what waits, unless a write is under way.
    pub(crate) async fn write(&mut self) {
        if let Some(writing) = &mut self.writing {
            if !writing.is_finished() {
                return;
            }
            let done = writing.await;
            self.writing = None;
            self.written(done.unwrap_or_else(|error| Err(io::Error::other(error))));
        }
        let cluster = self.knowledge.cluster().clone();
        if self.whole || cluster != self.cluster {
            (self.whole, self.waiting, self.cluster) = (false, Vec::new(), cluster);
            let (file, knowledge, cluster) =
                (self.file.clone(), self.knowledge.clone(), self.cluster.clone());
            self.writing = Some(tokio::task::spawn_blocking(move || {
                replace(&file, &knowledge, &cluster).map(Written::Whole)
            }));
        } else if !self.waiting.is_empty() {
            let (file, bytes) = (self.file.clone(), std::mem::take(&mut self.waiting));
            self.writing =
                Some(tokio::task::spawn_blocking(move || append(&file, &bytes).map(Written::Appended)));
        }
    }

    /// The cluster's settings, once they are on disk.
    pub(crate) fn kept_cluster(&self) -> Option<&Cluster> {
        let is_kept = !self.whole && self.writing.is_none() && self.written_bytes.0 > 0;
        is_kept.then(|| &*self.cluster)
    }

    fn written(&mut self, done: io::Result<Written>) {
        match done {
            Ok(Written::Whole(bytes)) => self.written_bytes = (bytes, 0),
            Ok(Written::Appended(bytes)) => self.written_bytes.1 += bytes,
            Err(error) => {
                tracing::warn!(%error, file = %self.file.display(), "the view cannot be kept on disk");
                self.write_whole();
            }
        }
        let (whole, appended) = self.written_bytes;
        if appended > whole + APPENDED_BYTES_MIN {
            self.write_whole();
        }
    }
}

/// Writes the view as it is now, a piece at a time: what changes meanwhile is noted and follows.
fn replace(path: &Path, knowledge: &Knowledge, cluster: &Cluster) -> io::Result<u64> {
    let beside = path.with_extension("new");
    let mut file = open(OpenOptions::new().write(true).create(true).truncate(true), &beside)?;
    let (mut bytes, mut all) = (Vec::new(), 0);
    disk::begin(cluster, &mut bytes);
    let mut last = None;
    loop {
        let more = piece(&knowledge.view(), &mut last, &mut bytes);
        if !more {
            disk::end_step(&mut bytes);
        }
        file.write_all(&bytes)?;
        all += bytes.len() as u64;
        bytes.clear();
        if !more {
            break;
        }
    }
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    if let Some(parent) = path.parent() {
        File::open(parent)?.sync_all()?;
    }
    Ok(all)
}

/// The next resources of a view in the order of their names; whether there were any.
fn piece(view: &View, last: &mut Option<String>, bytes: &mut Vec<u8>) -> bool {
    let before = last.take();
    for resource in view.resources_after(before.as_deref()).take(RESOURCES_AT_ONCE) {
        *last = Some(resource.name.clone());
        disk::put(resource, bytes);
    }
    // However wrong the names are, this ends.
    last.is_some() && *last > before
}

fn append(path: &Path, bytes: &[u8]) -> io::Result<u64> {
    let mut file = open(OpenOptions::new().append(true), path)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    Ok(bytes.len() as u64)
}

fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use weft_link::message::{ApiObject, Position, Resource, resource::Body};

    fn pod(name: &str, bytes: usize) -> Resource {
        Resource {
            name: crate::view::object_name("Pod", "default", name),
            body: Some(Body::Object(ApiObject {
                kind: "Pod".into(),
                namespace: "default".into(),
                name: name.into(),
                json: Bytes::from(vec![b' '; bytes]),
            })),
        }
    }

    fn change(full: bool, puts: Vec<Resource>) -> Change {
        let puts = puts.into_iter().map(Into::into).collect();
        Change { position: Position::default(), full, puts, removes: Vec::new() }
    }

    struct Bed {
        _dir: tempfile::TempDir,
        keeper: Keeper,
    }

    impl Bed {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (knowledge, _) = Knowledge::new(dir.path().join("resolv.conf"));
            let keeper = Keeper::new(dir.path().join("view"), Arc::new(knowledge));
            Self { _dir: dir, keeper }
        }

        fn take(&mut self, change: Change) {
            self.keeper.note(&change);
            crate::round::take(&self.keeper.knowledge, change);
        }

        /// Writes, and waits for it.
        async fn kept(&mut self) -> (usize, u64) {
            self.keeper.write().await;
            if let Some(writing) = self.keeper.writing.take() {
                let done = writing.await.unwrap();
                self.keeper.written(done);
            }
            let kept = disk::read(&self.keeper.file).unwrap().unwrap();
            (kept.view.names().count(), std::fs::metadata(&self.keeper.file).unwrap().len())
        }
    }

    #[tokio::test]
    async fn a_change_is_appended_and_the_whole_is_written_before_that_grows_long() {
        let mut bed = Bed::new();
        bed.take(change(true, (0..1_000).map(|n| pod(&n.to_string(), 1_000)).collect()));
        let (names, bytes) = bed.kept().await;
        assert_eq!(names, 1_000);
        bed.take(change(false, vec![pod("more", 1_000)]));
        bed.take(Change { removes: vec![pod("7", 0).name], ..change(false, Vec::new()) });
        let (names, more) = bed.kept().await;
        assert_eq!(names, 1_000);
        assert!((bytes + 1_000..bytes + 2_000).contains(&more), "{bytes} became {more}");
        assert_eq!(bed.kept().await, (1_000, more), "nothing changed");
        for _ in 0..40 {
            bed.take(change(false, vec![pod("more", 100_000)]));
            let (names, now) = bed.kept().await;
            assert_eq!(names, 1_000);
            assert!(now < 2 * bytes + APPENDED_BYTES_MIN + 200_000, "{now}");
        }
    }

    #[tokio::test]
    async fn what_changes_while_the_whole_is_written_follows_it() {
        let mut bed = Bed::new();
        bed.take(change(true, (0..200).map(|n| pod(&n.to_string(), 10)).collect()));
        bed.keeper.write().await;
        bed.take(change(false, vec![pod("meanwhile", 10)]));
        let writing = bed.keeper.writing.take().unwrap();
        let done = writing.await.unwrap();
        bed.keeper.written(done);
        assert_eq!(bed.kept().await.0, 201);
        bed.take(change(false, (0..50).map(|n| pod(&format!("large-{n}"), 100_000)).collect()));
        assert!(bed.keeper.whole && bed.keeper.waiting.is_empty(), "more than may wait");
        assert_eq!(bed.kept().await.0, 251);
    }

    #[tokio::test]
    async fn a_disk_that_fails_is_written_whole_later() {
        let mut bed = Bed::new();
        bed.take(change(true, vec![pod("a", 10)]));
        bed.kept().await;
        std::fs::remove_file(&bed.keeper.file).unwrap();
        bed.take(change(false, vec![pod("b", 10)]));
        bed.keeper.write().await;
        let done = bed.keeper.writing.take().unwrap().await.unwrap();
        assert!(done.is_err(), "there is nothing to append to");
        bed.keeper.written(done);
        assert_eq!(bed.kept().await.0, 2);
    }
}
