//! Leftovers of every sort are found by name and removed; what is another's stays.

use std::process::Command;

use super::*;
use crate::up::machine::{Family, Record};
use crate::up::process;
use crate::workspace::Workspace;

fn scratch(what: &str) -> Cluster {
    let root = std::env::temp_dir().join(format!("weft-xtask-{what}-{}", std::process::id()));
    fs::create_dir_all(&root).unwrap();
    let workspace = Workspace { root, target: "/t".into(), version: "0".into() };
    Cluster::new(&workspace, &format!("x{what}{}", std::process::id())).unwrap()
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("not root: skipped");
    }
    root
}

#[test]
fn a_half_made_cluster_goes_without_its_record() {
    if !is_root() {
        return;
    }
    let cluster = scratch("half");
    let record = Record {
        name: cluster.name.clone(),
        nodes: 1,
        subnet: 251,
        families: vec![Family::Ipv4],
        ..Record::default()
    };
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    namespace::build(&cluster, &record).unwrap();
    let node = Machine::Node(1);
    let daemon = process::start(&cluster, node, Command::new("sleep").arg("300"), None).unwrap();
    fs::create_dir_all(cluster.run_dir(node)).unwrap();
    fs::create_dir_all(cluster.data_dir(node)).unwrap();
    let mounted = cluster.data_dir(node).join("a volume");
    fs::create_dir_all(&mounted).unwrap();
    nix::mount::mount(Some("tmpfs"), &mounted, Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>)
        .unwrap();
    assert!(daemon.is_alive());
    assert!(cgroup::processes(&cluster.cgroup(node)).unwrap().contains(&daemon.pid));
    assert!(in_namespaces(&cluster).contains(&daemon.pid));

    let removed = remove(&cluster).unwrap();
    assert_eq!((removed.processes, removed.mounts, removed.namespaces), (1, 1, 4));
    assert!(!daemon.is_alive());
    assert!(namespace::list(&cluster).is_empty());
    assert!(cgroup::existing(&cluster.name).unwrap().is_empty());
    assert!(!Path::new("/run").join(&cluster.name).exists() && !cluster.dir.exists());
    assert_eq!(
        fs::read_to_string("/proc/self/mountinfo").unwrap().matches(&cluster.name).count(),
        0,
        "{before}"
    );
    assert!(remove(&cluster).unwrap().is_nothing(), "a second time there is nothing");
    fs::remove_dir_all(cluster.dir.parent().unwrap()).unwrap();
}

#[test]
fn a_neighbour_of_a_longer_name_stays() {
    if !is_root() {
        return;
    }
    let cluster = scratch("short");
    let workspace = Workspace {
        root: cluster.dir.parent().unwrap().to_owned(),
        target: "/t".into(),
        version: "0".into(),
    };
    let neighbour = Cluster::new(&workspace, &format!("{}-b", cluster.name)).unwrap();
    namespace::create(&neighbour.netns(Machine::Node(1))).unwrap();
    cgroup::create(&neighbour.cgroup(Machine::Node(1))).unwrap();
    assert!(remove(&cluster).unwrap().is_nothing());
    assert_eq!(namespace::list(&neighbour).len(), 1);
    let removed = remove(&neighbour).unwrap();
    assert_eq!(removed.namespaces, 1);
    fs::remove_dir_all(workspace.root).unwrap();
}

#[test]
fn a_containers_cgroup_says_whose_it_is() {
    let state = r#"{"cgroup_paths":{"memory":"/sys/fs/cgroup/memory/weft/node-2/pods/pod1/c1","":"/sys/fs/cgroup/unified/x"}}"#;
    assert!(names_cgroup(state, "/weft/"));
    assert!(!names_cgroup(state, "/wef/"));
    assert!(!names_cgroup(r#"{"cgroup_paths":{"memory":"/sys/fs/cgroup/memory/weft/other/c1"}}"#, "/weft/"));
    assert!(!names_cgroup("not json", "/weft/"));
}

#[test]
fn mount_points_are_unescaped() {
    let text = "27 1 254:0 / / rw - ext4 /dev/vda rw\n90 27 0:50 / /a\\040b rw - tmpfs tmpfs rw\n";
    assert_eq!(mount_points(text).collect::<Vec<_>>(), [PathBuf::from("/"), PathBuf::from("/a b")]);
}
