//! The kernel's WireGuard between two network namespaces, where this kernel has it: packets arrive, nothing of them can be read,
//! keys change without a loss, and a node without it in its kernel is spoken to.

#[path = "wireguard/netns.rs"]
mod netns;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use netns::within;
use weft_encrypt::device::Device;
use weft_encrypt::kernel::{self, Kernel};
use weft_encrypt::{OwnKey, Peer, PublicKey, SecretKey, Status, Wanted};

const PORT: u16 = 51_820;
/// How long something that needs no time may take on a machine that is busy, or emulated.
const WAIT: Duration = Duration::from_secs(120);
/// What is said aloud, to be looked for on the wire.
const SAID: &[u8] = b"a-secret-that-nobody-else-may-read";

fn ip(arguments: &str) -> bool {
    let done = Command::new("ip").args(arguments.split(' ')).output().expect("ip runs");
    done.status.success()
}

fn must(arguments: &str) {
    assert!(ip(arguments), "ip {arguments}");
}

fn inner(machine: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, machine as u8, 0)
}

fn secret(machine: usize, generation: u64) -> [u8; 32] {
    let mut secret = [machine as u8 + 1; 32];
    secret[1] = generation as u8;
    secret
}

fn public(machine: usize, generation: u64) -> [u8; 32] {
    let secret = boringtun::x25519::StaticSecret::from(secret(machine, generation));
    *boringtun::x25519::PublicKey::from(&secret).as_bytes()
}

fn wanted(machine: usize, generations: &[u64]) -> Wanted {
    let other = 1 - machine;
    let own = generations
        .iter()
        .map(|it| OwnKey { generation: *it, private: SecretKey(secret(machine, *it)) })
        .collect();
    let keys = generations.iter().map(|it| PublicKey { generation: *it, key: public(other, *it) }).collect();
    let address = Ipv4Addr::new(192, 0, 2, other as u8 + 1).into();
    let peer = Peer { name: "other".into(), inner: inner(other), address, keys };
    Wanted { inner: inner(machine), own: Some(own), peers: vec![peer] }
}

enum Side {
    Kernel(Kernel),
    User(Device),
}

/// Two namespaces with a wire between them, and what encrypts in each.
struct Pair {
    names: [String; 2],
    sides: [Side; 2],
    sockets: [UdpSocket; 2],
}

impl Pair {
    /// None where the kernel has no WireGuard. `user`: whether the second machine encrypts in user space.
    fn new(user: bool) -> Option<Self> {
        if !kernel::is_there() {
            eprintln!("this kernel has no WireGuard: nothing is tested");
            return None;
        }
        // Tests run beside each other.
        static PAIRS: AtomicU32 = AtomicU32::new(0);
        let number = PAIRS.fetch_add(1, Ordering::Relaxed);
        let names = [0, 1].map(|machine| format!("wk{}-{number}-{machine}", std::process::id()));
        names.iter().for_each(|name| must(&format!("netns add {name}")));
        let [a, b] = &names;
        must(&format!("link add u0 netns {a} type veth peer name u0 netns {b}"));
        let sides = [0, 1].map(|machine| {
            let name = &names[machine];
            must(&format!("-n {name} link set lo up"));
            must(&format!("-n {name} addr add 192.0.2.{}/24 dev u0", machine + 1));
            must(&format!("-n {name} link set u0 up"));
            let devices = ["cipher0", "cipher1"].map(str::to_owned);
            let in_user_space = user && machine == 1;
            let (side, devices) = if in_user_space {
                let device = within(name, || Device::start("cipher", PORT)).expect("a device");
                device.set(wanted(machine, &[1]));
                (Side::User(device), vec!["cipher".to_owned()])
            } else {
                let mut kernel = within(name, || Kernel::start(devices.clone(), PORT)).expect("devices");
                kernel.set(wanted(machine, &[1])).expect("keys");
                (Side::Kernel(kernel), devices.to_vec())
            };
            for device in devices {
                must(&format!("-n {name} addr add {}/32 dev {device}", inner(machine)));
                must(&format!("-n {name} link set {device} up mtu 1400"));
            }
            if in_user_space {
                must(&format!("-n {name} route add {}/32 dev cipher src {}", inner(0), inner(1)));
            }
            side
        });
        let sockets = [0, 1].map(|machine| {
            let socket = within(&names[machine], || UdpSocket::bind((inner(machine), 7))).expect("a port");
            socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a limit");
            socket
        });
        let pair = Self { names, sides, sockets };
        pair.tend();
        Some(pair)
    }

    fn tend(&self) {
        for side in &self.sides {
            if let Side::Kernel(kernel) = side {
                kernel.tend().expect("routes");
            }
        }
    }

    fn set(&mut self, machine: usize, generations: &[u64]) {
        match &mut self.sides[machine] {
            Side::Kernel(kernel) => kernel.set(wanted(machine, generations)).expect("keys"),
            Side::User(device) => device.set(wanted(machine, generations)),
        }
    }

