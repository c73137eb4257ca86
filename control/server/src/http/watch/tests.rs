//! Frames of a watch, on a cache that is told what the store would tell it.

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch::Sender;
use weft_api::key::ObjectKey;
use weft_api::kind;
use weft_store::Embedded;
use weft_store::store::{Batch, Entry, Event, Revision};

use super::super::accept::Form;
use super::super::query::Query;
use super::events::FRAME_BYTES;
use super::*;
use crate::objects::{encoding, layout};

/// A cache of ConfigMaps, and watches of them among others that are open.
struct Bed {
    cache: Arc<Cache>,
    feeds: Feeds,
    watches: Gauge,
    stop: Sender<bool>,
    revision: u64,
    _dir: tempfile::TempDir,
}

impl Bed {
    async fn new(changes_max: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Embedded::open(dir.path().join("store")).unwrap());
        let cache = Cache::fill(store, changes_max).await.unwrap();
        Self {
            cache,
            feeds: Feeds::new(),
            watches: Gauge::default(),
            stop: tokio::sync::watch::channel(false).0,
            revision: 0,
            _dir: dir,
        }
    }

    /// One more ConfigMap with so many bytes in it.
    fn change(&mut self, bytes: usize) {
        self.revision += 1;
        let (name, at) = (format!("c{}", self.revision), Revision(self.revision));
        let object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": { "k": "x".repeat(bytes) },
            "metadata": { "name": name, "namespace": "default" } });
        let entry = Entry {
            key: layout::object_key(&kind::CONFIG_MAP, &ObjectKey::namespaced("default", &name)),
            value: encoding::stored(object.as_object().unwrap()).unwrap(),
            create_revision: at,
            mod_revision: at,
        };
        self.cache.apply(&Batch { revision: at, events: [Event::Put { entry, previous: None }].into() });
    }

    fn watch(&self, bookmarks: bool) -> Running {
        self.watch_of("", 0, bookmarks)
    }

    /// Of what a query asks for, at a phase.
    fn watch_of(&self, query: &str, phase: u32, bookmarks: bool) -> Running {
        let (kind, query) = (&kind::CONFIG_MAP, Query::parse(query));
        let selection = Selection::of(kind, &query).unwrap();
        let wanted = Wanted { form: Form::Objects, encoding: Encoding::Json };
        let events = Events::new(kind, kind, None, selection, wanted, &query);
        Running {
            cache: Arc::clone(&self.cache),
            open: Open::new(&self.watches),
            feed: self.feeds.join(&events, &query, phase),
            events,
            position: 0,
            initial: Vec::new().into_iter(),
            tell_initial_end: false,
            bookmarks,
            changed: self.cache.changed(&kind::CONFIG_MAP),
            stopping: self.stop.subscribe(),
            began: self.feeds.began,
            phase,
            ends: Instant::now() + LIFE_MIN,
            next_bookmark: Instant::now() + BOOKMARK_EVERY,
            bookmark_is_due: false,
            rests_until: None,
            ended: false,
        }
    }
}

