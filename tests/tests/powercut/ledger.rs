//! What writers were answered and watchers were told, and whether it is so after power has come back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams, WatchEvent, WatchParams};
use kube::{Api, Error, ResourceExt as _};
use weft_store::testdisk::Choices;

pub(crate) const WRITERS: u64 = 4;
pub(crate) const WATCHERS: usize = 3;
/// Longest value, bytes: some writes are a few pages of the store, most are one.
const VALUE_BYTES_MAX: u64 = 9_000;
/// How long a watch may have nothing to tell although there is something.
const NEWS_MAX: Duration = Duration::from_secs(60);

/// What an acknowledged write leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    There(String),
    Gone,
}

/// What was acknowledged, by its version: name and what it leaves.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    acknowledged: Mutex<BTreeMap<u64, (String, Left)>>,
    /// How many there were: what is not known any more is no longer among them.
    count: AtomicU64,
    /// Names and values of writes that were refused for good: none of them may ever be seen.
    refused: Mutex<Vec<(String, String)>>,
    refusals: Mutex<Vec<Error>>,
}

impl Ledger {
    /// How many writes were acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// The refusals since this was asked last.
    pub(crate) fn refusals(&self) -> Vec<Error> {
        std::mem::take(&mut *self.refusals.lock().unwrap())
    }

    fn note(&self, name: &str, left: Left, answer: Result<u64, Error>) {
        match answer {
            Ok(version) => {
                let before = self.acknowledged.lock().unwrap().insert(version, (name.to_owned(), left));
                assert_eq!(before, None, "version {version} was given twice");
                self.count.fetch_add(1, Ordering::AcqRel);
            }
            Err(error) => {
                if let (Error::Api(status), Left::There(value)) = (&error, left)
                    && status.code == 503
                {
                    self.refused.lock().unwrap().push((name.to_owned(), value));
                }
                self.refusals.lock().unwrap().push(error);
            }
        }
    }
}

fn version(map: &ConfigMap) -> u64 {
    map.metadata.resource_version.as_deref().and_then(|text| text.parse().ok()).expect("a version")
}

fn value(map: &ConfigMap) -> String {
    map.data.as_ref().and_then(|data| data.get("value").cloned()).unwrap_or_default()
}

/// Makes, changes and removes ConfigMaps until nobody answers any more and it is over.
pub(crate) async fn write(
    api: Api<ConfigMap>,
    ledger: Arc<Ledger>,
    writer: u64,
    seed: u64,
    dark: Arc<AtomicBool>,
) {
    let mut choices = Choices::new(seed ^ (writer << 32));
    let mut round = 0u64;
    while !dark.load(Ordering::Acquire) {
        let fill = "x".repeat(choices.below(VALUE_BYTES_MAX) as usize);
        let value_now = format!("{seed}/{writer}/{round}/{fill}");
        let (fresh, hot) = (format!("new-{seed}-{writer}-{round}"), format!("hot-{writer}"));
        put(&api, &ledger, &fresh, &value_now).await;
        put(&api, &ledger, &hot, &value_now).await;
        if round % 3 == 2 {
            let name = format!("new-{seed}-{writer}-{}", round - 1);
            remove(&api, &ledger, &name).await;
        }
        round += 1;
    }
}

