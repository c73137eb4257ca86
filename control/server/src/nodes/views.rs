//! The nodes' views: what changes in the snapshot becomes frames for the nodes it concerns.
//!
//! A node's view outlives its session, so that a link that broke goes on where it was. Frames wait in a bounded queue;
//! a node that does not read them loses its session and resumes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{broadcast, mpsc, watch};
use weft_api::kind::{self, KINDS};
use weft_controllers::node_view::{Delta, NodeViews, Target};
use weft_controllers::world::Applied;
use weft_link::message::Position;
use weft_link::{Item, Part, Sender, Start, StoreIdentity};
use weft_store::Store;

use crate::loops::Snapshot;
use crate::stop::stopped;

/// Deltas that may wait for one node.
const QUEUE_DELTAS_MAX: usize = 1_024;

/// Frames to be written together.
pub(crate) type Frames = Vec<Bytes>;

/// The views of all nodes.
pub(crate) struct Views {
    snapshot: Arc<Snapshot>,
    state: Mutex<State>,
    /// The revision the views have reached.
    revision: watch::Sender<u64>,
}

struct State {
    /// The history that the views are of.
    store: StoreIdentity,
    views: NodeViews,
    /// What all nodes are told.
    shared: Part,
    nodes: HashMap<String, NodeState>,
    /// Where all of it is.
    revision: u64,
}

/// What is kept of one node.
struct NodeState {
    sender: Sender,
    session: Option<mpsc::Sender<Frames>>,
}

/// What a session begins with.
pub(crate) struct Beginning {
    pub(crate) resumed: bool,
    pub(crate) position: Position,
    pub(crate) frames: Frames,
    /// Ends when the session is to end: the node read too slowly, or another session took its place.
    pub(crate) deltas: mpsc::Receiver<Frames>,
}

/// Why a session cannot begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BeginError {
    #[error("the node has seen revision {0} of this store, which is not here yet; it will try again")]
    Behind(u64),
}

