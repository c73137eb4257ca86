//! What `/metrics` tells, in OpenMetrics text (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode};
use procfs::WithCurrentSystemInfo as _;
use procfs::process::{LimitValue, Process};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use weft_api::kind::KINDS;
use weft_api::status::Status;

use super::answer::{self, Body};
use crate::nodes::Nodes;
use crate::objects::Objects;

/// The text's media type, as its specification names it.
const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a request asks for, in the words of its authorization; for a path that is no resource's, the verb alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct About {
    pub(crate) verb: &'static str,
    pub(crate) group: &'static str,
    pub(crate) resource: &'static str,
    pub(crate) subresource: &'static str,
}

impl About {
    /// A request of which nothing is known but its method.
    pub(crate) fn method(method: &Method) -> Self {
        let verb = match *method {
            Method::GET | Method::HEAD => "get",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "",
        };
        Self { verb, group: "", resource: "", subresource: "" }
    }
}

/// An answered request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    subresource: &'static str,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    group: &'static str,
    resource: &'static str,
}

/// What is counted as it happens, and what is looked up when somebody asks.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    request_seconds: Family<About, Histogram, fn() -> Histogram>,
    pub(crate) requests_refused: Counter,
    pub(crate) watches: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) connections_refused: Counter,
}

/// From half a millisecond to half a minute.
fn answer_times() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 17))
}

impl Metrics {
    pub(crate) fn new(objects: &Arc<Objects>, nodes: &Arc<Nodes>) -> Self {
        let mut registry = Registry::default();
        let request_seconds: Family<About, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(answer_times);
        let (requests, requests_refused) = (Family::default(), Counter::default());
        let (watches, connections, connections_refused) =
            (Gauge::default(), Gauge::default(), Counter::default());
        registry.register("weft_api_requests", "Requests answered, and how", requests.clone());
        registry.register_with_unit(
            "weft_api_request_duration",
            "Time to the answer, watches and streams left out",
            Unit::Seconds,
            request_seconds.clone(),
        );
        let why = "Requests refused because there were too many at once";
        registry.register("weft_api_requests_refused", why, requests_refused.clone());
        registry.register("weft_api_watches", "Watches that are open", watches.clone());
        registry.register("weft_api_connections", "Connections that are open", connections.clone());
        let why = "Connections closed because there were too many";
        registry.register("weft_api_connections_refused", why, connections_refused.clone());
        let help = "Time from a write to where it is on disk and shown, those that conflict or fail included";
        registry.register_with_unit(
            "weft_store_commit_duration",
            help,
            Unit::Seconds,
            objects.commit_seconds.clone(),
        );
        registry.register_collector(Box::new(OfProcess));
        registry.register_collector(Box::new(Looked { objects: objects.clone(), nodes: nodes.clone() }));
        Self {
            registry,
            requests,
            request_seconds,
            requests_refused,
            watches,
            connections,
            connections_refused,
        }
    }

    /// Notes a request's answer; `took` is unset for those that go on for as long as both sides like. How long it takes to refuse
    /// somebody who may not ask is nobody's wait.
    pub(crate) fn answered(&self, about: &About, code: u16, took: Option<Duration>) {
        let About { verb, group, resource, subresource } = about.clone();
        self.requests.get_or_create(&Answered { verb, group, resource, subresource, code }).inc();
        if let Some(took) = took.filter(|_| !matches!(code, 401 | 403)) {
            self.request_seconds.get_or_create(about).observe(took.as_secs_f64());
        }
    }

    /// All of it as an answer.
    ///
    /// # Errors
    /// 500: it cannot be written down.
    pub(crate) fn serve(&self) -> Result<Response<Body>, Status> {
        let mut text = String::new();
        encode(&mut text, &self.registry).map_err(Status::internal)?;
        let mut response = answer::text(StatusCode::OK, text);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        Ok(response)
    }
}

/// What is looked up.
struct Looked {
    objects: Arc<Objects>,
    nodes: Arc<Nodes>,
}

impl fmt::Debug for Looked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Looked")
    }
}

impl Collector for Looked {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge = |name: &str, help: &str, unit: Option<&Unit>, value: i64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(out.encode_descriptor(name, help, unit, gauge.metric_type())?)
        };
        let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        gauge(
            "weft_store_revision",
            "Newest revision that is served",
            None,
            count(self.objects.cache.revision()),
        )?;
        let takes_writes = self.objects.store.trouble().is_none();
        gauge("weft_store_takes_writes", "1 while the store takes writes", None, takes_writes.into())?;
        gauge("weft_nodes_connected", "Nodes with a session", None, count(self.nodes.connected() as u64))?;
        let mut objects = out.encode_descriptor("weft_objects", "Live objects", None, MetricType::Gauge)?;
        for kind in KINDS {
            let labels = OfKind { group: kind.group, resource: kind.plural };
            let live = ConstGauge::new(count(self.objects.cache.count(kind) as u64));
            live.encode(objects.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// The process itself, by the names that every client library gives these.
#[derive(Debug)]
struct OfProcess;

impl OfProcess {
    fn read() -> procfs::ProcResult<(i64, i64, i64, f64, f64)> {
        let process = Process::myself()?;
        let stat = process.stat()?;
        let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let fds_max = match process.limits()?.max_open_files.soft_limit {
            LimitValue::Value(most) => count(most),
            LimitValue::Unlimited => i64::MAX,
        };
        let ticks = procfs::ticks_per_second() as f64;
        let booted = procfs::boot_time_secs()? as f64;
        Ok((
            count(stat.rss_bytes().get()),
            count(process.fd_count()? as u64),
            fds_max,
            booted + stat.starttime as f64 / ticks,
            (stat.utime + stat.stime) as f64 / ticks,
        ))
    }
}

impl Collector for OfProcess {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> fmt::Result {
        // Where there is no /proc there are no such metrics.
        let Ok((resident_bytes, fds, fds_max, started_seconds, cpu_seconds)) = Self::read() else {
            return Ok(());
        };
        let mut gauge = |name: &str, help: &str, unit: Option<&Unit>, gauge: &dyn EncodeMetric| {
            gauge.encode(out.encode_descriptor(name, help, unit, gauge.metric_type())?)
        };
        let (bytes, seconds) = (Some(&Unit::Bytes), Some(&Unit::Seconds));
        gauge("process_resident_memory", "Resident memory", bytes, &ConstGauge::new(resident_bytes))?;
        gauge("process_open_fds", "Open file descriptors", None, &ConstGauge::new(fds))?;
        gauge("process_max_fds", "File descriptors that may be open", None, &ConstGauge::new(fds_max))?;
        let help = "Start of the process since the Unix epoch";
        gauge("process_start_time", help, seconds, &ConstGauge::new(started_seconds))?;
        gauge("process_cpu", "CPU time, user and system", seconds, &ConstCounter::new(cpu_seconds))
    }
}
