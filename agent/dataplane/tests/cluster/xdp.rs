//! The uplink's driver carries flows under way; where it cannot, or is not to, the stack does it as ever.

use std::fs;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use weft_dataplane::{Config, RoutingMode, Xdp};

use crate::bed::{Bed, six};
use crate::object;
use crate::process::Process;
use crate::upgrade::spoilt;

const NODE_PORT: u16 = 30_080;
/// The machine that the client asks; its Pods are elsewhere.
const ENTRY: usize = 1;
/// Packets that the driver must have carried before a test goes on, and how often it asks for that at most.
const CARRIED_MIN: u64 = 100;
const ROUNDS_MAX: usize = 2_000;

/// Two machines, a Pod on the first, a Service before it, and wires that are as real ones.
fn furnished(adjust: impl Fn(&mut Config)) -> Option<(Bed, IpAddr)> {
    let mut bed = Bed::new(2, &object::path()?, adjust);
    bed.as_on_wires();
    let pod = bed.pod(0, "a1");
    bed.service_at("web", &["10.96.0.10", "fd00:96::10"], NODE_PORT, &[(0, pod), (0, six(pod))]);
    Some((bed, pod))
}

fn why_not(bed: &Bed) -> Option<String> {
    let dataplane = bed.machines[ENTRY].dataplane.as_ref().expect("started");
    bed.ask(dataplane.status()).expect("a status").xdp.why_not
}

fn fronts(bed: &Bed) -> [String; 2] {
    let machine = &bed.machines[ENTRY];
    [format!("{}:{NODE_PORT}", machine.ip), format!("[{}]:{NODE_PORT}", machine.ip_6)]
}

fn carried(bed: &Bed) -> u64 {
    bed.counter(ENTRY, "xdp_carried")
}

/// A connection and a UDP flow go on, until the driver has carried enough of their packets.
#[track_caller]
fn goes_on_by_the_driver(bed: &Bed, client: &mut Process) {
    let before = carried(bed);
    for _ in 0..ROUNDS_MAX {
        speaks(client);
        if carried(bed) >= before + CARRIED_MIN {
            return;
        }
    }
    panic!("{} of {CARRIED_MIN} packets were carried", carried(bed) - before);
}

#[track_caller]
fn speaks(client: &mut Process) {
    for word in ["again", "say"] {
        let answer = client.ask(word);
        assert!(!answer.starts_with("failed"), "{word}: {answer}");
    }
}

#[track_caller]
fn carries(adjust: impl Fn(&mut Config), both_ways: bool) {
    let Some((bed, _)) = furnished(|config| {
        config.xdp = Xdp::On;
        adjust(config);
    }) else {
        return;
    };
    assert_eq!(why_not(&bed), None);
    let mut client = bed.client();
    for to in fronts(&bed) {
        // What begins is the stack's.
        let before = carried(&bed);
        let begun = bed.counter(ENTRY, "flows_begun");
        client.reach("udp", &to, 20);
        // The end of a connection from before may come late, and a source port be drawn twice.
        assert!(carried(&bed) - before < 10, "{to}");
        assert!(bed.counter(ENTRY, "flows_begun") - begun >= 18, "{to}");
        // So are fragments.
        assert_eq!(client.ask(&format!("large {to} 4000")), "4000 bytes", "{to}");
        assert_eq!(client.ask(&format!("hold {to}")), "held");
        assert_eq!(client.ask(&format!("connect {to}")), "connected");
        speaks(&mut client);
        let (by_stack, by_driver) = (bed.counter(ENTRY, "seen_from_overlay"), carried(&bed));
        goes_on_by_the_driver(&bed, &mut client);
        if both_ways {
            let (by_stack, by_driver) =
                (bed.counter(ENTRY, "seen_from_overlay") - by_stack, carried(&bed) - by_driver);
            assert!(
                by_stack < by_driver / 3,
                "{to}: {by_stack} answers by the stack, {by_driver} packets carried"
            );
        }
        assert_eq!(client.ask(&format!("fetch {to} 5000000")), "identical", "{to}");
    }
}

