//! `events.k8s.io`: the Events of the core group in newer words.

use serde_json::{Map, Value};

use super::{BASE as CORE, Dialect, Kind};
use crate::{default, table, validate};

/// What a field is called in the core group, and here.
const NAMES: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

static DIALECT: Dialect = Dialect { stored: &super::EVENT, into_stored, from_stored, field: stored_field };

/// `Event`.
pub(super) const EVENT: Kind = Kind {
    group: "events.k8s.io",
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    selectable_fields: &[
        "regarding.kind",
        "regarding.namespace",
        "regarding.name",
        "regarding.uid",
        "regarding.apiVersion",
        "regarding.resourceVersion",
        "regarding.fieldPath",
        "reason",
        "reportingController",
        "type",
    ],
    schema: "io.k8s.api.events.v1.Event",
    create_on_update: true,
    default: default::config::event,
    rules: &validate::events::EVENT,
    printer: &table::cluster::EVENT,
    dialect: Some(&DIALECT),
    ..CORE
};

fn rename(object: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = object.remove(from) {
        object.insert(to.to_owned(), value);
    }
}

fn into_stored(event: &mut Map<String, Value>) {
    for (core, own) in NAMES {
        rename(event, own, core);
    }
}

fn from_stored(event: &mut Map<String, Value>) {
    for (core, own) in NAMES {
        rename(event, core, own);
    }
}

fn stored_field(path: &str) -> String {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    let core = NAMES.iter().find(|(_, own)| *own == first).map_or(first, |(core, _)| core);
    if rest.is_empty() { core.to_owned() } else { format!("{core}.{rest}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{EVENT as STORED, EVENTS_EVENT};

    #[test]
    fn both_words_say_the_same() {
        let core = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "involvedObject": {"kind": "Pod"},
            "message": "m", "source": {"component": "c"}, "firstTimestamp": "f", "lastTimestamp": "l", "count": 2,
            "reportingComponent": "r", "reportingInstance": "i", "reason": "R", "type": "Normal"});
        let newer = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"}, "regarding": {"kind": "Pod"},
            "note": "m", "deprecatedSource": {"component": "c"}, "deprecatedFirstTimestamp": "f", "deprecatedLastTimestamp": "l",
            "deprecatedCount": 2, "reportingController": "r", "reportingInstance": "i", "reason": "R", "type": "Normal"});
        let mut object = core.as_object().unwrap().clone();
        EVENTS_EVENT.from_stored(&mut object);
        assert_eq!(object, *newer.as_object().unwrap());
        EVENTS_EVENT.into_stored(&mut object);
        assert_eq!(object, *core.as_object().unwrap());
        STORED.from_stored(&mut object);
        STORED.into_stored(&mut object);
        assert_eq!(object, *core.as_object().unwrap());
    }

    #[test]
    fn every_field_that_may_be_named_is_one_of_the_stored_kind() {
        for path in EVENTS_EVENT.selectable_fields {
            let stored = EVENTS_EVENT.stored_field(path);
            assert!(STORED.selectable_fields.contains(&stored.as_ref()), "{path} is {stored}");
        }
        assert_eq!(EVENTS_EVENT.stored_field("regarding.name"), "involvedObject.name");
        assert_eq!(EVENTS_EVENT.stored_field("metadata.name"), "metadata.name");
        assert_eq!(STORED.stored_field("regarding.name"), "regarding.name");
    }
}
