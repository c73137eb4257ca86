//! What beds of processes that were killed have left: namespaces, pins, cgroups. A later process may get such a one's number.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

use crate::bed::cgroup_root;

static SWEPT: Once = Once::new();

/// Removes it all, once in a process.
pub(crate) fn sweep() {
    SWEPT.call_once(|| {
        for namespace in left(Path::new("/run/netns")) {
            // Another process may be sweeping too.
            drop(
                Command::new("ip")
                    .args(["netns", "del"])
                    .arg(namespace.file_name().unwrap_or_default())
                    .output(),
            );
        }
        for pins in left(Path::new("/sys/fs/bpf")) {
            drop(fs::remove_dir_all(pins));
        }
        for cgroup in left(Path::new(cgroup_root())) {
            for inner in fs::read_dir(&cgroup).into_iter().flatten().flatten() {
                drop(fs::remove_dir(inner.path()));
            }
            drop(fs::remove_dir(cgroup));
        }
    });
}

/// Entries of a directory that bear the number of a process that is no more.
fn left(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| is_of_the_dead(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect()
}

fn is_of_the_dead(name: &str) -> bool {
    let number = name.strip_prefix("wt").and_then(|rest| rest.split_once('x')).map(|(number, _)| number);
    let number =
        number.filter(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
    number.is_some_and(|number| !Path::new("/proc").join(number).exists())
}

#[test]
fn only_what_dead_processes_left_is_swept() {
    let mut child = Command::new("true").spawn().expect("a process");
    let id = child.id();
    child.wait().expect("its end");
    let (own, dead) = (format!("wt{}x0-u", std::process::id()), format!("wt{id}x0-u"));
    let names = [own.as_str(), "wtx0", "wt12y", "t1-node-1", "maps.debug"];
    assert_eq!(names.map(is_of_the_dead), [false; 5]);
    assert!(is_of_the_dead(&dead));
    let root = Path::new("/run/netns").join(&dead);
    assert!(Command::new("ip").args(["netns", "add", &dead]).status().expect("ip runs").success());
    sweep();
    assert!(!root.exists());
}
