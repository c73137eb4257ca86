//! Patches of the three kinds that change what is there. The first byte names the kind of patch, the second that of the object.

use std::sync::LazyLock;

use serde_json::Value;
use weft_api::decode::{self, FieldValidation};
use weft_api::kind::Kind;
use weft_api::patch::{self, PatchType};

use crate::object;

/// What is patched: the Pod of a Deployment with lists by key, and what a patch may move and copy.
static OBJECT: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("object.json")).unwrap_or_else(|error| panic!("object.json: {error}"))
});

const TYPES: [PatchType; 3] = [PatchType::Json, PatchType::Merge, PatchType::Strategic];

/// Runs it once.
pub fn run(data: &[u8]) {
    let Some((type_, rest)) = data.split_first() else { return };
    let Some((kind, patch)) = object::split(rest) else { return };
    once(TYPES[usize::from(*type_) % TYPES.len()], kind, patch);
}

fn once(type_: PatchType, kind: &'static Kind, patch: &[u8]) {
    let Ok(mut patched) = patch::apply(type_, kind, &OBJECT, patch) else { return };
    if decode::check(kind.schema, &mut patched, FieldValidation::Warn).is_ok() {
        object::take_up(kind, patched);
    }
}
