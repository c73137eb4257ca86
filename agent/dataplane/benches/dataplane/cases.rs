//! What is measured: paths between two processes, prepared once, visited in every round.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::kernel::{self, Ground, PACKETS_SERVICE_PORT, SERVICE_PORT, SINK_SERVICE_PORT};
use crate::process::{PORT, Process, SINK_PORT};
use crate::weft::{self, Weft};

/// Where the two ends of a path are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ends {
    /// On a ground of plain kernel.
    Ground(usize),
    /// Pods of Weft machines: who asks, who answers.
    Weft(usize, usize),
}

/// One path.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// What it is called in the report.
    pub(crate) name: String,
    /// Whether it crosses machines.
    pub(crate) crosses: bool,
    /// How many Services there are; 0 for none.
    pub(crate) services: usize,
    /// Its ends.
    pub(crate) ends: Ends,
    /// Where requests go.
    pub(crate) requests: SocketAddr,
    /// Where streams go.
    pub(crate) streams: SocketAddr,
    /// The socket hook, where it matters.
    pub(crate) socket_lb: Option<bool>,
}

/// Everything that was set up.
pub(crate) struct Stage {
    pub(crate) grounds: Vec<Ground>,
    pub(crate) weft: Weft,
    pub(crate) cases: Vec<Case>,
}

impl Stage {
    /// Sets up every path for the numbers of Services.
    pub(crate) fn new(object: &Path, services: &[usize]) -> Self {
        let weft = Weft::new(object, services);
        let mut stage = Self { grounds: Vec::new(), weft, cases: Vec::new() };
        let id = format!("wb{}", std::process::id());
        stage.ground("D0: kernel routing", false, 0, Ground::one_machine(&format!("{id}-d"), |_, _| {}));
        stage.direct("D1: Weft, no Service", 0, 0);
        for (machine, count) in services.iter().copied().enumerate() {
            let ground = Ground::one_machine(&format!("{id}-i{machine}"), |netns, ip| {
                kernel::iptables(netns, count, ip);
            });
            stage.ground("iptables", false, count, ground);
            let ground = Ground::one_machine(&format!("{id}-n{machine}"), |netns, ip| {
                kernel::nftables(netns, count, ip);
            });
            stage.ground("nftables", false, count, ground);
            stage.balanced(machine, machine, count);
        }
        stage.ground("node to node", true, 0, Ground::two_machines(&format!("{id}-h"), false));
        stage.ground("kernel VXLAN", true, 0, Ground::two_machines(&format!("{id}-x"), true));
        let last = services.len() - 1;
        if last > 0 {
            stage.direct("D1: Weft, no Service", last, 0);
            stage.balanced(last, 0, services[last]);
        }
        stage
    }

    fn ground(&mut self, name: &str, crosses: bool, services: usize, ground: Ground) {
        let at = |service: u16, port: u16| match services {
            0 => SocketAddr::new(ground.server_ip, port),
            _ => kernel::target(services, service),
        };
        let (requests, streams) = (at(SERVICE_PORT, PORT), at(SINK_SERVICE_PORT, SINK_PORT));
        let (name, ends) = (name.to_owned(), Ends::Ground(self.grounds.len()));
        self.cases.push(Case { name, crosses, services, ends, requests, streams, socket_lb: None });
        self.grounds.push(ground);
    }

    fn direct(&mut self, name: &str, from: usize, to: usize) {
        let server = self.weft.servers[to];
        self.cases.push(Case {
            name: name.to_owned(),
            crosses: from != to,
            services: 0,
            ends: Ends::Weft(from, to),
            requests: SocketAddr::new(server, PORT),
            streams: SocketAddr::new(server, SINK_PORT),
            socket_lb: Some(true),
        });
    }

    /// A Service's address, on both paths. The last Service leads to the same machine, the one behind it to the next.
    fn balanced(&mut self, from: usize, to: usize, services: usize) {
        let ip = IpAddr::from(kernel::service_ip(if from == to { services - 1 } else { services }));
        for (name, on, port) in [
            ("ClusterIP, socket path", true, SERVICE_PORT),
            ("ClusterIP, per-packet path", false, PACKETS_SERVICE_PORT),
        ] {
            self.cases.push(Case {
                name: name.to_owned(),
                crosses: from != to,
                services,
                ends: Ends::Weft(from, to),
                requests: SocketAddr::new(ip, port),
                streams: SocketAddr::new(ip, SINK_SERVICE_PORT),
                socket_lb: Some(on),
            });
        }
    }

    /// The processes of a case: who asks, who answers.
    pub(crate) fn processes(&mut self, ends: Ends) -> [&mut Process; 2] {
        match ends {
            Ends::Ground(number) => {
                let ground = &mut self.grounds[number];
                [&mut ground.client, &mut ground.server]
            }
            Ends::Weft(from, to) => {
                let names = [weft::client(from), weft::server(to)];
                let mut both = self.weft.bed.pods.iter_mut().filter(|(name, _)| names.contains(name));
                match (both.next(), both.next()) {
                    (Some((_, client)), Some((_, server))) => [client, server],
                    _ => panic!("no Pods {names:?}"),
                }
            }
        }
    }
}