#[test]
fn flows_of_node_ports_are_carried_there_and_back() {
    carries(|_| {}, true);
}

#[test]
fn so_are_those_that_other_nodes_answer() {
    carries(|config| config.direct_return = true, false);
}

#[test]
fn so_are_native_ones() {
    carries(|config| config.routing_mode = RoutingMode::Native, false);
}

#[test]
fn what_virtual_devices_leave_undone_is_the_stacks() {
    let Some(object) = object::path() else { return };
    let mut bed = Bed::new(2, &object, |config| config.xdp = Xdp::On);
    bed.takes_frames();
    let pod = bed.pod(0, "a1");
    bed.service("web", "10.96.0.10", NODE_PORT, &[(0, pod)]);
    let mut client = bed.client();
    let [to, _] = fronts(&bed);
    assert_eq!(client.ask(&format!("hold {to}")), "held");
    assert_eq!(client.ask(&format!("connect {to}")), "connected");
    (0..50).for_each(|_| speaks(&mut client));
    assert_eq!(client.ask(&format!("fetch {to} 5000000")), "identical");
}

#[test]
fn connections_outlive_a_restart_and_the_switch_and_nothing_stays_behind() {
    let Some((mut bed, _)) = furnished(|config| config.xdp = Xdp::On) else { return };
    let mut client = bed.client();
    let [to, _] = fronts(&bed);
    assert_eq!(client.ask(&format!("hold {to}")), "held");
    assert_eq!(client.ask(&format!("connect {to}")), "connected");
    goes_on_by_the_driver(&bed, &mut client);
    let pins = bed.driver_pins(ENTRY);
    assert_eq!(pins.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["xdp_uplink-eth0"]);
    let (number, before) = (program(&bed).expect("a program"), carried(&bed));
    bed.kill(ENTRY);
    (0..200).for_each(|_| speaks(&mut client));
    bed.start(ENTRY);
    bed.tell();
    assert_eq!(why_not(&bed), None);
    assert!(carried(&bed) > before, "the driver goes on while there is no agent");
    assert_eq!(bed.driver_pins(ENTRY), pins, "the same link");
    assert_ne!(program(&bed), Some(number), "with the new agent's program");
    goes_on_by_the_driver(&bed, &mut client);
    restarted(&mut bed, |config| config.xdp = Xdp::Off);
    bed.tell();
    assert_eq!(why_not(&bed).as_deref(), Some("it is switched off"));
    assert_taken_off(&bed);
    let before = carried(&bed);
    (0..50).for_each(|_| speaks(&mut client));
    assert_eq!(carried(&bed), before);
}

/// Number of the program at the uplink's driver.
fn program(bed: &Bed) -> Option<u64> {
    let line = bed.link(ENTRY, "eth0");
    let mut words = line.split_whitespace().skip_while(|word| *word != "prog/xdp");
    words.nth(2).map(|number| number.parse().unwrap_or_else(|_| panic!("no program in {line}")))
}

#[track_caller]
fn assert_taken_off(bed: &Bed) {
    assert_eq!(bed.driver_pins(ENTRY), []);
    assert_gone(bed);
}

/// Fails unless the driver has no program. The kernel takes one off at its leisure, after the last pin of its link is gone.
#[track_caller]
fn assert_gone(bed: &Bed) {
    let is_gone = |_| {
        thread::sleep(Duration::from_millis(20));
        program(bed).is_none()
    };
    assert!((0..250).any(is_gone), "{:?} is still there", program(bed));
}

fn restarted(bed: &mut Bed, adjust: impl Fn(&mut Config)) {
    bed.kill(ENTRY);
    adjust(&mut bed.machines[ENTRY].config);
    bed.start(ENTRY);
}

#[test]
fn removing_everything_takes_it_off() {
    let Some((mut bed, _)) = furnished(|config| config.xdp = Xdp::On) else { return };
    assert!(program(&bed).is_some());
    bed.kill(ENTRY);
    bed.remove(ENTRY);
    assert_gone(&bed);
}

