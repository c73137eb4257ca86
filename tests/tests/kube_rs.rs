//! A controller on kube-rs' runtime, in two copies of which one leads: it acts on Deployments, and lives through restarts of the
//! server and the loss of its Lease.

#[path = "kube_rs/controller.rs"]
mod controller;
#[path = "kube_rs/leader.rs"]
mod leader;

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::json;
use weft_tests::Server;

use controller::CLEANED;
use leader::{Candidate, LEASE};

/// How long something may take, a change of leaders included.
const SOON: Duration = Duration::from_secs(30);

async fn client(server: &Server) -> Client {
    let kubeconfig = Kubeconfig::read_from(server.kubeconfig()).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("settings")).expect("a client")
}

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + SOON;
    loop {
        if let Some(value) = look().await {
            return value;
        }
        assert!(Instant::now() < end, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What the test does to the cluster and sees of it.
struct World {
    client: Client,
}

impl World {
    fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), "default")
    }

    fn copies(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn deploy(&self, name: &str) {
        let deployment = json!({
            "metadata": {"name": name, "labels": {"copied": "yes"}},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {"containers": [{"name": "c", "image": "image:1"}]},
                },
            },
        });
        let deployment = serde_json::from_value(deployment).expect("a Deployment");
        self.deployments().create(&PostParams::default(), &deployment).await.expect("created");
    }

    async fn set_image(&self, name: &str, image: &str) {
        let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
        let patched = self.deployments().patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await;
        assert_eq!(
            patched.expect("patched").metadata.generation,
            Some(if image == "image:1" { 1 } else { 2 })
        );
    }

    /// Waits until the copy of a Deployment has its image, by that leader.
    async fn copied(&self, name: &str, image: &str, by: &str) -> ConfigMap {
        let wanted = Some((image.to_owned(), by.to_owned()));
        until(&format!("{name} copied with {image} by {by}"), async || {
            let copy = self.copies().get_opt(name).await.ok()??;
            let data = copy.data.as_ref()?;
            (data.get("image").cloned().zip(data.get("by").cloned()) == wanted).then_some(copy)
        })
        .await
    }

    async fn led_by(&self, identity: &str) -> Lease {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), "default");
        until(&format!("{identity} to lead"), async || {
            let lease = leases.get_opt(LEASE).await.ok()??;
            (lease.spec.as_ref()?.holder_identity.as_deref() == Some(identity)).then_some(lease)
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_with_leader_election_lives_through_restarts_and_lost_leases() {
    let mut server = Server::start("kube-rs");
    let world = World { client: client(&server).await };
    let (a, b) = (Arc::new(Candidate::new(&world.client, "a")), Arc::new(Candidate::new(&world.client, "b")));
    let first = tokio::spawn(Arc::clone(&a).run());
    world.led_by("a").await;
    let second = tokio::spawn(Arc::clone(&b).run());

    world.deploy("shop").await;
    let copy = world.copied("shop", "image:1", "a").await;
    let deployment = world.deployments().get("shop").await.expect("there");
    assert_eq!(copy.owner_references()[0].uid, deployment.metadata.uid.clone().expect("a UID"));
    assert_eq!(deployment.finalizers(), [controller::FINALIZER]);

    // A crash of the server: the leader goes on where it was.
    let transitions = world.led_by("a").await.spec.and_then(|spec| spec.lease_transitions);
    server.kill();
    server.start_again();
    world.set_image("shop", "image:2").await;
    world.copied("shop", "image:2", "a").await;
    server.end();
    server.start_again();
    world.deploy("second").await;
    world.copied("second", "image:1", "a").await;
    assert_eq!(world.led_by("a").await.spec.and_then(|spec| spec.lease_transitions), transitions);

    // A leader that no longer renews stops by itself, and then another one leads.
    a.hang(true);
    let lease = world.led_by("b").await;
    assert_eq!(lease.spec.and_then(|spec| spec.lease_transitions), transitions.map(|count| count + 1));
    world.deploy("third").await;
    world.copied("third", "image:1", "b").await;
    // Every leader begins with everything there is.
    world.copied("shop", "image:2", "b").await;

    assert_eq!(leader::LEADERS_MOST.load(std::sync::atomic::Ordering::SeqCst), 1, "one leads at a time");

    // A Lease that is given to another one in between is lost as soon as that is seen.
    a.hang(false);
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), "default");
    let given = json!({"spec": {"holderIdentity": "a"}});
    leases.patch(LEASE, &PatchParams::default(), &Patch::Merge(given)).await.expect("patched");
    world.copied("third", "image:1", "a").await;
    world.set_image("third", "image:2").await;
    world.copied("third", "image:2", "a").await;

    // What is deleted waits for its finalizer, and takes its copy along.
    world.deployments().delete("third", &DeleteParams::background()).await.expect("deleted");
    until("the Deployment and its copy to be gone", async || {
        let deployment = world.deployments().get_opt("third").await.ok()?;
        let copy = world.copies().get_opt("third").await.ok()?;
        (deployment.is_none() && copy.is_none()).then_some(())
    })
    .await;
    let cleaned = world.copies().get(CLEANED).await.expect("there").data.expect("data");
    assert_eq!(cleaned.get("third").map(String::as_str), Some("a"));
    first.abort();
    second.abort();
}
