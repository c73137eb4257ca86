//! Rollouts driven to their end against a simulated cluster: the ReplicaSet loop runs beside, Pods become ready.

use serde_json::Value;
use weft_api::object::Object;

use super::*;
use crate::settings::Settings;
use crate::testing::{context, merge, now, object, perform, world};
use crate::world::Change;

fn deployment(fields: Value) -> Object {
    let mut value = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "web", "namespace": "default", "generation": 1, "annotations": { "kubernetes.io/change-cause": "one" } },
        "spec": {
            "replicas": 4,
            "selector": { "matchLabels": { "app": "web" } },
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } },
            "template": { "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [{ "name": "c", "image": "v1" }] } },
        },
    });
    merge(&mut value, &fields);
    object(value)
}

fn key() -> LoopKey {
    LoopKey::new(&kind::DEPLOYMENT, ObjectKey::namespaced("default", "web"))
}

struct Cluster {
    world: World,
    second: i64,
    /// Whether Pods become ready.
    healthy: bool,
    events: Vec<String>,
    least_available: usize,
    most_pods: usize,
}

impl Cluster {
    fn new(fields: Value) -> Self {
        let world = world(&[deployment(fields)]);
        Self {
            world,
            second: 0,
            healthy: true,
            events: Vec::new(),
            least_available: usize::MAX,
            most_pods: 0,
        }
    }

    fn edit(&mut self, fields: &Value) {
        let before = self.world.object(&kind::DEPLOYMENT, &key().key).unwrap();
        let mut value: Value = serde_json::from_slice(&before.json).unwrap();
        merge(&mut value, fields);
        value["metadata"]["generation"] = json!(before.meta.generation + 1);
        let revision = self.world.revision() + 1;
        value["metadata"]["resourceVersion"] = json!(revision.to_string());
        let _ = self.world.apply(Change::put(object(value), revision));
    }

    fn pods(&self) -> Vec<&Pod> {
        self.world.all::<Pod>().collect()
    }

