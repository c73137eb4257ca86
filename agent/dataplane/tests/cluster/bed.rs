//! A cluster of network namespaces: machines and an outside client on one bridge, a dataplane on each machine, Pods that
//! are namespaces with an echo process. Everything is named after this process and removed when it is dropped.

mod wires;

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ipnet::IpNet;
use weft_dataplane::desired::{
    Change, Desired, Endpoint, Node, Owner, Protocol, Service, ServiceName, ServicePort, ServiceType,
};
use weft_dataplane::{Announcer, Config, Dataplane, HostPort, PacketHooks, PodNetwork, netns};
use weft_encrypt::device::Device;
use weft_encrypt::kernel::{self, Kernel};
use weft_encrypt::{Status, Wanted};

use weft_dataplane_abi::route::{OVERLAY_MAC, OVERLAY_SOURCE_MAC};

use crate::process::{PORT, Process};
use crate::sweep::sweep;

/// First of the two ports that machines encrypt to.
pub(crate) const CIPHER_PORT: u16 = 51_820;
/// The client's address.
pub(crate) const CLIENT: &str = "172.31.77.100";
/// The same of IPv6.
pub(crate) const CLIENT_6: &str = "2001:db8:77::100";

/// Beds of this process so far: tests may run side by side in it.
static BEDS: AtomicU32 = AtomicU32::new(0);

/// Set to `clsact`, the clusters of a process attach their programs as on kernels without tcx.
pub(crate) const PACKET_HOOKS: &str = "WEFT_TEST_PACKET_HOOKS";

fn packet_hooks() -> PacketHooks {
    if std::env::var_os(PACKET_HOOKS).is_some_and(|by| by == "clsact") {
        PacketHooks::Clsact
    } else {
        PacketHooks::Probe
    }
}

/// One machine of the cluster.
pub(crate) struct Machine {
    /// Name of its node.
    pub(crate) name: String,
    /// Its address.
    pub(crate) ip: IpAddr,
    /// Its IPv6 address.
    pub(crate) ip_6: IpAddr,
    /// Settings of its dataplane.
    pub(crate) config: Config,
    /// Its dataplane while it runs.
    pub(crate) dataplane: Option<Dataplane>,
    /// What encrypts there, where nodes do.
    pub(crate) cipher: Option<Cipher>,
    /// Its network namespace.
    pub(crate) netns: PathBuf,
    cgroup: PathBuf,
}

