//! Namespaces: the ones there always are, what each has from the start, and emptying one that is deleted.

use serde_json::{Value, json};
use weft_api::key::ObjectKey;
use weft_api::kind::{self, Kind, Subresource};

use crate::action::Action;
use crate::table::{Context, Loop, LoopKey, Plan};
use crate::world::{Applied, NamespaceView, World};

/// Namespaces every cluster has.
const ALWAYS: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
const ACCOUNT: &str = "default";
const ROOT_CA: &str = "kube-root-ca.crt";
/// The finalizer that stands for the namespace's content.
const FINALIZER: &str = "kubernetes";
/// Most objects one plan deletes; the rest follows when these are gone.
const BURST_MAX: usize = 500;
/// A look whether terminating objects are gone, milliseconds; their removal brings a run by itself.
const RETRY_MS: u64 = 5_000;

pub(crate) const LOOP: Loop = Loop { name: "namespace", watches: kind::KINDS, start, keys, plan };

fn start(_: &Context) -> Vec<LoopKey> {
    ALWAYS.iter().map(|name| namespace_key(name)).collect()
}

fn namespace_key(name: &str) -> LoopKey {
    LoopKey::new(&kind::NAMESPACE, ObjectKey::cluster(name))
}

fn keys(change: &Applied, world: &World) -> Vec<LoopKey> {
    if change.kind == &kind::NAMESPACE {
        return vec![namespace_key(&change.key.name)];
    }
    if !change.kind.namespaced {
        return Vec::new();
    }
    let initial = (change.kind == &kind::SERVICE_ACCOUNT && change.key.name == ACCOUNT)
        || (change.kind == &kind::CONFIG_MAP && change.key.name == ROOT_CA);
    let namespace = world.get::<NamespaceView>(&ObjectKey::cluster(change.key.namespace.clone()));
    let terminating = namespace.is_some_and(|namespace| namespace.metadata.is_terminating());
    if initial || terminating { vec![namespace_key(&change.key.namespace)] } else { Vec::new() }
}

fn plan(key: &LoopKey, world: &World, context: &Context) -> Plan {
    let name = &key.key.name;
    let Some(namespace) = world.get::<NamespaceView>(&key.key) else {
        return if ALWAYS.contains(&name.as_str()) {
            Plan::actions(vec![create(name)])
        } else {
            Plan::none()
        };
    };
    if namespace.metadata.is_terminating() {
        empty(key, namespace, world)
    } else {
        furnish(name, world, context)
    }
}

fn create(name: &str) -> Action {
    let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
    Action::Create { kind: &kind::NAMESPACE, object }
}

/// What a namespace has from the start: its ServiceAccount and the CA its Pods trust the API by.
fn furnish(namespace: &str, world: &World, context: &Context) -> Plan {
    let mut actions = Vec::new();
    let account = ObjectKey::namespaced(namespace, ACCOUNT);
    if world.object(&kind::SERVICE_ACCOUNT, &account).is_none() {
        let object = json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": ACCOUNT, "namespace": namespace },
        });
        actions.push(Action::Create { kind: &kind::SERVICE_ACCOUNT, object });
    }
    let ca = &context.settings.ca_pem;
    let data = json!({ "ca.crt": ca });
    match world.object(&kind::CONFIG_MAP, &ObjectKey::namespaced(namespace, ROOT_CA)) {
        None => {
            let metadata = json!({
                "name": ROOT_CA,
                "namespace": namespace,
                "annotations": { "kubernetes.io/description": "The CA certificate that the API server is verified by." },
            });
            let object =
                json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data });
            actions.push(Action::Create { kind: &kind::CONFIG_MAP, object });
        }
        Some(existing) => {
            let view: weft_api::view::ConfigMap = existing.view().unwrap_or_default();
            if view.data.get("ca.crt") != Some(ca) {
                actions.push(Action::patch(&kind::CONFIG_MAP, &existing.meta, json!({ "data": data })));
            }
        }
    }
    Plan::actions(actions)
}

