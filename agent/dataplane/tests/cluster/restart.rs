//! What a restart finds: tables of another shape, another cgroup, Pods that went meanwhile; and what an uninstall leaves.

use std::fs;

use crate::bed::{self, Bed, CLIENT};
use crate::object;
use weft_dataplane::{Config, Dataplane, PodNetwork, StartError, netns};
use weft_dataplane_abi::LAYOUT;
use weft_dataplane_abi::flow_table::ROWS;

/// One machine with one Pod, and a Service before it.
fn single() -> Option<Bed> {
    let mut bed = Bed::new(1, &object::path()?, |_| {});
    let pod = bed.pod(0, "a1");
    bed.service("web", "10.96.0.10", 30_080, &[(0, pod)]);
    Some(bed)
}

fn serves(bed: &Bed) {
    let to = format!("{}:30080", bed.machines[0].ip);
    assert_eq!(bed.client().reach("tcp", &to, 3).len(), 3);
    assert_eq!(bed.process(0, "node", false).reach("tcp", "10.96.0.10:80", 3).len(), 3);
}

#[test]
fn tables_of_another_shape_are_made_anew_and_other_capacities_kept() {
    let Some(mut bed) = single() else { return };
    bed.kill(0);
    // What another build might have left under the same layout: the counters where the services are looked for.
    let maps = bed.machines[0].config.bpffs_dir.join(format!("maps-{LAYOUT}"));
    let counters = aya::maps::MapData::from_pin(maps.join("counters")).expect("a table");
    fs::remove_file(maps.join("services")).expect("unpinned");
    counters.pin(maps.join("services")).expect("pinned");
    bed.machines[0].config.capacities.flows_max *= 2;
    bed.start(0);
    bed.tell();
    serves(&bed);
    let flows = aya::maps::MapData::from_pin(maps.join("flows")).and_then(|map| map.info()).expect("a table");
    assert_eq!(
        flows.max_entries() * ROWS as u32,
        bed.machines[0].config.capacities.flows_max / 2,
        "flows are not thrown away"
    );
}

#[test]
fn what_is_known_at_the_start_is_in_the_tables_before_the_hooks_are_there() {
    let Some(mut bed) = single() else { return };
    for number in 0..40_u8 {
        let all: Vec<_> = (1..9).map(|last| (0, [10, 244, 9, last].into())).collect();
        bed.service(&format!("more-{number}"), &format!("10.96.1.{number}"), 0, &all);
    }
    bed.kill(0);
    let config = bed.machines[0].config.clone();
    fs::remove_dir_all(&config.bpffs_dir).expect("no tables");
    let mut known = bed.desired.clone();
    known.peers.remove(&bed.machines[0].name);
    let started = netns::within(&bed.machines[0].netns, || {
        bed::block_on(Dataplane::start_knowing(config, Some(known)))
    });
    bed.machines[0].dataplane = Some(started.expect("a namespace").expect("started"));
    serves(&bed);
    // The next start reads all rows back, and finds that nothing is to be written.
    bed.kill(0);
    bed.start(0);
    assert_eq!(bed.tell_one(0), 0);
    serves(&bed);
}

#[test]
fn the_socket_hooks_follow_the_cgroup() {
    let Some(mut bed) = single() else { return };
    bed.kill(0);
    let other = bed.machines[0].config.cgroup_path.with_extension("other");
    fs::create_dir_all(&other).expect("a cgroup");
    bed.machines[0].config.cgroup_path.clone_from(&other);
    bed.start(0);
    let before = bed.counter(0, "balanced_socket");
    let mut inside = crate::process::Process::start("node", &bed.machines[0].netns, Some(&other));
    assert_eq!(inside.reach("tcp", "10.96.0.10:80", 3).len(), 3);
    assert_eq!(bed.counter(0, "balanced_socket"), before + 3);
    let dataplane = bed.machines[0].dataplane.clone().expect("started");
    let hooks = bed.ask(dataplane.status()).expect("a status").hooks;
    assert_eq!(hooks["connect4"], "attached", "{hooks:?}");
    assert_eq!(hooks["from_uplink on eth0"], "replaced", "{hooks:?}");
}

