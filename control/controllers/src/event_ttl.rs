//! Events go after an hour.

use jiff::Timestamp;
use serde::Deserialize;
use weft_api::kind;

use crate::action::Action;
use crate::pod_facts::time_of;
use crate::table::{Context, Loop, LoopKey, Plan, no_start};
use crate::world::{Applied, World};

pub(crate) const LOOP: Loop =
    Loop { name: "event-ttl", watches: &[&kind::EVENT], start: no_start, keys, plan };

fn keys(change: &Applied, _: &World) -> Vec<LoopKey> {
    change.after.iter().map(|_| LoopKey::new(&kind::EVENT, change.key.clone())).collect()
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Times {
    last_timestamp: Option<String>,
    event_time: Option<String>,
    series: Option<Series>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Series {
    last_observed_time: Option<String>,
}

fn plan(key: &LoopKey, world: &World, context: &Context) -> Plan {
    let Some(event) = world.object(&kind::EVENT, &key.key) else { return Plan::none() };
    let times: Times = event.view().unwrap_or_default();
    let series = times.series.and_then(|series| series.last_observed_time);
    let seen: Option<Timestamp> =
        [series, times.last_timestamp, times.event_time, event.meta.creation_timestamp.clone()]
            .iter()
            .filter_map(|text| time_of(text.as_deref()))
            .max();
    let age_ms = seen.map_or(0, |seen| context.now.as_millisecond().saturating_sub(seen.as_millisecond()));
    let ttl_ms = i64::from(context.settings.event_ttl_seconds) * 1000;
    if age_ms >= ttl_ms {
        return Plan::actions(vec![Action::delete(&kind::EVENT, &event.meta)]);
    }
    Plan { actions: Vec::new(), requeue_after_ms: u64::try_from(ttl_ms - age_ms).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use crate::testing::{context, now, object, world};
    use serde_json::json;
    use weft_api::key::ObjectKey;

    #[test]
    fn an_event_lives_for_an_hour_after_it_was_last_said() {
        let event = object(
            json!({ "apiVersion": "v1", "kind": "Event", "metadata": { "name": "e", "namespace": "default",
            "creationTimestamp": now(0).to_string() }, "lastTimestamp": now(600).to_string() }),
        );
        let world = world(&[event]);
        let key = LoopKey::new(&kind::EVENT, ObjectKey::namespaced("default", "e"));
        let settings = Settings::default();
        assert_eq!(plan(&key, &world, &context(&settings, 3600)).requeue_after_ms, Some(600_000));
        assert!(matches!(
            &plan(&key, &world, &context(&settings, 4200)).actions[..],
            [Action::Delete { .. }]
        ));
    }
}
