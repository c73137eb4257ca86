//! The Weft side: one machine per number of Services, all on one underlay, each with two Pods; Services as kube-proxy's rules
//! beside it have them.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use weft_dataplane::desired::{Change, Endpoint, Protocol, Service, ServiceName, ServicePort, ServiceType};

use crate::bed::Bed;
use crate::kernel::{PACKETS_SERVICE_PORT, SERVICE_PORT, SINK_SERVICE_PORT, service_ip};
use crate::process::{PACKETS_PORT, SINK_PORT, SOCKETS_PORT};

/// The machines with their Pods.
pub(crate) struct Weft {
    pub(crate) bed: Bed,
    /// The Pod that answers on each machine.
    pub(crate) servers: Vec<IpAddr>,
}

impl Weft {
    /// Starts a machine for each number of Services, whose last leads to the second Pod of the machine, and one before it to
    /// the second Pod of the next machine.
    pub(crate) fn new(object: &Path, services: &[usize]) -> Self {
        let machines = u8::try_from(services.len()).expect("few machines");
        let mut weft = Self { bed: Bed::new(machines, object, |_| {}), servers: Vec::new() };
        for machine in 0..services.len() {
            weft.bed.pod(machine, &client(machine));
            let ip = weft.bed.pod(machine, &server(machine));
            weft.servers.push(ip);
        }
        for (machine, count) in services.iter().enumerate() {
            let (near, far) = (weft.servers[machine], weft.servers[(machine + 1) % services.len()]);
            weft.tell(machine, *count, near, far);
            weft.read_events(machine);
        }
        weft
    }

    fn tell(&mut self, machine: usize, count: usize, near: IpAddr, far: IpAddr) {
        let mut desired = self.bed.desired.clone();
        let own = self.bed.machines[machine].name.clone();
        desired.peers.remove(&own);
        for number in 0..=count {
            let ip = match number {
                _ if number + 1 == count => near,
                _ if number == count => far,
                _ => Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 244, 128, 0)) + number as u32).into(),
            };
            let service = service(number, ip, &own);
            desired.services.insert(service.name.clone(), service.into());
        }
        let dataplane = self.bed.machines[machine].dataplane.clone().expect("started");
        let applied = self.bed.ask(dataplane.apply(vec![Change::ReplaceAll(Box::new(desired))]));
        assert_eq!(applied.expect("applied").refused, Vec::new());
    }

    /// Reads a machine's events from now on, as its agent would.
    fn read_events(&self, machine: usize) {
        let dataplane = self.bed.machines[machine].dataplane.clone().expect("started");
        let read = async move {
            let mut events = dataplane.events().expect("a ring");
            while events.next().await.is_ok() {}
        };
        // It goes on by itself.
        self.bed.ask(async { drop(tokio::spawn(read)) });
    }

    /// Balances at connect on a machine, or leaves it to the per-packet path.
    pub(crate) fn socket_lb(&self, machine: usize, on: bool) {
        let dataplane = self.bed.machines[machine].dataplane.clone().expect("started");
        self.bed.ask(dataplane.set_socket_lb(on)).expect("switched");
    }
}

/// Name of the Pod that asks on a machine.
pub(crate) fn client(machine: usize) -> String {
    format!("client-{machine}")
}

/// Name of the Pod that answers on a machine.
pub(crate) fn server(machine: usize) -> String {
    format!("server-{machine}")
}

fn service(number: usize, ip: IpAddr, node: &str) -> Service {
    let port = |name: &str, port, target| ServicePort {
        name: name.to_owned(),
        protocol: Protocol::Tcp,
        port,
        node_port: 0,
        endpoints: vec![Endpoint::ready(ip, target, node)],
    };
    Service {
        name: ServiceName::new("default", format!("service-{number}")),
        kind: ServiceType::ClusterIp,
        cluster_ips: vec![service_ip(number).into()],
        ports: vec![
            port("requests", SERVICE_PORT, SOCKETS_PORT),
            port("packets", PACKETS_SERVICE_PORT, PACKETS_PORT),
            port("stream", SINK_SERVICE_PORT, SINK_PORT),
        ],
        ..Service::default()
    }
}
