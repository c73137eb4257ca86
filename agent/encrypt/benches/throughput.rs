//! What encryption in user space costs: one TCP connection between two network namespaces over a veth pair, through a VXLAN tunnel in
//! clear, and through one inside the encryption, which is how nodes do it. Needs root; every way has its turn in every round, and
//! medians are told with their spread, and as ratios. `cargo bench -p weft-encrypt`.

#[path = "../tests/wireguard/netns.rs"]
mod netns;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use netns::within;
use weft_encrypt::device::Device;
use weft_encrypt::{OwnKey, Peer, PublicKey, SecretKey, Wanted};

const ROUNDS: usize = 9;
const LENGTH: Duration = Duration::from_secs(3);
const PORT: u16 = 51_820;
/// Of the uplink, bytes.
const MTU_BYTES: usize = 1_500;
/// What encryption takes of it.
const CIPHER_BYTES: usize = 60;
/// What the tunnel takes.
const TUNNEL_BYTES: usize = 50;
/// The ways, and the third byte of their addresses.
const WAYS: [(&str, u8); 3] = [("no tunnel", 0), ("tunnel in clear", 1), ("tunnel, encrypted", 2)];

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).output().expect("ip runs");
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Gbit/s of one connection.
fn measure(names: &[String; 2], to: Ipv4Addr) -> f64 {
    let listener = within(&names[1], || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port"));
    let port = listener.local_addr().expect("an address").port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let (mut buffer, mut bytes) = (vec![0; 256 << 10], 0_u64);
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            bytes += read as u64;
        }
        bytes
    });
    let connect = || TcpStream::connect(SocketAddr::new(IpAddr::V4(to), port)).expect("connected");
    let mut stream = within(&names[0], connect);
    let (buffer, began) = (vec![0; 256 << 10], Instant::now());
    while began.elapsed() < LENGTH {
        stream.write_all(&buffer).expect("sent");
    }
    drop(stream);
    let bytes = server.join().expect("received");
    bytes as f64 * 8.0 / began.elapsed().as_secs_f64() / 1e9
}

/// Of a machine by a way.
fn address(machine: u8, way: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2 + way, machine + 1)
}

fn secret(machine: u8) -> [u8; 32] {
    [machine + 1; 32]
}

fn main() {
    let names = [0, 1].map(|machine| format!("wcb{}-{machine}", std::process::id()));
    names.iter().for_each(|name| ip(&format!("netns add {name}")));
    let [a, b] = &names;
    ip(&format!("link add u0 netns {a} mtu {MTU_BYTES} type veth peer name u0 netns {b} mtu {MTU_BYTES}"));
    let inner = |machine: u8| Ipv4Addr::new(10, 244, machine, 0);
    let outer = |machine: u8| address(machine, 0);
    let public = |secret| {
        *boringtun::x25519::PublicKey::from(&boringtun::x25519::StaticSecret::from(secret)).as_bytes()
    };
    let devices: Vec<Device> = [0, 1]
        .into_iter()
        .map(|machine: u8| {
            let name = &names[usize::from(machine)];
            ip(&format!("-n {name} addr add {}/24 dev u0", outer(machine)));
            ip(&format!("-n {name} link set u0 up"));
            let device = within(name, || Device::start("cipher", PORT)).expect("a device");
            ip(&format!("-n {name} addr add {}/32 dev cipher", inner(machine)));
            ip(&format!("-n {name} link set cipher up mtu {}", MTU_BYTES - CIPHER_BYTES));
            ip(&format!("-n {name} route add {}/32 dev cipher", inner(1 - machine)));
            let other = 1 - machine;
            device.set(Wanted {
                inner: inner(machine),
                own: Some(vec![OwnKey { generation: 1, private: SecretKey(secret(machine)) }]),
                peers: vec![Peer {
                    name: "other".into(),
                    inner: inner(other),
                    address: outer(other).into(),
                    keys: vec![PublicKey { generation: 1, key: public(secret(other)) }],
                }],
            });
            device
        })
        .collect();
    for machine in [0, 1] {
        let (name, other) = (&names[usize::from(machine)], 1 - machine);
        let ends = [(1, outer(machine), outer(other), 0), (2, inner(machine), inner(other), CIPHER_BYTES)];
        for (way, local, remote, less) in ends {
            let mtu = MTU_BYTES - TUNNEL_BYTES - less;
            let port = 4_790 + u16::from(way);
            ip(&format!(
                "-n {name} link add vx{way} mtu {mtu} type vxlan id {way} local {local} remote {remote} dstport {port}"
            ));
            ip(&format!("-n {name} addr add {}/24 dev vx{way}", address(machine, way)));
            ip(&format!("-n {name} link set vx{way} up"));
        }
    }
    let mut rates: [Vec<f64>; WAYS.len()] = Default::default();
    for _ in 0..ROUNDS {
        for ((_, way), rates) in WAYS.iter().zip(&mut rates) {
            rates.push(measure(&names, address(1, *way)));
        }
    }
    let median = |rates: &mut Vec<f64>| {
        rates.sort_by(f64::total_cmp);
        rates[ROUNDS / 2]
    };
    let medians = rates.each_mut().map(median);
    for (((way, _), rates), median) in WAYS.iter().zip(&rates).zip(medians) {
        let (least, most) = (rates[0], rates[ROUNDS - 1]);
        let ratio = median / medians[1];
        println!("{way}: {median:.2} Gbit/s ({least:.2} to {most:.2}), {ratio:.2} of the tunnel in clear");
    }
    for device in &devices {
        println!("{:?}", device.status().map(|status| status.drops));
    }
    drop(devices);
    names.iter().for_each(|name| ip(&format!("netns del {name}")));
}