/// Each reason, after a start in which the driver carried: what was there is taken off.
#[test]
fn a_driver_that_cannot_and_one_that_should_not_are_named() {
    let Some((mut bed, _)) = furnished(|config| config.xdp = Xdp::On) else { return };
    bed.without_xdp(ENTRY, "br9");
    for (adjust, wanted) in [
        ((|config| config.xdp = Xdp::Auto) as fn(&mut Config), "eth0 is a veth"),
        (|config| config.encryption_bytes = 60, "what goes to other nodes is encrypted"),
        (|config| config.uplink = Some("br9".to_owned()), "the driver of br9 has no XDP"),
    ] {
        assert!(program(&bed).is_some());
        let before = bed.machines[ENTRY].config.clone();
        restarted(&mut bed, adjust);
        let said = why_not(&bed).expect("a reason");
        assert!(said.starts_with(wanted), "{said}");
        assert_taken_off(&bed);
        restarted(&mut bed, |config| *config = before.clone());
    }
}

/// The stack does it all, and says why.
#[track_caller]
fn does_without(bed: &Bed, wanted: &str) {
    bed.tell();
    let said = why_not(bed).expect("a reason");
    assert!(said.starts_with(wanted), "{said}");
    assert_eq!(bed.driver_pins(ENTRY), []);
    let mut client = bed.client();
    for to in fronts(bed) {
        client.reach("udp", &to, 3);
        assert_eq!(client.ask(&format!("fetch {to} 1000000")), "identical", "{to}");
    }
    assert_eq!(carried(bed), 0);
}

#[test]
fn somebody_elses_program_at_the_driver_is_left_alone() {
    let Some((mut bed, _)) = furnished(|_| {}) else { return };
    let theirs = bed.others_program(ENTRY);
    let number = program(&bed).expect("their program");
    restarted(&mut bed, |config| config.xdp = Xdp::On);
    does_without(&bed, "another program is at the driver of eth0");
    assert_eq!(program(&bed), Some(number));
    bed.kill(ENTRY);
    bed.remove(ENTRY);
    assert_eq!(program(&bed), Some(number));
    // Once it is gone, the next start asks again.
    drop(theirs);
    bed.start(ENTRY);
    assert_eq!(why_not(&bed), None);
}

#[test]
fn a_driver_that_refuses_for_its_settings_is_named_with_them() {
    let Some(object) = object::path() else { return };
    let mut bed = Bed::new(2, &object, |_| {});
    let pod = bed.pod(0, "a1");
    bed.service_at("web", &["10.96.0.10", "fd00:96::10"], NODE_PORT, &[(0, pod), (0, six(pod))]);
    bed.set_cable_mtu(ENTRY, 9_000);
    restarted(&mut bed, |config| config.xdp = Xdp::On);
    does_without(&bed, "the driver of eth0 refuses, with an MTU of 9000 bytes");
    assert_eq!(program(&bed), None);
}

#[test]
fn a_kernel_that_refuses_this_program_alone_has_all_others() {
    let Some((mut bed, _)) = furnished(|config| config.xdp = Xdp::On) else { return };
    assert!(program(&bed).is_some());
    let good = fs::read(&bed.machines[ENTRY].config.object_path).expect("an object");
    let directory = tempfile::tempdir().expect("a directory");
    let bad = directory.path().join("spoilt");
    fs::write(&bad, spoilt(&good, "xdp_uplink")).expect("written");
    restarted(&mut bed, |config| config.object_path.clone_from(&bad));
    assert_gone(&bed);
    let before = carried(&bed);
    assert_eq!(why_not(&bed).as_deref(), Some("the kernel refuses the program"));
    bed.tell();
    let mut client = bed.client();
    let [to, _] = fronts(&bed);
    assert_eq!(client.ask(&format!("fetch {to} 1000000")), "identical");
    assert_eq!(carried(&bed), before);
}
