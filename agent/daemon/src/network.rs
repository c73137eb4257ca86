//! Pods' network: an address from the node's ranges, a device in the Pod's namespace, rows in the kernel's tables.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use ipnet::IpNet;
use weft_api::view::pod::PodSpec;
use weft_dataplane::desired::Protocol;
use weft_dataplane::{Dataplane, HostPort, PodNetwork};
use weft_runtime::{Answer, Attach, Network, PodRef, Refusal};

use crate::api::answer::chain;
use crate::identity::replace;
use crate::ipam::Leases;

/// The runtime's [`Network`] over the dataplane.
pub(crate) struct PodNetworks {
    dataplane: Dataplane,
    ranges: Vec<IpNet>,
    node_addresses: Vec<IpAddr>,
    leases: Mutex<Leases>,
    file: PathBuf,
}

impl PodNetworks {
    /// Takes over the addresses that an earlier run gave out, kept in `file`.
    ///
    /// # Errors
    /// The file is there and cannot be read: giving out addresses that are in use would be worse than not starting.
    pub(crate) fn open(
        dataplane: Dataplane,
        ranges: Vec<IpNet>,
        node_addresses: Vec<IpAddr>,
        file: PathBuf,
    ) -> std::io::Result<Self> {
        let leases = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Leases::default(),
            Err(error) => return Err(error),
        };
        Ok(Self { dataplane, ranges, node_addresses, leases: Mutex::new(leases), file })
    }

    /// Changes the leases, and keeps them before anybody uses them.
    fn change<T>(&self, change: impl FnOnce(&mut Leases) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = leases.clone();
        let answer = change(&mut changed)?;
        if changed != *leases {
            let text = serde_json::to_vec(&changed).map_err(|error| Refusal(error.to_string()))?;
            replace(&self.file, &text)
                .map_err(|error| Refusal(format!("{} cannot be written: {error}", self.file.display())))?;
            *leases = changed;
        }
        Ok(answer)
    }
}

impl Network for PodNetworks {
    fn attach<'a>(&'a self, request: Attach<'a>) -> Answer<'a, Result<Vec<IpAddr>, Refusal>> {
        Box::pin(async move {
            if request.host_network {
                return Ok(self.node_addresses.clone());
            }
            let ips = self.change(|leases| {
                leases.take(&request.pod.uid, &self.ranges).map_err(|error| Refusal(error.to_string()))
            })?;
            let network = PodNetwork {
                uid: request.pod.uid.clone(),
                namespace: request.pod.namespace.clone(),
                name: request.pod.name.clone(),
                netns: request.netns.to_owned(),
                ips: ips.clone(),
                host_ports: host_ports(request.spec),
            };
            self.dataplane.add_pod(network).await.map_err(|error| Refusal(chain(&error)))?;
            Ok(ips)
        })
    }

    fn detach<'a>(&'a self, pod: &'a PodRef) -> Answer<'a, Result<(), Refusal>> {
        Box::pin(async move {
            self.dataplane.remove_pod(&pod.uid).await.map_err(|error| Refusal(chain(&error)))?;
            self.change(|leases| {
                leases.release(&pod.uid);
                Ok(())
            })
        })
    }
}

/// The ports of the node that a Pod's containers ask for, those included that run beside the others from the start.
fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let beside = spec.init_containers.iter().filter(|container| container.restart_policy == "Always");
    let ports = beside.chain(&spec.containers).flat_map(|container| &container.ports);
    let asked = ports.filter(|port| port.host_port != 0).filter_map(|port| {
        // At an address that cannot be read it is nowhere: it was not meant for all of them.
        let ip = if port.host_ip.is_empty() { None } else { Some(port.host_ip.parse().ok()?) };
        Some(HostPort {
            protocol: Protocol::of_name(&port.protocol)?,
            ip,
            port: port.host_port,
            to: port.container_port,
        })
    });
    asked.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_of_the_node_are_read_from_containers_and_sidecars() {
        let spec: PodSpec = serde_json::from_value(json!({
            "initContainers": [
                { "ports": [{ "containerPort": 1, "hostPort": 1 }] },
                { "restartPolicy": "Always", "ports": [{ "containerPort": 2, "hostPort": 3, "protocol": "UDP" }] },
            ],
            "containers": [{ "ports": [
                { "containerPort": 80, "hostPort": 8080, "hostIP": "192.0.2.1" },
                { "containerPort": 81 },
                { "containerPort": 82, "hostPort": 82, "hostIP": "?" },
            ] }],
        }))
        .unwrap();
        let sidecar = HostPort { protocol: Protocol::Udp, ip: None, port: 3, to: 2 };
        let web = HostPort { protocol: Protocol::Tcp, ip: Some([192, 0, 2, 1].into()), port: 8080, to: 80 };
        assert_eq!(host_ports(&spec), [sidecar, web]);
    }
}
