//! What an update does not mend: an object that was stored before a rule was known may stay as it is.
//!
//! What is wrong with the new object is left out if the old one has it too: told of the same place in the same words, and
//! what stands there did not change. Whoever only takes a finalizer off such an object, or changes another field, is not held
//! up by it. Rules about the change itself cannot be left out like that: an object that does not change breaks none.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use crate::kind::Kind;
use crate::status::{Errors, FieldError, FieldReason};

/// What is written in passing, where a change of the object is judged: labels and finalizers, and the status by others.
const BESIDE_SPEC: &[&str] = &["metadata", "status"];
/// As [`BESIDE_SPEC`], where a change of the status is judged.
const BESIDE_STATUS: &[&str] = &["metadata"];
/// What must be right whether it has changed or not: a definition's stored versions are among its versions.
const HELD: &[&str] = &["status"];

/// Judges a change from `old` to `new` by `rules`, which get both.
pub(super) fn update(
    kind: &Kind,
    new: &Value,
    old: &Value,
    errors: &mut Errors,
    rules: impl Fn(&Value, &Value, &mut Errors),
) {
    change(kind, new, old, (BESIDE_SPEC, HELD), errors, &rules);
}

/// As [`update`], of a write to `status`.
pub(super) fn status(
    kind: &Kind,
    new: &Value,
    old: &Value,
    errors: &mut Errors,
    rules: impl Fn(&Value, &Value, &mut Errors),
) {
    change(kind, new, old, (BESIDE_STATUS, &[]), errors, &rules);
}

fn change(
    kind: &Kind,
    new: &Value,
    old: &Value,
    (beside, held): (&'static [&'static str], &[&str]),
    errors: &mut Errors,
    rules: &dyn Fn(&Value, &Value, &mut Errors),
) {
    let mut found = Errors::default();
    rules(new, old, &mut found);
    if found.is_empty() {
        return;
    }
    // The new object has its defaults; the old one may be of before there were some.
    let mut old = old.clone();
    crate::default::apply(kind, &mut old);
    // However much is wrong with what is as it was, nothing of the rest is lost behind it.
    let is_as_stored = without(new, beside) == without(&old, beside);
    let judge = |new: &Value| {
        let mut found = if is_as_stored { Errors::of_parts(beside) } else { Errors::default() };
        rules(new, &old, &mut found);
        found
    };
    found = judge(new);
    let before = judge(&old);
    // Of more errors than are told nobody knows which are new.
    if !found.is_closed() && !before.is_closed() {
        leave_out(&mut found, before.told(), new, &old, held);
    }
    errors.append(found);
}

/// An object without some of its parts, and without the words of the version that it was written in. An empty list or object
/// is another thing than none: there are rules that only the one meets.
fn without<'a>(object: &'a Value, parts: &[&str]) -> BTreeMap<&'a str, &'a Value> {
    let fields = object.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value));
    fields.filter(|(name, _)| !parts.contains(name) && !["apiVersion", "kind"].contains(name)).collect()
}

/// What an error is about: the place, the words, and what stands there.
type About<'a> = (String, String, &'a Value);

/// Takes out of `found` what `before` has too. Each of those excuses one: what is there twice now, and was there once, is told.
fn leave_out(found: &mut Errors, before: &[FieldError], new: &Value, old: &Value, held: &[&str]) {
    let mut excuses = vec![true; before.len()];
    let (mut there, mut moved) = (HashMap::<About<'_>, Vec<usize>>::new(), HashMap::new());
    for (at, error) in before.iter().enumerate() {
        let place = Place::of(error, old);
        there.entry((error.path.clone(), error.message().to_owned(), place.value)).or_default().push(at);
        if let Some(item) = place.item {
            let about: About<'_> = (anywhere(&error.path), error.message().to_owned(), item);
            moved.entry(about).or_insert_with(Vec::new).push(at);
        }
    }
    let mut excused = |found: Option<&mut Vec<usize>>| {
        let at = found.and_then(|all| {
            while let Some(at) = all.pop() {
                if std::mem::take(&mut excuses[at]) {
                    return Some(at);
                }
            }
            None
        });
        at.is_some()
    };
    let is_held = |error: &FieldError| Errors::is_of(&error.path, held);
    found.retain(|error| {
        let about = (error.path.clone(), error.message().to_owned(), Place::of(error, new).value);
        is_held(error) || !excused(there.get_mut(&about))
    });
    // Items that came before it in its list may be gone.
    found.retain(|error| {
        let Some(item) = Place::of(error, new).item else { return true };
        let about = (anywhere(&error.path), error.message().to_owned(), item);
        is_held(error) || !excused(moved.get_mut(&about))
    });
}

/// What stands at the path of an error.
struct Place<'a> {
    /// It, or the innermost thing around it that is there.
    value: &'a Value,
    /// The innermost item of a list that it is in, or is.
    item: Option<&'a Value>,
}

impl<'a> Place<'a> {
    fn of(error: &FieldError, object: &'a Value) -> Self {
        let (mut value, mut item) = (object, None);
        let mut steps = steps(&error.path).peekable();
        while let Some(step) = steps.next() {
            let inner = match value {
                Value::Array(all) => step.parse().ok().and_then(|at: usize| all.get(at)),
                other => other.get(step),
            };
            match inner {
                Some(inner) => {
                    item = if value.is_array() { Some(inner) } else { item };
                    value = inner;
                }
                // What is missing did not change; of others, whose name may be another one in messages, nothing is known.
                None if has_words(error.reason) && steps.peek().is_none() => {
                    return Self { value: &Value::Null, item };
                }
                None => break,
            }
        }
        Self { value, item }
    }
}

/// Whether the words of an error say what stands there.
fn has_words(reason: FieldReason) -> bool {
    matches!(reason, FieldReason::Required | FieldReason::Invalid)
}

/// The names, indexes and keys of a path such as `spec.ports[0].name` or `spec.limits[a.b/c]`.
fn steps(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = path;
    std::iter::from_fn(move || {
        rest = rest.strip_prefix('.').unwrap_or(rest);
        if rest.is_empty() {
            return None;
        }
        let (step, behind) = match rest.strip_prefix('[') {
            Some(key) => key.split_once(']').unwrap_or((key, "")),
            None => rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len())),
        };
        rest = behind;
        Some(step)
    })
}

/// A path whose items may be anywhere in their lists.
fn anywhere(path: &str) -> String {
    let is_index = |step: &str| !step.is_empty() && step.bytes().all(|c| c.is_ascii_digit());
    steps(path).map(|step| if is_index(step) { "[]." } else { step }).fold(String::new(), |mut all, step| {
        all.push_str(step);
        all.push('.');
        all
    })
}
