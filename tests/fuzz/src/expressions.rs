//! Expressions in CEL and regular expressions, where definitions, policies and webhooks have them. The first byte says where.

use serde_json::{Value, json};
use weft_api::kind::{self, Kind};

use crate::object;

/// Runs it once.
pub fn run(data: &[u8]) {
    let Some((place, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let (kind, object) = holder(*place, text);
    object::take_up(kind, object);
}

/// An object with a text in a place that is for one.
fn holder(place: u8, text: &str) -> (&'static Kind, Value) {
    let spec = match place % 5 {
        0 => json!({"type": "object", "x-kubernetes-validations": [{"rule": text}]}),
        1 => {
            json!({"type": "object", "x-kubernetes-validations": [{"rule": "true", "messageExpression": text}]})
        }
        2 => json!({"type": "string", "pattern": text}),
        3 => {
            let mutation = json!({"patchType": "JSONPatch", "jsonPatch": {"expression": text}});
            let object =
                json!({"spec": {"mutations": [mutation], "variables": [{"name": "a", "expression": text}]}});
            return (&kind::MUTATING_ADMISSION_POLICY, object);
        }
        _ => {
            let hook = json!({"matchConditions": [{"name": "a", "expression": text}]});
            return (&kind::VALIDATING_WEBHOOK_CONFIGURATION, json!({ "webhooks": [hook] }));
        }
    };
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}});
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": schema});
    (&kind::CUSTOM_RESOURCE_DEFINITION, json!({"spec": {"versions": [version]}}))
}
