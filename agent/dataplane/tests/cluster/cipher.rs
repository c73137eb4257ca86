//! Nodes that encrypt: everything arrives, nothing of it can be read on the underlay, and nothing is taken from it in clear.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use weft_dataplane::desired::TunnelEnd;
use weft_dataplane::netns;
use weft_encrypt::{OwnKey, Peer, PublicKey, SecretKey, Wanted};

use crate::bed::{Bed, CIPHER_PORT as PORT, CLIENT, Cipher};
use crate::object;
use crate::traffic::names;

/// How long something that needs no time may take on a machine that is busy.
const WAIT: Duration = Duration::from_secs(60);

fn secret(machine: usize, generation: u64) -> [u8; 32] {
    let mut secret = [u8::try_from(machine + 1).expect("few machines"); 32];
    secret[1] = u8::try_from(generation).expect("few generations");
    secret
}

fn inner(bed: &Bed, machine: usize) -> Ipv4Addr {
    match weft_dataplane::desired::inner_address(&bed.machines[machine].config.node.pod_cidrs) {
        Some(IpAddr::V4(inner)) => inner,
        _ => panic!("no address inside"),
    }
}

/// Tells a machine's device its keys, and those of the others.
fn keys(bed: &Bed, machine: usize, generations: &[u64], theirs: impl Fn(usize, u64) -> [u8; 32]) {
    let public =
        |secret| *x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from(secret)).as_bytes();
    let peers = (0..bed.machines.len()).filter(|other| *other != machine).map(|other| Peer {
        name: bed.machines[other].name.clone(),
        inner: inner(bed, other),
        address: bed.machines[other].ip,
        keys: generations
            .iter()
            .map(|generation| PublicKey { generation: *generation, key: public(theirs(other, *generation)) })
            .collect(),
    });
    let own = generations
        .iter()
        .map(|generation| OwnKey {
            generation: *generation,
            private: SecretKey(secret(machine, *generation)),
        })
        .collect();
    let wanted = Wanted { inner: inner(bed, machine), own: Some(own), peers: peers.collect() };
    device(bed, machine).set(wanted);
    let _ways_are_there = device(bed, machine).status();
}

fn device(bed: &Bed, machine: usize) -> &Cipher {
    bed.machines[machine].cipher.as_ref().expect("it encrypts")
}

/// Two machines that encrypt, a Pod on each.
fn furnished() -> Option<(Bed, Vec<IpAddr>)> {
    let mut bed = Bed::new(2, &object::path()?, |config| {
        (config.encrypted, config.encryption_bytes) = (true, 60);
    });
    for machine in 0..2 {
        let name = bed.machines[machine].name.clone();
        let end = TunnelEnd::Inner(inner(&bed, machine).into());
        bed.desired.peers.get_mut(&name).expect("a peer").end = end;
        keys(&bed, machine, &[1], secret);
    }
    let pods = vec![bed.pod(0, "a1"), bed.pod(1, "b1")];
    bed.service("web", "10.96.0.10", 30_080, &[(0, pods[0]), (1, pods[1])]);
    Some((bed, pods))
}

/// What goes over a machine's uplink.
struct Capture {
    tcpdump: Child,
    file: PathBuf,
}

