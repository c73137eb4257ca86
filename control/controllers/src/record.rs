//! Events as objects: the same thing said again raises a counter instead of making another object.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use weft_api::key::ObjectKey;
use weft_api::kind;

use crate::action::{Action, Event};
use crate::world::World;

/// Repeats raise the counter at most this often, seconds: a loop that fails every second writes no more than this.
const REPEAT_SECONDS_MIN: i64 = 10;

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Counted {
    count: u64,
    last_timestamp: Option<Timestamp>,
}

/// The write that records an event: a create, a raised counter, or none when it was said a moment ago.
///
/// The object is named `<object>.<hash of what is said>`, so that the same event about the same object is one object.
pub fn resolve(event: &Event, world: &World, now: Timestamp) -> Option<Action> {
    let namespace = if event.key.namespace.is_empty() { "default" } else { &event.key.namespace };
    let key = ObjectKey::namespaced(namespace, name(event));
    let Some(existing) = world.object(&kind::EVENT, &key) else {
        return Some(Action::Create { kind: &kind::EVENT, object: object(event, &key, now) });
    };
    let counted: Counted = existing.view().unwrap_or_default();
    if counted.last_timestamp.is_some_and(|last| now.as_second() - last.as_second() < REPEAT_SECONDS_MIN) {
        return None;
    }
    Some(Action::Patch {
        kind: &kind::EVENT,
        key,
        uid: existing.meta.uid.clone(),
        resource_version: None,
        subresource: None,
        patch: json!({ "count": counted.count.saturating_add(1), "lastTimestamp": seconds(now) }),
    })
}

fn object(event: &Event, key: &ObjectKey, now: Timestamp) -> serde_json::Value {
    let mut involved = json!({
        "kind": event.kind.kind,
        "apiVersion": event.kind.api_version(),
        "name": event.key.name,
        "uid": event.uid,
    });
    for (field, text) in [
        ("namespace", &event.key.namespace),
        ("resourceVersion", &event.resource_version),
        ("fieldPath", &event.field_path),
    ] {
        if !text.is_empty() {
            involved[field] = json!(text);
        }
    }
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": { "namespace": key.namespace, "name": key.name },
        "involvedObject": involved,
        "type": if event.warning { "Warning" } else { "Normal" },
        "reason": event.reason,
        "message": event.message,
        "source": { "component": event.component },
        "reportingComponent": event.component,
        "reportingInstance": "",
        "firstTimestamp": seconds(now),
        "lastTimestamp": seconds(now),
        "eventTime": null,
        "count": 1,
    })
}

/// A time as `metav1.Time` has it: RFC 3339, whole seconds, UTC.
pub(crate) fn seconds(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn name(event: &Event) -> String {
    const NAME_BYTES_MAX: usize = 200;
    let mut prefix = event.key.name.as_str();
    while prefix.len() > NAME_BYTES_MAX || prefix.ends_with(['.', '-']) {
        let Some((last, _)) = prefix.char_indices().next_back() else { break };
        prefix = &prefix[..last];
    }
    let mut hash = Fnv::default();
    for part in
        [event.kind.kind, &event.uid, &event.field_path, &event.reason, &event.message, &event.component]
    {
        hash.write(part.as_bytes());
        hash.write(&[0]);
    }
    format!("{prefix}.{:016x}", hash.0)
}

/// FNV-1a, 64 bits: a hash that stays the same over versions and machines, for names.
pub(crate) struct Fnv(pub(crate) u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{now, object, pod_meta, world};

    #[test]
    fn the_same_event_twice_is_one_object_with_a_counter() {
        let event =
            Event::warning((&kind::POD, &pod_meta("a")), "scheduler", "FailedScheduling", "no room".into());
        let Some(Action::Create { object: first, .. }) = resolve(&event, &World::new(), now(0)) else {
            panic!("a first event is created")
        };
        assert_eq!(first["involvedObject"]["name"], "a");
        let world = world(&[object(first)]);
        assert_eq!(resolve(&event, &world, now(5)), None, "said a moment ago");
        let Some(Action::Patch { patch, .. }) = resolve(&event, &world, now(60)) else { panic!("counter") };
        assert_eq!(patch["count"], 2);
        let other = Event { reason: "Other".into(), ..event };
        assert!(matches!(resolve(&other, &world, now(60)), Some(Action::Create { .. })));
    }
}
