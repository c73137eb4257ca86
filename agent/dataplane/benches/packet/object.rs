//! The two objects: the agents', and the one with the bench's own programs besides.

use std::path::PathBuf;

fn named(variable: &str) -> PathBuf {
    std::env::var_os(variable).map(PathBuf::from).unwrap_or_else(|| {
        eprintln!(
            "bench: {variable} is not set: `cargo xtask bench packet` builds both objects and names them"
        );
        std::process::exit(64);
    })
}

/// The one with the bench's programs.
#[allow(clippy::unnecessary_wraps, reason = "tests that share the bench of packets may be skipped")]
pub(crate) fn path() -> Option<PathBuf> {
    Some(named("WEFT_EBPF_BENCH_OBJECT"))
}

/// The one that agents load.
pub(crate) fn agents() -> PathBuf {
    named("WEFT_EBPF_OBJECT")
}