    /// One round of all that happens in a cluster. Whether anything did.
    fn round(&mut self) -> bool {
        self.second += 1;
        let settings = Settings::default();
        let at = context(&settings, self.second);
        let mut actions = plan(&key(), &self.world, &at).actions;
        let events = actions.iter().filter_map(|a| match a {
            Action::Record(event) => Some(event.message.clone()),
            _ => None,
        });
        self.events.extend(events);
        perform(&mut self.world, &actions, now(self.second));
        let sets: Vec<_> = self.world.all::<ReplicaSet>().map(|set| key_of(&set.metadata)).collect();
        for set in sets {
            let key = LoopKey::new(&kind::REPLICA_SET, set);
            let more = (crate::replica_set::LOOP.plan)(&key, &self.world, &at).actions;
            perform(&mut self.world, &more, now(self.second));
            actions.extend(more);
        }
        let available = self.pods().iter().filter(|pod| crate::pod_facts::is_ready(pod)).count();
        self.least_available = self.least_available.min(available);
        self.most_pods = self.most_pods.max(self.pods().len());
        let waiting: Vec<_> = self
            .pods()
            .iter()
            .filter(|pod| !crate::pod_facts::is_ready(pod))
            .map(|pod| key_of(&pod.metadata))
            .collect();
        for pod in waiting.iter().filter(|_| self.healthy) {
            let mut value: Value =
                serde_json::from_slice(&self.world.object(&kind::POD, pod).unwrap().json).unwrap();
            value["status"] =
                json!({ "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] });
            let revision = self.world.revision() + 1;
            let _ = self.world.apply(Change::put(object(value), revision));
        }
        !actions.is_empty() || (self.healthy && !waiting.is_empty())
    }

    fn settle(&mut self) {
        self.least_available = usize::MAX;
        self.most_pods = 0;
        for _ in 0..100 {
            if !self.round() {
                return;
            }
        }
        panic!("the rollout never settles");
    }

    fn view(&self) -> &Deployment {
        self.world.get(&key().key).unwrap()
    }

    fn images(&self) -> Vec<String> {
        self.pods().iter().map(|pod| pod.spec.containers[0].image.clone()).collect()
    }

    fn condition(&self, type_: &str) -> (String, String) {
        let c = self.view().status.conditions.iter().find(|c| c.type_ == type_).unwrap();
        (c.status.clone(), c.reason.clone())
    }
}

fn image(image: &str) -> Value {
    json!({ "spec": { "template": { "spec": { "containers": [{ "name": "c", "image": image }] } } } })
}

#[test]
fn a_new_deployment_makes_its_set_and_says_it_is_available() {
    let mut cluster = Cluster::new(json!({}));
    cluster.settle();
    let status = &cluster.view().status;
    assert_eq!((status.replicas, status.updated_replicas, status.available_replicas), (4, 4, 4));
    assert_eq!(status.observed_generation, cluster.view().metadata.generation);
    assert_eq!(cluster.condition("Available").0, "True");
    assert_eq!(cluster.condition("Progressing"), ("True".into(), "NewReplicaSetAvailable".into()));
    assert_eq!(cluster.view().metadata.annotations[history::REVISION], "1");
    let set = cluster.world.all::<ReplicaSet>().next().unwrap();
    let hash = &set.metadata.labels["pod-template-hash"];
    assert_eq!(set.metadata.name, format!("web-{hash}"));
    assert_eq!(&set.spec.selector.match_labels["pod-template-hash"], hash);
    assert_eq!(set.metadata.annotations["kubernetes.io/change-cause"], "one");
    assert!(cluster.pods().iter().all(|pod| &pod.metadata.labels["pod-template-hash"] == hash));
    assert_eq!(cluster.events, [format!("Scaled up replica set web-{hash} from 0 to 4")]);
}

#[test]
fn a_rolling_update_keeps_its_bounds() {
    for (surge, unavailable, least, most) in [
        (json!(1), json!(0), 4, 5),
        (json!(0), json!(1), 3, 4),
        (json!("50%"), json!("25%"), 3, 6),
        (json!(0), json!(0), 3, 4),
    ] {
        let mut cluster = Cluster::new(
            json!({ "spec": { "strategy": { "rollingUpdate": { "maxSurge": surge, "maxUnavailable": unavailable } } } }),
        );
        cluster.settle();
        cluster.edit(&image("v2"));
        cluster.settle();
        assert_eq!(cluster.images(), ["v2"; 4]);
        assert!(cluster.least_available >= least, "{surge} {unavailable}: {}", cluster.least_available);
        assert!(cluster.most_pods <= most, "{surge} {unavailable}: {}", cluster.most_pods);
        assert_eq!(cluster.view().metadata.annotations[history::REVISION], "2");
    }
}

#[test]
fn recreate_lets_the_old_go_first() {
    let mut cluster =
        Cluster::new(json!({ "spec": { "strategy": { "type": "Recreate", "rollingUpdate": null } } }));
    cluster.settle();
    cluster.edit(&image("v2"));
    let mut seen_empty = false;
    for _ in 0..20 {
        cluster.round();
        let images = cluster.images();
        seen_empty |= images.is_empty();
        assert!(!(images.contains(&"v1".into()) && images.contains(&"v2".into())), "both at once");
    }
    assert!(seen_empty);
    assert_eq!(cluster.images(), ["v2"; 4]);
}

#[test]
fn going_back_raises_the_old_sets_revision() {
    let mut cluster = Cluster::new(json!({}));
    cluster.settle();
    cluster.edit(&image("v2"));
    cluster.settle();
    cluster.edit(&image("v1"));
    cluster.settle();
    assert_eq!(cluster.images(), ["v1"; 4]);
    assert_eq!(cluster.world.count(&kind::REPLICA_SET), 2, "the old set is used again");
    assert_eq!(cluster.view().metadata.annotations[history::REVISION], "3");
    let set = cluster.world.all::<ReplicaSet>().find(|set| asked(set) == 4).unwrap();
    assert_eq!(set.metadata.annotations["deployment.kubernetes.io/revision-history"], "1");
}

#[test]
fn history_is_bounded() {
    let mut cluster = Cluster::new(json!({ "spec": { "revisionHistoryLimit": 1 } }));
    for version in ["v1", "v2", "v3", "v4"] {
        cluster.edit(&image(version));
        cluster.settle();
    }
    let revisions: Vec<_> = cluster
        .world
        .all::<ReplicaSet>()
        .map(|set| set.metadata.annotations[history::REVISION].clone())
        .collect();
    assert_eq!(revisions.len(), 2, "{revisions:?}");
    assert!(revisions.contains(&"3".into()) && revisions.contains(&"4".into()), "{revisions:?}");
}

#[test]
fn a_rollout_that_never_becomes_ready_misses_its_deadline_and_keeps_the_old_pods() {
    let mut cluster = Cluster::new(json!({ "spec": { "progressDeadlineSeconds": 60 } }));
    cluster.settle();
    cluster.healthy = false;
    cluster.edit(&image("broken"));
    for _ in 0..10 {
        cluster.round();
    }
    assert_eq!(cluster.images().iter().filter(|image| *image == "v1").count(), 4);
    assert_eq!(cluster.condition("Progressing").0, "True");
    let waiting = plan(&key(), &cluster.world, &context(&Settings::default(), cluster.second));
    assert!(waiting.requeue_after_ms.is_some_and(|ms| ms <= 60_000));
    cluster.second += 61;
    cluster.round();
    assert_eq!(cluster.condition("Progressing"), ("False".into(), "ProgressDeadlineExceeded".into()));
    assert_eq!(cluster.condition("Available").0, "True");
}

#[test]
fn pausing_halts_a_rollout_but_not_a_resize() {
    let mut cluster = Cluster::new(json!({}));
    cluster.settle();
    cluster.edit(&json!({ "spec": { "paused": true } }));
    cluster.edit(&image("v2"));
    cluster.edit(&json!({ "spec": { "replicas": 6 } }));
    cluster.settle();
    assert_eq!(cluster.images(), ["v1"; 6]);
    assert_eq!(cluster.condition("Progressing").1, "DeploymentPaused");
    cluster.edit(&json!({ "spec": { "paused": false } }));
    cluster.settle();
    assert_eq!(cluster.images(), ["v2"; 6]);
}

#[test]
fn resizing_in_the_middle_is_proportional() {
    let mut cluster = Cluster::new(
        json!({ "spec": { "replicas": 10, "strategy": { "rollingUpdate": { "maxSurge": 3, "maxUnavailable": 2 } } } }),
    );
    cluster.settle();
    cluster.healthy = false;
    cluster.edit(&image("v2"));
    for _ in 0..6 {
        cluster.round();
    }
    let sizes = |cluster: &Cluster| {
        let mut sizes: Vec<u32> = cluster.world.all::<ReplicaSet>().map(asked).collect();
        sizes.sort_unstable();
        sizes
    };
    assert_eq!(sizes(&cluster), [5, 8]);
    cluster.edit(&json!({ "spec": { "replicas": 30 } }));
    cluster.round();
    // 33 in all, shared as 8 to 5 of 13.
    assert_eq!(sizes(&cluster), [13, 20]);
    cluster.healthy = true;
    cluster.settle();
    assert_eq!(cluster.images(), vec!["v2"; 30]);
}

#[test]
fn scaling_to_nothing_and_back() {
    let mut cluster = Cluster::new(json!({}));
    cluster.settle();
    cluster.edit(&json!({ "spec": { "replicas": 0 } }));
    cluster.settle();
    assert!(cluster.pods().is_empty());
    assert_eq!(cluster.condition("Available").0, "True");
    cluster.edit(&json!({ "spec": { "replicas": 2 } }));
    cluster.settle();
    assert_eq!(cluster.view().status.available_replicas, 2);
}

#[test]
fn the_set_follows_what_is_no_part_of_the_template() {
    let mut cluster = Cluster::new(json!({}));
    cluster.settle();
    cluster.edit(&json!({ "spec": { "minReadySeconds": 7 } }));
    cluster.settle();
    let sets: Vec<u32> = cluster.world.all::<ReplicaSet>().map(|set| set.spec.min_ready_seconds).collect();
    assert_eq!(sets, [7]);
}

#[test]
fn no_number_of_replicas_is_too_large_to_plan_for() {
    let most = i32::MAX;
    let mut cluster = Cluster::new(json!({ "spec": { "replicas": most, "strategy": { "rollingUpdate":
        { "maxSurge": "100%", "maxUnavailable": "100%" } } } }));
    let settings = Settings::default();
    for (second, version) in ["v1", "v2", "v3", "v4"].into_iter().enumerate() {
        cluster.edit(&image(version));
        for _ in 0..4 {
            let at = context(&settings, second as i64);
            let plan = plan(&key(), &cluster.world, &at);
            perform(&mut cluster.world, &plan.actions, now(0));
        }
        let sets: Vec<_> = cluster.world.all::<ReplicaSet>().map(|set| key_of(&set.metadata)).collect();
        for set in sets {
            let mut value: Value =
                serde_json::from_slice(&cluster.world.object(&kind::REPLICA_SET, &set).unwrap().json)
                    .unwrap();
            merge(
                &mut value,
                &json!({ "spec": { "replicas": most }, "status": { "replicas": most, "availableReplicas": most } }),
            );
            let revision = cluster.world.revision() + 1;
            let _ = cluster.world.apply(Change::put(object(value), revision));
        }
        cluster.edit(&json!({ "spec": { "replicas": most - second as i32 - 1 } }));
    }
}

#[test]
fn the_hash_does_not_depend_on_the_order_of_fields_and_salt_changes_it() {
    let a: Value = serde_json::from_str(r#"{"a":1,"b":{"c":[1,2],"d":null}}"#).unwrap();
    let b: Value = serde_json::from_str(r#"{"b":{"d":null,"c":[1,2]},"a":1}"#).unwrap();
    assert_eq!(template::hash(&a, 0), template::hash(&b, 0));
    assert_ne!(template::hash(&a, 0), template::hash(&a, 1));
    assert_eq!(template::hash(&a, 0).len(), 10);
}
