//! The eBPF object that the tests put into the kernel, and what happens where there is none.

use std::path::PathBuf;

/// Set to `1`, tests that need the object pass without a word where there is none.
const SKIP: &str = "WEFT_TESTS_SKIP_KERNEL";

/// `WEFT_EBPF_OBJECT`, or where `cargo xtask build-ebpf` puts it; `None` only when tests are to be skipped.
pub(crate) fn path() -> Option<PathBuf> {
    let path = std::env::var_os("WEFT_EBPF_OBJECT").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/bpf/weft-bpf"),
        PathBuf::from,
    );
    if path.exists() {
        return Some(path);
    }
    assert!(
        std::env::var_os(SKIP).is_some_and(|value| value == "1"),
        "no eBPF object at {}: `cargo xtask test` builds one and names it; by hand, `cargo xtask build-ebpf` and \
         WEFT_EBPF_OBJECT; {SKIP}=1 skips these tests",
        path.display()
    );
    eprintln!("skipped: {SKIP} is set and there is no eBPF object");
    None
}
