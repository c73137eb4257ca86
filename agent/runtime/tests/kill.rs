//! The agent is killed at any moment: what it had begun is found again, once, and nothing is left over. Needs root.

#[path = "support/bench.rs"]
mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{Bench, shell};

/// A Pod with an init container, a shared namespace, volumes and a run that ends soon: as many steps as there are.
fn busy() -> Value {
    let mut spec = shell("sleep 4242");
    spec["shareProcessNamespace"] = json!(true);
    spec["initContainers"] = json!([{ "name": "i", "image": "weft.test/box:1", "command": ["/bin/sh", "-c", "echo x > /v/i"],
        "volumeMounts": [{ "name": "v", "mountPath": "/v" }] }]);
    spec["volumes"] = json!([{ "name": "v", "emptyDir": { "medium": "Memory" } }]);
    spec["containers"][0]["volumeMounts"] = json!([{ "name": "v", "mountPath": "/v", "subPath": "part" }]);
    spec["terminationGracePeriodSeconds"] = json!(0);
    spec
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_cut_off_anywhere_is_finished_once() {
    let mut bench = Bench::new("cut").await;
    for (round, after_ms) in [0, 5, 20, 45, 80, 120, 170, 230, 300, 380, 470, 570].into_iter().enumerate() {
        let name = format!("p{round}");
        bench.run(&name, busy());
        tokio::time::sleep(Duration::from_millis(after_ms)).await;
        bench.stop();
        bench.start().await;
        bench.again();
        bench.phase(&name, "Running").await;
        // A container that has just been started is not yet the program it is to become.
        let sleeps = |b: &Bench| b.pids("sleep\x004242").len() + b.pids("/bin/sleep\x004242").len();
        bench.until("its process", 10, |b| (sleeps(b) > 0).then_some(())).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!((sleeps(&bench), bench.pids("/pause").len()), (1, 1), "cut off after {after_ms} ms");
        let status = bench.status(&name);
        assert_eq!(
            status["containerStatuses"][0]["restartCount"], 0,
            "cut off after {after_ms} ms: {status}"
        );
        bench.remove(&name);
        tokio::time::sleep(Duration::from_millis(after_ms / 4)).await;
        // The removal is cut off too.
        bench.stop();
        bench.start().await;
        bench.again();
        bench
            .until("nothing left", 20, |b| {
                let pods = std::fs::read_dir(b.data().join("pods")).unwrap().count();
                (pods == 0 && b.pids("").is_empty()).then_some(())
            })
            .await;
        bench.forget(&name);
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_run_ended_is_known_though_the_shim_has_forgotten_it() {
    let mut bench = Bench::new("end").await;
    let mut spec = shell("sleep 1000");
    spec["restartPolicy"] = json!("Never");
    bench.run("p", spec);
    let status = bench.phase("p", "Running").await;
    let id = status["containerStatuses"][0]["containerID"]
        .as_str()
        .unwrap()
        .trim_start_matches("containerd://")
        .to_owned();
    let record = std::fs::read(bench.data().join(format!("pods/{}-p/record.json", bench.name))).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    let socket = record["shim"].as_str().unwrap().trim_start_matches("unix://").to_owned();
    assert!(std::fs::exists(&socket).unwrap());
    bench.stop();
    // As if the agent had been killed after it noted the end and told the shim to forget the run.
    let time = "2026-01-01T00:00:00Z";
    let end =
        json!({ "id": id, "code": 5, "reason": "Error", "message": "", "started": time, "finished": time });
    let notes = bench.data().join(format!("pods/{}-p/term", bench.name));
    std::fs::write(notes.join(format!("{id}.json")), end.to_string()).unwrap();
    std::fs::write(notes.join(&id), "last words").unwrap();
    for pid in bench.pids("") {
        let _ = std::process::Command::new("kill").args(["-9", &pid]).status();
    }
    bench.start().await;
    bench.again();
    let status = bench.phase("p", "Failed").await;
    let ended = &status["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((ended["exitCode"].as_i64(), ended["message"].as_str()), (Some(5), Some("last words")));
    assert!(!std::fs::exists(&socket).unwrap(), "the dead shim's socket goes too");
    // It is over for the agents that come, too.
    tokio::time::sleep(Duration::from_millis(500)).await;
    bench.stop();
    bench.start().await;
    bench.again();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(bench.phase("p", "Failed").await["containerStatuses"][0]["restartCount"], 0);
    let left = bench.pids("").into_iter().map(|pid| std::fs::read_to_string(format!("/proc/{pid}/cmdline")));
    assert_eq!(left.map(Result::unwrap_or_default).collect::<Vec<_>>(), [""; 0]);
    bench.close().await;
}
