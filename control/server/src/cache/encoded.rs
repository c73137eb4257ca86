//! Encodings of objects beside their JSON: made when somebody asks for one, and kept for others while there is room.
//!
//! It must not know which encoding it is, or of what.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

/// What all objects together keep, bytes.
const ALL_BYTES_MAX: usize = 8 << 20;
/// One that is longer is not kept, bytes: it would take the place of too many.
const ONE_BYTES_MAX: usize = 1 << 20;
/// What keeping one costs beside it, bytes.
const COST_BYTES: usize = 128;

/// The place of one object's encoding. An empty one costs nothing but itself.
#[derive(Debug, Default)]
pub(crate) struct Slot(Mutex<Weak<Bytes>>);

/// What is kept, the oldest first, of objects that are gone too until it is their turn.
#[derive(Debug, Default)]
struct Kept {
    queue: VecDeque<Arc<Bytes>>,
    bytes: usize,
}

/// What the slot of an object refers to that nobody can ask for a second time.
static NEVER: LazyLock<Arc<Bytes>> = LazyLock::new(Arc::default);

static KEPT: Mutex<Kept> = Mutex::new(Kept { queue: VecDeque::new(), bytes: 0 });

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slot {
    /// That of an object which is made for one answer: its encoding is not kept, and takes nobody's place.
    pub(crate) fn of_one_answer() -> Self {
        Self(Mutex::new(Arc::downgrade(&NEVER)))
    }

    /// The encoding, made if it is not kept.
    ///
    /// # Errors
    /// What `make` says.
    pub(crate) fn get_or<E>(&self, make: impl FnOnce() -> Result<Vec<u8>, E>) -> Result<Bytes, E> {
        self.get_in(&KEPT, ALL_BYTES_MAX, make)
    }

    fn get_in<E>(
        &self,
        all: &Mutex<Kept>,
        bytes_max: usize,
        make: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Bytes, E> {
        let kept = lock(&self.0).upgrade();
        match kept {
            Some(kept) if Arc::ptr_eq(&kept, &NEVER) => return make().map(Bytes::from),
            Some(kept) => return Ok(Bytes::clone(&kept)),
            None => {}
        }
        // Of as long as it is: what it was made in may be longer.
        let made = Bytes::from(make()?.into_boxed_slice());
        if made.len() <= ONE_BYTES_MAX {
            let kept = Arc::new(made.clone());
            *lock(&self.0) = Arc::downgrade(&kept);
            lock(all).keep(kept, bytes_max);
        }
        Ok(made)
    }
}

impl Kept {
    fn keep(&mut self, encoding: Arc<Bytes>, bytes_max: usize) {
        self.bytes += encoding.len() + COST_BYTES;
        self.queue.push_back(encoding);
        while self.bytes > bytes_max
            && let Some(oldest) = self.queue.pop_front()
        {
            self.bytes -= oldest.len() + COST_BYTES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(bytes: usize) -> Result<Vec<u8>, ()> {
        Ok(vec![7; bytes])
    }

    #[test]
    fn it_is_made_once_for_all() {
        let slot = Slot::default();
        let first = slot.get_or(|| made(9)).unwrap();
        let second = slot.get_or(|| Err("it is there")).unwrap();
        assert_eq!((second.as_ptr(), second.len()), (first.as_ptr(), 9));
        assert_eq!(Slot::default().get_or(|| Err("no object")), Err("no object"));
    }

    #[test]
    fn what_is_made_for_one_answer_takes_nobodys_place() {
        let (all, slot) = (Mutex::default(), Slot::of_one_answer());
        for bytes in [9, 10] {
            assert_eq!(slot.get_in(&all, 1_000, || made(bytes)).unwrap().len(), bytes);
        }
        assert!(lock(&all).queue.is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_oldest_goes_first() {
        let (all, room) = (Mutex::default(), 4 * (1_000 + COST_BYTES));
        let slots: Vec<Slot> = (0..100).map(|_| Slot::default()).collect();
        for slot in &slots {
            slot.get_in(&all, room, || made(1_000)).unwrap();
            let kept = lock(&all);
            let held: usize = kept.queue.iter().map(|bytes| bytes.len() + COST_BYTES).sum();
            assert!(kept.bytes == held && held <= room, "{held} bytes");
        }
        let is_kept = |slot: &&Slot| lock(&slot.0).upgrade().is_some();
        assert_eq!(slots.iter().filter(is_kept).count(), 4);
        assert!(slots[96..].iter().all(|slot| is_kept(&slot)), "the newest stay");
        slots[0].get_in(&all, room, || made(1_000)).unwrap();
        assert!(is_kept(&&slots[0]) && !is_kept(&&slots[96]), "who is asked for again is kept again");
        // What is too long takes nobody's place.
        let long = Slot::default();
        assert_eq!(long.get_in(&all, room, || made(ONE_BYTES_MAX + 1)).unwrap().len(), ONE_BYTES_MAX + 1);
        assert!(!is_kept(&&long) && lock(&all).queue.len() == 4);
    }
}
