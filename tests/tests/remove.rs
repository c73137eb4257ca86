//! A node that goes without a reboot: `weft-agent remove` leaves nothing of it on its machine, and the others go on.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use weft_tests::cluster::COMMAND_MAX;
use weft_tests::run::Run;
use weft_tests::{Cluster, Output, until};

/// Where a node keeps what `weft-agent run` was told to keep where.
struct Places {
    cgroup: String,
    data: PathBuf,
    run: PathBuf,
    pins: PathBuf,
}

impl Places {
    fn of(cluster: &Cluster, node: &str) -> Self {
        let name = cluster.name();
        Self {
            cgroup: format!("{name}/{node}"),
            data: cluster.data_dir(node),
            run: Path::new("/run").join(name).join(node),
            pins: Path::new("/sys/fs/bpf").join(format!("{name}-{node}")),
        }
    }

    fn remove(&self, cluster: &Cluster, node: &str, flags: &[&str]) -> Output {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let (data, run, pins) = (text(&self.data), text(&self.run), text(&self.pins));
        let places =
            ["--data-dir", &data, "--run-dir", &run, "--bpffs", &pins, "--cgroup-root", &self.cgroup];
        cluster.exec(node, &[&["weft-agent", "remove"], &places[..], flags].concat())
    }

    /// Processes, mounts, cgroups, files and pins that a node's Pods and programs would be seen by.
    fn traces(&self) -> Vec<String> {
        let run = self.run.to_string_lossy().into_owned();
        let processes = Command::new("ps").args(["-eo", "pid,args"]).run(COMMAND_MAX).ok();
        let data = self.data.to_string_lossy().into_owned();
        let mine = |line: &&str| line.contains(&run) || line.contains(&data);
        let mut found: Vec<String> = processes.lines().filter(mine).map(str::to_owned).collect();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        found.extend(mounts.lines().filter(mine).map(str::to_owned));
        let groups = std::fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path());
        let groups = groups.map(|root| root.join(&self.cgroup).join("weft-pods"));
        let own = [Path::new("/sys/fs/cgroup").join(&self.cgroup).join("weft-pods"), self.pins.clone()];
        let paths = groups.chain(own).chain([self.run.clone()]).filter(|path| path.exists());
        found.extend(paths.map(|path| path.display().to_string()));
        found
    }
}

#[test]
fn a_removed_node_leaves_nothing() {
    let cluster = Cluster::up(2, &[]);
    let places = Places::of(&cluster, "node-2");
    cluster.kubectl(&["scale", "deployment/web", "--replicas=4"]).ok();
    let web = cluster.pods("app=web", 4);
    assert!(web.iter().any(|(_, node)| node == "node-2"), "{web:?}");
    let refused = places.remove(&cluster, "node-2", &[]).refused();
    assert!(refused.contains("an agent runs here"), "{refused}");
    assert_eq!(cluster.pods("app=web", 4), web, "and nothing was touched");

    cluster.kill("node-2");
    assert!(!places.traces().is_empty());
    let began = Instant::now();
    let said = places.remove(&cluster, "node-2", &[]).ok();
    assert!(said.contains("2 Pods end") && said.contains("--data removes it too"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(40));
    assert_eq!(places.traces(), Vec::<String>::new());
    let links = cluster.exec("node-2", &["ip", "-o", "link"]).ok();
    assert!(!links.contains("weft") && links.lines().count() == 2, "lo and the uplink alone: {links}");
    let kept: Vec<PathBuf> =
        ["identity", "runtime/images"].iter().map(|name| places.data.join(name)).collect();
    assert!(kept.iter().all(|path| path.exists()), "an identity and images are kept until --data");

    // As it is, it may come back: the same node, with the Pods it is to run.
    cluster.start("node-2");
    until("the Pods of node-2 to run again", COMMAND_MAX, || {
        let pods = cluster.exec("node-2", &["agentctl", "pod", "list"]);
        (pods.stdout.matches("Running").count() == 2).then_some(())
    });
    cluster.kill("node-2");
    places.remove(&cluster, "node-2", &["--data"]).ok();
    assert_eq!(places.traces(), Vec::<String>::new());
    assert!(!places.data.exists());
    let again = places.remove(&cluster, "node-2", &["--data"]).ok();
    assert!(!again.contains("Pods end"), "{again}");

    cluster.kubectl(&["delete", "node", "node-2"]).ok();
    until("all of web to run on node-1", COMMAND_MAX, || {
        let web = cluster.pods("app=web", 4);
        web.iter().all(|(_, node)| node == "node-1").then_some(())
    });
    let url = format!("http://{}:30080/hostname", cluster.address("node-1"));
    let said = cluster.exec("client", &["weft-demo", "get", &url, "--count", "50", "--summary"]).ok();
    assert!(said.contains("50 answers from 4 places, 0 failures"), "{said}");
}
