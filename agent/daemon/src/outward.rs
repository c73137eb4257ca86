//! What this node is to the network around the cluster: the addresses it announces, and the answers it gives to load
//! balancers' health checks. Follows the view, after the kernel's tables do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use weft_dataplane::{Announced, Announcer};
use weft_link::message::Service;

use crate::agent::Agent;
use crate::api::answer::chain;
use crate::health_check::{Check, Responders};
use crate::view::address_of;

/// How often everything is looked at when nothing has changed: the link's state, ports that were taken.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The least time between two looks: many changes at once are one.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// How long a device that cannot be announced on is left alone.
const ANNOUNCER_RETRY: Duration = Duration::from_secs(30);

/// Keeps both, for ever. `addresses` are the node's own.
pub(crate) async fn run(agent: Arc<Agent>, addresses: Vec<IpAddr>) {
    let mut responders = Responders::new(addresses);
    let mut announcer = None;
    let mut tried: Option<tokio::time::Instant> = None;
    loop {
        let confirmed = agent.knowledge.is_complete() && agent.link.is_connected();
        let (announced, checks) = {
            let services: Vec<Service> = agent.knowledge.view().outward().collect();
            let node = agent.config.node_name.as_str();
            (Announced { addresses: announced(&services, node), confirmed }, checks(&services, node))
        };
        let retry = tried.is_none_or(|at| at.elapsed() >= ANNOUNCER_RETRY);
        if announcer.is_none() && !announced.addresses.is_empty() && retry {
            tried = Some(tokio::time::Instant::now());
            announcer = start(&agent).await;
        }
        if let Some(announcer) = &announcer {
            Announcer::set(announcer, announced);
        }
        responders.set(&checks).await;
        tokio::select! {
            () = agent.carried.notified() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

async fn start(agent: &Agent) -> Option<Announcer> {
    let uplink = agent.dataplane.status().await.ok()?.uplink;
    match Announcer::start(&uplink).await {
        Ok(announcer) => Some(announcer),
        Err(error) => {
            tracing::error!(
                error = chain(&error),
                "load balancer addresses cannot be announced from this node"
            );
            None
        }
    }
}

/// The addresses that this node announces.
fn announced(services: &[Service], node: &str) -> BTreeSet<IpAddr> {
    let services = services.iter().filter(|service| service.announcer == node);
    services.flat_map(|service| &service.load_balancer_ips).filter_map(address_of).collect()
}

/// What load balancers may ask this node, by port.
fn checks(services: &[Service], node: &str) -> BTreeMap<u16, Check> {
    let of = |service: &Service| {
        let port = u16::try_from(service.health_check_node_port).ok().filter(|port| *port != 0)?;
        let check = Check {
            namespace: service.namespace.clone(),
            name: service.name.clone(),
            local_endpoints: local_endpoints(service, node),
        };
        Some((port, check))
    };
    services.iter().filter_map(of).collect()
}

/// The endpoints of this node that take new connections; a Pod with an address of each family is one.
fn local_endpoints(service: &Service, node: &str) -> usize {
    let ready = |endpoint: &&weft_link::message::Endpoint| {
        endpoint.node == node && (endpoint.ready || service.publish_not_ready) && !endpoint.terminating
    };
    let who = |endpoint: &weft_link::message::Endpoint| match endpoint.pod.as_str() {
        "" => endpoint.address.to_vec(),
        pod => pod.as_bytes().to_vec(),
    };
    service.endpoints.iter().filter(ready).map(who).collect::<BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::View;
    use bytes::Bytes;
    use weft_link::message::{Endpoint, Resource, resource::Body};

    fn service(name: &str, announcer: &str, last: u8, endpoints: Vec<Endpoint>) -> Resource {
        Resource {
            name: format!("service/default/{name}"),
            body: Some(Body::Service(Service {
                namespace: "default".into(),
                name: name.into(),
                load_balancer_ips: vec![
                    Bytes::copy_from_slice(&[192, 0, 2, last]),
                    Bytes::from_static(&[0xfd; 16]),
                ],
                announcer: announcer.into(),
                health_check_node_port: 30_000 + u32::from(last),
                endpoints,
                ..Default::default()
            })),
        }
    }

    #[test]
    fn the_view_says_what_is_announced_and_answered() {
        let endpoint = |node: &str, ready: bool, terminating: bool| Endpoint {
            node: node.into(),
            ready,
            terminating,
            ..Default::default()
        };
        let named = |address: &'static [u8]| Endpoint {
            address: Bytes::from_static(address),
            pod: "default/a-1".into(),
            ..endpoint("node-1", true, false)
        };
        let endpoints = vec![
            named(&[10, 244, 0, 2]),
            named(&[0xfd; 16]),
            endpoint("node-1", false, false),
            endpoint("node-1", true, true),
            endpoint("node-2", true, false),
        ];
        let mut view = View::default();
        view.put(service("a", "node-1", 9, endpoints));
        view.put(service("b", "node-2", 8, Vec::new()));
        view.put(service("c", "", 7, Vec::new()));
        let inside = Resource {
            name: "service/default/d".into(),
            body: Some(Body::Service(Service { name: "d".into(), ..Default::default() })),
        };
        view.put(inside);
        let services: Vec<Service> = view.outward().collect();
        assert_eq!(services.len(), 3, "the others are not looked at");
        let both: [IpAddr; 2] = [[192, 0, 2, 9].into(), [0xfd; 16].into()];
        assert_eq!(announced(&services, "node-1"), both.into());
        let checks = checks(&services, "node-1");
        assert_eq!(checks.len(), 3);
        assert_eq!((checks[&30_009].name.as_str(), checks[&30_009].local_endpoints), ("a", 1));
        assert_eq!(checks[&30_008].local_endpoints, 0);
    }
}
