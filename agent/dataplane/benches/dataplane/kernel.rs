//! What Weft is measured against: Pods on plain kernel routing, the same behind rule sets of kube-proxy's shape, and two
//! machines joined by the kernel's own VXLAN.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::process::{PORT, Process, SINK_PORT};

/// Port of every Service that leads to [`PORT`], and of the one that leads to [`SINK_PORT`].
pub(crate) const SERVICE_PORT: u16 = 80;
pub(crate) const SINK_SERVICE_PORT: u16 = 81;
/// Where a Service of Weft is asked packet by packet.
pub(crate) const PACKETS_SERVICE_PORT: u16 = 82;
/// Address a Pod has its default route to; every machine has it on every Pod's device.
const GATEWAY: &str = "169.254.1.1";

/// Network namespaces that go when this does.
pub(crate) struct Ground {
    namespaces: Vec<String>,
    /// The Pod or process that asks.
    pub(crate) client: Process,
    /// The one that answers.
    pub(crate) server: Process,
    /// Where it answers.
    pub(crate) server_ip: IpAddr,
}

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).output().expect("ip runs");
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

fn path(netns: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(netns)
}

/// Deletes the namespaces that were made so far if the rest fails.
struct Names(Vec<String>);

impl Names {
    fn add(&mut self, name: String) -> &str {
        ip(&format!("netns add {name}"));
        ip(&format!("-n {name} link set lo up"));
        self.0.push(name);
        self.0.last().expect("just added")
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        for name in &self.0 {
            drop(Command::new("ip").args(["netns", "del", name]).output());
        }
    }
}

/// A Pod's namespace with a veth into the machine's, routed.
fn pod(names: &mut Names, machine: &str, number: u8, address: Ipv4Addr, mtu_bytes: u32) {
    let netns = format!("{machine}-p{number}");
    names.add(netns.clone());
    ip(&format!(
        "-n {machine} link add v{number} mtu {mtu_bytes} type veth peer name eth0 mtu {mtu_bytes} netns {netns}"
    ));
    ip(&format!("-n {machine} addr add {GATEWAY}/32 dev v{number}"));
    ip(&format!("-n {machine} link set v{number} up"));
    ip(&format!("-n {machine} route add {address}/32 dev v{number}"));
    ip(&format!("-n {netns} addr add {address}/32 dev eth0"));
    ip(&format!("-n {netns} link set eth0 up"));
    ip(&format!("-n {netns} route add {GATEWAY} dev eth0 scope link"));
    ip(&format!("-n {netns} route add default via {GATEWAY}"));
}

fn machine(names: &mut Names, name: &str) {
    names.add(name.to_owned());
    ip(&format!("netns exec {name} sysctl -qw net.ipv4.ip_forward=1"));
}

impl Ground {
    /// Two Pods of one machine, with whatever `rules` put between them.
    pub(crate) fn one_machine(id: &str, rules: impl FnOnce(&str, Ipv4Addr)) -> Self {
        let mut names = Names(Vec::new());
        machine(&mut names, id);
        let server_ip = Ipv4Addr::new(10, 244, 9, 11);
        pod(&mut names, id, 0, Ipv4Addr::new(10, 244, 9, 10), 1500);
        pod(&mut names, id, 1, server_ip, 1500);
        rules(id, server_ip);
        let client = Process::start("client", &path(&format!("{id}-p0")), None);
        let server = Process::start("server", &path(&format!("{id}-p1")), None);
        let namespaces = std::mem::take(&mut names.0);
        Self { namespaces, client, server, server_ip: server_ip.into() }
    }

