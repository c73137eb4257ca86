//! The view's Services in the words of cluster DNS. Pure.

use weft_dns::records::{DnsEndpoint, DnsPort, DnsService, Protocol};
use weft_link::message::{Endpoint, Port, Service};

use crate::view::address_of;

/// What cluster DNS must know of a Service. The endpoints of one with an address of its own have no names through it: a Pod
/// behind a headless Service and another has one name, forward and reverse (Kubernetes' DNS specification, 2.3 and 2.4).
pub(crate) fn record(service: &Service) -> DnsService {
    let external = service.r#type == "ExternalName";
    let headless = !external && service.cluster_ips.is_empty();
    let named: &[Endpoint] = if headless { &service.endpoints } else { &[] };
    DnsService {
        namespace: service.namespace.clone(),
        name: service.name.clone(),
        cluster_ips: service.cluster_ips.iter().filter_map(address_of).collect(),
        ports: service.ports.iter().filter_map(port).collect(),
        endpoints: named.iter().filter_map(endpoint).collect(),
        external_name: external.then(|| service.external_name.clone()),
        headless,
        publish_not_ready: service.publish_not_ready,
    }
}

fn port(port: &Port) -> Option<DnsPort> {
    let protocol = match port.protocol {
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        132 => Protocol::Sctp,
        _ => return None,
    };
    Some(DnsPort { name: port.name.clone(), protocol, port: u16::try_from(port.port).ok()? })
}

fn endpoint(endpoint: &Endpoint) -> Option<DnsEndpoint> {
    Some(DnsEndpoint {
        address: address_of(&endpoint.address)?,
        hostname: endpoint.hostname.clone(),
        pod: endpoint.pod.clone(),
        ready: endpoint.ready,
        ports: endpoint
            .ports
            .iter()
            .filter_map(|(name, port)| Some((name.clone(), u16::try_from(*port).ok()?)))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_without_address_is_headless_unless_it_is_external() {
        let headless = Service { name: "a".into(), r#type: "ClusterIP".into(), ..Service::default() };
        assert!(record(&headless).headless);
        let external = Service {
            r#type: "ExternalName".into(),
            external_name: "example.org".into(),
            ..Service::default()
        };
        assert_eq!(record(&external).external_name.as_deref(), Some("example.org"));
        assert!(!record(&external).headless);
    }

    #[test]
    fn endpoints_have_names_through_headless_services_only() {
        let end = Endpoint {
            address: bytes::Bytes::from_static(&[10, 244, 0, 9]),
            ready: true,
            ..Endpoint::default()
        };
        let headless = Service { name: "a".into(), endpoints: vec![end], ..Service::default() };
        assert_eq!(record(&headless).endpoints.len(), 1);
        let ip = bytes::Bytes::from_static(&[10, 96, 0, 9]);
        assert!(record(&Service { cluster_ips: vec![ip], ..headless }).endpoints.is_empty());
    }
}
