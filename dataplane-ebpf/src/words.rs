//! Rows copied and cleared word by word. What the compiler makes of a plain copy here is a call to a loop over bytes, ten
//! times as long to run and far longer to verify; volatile words stay what they are.

use weft_dataplane_abi::conntrack::Tuple;

/// Copies a row. Its alignment says how wide the words are.
#[inline(always)]
pub(crate) fn copy<T: Copy>(to: &mut T, from: &T) {
    const { assert!(align_of::<T>() == 4 || align_of::<T>() == 8) };
    let (to, from) = (core::ptr::from_mut(to), core::ptr::from_ref(from));
    let mut i = 0;
    while i < size_of::<T>() / align_of::<T>() {
        // SAFETY: a row is so many words of its own alignment.
        unsafe {
            if align_of::<T>() == 8 {
                to.cast::<u64>().add(i).write_volatile(from.cast::<u64>().add(i).read_volatile());
            } else {
                to.cast::<u32>().add(i).write_volatile(from.cast::<u32>().add(i).read_volatile());
            }
        }
        i += 1;
    }
}

/// Makes a row all zero, for rows of which that is a value.
#[inline(always)]
pub(crate) fn clear<T>(row: *mut T) {
    const { assert!(align_of::<T>() == 8 && size_of::<T>() % 8 == 0) };
    let mut i = 0;
    while i < size_of::<T>() / 8 {
        // SAFETY: callers give the address of a row, which is so many aligned words.
        unsafe { row.cast::<u64>().add(i).write_volatile(0) };
        i += 1;
    }
}

/// Sets a field, on its own: stores of zeros side by side become one clearing of bytes otherwise.
#[inline(always)]
pub(crate) fn set<T>(field: &mut T, value: T) {
    // SAFETY: a reference is valid to write to; what it held needs no dropping.
    unsafe { core::ptr::from_mut(field).write_volatile(value) };
}

/// Number of words of a tuple; the last one holds ports, protocol and zeros.
const TUPLE_WORDS: usize = size_of::<Tuple>() / 8;
const _: () = assert!(TUPLE_WORDS == 5 && core::mem::offset_of!(Tuple, source_port) == 32);

/// Writes a tuple with the ends of another changed over.
#[inline(always)]
pub(crate) fn reverse(to: &mut Tuple, from: &Tuple) {
    let (to, from) = (core::ptr::from_mut(to).cast::<u64>(), core::ptr::from_ref(from).cast::<u64>());
    // SAFETY: a tuple is five aligned words: two of the source, two of the destination, and the last.
    unsafe {
        to.write_volatile(from.add(2).read_volatile());
        to.add(1).write_volatile(from.add(3).read_volatile());
        to.add(2).write_volatile(from.read_volatile());
        to.add(3).write_volatile(from.add(1).read_volatile());
        let last = from.add(4).read_volatile();
        // The four bytes of the ports stand first in memory.
        let (ports, rest) = if cfg!(target_endian = "little") {
            (u64::from((last as u32).rotate_left(16)), last & !0xffff_ffff)
        } else {
            (u64::from(((last >> 32) as u32).rotate_left(16)) << 32, last & 0xffff_ffff)
        };
        to.add(4).write_volatile(ports | rest);
    }
}
