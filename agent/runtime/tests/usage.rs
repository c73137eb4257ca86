//! What Pods use, by the counters of the real kernel. Needs root.

#[path = "support/bench.rs"]
mod support;

use serde_json::json;
use support::{Bench, image_archive};
use weft_api::usage::{PodUsage, Usage};

const MIB: u64 = 1 << 20;

fn container(name: &str, line: &str) -> serde_json::Value {
    json!({ "name": name, "image": "weft.test/box:1", "command": ["/bin/sh", "-c", line] })
}

fn usage_of(pod: &PodUsage, container: &str) -> Usage {
    pod.containers.iter().find(|c| c.name == container).expect("every container is told").usage
}

#[tokio::test(flavor = "multi_thread")]
async fn who_burns_and_who_holds_are_told_apart() {
    let mut bench = Bench::bare("usage", |config| config.usage_every_ms = 1_000);
    bench.start().await;
    bench.runtime().load_image(&image_archive(&["weft.test/box:1"])[..]).await.unwrap();
    let hold = "head -c 50331648 /dev/zero > /dev/shm/held; exec sleep 1000";
    let containers = [container("burns", "while :; do :; done"), container("holds", hold)];
    bench.run("p", json!({ "containers": containers, "terminationGracePeriodSeconds": 1 }));
    let (pod, node) = bench
        .until("a Pod that burns and holds", 60, |b| {
            let report = b.runtime().usage();
            let pod = report.pods.into_iter().find(|pod| pod.name == "p")?;
            let told = usage_of(&pod, "burns").cpu_nanocores > 300_000_000
                && usage_of(&pod, "holds").memory_bytes >= 48 * MIB;
            told.then_some((pod, report.node?))
        })
        .await;
    assert_eq!((pod.namespace.as_str(), pod.uid.as_str()), ("ns", format!("{}-p", bench.name).as_str()));
    let (burns, holds) = (usage_of(&pod, "burns"), usage_of(&pod, "holds"));
    assert!(burns.cpu_nanocores < 1_200_000_000, "one thread: {burns:?}");
    assert!(burns.memory_bytes < 24 * MIB, "{burns:?}");
    assert!(holds.memory_bytes < 72 * MIB, "{holds:?}");
    assert!(pod.window.window_ms >= 900, "{:?}", pod.window);
    assert!(node.usage.cpu_nanocores > 200_000_000, "all that a Pod uses is its node's: {node:?}");
    assert!(node.usage.memory_bytes > 48 * MIB, "{node:?}");
    bench
        .until("rest of the one that holds", 60, |b| {
            let pod = b.runtime().usage().pods.into_iter().find(|pod| pod.name == "p")?;
            (usage_of(&pod, "holds").cpu_nanocores < 50_000_000).then_some(())
        })
        .await;
    // What is gone is told no more, and an agent that starts anew knows no rate until it has looked twice.
    bench.stop();
    bench.start().await;
    assert_eq!(bench.runtime().usage().pods, []);
    bench.again();
    bench.until("usage after the agent's restart", 60, |b| b.runtime().usage().pods.pop()).await;
    bench.remove("p");
    bench.gone("p", 60).await;
    bench.until("an end of the usage", 60, |b| b.runtime().usage().pods.is_empty().then_some(())).await;
    bench.close().await;
}