/// Types and revisions of a frame's events; it has nothing but whole lines.
fn events(frame: &Bytes) -> Vec<(String, u64)> {
    let text = std::str::from_utf8(frame).unwrap();
    assert!(text.ends_with('\n'), "a line is cut off");
    let read = |line| {
        let event: Value = serde_json::from_str(line).unwrap();
        let revision = event["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        (event["type"].as_str().unwrap().to_owned(), revision)
    };
    text.lines().map(read).collect()
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_sent_in_frames_and_in_order() {
    let mut bed = Bed::new(10_000).await;
    for _ in 0..1_000 {
        bed.change(1_000);
    }
    bed.watches.inc_by(1_000);
    let mut watch = bed.watch(false);
    let (mut seen, mut frames, began) = (0, 0, Instant::now());
    while seen < 1_000 {
        let frame = watch.next().await.unwrap();
        assert!(frame.len() < FRAME_BYTES + 2_000, "{}", frame.len());
        for (type_, revision) in events(&frame) {
            seen += 1;
            assert_eq!((type_.as_str(), revision), ("ADDED", seen));
        }
        frames += 1;
    }
    // An event is a little longer than what is in it.
    assert!(frames < 100, "{frames}");
    assert_eq!(began.elapsed(), Duration::ZERO, "nobody rests who has more to read");
}

#[tokio::test(start_paused = true)]
async fn the_more_watches_there_are_the_longer_each_rests_after_a_frame() {
    for (others, rest) in [(0, 0), (30, 0), (100, 3), (1_000, 32), (100_000, 32)] {
        let mut bed = Bed::new(10_000).await;
        let mut watch = bed.watch(false);
        bed.watches.inc_by(others);
        bed.change(10);
        let began = Instant::now();
        assert_eq!(events(&watch.next().await.unwrap()).len(), 1);
        assert_eq!(began.elapsed(), Duration::ZERO, "the first is sent at once");
        bed.change(10);
        bed.change(10);
        assert_eq!(events(&watch.next().await.unwrap()).len(), 2);
        let first = began.elapsed().as_millis();
        assert!(first <= rest + 2, "{others}: {first} ms");
        bed.change(10);
        assert_eq!(events(&watch.next().await.unwrap()).len(), 1);
        let second = began.elapsed().as_millis() - first;
        assert!((rest..=rest + 2).contains(&second), "{others}: {second} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn watches_of_one_phase_go_on_at_once_and_the_phases_are_spread() {
    let mut bed = Bed::new(10_000).await;
    bed.watches.inc_by(1_000);
    let mut watches: Vec<Running> =
        (0..2 * PHASES).map(|_| bed.watch_of("", bed.feeds.phase(), false)).collect();
    let began = Instant::now();
    bed.change(10);
    let mut woken = Vec::new();
    for watch in &mut watches {
        watch.next().await.unwrap();
        // Whenever within the rest it was.
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    bed.change(10);
    for watch in &watches {
        woken.push(watch.rests_until.unwrap().duration_since(began).as_micros() % REST_MAX.as_micros());
    }
    let (first, second) = woken.split_at(PHASES as usize);
    assert_eq!(first, second);
    let mut moments = first.to_vec();
    moments.sort_unstable();
    let apart = REST_MAX.as_micros() / u128::from(PHASES);
    assert!(moments.windows(2).all(|pair| pair[1] - pair[0] == apart), "{moments:?}");
}

#[tokio::test(start_paused = true)]
async fn who_is_late_catches_up_with_those_who_want_the_same() {
    let mut bed = Bed::new(10_000).await;
    bed.watches.inc_by(1_000);
    let (mut prompt, mut late) = (bed.watch(false), bed.watch(false));
    for _ in 0..3 {
        bed.change(10);
        prompt.next().await.unwrap();
    }
    let began = Instant::now();
    for revision in 1..=3 {
        assert_eq!(events(&late.next().await.unwrap()), [("ADDED".to_owned(), revision)]);
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    bed.change(10);
    late.next().await.unwrap();
    assert!(began.elapsed() > Duration::ZERO, "then it rests like everybody");
}

#[tokio::test(start_paused = true)]
async fn nothing_that_is_there_waits_for_more_than_a_rest() {
    let mut bed = Bed::new(10_000).await;
    bed.watches.inc_by(1_000);
    let mut watches: Vec<Running> = (0..PHASES).map(|phase| bed.watch_of("", phase, false)).collect();
    // They begin at the same place, and each could take what another has made.
    for _ in 0..20 {
        for watch in &mut watches {
            bed.change(10);
            let frame = watch.next().await.unwrap();
            assert_eq!(events(&frame).last().unwrap().1, bed.revision, "it is of all that there is");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_when_its_time_is_over_or_the_server_stops_though_there_is_always_more() {
    for stops in [false, true] {
        let mut bed = Bed::new(10_000).await;
        let mut watch = bed.watch(false);
        let mut frames = 0;
        loop {
            bed.change(10);
            match (frames, stops) {
                (10, true) => drop(bed.stop.send_replace(true)),
                (10, false) => tokio::time::advance(LIFE_MIN).await,
                _ => {}
            }
            if watch.next().await.is_none() {
                break;
            }
            frames += 1;
            assert!(frames < 20, "it goes on");
        }
        assert!(frames >= 10, "{frames}");
        drop(watch);
        assert_eq!(bed.watches.get(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_bookmark_tells_how_far_the_cache_is_when_it_is_sent() {
    let mut bed = Bed::new(10_000).await;
    bed.change(10);
    let mut watch = bed.watch(true);
    assert_eq!(events(&watch.next().await.unwrap()), [("ADDED".to_owned(), 1)]);
    let began = Instant::now();
    // Another kind's commit, which a watch of ConfigMaps is not woken by.
    let other = async {
        tokio::time::sleep(BOOKMARK_EVERY / 2).await;
        bed.cache.apply(&Batch { revision: Revision(9), events: [].into() });
        std::future::pending::<()>().await;
    };
    let frame = tokio::select! {
        frame = watch.next() => frame.unwrap(),
        () = other => unreachable!(),
    };
    assert_eq!(events(&frame), [("BOOKMARK".to_owned(), 9)]);
    assert!(began.elapsed() >= BOOKMARK_EVERY - Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_too_far_behind_is_told_so_behind_what_it_still_gets() {
    let mut bed = Bed::new(4).await;
    let mut watch = bed.watch(false);
    bed.change(10);
    assert_eq!(events(&watch.next().await.unwrap()), [("ADDED".to_owned(), 1)]);
    for _ in 0..6 {
        bed.change(10);
    }
    let frame = watch.next().await.unwrap();
    let told: Value = serde_json::from_slice(&frame).unwrap();
    assert_eq!((&told["type"], &told["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(watch.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn who_wants_the_same_gets_the_same_bytes() {
    let mut bed = Bed::new(10_000).await;
    let all = |query: &str| [bed.watch_of(query, 0, true), bed.watch_of(query, 0, true)];
    let [mut first, mut second] = all("");
    let [mut none, _] = all("labelSelector=a%3Db");
    let ends = |frame: &Bytes| frame.as_ptr_range();
    let mut alone = bed.watch_of("fieldSelector=metadata.name%3Dc2", 0, true);
    for _ in 0..3 {
        bed.change(10);
        bed.change(10);
        let frame = first.next().await.unwrap();
        assert_eq!(events(&frame).len(), 2);
        bed.change(10);
        // Who comes later gets what was made, and then what came since.
        let same = second.next().await.unwrap();
        assert_eq!(ends(&same), ends(&frame));
        let (newer, newest) = (second.next().await.unwrap(), first.next().await.unwrap());
        assert_eq!((events(&newer).len(), ends(&newer)), (1, ends(&newest)));
    }
    // A bookmark in between does not part them: nothing changed up to it.
    tokio::time::advance(BOOKMARK_EVERY).await;
    bed.cache.apply(&Batch { revision: Revision(bed.revision + 5), events: [].into() });
    bed.revision += 5;
    assert_eq!(events(&first.next().await.unwrap()), [("BOOKMARK".to_owned(), bed.revision)]);
    bed.change(10);
    let (frame, same) = (first.next().await.unwrap(), second.next().await.unwrap());
    assert_eq!((events(&frame).len(), ends(&frame)), (1, ends(&same)));
    // Others want something else of the same changes.
    assert_eq!(events(&alone.next().await.unwrap()), [("ADDED".to_owned(), 2)]);
    let nothing = none.next().await.unwrap();
    assert_eq!(events(&nothing), [("BOOKMARK".to_owned(), bed.revision)], "none is of that label");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_not_read_holds_nothing_of_the_ring() {
    let mut bed = Bed::new(4).await;
    let mut watch = bed.watch(false);
    bed.change(20_000);
    let kept = Arc::downgrade(&bed.cache.changes(&kind::CONFIG_MAP, 0, 1).unwrap()[0]);
    bed.change(10);
    assert_eq!(events(&watch.next().await.unwrap()).len(), 1, "a frame is full");
    for _ in 0..6 {
        bed.change(10);
    }
    assert!(kept.upgrade().is_none());
}
