//! Runs Pods through containerd shims.
