//! Parts of a Pod that are written through a subresource of their own.

use serde_json::{Map, Value};
use weft_api::status::FieldError;

const LISTS: [&str; 2] = ["containers", "initContainers"];

/// Takes over the ephemeral containers.
pub(super) fn ephemeral_containers(kept: &mut Map<String, Value>, asked: &Map<String, Value>) {
    let wanted = asked.get("spec").and_then(|spec| spec.get("ephemeralContainers"));
    let Some(spec) = kept.get_mut("spec").and_then(Value::as_object_mut) else { return };
    match wanted.filter(|wanted| !wanted.is_null()) {
        Some(wanted) => spec.insert("ephemeralContainers".into(), wanted.clone()),
        None => spec.remove("ephemeralContainers"),
    };
}

/// Takes over the containers' resources and how each bears a change of them.
///
/// # Errors
/// When there are other containers than there were, or in another order.
pub(super) fn resources(kept: &mut Map<String, Value>, asked: &Map<String, Value>) -> Result<(), FieldError> {
    let Some(spec) = kept.get_mut("spec").and_then(Value::as_object_mut) else { return Ok(()) };
    for list in LISTS {
        let asked = asked.get("spec").and_then(|spec| spec.get(list)).and_then(Value::as_array);
        let asked: &[Value] = asked.map_or(&[], Vec::as_slice);
        let empty = &mut Vec::new();
        let kept = spec.get_mut(list).and_then(Value::as_array_mut).unwrap_or(empty);
        let same = asked.len() == kept.len()
            && asked.iter().zip(&*kept).all(|(one, other)| one["name"] == other["name"]);
        if !same {
            let why = "containers may not be added, removed, renamed or reordered";
            return Err(FieldError::forbidden(format!("spec.{list}"), why));
        }
        for (kept, asked) in kept.iter_mut().filter_map(Value::as_object_mut).zip(asked) {
            for field in ["resources", "resizePolicy"] {
                match asked.get(field).filter(|value| !value.is_null()) {
                    Some(value) => kept.insert(field.into(), value.clone()),
                    None => kept.remove(field),
                };
            }
        }
    }
    Ok(())
}
