//! Constants that the agent sets before it loads the programs, so that the verifier takes out what they rule out.

use core::cell::UnsafeCell;

/// A constant whose value is known when the programs are loaded. It stands in a section of its own, `.rodata.set`, and the
/// compiler must not take its first value for the one it will have: it would give one place to this and to another constant
/// of the same bytes, which then changed with it.
#[repr(transparent)]
pub(crate) struct Constant<T>(UnsafeCell<T>);

// SAFETY: nobody writes it once the programs are loaded.
unsafe impl<T> Sync for Constant<T> {}

impl<T: Copy> Constant<T> {
    /// With the value that it has unless the agent sets it.
    pub(crate) const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Its value.
    #[inline(always)]
    pub(crate) fn get(&self) -> T {
        // SAFETY: a constant; volatile, for the agent sets it after the compiler has looked at it.
        unsafe { self.0.get().read_volatile() }
    }
}
