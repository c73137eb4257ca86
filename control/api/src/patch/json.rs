//! JSON patch, RFC 6902, within bounds: a short patch must not make a huge object, nor much work.

use json_patch::jsonptr::Pointer;
use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use super::PatchError;

/// Most operations in one patch, as in Kubernetes.
const OPERATIONS_MAX: usize = 10_000;
/// Most bytes that all `copy` operations of a patch may add, as in Kubernetes: the longest request's.
const COPIED_BYTES_MAX: usize = 3 << 20;
/// Deepest value below an object's root; readers of JSON give up at 128, and lists and watches wrap objects.
const DEPTH_MAX: usize = 120;
/// Most steps that all operations of a patch may take: items shifted within lists, and values looked at again. A step
/// takes 25 ns where the items fit into no cache and a few where they do: a tenth of a second in all, for a patch is
/// applied on a thread that serves others meanwhile.
const STEPS_MAX: usize = 4_000_000;
/// What it costs to look at a value, or to copy it, beside shifting it.
const VALUE_STEPS: usize = 4;

pub(super) fn apply(object: &mut Value, patch: Value) -> Result<(), PatchError> {
    let patch: Patch =
        serde_json::from_value(patch).map_err(|error| PatchError::Malformed(error.to_string()))?;
    if patch.0.len() > OPERATIONS_MAX {
        return Err(PatchError::TooMany { max: OPERATIONS_MAX, got: patch.0.len() });
    }
    let mut spent = Spent::default();
    for (at, operation) in patch.0.iter().enumerate() {
        spent.allow(object, operation).map_err(PatchError::DoesNotApply)?;
        if tests_for_nothing(object, operation) {
            continue;
        }
        json_patch::patch_unsafe(object, std::slice::from_ref(operation)).map_err(|mut error| {
            error.operation = at;
            PatchError::DoesNotApply(error.to_string())
        })?;
    }
    Ok(())
}

/// Whether it asks that a field be `null`, and it is absent: the same in Kubernetes' patches, though not in RFC 6902. So
/// kube-rs asks that nobody has put the first finalizer in between.
fn tests_for_nothing(object: &Value, operation: &PatchOperation) -> bool {
    let PatchOperation::Test(test) = operation else { return false };
    let Some((parent, name)) = test.path.split_back() else { return false };
    let parent = object.pointer(parent.as_str()).and_then(Value::as_object);
    test.value.is_null() && parent.is_some_and(|parent| !parent.contains_key(name.decoded().as_ref()))
}

/// What a patch has used up of its bounds.
#[derive(Default)]
struct Spent {
    copied_bytes: usize,
    steps: usize,
}

impl Spent {
    /// Takes an operation into account before it is done; one that does not fit the object fails by itself.
    ///
    /// # Errors
    /// Which bound it goes beyond.
    fn allow(&mut self, object: &Value, operation: &PatchOperation) -> Result<(), String> {
        let (value, copies) = match operation {
            PatchOperation::Add(add) => (Some(&add.value), false),
            PatchOperation::Replace(replace) => (Some(&replace.value), false),
            PatchOperation::Copy(copy) => (object.pointer(copy.from.as_str()), true),
            PatchOperation::Move(from) => (object.pointer(from.from.as_str()), false),
            PatchOperation::Remove(_) | PatchOperation::Test(_) => (None, false),
        };
        if let Some(value) = value {
            let size = measure(value);
            if matches!(operation, PatchOperation::Copy(_) | PatchOperation::Move(_)) {
                // Others bring their value with the request, which has its own bound.
                self.steps += size.values * VALUE_STEPS;
            }
            if copies {
                self.copied_bytes += size.bytes;
            }
            if self.copied_bytes > COPIED_BYTES_MAX {
                return Err(format!(
                    "Unable to copy, the accumulated size increase of copy is {}, exceeding the limit {COPIED_BYTES_MAX}",
                    self.copied_bytes
                ));
            }
            if operation.path().count() + size.depth > DEPTH_MAX {
                return Err(format!("the patched object would be deeper than {DEPTH_MAX} levels"));
            }
        }
        self.steps += match operation {
            PatchOperation::Add(_) | PatchOperation::Copy(_) => behind(object, operation.path()),
            PatchOperation::Remove(_) => behind(object, operation.path()).saturating_sub(1),
            PatchOperation::Move(from) => {
                behind(object, operation.path()) + behind(object, &from.from).saturating_sub(1)
            }
            PatchOperation::Replace(_) | PatchOperation::Test(_) => 0,
        };
        if self.steps > STEPS_MAX {
            return Err(format!("the patch is more work than {STEPS_MAX} steps"));
        }
        Ok(())
    }
}

/// How many of a list's items stand at or behind a place: those that make room when one is put there.
fn behind(object: &Value, path: &Pointer) -> usize {
    let Some((list, at)) = path.split_back() else { return 0 };
    let length = object.pointer(list.as_str()).and_then(Value::as_array).map_or(0, Vec::len);
    length.saturating_sub(at.decoded().parse().unwrap_or(length))
}

struct Size {
    values: usize,
    /// About as many as its JSON.
    bytes: usize,
    depth: usize,
}

fn measure(value: &Value) -> Size {
    let mut size = Size { values: 0, bytes: 0, depth: 0 };
    // Not by recursion: nothing is known of the value's depth yet.
    let mut open = vec![(value, 0)];
    while let Some((value, depth)) = open.pop() {
        size.values += 1;
        size.depth = size.depth.max(depth);
        size.bytes += match value {
            Value::Null | Value::Bool(_) => 4,
            Value::Number(number) => {
                number.as_u64().map_or(8, |n| n.checked_ilog10().unwrap_or(0) as usize + 1)
            }
            Value::String(text) => text.len() + 2,
            Value::Array(items) => {
                open.extend(items.iter().map(|item| (item, depth + 1)));
                items.len() + 2
            }
            Value::Object(fields) => {
                open.extend(fields.values().map(|value| (value, depth + 1)));
                fields.keys().map(|name| name.len() + 4).sum::<usize>() + 2
            }
        };
    }
    size
}
