//! A cluster comes and goes: `up` shows a newcomer a working one, `down` leaves nothing, and a killed `up` is cleaned up after.

use std::path::Path;
use std::time::Duration;

use weft_tests::cluster::{COMMAND_MAX, xtask};
use weft_tests::{Cluster, Output, Run, Running, until};

const UP_MAX: Duration = Duration::from_secs(180);

/// Everything on this machine that carries the cluster's name.
fn traces(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for dir in ["/sys/fs/bpf", "/run", "/run/netns", "/var/lib"] {
        found.extend(entries(Path::new(dir), name));
    }
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        found.extend(entries(&hierarchy.path(), name));
    }
    found.extend(entries(Path::new("/sys/fs/cgroup"), name));
    found.extend(entries(Path::new("/sys/class/net"), name));
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    found.extend(mounts.lines().filter(|line| is_of(line, name)).map(str::to_owned));
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let path = process.path();
        let command = std::fs::read(path.join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&command).replace('\0', " ");
        let cgroups = std::fs::read_to_string(path.join("cgroup")).unwrap_or_default();
        if !line.contains(" up ") && (is_of(&line, name) || is_of(&cgroups, name)) {
            found.push(format!("{}: {line}", path.display()));
        }
    }
    found
}

/// Whether a path or a word in `text` is named after the cluster.
fn is_of(text: &str, name: &str) -> bool {
    text.split([' ', '/', ':', '\n'])
        .any(|word| word == name || word.starts_with(&format!("{name}-")) || word == format!(".weft-{name}"))
}

fn entries(dir: &Path, name: &str) -> Vec<String> {
    let all = std::fs::read_dir(dir).into_iter().flatten().flatten();
    all.map(|entry| entry.path().display().to_string())
        .filter(|path| path.rsplit('/').next().is_some_and(|last| is_of(last, name)))
        .collect()
}

fn down(name: &str) -> Output {
    xtask(&["down", "--name", name]).run(UP_MAX)
}

#[test]
fn up_shows_a_working_cluster_and_down_leaves_nothing() {
    let cluster = Cluster::up(3, &[]);
    let nodes = cluster.kubectl(&["get", "nodes", "--no-headers"]).ok();
    assert_eq!(nodes.lines().filter(|line| line.contains(" Ready ")).count(), 3, "{nodes}");
    let all = cluster.kubectl(&["get", "nodes,pods,services", "-A", "-o", "wide"]).ok();
    for word in ["node/node-1", "node/node-3", "pod/web-", "service/web-outside", "80:30080/TCP"] {
        assert!(all.contains(word), "no {word} in\n{all}");
    }
    let name = cluster.name().to_owned();
    assert!(!traces(&name).is_empty(), "the search finds a running cluster");
    cluster.assert_no_rules(&["node-1", "node-2", "node-3"]);
    drop(cluster);
    assert_eq!(traces(&name), Vec::<String>::new());
}

#[test]
fn an_up_that_was_killed_is_cleaned_up_after() {
    let name = format!("k{}", std::process::id());
    let up = ["up", "--no-build", "--nodes", "2", "--name", &name];
    // At three different places: machines alone, the control plane, agents that load programs and start Pods.
    for sign in [
        format!("/run/netns/{name}-node-2"),
        format!(".weft-{name}/token"),
        format!("/run/{name}/node-2/agent.sock"),
    ] {
        let running = Running::start(&mut xtask(&up));
        let path = weft_tests::cluster::workspace().join(&sign);
        until(&format!("{sign} to be there"), COMMAND_MAX, || path.exists().then_some(()));
        running.kill();
        assert!(!traces(&name).is_empty(), "killed half way, something is left");
    }
    let said = xtask(&up).run(UP_MAX);
    let left = down(&name);
    let said = said.ok();
    assert!(said.contains("removed what was left"), "{said}");
    left.ok();
    assert_eq!(traces(&name), Vec::<String>::new());
}
