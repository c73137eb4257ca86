//! Images on a disk that fills: those that nobody uses go, the others stay. Needs root.

#[path = "support/bench.rs"]
mod support;

use serde_json::json;
use support::{Bench, Entry, image_archive_with, shell};
use weft_runtime::{ImageCollection, Subject};

const MIB: usize = 1 << 20;

async fn load(bench: &Bench, name: &str, mebibytes: usize) {
    let archive = image_archive_with(&[name], &[Entry::Random("filler", mebibytes * MIB)]);
    assert_eq!(bench.runtime().load_image(&archive[..]).await.unwrap(), [name]);
    // Uses are told apart by when they were.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
}

fn names(bench: &Bench) -> Vec<String> {
    let mut names: Vec<String> = bench.runtime().images().into_iter().flat_map(|i| i.names).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_costs_the_images_that_nobody_uses() {
    let mut bench = Bench::bare("collect", |config| {
        config.image_collection =
            ImageCollection { high_percent: 30, low_percent: 25, age_min_s: 0, every_s: 1 };
    });
    // Small images do not come near the limit even while their archive and its layers are there beside what is unpacked;
    // the large one does, and fits.
    bench.small_disk(160);
    bench.start().await;
    load(&bench, "weft.test/used:1", 6).await;
    let mut spec = shell("sleep 1000");
    spec["containers"][0]["image"] = json!("weft.test/used:1");
    bench.run("p", spec);
    bench.phase("p", "Running").await;
    load(&bench, "weft.test/old:1", 6).await;
    load(&bench, "weft.test/new:1", 6).await;
    assert_eq!(names(&bench).len(), 3, "a fifth is not full");
    load(&bench, "weft.test/newest:1", 34).await;
    bench.until("room", 20, |b| (names(b).len() < 4 && b.runtime().images_removed() > 0).then_some(())).await;
    let left = names(&bench);
    assert!(!left.contains(&"weft.test/old:1".to_owned()), "{left:?}");
    assert!(left.contains(&"weft.test/used:1".to_owned()), "{left:?}");
    // Nothing of what went is left behind, and what stays still runs.
    let layers = std::fs::read_dir(bench.data().join("images/layers")).unwrap();
    assert_eq!(layers.flatten().filter(|e| e.path().is_dir()).count(), left.len());
    let configs = std::fs::read_dir(bench.data().join("images/configs")).unwrap();
    assert_eq!(configs.count(), left.len());
    assert_eq!(support::exec(&bench, "p", "ls /filler").await.1, "/filler\n");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_full_of_what_is_used_is_said() {
    let mut bench = Bench::bare("stuck", |config| {
        config.image_collection =
            ImageCollection { high_percent: 10, low_percent: 5, age_min_s: 0, every_s: 1 };
    });
    bench.small_disk(60);
    bench.start().await;
    // Wanted before it comes, so that it never is unused.
    let mut spec = shell("sleep 1000");
    spec["containers"][0]["image"] = json!("weft.test/used:1");
    spec["containers"][0]["imagePullPolicy"] = json!("Never");
    bench.run("p", spec);
    load(&bench, "weft.test/used:1", 8).await;
    let event = bench.event("FreeDiskSpaceFailed", "more bytes should be free").await;
    assert_eq!(event.subject, Subject::Node);
    assert_eq!(names(&bench), ["weft.test/used:1"]);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_interrupted_pull_left_goes() {
    let mut bench = Bench::bare("sweep", |config| {
        config.image_collection = ImageCollection { age_min_s: 0, every_s: 1, ..ImageCollection::default() };
    });
    bench.small_disk(60);
    let layers = bench.data().join("images/layers");
    std::fs::create_dir_all(layers.join("0123456789abcdef01234567/etc")).unwrap();
    std::fs::write(layers.join("0123456789abcdef01234567.bytes"), "1").unwrap();
    bench.start().await;
    load(&bench, "weft.test/good:1", 8).await;
    bench
        .until("a clean store", 10, |_| (std::fs::read_dir(&layers).unwrap().count() == 2).then_some(()))
        .await;
    bench.run("p", json!({ "containers": [{ "name": "c", "image": "weft.test/good:1" }], "terminationGracePeriodSeconds": 0 }));
    bench.phase("p", "Running").await;
    bench.close().await;
}
