//! `/metrics` of a real server, in OpenMetrics text.

#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "support/server.rs"]
mod server;

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use http_body_util::BodyExt;
use serde_json::json;
use server::{Client, Server};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";

/// The samples by name and labels, and the types of the metrics. The text is as its specification wants it.
async fn metrics(admin: &mut Client) -> (BTreeMap<String, f64>, BTreeMap<String, String>) {
    let answer = admin.open(Method::GET, "/metrics", &[], Vec::new()).await;
    assert_eq!(answer.status(), 200);
    let type_ = answer.headers()["content-type"].to_str().unwrap().to_owned();
    assert_eq!(type_, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(text.to_vec()).unwrap();
    let lines = text.strip_suffix("# EOF\n").expect("an end").lines();
    let (mut samples, mut types, mut units) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    for line in lines {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, type_) = rest.split_once(' ').unwrap();
            assert_eq!(types.insert(name.to_owned(), type_.to_owned()), None, "{name} twice");
        } else if let Some(rest) = line.strip_prefix("# UNIT ") {
            let (name, unit) = rest.split_once(' ').unwrap();
            assert!(name.ends_with(&format!("_{unit}")), "{line}");
            units.insert(name.to_owned());
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert_eq!(samples.insert(name.to_owned(), value.parse().unwrap()), None, "{name} twice");
        }
    }
    assert!(types.keys().filter(|name| name.ends_with("_seconds")).all(|name| units.contains(name)));
    (samples, types)
}

#[tokio::test]
async fn metrics_count_what_is_asked_for_and_tell_what_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut admin = server.admin().await;
    let secret = |name: &str| json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name } });
    let (before, _) = metrics(&mut admin).await;
    for name in ["a", "b"] {
        assert_eq!(admin.post(SECRETS, secret(name)).await.0, 201);
    }
    assert_eq!(admin.post(SECRETS, secret("a")).await.0, 409);
    assert_eq!(admin.get(&format!("{SECRETS}/c")).await.0, 404);
    assert_eq!(admin.get("/nothing").await.0, 404);
    let mut other = server.admin().await;
    let watch = other.open(Method::GET, &format!("{SECRETS}?watch=true"), &[], Vec::new()).await;
    let (after, types) = metrics(&mut admin).await;
    let about = |verb: &str, code: &str| {
        let labels = format!("verb=\"{verb}\",group=\"\",resource=\"secrets\",subresource=\"\"");
        if code.is_empty() { format!("{{{labels}}}") } else { format!("{{{labels},code=\"{code}\"}}") }
    };
    for (verb, code, times) in
        [("create", "201", 2.0), ("create", "409", 1.0), ("get", "404", 1.0), ("watch", "200", 1.0)]
    {
        assert_eq!(after[&format!("weft_api_requests_total{}", about(verb, code))], times, "{verb} {code}");
    }
    let no_resource = "{verb=\"get\",group=\"\",resource=\"\",subresource=\"\",code=\"404\"}";
    assert_eq!(after[&format!("weft_api_requests_total{no_resource}")], 1.0);
    let count =
        |verb: &str| after.get(&format!("weft_api_request_duration_seconds_count{}", about(verb, "")));
    assert_eq!((count("create"), count("watch")), (Some(&3.0), None), "a watch's time is nobody's wait");
    assert_eq!(after["weft_api_watches"], 1.0);
    assert_eq!(after["weft_api_connections"], 2.0);
    let secrets = "weft_objects{group=\"\",resource=\"secrets\"}";
    assert_eq!(after[secrets] - before[secrets], 2.0);
    let commits = "weft_store_commit_duration_seconds_count";
    assert!(after[commits] >= before[commits] + 2.0);
    assert!(after["weft_store_revision"] >= before["weft_store_revision"] + 2.0);
    assert_eq!(after["weft_store_takes_writes"], 1.0);
    assert!(after["process_resident_memory_bytes"] > 1e6 && after["process_open_fds"] > 5.0);
    assert!(after["process_max_fds"] >= after["process_open_fds"]);
    assert!(after["process_cpu_seconds_total"] >= before["process_cpu_seconds_total"]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let age = now - after["process_start_time_seconds"];
    assert!((-2.0..3_600.0).contains(&age), "{age} s old");
    for (name, type_) in [
        ("weft_api_requests", "counter"),
        ("weft_api_request_duration_seconds", "histogram"),
        ("weft_objects", "gauge"),
        ("process_cpu_seconds", "counter"),
    ] {
        assert_eq!(types[name], type_);
    }
    drop((watch, other));
    let mut open = 1.0;
    for _ in 0..100 {
        open = metrics(&mut admin).await.0["weft_api_watches"];
        if open == 0.0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(open, 0.0);
}
