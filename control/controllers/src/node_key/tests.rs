//! Rotation as the nodes see it.

use super::*;
use crate::settings::Settings;
use crate::testing::{context, now, object, perform, world};

fn node(name: &str) -> weft_api::object::Object {
    object(json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name } }))
}

fn on() -> Settings {
    Settings { encryption: true, key_life_seconds: 3_600, ..Settings::default() }
}

fn run(world: &World, name: &str, seconds: i64) -> Plan {
    plan(&LoopKey::new(&kind::NODE, ObjectKey::cluster(name)), world, &context(&on(), seconds))
}

/// Lets every node have its turn until nobody wants anything.
fn settle(world: &mut World, nodes: &[&str], seconds: i64) {
    for _ in 0..4 {
        for name in nodes {
            let plan = run(world, name, seconds);
            perform(world, &plan.actions, now(seconds));
        }
    }
    assert!(nodes.iter().all(|name| run(world, name, seconds).actions.is_empty()));
}

fn numbers(world: &World, name: &str) -> Vec<u64> {
    generations(name, world).iter().map(|generation| generation.number).collect()
}

fn annotate(world: &mut World, name: &str, time: &str) {
    let annotated = object(json!({ "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "annotations": { ROTATE_ANNOTATION: time } } }));
    let revision = world.revision() + 1;
    let _ = world.apply(crate::world::Change::put(annotated, revision));
}

#[test]
fn without_encryption_there_are_no_keys() {
    let world = world(&[node("a")]);
    let off = Settings::default();
    let key = LoopKey::new(&kind::NODE, ObjectKey::cluster("a"));
    assert_eq!(plan(&key, &world, &context(&off, 0)), Plan::none());
}

#[test]
fn all_nodes_have_two_generations_in_turn() {
    let mut world = world(&[node("a"), node("b")]);
    settle(&mut world, &["a", "b"], 0);
    assert_eq!((numbers(&world, "a"), numbers(&world, "b")), (vec![1], vec![1]));
    assert_eq!(run(&world, "a", 100).requeue_after_ms, Some(3_500_000), "it comes again when it is time");
    settle(&mut world, &["a", "b"], 3_600);
    assert_eq!((numbers(&world, "a"), numbers(&world, "b")), (vec![2, 1], vec![2, 1]));
    settle(&mut world, &["b", "a"], 7_200);
    assert_eq!((numbers(&world, "a"), numbers(&world, "b")), (vec![3, 2], vec![3, 2]));
    let secret = world.object(&kind::SECRET, &secret_key("a")).unwrap();
    assert!(!String::from_utf8_lossy(&secret.json).contains("1.private"), "what is not used is gone");
}

#[test]
fn a_node_that_comes_later_gets_the_newest() {
    let mut world = world(&[node("a")]);
    settle(&mut world, &["a"], 0);
    settle(&mut world, &["a"], 3_600);
    let revision = world.revision() + 1;
    let _ = world.apply(crate::world::Change::put(node("b"), revision));
    settle(&mut world, &["a", "b"], 3_700);
    assert_eq!(numbers(&world, "b"), [2]);
}

#[test]
fn an_operator_has_keys_replaced_but_not_faster_than_nodes_change_over() {
    let mut world = world(&[node("a"), node("b")]);
    settle(&mut world, &["a", "b"], 0);
    annotate(&mut world, "b", &now(20).to_string());
    settle(&mut world, &["a", "b"], 20);
    assert_eq!((numbers(&world, "a"), numbers(&world, "b")), (vec![2, 1], vec![2, 1]));
    annotate(&mut world, "b", &now(21).to_string());
    let early = run(&world, "b", 22);
    assert_eq!((early.actions.len(), early.requeue_after_ms), (0, Some(13_000)));
    settle(&mut world, &["b", "a"], 35);
    assert_eq!(numbers(&world, "a"), [3, 2]);
    settle(&mut world, &["a", "b"], 60);
    assert_eq!(numbers(&world, "a"), [3, 2], "what was asked for is done");
}

#[test]
fn the_keys_of_a_node_that_is_gone_go() {
    let mut world = world(&[node("a"), node("b")]);
    settle(&mut world, &["a", "b"], 0);
    let revision = world.revision() + 1;
    let _ = world.apply(crate::world::Change::removed(&kind::NODE, ObjectKey::cluster("a"), revision));
    let plan = run(&world, "a", 1);
    assert!(matches!(&plan.actions[..], [Action::Delete { key, .. }] if *key == secret_key("a")));
}

#[test]
fn a_node_view_has_its_own_secret_and_the_public_halves_of_all() {
    use crate::node_view::{Delta, NodeViews, Target};
    let mut world = world(&[node("a"), node("b")]);
    let mut views = NodeViews::new();
    let mut told = Vec::new();
    for name in ["a", "b"] {
        for action in run(&world, name, 0).actions {
            let before = world.object(&kind::SECRET, &secret_key(name)).cloned();
            assert!(before.is_none());
            perform(&mut world, std::slice::from_ref(&action), now(0));
            let object = world.object(&kind::SECRET, &secret_key(name)).unwrap().clone();
            // The same change once more, for what it means to the nodes.
            let revision = world.revision() + 1;
            let applied = world.apply(crate::world::Change::put(object, revision));
            told.extend(views.apply(&applied, &world));
        }
    }
    let names = |target: &Target| -> Vec<String> {
        told.iter()
            .filter(|(to, _)| to == target)
            .filter_map(|(_, delta)| match delta {
                Delta::Put(item) => Some(item.name().to_owned()),
                _ => None,
            })
            .collect()
    };
    assert_eq!(names(&Target::All), ["peer/a", "peer/b"]);
    assert_eq!(names(&Target::Node("a".into())), ["object/Secret/kube-system/weft-node-key-a"]);
    let own: Vec<_> = views.own("b", &world).iter().map(|item| item.name().to_owned()).collect();
    assert!(own.contains(&"object/Secret/kube-system/weft-node-key-b".to_owned()), "{own:?}");
    assert!(!own.contains(&"object/Secret/kube-system/weft-node-key-a".to_owned()), "{own:?}");
}

#[test]
fn a_new_generation_is_the_business_of_all_and_its_other_keys_are_of_their_nodes_alone() {
    let mut world = world(&[node("a"), node("b"), node("c")]);
    let mut woken = Vec::new();
    for name in ["b", "a", "c"] {
        let actions = run(&world, name, 0).actions;
        perform(&mut world, &actions, now(0));
        let secret = world.object(&kind::SECRET, &secret_key(name)).unwrap().clone();
        let revision = world.revision() + 1;
        let applied = world.apply(crate::world::Change::put(secret, revision));
        woken.push(keys(&applied, &world).into_iter().map(|it| it.key.name).collect::<Vec<_>>());
    }
    assert_eq!(woken, [vec!["a", "b", "c"], vec!["a"], vec!["c"]]);
}

#[test]
fn keys_that_somebody_has_spoilt_are_made_anew() {
    let mut world = world(&[node("a"), node("b")]);
    settle(&mut world, &["a", "b"], 0);
    for spoil in ["data", "metadata"] {
        let secret = world.object(&kind::SECRET, &secret_key("a")).unwrap();
        let mut value: Value = serde_json::from_slice(&secret.json).unwrap();
        match spoil {
            "data" => value["data"] = json!({ "1.public": "x", "x": "y" }),
            _ => value["metadata"]["annotations"] = json!({ GENERATION_ANNOTATION: "x" }),
        }
        let revision = world.revision() + 1;
        let _ = world.apply(crate::world::Change::put(object(value), revision));
        assert_eq!(run(&world, "a", 1).actions.len(), 1, "{spoil}");
        settle(&mut world, &["a", "b"], 1);
        assert_eq!(numbers(&world, "a"), [1]);
    }
}
