//! The dataplane's events as the trace takes them: wall clock instead of monotonic, the sender's Pod by its namespace.

use std::collections::HashMap;

use nix::time::{ClockId, clock_gettime};
use weft_dataplane::{Dataplane, Event};
use weft_trace::{Path, Verdict};

/// Pods by the cookie of their network namespace. A cookie is never reused, so an entry never becomes wrong.
#[derive(Default)]
pub(crate) struct PodsByNamespace {
    pods: HashMap<u64, Option<String>>,
}

/// Cookies that are remembered before all are asked for anew.
const COOKIES_MAX: usize = 4096;

impl PodsByNamespace {
    async fn pod(&mut self, cookie: u64, dataplane: &Dataplane) -> Option<String> {
        if cookie == 0 {
            return None;
        }
        if let Some(known) = self.pods.get(&cookie) {
            return known.clone();
        }
        if self.pods.len() >= COOKIES_MAX {
            self.pods.clear();
        }
        for link in dataplane.known_pods().await.unwrap_or_default() {
            self.pods.insert(link.netns_cookie, Some(format!("{}/{}", link.namespace, link.name)));
        }
        self.pods.entry(cookie).or_default().clone()
    }
}

/// Reads an event.
pub(crate) async fn read(
    event: &Event,
    dataplane: &Dataplane,
    pods: &mut PodsByNamespace,
) -> weft_trace::Event {
    weft_trace::Event {
        unix_ns: unix_ns(event.monotonic_ns),
        verdict: if event.forwarded { Verdict::Forwarded } else { Verdict::Dropped },
        path: if event.socket_hook || event.at_connect { Path::Socket } else { Path::Packet },
        hook: event.hook.to_owned(),
        station: event.station.to_owned(),
        reason: event.reason.to_owned(),
        protocol: event.protocol,
        source: event.source,
        // A packet of a flow that was balanced at connect is already on its way to the backend.
        destination: event.service.unwrap_or(event.destination),
        backend: event.backend,
        source_pod: pods.pod(event.netns_cookie, dataplane).await,
    }
}

fn unix_ns(monotonic_ns: u64) -> i64 {
    let nanoseconds =
        |clock| clock_gettime(clock).map_or(0, |time| time.tv_sec() * 1_000_000_000 + time.tv_nsec());
    let since = nanoseconds(ClockId::CLOCK_MONOTONIC) - i64::try_from(monotonic_ns).unwrap_or(i64::MAX);
    nanoseconds(ClockId::CLOCK_REALTIME) - since
}
