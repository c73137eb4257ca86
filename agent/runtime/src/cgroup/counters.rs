//! What a cgroup has used: CPU time and working set, of either version's files.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Hierarchies, Root, names};
use crate::usage::Counters;

impl Hierarchies {
    /// What `group` has used; none if there is no such group, or no hierarchy counts both.
    ///
    /// On a hybrid host a group is in every hierarchy and counted in some: the larger number is that of one that counts.
    pub(crate) fn counters(&self, group: &Path) -> Option<Counters> {
        let mut cpu_ns = None;
        let mut memory_bytes = None;
        for root in &self.roots {
            let at: PathBuf = names(group).fold(root.path.clone(), |path, name| path.join(name));
            cpu_ns = cpu_ns.max(cpu(root, &at));
            memory_bytes = memory_bytes.max(memory(root, &at));
        }
        Some(Counters { cpu_ns: cpu_ns?, memory_bytes: memory_bytes? })
    }
}

/// CPU time, nanoseconds.
fn cpu(root: &Root, at: &Path) -> Option<u64> {
    if root.v2 {
        return field(&at.join("cpu.stat"), "usage_usec")?.checked_mul(1_000);
    }
    if root.has("cpuacct") { number(&at.join("cpuacct.usage")) } else { None }
}

/// The working set, bytes, as the kubelet has it: what is charged to the group, without files that have not been used of late.
fn memory(root: &Root, at: &Path) -> Option<u64> {
    let (charged, inactive) = match (root.v2, root.has("memory")) {
        (true, _) => ("memory.current", "inactive_file"),
        (false, true) => ("memory.usage_in_bytes", "total_inactive_file"),
        (false, false) => return None,
    };
    let charged = number(&at.join(charged))?;
    Some(charged.saturating_sub(field(&at.join("memory.stat"), inactive)?))
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The number behind a name in a file of such lines.
fn field(file: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(at: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(at).unwrap();
        for (name, text) in files {
            fs::write(at.join(name), text).unwrap();
        }
    }

    fn root(path: PathBuf, options: &str, v2: bool) -> Root {
        Root { path, options: options.to_owned(), v2 }
    }

    #[test]
    fn both_versions_say_the_same_in_their_own_files() {
        let dir = tempfile::tempdir().unwrap();
        let group = Path::new("/weft/pod1/c");
        let of = |name: &str| dir.path().join(name).join("weft/pod1/c");
        write(
            &of("v2"),
            &[
                ("cpu.stat", "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n"),
                ("memory.current", "8192\n"),
                ("memory.stat", "anon 1\nfile 5000\nworkingset_inactive_file 7\ninactive_file 4096\n"),
            ],
        );
        let v2 = Hierarchies { roots: vec![root(dir.path().join("v2"), "rw", true)] };
        assert_eq!(v2.counters(group), Some(Counters { cpu_ns: 1_500_000, memory_bytes: 4096 }));
        assert_eq!(v2.counters(Path::new("/weft/pod1/gone")), None);

        write(&of("cpu"), &[("cpuacct.usage", "1500001\n")]);
        let stat = "cache 9\ninactive_file 1\ntotal_inactive_file 9000\n";
        write(&of("memory"), &[("memory.usage_in_bytes", "8192\n"), ("memory.stat", stat)]);
        write(&of("unified"), &[("cpu.stat", "usage_usec 0\n")]);
        let mut roots = vec![
            root(dir.path().join("cpu"), "rw,cpu,cpuacct", false),
            root(dir.path().join("unified"), "rw", true),
        ];
        assert_eq!(Hierarchies { roots: roots.clone() }.counters(group), None, "nobody counts memory");
        roots.push(root(dir.path().join("memory"), "rw,memory", false));
        // More is inactive than is charged: the two are read one after the other.
        assert_eq!(
            Hierarchies { roots }.counters(group),
            Some(Counters { cpu_ns: 1_500_001, memory_bytes: 0 })
        );
    }
}
