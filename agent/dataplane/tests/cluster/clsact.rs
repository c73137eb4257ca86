//! Kernels without tcx, which this one plays when it is told to: packet programs are classifiers, beside those of others.

use std::process::Command;
use std::time::Duration;

use aya::Ebpf;
use aya::programs::tc::{NlOptions, TcAttachOptions, TcAttachType, TcHandle};
use aya::programs::{ProgramError, SchedClassifier};
use aya::sys::{Stats, enable_stats};
use weft_dataplane::{Dataplane, PacketHooks, netns};

use crate::bed::{self, Bed};
use crate::object;

/// Runs a test of this binary again, on kernels without tcx.
fn again(test: &str) {
    let mut command = Command::new(std::env::current_exe().expect("own path"));
    command.args([test, "--exact", "--test-threads=1"]).env(bed::PACKET_HOOKS, "clsact");
    let done = command.output().expect("the test runs");
    let said = String::from_utf8_lossy(&done.stdout);
    let complaints = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.contains("1 passed"), "{test} by clsact:\n{said}\n{complaints}");
}

macro_rules! by_classifiers {
    ($($name:ident: $test:literal,)*) => {
        $(#[test]
        fn $name() {
            again($test);
        })*
    };
}

by_classifiers! {
    pods_reach_pods: "traffic::pods_reach_pods_here_and_there_with_their_own_addresses",
    a_cluster_address_reaches_every_backend: "traffic::a_cluster_address_reaches_every_backend_on_both_paths",
    processes_reach_services_and_pods: "traffic::processes_of_a_machine_reach_services_and_pods",
    a_node_port_answers: "traffic::a_node_port_answers_on_every_machine",
    large_datagrams_arrive: "paths::datagrams_larger_than_the_mtu_arrive_on_every_path",
    both_families_reach_every_backend: "six::a_service_of_both_families_reaches_every_backend_on_both_paths",
    the_outside_reaches_node_ports: "six::the_outside_reaches_node_ports_and_given_addresses_and_is_reached",
    a_restart_breaks_no_connection: "traffic::a_restart_of_the_agent_breaks_no_connection",
    what_the_verifier_refuses_changes_nothing:
        "upgrade::a_program_that_the_verifier_refuses_leaves_the_old_one_in_force",
    an_upgrade_loses_no_flow:
        "upgrade::an_upgrade_to_another_layout_and_back_loses_no_flow_balanced_packet_by_packet",
}

