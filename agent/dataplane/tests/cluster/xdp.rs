//! The uplink's driver carries flows under way; where it cannot, or is not to, the stack does it as ever.

use std::net::IpAddr;

use weft_dataplane::{Config, RoutingMode, Xdp};

use crate::bed::{Bed, six};
use crate::object;
use crate::process::Process;

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
    bed.kill(ENTRY);
    goes_on_unseen(&mut client);
    bed.start(ENTRY);
    bed.tell();
    assert_eq!(why_not(&bed), None);
    goes_on_by_the_driver(&bed, &mut client);
    bed.kill(ENTRY);
    bed.machines[ENTRY].config.xdp = Xdp::Off;
    bed.start(ENTRY);
    bed.tell();
    assert_eq!(why_not(&bed).as_deref(), Some("it is switched off"));
    assert!(!bed.link(ENTRY, "eth0").contains("xdp"));
    let before = carried(&bed);
    (0..50).for_each(|_| speaks(&mut client));
    assert_eq!(carried(&bed), before);
}

fn goes_on_unseen(client: &mut Process) {
    (0..20).for_each(|_| speaks(client));
}

#[test]
fn removing_everything_takes_it_off() {
    let Some((mut bed, _)) = furnished(|config| config.xdp = Xdp::On) else { return };
    assert!(bed.link(ENTRY, "eth0").contains("xdp"), "{}", bed.link(ENTRY, "eth0"));
    bed.kill(ENTRY);
    bed.remove(ENTRY);
    assert!(!bed.link(ENTRY, "eth0").contains("xdp"), "{}", bed.link(ENTRY, "eth0"));
}

#[test]
fn a_driver_that_cannot_and_one_that_should_not_are_named() {
    let Some(object) = object::path() else { return };
    let mut bed = Bed::new(2, &object, |config| config.xdp = Xdp::Auto);
    let said = why_not(&bed).expect("a reason");
    assert!(said.starts_with("eth0 is a veth"), "{said}");
    for (uplink, encryption_bytes, wanted) in
        [("eth0", 60, "what goes to other nodes is encrypted"), ("br9", 0, "the driver of br9 has no XDP")]
    {
        bed.kill(ENTRY);
        bed.without_xdp(ENTRY, "br9");
        let config = &mut bed.machines[ENTRY].config;
        config.xdp = Xdp::On;
        config.encryption_bytes = encryption_bytes;
        config.uplink = Some(uplink.to_owned());
        bed.start(ENTRY);
        let said = why_not(&bed).expect("a reason");
        assert!(said.starts_with(wanted), "{said}");
    }
}
