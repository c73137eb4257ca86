//! A network namespace, entered for one deed by a thread of its own.

use std::fs::File;

use nix::sched::{CloneFlags, setns};

/// What a deed gives in the namespace of this name.
pub(crate) fn within<T: Send>(namespace: &str, deed: impl FnOnce() -> T + Send) -> T {
    let file = File::open(format!("/run/netns/{namespace}")).expect("a namespace");
    let enter = || {
        setns(&file, CloneFlags::CLONE_NEWNET).expect("entered");
        deed()
    };
    std::thread::scope(|scope| scope.spawn(enter).join().expect("no panic"))
}