    /// A Pod on each of two machines, joined by the kernel's VXLAN with plain routes; or, without `pods`, the machines alone.
    pub(crate) fn two_machines(id: &str, pods: bool) -> Self {
        let mut names = Names(Vec::new());
        let underlay = names.add(format!("{id}-u")).to_owned();
        ip(&format!("-n {underlay} link add br0 type bridge"));
        ip(&format!("-n {underlay} link set br0 up"));
        for number in 1..=2_u8 {
            let name = format!("{id}-{number}");
            machine(&mut names, &name);
            ip(&format!("-n {underlay} link add p{number} type veth peer name eth0 netns {name}"));
            ip(&format!("-n {underlay} link set p{number} master br0 up"));
            ip(&format!("-n {name} addr add 172.31.78.{number}/24 dev eth0"));
            ip(&format!("-n {name} link set eth0 up"));
        }
        let other = |number: u8| 3 - number;
        if pods {
            for number in 1..=2_u8 {
                let (name, peer) = (format!("{id}-{number}"), other(number));
                ip(&format!(
                    "-n {name} link add vx0 mtu 1450 type vxlan id 7 local 172.31.78.{number} remote 172.31.78.{peer} dstport 4789"
                ));
                ip(&format!("-n {name} link set vx0 up"));
                ip(&format!("-n {name} addr add 10.244.9{number}.1/32 dev vx0"));
                ip(&format!("-n {name} route add 10.244.9{peer}.1/32 dev vx0"));
                ip(&format!("-n {name} route add 10.244.9{peer}.0/24 via 10.244.9{peer}.1 dev vx0 onlink"));
                pod(&mut names, &name, 0, Ipv4Addr::new(10, 244, 90 + number, 10), 1450);
            }
        }
        let place = |number: u8| path(&format!("{id}-{number}{}", if pods { "-p0" } else { "" }));
        let server_ip = if pods { Ipv4Addr::new(10, 244, 92, 10) } else { Ipv4Addr::new(172, 31, 78, 2) };
        let client = Process::start("client", &place(1), None);
        let server = Process::start("server", &place(2), None);
        let namespaces = std::mem::take(&mut names.0);
        Self { namespaces, client, server, server_ip: server_ip.into() }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        for name in &self.namespaces {
            drop(Command::new("ip").args(["netns", "del", name]).output());
        }
    }
}

/// Address of a Service, counted from 0.
pub(crate) fn service_ip(number: usize) -> Ipv4Addr {
    let host = u32::try_from(number + 256).expect("few Services");
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 0)) + host)
}

/// The target: the last of so many Services.
pub(crate) fn target(services: usize, port: u16) -> SocketAddr {
    (service_ip(services - 1), port).into()
}

/// The endpoint behind a Service: `server` behind the last one, nobody's address behind the others.
fn endpoint(number: usize, services: usize, server: Ipv4Addr) -> Ipv4Addr {
    if number + 1 == services {
        return server;
    }
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 244, 128, 0)) + u32::try_from(number).expect("few Services"))
}

const PORTS: [(u16, u16); 2] = [(SERVICE_PORT, PORT), (SINK_SERVICE_PORT, SINK_PORT)];