/// What `tc` says of a machine's uplink.
fn tc(bed: &Bed, arguments: &str) -> String {
    let run = || Command::new("tc").args(arguments.split(' ')).output().expect("tc runs");
    let done = netns::within(&bed.machines[0].netns, run).expect("namespace");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// Our classifiers of the uplink: one of each direction, or none.
fn ours(bed: &Bed) -> usize {
    ["ingress", "egress"]
        .iter()
        .filter(|direction| tc(bed, &format!("filter show dev eth0 {direction}")).contains("0x7766"))
        .count()
}

/// How many programs hang on a machine's uplink by tcx.
fn by_tcx(bed: &Bed) -> usize {
    let directions = [TcAttachType::Ingress, TcAttachType::Egress];
    let count = |direction| SchedClassifier::query_tcx("eth0", direction).map_or(0, |(_, all)| all.len());
    netns::within(&bed.machines[0].netns, || directions.map(count).iter().sum()).expect("namespace")
}

/// Another owner's program on the uplink, which passes everything on; it goes with what is given.
fn other_owner(bed: &Bed) -> Ebpf {
    let bytes = std::fs::read(object::path().expect("an object")).expect("the object");
    let mut ebpf = Ebpf::load(&bytes).expect("loaded");
    let program = program(&mut ebpf);
    program.load().expect("verified");
    let options = NlOptions { priority: 50, handle: TcHandle::from(1), classid: None };
    let attach = || -> Result<_, ProgramError> {
        program.attach_with_options("eth0", TcAttachType::Ingress, TcAttachOptions::Netlink(options))
    };
    netns::within(&bed.machines[0].netns, attach).expect("namespace").expect("attached");
    ebpf
}

fn program(ebpf: &mut Ebpf) -> &mut SchedClassifier {
    ebpf.program_mut("from_uplink").expect("a program").try_into().expect("a classifier")
}

#[test]
fn classifiers_of_others_run_and_stay_when_the_node_is_removed() {
    let Some(object) = object::path() else { return };
    let mut bed = Bed::new(1, &object, |config| config.packet_hooks = PacketHooks::Clsact);
    let dataplane = bed.machines[0].dataplane.clone().expect("started");
    let status = bed.ask(dataplane.status()).expect("a status");
    assert!(!status.abilities.tcx);
    assert!(
        status.abilities.missing.iter().any(|missing| missing.contains("clsact")),
        "{:?}",
        status.abilities
    );
    assert_eq!((ours(&bed), by_tcx(&bed)), (2, 0));

    let _counting = enable_stats(Stats::RunTime).expect("counted");
    let mut other = other_owner(&bed);
    let before = bed.counter(0, "seen_from_uplink");
    let to = format!("{}:8080", bed.machines[0].ip);
    let node = bed.process(0, "node", false);
    assert_eq!(bed.client().reach("tcp", &to, 3).len(), 3);
    assert!(bed.counter(0, "seen_from_uplink") > before);
    let runs = program(&mut other).info().expect("what the kernel knows of it").run_count();
    assert!(runs > 0, "the other owner's program sees what ours lets pass");
    drop(node);

    drop(dataplane);
    bed.kill(0);
    remove(&bed);
    assert_eq!(ours(&bed), 0);
    assert!(tc(&bed, "filter show dev eth0 ingress").contains("from_uplink"), "another owner's stays");
    // The classifier goes with it, by the index of the device: in the namespace where that is.
    netns::within(&bed.machines[0].netns, move || drop(other)).expect("namespace");
    assert!(tc(&bed, "qdisc show dev eth0").contains("clsact"), "as whoever came to it left it");
    remove(&bed);
    assert!(tc(&bed, "qdisc show dev eth0").contains("clsact"), "where nothing was ours, nothing is touched");
    bed.start(0);
    bed.kill(0);
    remove(&bed);
    assert!(!tc(&bed, "qdisc show dev eth0").contains("clsact"), "nothing is left");
}

/// Removes the node from its machine.
fn remove(bed: &Bed) {
    let config = bed.machines[0].config.clone();
    let removed =
        netns::within(&bed.machines[0].netns, || bed::block_on(Dataplane::remove_everything(&config)));
    removed.expect("namespace").expect("removed");
}

#[test]
fn a_node_goes_from_one_way_to_the_other_and_back() {
    let Some(object) = object::path() else { return };
    let mut bed = Bed::new(1, &object, |config| config.packet_hooks = PacketHooks::Probe);
    let dataplane = bed.machines[0].dataplane.clone().expect("started");
    if !bed.ask(dataplane.status()).expect("a status").abilities.tcx {
        eprintln!("skipped: this kernel has one way only");
        return;
    }
    drop(dataplane);
    let pod = bed.pod(0, "a1");
    bed.service("web", "10.96.0.10", 30_080, &[(0, pod)]);
    let mut client = bed.client();
    assert_eq!(client.ask(&format!("hold {}:30080", bed.machines[0].ip)), "held");
    let answer = client.ask("again");
    assert_eq!((ours(&bed), by_tcx(&bed)), (0, 2));
    for (hooks, left) in [(PacketHooks::Clsact, (2, 0)), (PacketHooks::Probe, (0, 2))] {
        bed.kill(0);
        bed.machines[0].config.packet_hooks = hooks;
        bed.start(0);
        // The kernel lets go of an unpinned link in its own time.
        let mut tries = 0;
        while (ours(&bed), by_tcx(&bed)) != left {
            tries += 1;
            assert!(tries < 600, "{hooks:?}: {:?}, not {left:?}", (ours(&bed), by_tcx(&bed)));
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(client.ask("again"), answer, "{hooks:?}");
        assert_eq!(client.reach("tcp", &format!("{}:30080", bed.machines[0].ip), 3).len(), 3);
    }
}