    fn status(&self, machine: usize) -> Status {
        match &self.sides[machine] {
            Side::Kernel(kernel) => kernel.status().expect("a status"),
            Side::User(device) => device.status().expect("a status"),
        }
    }

    /// Sends a packet from a machine to the other; it must arrive.
    fn send(&self, from: usize) {
        let to = SocketAddr::new(IpAddr::V4(inner(1 - from)), 7);
        self.sockets[from].send_to(SAID, to).expect("sent");
        let began = Instant::now();
        let mut packet = [0; 64];
        loop {
            if let Ok((bytes, source)) = self.sockets[1 - from].recv_from(&mut packet) {
                assert_eq!((&packet[..bytes], source.ip()), (SAID, IpAddr::V4(inner(from))));
                return;
            }
            assert!(began.elapsed() < WAIT, "a packet of machine {from} is lost");
        }
    }

    fn both(&self) {
        (0..2).for_each(|machine| self.send(machine));
    }

    fn until_sent_with(&self, generation: u64) {
        let began = Instant::now();
        loop {
            self.tend();
            self.both();
            let by = [0, 1].map(|machine| self.status(machine).peers[0].generation);
            if by == [Some(generation); 2] {
                return;
            }
            assert!(began.elapsed() < WAIT, "{by:?} instead of {generation}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.names.iter().for_each(|name| {
            let _left = ip(&format!("netns del {name}"));
        });
    }
}

/// What goes over the wire between the two.
struct Capture {
    tcpdump: Child,
    file: PathBuf,
}

impl Capture {
    fn start(namespace: &str) -> Self {
        let file = std::env::temp_dir().join(format!("{namespace}.pcap"));
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, "tcpdump", "-U", "--immediate-mode", "-i", "u0", "-w"]);
        command.arg(&file).stderr(Stdio::null()).stdout(Stdio::null());
        let capture = Self { tcpdump: command.spawn().expect("tcpdump runs"), file };
        let began = Instant::now();
        while std::fs::metadata(&capture.file).map_or(0, |file| file.len()) == 0 {
            assert!(began.elapsed() < WAIT, "tcpdump listens");
            std::thread::sleep(Duration::from_millis(50));
        }
        capture
    }

    fn end(mut self) -> Vec<u8> {
        std::thread::sleep(Duration::from_secs(1));
        self.tcpdump.kill().expect("it ran");
        self.tcpdump.wait().expect("it ends");
        let bytes = std::fs::read(&self.file).expect("a file");
        drop(std::fs::remove_file(&self.file));
        bytes
    }
}

fn keys_change_and_nothing_can_be_read(user: bool) {
    let Some(mut pair) = Pair::new(user) else { return };
    let capture = Capture::start(&pair.names[1]);
    pair.both();
    for generation in 2..5 {
        for machine in [1, 0] {
            pair.set(machine, &[generation - 1, generation]);
            pair.tend();
            pair.both();
        }
        pair.until_sent_with(generation);
        assert_eq!(pair.status(0).generations, [generation, generation - 1]);
    }
    let bytes = capture.end();
    assert!(!bytes.windows(SAID.len()).any(|window| window == SAID), "said in clear");
    let to = |port: u16| {
        let ports: Vec<u8> = [port, port].iter().flat_map(|port| port.to_be_bytes()).collect();
        bytes.windows(4).filter(|window| *window == ports).count()
    };
    assert!(to(PORT) >= 2 && to(PORT + 1) >= 2, "{} and {}", to(PORT), to(PORT + 1));
}

#[test]
fn two_kernels_speak_and_keys_change_without_a_loss() {
    keys_change_and_nothing_can_be_read(false);
}

#[test]
fn a_kernel_and_a_process_speak_and_keys_change_without_a_loss() {
    keys_change_and_nothing_can_be_read(true);
}

#[test]
fn who_has_no_key_is_not_spoken_to_and_devices_keep_what_they_know() {
    let Some(mut pair) = Pair::new(false) else { return };
    pair.both();
    // An agent that starts again, without a word of the control plane: sessions go on.
    let names = ["cipher0", "cipher1"].map(str::to_owned);
    let mut again = within(&pair.names[0], || Kernel::start(names, PORT)).expect("devices");
    again.set(Wanted { own: None, ..wanted(0, &[1]) }).expect("peers");
    again.tend().expect("routes");
    pair.sides[0] = Side::Kernel(again);
    pair.both();
    assert_eq!(pair.status(0).peers[0].generation, Some(1));
    let mut none = wanted(0, &[1]);
    none.peers[0].keys.clear();
    let Side::Kernel(kernel) = &mut pair.sides[0] else { return };
    kernel.set(none).expect("no peers");
    kernel.tend().expect("no routes");
    let to = SocketAddr::new(IpAddr::V4(inner(1)), 7);
    pair.sockets[0].send_to(SAID, to).expect_err("no way leads there");
}