#[test]
fn pods_that_went_meanwhile_leave_nothing() {
    let Some(mut bed) = single() else { return };
    let second = bed.pod(0, "a2");
    let devices = bed.devices(0).len();
    bed.kill(0);
    bed.pods.remove("a2");
    netns::remove(&bed.pod_directory(0, "a2")).expect("gone");
    bed.start(0);
    assert_eq!(bed.devices(0).len(), devices - 1);
    let dataplane = bed.machines[0].dataplane.clone().expect("started");
    let pods = bed.ask(dataplane.known_pods()).expect("Pods");
    assert_eq!(pods.iter().map(|pod| pod.name.as_str()).collect::<Vec<_>>(), ["a1"]);
    let links = fs::read_dir(bed.machines[0].config.bpffs_dir.join("links")).expect("links").count();
    // Eight socket hooks, four of the node's devices, two of the Pod that is left.
    assert_eq!(links, 14);
    assert!(bed.ask(dataplane.remove_pod("uid-a2")).is_ok(), "removing what is gone is no error");
    let answer = bed.pods.get_mut("a1").expect("a Pod").ask(&format!("tcp {second}:8080 1"));
    assert!(answer.starts_with("failed"), "{answer}");
}

#[test]
fn a_pod_is_linked_once_however_often_it_is_asked_and_a_namespace_that_is_none_is_an_error() {
    let Some(mut bed) = single() else { return };
    let dataplane = bed.machines[0].dataplane.clone().expect("started");
    let link = bed.ask(dataplane.known_pods()).expect("Pods").remove(0);
    let pod = PodNetwork {
        uid: link.uid.clone(),
        namespace: link.namespace.clone(),
        name: link.name.clone(),
        netns: link.netns.clone(),
        ips: link.ips.clone(),
        host_ports: link.host_ports.clone(),
    };
    let again = bed.ask(dataplane.add_pod(pod.clone())).expect("adopted");
    assert_eq!(again, link);
    let answers = bed.pods.get_mut("a1").expect("a Pod").reach("tcp", "10.96.0.10:80", 3);
    assert_eq!(answers.len(), 3);
    let wrong = PodNetwork { uid: "other".to_owned(), netns: "/proc/self/exe".into(), ..pod };
    assert!(bed.ask(dataplane.add_pod(wrong)).is_err());
    assert!(bed.ask(dataplane.remove_pod("other")).is_ok());
}

#[test]
fn an_uninstall_leaves_nothing_and_a_wrong_object_says_what_to_do() {
    let Some(mut bed) = single() else { return };
    let _client = bed.client();
    assert_eq!(bed.pods.get_mut("a1").expect("a Pod").reach("tcp", &format!("{CLIENT}:8080"), 1).len(), 1);
    bed.kill(0);
    let config = bed.machines[0].config.clone();
    let block_on = |future: std::pin::Pin<Box<dyn Future<Output = Result<(), StartError>>>>| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(future)
    };
    let removed = netns::within(&bed.machines[0].netns, || {
        let config = config.clone();
        block_on(Box::pin(async move { Dataplane::remove_everything(&config).await }))
    });
    removed.expect("namespace").expect("removed");
    assert!(!config.bpffs_dir.exists() && !config.state_dir.exists());
    let mut devices = bed.devices(0);
    devices.sort();
    assert_eq!(devices, ["eth0", "lo"]);
    let wrong = weft_dataplane::Config { object_path: "/nonexistent/weft-bpf".into(), ..config };
    let started = netns::within(&bed.machines[0].netns, || {
        block_on(Box::pin(async move { Dataplane::start(wrong).await.map(drop) }))
    });
    let error = started.expect("namespace").expect_err("no object");
    assert!(bed::chain(&error).contains("cargo xtask build-ebpf"), "{}", bed::chain(&error));
}