/// The cluster.
pub(crate) struct Bed {
    id: String,
    /// Machines.
    pub(crate) machines: Vec<Machine>,
    /// Pods by name, each an echo process.
    pub(crate) pods: BTreeMap<String, Process>,
    /// What all machines are to know.
    pub(crate) desired: Desired,
    /// Programs at the bridge's ports.
    takers: Vec<OwnedFd>,
    directory: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

fn ip(arguments: &str) {
    let words = arguments.split(' ');
    let done = Command::new("ip").args(words).output().expect("ip runs");
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

impl Bed {
    /// A cluster of so many machines, each with a running dataplane and no Pods.
    pub(crate) fn new(machines: u8, object: &Path, adjust: impl Fn(&mut Config)) -> Self {
        sweep();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let mut bed = Self {
            id: format!("wt{}x{}", std::process::id(), BEDS.fetch_add(1, Ordering::Relaxed)),
            machines: Vec::new(),
            pods: BTreeMap::new(),
            desired: Desired::default(),
            takers: Vec::new(),
            directory: tempfile::tempdir().expect("a directory"),
            runtime: runtime.expect("a runtime"),
        };
        let underlay = format!("{}-u", bed.id);
        ip(&format!("netns add {underlay}"));
        ip(&format!("-n {underlay} link add br0 type bridge"));
        ip(&format!("-n {underlay} link set br0 up"));
        bed.plug("c", CLIENT, CLIENT_6);
        for number in 1..=machines {
            let machine = bed.machine(number, object, &adjust);
            bed.plug(&number.to_string(), &machine.ip.to_string(), &machine.ip_6.to_string());
            bed.machines.push(machine);
        }
        for number in 0..bed.machines.len() {
            let node = bed.machines[number].config.node.clone();
            bed.desired.peers.insert(node.name.clone(), node);
        }
        for number in 0..bed.machines.len() {
            bed.start(number);
        }
        bed.tell();
        bed
    }

    fn plug(&self, name: &str, address: &str, address_6: &str) {
        let (id, underlay) = (&self.id, format!("{}-u", self.id));
        ip(&format!("netns add {id}-{name}"));
        ip(&format!("-n {underlay} link add p{name} type veth peer name eth0 netns {id}-{name}"));
        ip(&format!("-n {underlay} link set p{name} master br0 up"));
        ip(&format!("-n {id}-{name} addr add {address}/24 dev eth0"));
        ip(&format!("-n {id}-{name} addr add {address_6}/64 dev eth0 nodad"));
        ip(&format!("-n {id}-{name} link set eth0 up"));
        ip(&format!("-n {id}-{name} link set lo up"));
    }

    fn machine(&self, number: u8, object: &Path, adjust: impl Fn(&mut Config)) -> Machine {
        let name = format!("node-{number}");
        let address = IpAddr::from([172, 31, 77, 10 + number]);
        let address_6: IpAddr = format!("2001:db8:77::{number}").parse().expect("an address");
        let ranges = [format!("10.244.{number}.0/24"), format!("fd00:244:0:{number}::/64")];
        let pod_cidrs = ranges.iter().map(|range| range.parse().expect("a range")).collect();
        let node =
            Node { name: name.clone(), addresses: vec![address, address_6], pod_cidrs, ..Node::default() };
        let cgroup = PathBuf::from(cgroup_root()).join(&self.id).join(&name);
        fs::create_dir_all(&cgroup).expect("a cgroup");
        let mut config = Config::new(node, object.to_owned());
        let range = |text: &str| -> IpNet { text.parse().expect("a range") };
        config.cluster_cidrs = vec![range("10.244.0.0/16"), range("fd00:244::/48")];
        config.service_cidrs = vec![range("10.96.0.0/16"), range("fd00:96::/112")];
        config.bpffs_dir = PathBuf::from("/sys/fs/bpf").join(format!("{}-{number}", self.id));
        config.state_dir = self.directory.path().join(&name).join("state");
        config.cgroup_path.clone_from(&cgroup);
        config.packet_hooks = packet_hooks();
        adjust(&mut config);
        config.cipher_in_kernel = config.encrypted && kernel::is_there();
        let netns = PathBuf::from(format!("/run/netns/{}-{number}", self.id));
        Machine { name, ip: address, ip_6: address_6, config, dataplane: None, cipher: None, netns, cgroup }
    }

    /// What everything of it is named after.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Starts a machine's dataplane, as its agent would.
    pub(crate) fn start(&mut self, number: usize) {
        let machine = &mut self.machines[number];
        let config = machine.config.clone();
        if config.encrypted && machine.cipher.is_none() {
            let started = netns::within(&machine.netns, || Cipher::start(&config)).expect("namespace");
            machine.cipher = Some(started);
        }
        let started = netns::within(&machine.netns, || block_on(Dataplane::start(config)));
        machine.dataplane =
            Some(started.expect("namespace").unwrap_or_else(|error| panic!("{}", chain(&error))));
        let dataplane = machine.dataplane.clone().expect("started");
        let status = self.runtime.block_on(dataplane.status()).expect("a status");
        eprintln!("{} started in {} ms", self.machines[number].name, status.start_ms);
    }

    /// Ends a machine's dataplane as a killed agent would: without a word.
    pub(crate) fn kill(&mut self, number: usize) {
        self.machines[number].dataplane = None;
    }

    /// Tells every machine the whole of what it should know.
    pub(crate) fn tell(&self) {
        for number in 0..self.machines.len() {
            let _ = self.tell_one(number);
        }
    }

    /// Tells one machine; answers how many rows were written.
    pub(crate) fn tell_one(&self, number: usize) -> usize {
        let machine = &self.machines[number];
        let mut desired = self.desired.clone();
        desired.peers.remove(&machine.name);
        let dataplane = machine.dataplane.as_ref().expect("started");
        let applied = self.runtime.block_on(dataplane.apply(vec![Change::ReplaceAll(Box::new(desired))]));
        let applied = applied.expect("applied");
        assert_eq!(applied.refused, Vec::new());
        applied.writes
    }

    /// Runs a question to a machine's dataplane.
    pub(crate) fn ask<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Directory with the namespaces of a Pod.
    pub(crate) fn pod_directory(&self, machine: usize, name: &str) -> PathBuf {
        self.directory.path().join(&self.machines[machine].name).join(name)
    }

    /// Has the outside client send for an address by a machine.
    pub(crate) fn route_from_client(&self, address: &str, machine: usize) {
        let machine = &self.machines[machine];
        let via = if address.contains(':') { machine.ip_6 } else { machine.ip };
        ip(&format!("-n {}-c route replace {address} via {via} dev eth0", self.id));
    }

    /// Announces addresses on a machine's uplink.
    pub(crate) fn announcer(&self, machine: usize) -> Announcer {
        let netns = &self.machines[machine].netns;
        let started = netns::within(netns, || self.runtime.block_on(Announcer::start("eth0")));
        started.expect("namespace").expect("started")
    }

    /// A kernel setting of a machine, by its name under `/proc/sys/net`.
    pub(crate) fn setting(&self, machine: usize, name: &str) -> String {
        let read = || fs::read_to_string(format!("/proc/sys/net/{name}")).expect("a setting");
        netns::within(&self.machines[machine].netns, read).expect("namespace").trim().to_owned()
    }

    /// Gives a machine's uplink another MTU.
    pub(crate) fn set_uplink_mtu(&self, machine: usize, mtu_bytes: u32) {
        let number = self.machines[machine].name.trim_start_matches("node-").to_owned();
        ip(&format!("-n {}-{number} link set eth0 mtu {mtu_bytes}", self.id));
    }

    /// How many packets a machine's own stack has cut, and how many pieces it has put together, of both families.
    pub(crate) fn pieces(&self, machine: usize) -> u64 {
        let read =
            || ["snmp", "snmp6"].map(|name| fs::read_to_string(format!("/proc/thread-self/net/{name}")));
        let [four, six] = netns::within(&self.machines[machine].netns, read).expect("namespace");
        let (four, six) = (four.expect("counters"), six.expect("counters"));
        let mut ip = four.lines().filter_map(|line| line.strip_prefix("Ip: "));
        let (names, values) = (ip.next().expect("names"), ip.next().expect("values"));
        let four = names.split(' ').zip(values.split(' '));
        let six = six.lines().filter_map(|line| line.strip_prefix("Ip6")?.split_once(char::is_whitespace));
        let counts = four.chain(six).filter(|(name, _)| ["FragCreates", "ReasmReqds"].contains(&name.trim()));
        counts.map(|(_, count)| count.trim().parse::<u64>().expect("a number")).sum()
    }

    /// MTU of a Pod's device, bytes: outside, inside.
    pub(crate) fn pod_mtu_bytes(&self, machine: usize, name: &str) -> (u32, u32) {
        let dataplane = self.machines[machine].dataplane.as_ref().expect("started");
        let pods = self.runtime.block_on(dataplane.known_pods()).expect("Pods");
        let link = pods.into_iter().find(|pod| pod.name == name).expect("the Pod");
        let outside = netns::within(&self.machines[machine].netns, || mtu_bytes(&link.device));
        let inside = netns::within(&link.netns, || mtu_bytes("eth0"));
        (outside.expect("namespace"), inside.expect("namespace"))
    }

    /// Gives the machines' uplinks networks of many, or of one each.
    pub(crate) fn share_network(&self, shared: bool) {
        for machine in &self.machines {
            let place = format!("{}-{}", self.id, machine.name.trim_start_matches("node-"));
            for (ip_, network, many, one) in
                [(machine.ip, "172.31.77.0/24", 24, 32), (machine.ip_6, "2001:db8:77::/64", 64, 128)]
            {
                let (old, new) = if shared { (one, many) } else { (many, one) };
                ip(&format!("-n {place} addr del {ip_}/{old} dev eth0"));
                let quiet = if ip_.is_ipv6() { " nodad" } else { "" };
                ip(&format!("-n {place} addr add {ip_}/{new} dev eth0{quiet}"));
                if !shared {
                    ip(&format!("-n {place} route replace {network} dev eth0"));
                }
            }
        }
    }

    /// Has the outside client put a packet between two Pods into the tunnel to a machine.
    pub(crate) fn forge(&self, machine: IpAddr, from: Ipv4Addr, to: Ipv4Addr) {
        let mut packet = vec![0x08, 0, 0, 0, 0, 0, 1, 0];
        packet.extend(OVERLAY_MAC);
        packet.extend(OVERLAY_SOURCE_MAC);
        packet.extend([8, 0, 0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0]);
        packet.extend(from.octets());
        packet.extend(to.octets());
        packet.extend([0, 9, 0, 9, 0, 8, 0, 0]);
        let client = PathBuf::from(format!("/run/netns/{}-c", self.id));
        let sent = netns::within(&client, || {
            let any = if machine.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
            std::net::UdpSocket::bind(any)?.send_to(&packet, (machine, 4789))
        });
        sent.expect("namespace").expect("sent");
    }

    /// Pulls out a machine's cable.
    pub(crate) fn cut(&self, machine: usize) {
        let number = self.machines[machine].name.trim_start_matches("node-").to_owned();
        ip(&format!("-n {}-{number} link set eth0 down", self.id));
    }

    /// Changes what is known of a Service's endpoint at an address, and tells everybody.
    pub(crate) fn endpoint(&mut self, service: &str, at: IpAddr, change: impl Fn(&mut Endpoint)) {
        let service = self.desired.services.get_mut(&ServiceName::new("default", service));
        let ports = &mut Arc::make_mut(service.expect("a Service")).ports;
        let all = ports.iter_mut().flat_map(|port| &mut port.endpoints);
        all.filter(|endpoint| endpoint.ip == at).for_each(change);
        self.tell();
    }

    /// Names of the devices a machine has.
    pub(crate) fn devices(&self, machine: usize) -> Vec<String> {
        let netns = &self.machines[machine].netns;
        let names = netns::within(netns, || {
            let devices = nix::net::if_::if_nameindex().expect("devices");
            devices.iter().map(|device| device.name().to_string_lossy().into_owned()).collect()
        });
        names.expect("namespace")
    }

    /// Starts a Pod on a machine and gives its address; [`six`] tells the one of IPv6.
    pub(crate) fn pod(&mut self, machine: usize, name: &str) -> IpAddr {
        self.pod_with(machine, name, Vec::new())
    }

    /// The same, with ports of the machine.
    pub(crate) fn pod_with(&mut self, machine: usize, name: &str, host_ports: Vec<HostPort>) -> IpAddr {
        let host = u8::try_from(self.pods.len()).expect("few Pods") + 10;
        let machine = &self.machines[machine];
        let node = u8::try_from(machine.name.trim_start_matches("node-").parse::<u32>().expect("a number"));
        let address = IpAddr::V4(Ipv4Addr::new(10, 244, node.expect("few machines"), host));
        let directory = self.directory.path().join(&machine.name).join(name);
        let pins = netns::create(&directory, name).expect("namespaces");
        let pod = PodNetwork {
            uid: format!("uid-{name}"),
            namespace: "default".to_owned(),
            name: name.to_owned(),
            netns: pins.net.clone(),
            ips: vec![address, six(address)],
            host_ports,
        };
        let dataplane = machine.dataplane.as_ref().expect("started");
        let link = self.runtime.block_on(dataplane.add_pod(pod));
        link.unwrap_or_else(|error| panic!("{}", chain(&error)));
        let process = Process::start(name, &pins.net, Some(&machine.cgroup));
        self.pods.insert(name.to_owned(), process);
        let owner =
            Owner::Pod { namespace: "default".to_owned(), name: name.to_owned(), node: machine.name.clone() };
        self.desired.addresses.insert(six(address), owner.clone());
        self.desired.addresses.insert(address, owner);
        address
    }

    /// A process of a machine: in its namespace, and in its cgroup unless it is to be a stranger.
    pub(crate) fn process(&self, machine: usize, name: &str, stranger: bool) -> Process {
        let machine = &self.machines[machine];
        Process::start(name, &machine.netns, (!stranger).then_some(machine.cgroup.as_path()))
    }

    /// The outside client.
    pub(crate) fn client(&self) -> Process {
        Process::start("client", &PathBuf::from(format!("/run/netns/{}-c", self.id)), None)
    }

    /// An outside client behind a router: what goes to it is handed on in packets of so many bytes at most, of which only the
    /// router knows.
    pub(crate) fn client_behind(&self, mtu_bytes: u32) -> Process {
        let id = &self.id;
        self.plug("r", "172.31.77.200", "2001:db8:77::200");
        let router = PathBuf::from(format!("/run/netns/{id}-r"));
        let forward = || {
            for name in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                fs::write(format!("/proc/sys/net/{name}"), "1").expect("forwarding");
            }
        };
        netns::within(&router, forward).expect("namespace");
        ip(&format!("netns add {id}-d"));
        ip(&format!("-n {id}-r link add far0 type veth peer name eth0 netns {id}-d"));
        for (place, device, host) in [("r", "far0", 1), ("d", "eth0", 100)] {
            ip(&format!("-n {id}-{place} addr add 172.31.78.{host}/24 dev {device}"));
            ip(&format!("-n {id}-{place} addr add 2001:db8:78::{host}/64 dev {device} nodad"));
            ip(&format!("-n {id}-{place} link set {device} up"));
        }
        ip(&format!("-n {id}-r link set far0 mtu {mtu_bytes}"));
        ip(&format!("-n {id}-d route add default via 172.31.78.1"));
        ip(&format!("-n {id}-d route add default via 2001:db8:78::1"));
        for number in self.machines.iter().map(|machine| machine.name.trim_start_matches("node-")) {
            ip(&format!("-n {id}-{number} route add 172.31.78.0/24 via 172.31.77.200"));
            ip(&format!("-n {id}-{number} route add 2001:db8:78::/64 via 2001:db8:77::200"));
        }
        Process::start("far", &PathBuf::from(format!("/run/netns/{id}-d")), None)
    }

    /// Puts a Service with endpoints `(machine, address)` in front of the echo port, TCP and UDP, and tells everybody.
    pub(crate) fn service(
        &mut self,
        name: &str,
        cluster_ip: &str,
        node_port: u16,
        endpoints: &[(usize, IpAddr)],
    ) {
        self.service_at(name, &[cluster_ip], node_port, endpoints);
    }

    /// The same with addresses of both families.
    pub(crate) fn service_at(
        &mut self,
        name: &str,
        cluster_ips: &[&str],
        node_port: u16,
        endpoints: &[(usize, IpAddr)],
    ) {
        let port = |protocol| ServicePort {
            name: format!("{protocol}").to_lowercase(),
            protocol,
            port: 80,
            node_port,
            endpoints: endpoints
                .iter()
                .map(|(machine, ip)| Endpoint::ready(*ip, PORT, &self.machines[*machine].name))
                .collect(),
        };
        let service = Service {
            name: ServiceName::new("default", name),
            kind: if node_port == 0 { ServiceType::ClusterIp } else { ServiceType::NodePort },
            cluster_ips: cluster_ips.iter().map(|ip| ip.parse().expect("an address")).collect(),
            ports: vec![port(Protocol::Tcp), port(Protocol::Udp)],
            ..Service::default()
        };
        self.desired.services.insert(service.name.clone(), service.into());
        self.tell();
    }

    /// Gives a Service the external traffic policy `Local`, and tells everybody.
    pub(crate) fn external_local(&mut self, name: &str) {
        let service = self.desired.services.get_mut(&ServiceName::new("default", name));
        Arc::make_mut(service.expect("a Service")).external_local = true;
        self.tell();
    }

    /// Gives a Service the internal traffic policy `Local`, and tells everybody.
    pub(crate) fn internal_local(&mut self, name: &str) {
        let service = self.desired.services.get_mut(&ServiceName::new("default", name));
        Arc::make_mut(service.expect("a Service")).internal_local = true;
        self.tell();
    }

    /// Balances at connect, or not, on every machine.
    pub(crate) fn socket_lb(&self, on: bool) {
        for machine in &self.machines {
            let dataplane = machine.dataplane.as_ref().expect("started");
            self.runtime.block_on(dataplane.set_socket_lb(on)).expect("switched");
        }
    }

    /// A counter of one machine.
    pub(crate) fn counter(&self, machine: usize, name: &str) -> u64 {
        let dataplane = self.machines[machine].dataplane.as_ref().expect("started");
        self.runtime.block_on(dataplane.counters()).expect("counters")[name]
    }
}

/// What encrypts on a machine: the kernel, where it has WireGuard.
pub(crate) enum Cipher {
    Process(Device),
    Kernel(std::sync::Mutex<Kernel>),
}

impl Cipher {
    /// In the network namespace of the calling thread.
    fn start(config: &Config) -> Self {
        match <[String; 2]>::try_from(config.cipher_devices()) {
            Ok(devices) => {
                let kernel = Kernel::start(devices, CIPHER_PORT);
                Self::Kernel(kernel.unwrap_or_else(|error| panic!("{}", chain(&error))).into())
            }
            Err(_one) => {
                let device = Device::start(&config.cipher_device(), CIPHER_PORT);
                Self::Process(device.unwrap_or_else(|error| panic!("{}", chain(&error))))
            }
        }
    }

