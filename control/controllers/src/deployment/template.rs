//! Pod templates: when two are the same, and the hash that names a ReplicaSet.

use serde_json::Value;

use crate::record::Fnv;

/// The label that keeps the Pods of one ReplicaSet apart from those of another.
pub(super) const HASH_LABEL: &str = "pod-template-hash";

/// Whether two templates are the same, the hash label aside.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    plain(a) == plain(b)
}

/// A template without the hash label, and without what only looks different: empty labels, empty annotations, a
/// `creationTimestamp` of null.
fn plain(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
            labels.remove(HASH_LABEL);
        }
        metadata
            .retain(|_, value| !value.is_null() && value.as_object().is_none_or(|fields| !fields.is_empty()));
    }
    template
}

/// The hash of a template; `salt` sets apart two templates whose hashes collide.
pub(super) fn hash(template: &Value, salt: u32) -> String {
    let mut hash = Fnv::default();
    write(&plain(template), &mut hash);
    hash.write(&salt.to_be_bytes());
    // Ten letters without vowels, as Kubernetes' own hashes look.
    let mut rest = crate::pod_facts::mix(hash.0);
    let mut text = String::new();
    for _ in 0..2 {
        text.push_str(&crate::pod_facts::suffix(rest));
        rest = crate::pod_facts::mix(rest);
    }
    text
}

/// Feeds a value to the hash in an order of its own: fields by name.
fn write(value: &Value, hash: &mut Fnv) {
    match value {
        Value::Object(fields) => {
            let mut names: Vec<&String> = fields.keys().collect();
            names.sort();
            hash.write(b"{");
            for name in names {
                hash.write(name.as_bytes());
                hash.write(b":");
                write(&fields[name], hash);
            }
            hash.write(b"}");
        }
        Value::Array(items) => {
            hash.write(b"[");
            items.iter().for_each(|item| write(item, hash));
            hash.write(b"]");
        }
        other => {
            hash.write(other.to_string().as_bytes());
            hash.write(b",");
        }
    }
}
