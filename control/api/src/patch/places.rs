//! Where the items of a list stand, by their keys, and the order that a strategic merge gives them.
//!
//! Lists are looked up by a map: two lists of some ten thousand items merge in as many steps, not in their product.

use std::collections::HashMap;

use serde_json::Value;

/// An item's merge key; in a list without one, the item itself.
pub(super) fn key_of<'a>(item: &'a Value, merge_key: &str) -> Option<&'a Value> {
    step();
    if merge_key.is_empty() { Some(item) } else { item.get(merge_key) }
}

/// Counts that an item's key is read.
pub(super) fn step() {
    #[cfg(test)]
    STEPS.with(|steps| steps.set(steps.get() + 1));
}

#[cfg(test)]
thread_local! {
    /// How many keys were read, for tests that bound the work of a merge.
    pub(super) static STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// From keys to places; of two items of one key the first counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(HashMap<Value, usize>);

impl Places {
    pub(super) fn of(items: &[Value], merge_key: &str) -> Self {
        let mut places = HashMap::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            if let Some(key) = key_of(item, merge_key) {
                places.entry(key.clone()).or_insert(at);
            }
        }
        Self(places)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The place of the item that has the key of this one.
    pub(super) fn of_item(&self, item: &Value, merge_key: &str) -> Option<usize> {
        self.0.get(key_of(item, merge_key)?).copied()
    }

    /// Notes an item's place; tells whether its key is new.
    pub(super) fn add(&mut self, item: &Value, merge_key: &str, at: usize) -> bool {
        match key_of(item, merge_key) {
            Some(key) if !self.0.contains_key(key) => self.0.insert(key.clone(), at).is_none(),
            _ => false,
        }
    }
}

/// Puts items in order as Kubernetes does: those of the patch as `order` has them, and among them the others, each
/// before the first that stood behind it `before` the patch.
pub(super) fn arrange(items: &mut Vec<Value>, order: &Places, before: &Places, merge_key: &str) {
    let mut stated = Vec::new();
    let mut others = Vec::new();
    for item in std::mem::take(items) {
        let was = before.of_item(&item, merge_key);
        match order.of_item(&item, merge_key) {
            Some(place) => stated.push((place, was, item)),
            None => others.push((was, item)),
        }
    }
    stated.sort_by_key(|(place, ..)| *place);
    others.sort_by_key(|(was, _)| *was);
    let mut others = others.into_iter().peekable();
    for (_, was, item) in stated {
        while let Some((_, other)) =
            others.next_if(|(other, _)| matches!((other, was), (Some(o), Some(w)) if *o < w))
        {
            items.push(other);
        }
        items.push(item);
    }
    items.extend(others.map(|(_, item)| item));
}