/// Deletes everything in the namespace, and when nothing is left says so by taking the finalizer off.
fn empty(key: &LoopKey, namespace: &NamespaceView, world: &World) -> Plan {
    let mut left = 0;
    let mut actions = Vec::new();
    // What makes other objects goes before what it makes.
    let mut kinds: Vec<&'static Kind> = kind::KINDS.iter().copied().filter(|kind| kind.namespaced).collect();
    kinds.sort_by_key(|kind| kind.group.is_empty());
    for kind in kinds {
        for entry in world.entries_in(kind, &key.key.name) {
            left += 1;
            let meta = &entry.object.meta;
            if !meta.is_terminating() && actions.len() < BURST_MAX {
                actions.push(Action::delete(kind, meta));
            }
        }
    }
    if left > 0 {
        return Plan { actions, requeue_after_ms: Some(RETRY_MS) };
    }
    let rest: Vec<&String> = namespace.spec.finalizers.iter().filter(|name| *name != FINALIZER).collect();
    if rest.len() == namespace.spec.finalizers.len() && !rest.is_empty() {
        return Plan::none();
    }
    let patch: Value = json!({ "spec": { "finalizers": rest } });
    Plan::actions(vec![Action::Patch {
        kind: &kind::NAMESPACE,
        key: key.key.clone(),
        uid: namespace.metadata.uid.clone(),
        resource_version: None,
        subresource: Some(Subresource::Finalize),
        patch,
    }])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use crate::testing::{context, now, object, perform, world};

    fn settings() -> Settings {
        Settings { ca_pem: "PEM".into(), ..Settings::default() }
    }

    #[test]
    fn the_first_namespaces_are_made_and_furnished() {
        let settings = settings();
        let mut world = World::new();
        let context = context(&settings, 0);
        for _ in 0..2 {
            for key in start(&context) {
                let plan = plan(&key, &world, &context);
                perform(&mut world, &plan.actions, now(0));
            }
        }
        assert_eq!(world.count(&kind::NAMESPACE), 4);
        assert_eq!(world.count(&kind::SERVICE_ACCOUNT), 4);
        assert_eq!(world.count(&kind::CONFIG_MAP), 4);
        assert_eq!(plan(&namespace_key("default"), &world, &context), Plan::none());
        let other = Settings { ca_pem: "NEW".into(), ..settings.clone() };
        let plan = plan(&namespace_key("default"), &world, &crate::testing::context(&other, 0));
        assert!(
            matches!(&plan.actions[..], [Action::Patch { patch, .. }] if patch["data"]["ca.crt"] == "NEW")
        );
    }

    #[test]
    fn a_deleted_namespace_is_emptied_and_then_let_go() {
        let namespace = object(json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": "x", "deletionTimestamp": "2027-01-15T08:00:00Z" },
            "spec": { "finalizers": ["kubernetes"] },
        }));
        let config = object(
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "c", "namespace": "x" } }),
        );
        let going = object(json!({ "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "p", "namespace": "x", "deletionTimestamp": "2027-01-15T08:00:00Z" } }));
        let other = object(
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "c", "namespace": "xy" } }),
        );
        let mut world = world(&[namespace, config, going, other]);
        let settings = settings();
        let run = |world: &World| plan(&namespace_key("x"), world, &context(&settings, 0));
        let first = run(&world);
        assert!(
            matches!(&first.actions[..], [Action::Delete { key, .. }] if key.name == "c" && key.namespace == "x")
        );
        assert!(first.requeue_after_ms.is_some());
        perform(&mut world, &first.actions, now(0));
        assert!(run(&world).actions.is_empty(), "the Pod is still there");
        let gone =
            world.apply(crate::world::Change::removed(&kind::POD, ObjectKey::namespaced("x", "p"), 50));
        assert_eq!(keys(&gone, &world), [namespace_key("x")]);
        let last = run(&world);
        let [Action::Patch { subresource, patch, .. }] = &last.actions[..] else { panic!("{last:?}") };
        assert_eq!((*subresource, &patch["spec"]["finalizers"]), (Some(Subresource::Finalize), &json!([])));
    }
}