/// Creates it, or replaces what is there.
pub(crate) async fn put(api: &Api<ConfigMap>, ledger: &Ledger, name: &str, value: &str) {
    let map = ConfigMap {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        data: Some(BTreeMap::from([("value".to_owned(), value.to_owned())])),
        ..ConfigMap::default()
    };
    let parameters = PostParams::default();
    let mut answer = api.create(&parameters, &map).await;
    if matches!(&answer, Err(Error::Api(status)) if status.code == 409) {
        answer = api.replace(name, &parameters, &map).await;
    }
    let failed = answer.is_err();
    ledger.note(name, Left::There(value.to_owned()), answer.map(|map| version(&map)));
    if failed {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn remove(api: &Api<ConfigMap>, ledger: &Ledger, name: &str) {
    // The version of a removal is told to watchers alone: it is acknowledged, and its event has to come.
    match api.delete(name, &DeleteParams::default()).await {
        Ok(_) => {
            let map = api.get_opt(name).await;
            assert!(!matches!(&map, Ok(Some(_))), "{name} is there after its removal");
            ledger.acknowledged.lock().unwrap().values_mut().filter(|(of, _)| of == name).for_each(
                |(_, left)| {
                    *left = Left::Gone;
                },
            );
        }
        Err(error) => {
            let refused = matches!(&error, Error::Api(status) if [503, 404].contains(&status.code));
            if !refused {
                // It may be gone, or not: nothing is known of it any more.
                ledger.acknowledged.lock().unwrap().retain(|_, (of, _)| of != name);
            }
            ledger.refusals.lock().unwrap().push(error);
        }
    }
}

/// What one watcher was told, over all lives of the server.
#[derive(Debug, Default)]
pub(crate) struct Tale {
    reached: u64,
    /// Values that were told, by version; `None` for a removal.
    told: BTreeMap<u64, (String, Option<String>)>,
    state: BTreeMap<String, u64>,
}

impl Tale {
    /// In order, none twice, and each event possible after those before it.
    fn push(&mut self, event: WatchEvent<ConfigMap>) {
        let (map, what) = match event {
            WatchEvent::Added(map) => (map, "added"),
            WatchEvent::Modified(map) => (map, "modified"),
            WatchEvent::Deleted(map) => (map, "deleted"),
            WatchEvent::Bookmark(mark) => {
                let at: u64 = mark.metadata.resource_version.parse().expect("a version");
                assert!(at >= self.reached, "a bookmark at {at} after {}", self.reached);
                self.reached = at;
                return;
            }
            WatchEvent::Error(status) => panic!("a watch from {} is told {status:?}", self.reached),
        };
        let (name, at) = (map.name_any(), version(&map));
        assert!(at > self.reached, "{name} {what} at {at} after {}", self.reached);
        let known = self.state.contains_key(&name);
        assert_eq!(known, what != "added", "{name} {what} at {at}, and it was there: {known}");
        self.reached = at;
        if what == "deleted" {
            self.state.remove(&name);
            self.told.insert(at, (name, None));
        } else {
            self.state.insert(name.clone(), at);
            self.told.insert(at, (name, Some(value(&map))));
        }
    }

    /// Watches on from where it is, again and again, until it is over.
    pub(crate) async fn follow(mut self, api: Api<ConfigMap>, dark: Arc<AtomicBool>) -> Self {
        while !dark.load(Ordering::Acquire) {
            let parameters = WatchParams::default().timeout(200);
            let Ok(watch) = api.watch(&parameters, &self.reached.to_string()).await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let mut watch = std::pin::pin!(watch);
            loop {
                // Who has no power says nothing, not even that it is over.
                match tokio::time::timeout(Duration::from_millis(500), watch.next()).await {
                    Ok(Some(Ok(event))) => self.push(event),
                    Ok(_) => break,
                    Err(_) if dark.load(Ordering::Acquire) => break,
                    Err(_) => {}
                }
            }
        }
        self
    }
}

/// After power has come back: a watcher goes on to what is there now, and all that was acknowledged is in what it was told and
/// in what is there.
pub(crate) async fn catch_up(api: &Api<ConfigMap>, ledger: &Ledger, tale: &mut Tale) {
    let list = api.list(&ListParams::default()).await.expect("a list");
    let newest: u64 =
        list.metadata.resource_version.as_deref().and_then(|v| v.parse().ok()).expect("a version");
    assert!(newest >= tale.reached, "a watcher was told of {}, the server is at {newest}", tale.reached);
    let there: BTreeMap<String, (u64, String)> =
        list.items.iter().map(|map| (map.name_any(), (version(map), value(map)))).collect();
    let last = there.values().map(|(at, _)| *at).max().unwrap_or_default();
    if tale.reached == 0 {
        // The first life begins here.
        tale.reached = newest;
        tale.state = there.iter().map(|(name, (at, _))| (name.clone(), *at)).collect();
        return;
    }
    let watch = api.watch(&WatchParams::default().timeout(200), &tale.reached.to_string()).await;
    let mut watch = std::pin::pin!(watch.expect("a watch goes on"));
    let states = |tale: &Tale| -> bool {
        tale.state.len() == there.len()
            && there.iter().all(|(name, (at, _))| tale.state.get(name) == Some(at))
    };
    while tale.reached < last || !states(tale) {
        let news = tokio::time::timeout(NEWS_MAX, watch.next()).await;
        match news {
            Ok(Some(Ok(event))) => tale.push(event),
            other => panic!("a watcher at {} of {newest} is told {other:?}", tale.reached),
        }
        assert!(tale.reached <= newest, "a watcher is told of {}, a list of {newest}", tale.reached);
    }
    let acknowledged = ledger.acknowledged.lock().unwrap();
    let greatest = acknowledged.keys().next_back().copied().unwrap_or_default();
    assert!(newest >= greatest, "version {greatest} was acknowledged, the server is at {newest}");
    for (at, (name, left)) in acknowledged.iter() {
        match left {
            Left::There(value) => {
                let told = tale.told.get(at);
                assert_eq!(told, Some(&(name.clone(), Some(value.clone()))), "version {at} was acknowledged");
                let now = there.get(name);
                assert!(now.is_some_and(|(now, _)| now >= at), "{name} was written at {at}, and is {now:?}");
            }
            Left::Gone => assert!(!there.contains_key(name), "{name} was removed"),
        }
    }
    let refused = ledger.refused.lock().unwrap();
    let seen = tale.told.iter().find(|(_, (name, value))| {
        refused.iter().any(|(of, refused)| of == name && value.as_ref() == Some(refused))
    });
    assert_eq!(seen, None, "it was refused");
}