#[test]
fn a_restart_gives_the_pods_the_mtu_of_the_uplink() {
    let Some(mut bed) = single() else { return };
    bed.kill(0);
    bed.set_uplink_mtu(0, 1_400);
    bed.start(0);
    let dataplane = bed.machines[0].dataplane.clone().expect("started");
    assert_eq!(bed.ask(dataplane.status()).expect("a status").pod_mtu_bytes, 1_350);
    assert_eq!(bed.pod_mtu_bytes(0, "a1"), (1_350, 1_350));
}

#[test]
fn whatever_a_killed_agent_had_pinned_the_next_one_starts() {
    let Some(mut bed) = single() else { return };
    let pins = bed.machines[0].config.bpffs_dir.clone();
    let names = |directory: &str| -> Vec<std::path::PathBuf> {
        let entries = fs::read_dir(pins.join(directory)).expect("pins");
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("a pin").path()).collect();
        paths.sort();
        paths
    };
    let maps = format!("maps-{LAYOUT}");
    for (kept, of) in [(0, 2), (1, 2), (0, 1)] {
        bed.kill(0);
        // As if it had come so far with its tables, or so far with its hooks: every other pin, or none.
        for directory in ["links", maps.as_str()] {
            for (number, path) in names(directory).iter().enumerate() {
                if number % of == kept {
                    fs::remove_file(path).expect("unpinned");
                }
            }
        }
        bed.start(0);
        bed.tell();
        serves(&bed);
    }
}

#[test]
fn tables_of_another_layout_go_when_nobody_reads_them_any_more() {
    let Some(mut bed) = single() else { return };
    bed.kill(0);
    let pins = bed.machines[0].config.bpffs_dir.clone();
    let other = pins.join(format!("maps-{}", LAYOUT - 1));
    fs::rename(pins.join(format!("maps-{LAYOUT}")), &other).expect("another layout's");
    bed.start(0);
    assert!(!other.exists());
    bed.tell();
    serves(&bed);
}

#[test]
fn a_tunnel_with_another_port_is_made_anew() {
    let Some(object) = object::path() else { return };
    let mut bed = Bed::new(2, &object, |_| {});
    let far = [bed.pod(0, "a1"), bed.pod(1, "b1")][1];
    for number in 0..2 {
        bed.kill(number);
        bed.machines[number].config.vxlan_port = 14_789;
        bed.start(number);
    }
    bed.tell();
    let answers = bed.pods.get_mut("a1").expect("a Pod").reach("tcp", &format!("{far}:8080"), 3);
    assert_eq!(answers.len(), 3);
    let link = netns::within(&bed.machines[0].netns, || bed::link_details("weft-vxlan")).expect("namespace");
    assert!(link.contains("dstport 14789"), "{link}");
}

#[test]
fn ports_that_are_given_out_are_reserved_beside_those_that_were() {
    let Some(mut bed) = single() else { return };
    let name = "ipv4/ip_local_reserved_ports";
    let Config { node_ports, source_ports, .. } = bed.machines[0].config;
    let range = |(first, last): (u16, u16)| format!("{first}-{last}");
    let both = format!("{},{}", range(node_ports), range(source_ports));
    assert_eq!(bed.setting(0, name), both, "nothing was");
    bed.kill(0);
    // What the machine's administrator has there, beside one of ours and within the other.
    let theirs = format!("8472,{},{}", node_ports.1 + 1, source_ports.0);
    let write = || fs::write(format!("/proc/sys/net/{name}"), &theirs);
    netns::within(&bed.machines[0].netns, write).expect("a namespace").expect("written");
    assert_eq!(bed.setting(0, name), theirs);
    bed.start(0);
    let wider = range((node_ports.0, node_ports.1 + 1));
    assert_eq!(bed.setting(0, name), format!("8472,{wider},{}", range(source_ports)));
}
