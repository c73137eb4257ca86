//! `watch`: many watches of one namespace, a writer at a steady rate, and how long each update takes to each of them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::configmap::{ensure_namespace, path, stamped};
use crate::connection::{Lane, Target, complaint};
use crate::create::joined;
use crate::histogram::Histogram;
use crate::meter::{Cost, Meter};
use crate::options::{Http, Watch};
use crate::raw::{self, Came};
use crate::received::Received;
use crate::stamp::{Scanner, Stamp};

/// Updates on their way at once; a server that is slower gets fewer a second than were asked for.
const WRITES_MAX: usize = 64;
/// What the server has before the first update, to be rid of opening the watches.
const REST: Duration = Duration::from_secs(1);
/// How long the last events may take after the last update's answer.
const LAST_MAX: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);

/// What came of one watch.
#[derive(Default)]
struct Watcher {
    answered: AtomicBool,
    received: Mutex<Received>,
    bytes: AtomicU64,
    ended: AtomicBool,
}

/// What tasks share.
struct All {
    path: String,
    began: Instant,
    updates: u64,
    delays: Mutex<Histogram>,
}

/// Watches, writes, and waits until everything has come.
pub(crate) async fn run(target: &Target, options: &Watch, server_pid: Option<u32>) -> Result<Value> {
    ensure!(options.connections > 0, "at least one connection");
    ensure!(options.watches.is_multiple_of(options.connections), "as many watches on each connection");
    ensure!(options.rate > 0.0 && options.objects > 0, "a rate and objects");
    let all = Arc::new(All {
        path: path(&options.namespace),
        began: Instant::now(),
        updates: (options.rate * options.seconds) as u64,
        delays: Mutex::default(),
    });
    let revision = prepare(&mut target.connect().await?, &all, options).await?;
    // Writing waits for no watch to be read.
    let (begin, told) = oneshot::channel();
    let writing = tokio::task::spawn_blocking({
        let (target, all, options) = (target.clone(), all.clone(), options.clone());
        move || write_apart(&target, &all, &options, told)
    });
    let mut tasks: JoinSet<Result<()>> = JoinSet::new();
    let mut watchers = Vec::with_capacity(options.watches);
    let url = format!("{}?watch=true&resourceVersion={revision}", all.path);
    let each = options.watches / options.connections;
    if let Http::Two = target.http() {
        for _ in 0..options.connections {
            let mine: Vec<_> = (0..each).map(|_| Arc::new(Watcher::default())).collect();
            watchers.extend_from_slice(&mine);
            let connection = target.raw(&vec![url.clone(); each]).await?;
            tasks.spawn(follow_raw(connection, mine, all.clone()));
        }
    } else {
        for mut lane in target.lanes(options.connections, each).await? {
            let answer = lane.send(Method::GET, &url, Bytes::new()).await?;
            if answer.status() != StatusCode::OK {
                bail!("a watch: {}", complaint(answer).await);
            }
            let watcher = Arc::new(Watcher { answered: true.into(), ..Watcher::default() });
            watchers.push(watcher.clone());
            tasks.spawn(follow(lane, answer, watcher, all.clone()));
        }
    }
    wait_for_answers(&watchers, &mut tasks).await?;
    tokio::time::sleep(REST).await;
    let meter = Meter::start(server_pid)?;
    let _ = begin.send(());
    let writes = writing.await??;
    let written_in = meter.stop()?.seconds;
    let missed = wait_for_all(&watchers, all.updates).await;
    let cost = meter.stop()?;
    tasks.abort_all();
    Ok(report(&all, &watchers, &writes, &Times { written_in, cost }, missed))
}

/// Makes the namespace and the objects; the revision that the watches begin at.
async fn prepare(lane: &mut Lane, all: &All, options: &Watch) -> Result<String> {
    ensure_namespace(lane, &options.namespace).await?;
    for number in 0..options.objects {
        // No stamp of an update: its digits are none.
        let body = format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{}"}},"data":{{"sent":"never"}}}}"#,
            watched(number)
        );
        lane.ensure(&all.path, body.into()).await?;
    }
    let list = lane.get(&format!("{}?limit=1", all.path)).await?;
    let list: Value = serde_json::from_slice(&list).context("the list is not JSON")?;
    Ok(list["metadata"]["resourceVersion"].as_str().context("the list has no revision")?.to_owned())
}

fn watched(number: u64) -> String {
    format!("watched-{number}")
}

/// Reads a watch until it ends.
async fn follow(
    lane: Lane,
    mut answer: Response<Incoming>,
    watcher: Arc<Watcher>,
    all: Arc<All>,
) -> Result<()> {
    let mut scanner = Scanner::default();
    while let Some(Ok(frame)) = answer.body_mut().frame().await {
        if let Some(part) = frame.data_ref() {
            watcher.take(&mut scanner, part, &all);
        }
    }
    watcher.ended.store(true, Ordering::Relaxed);
    drop(lane);
    Ok(())
}

