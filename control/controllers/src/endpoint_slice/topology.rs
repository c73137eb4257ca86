//! `service.kubernetes.io/topology-mode: Auto`: each zone gets endpoints by its share of the nodes' CPU, those of its own first.

use std::collections::BTreeMap;
use std::net::IpAddr;

use weft_api::quantity::Quantity;
use weft_api::view::network::{EndpointHints, Hint};
use weft_api::view::{Endpoint, Node, Service};

use crate::world::World;

const MODE_ANNOTATION: &str = "service.kubernetes.io/topology-mode";
const CONTROL_PLANE_LABEL: &str = "node-role.kubernetes.io/control-plane";

/// Whether a Service asks for it. It then counts for more than `trafficDistribution`.
pub(super) fn is_asked(service: &Service) -> bool {
    service.metadata.annotations.get(MODE_ANNOTATION).is_some_and(|mode| mode == "Auto" || mode == "auto")
}

/// What a node adds to its zone: the zone's name, empty when unknown, and CPU in thousandths. One that takes no traffic adds none.
pub(super) fn share(node: &Node) -> Option<(&str, u64)> {
    let ready = node.status.conditions.iter().any(|it| it.type_ == "Ready" && it.status == "True");
    if !ready || node.metadata.labels.contains_key(CONTROL_PLANE_LABEL) {
        return None;
    }
    let cpu = node.status.allocatable.get("cpu").and_then(|text| Quantity::parse(text).ok());
    Some((node.zone(), cpu.and_then(|cpu| u64::try_from(cpu.milli_ceil()).ok()).unwrap_or(0)))
}

/// CPU of the zones that have nodes, in thousandths; none when a node's zone or CPU is unknown, or there is only one zone.
pub(super) fn zones(world: &World) -> Option<BTreeMap<String, u64>> {
    let mut zones = BTreeMap::new();
    for (zone, cpu) in world.all::<Node>().filter_map(share) {
        if zone.is_empty() || cpu == 0 {
            return None;
        }
        *zones.entry(zone.to_owned()).or_default() += cpu;
    }
    (zones.len() > 1).then_some(zones)
}

/// Hints the ready ones of a family's endpoints. Without knowing every endpoint's zone, and where they are too few to give each
/// zone its share but for a fifth, nobody gets a hint: then all endpoints are for everybody (as Kubernetes does, KEP-2433).
pub(super) fn hint(endpoints: &mut BTreeMap<IpAddr, Endpoint>, zones: Option<&BTreeMap<String, u64>>) {
    let mut ready: Vec<&mut Endpoint> =
        endpoints.values_mut().filter(|it| it.conditions.ready == Some(true)).collect();
    let of = |endpoint: &&mut Endpoint| endpoint.zone.clone();
    let (Some(zones), Some(own)) = (zones, ready.iter().map(of).collect::<Option<Vec<_>>>()) else { return };
    let Some(assigned) = assign(own, zones) else { return };
    for (endpoint, zone) in ready.iter_mut().zip(assigned) {
        endpoint.hints = Some(EndpointHints { for_zones: vec![Hint { name: zone }], for_nodes: Vec::new() });
    }
}

/// The zone that each endpoint is for: its own, but where a zone has less than its share of CPU asks for, by more than a fifth,
/// the last ones of the zones that have most to spare.
fn assign(mut zone_of: Vec<String>, cpu: &BTreeMap<String, u64>) -> Option<Vec<String>> {
    let count = zone_of.len() as u64;
    let all: u64 = cpu.values().sum();
    // At least count × share / 1.2, rounded up: in whole numbers.
    let least: BTreeMap<&str, u64> =
        cpu.iter().map(|(zone, cpu)| (zone.as_str(), (5 * count * cpu).div_ceil(6 * all).max(1))).collect();
    if least.values().sum::<u64>() > count {
        return None;
    }
    let mut held: BTreeMap<String, u64> = cpu.keys().map(|zone| (zone.clone(), 0)).collect();
    for zone in &zone_of {
        *held.entry(zone.clone()).or_default() += 1;
    }
    for (needy, least_here) in &least {
        while held[*needy] < *least_here {
            // Compared as held − count × share, over a common denominator.
            let spare = |zone: &str, held: u64| {
                i128::from(held * all) - i128::from(count * cpu.get(zone).copied().unwrap_or(0))
            };
            let giver = held
                .iter()
                .filter(|(zone, held)| **held > least.get(zone.as_str()).copied().unwrap_or(0))
                .max_by_key(|(zone, held)| spare(zone, **held))?
                .0
                .clone();
            let last = zone_of.iter().rposition(|zone| *zone == giver)?;
            (*needy).clone_into(&mut zone_of[last]);
            *held.entry(giver).or_default() -= 1;
            *held.entry((*needy).to_owned()).or_default() += 1;
        }
    }
    // A zone without nodes of its own: nobody would use what is left there.
    for zone in zone_of.iter_mut().filter(|zone| !cpu.contains_key(*zone)) {
        let (to, _) = cpu.iter().max_by_key(|(name, cpu)| {
            i128::from(count * **cpu) - i128::from(held.get(*name).copied().unwrap_or(0) * all)
        })?;
        zone.clone_from(to);
        *held.entry(to.clone()).or_default() += 1;
    }
    Some(zone_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned(own: &[&str], cpu: &[(&str, u64)]) -> Option<String> {
        let cpu = cpu.iter().map(|(zone, cpu)| ((*zone).to_owned(), *cpu)).collect();
        Some(assign(own.iter().map(ToString::to_string).collect(), &cpu)?.join(""))
    }

    #[test]
    fn each_zone_has_its_share_of_its_own_first() {
        let even = [("a", 4000), ("b", 4000)];
        assert_eq!(assigned(&["a", "b", "a", "b"], &even).as_deref(), Some("abab"));
        assert_eq!(assigned(&["a", "a", "a", "a"], &even).as_deref(), Some("aabb"));
        // 3 of 7 is a half but for a fifth.
        let seven = ["a", "b", "a", "b", "a", "b", "a"];
        assert_eq!(assigned(&seven, &even).as_deref(), Some("abababa"));
        // Three quarters of the CPU: at least 5 of 8.
        assert_eq!(assigned(&["a"; 8], &[("a", 1000), ("b", 3000)]).as_deref(), Some("aaabbbbb"));
    }

    #[test]
    fn endpoints_of_a_zone_without_nodes_are_for_others() {
        assert_eq!(assigned(&["c", "a", "c", "b"], &[("a", 1), ("b", 1)]).as_deref(), Some("baab"));
    }

    #[test]
    fn too_few_are_for_everybody() {
        assert_eq!(assigned(&["a"], &[("a", 1), ("b", 1)]), None);
        assert_eq!(assigned(&["a"; 5], &[("a", 1), ("b", 1)]), None, "3 would be the least for each");
        // A tenth of the CPU needs one of its own too.
        assert_eq!(assigned(&["a", "a"], &[("a", 45), ("b", 45), ("c", 10)]), None);
        assert_eq!(assigned(&[], &[("a", 1), ("b", 1)]), None);
    }
}
