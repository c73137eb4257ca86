//! Numbers of rows of an array: given, given back, and the longest unused given again first.

use std::collections::{HashMap, VecDeque};

/// Ids of rows of an array: 1 to `max`, the longest unused first.
#[derive(Debug)]
pub(super) struct Ids {
    next: u32,
    max: u32,
    free: VecDeque<u32>,
}

impl Ids {
    /// None of them given yet.
    pub(super) fn up_to(max: u32) -> Self {
        Self { next: 1, max, free: VecDeque::new() }
    }

    /// As they stand when these are in use.
    pub(super) fn in_use(max: u32, used: &HashMap<u32, impl Sized>) -> Self {
        let next = used.keys().max().map_or(1, |id| id + 1);
        Self { next, max, free: (1..next).filter(|id| !used.contains_key(id)).collect() }
    }

    /// One that nobody has; none when all are in use.
    pub(super) fn take(&mut self) -> Option<u32> {
        if self.next <= self.max {
            self.next += 1;
            return Some(self.next - 1);
        }
        self.free.pop_front()
    }

    /// How many nobody has.
    pub(super) fn left(&self) -> usize {
        (self.max + 1).saturating_sub(self.next) as usize + self.free.len()
    }

    /// Gives one back.
    pub(super) fn put(&mut self, id: u32) {
        self.free.push_back(id);
    }
}
