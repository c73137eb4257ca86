//! Selectors of labels and of fields, and what they are asked. The first byte names the kind.

use std::collections::BTreeMap;

use weft_api::selector::{FieldSelector, Selector};

use crate::object;

/// Runs it once.
pub fn run(data: &[u8]) {
    let Some((kind, text)) = object::split(data) else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    if let Ok(selector) = Selector::parse(text) {
        let labels = [("app", "web"), ("tier", ""), ("example.org/size", "12")];
        let labels: BTreeMap<String, String> = labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let _matches =
            (selector.matches(&labels), selector.matches(&BTreeMap::new()), selector.is_everything());
    }
    if let Ok(selector) = FieldSelector::parse(kind, text) {
        let object =
            serde_json::json!({ "metadata": { "name": "a", "namespace": "b" }, "spec": {}, "status": {} });
        let _matches = (selector.matches_value(&object), selector.exact_name().map(str::len));
    }
}
