//! The longest packet: it passes in one piece wherever it goes, and of one byte more its sender is told.

use std::net::IpAddr;
use std::time::Duration;

use crate::bed::{Bed, six};
use crate::object;
use crate::process::PORT;

/// Looks at the uplink come every few seconds; this is for a machine that is loaded tenfold.
const TRIES_MAX: usize = 600;

/// Two machines with a Pod on each.
fn furnished(adjust: impl Fn(&mut weft_dataplane::Config)) -> Option<(Bed, [IpAddr; 2])> {
    let mut bed = Bed::new(2, &object::path()?, adjust);
    let pods = [bed.pod(0, "a1"), bed.pod(1, "b1")];
    bed.service("there", "10.96.0.51", 0, &[(1, pods[1])]);
    Some((bed, pods))
}

/// The Pod `a1` sends to `b1`: so many bytes in one piece, and not one more.
#[track_caller]
pub(crate) fn passes_in_one_piece(bed: &mut Bed, to: &str, bytes: usize) {
    let before: u64 = (0..2).map(|machine| bed.pieces(machine)).sum();
    let pod = bed.pods.get_mut("a1").expect("a Pod");
    assert_eq!(pod.ask(&format!("piece {to} {bytes}")), format!("{bytes} bytes"), "{to}");
    let told = pod.ask(&format!("piece {to} {}", bytes + 1));
    assert!(told.contains("Message too long"), "{to}: {told}");
    let after: u64 = (0..2).map(|machine| bed.pieces(machine)).sum();
    assert_eq!(before, after, "nobody cut anything on the way to {to}");
}

/// Waits until a Pod's device has an MTU.
#[track_caller]
pub(crate) fn gets_mtu(bed: &Bed, machine: usize, name: &str, bytes: u32) {
    for _ in 0..TRIES_MAX {
        if bed.pod_mtu_bytes(machine, name) == (bytes, bytes) {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{name} has {:?}, not {bytes}", bed.pod_mtu_bytes(machine, name));
}

#[test]
fn the_longest_packet_passes_in_one_piece_and_of_one_byte_more_its_sender_is_told() {
    let Some((mut bed, pods)) = furnished(|_| {}) else { return };
    for to in
        [format!("{}:{PORT}", pods[1]), format!("[{}]:{PORT}", six(pods[1])), "10.96.0.51:80".to_owned()]
    {
        passes_in_one_piece(&mut bed, &to, 1_450);
    }
}

#[test]
fn room_is_left_for_an_encryption() {
    let Some((mut bed, pods)) = furnished(|config| config.encryption_bytes = 60) else { return };
    passes_in_one_piece(&mut bed, &format!("{}:{PORT}", pods[1]), 1_390);
    passes_in_one_piece(&mut bed, &format!("[{}]:{PORT}", six(pods[1])), 1_390);
}

#[test]
fn another_mtu_of_the_uplink_is_taken_up_while_all_runs() {
    let Some((mut bed, pods)) = furnished(|_| {}) else { return };
    let to = format!("{}:{PORT}", pods[1]);
    let pod = bed.pods.get_mut("a1").expect("a Pod");
    assert_eq!(pod.ask(&format!("hold {to}")), "held");
    let said = pod.ask("again");
    for (uplink, bytes) in [(1_400, 1_350), (1_500, 1_450)] {
        for machine in 0..2 {
            bed.set_uplink_mtu(machine, uplink);
        }
        gets_mtu(&bed, 0, "a1", bytes);
        gets_mtu(&bed, 1, "b1", bytes);
        passes_in_one_piece(&mut bed, &to, bytes as usize);
        let dataplane = bed.machines[0].dataplane.clone().expect("started");
        assert_eq!(bed.ask(dataplane.status()).expect("a status").pod_mtu_bytes, bytes);
        assert_eq!(bed.pods.get_mut("a1").expect("a Pod").ask("again"), said);
    }
}
