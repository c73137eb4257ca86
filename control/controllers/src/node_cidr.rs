//! A Pod range for every node: the lowest free one of each family. A node that has one from before the cluster became dual
//! stack gets the other beside it; what it has it keeps.

use std::collections::HashSet;

use ipnet::IpNet;
use serde_json::json;
use weft_api::kind;
use weft_api::view::Node;

use crate::action::{Action, Event};
use crate::settings::Settings;
use crate::table::{Context, Loop, LoopKey, Plan, no_start};
use crate::world::{Applied, World};

const COMPONENT: &str = "node-cidr-controller";
/// A node that found no range is tried again after so long, milliseconds: another may have gone.
const RETRY_MS: u64 = 60_000;

pub(crate) const LOOP: Loop =
    Loop { name: "node-cidr", watches: &[&kind::NODE], start: no_start, keys, plan };

fn keys(change: &Applied, _: &World) -> Vec<LoopKey> {
    vec![LoopKey::new(&kind::NODE, change.key.clone())]
}

fn plan(key: &LoopKey, world: &World, context: &Context) -> Plan {
    let Some(node) = world.get::<Node>(&key.key) else { return Plan::none() };
    let held = &node.spec.pod_cidrs;
    let has_family = |range: &IpNet| {
        held.iter().filter_map(|text| text.parse().ok()).any(|net: IpNet| is_v4(&net) == is_v4(range))
    };
    let wanted: Vec<&IpNet> = context.settings.pod_cidrs.iter().filter(|range| !has_family(range)).collect();
    if wanted.is_empty() || node.metadata.is_terminating() {
        return Plan::none();
    }
    let taken: HashSet<IpNet> = world
        .all::<Node>()
        .flat_map(|node| &node.spec.pod_cidrs)
        .filter_map(|text| text.parse().ok())
        .collect();
    let mut chosen = held.clone();
    for range in wanted {
        match free(range, context.settings, &taken) {
            Some(net) => chosen.push(net.to_string()),
            None => {
                let message = format!("no free Pod range is left in {range} for node {}", key.key.name);
                let about = (&kind::NODE, &node.metadata);
                let event = Event::warning(about, COMPONENT, "CIDRNotAvailable", message);
                return Plan { actions: vec![Action::Record(event)], requeue_after_ms: Some(RETRY_MS) };
            }
        }
    }
    let Some(first) = chosen.first() else { return Plan::none() };
    let patch = json!({ "spec": { "podCIDR": first, "podCIDRs": chosen } });
    Plan::actions(vec![Action::patch(&kind::NODE, &node.metadata, patch)])
}

fn is_v4(net: &IpNet) -> bool {
    matches!(net, IpNet::V4(_))
}

/// The lowest part of a range that overlaps no taken one.
fn free(range: &IpNet, settings: &Settings, taken: &HashSet<IpNet>) -> Option<IpNet> {
    let bits = match range {
        IpNet::V4(_) => settings.node_prefix_v4_bits,
        IpNet::V6(_) => settings.node_prefix_v6_bits,
    };
    // Ranges of another size stand from before a change of the setting; only they need the slow comparison.
    let odd: Vec<&IpNet> = taken.iter().filter(|net| net.prefix_len() != bits).collect();
    let overlaps = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
    range
        .subnets(bits)
        .ok()?
        .take(taken.len() + 1 + (odd.len() << 8))
        .find(|net| !taken.contains(net) && !odd.iter().any(|other| overlaps(net, other)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{context, now, object, perform, world};
    use weft_api::key::ObjectKey;

    fn node(name: &str) -> weft_api::object::Object {
        object(json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name } }))
    }

    fn run(world: &World, name: &str, settings: &Settings) -> Plan {
        plan(&LoopKey::new(&kind::NODE, ObjectKey::cluster(name)), world, &context(settings, 0))
    }

    #[test]
    fn nodes_get_the_lowest_free_ranges_of_both_families_and_the_end_is_said() {
        let settings = Settings {
            pod_cidrs: vec!["10.1.0.0/23".parse().unwrap(), "fd00:244::/48".parse().unwrap()],
            ..Settings::default()
        };
        let mut world = world(&[node("a"), node("b"), node("c")]);
        for (name, cidrs) in
            [("a", ["10.1.0.0/24", "fd00:244::/64"]), ("b", ["10.1.1.0/24", "fd00:244:0:1::/64"])]
        {
            let plan = run(&world, name, &settings);
            perform(&mut world, &plan.actions, now(0));
            assert_eq!(world.get::<Node>(&ObjectKey::cluster(name)).unwrap().spec.pod_cidrs, cidrs);
            assert_eq!(run(&world, name, &settings), Plan::none());
        }
        let full = run(&world, "c", &settings);
        assert!(matches!(&full.actions[..], [Action::Record(event)] if event.reason == "CIDRNotAvailable"));
        let _ = world.apply(crate::world::Change::removed(&kind::NODE, ObjectKey::cluster("a"), 99));
        let plan = run(&world, "c", &settings);
        assert!(
            matches!(&plan.actions[..], [Action::Patch { patch, .. }] if patch["spec"]["podCIDR"] == "10.1.0.0/24")
        );
    }

    #[test]
    fn a_cluster_that_becomes_dual_stack_gives_its_nodes_the_second_range() {
        let single = Settings { pod_cidrs: vec!["10.1.0.0/16".parse().unwrap()], ..Settings::default() };
        let mut world = world(&[node("a")]);
        let plan = run(&world, "a", &single);
        perform(&mut world, &plan.actions, now(0));
        let dual = Settings {
            pod_cidrs: vec!["fd00:244::/48".parse().unwrap(), "10.1.0.0/16".parse().unwrap()],
            ..Settings::default()
        };
        let plan = run(&world, "a", &dual);
        perform(&mut world, &plan.actions, now(0));
        let spec = &world.get::<Node>(&ObjectKey::cluster("a")).unwrap().spec;
        assert_eq!(spec.pod_cidrs, ["10.1.0.0/24", "fd00:244::/64"], "what it had stays first");
        assert_eq!(run(&world, "a", &dual), Plan::none());
        assert_eq!(run(&world, "a", &single), Plan::none(), "what is not configured any more is kept");
    }
}