fn feed(netns: &str, command: &[&str], text: &str) {
    let mut child = Command::new("ip")
        .args(["netns", "exec", netns])
        .args(command)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ip runs");
    child.stdin.take().expect("input").write_all(text.as_bytes()).expect("rules written");
    let done = child.wait_with_output().expect("ended");
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// The rules that kube-proxy writes in its iptables mode (KUBE-SERVICES, KUBE-SVC-…, KUBE-SEP-…, KUBE-FORWARD).
pub(crate) fn iptables(netns: &str, services: usize, server: Ipv4Addr) {
    let (mut chains, mut rules) = (String::new(), String::new());
    for number in 0..services {
        let (address, to) = (service_ip(number), endpoint(number, services, server));
        for (port, target) in PORTS {
            let (svc, sep) = (format!("KUBE-SVC-{number:06}-{port}"), format!("KUBE-SEP-{number:06}-{port}"));
            let _ = write!(chains, ":{svc} - [0:0]\n:{sep} - [0:0]\n");
            let _ = write!(
                rules,
                "-A KUBE-SERVICES -d {address}/32 -p tcp -m comment --comment \"default/service-{number} cluster IP\" -m tcp --dport {port} -j {svc}\n\
                 -A {svc} ! -s 10.244.0.0/16 -d {address}/32 -p tcp -m comment --comment \"default/service-{number} cluster IP\" -m tcp --dport {port} -j KUBE-MARK-MASQ\n\
                 -A {svc} -m comment --comment \"default/service-{number} -> {to}:{target}\" -j {sep}\n\
                 -A {sep} -s {to}/32 -m comment --comment default/service-{number} -j KUBE-MARK-MASQ\n\
                 -A {sep} -p tcp -m comment --comment default/service-{number} -m tcp -j DNAT --to-destination {to}:{target}\n",
            );
        }
    }
    let text = format!(
        "*nat\n:PREROUTING ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\n\
         :KUBE-SERVICES - [0:0]\n:KUBE-NODEPORTS - [0:0]\n:KUBE-POSTROUTING - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n{chains}\
         -A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
         -A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
         -A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING\n\
         -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n\
         -A KUBE-POSTROUTING -j MARK --xor-mark 0x4000\n\
         -A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully\n\
         -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000\n{rules}\
         -A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\nCOMMIT\n\
         *filter\n:FORWARD ACCEPT\n:KUBE-FORWARD - [0:0]\n\
         -A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD\n\
         -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP\n\
         -A KUBE-FORWARD -m comment --comment \"kubernetes forwarding rules\" -m mark --mark 0x4000/0x4000 -j ACCEPT\n\
         -A KUBE-FORWARD -m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\nCOMMIT\n"
    );
    feed(netns, &["iptables-legacy-restore"], &text);
}

/// The rules that kube-proxy writes in its nftables mode: one verdict map, a chain per Service and per endpoint.
pub(crate) fn nftables(netns: &str, services: usize, server: Ipv4Addr) {
    let (mut chains, mut elements) = (String::new(), String::new());
    for number in 0..services {
        let (address, to) = (service_ip(number), endpoint(number, services, server));
        for (port, target) in PORTS {
            let _ = write!(
                chains,
                "  chain endpoint-{number}-{port} {{\n    ip saddr {to} jump mark-for-masquerade\n    meta l4proto tcp dnat to {to}:{target}\n ; }}\n\
                 \x20 chain service-{number}-{port} {{\n    ip daddr {address} tcp dport {port} ip saddr != 10.244.0.0/16 jump mark-for-masquerade\n    \
                 numgen random mod 1 vmap {{ 0 : goto endpoint-{number}-{port} }}\n  }}\n",
            );
            let _ = writeln!(elements, "{address} . tcp . {port} : goto service-{number}-{port},");
        }
    }
    let text = format!(
        "table ip kube-proxy {{\n  chain mark-for-masquerade {{ meta mark set mark or 0x4000; }}\n{chains}\
         \x20 map service-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; elements = {{ {elements} }}; }}\n\
         \x20 map no-endpoint-services {{ type ipv4_addr . inet_proto . inet_service : verdict;; }}\n\
         \x20 chain services {{ ip daddr . meta l4proto . th dport vmap @service-ips; }}\n\
         \x20 chain no-endpoints-check {{ ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }}\n\
         \x20 chain filter-forward {{ type filter hook forward priority -110; ct state new jump no-endpoints-check; }}\n\
         \x20 chain filter-output {{ type filter hook output priority -110; ct state new jump no-endpoints-check; }}\n\
         \x20 chain nat-prerouting {{ type nat hook prerouting priority dstnat; jump services; }}\n\
         \x20 chain nat-output {{ type nat hook output priority -100; jump services; }}\n\
         \x20 chain masquerading {{ mark and 0x4000 == 0 return; mark set mark xor 0x4000; masquerade fully-random;; }}\n\
         \x20 chain nat-postrouting {{ type nat hook postrouting priority srcnat; jump masquerading; }}\n}}\n"
    );
    feed(netns, &["nft", "-f", "-"], &text);
}
