//! What a change takes away from those who are connected to it: addresses at which nobody is any more, and backends that
//! left without terminating, of which only their node can tell whether they live. Pure.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use crate::desired::{Change, Desired, Endpoint, Owner, Service};

/// Who left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Departed {
    /// Addresses whose Pod is gone.
    pub(crate) gone: BTreeSet<IpAddr>,
    /// Addresses of backends that do not answer their Service's questions, by node. Their Pods are there: they are not ready
    /// for a while, or their node has died.
    pub(crate) doubtful: BTreeMap<String, BTreeSet<IpAddr>>,
}

/// Compares what is desired with what a change makes of it.
pub(crate) fn departed(before: &Desired, change: &Change) -> Departed {
    let mut departed = Departed::default();
    match change {
        Change::ReplaceAll(all) => {
            let missing = before.addresses.keys().filter(|ip| !all.addresses.contains_key(*ip));
            missing.for_each(|ip| departed.leave(before, ip));
            for (name, service) in &before.services {
                // With a Service that is gone nobody has died.
                if let Some(after) = all.services.get(name).filter(|after| *after != service) {
                    departed.compare(service, after);
                }
            }
        }
        Change::RemoveAddress(ip) => departed.leave(before, ip),
        Change::PutService(after) => {
            if let Some(service) = before.services.get(&after.name) {
                departed.compare(service, after);
            }
        }
        Change::RemoveService(_) | Change::PutPeer(_) | Change::RemovePeer(_) | Change::PutAddress(..) => {}
    }
    let gone = &departed.gone;
    departed.doubtful.values_mut().for_each(|addresses| addresses.retain(|ip| !gone.contains(ip)));
    departed.doubtful.retain(|_, addresses| !addresses.is_empty());
    departed
}

impl Departed {
    fn leave(&mut self, before: &Desired, ip: &IpAddr) {
        let pod = matches!(before.addresses.get(ip), Some(Owner::Pod { .. }));
        let node = before.peers.values().any(|peer| peer.addresses.contains(ip));
        if pod && !node {
            self.gone.insert(*ip);
        }
    }

    fn compare(&mut self, before: &Service, after: &Service) {
        fn endpoints(service: &Service, takes: fn(&Endpoint) -> bool) -> HashSet<(&str, IpAddr)> {
            let all = service.ports.iter().flat_map(|port| &port.endpoints);
            let taken = all.filter(|endpoint| !endpoint.node.is_empty() && takes(endpoint));
            taken.map(|endpoint| (&*endpoint.node, endpoint.ip)).collect()
        }
        let stay = endpoints(after, |it| it.ready || it.serving || it.terminating);
        for (node, ip) in endpoints(before, |it| it.ready || it.serving) {
            if !stay.contains(&(node, ip)) {
                self.doubtful.entry(node.to_owned()).or_default().insert(ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::{Node, Protocol, ServiceName, ServicePort};

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 244, 1, last])
    }

    fn desired(endpoints: &[Endpoint]) -> Desired {
        let port = ServicePort {
            name: String::new(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: 0,
            endpoints: endpoints.to_vec(),
        };
        let name = ServiceName::new("default", "web");
        let service = Service { name: name.clone(), ports: vec![port], ..Service::default() };
        let pod =
            |last: u8| Owner::Pod { namespace: String::new(), name: last.to_string(), node: "a".into() };
        let host =
            Node { name: "a".into(), addresses: vec![ip(100)], pod_cidrs: Vec::new(), ..Node::default() };
        Desired {
            services: [(name, service.into())].into(),
            peers: [("a".to_owned(), host)].into(),
            addresses: [1, 2, 3, 100].map(|last| (ip(last), pod(last))).into(),
        }
    }

    fn changed(before: &Desired, after: &Desired) -> [Departed; 2] {
        let service = after.services.values().next().expect("a Service").clone();
        [Change::ReplaceAll(Box::new(after.clone())), Change::PutService(service)]
            .map(|change| departed(before, &change))
    }

    #[test]
    fn who_terminates_has_not_left_and_who_is_withdrawn_is_doubtful() {
        let all = [1, 2, 3].map(|last| Endpoint::ready(ip(last), 80, "a"));
        let mut after = all.clone();
        (after[0].ready, after[0].serving) = (false, false);
        (after[1].ready, after[1].terminating) = (false, true);
        let after = desired(&after[..2]);
        for departed in changed(&desired(&all), &after) {
            assert_eq!(departed.doubtful, [("a".to_owned(), [ip(1), ip(3)].into())].into());
            assert_eq!(departed.gone, [].into());
        }
        assert_eq!(changed(&after, &after), [Departed::default(), Departed::default()]);
        let alone = departed(&after, &Change::RemoveService(ServiceName::new("default", "web")));
        assert_eq!(alone, Departed::default());
    }

    #[test]
    fn a_pods_address_is_gone_with_it_and_a_nodes_is_not() {
        let before = desired(&[Endpoint::ready(ip(1), 80, "a")]);
        let mut after = desired(&[]);
        after.addresses.remove(&ip(1));
        after.addresses.remove(&ip(100));
        let left = departed(&before, &Change::ReplaceAll(Box::new(after)));
        assert_eq!(left, Departed { gone: [ip(1)].into(), ..Departed::default() });
        for (last, gone) in [(2, true), (9, false), (100, false)] {
            let left = departed(&before, &Change::RemoveAddress(ip(last)));
            assert_eq!(left.gone.contains(&ip(last)), gone, "{last}");
        }
    }
}