    pub(crate) fn set(&self, wanted: Wanted) {
        match self {
            Self::Process(device) => device.set(wanted),
            Self::Kernel(kernel) => kernel.lock().expect("no panic").set(wanted).expect("keys"),
        }
    }

    /// How it is, once what is due is done.
    pub(crate) fn status(&self) -> Status {
        match self {
            Self::Process(device) => device.status().expect("it runs"),
            Self::Kernel(kernel) => {
                let kernel = kernel.lock().expect("no panic");
                kernel.tend().expect("routes");
                kernel.status().expect("a status")
            }
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.pods.clear();
        for machine in &mut self.machines {
            machine.dataplane = None;
            machine.cipher = None;
            let config = machine.config.clone();
            let removed = netns::within(&machine.netns, || block_on(Dataplane::remove_everything(&config)));
            if let Ok(Err(error)) = removed {
                eprintln!("left behind: {}", chain(&error));
            }
            for cgroup in [&machine.cgroup, &machine.config.cgroup_path] {
                drop(fs::remove_dir(cgroup));
            }
            for entry in
                fs::read_dir(self.directory.path().join(&machine.name)).into_iter().flatten().flatten()
            {
                drop(netns::remove(&entry.path()));
            }
        }
        drop(fs::remove_dir(PathBuf::from(cgroup_root()).join(&self.id)));
        let names = self.machines.iter().map(|machine| machine.name.trim_start_matches("node-").to_owned());
        for name in names.chain(["c", "u", "r", "d"].map(str::to_owned)) {
            drop(Command::new("ip").args(["netns", "del", &format!("{}-{name}", self.id)]).output());
        }
    }
}

/// The other address of a Pod.
pub(crate) fn six(pod: IpAddr) -> IpAddr {
    let IpAddr::V4(v4) = pod else { panic!("{pod} is one of IPv6") };
    let [_, _, machine, host] = v4.octets();
    format!("fd00:244:0:{machine}::{host}").parse().expect("an address")
}

/// What `ip` says of a device of the calling thread's namespace.
pub(crate) fn link_details(device: &str) -> String {
    let done =
        Command::new("ip").args(["-o", "-d", "link", "show", "dev", device]).output().expect("ip runs");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// MTU of a device of the calling thread's namespace, bytes.
pub(crate) fn mtu_bytes(device: &str) -> u32 {
    let line = link_details(device);
    let mut words = line.split_whitespace().skip_while(|word| *word != "mtu").skip(1);
    words.next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no MTU in {line}"))
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

/// Where cgroups of version 2 are.
pub(crate) fn cgroup_root() -> &'static str {
    let hybrid = "/sys/fs/cgroup/unified";
    if fs::exists(hybrid).unwrap_or(false) { hybrid } else { "/sys/fs/cgroup" }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