impl Views {
    pub(crate) fn new(snapshot: Arc<Snapshot>, store: StoreIdentity) -> Self {
        let state = State {
            store,
            views: NodeViews::default(),
            shared: Part::default(),
            nodes: HashMap::new(),
            revision: 0,
        };
        Self { snapshot, state: Mutex::new(state), revision: watch::channel(0).0 }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Tells when the views have reached a revision.
    pub(crate) fn revisions(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Keeps the views up to date until the server stops. `news` was subscribed before the snapshot began to fill.
    pub(crate) async fn run(
        self: Arc<Self>,
        store: Arc<dyn Store>,
        mut news: broadcast::Receiver<Applied>,
        mut stopping: watch::Receiver<bool>,
    ) {
        let mut revisions = self.snapshot.revisions();
        // What was reached before the subscription counts as seen, and on a quiet cluster nothing else would come.
        revisions.mark_changed();
        loop {
            tokio::select! {
                changed = revisions.changed() => if changed.is_err() { return },
                () = stopped(&mut stopping) => return,
            }
            // Everything up to this revision was told before the revision was.
            let revision = *revisions.borrow_and_update();
            self.recognize(&*store, revision);
            let mut changes = Vec::new();
            let complete = loop {
                match news.try_recv() {
                    Ok(change) => changes.push(change),
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break true,
                    Err(TryRecvError::Lagged(_)) => break false,
                }
            };
            if complete {
                self.take(&changes, revision);
            } else {
                news = self.snapshot.news();
                self.rebuild(revision);
            }
            self.revision.send_replace(revision);
        }
    }

    /// Where the store has gone over to another history, and the views come to it: nodes are told by the sessions they begin
    /// then, with all of it.
    fn recognize(&self, store: &dyn Store, revision: u64) {
        // In this order: a revision of the other history is kept no longer than its identity is known.
        let identity = store.identity();
        let identity = StoreIdentity { id: identity.id, epoch: identity.epoch };
        let mut state = self.lock();
        if identity != state.store && revision >= store.revisions().start().0 {
            tracing::warn!(
                epoch = identity.epoch,
                "the store has another history: every node is told all of it"
            );
            state.store = identity;
            state.nodes.clear();
        }
    }

    fn take(&self, changes: &[Applied], revision: u64) {
        let world = self.snapshot.read();
        let mut state = self.lock();
        let State { views, shared, nodes, revision: reached, .. } = &mut *state;
        *reached = revision;
        let mut for_all = Deltas::default();
        let mut for_one: HashMap<String, Deltas> = HashMap::new();
        for change in changes {
            for (target, delta) in views.apply(change, &world) {
                if let Delta::TooLarge(name) = &delta {
                    tracing::error!(
                        name,
                        "a resource is too large for a message and is not told to the nodes"
                    );
                }
                match target {
                    Target::All => for_all.take(delta),
                    Target::Node(name) if nodes.contains_key(&name) => {
                        for_one.entry(name).or_default().take(delta);
                    }
                    Target::Node(_) => {}
                }
            }
            if change.kind == &kind::NODE && change.after.is_none() {
                // Its session, if there is one, ends with it.
                nodes.remove(&change.key.name);
            }
        }
        let for_all = for_all.into_frames(shared, revision);
        for (name, node) in nodes {
            let own = for_one.remove(name).unwrap_or_default().into_frames(node.sender.own(), revision);
            node.send(name, node.sender.commit(revision, &for_all, own));
        }
    }

    fn rebuild(&self, revision: u64) {
        tracing::warn!(revision, "the nodes' views are made anew: more changed at once than the news hold");
        let world = self.snapshot.read();
        let mut state = self.lock();
        state.views = NodeViews::new();
        let State { views, shared, nodes, revision: reached, .. } = &mut *state;
        *reached = revision;
        for kind in KINDS {
            for entry in world.entries(kind) {
                let change = Applied {
                    kind,
                    key: entry.object.key(),
                    before: None,
                    after: Some(entry.clone()),
                    revision,
                };
                let _ = views.apply(&change, &world);
            }
        }
        let for_all = shared.replace(revision, views.shared());
        for (name, node) in nodes {
            let own = node.sender.own().replace(revision, views.own(name, &world));
            node.send(name, node.sender.commit(revision, &for_all, own));
        }
    }

    /// Begins a session; one that is there ends.
    ///
    /// # Errors
    /// The node has seen more than there is.
    pub(crate) fn begin(&self, node: &str, resume: Option<&Position>) -> Result<Beginning, BeginError> {
        let world = self.snapshot.read();
        let mut state = self.lock();
        let State { store, views, shared, nodes, revision } = &mut *state;
        let (store, revision) = (*store, *revision);
        let entry = nodes.entry(node.to_owned()).or_insert_with(|| NodeState {
            sender: Sender::new(store, revision, views.own(node, &world)),
            session: None,
        });
        let (resumed, frames) = match entry.sender.start(resume, revision, shared) {
            Start::Resumed(frames) => (true, frames),
            Start::Full(frames) => (false, frames),
            Start::Behind { revision } => return Err(BeginError::Behind(revision)),
        };
        let (queue, deltas) = mpsc::channel(QUEUE_DELTAS_MAX);
        entry.session = Some(queue);
        Ok(Beginning { resumed, position: store.at(revision), frames, deltas })
    }
}

impl NodeState {
    fn send(&mut self, name: &str, frames: Frames) {
        if frames.is_empty() {
            return;
        }
        let Some(Err(error)) = self.session.as_ref().map(|session| session.try_send(frames)) else { return };
        if matches!(error, TrySendError::Full(_)) {
            tracing::warn!(node = name, "a node does not read its state; its session ends and may resume");
        }
        self.session = None;
    }
}

/// The newest step of each resource; none: it goes.
#[derive(Default)]
struct Deltas(BTreeMap<String, Option<Item>>);

impl Deltas {
    fn take(&mut self, delta: Delta) {
        match delta {
            Delta::Put(item) => self.0.insert(item.name().to_owned(), Some(item)),
            Delta::Remove(name) | Delta::TooLarge(name) => self.0.insert(name, None),
        };
    }

    fn into_frames(self, part: &mut Part, revision: u64) -> Frames {
        let removes: Vec<String> =
            self.0.iter().filter(|(_, item)| item.is_none()).map(|(name, _)| name.clone()).collect();
        part.change(revision, self.0.into_values().flatten(), removes.iter().map(String::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use tokio::sync::mpsc::error::TryRecvError as TryRecv;
    use weft_api::object::Object;
    use weft_link::frame::Decoder;
    use weft_link::message::{StateFrame, state_frame::Frame};

    fn object(kind: &'static weft_api::kind::Kind, mut value: Value) -> Object {
        value["apiVersion"] = kind.api_version().into();
        value["kind"] = kind.kind.into();
        Object::read(kind, value.to_string().into()).unwrap()
    }

    /// `+name`, `-name`, `@revision`, in the order of their names.
    fn told(frames: &[Bytes]) -> Vec<String> {
        let mut decoder = Decoder::new();
        frames.iter().for_each(|frame| decoder.push(frame));
        let mut told = Vec::new();
        while let Some(frame) = decoder.take::<StateFrame>().unwrap() {
            match frame.frame.unwrap() {
                Frame::Begin(_) => told.push("begin".to_owned()),
                Frame::Put(resource) => told.push(format!("+{}", resource.name)),
                Frame::Remove(name) => told.push(format!("-{name}")),
                Frame::Commit(position) => told.push(format!("@{}", position.revision)),
            }
        }
        told.sort();
        told
    }

    /// More changed at once than the news hold, as after every start of a large cluster.
    #[test]
    fn views_that_are_made_anew_tell_what_changed_and_resume() {
        let snapshot = Snapshot::new();
        let node = json!({ "metadata": { "name": "n1" }, "spec": { "podCIDRs": ["10.244.0.0/24"] } });
        snapshot.put(object(&kind::NODE, node), 1);
        let views = Views::new(snapshot.clone(), StoreIdentity { id: [1; 16], epoch: 1 });
        views.rebuild(1);
        let mut session = views.begin("n1", None).unwrap();
        assert_eq!(told(&session.frames), ["+object/Node//n1", "+peer/n1", "@1", "begin"]);

        let service = json!({ "metadata": { "name": "s", "namespace": "default" },
            "spec": { "clusterIP": "10.96.0.7", "ports": [{ "port": 80 }] } });
        snapshot.put(object(&kind::SERVICE, service), 2);
        let pod =
            json!({ "metadata": { "name": "p", "namespace": "default" }, "spec": { "nodeName": "n1" } });
        snapshot.put(object(&kind::POD, pod), 3);
        views.rebuild(3);
        let changed = ["+object/Pod/default/p", "+service/default/s", "@3"];
        assert_eq!(told(&session.deltas.try_recv().unwrap()), changed);
        let resumed = views.begin("n1", Some(&session.position)).unwrap();
        assert!(resumed.resumed);
        assert_eq!(told(&resumed.frames), changed);
        assert!(session.deltas.try_recv().is_err(), "the earlier session has ended");
        let ahead = views.lock().store.at(9);
        assert!(matches!(views.begin("n1", Some(&ahead)), Err(BeginError::Behind(9))));
    }

    /// A server that starts on a store to which nothing is to be written: what the snapshot reached first is all there is.
    #[tokio::test]
    async fn views_that_begin_behind_the_snapshot_reach_it_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(weft_store::Embedded::open(dir.path().join("store")).unwrap());
        let snapshot = Snapshot::new();
        let news = snapshot.news();
        snapshot.reach(7);
        let views = Arc::new(Views::new(snapshot, StoreIdentity { id: [1; 16], epoch: 1 }));
        let mut reached = views.revisions();
        let (_stop, stopping) = watch::channel(false);
        let run = tokio::spawn(views.run(store, news, stopping));
        let wait = std::time::Duration::from_secs(10);
        tokio::time::timeout(wait, reached.wait_for(|r| *r == 7)).await.expect("in time").unwrap();
        run.abort();
    }

    #[tokio::test]
    async fn another_history_ends_the_sessions_and_is_told_whole() {
        let dir = tempfile::tempdir().unwrap();
        let open = |file, begins| {
            let options = weft_store::embedded::Options { begins, ..Default::default() };
            weft_store::Embedded::open_with(dir.path().join(file), &options).unwrap()
        };
        let identity = |store: &weft_store::Embedded| {
            let identity = store.identity();
            StoreIdentity { id: identity.id, epoch: identity.epoch }
        };
        let store = open("store", None);
        let first = identity(&store);
        let snapshot = Snapshot::new();
        snapshot.put(object(&kind::NODE, json!({ "metadata": { "name": "n1" } })), 1);
        let views = Views::new(snapshot, first);
        views.recognize(&store, 1);
        views.rebuild(1);
        let mut session = views.begin("n1", None).unwrap();
        views.recognize(&store, 1);
        assert!(session.deltas.try_recv() == Err(TryRecv::Empty), "nothing has changed");
        let before = store.identity();
        drop(store);

        let restored = weft_store::store::StoreIdentity { epoch: before.epoch + 1, ..before };
        let begins = weft_store::store::Beginning { identity: restored, revision: weft_store::Revision(0) };
        let store = open("restored", Some(begins));
        for n in 0..3 {
            let write = weft_store::Write::Put("k".into(), vec![n].into());
            let transaction = weft_store::Transaction { checks: Vec::new(), writes: vec![write] };
            store.commit(transaction).await.unwrap();
        }
        store.compact(weft_store::Revision(3)).await.unwrap();
        views.recognize(&store, 2);
        assert!(session.deltas.try_recv() == Err(TryRecv::Empty), "the views are not there yet");
        views.recognize(&store, 3);
        assert!(session.deltas.try_recv() == Err(TryRecv::Disconnected));
        views.rebuild(3);
        let again = views.begin("n1", Some(&session.position)).unwrap();
        assert!(!again.resumed, "what the node holds is of another history");
        assert_eq!(again.position, identity(&store).at(3));
        assert_ne!(identity(&store), first);
    }
}
