//! Keeps images from filling the disk: looks from time to time, and removes what [`crate::image::collect`] chooses.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;
use nix::sys::statvfs::statvfs;

use super::Inner;
use crate::image::collect::{Disk, Uses};
use crate::image::{ImageStore, normalize};
use crate::report::{EventType, RuntimeEvent, Subject};

/// Looks as long as the runtime lives.
pub(super) async fn run(inner: Weak<Inner>) {
    let mut uses = Uses::default();
    loop {
        let Some(every_s) = inner.upgrade().map(|i| i.node.config.image_collection.every_s) else { return };
        tokio::time::sleep(Duration::from_secs(every_s.max(1).into())).await;
        let Some(inner) = inner.upgrade() else { return };
        uses = round(&inner, uses).await;
    }
}

async fn round(inner: &Inner, mut uses: Uses) -> Uses {
    let (store, policy) = (inner.node.store.clone(), inner.node.config.image_collection.clone());
    let used = inner.used_images();
    let in_use = move |image: &crate::ImageInfo| {
        used.contains(&image.id) || image.names.iter().chain(&image.digests).any(|name| used.contains(name))
    };
    let images: Vec<(String, bool)> = store.list().iter().map(|i| (i.id.clone(), in_use(i))).collect();
    let now = Timestamp::now();
    uses.note(&images, now);
    let unused = uses.unused(&images, &policy, now);
    let swept = store.clone();
    let age_min = Duration::from_secs(policy.age_min_s.into());
    let work = move || {
        swept.sweep(age_min);
        let goal = disk(&swept).and_then(|disk| disk.goal(&policy));
        goal.and_then(|goal| free(&swept, &unused, goal))
    };
    // A worker thread that failed has removed less than it could; the next round goes on.
    if let Ok(Some(missing_bytes)) = tokio::task::spawn_blocking(work).await {
        let message = format!(
            "Failed to garbage collect required amount of images: {missing_bytes} more bytes should be free, and no \
             other image is unused"
        );
        tracing::warn!("{message}");
        inner.node.reports.event(RuntimeEvent {
            subject: Subject::Node,
            field_path: String::new(),
            type_: EventType::Warning,
            reason: "FreeDiskSpaceFailed",
            message,
        });
    }
    uses
}

fn disk(store: &ImageStore) -> Option<Disk> {
    let found = statvfs(store.root()).ok()?;
    let bytes = |blocks: u64| blocks * found.fragment_size();
    Some(Disk { bytes: bytes(found.blocks()), free_bytes: bytes(found.blocks_available()) })
}

/// Removes images until `goal` bytes are free; answers how many are still missing, if any.
fn free(store: &Arc<ImageStore>, unused: &[String], goal: u64) -> Option<u64> {
    let missing = || disk(store).map(|disk| goal.saturating_sub(disk.free_bytes)).filter(|bytes| *bytes > 0);
    for id in unused {
        missing()?;
        match store.remove(id) {
            Ok(names) => tracing::info!(id, names = names.join(", "), "image removed to free disk space"),
            Err(error) => tracing::warn!(id, %error, "image is not removed"),
        }
    }
    missing()
}

impl Inner {
    /// Names, digests and ids of the images that Pods of this node use, or are about to.
    fn used_images(&self) -> BTreeSet<String> {
        let mut used = BTreeSet::new();
        for handle in self.pods().values() {
            let snapshot = handle.snapshot.borrow().clone();
            if snapshot.gone {
                continue;
            }
            let spec = &snapshot.desired.view.spec;
            let named = spec.init_containers.iter().chain(&spec.containers);
            used.extend(named.filter_map(|c| normalize(&c.image).ok()));
            used.extend(snapshot.observed.containers.values().map(|c| c.image_id.clone()));
        }
        used
    }
}
