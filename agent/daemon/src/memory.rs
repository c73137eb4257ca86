//! Gives memory back that a large step took for a while and the allocator still holds.
#![allow(unsafe_code)]

/// Hands pages that hold nothing back to the kernel. A full list of a large cluster passes through many buffers; what lives
/// on lies scattered over their pages, and the allocator of the GNU C library gives none of those in between back by itself.
#[cfg(target_env = "gnu")]
pub(crate) fn give_back() {
    // SAFETY: takes a number, touches nothing but what is free, and locks each arena while it looks.
    let _ = unsafe { libc::malloc_trim(0) };
}

/// Other allocators do so by themselves.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn give_back() {}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use std::hint::black_box;

    fn resident_pages() -> u64 {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        text.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// 64 MB in pieces, of which one in a thousand stays: scattered over all of it.
    #[test]
    fn pages_between_what_stays_are_given_back() {
        let mut all: Vec<Option<Box<[u8; 1000]>>> = (0..64_000).map(|_| Some(Box::new([1; 1000]))).collect();
        black_box(&mut all);
        for (number, piece) in all.iter_mut().enumerate() {
            if number % 1000 != 0 {
                *piece = None;
            }
        }
        let before = resident_pages();
        super::give_back();
        let after = resident_pages();
        assert!(after + 10_000 < before, "{before} pages, then {after}");
        drop(black_box(all));
    }
}