/// Reads all watches of a connection until it ends.
async fn follow_raw(mut connection: raw::Connection, mine: Vec<Arc<Watcher>>, all: Arc<All>) -> Result<()> {
    let mut scanners: Vec<_> = mine.iter().map(|_| Scanner::default()).collect();
    let ended = connection.read(|came| match came {
        Came::Answered(at) => mine[at].answered.store(true, Ordering::Relaxed),
        Came::Data(at, part) => mine[at].take(&mut scanners[at], part, &all),
        Came::Ended(at) => mine[at].ended.store(true, Ordering::Relaxed),
    });
    let ended = ended.await;
    mine.iter().for_each(|watcher| watcher.ended.store(true, Ordering::Relaxed));
    ended
}

/// Waits until the server has begun every answer.
async fn wait_for_answers(watchers: &[Arc<Watcher>], tasks: &mut JoinSet<Result<()>>) -> Result<()> {
    let all = async {
        while !watchers.iter().all(|watcher| watcher.answered.load(Ordering::Relaxed)) {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        () = all => Ok(()),
        Some(ended) = tasks.join_next() => ended?.and_then(|()| bail!("a watch ended before it began")),
        () = tokio::time::sleep(LAST_MAX) => bail!("not every watch was answered within {LAST_MAX:?}"),
    }
}

impl Watcher {
    /// Takes what came.
    fn take(&self, scanner: &mut Scanner, part: &[u8], all: &All) {
        let now_ns = all.now_ns();
        let mut delays = all.delays.lock().unwrap_or_else(PoisonError::into_inner);
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        scanner.scan(part, |stamp| {
            if stamp.number < all.updates {
                received.take(stamp.number);
                delays.record_ns(now_ns.saturating_sub(stamp.sent_ns));
            }
        });
        self.bytes.fetch_add(part.len() as u64, Ordering::Relaxed);
    }
}

impl All {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Connects, waits until it is told to begin, and writes, in a runtime of its own.
fn write_apart(
    target: &Target,
    all: &Arc<All>,
    options: &Watch,
    told: oneshot::Receiver<()>,
) -> Result<Histogram> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let lanes = match target.http() {
            Http::One => target.lanes(WRITES_MAX, 1).await?,
            Http::Two => target.lanes(1, WRITES_MAX).await?,
        };
        told.await.context("the watches did not begin")?;
        write(lanes, all, options).await
    })
}

/// Every update at its time, by whichever lane is free; how long they took.
async fn write(lanes: Vec<Lane>, all: &Arc<All>, options: &Watch) -> Result<Histogram> {
    let next = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let mut running = JoinSet::new();
    for mut lane in lanes {
        let (all, next, rate, objects) = (all.clone(), next.clone(), options.rate, options.objects);
        running.spawn(async move {
            let mut times = Histogram::default();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= all.updates {
                    return Ok(times);
                }
                let due = began + Duration::from_secs_f64(number as f64 / rate);
                tokio::time::sleep_until(due.into()).await;
                let name = watched(number % objects);
                let sent = Instant::now();
                let body = stamped(&name, Stamp { number, sent_ns: all.now_ns() });
                lane.ask(Method::PUT, &format!("{}/{name}", all.path), body, StatusCode::OK).await?;
                times.record(sent.elapsed());
            }
        });
    }
    joined(running).await
}

/// How many events did not come, over all watches.
async fn wait_for_all(watchers: &[Arc<Watcher>], updates: u64) -> u64 {
    let began = Instant::now();
    loop {
        let missed = watchers
            .iter()
            .map(|w| updates - w.received.lock().unwrap_or_else(PoisonError::into_inner).count())
            .sum();
        if missed == 0 || began.elapsed() >= LAST_MAX {
            return missed;
        }
        tokio::time::sleep(LOOK).await;
    }
}

struct Times {
    written_in: f64,
    cost: Cost,
}

fn report(all: &All, watchers: &[Arc<Watcher>], writes: &Histogram, times: &Times, missed: u64) -> Value {
    let delays = all.delays.lock().unwrap_or_else(PoisonError::into_inner);
    let sum = |of: fn(&Watcher) -> u64| watchers.iter().map(|watcher| of(watcher)).sum::<u64>();
    json!({
        "watches": watchers.len(),
        "updates": writes.count(),
        "updates_per_second": writes.count() as f64 / times.written_in,
        "update_p50_ms": writes.percentile_ms(0.5),
        "update_p99_ms": writes.percentile_ms(0.99),
        "events": delays.count(),
        "bytes": sum(|w| w.bytes.load(Ordering::Relaxed)),
        "p50_ms": delays.percentile_ms(0.5),
        "p99_ms": delays.percentile_ms(0.99),
        "most_ms": delays.most_ms(),
        "missed": missed,
        "repeated": sum(|w| w.received.lock().unwrap_or_else(PoisonError::into_inner).repeated()),
        "ended": sum(|w| w.ended.load(Ordering::Relaxed).into()),
        "seconds": times.cost.seconds,
        "server_cpu_seconds": times.cost.server_cpu_seconds,
        "load_cpu_seconds": times.cost.load_cpu_seconds,
    })
}