impl Capture {
    fn start(bed: &Bed, machine: usize) -> Self {
        let file = std::env::temp_dir().join(format!("{}-{machine}.pcap", bed.id()));
        let namespace = bed.machines[machine].netns.file_name().expect("a name").to_owned();
        let mut command = Command::new("ip");
        command.args(["netns", "exec"]).arg(namespace).args([
            "tcpdump",
            "-U",
            "--immediate-mode",
            "-B",
            "65536",
            "-i",
            "eth0",
            "-w",
        ]);
        let tcpdump =
            command.arg(&file).stderr(Stdio::null()).stdout(Stdio::null()).spawn().expect("tcpdump runs");
        let began = Instant::now();
        // The file's head is written when it listens.
        while std::fs::metadata(&file).map_or(0, |file| file.len()) == 0 {
            assert!(began.elapsed() < WAIT, "tcpdump listens");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { tcpdump, file }
    }

    /// The frames so far, the last ones perhaps not.
    fn end(mut self) -> Vec<Vec<u8>> {
        std::thread::sleep(Duration::from_secs(1));
        self.tcpdump.kill().expect("it ran");
        self.tcpdump.wait().expect("it ends");
        let bytes = std::fs::read(&self.file).expect("a file");
        drop(std::fs::remove_file(&self.file));
        let (mut frames, mut at) = (Vec::new(), 24);
        // Head of a record: seconds, fraction, length kept, length.
        while let Some(head) = bytes.get(at..at + 16) {
            let length = u32::from_le_bytes(head[8..12].try_into().expect("four bytes")) as usize;
            let Some(frame) = bytes.get(at + 16..at + 16 + length) else { break };
            frames.push(frame.to_vec());
            at += 16 + length;
        }
        frames
    }
}

/// The destination port of a UDP datagram over IPv4.
fn udp_port(frame: &[u8]) -> Option<u16> {
    let is_udp = frame.get(12..14)? == [8, 0] && *frame.get(23)? == 17;
    is_udp.then(|| Some(u16::from_be_bytes(frame.get(36..38)?.try_into().ok()?)))?
}

fn count(frames: &[Vec<u8>], port: u16) -> usize {
    frames.iter().filter(|frame| udp_port(frame) == Some(port)).count()
}

#[test]
fn everything_arrives_and_nothing_of_it_can_be_read() {
    let Some((mut bed, pods)) = furnished() else { return };
    let capture = Capture::start(&bed, 0);
    for protocol in ["tcp", "udp"] {
        for to in [format!("{}:8080", pods[1]), "10.96.0.10:80".to_owned()] {
            bed.pods.get_mut("a1").expect("a Pod").reach(protocol, &to, 20);
        }
        let mut process = bed.process(0, "node", false);
        process.reach(protocol, &format!("{}:8080", pods[1]), 3);
    }
    let fetched = bed.pods.get_mut("a1").expect("a Pod").ask(&format!("fetch {}:8080 5000000", pods[1]));
    assert_eq!(fetched, "identical");
    let frames = capture.end();
    assert_eq!(count(&frames, 4_789), 0, "the tunnel in clear");
    assert!(count(&frames, PORT + 1) > 100, "generation 1 has the odd port: {} frames", frames.len());
    let pod = match pods[0] {
        IpAddr::V4(ip) => ip.octets(),
        IpAddr::V6(_) => panic!("one of IPv4"),
    };
    let bare = frames.iter().filter(|frame| frame.windows(4).any(|window| window == pod)).count();
    // In what is encrypted four bytes may be anything, once in four thousand million.
    assert!(bare <= 1, "a Pod's address in {bare} frames");

    // By a node port of another machine: inside the cluster it is encrypted, too.
    let capture = Capture::start(&bed, 1);
    let mut client = bed.client();
    for protocol in ["tcp", "udp"] {
        let to = format!("{}:30080", bed.machines[0].ip);
        let answers = client.reach(protocol, &to, 40);
        assert_eq!(names(&answers).len(), 2, "{protocol}");
    }
    let frames = capture.end();
    assert_eq!((count(&frames, 4_789), count(&frames, PORT + 1) > 20), (0, true), "{} frames", frames.len());
}

#[test]
fn a_rotation_under_traffic_loses_nothing() {
    let Some((mut bed, pods)) = furnished() else { return };
    let to = format!("{}:8080", pods[1]);
    let reach = |bed: &mut Bed| {
        bed.pods.get_mut("a1").expect("a Pod").reach("udp", &to, 20);
    };
    reach(&mut bed);
    for generation in 2..5 {
        for machine in [0, 1] {
            keys(&bed, machine, &[generation - 1, generation], secret);
            reach(&mut bed);
        }
        let began = Instant::now();
        loop {
            reach(&mut bed);
            let sent_with = [0, 1].map(|machine| {
                let status = device(&bed, machine).status();
                status.peers[0].generation
            });
            if sent_with == [Some(generation); 2] {
                break;
            }
            assert!(began.elapsed() < WAIT, "{sent_with:?}");
        }
    }
    for machine in [0, 1] {
        let drops = device(&bed, machine).status().drops;
        // The kernel counts none.
        let count = |reason: &str| drops.get(reason).copied().unwrap_or_default();
        assert_eq!((count("no key of the peer"), count("not taken by the node")), (0, 0), "{drops:?}");
    }
}

#[test]
fn whoever_has_no_key_or_a_wrong_one_gets_nothing_not_even_in_clear() {
    let Some((mut bed, pods)) = furnished() else { return };
    let to = format!("{}:8080", pods[1]);
    bed.pods.get_mut("a1").expect("a Pod").reach("udp", &to, 3);
    // A key that is not the other's: handshakes, and nothing else, leave.
    keys(&bed, 0, &[2], |other, generation| secret(other + 7, generation));
    keys(&bed, 1, &[2], secret);
    let capture = Capture::start(&bed, 0);
    let silent = bed.pods.get_mut("a1").expect("a Pod").ask(&format!("udp {to} 1"));
    assert!(silent.starts_with("failed"), "{silent}");
    if matches!(device(&bed, 1), Cipher::Process(_)) {
        assert!(device(&bed, 1).status().drops["from nobody known"] > 0);
    }
    // No key at all: the programs drop it, with the reason.
    bed.desired.peers.get_mut("node-2").expect("a peer").end = TunnelEnd::Locked;
    bed.tell();
    let before = bed.counter(0, "dropped_from_pod");
    let silent = bed.pods.get_mut("a1").expect("a Pod").ask(&format!("udp {to} 1"));
    assert!(silent.starts_with("failed"), "{silent}");
    assert!(bed.counter(0, "dropped_from_pod") > before);
    let frames = capture.end();
    assert_eq!(count(&frames, 4_789), 0);
    let longest = frames.iter().filter(|frame| udp_port(frame) == Some(PORT)).map(Vec::len).max();
    assert!(longest.unwrap_or(0) <= 42 + 148, "more than a handshake: {longest:?}");
}

/// A VXLAN packet as node 2 would have sent it without encryption, from its address inside.
#[test]
fn nothing_is_taken_in_clear_whatever_its_sender_says() {
    let Some((bed, pods)) = furnished() else { return };
    let spoofed = inner(&bed, 1);
    let client = format!("{}-c", bed.id());
    let ip = |arguments: &str| {
        let done = Command::new("ip").args(arguments.split(' ')).output().expect("ip runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    ip(&format!("-n {client} addr add {spoofed}/32 dev eth0"));
    let (IpAddr::V4(to), IpAddr::V4(from)) = (pods[0], pods[1]) else { panic!("of IPv4") };
    let mut packet = vec![8, 0, 0, 0, 0, 0, 1, 0];
    packet.extend(weft_dataplane_abi::route::OVERLAY_MAC);
    packet.extend(weft_dataplane_abi::route::OVERLAY_SOURCE_MAC);
    packet.extend([8, 0, 0x45, 0, 0, 32, 0, 1, 0, 0, 64, 17, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend([0x30, 0x39, 0x1f, 0x90, 0, 12, 0, 0, 1, 2, 3, 4]);
    let sum =
        packet[22..42].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum::<u32>();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("two bytes");
    packet[32..34].copy_from_slice(&sum.to_be_bytes());
    let before = bed.counter(0, "dropped_from_overlay");
    let began = Instant::now();
    let send = |source: IpAddr| {
        let netns = PathBuf::from(format!("/run/netns/{client}"));
        let target = SocketAddr::new(bed.machines[0].ip, 4_789);
        let sent =
            netns::within(&netns, || UdpSocket::bind((source, 0)).and_then(|it| it.send_to(&packet, target)));
        sent.expect("namespace").expect("sent");
    };
    for source in [spoofed.into(), CLIENT.parse().expect("an address")] {
        let before = bed.counter(0, "dropped_from_overlay");
        while bed.counter(0, "dropped_from_overlay") == before {
            assert!(began.elapsed() < WAIT, "it was not dropped");
            send(source);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    assert!(bed.counter(0, "dropped_from_overlay") >= before + 2);
}
