//! What a proxy's path names: a Pod, or a ready endpoint of a Service, at a port. It sends nothing.

use std::net::{IpAddr, SocketAddr};

use weft_api::kind;
use weft_api::status::Status;
use weft_api::view::{EndpointSlice, Pod, Service};

#[cfg(test)]
mod tests;

/// `[scheme:]name[:port]`, as it stands in the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named<'a> {
    pub(super) tls: bool,
    pub(super) name: &'a str,
    /// A number or a name; empty: the usual one.
    pub(super) port: &'a str,
}

impl<'a> Named<'a> {
    /// Reads it: `name`, `name:port`, or `scheme:name:port`, in which all but the name may be empty.
    ///
    /// # Errors
    /// 400 for anything else.
    pub(super) fn parse(text: &'a str) -> Result<Self, Status> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => ("", "", ""),
        };
        if name.is_empty() || !matches!(scheme, "" | "http" | "https") {
            return Err(Status::bad_request(format!("invalid request {text:?}: want [scheme:]name[:port]")));
        }
        Ok(Self { tls: scheme == "https", name, port })
    }
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The node that dials: the Pod's own.
    pub(super) node: String,
    pub(super) address: SocketAddr,
}

/// A Pod's own address. One that is no Pod's to have is not dialled, whoever wrote it there: the node's own services listen
/// at such.
fn address(text: &str) -> Result<IpAddr, Status> {
    let ip: IpAddr = text.parse().map_err(|_| Status::service_unavailable("the pod has no address yet"))?;
    let local = match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    if local || ip.to_canonical().is_loopback() || ip.is_multicast() || ip.to_canonical().is_unspecified() {
        return Err(Status::bad_request("address not allowed"));
    }
    Ok(ip)
}

/// The place of a Pod: at the number, at the container's port of that name, or at its first container's first port.
///
/// # Errors
/// 400 for a Pod that runs nowhere or has no such port, 503 for one without an address.
pub(super) fn of_pod(pod: &Pod, port: &str) -> Result<Place, Status> {
    let mut ports = pod.spec.containers.iter().flat_map(|c| &c.ports);
    let port = match (port, port.parse::<u16>()) {
        ("", _) => Some(ports.next().map_or(0, |p| p.container_port)),
        (_, Ok(number)) => Some(number),
        (name, Err(_)) => ports.find(|p| p.name == name).map(|p| p.container_port),
    };
    let name = &pod.metadata.name;
    let port = port
        .map(|port| if port == 0 { 80 } else { port })
        .ok_or_else(|| Status::bad_request(format!("pod {name:?} has no such port")))?;
    Ok(Place {
        node: super::node_of(pod)?.to_owned(),
        address: SocketAddr::new(address(&pod.status.pod_ip)?, port),
    })
}

/// The name of the Service's port that is asked for by number or name; its only one where none is.
///
/// # Errors
/// 503, as in Kubernetes, for a number that the Service does not have.
pub(super) fn port_name<'a>(service: &'a Service, port: &'a str) -> Result<&'a str, Status> {
    let ports = &service.spec.ports;
    match (port.parse::<u16>(), ports.as_slice()) {
        (Ok(number), _) => {
            ports.iter().find(|p| p.port == number).map(|p| p.name.as_str()).ok_or_else(|| {
                let name = &service.metadata.name;
                Status::service_unavailable(format!("no service port {number} found for service {name:?}"))
            })
        }
        (Err(_), [only]) if port.is_empty() => Ok(&only.name),
        (Err(_), _) => Ok(port),
    }
}

/// One of the Service's ready endpoints, the one that `choice` falls on. Those that are no Pod of the Service's own namespace
/// are none: what somebody wrote into a slice would let him reach whatever a node reaches.
///
/// # Errors
/// 503 without any.
pub(super) fn of_service(
    service: &str,
    port_name: &str,
    slices: &[EndpointSlice],
    choice: usize,
    pod: impl Fn(&str) -> Option<Pod>,
) -> Result<Place, Status> {
    let ready: Vec<(&str, &str, u16)> = slices
        .iter()
        .flat_map(|slice| {
            let ports = slice.ports.iter().filter(|p| p.name == port_name && p.protocol != "UDP");
            let port = ports.map(|p| p.port).find(|port| *port != 0);
            slice.endpoints.iter().filter_map(move |endpoint| {
                let target = endpoint.target_ref.as_ref().filter(|t| t.kind == kind::POD.kind)?;
                let ready = endpoint.conditions.ready != Some(false);
                Some((endpoint.addresses.first()?.as_str(), target.name.as_str(), port?)).filter(|_| ready)
            })
        })
        .collect();
    let places = (0..ready.len()).filter_map(|i| {
        let (ip, name, port) = ready[(choice.wrapping_add(i)) % ready.len()];
        let pod = pod(name)?;
        let own = pod.status.pod_ip == ip || pod.status.pod_ips.iter().any(|own| own.ip == ip);
        let node = super::node_of(&pod).ok()?.to_owned();
        Some(Place { node, address: SocketAddr::new(address(ip).ok()?, port) }).filter(|_| own)
    });
    places
        .into_iter()
        .next()
        .ok_or_else(|| Status::service_unavailable(format!("no endpoints available for service {service:?}")))
}
